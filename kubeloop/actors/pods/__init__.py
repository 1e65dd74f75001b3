"""The life of a pod on its node: pure decisions; the kubelet is the shell that carries them out."""
