"""Facts: what the store tells the world after each commit.

A fact is a value. Its object is encoded once, when it is committed; the same bytes go to the log
and to everybody who watches. So no two actors ever share a mutable object, and the simulator may
drop, delay, duplicate or reorder a fact without knowing what it means.
"""

from typing import Any, NamedTuple

import msgpack


class Cause(NamedTuple):
    """Why a fact is: who wrote it, and what made him.

    actor:    the name of the actor that asked for the write; "" for a user's request.
    message:  the id of the request that asked for it, over REST its Audit-ID; "" if it had none.
    revision: of the very fact that made the actor write; 0 if none did: it was a user's wish, or
              the actor's clock. Of several facts in one revision, any or all.
    user:     the authenticated user, "system:admin" or "system:kube-scheduler".
    """

    actor: str
    message: str
    revision: int
    user: str


CLAIMED = "/registry/ranges/"  # Below: which object has an address, or a port.
NO_CAUSE = Cause("", "", 0, "")


class Fact(NamedTuple):
    """One key changed, at one revision.

    revision: cluster-wide commit number, starts at 1; keys changed together share one.
    key:      "/registry/pods/default/web-0", "/registry/deployments.apps/default/web",
              "/registry/nodes/node-1"; see `key_of`.
    value:    the object in msgpack, its resourceVersion being `revision`; None if deleted.

    What follows stays in the store, and is not part of the encoding:

    prev:          the value before, None if the key is new.
    cause:         why it was written.
    prev_revision: of the value before, 0 if the key is new.
    at:            when it was written, seconds since 1970.
    """

    revision: int
    key: str
    value: bytes | None
    prev: bytes | None = None
    cause: Cause = NO_CAUSE
    prev_revision: int = 0
    at: float = 0.0

    @property
    def resource(self) -> str:
        """The resource of the key: "pods", "deployments.apps"."""
        return self.key.split("/", 3)[2]

    @property
    def encoded(self) -> bytes:
        """The msgpack array [revision, key, value]."""
        frame: bytes = msgpack.packb((self.revision, self.key, self.value))
        return frame

    @classmethod
    def decode(cls, frame: bytes) -> "Fact":
        """Invert `encoded` (without prev and cause, which stay in the store)."""
        return cls(*msgpack.unpackb(frame))

    def object(self) -> dict[str, Any] | None:
        """Return the object, freshly decoded; None if the key was deleted."""
        return None if self.value is None else msgpack.unpackb(self.value)


def key_of(resource: str, namespace: str, name: str) -> str:
    """Return the store key of an object; `namespace` is "" for a cluster-scoped one."""
    return (
        f"/registry/{resource}/{namespace}/{name}" if namespace else f"/registry/{resource}/{name}"
    )


def is_object(fact: Fact) -> bool:
    """Tell whether a fact is about an object of the API, and not about what is claimed by one."""
    return not fact.key.startswith(CLAIMED)


def prefix_of(resource: str, namespace: str = "") -> str:
    """Return the prefix of all keys of `resource`, in one namespace or in all."""
    return f"/registry/{resource}/{namespace}/" if namespace else f"/registry/{resource}/"
