"""Stored objects in JSON: each is encoded once, for all who read it."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any, Final, NamedTuple

import msgpack
import orjson

from kubeloop.api.humanize import Ago
from kubeloop.api.partial import partial
from kubeloop.api.resources import Resource

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


def encode_partial(obj: Mapping[str, Any], version: str) -> bytes:
    """Return the PartialObjectMetadata of an object in JSON."""
    return orjson.dumps(partial(obj, version))


class Row(NamedTuple):
    """A row of a Table in JSON: its pieces, and between them what changes with time."""

    pieces: tuple[bytes, ...]
    between: tuple[Ago, ...]

    def text(self, now_unix: float) -> bytes:
        """Return it as it is now."""
        if not self.between:
            return self.pieces[0]
        parts = [self.pieces[0]]
        for ago, piece in zip(self.between, self.pieces[1:], strict=True):
            parts += (orjson.dumps(ago.text(now_unix)), piece)
        return b"".join(parts)


def encode_row(row: dict[str, Any]) -> Row:
    """Return a row in JSON."""
    pieces, between, lead = list[bytes](), list[Ago](), b'{"cells":['
    for number, cell in enumerate(row["cells"]):
        lead += b"," if number else b""
        if isinstance(cell, Ago):
            pieces.append(lead)
            between.append(cell)
            lead = b""
        else:
            lead += orjson.dumps(cell)
    rest = orjson.dumps({name: value for name, value in row.items() if name != "cells"})
    return Row((*pieces, lead + b"]," + rest[1:]), tuple(between))


class Encodings:
    """Remembers what values, packed objects, are in JSON, and as rows of Tables.

    They are known by what they are, so what is remembered is never wrong. When half of the room is
    taken, what has not been asked for since the last time that was so is forgotten.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._new: dict[Hashable, Any] = {}
        self._old: dict[Hashable, Any] = {}
        self._size = 0

    def text(self, value: bytes) -> Text:
        """Return an object in JSON. value: in msgpack."""
        found: Text | None = self._new.get(value)
        return self._made(value, value, encode) if found is None else found

    def partial(self, value: bytes, version: str) -> bytes:
        """Return the PartialObjectMetadata of an object in JSON, without an end of line."""
        key = (version, value)
        found: bytes | None = self._new.get(key)
        return found or self._made(key, value, lambda obj: encode_partial(obj, version))

    def row(self, resource: Resource, value: bytes, include: str) -> Row:
        """Return the row of an object in JSON. include: as of `tables.row`."""
        from kubeloop.api import tables  # Heavy, and of no use to programs.

        def make(obj: dict[str, Any]) -> Row:
            return encode_row(tables.row(resource, obj, include))

        if resource.custom is not None:  # Its columns may change.
            return make(msgpack.unpackb(value))
        key = (resource.id, include, value)
        found: Row | None = self._new.get(key)
        return self._made(key, value, make) if found is None else found

    def _made(self, key: Hashable, value: bytes, make: Callable[[dict[str, Any]], Any]) -> Any:
        made = self._old.pop(key, None)
        if made is None:
            made = make(msgpack.unpackb(value))
        size = len(value) + _size_of(made)
        if self._size + size > self._room // 2:
            self._old, self._new, self._size = self._new, {}, 0
        self._new[key] = made
        self._size += size
        return made


def _size_of(made: Text | Row | bytes) -> int:
    if isinstance(made, bytes):
        return len(made)
    return sum(map(len, made.pieces if isinstance(made, Row) else made))
