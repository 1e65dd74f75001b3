"""The kubelet's images: pull policies, back-off, garbage collection."""
