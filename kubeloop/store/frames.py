"""The bytes of log and snapshot files: a header, then frames. Pure; see docs/store-format.md.

    header  "KUBELOOP" | version u32 | kind u32 | cluster id 16 bytes | CRC-32C u32 of all before
    frame   length u32 | CRC-32C u32 of the payload | CRC-32C u32 of these eight bytes | payload

All numbers are little-endian; a payload is one msgpack value. The head of a frame has a checksum of
its own, so that a damaged length is seen as damage, and not taken for a frame that was cut short.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import google_crc32c

MAGIC: Final = b"KUBELOOP"
VERSION: Final = 1
LOG, SNAPSHOT = 1, 2
HEADER_SIZE: Final = 36
HEAD_SIZE: Final = 12
SECTOR: Final = 512  # What a disk writes whole, or not at all.
_HEADER: Final = struct.Struct("<8sII16s")
_HEAD: Final = struct.Struct("<II")
_SUM: Final = struct.Struct("<I")


class BadHeader(Exception):
    """The file is none of ours, or its header is damaged."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame. offset: of its first byte;  end: of the byte after it."""

    offset: int
    end: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong from `offset` on.

    torn:    the write was cut short: nothing of it was ever acknowledged.
    corrupt: bytes that were written whole are not what they were.
    """

    offset: int
    kind: Literal["torn", "corrupt"]
    why: str


def header(kind: int, cluster_id: bytes) -> bytes:
    """Return a file's header."""
    body = _HEADER.pack(MAGIC, VERSION, kind, cluster_id)
    return body + _SUM.pack(checksum(body))


def read_header(data: bytes, kind: int) -> bytes:
    """Return the cluster id of a file of this kind. Raises: BadHeader."""
    if len(data) < HEADER_SIZE:
        raise BadHeader(f"the header is {len(data)} bytes long instead of {HEADER_SIZE}")
    magic, version, found, cluster_id = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise BadHeader(f"it begins with {data[:8]!r} instead of {MAGIC!r}")
    if _SUM.unpack_from(data, _HEADER.size)[0] != checksum(data[: _HEADER.size]):
        raise BadHeader("the checksum of the header is wrong")
    if version != VERSION or found != kind:
        raise BadHeader(f"it has format {version}, kind {found}; expected {VERSION}, kind {kind}")
    identity: bytes = cluster_id
    return identity


def frame(payload: bytes) -> bytes:
    """Return a frame around a payload."""
    head = _HEAD.pack(len(payload), checksum(payload))
    return head + _SUM.pack(checksum(head)) + payload


def frames(data: bytes) -> Iterator[Frame | Flaw]:
    """Yield the frames after the header, and at last a Flaw if the file does not end well."""
    offset = HEADER_SIZE
    while offset < len(data):
        found = _read(data, offset)
        yield found
        if isinstance(found, Flaw):
            return
        offset = found.end


def checksum(data: bytes) -> int:
    """Return the CRC-32C."""
    value: int = google_crc32c.value(data)
    return value


def _read(data: bytes, offset: int) -> Frame | Flaw:
    start = offset + HEAD_SIZE
    if start > len(data):
        return Flaw(offset, "torn", "the file ends in the head of a frame")
    head = data[offset : offset + _HEAD.size]
    if _SUM.unpack_from(data, offset + _HEAD.size)[0] != checksum(head):
        if _has_hole(data, offset, len(data)):
            return Flaw(offset, "torn", "a sector of the last write is missing")
        return Flaw(offset, "corrupt", "the checksum of a frame's head is wrong")
    length, expected = _HEAD.unpack(head)
    end = start + length
    if end > len(data):
        return Flaw(offset, "torn", "the file ends in a frame")
    payload = data[start:end]
    if checksum(payload) != expected:
        if _has_hole(data, offset, end):
            return Flaw(offset, "torn", "a sector of the last write is missing")
        return Flaw(offset, "corrupt", "the checksum of a frame is wrong")
    return Frame(offset, end, payload)


def _has_hole(data: bytes, start: int, end: int) -> bool:
    """Tell whether a part of a sector's size or more, or the very end, is zeros.

    That is what an unsynced write looks like whose sectors were not all written.
    """
    for sector in range(start // SECTOR * SECTOR, end, SECTOR):
        part = data[max(start, sector) : min(end, sector + SECTOR)]
        if len(part) >= 8 and not any(part):
            return True
    return False
