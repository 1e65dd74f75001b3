"""The will: every component of the cluster, an actor around a pure core."""
