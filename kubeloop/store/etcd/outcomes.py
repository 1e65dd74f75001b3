"""What can become of a commit when the store is etcd. Needs no etcd client to be installed."""


class Superseded(Exception):
    """Another API server wrote first: nothing of this was written, handle the request again.

    By the time it is told, what the other wrote can be read.
    """


class StoreUnavailable(Exception):
    """etcd has not answered in time: whether it was written will be seen, it is not known now."""
