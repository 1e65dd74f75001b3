"""Where in etcd things are kept. Pure.

An object is under the key it has everywhere: "/registry/pods/default/web-0", so etcdctl shows what
one expects. Next to them, under "/registry.kubeloop/", is what belongs to all of them: one range
holds both and next to nothing else, and so one watch tells of both, in order.
"""

from typing import Final

_ROOT: Final = "/registry/"


class Keys:
    """The keys under a prefix, which ends in "/".

    first, end: the range of all of them.
    sequence:   the record of the newest group of commits.
    """

    def __init__(self, prefix: str = _ROOT) -> None:
        if not prefix.endswith("/") or prefix == "/":
            raise ValueError(f"etcd prefix {prefix!r}: it must be like {_ROOT!r}")
        self._prefix = prefix.encode()
        self.first = self._prefix[:-1] + b".kubeloop/"
        self.end = self._prefix[:-1] + b"0"  # The character after "/".
        self.sequence = self.first + b"sequence"

    def outer(self, key: str) -> bytes:
        """Return the key in etcd of one of ours."""
        assert key.startswith(_ROOT)
        return self._prefix + key[len(_ROOT) :].encode()

    def inner(self, key: bytes) -> str | None:
        """Return our key for one in etcd, None if it is not that of an object."""
        if not key.startswith(self._prefix):
            return None
        try:
            inner = _ROOT + key[len(self._prefix) :].decode()
        except UnicodeDecodeError:
            return None
        return inner if inner.count("/") >= 3 else None
