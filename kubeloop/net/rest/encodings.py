"""Stored objects in JSON: each is encoded once, for all who read it."""

from typing import Any, Final, NamedTuple

import msgpack
import orjson

ROOM: Final = 64 << 20  # Of encodings that are remembered [bytes].
_FIRST: Final = ("kind", "apiVersion")


class Text(NamedTuple):
    """An object in JSON, in two parts: b'{"kind":"Pod","apiVersion":"v1",' and the rest of it.

    Kubernetes writes kind, apiVersion and metadata first; in a list the first two are left out.
    """

    head: bytes
    rest: bytes

    @property
    def whole(self) -> bytes:
        """All of it."""
        return self.head + self.rest

    @property
    def bare(self) -> bytes:
        """It, as it stands in a list that tells what it is."""
        return b"{" + self.rest


def encode(obj: dict[str, Any]) -> Text:
    """Return an object in JSON; its kind and apiVersion are taken out of it."""
    head = {name: obj.pop(name) for name in _FIRST if name in obj}
    if "metadata" in obj and next(iter(obj)) != "metadata":
        obj = {"metadata": obj["metadata"], **obj}
    rest = orjson.dumps(obj)[1:]
    if not head:
        return Text(b"{", rest)
    lead = orjson.dumps(head)
    return Text(lead[:-1] + b"," if len(rest) > 1 else lead[:-1], rest)


class Encodings:
    """Remembers what values, packed objects, are in JSON.

    They are known by what they are, so what is remembered is never wrong. When half of the room is
    taken, what has not been asked for since the last time that was so is forgotten.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._new: dict[bytes, Text] = {}
        self._old: dict[bytes, Text] = {}
        self._size = 0

    def text(self, value: bytes) -> Text:
        """Return an object in JSON. value: in msgpack."""
        text = self._new.get(value)
        if text is None:
            text = self._old.pop(value, None) or encode(msgpack.unpackb(value))
            self._remember(value, text)
        return text

    def _remember(self, value: bytes, text: Text) -> None:
        size = len(value) + len(text.head) + len(text.rest)
        if self._size + size > self._room // 2:
            self._old, self._new, self._size = self._new, {}, 0
        self._new[value] = text
        self._size += size
