"""The kubelet's pure core: the life of a pod."""
