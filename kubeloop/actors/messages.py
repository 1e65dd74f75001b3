"""The messages actors exchange: msgpack arrays whose objects ride inside, already packed.

The first element is the message's type. Objects are `bytes` fields (an object in msgpack), so
whoever only passes a message on never decodes what it carries.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import msgpack

from kubeloop.api.calls import Message, Outcome, Request
from kubeloop.store.facts import Fact

__all__ = [
    "API_SERVER",
    "Facts",
    "Listing",
    "Note",
    "Outcome",
    "Request",
    "Subscribe",
    "Synced",
    "decode",
]

API_SERVER: Final = "apiserver"  # The name of the only writer.


@dataclass(frozen=True, slots=True)
class Subscribe(Message):
    """Ask the API server for list + watch: a Listing begins, facts follow, Synced ends the list.

    resources: resource ids.
    node:      of pods, only those bound to this node, and of nodes only this one ("" for all).
    """

    TYPE: ClassVar[int] = 3
    sender: str
    resources: list[str]
    node: str = ""


@dataclass(frozen=True, slots=True)
class Listing(Message):
    """Forget what you saw: the facts that follow are a list at `revision`, then a watch from it.

    Sent after Subscribe, and again whenever the API server has to start over.

    resources: what is listed.
    """

    TYPE: ClassVar[int] = 4
    revision: int
    resources: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Synced(Message):
    """The list is complete; what follows are changes after `revision`."""

    TYPE: ClassVar[int] = 5
    revision: int


@dataclass(frozen=True, slots=True)
class Facts(Message):
    """What changed, oldest first.

    frames:   `Fact.encoded`, for a pod that left a node's filter with value None.
    revision: all facts for this subscriber up to this revision have now been told.
    """

    TYPE: ClassVar[int] = 6
    revision: int
    frames: list[bytes]

    def facts(self) -> list[Fact]:
        """Return the facts, decoded; their objects are still packed."""
        return [Fact.decode(frame) for frame in self.frames]


@dataclass(frozen=True, slots=True)
class Note(Message):
    """What an actor tells itself: the result of a task, or of the outside world.

    topic: what it is about, "exited", "pulled", "probe";  body: msgpack.
    """

    TYPE: ClassVar[int] = 7
    topic: str
    body: bytes

    @classmethod
    def of(cls, topic: str, content: Any) -> bytes:
        """Return an encoded Note that carries `content`."""
        return cls(topic, msgpack.packb(content)).encode()

    def content(self) -> Any:
        """Return what the note carries."""
        return msgpack.unpackb(self.body)


_TYPES: Final[dict[int, type[Message]]] = {
    m.TYPE: m for m in (Request, Outcome, Subscribe, Listing, Synced, Facts, Note)
}


def decode(frame: bytes) -> Message:
    """Return the message in `frame`. Raises: ValueError if it is none of ours."""
    content = msgpack.unpackb(frame)
    type_ = content[0] if isinstance(content, list) and content else None
    if not isinstance(type_, int) or type_ not in _TYPES:
        raise ValueError(f"not a message: {frame[:40]!r}")
    return _TYPES[type_](*content[1:])
