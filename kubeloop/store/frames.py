"""The bytes of log and snapshot files: a header, then frames. Pure; see docs/store-format.md.

    header  "KUBELOOP" | version u32 | kind u32 | cluster id 16 bytes | CRC-32C u32 of all before
    frame   mark | length u32 | CRC-32C u32 of the payload | synced u32 | CRC-32C u32 of all before
            payload | end mark

All numbers are little-endian; a payload is one msgpack value. The head of a frame has a checksum of
its own, so that a damaged length is seen as damage, and not taken for a frame that was cut short.
Zeros after the last frame are room for more: a file is lengthened ahead of its use.

Only what was not synced can be unfinished; every frame tells up to where the file was, when it was
written. So a frame that is not whole is *torn*, if no later one says that it was synced, and a part
of it is missing: the file ends, or a sector is zeros, or the end mark and all that follows.
Anything else is *corrupt*; so is what one flipped bit explains.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import isqrt
from typing import Final, Literal

import google_crc32c

MAGIC: Final = b"KUBELOOP"
VERSION: Final = 2
LOG, SNAPSHOT = 1, 2
HEADER_SIZE: Final = 36
MARK: Final = b"\xf5klf"  # Where frames begin; no valid UTF-8, so rare in values.
END: Final = b"\xf5end"  # Where frames end: zeros instead tell that the write was cut short.
HEAD_SIZE: Final = 20
SECTOR: Final = 512  # What a disk writes whole, or not at all.
_HEADER: Final = struct.Struct("<8sII16s")
_HEAD: Final = struct.Struct("<4sIII")
_SUM: Final = struct.Struct("<I")
_POLYNOMIAL: Final = 0x82F63B78  # Of CRC-32C, reflected.


class BadHeader(Exception):
    """The file is none of ours, or its header is damaged."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame.

    offset: of its first byte;  end: of the byte after it;  synced: see `frame_parts`.
    """

    offset: int
    end: int
    payload: bytes
    synced: int


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
    """Return a frame around a payload, for a file of which nothing is synced."""
    return b"".join(frame_parts(payload, 0))


def frame_parts(payload: bytes, synced: int) -> tuple[bytes, bytes, bytes]:
    """Return what makes a frame around a payload, without copying it.

    synced: up to where the file it goes to is synced.
    """
    head = _HEAD.pack(MARK, len(payload), checksum(payload), synced)
    return head + _SUM.pack(checksum(head)), payload, END


def frames(data: bytes) -> Iterator[Frame | Flaw]:
    """Yield the frames after the header, and at last a Flaw if the file does not end well."""
    offset = HEADER_SIZE
    while offset < len(data):
        if data[offset] == 0 and _is_zeros(data, offset):
            return
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
    head = data[offset:start]
    if not _is_head(head):
        cut = start < len(data) and _is_zeros(data, start)
        torn = cut or _has_hole(data, offset, start)
        if torn and not _was_synced(data, offset) and not _is_whole_but_one_bit(data, offset):
            return Flaw(offset, "torn", "the head of the last write is missing")
        return Flaw(offset, "corrupt", "the head of a frame is not what was written")
    _, length, expected, synced = _HEAD.unpack_from(head)
    stop, end = start + length, start + length + len(END)
    if end > len(data):
        return Flaw(offset, "torn", "the file ends in a frame")
    payload, mark = data[start:stop], data[stop:end]
    found = checksum(payload)
    if found == expected and mark == END:
        return Frame(offset, end, payload, synced)
    # A whole payload without its end was cut short there; the hole in another may be anywhere.
    torn = _is_cut(data, stop, mark)
    if found != expected and not torn:
        torn = _has_hole(data, offset, end)
        # If the end is missing, too, it is more than one bit.
        torn = torn and not (mark == END and is_one_bit(found ^ expected, length))
    if torn and not _was_synced(data, offset, end):
        return Flaw(offset, "torn", "a part of the last write is missing")
    what = "checksum" if found != expected else "end"
    return Flaw(offset, "corrupt", f"the {what} of a frame is wrong")


def _is_cut(data: bytes, start: int, mark: bytes) -> bool:
    """Tell whether an end mark, and the rest of its sector, were not written, or not to the end."""
    written = mark.rstrip(b"\0")
    cut = start + len(written)
    sector_end = (cut // SECTOR + 1) * SECTOR
    return mark != END and END.startswith(written) and not any(data[cut:sector_end])


def _is_head(head: bytes) -> bool:
    body = head[: _HEAD.size]
    return body.startswith(MARK) and _SUM.unpack_from(head, _HEAD.size)[0] == checksum(body)


def _is_whole_but_one_bit(data: bytes, offset: int) -> bool:
    """Tell whether there is a whole frame once a bit of its head is flipped back."""
    start = offset + HEAD_SIZE
    number = int.from_bytes(data[offset:start], "little")
    for bit in range(8 * HEAD_SIZE):
        head = (number ^ (1 << bit)).to_bytes(HEAD_SIZE, "little")
        if _is_head(head):
            _, length, expected, _ = _HEAD.unpack_from(head)
            stop = start + length
            if data[stop : stop + len(END)] == END and checksum(data[start:stop]) == expected:
                return True
    return False


def is_one_bit(difference: int, length: int) -> bool:
    """Tell whether a wrong checksum is that of `length` bytes of which one bit was flipped.

    difference: between the checksums. CRCs are linear: it depends only on where the bit is, and
                the bit before gives the next state of the shift register.
    Cost:       O(√length): the last √ states are kept, and the difference is led back towards
                them by √ states at a time, which is linear, too: the sum of what its bits become.
    """
    bits = 8 * length
    stride = isqrt(bits) + 1
    near: dict[int, int] = {}
    state = _POLYNOMIAL
    for count in range(stride):
        near[state] = count
        state = state >> 1 ^ (_POLYNOMIAL if state & 1 else 0)
    back = [_earlier(1 << bit, stride) for bit in range(32)]
    for far in range(0, bits, stride):
        if difference in near:
            return far + near[difference] < bits
        sums = 0
        for bit in range(32):
            if difference >> bit & 1:
                sums ^= back[bit]
        difference = sums
    return False


def _earlier(state: int, count: int) -> int:
    """Return the state of the shift register `count` states before."""
    for _ in range(count):
        carry = state >> 31  # The polynomial's top bit is set: it was added if this one is.
        state = (state ^ _POLYNOMIAL) << 1 | 1 if carry else state << 1
    return state


def _was_synced(data: bytes, offset: int, end: int = 0) -> bool:
    """Tell whether a frame after `end`, or `offset`, says that what is at `offset` was synced."""
    place = max(offset + 1, end)
    while (place := data.find(MARK, place)) >= 0:
        head = data[place : place + HEAD_SIZE].ljust(HEAD_SIZE, b"\0")
        if _is_head(head) and _HEAD.unpack_from(head)[3] > offset:
            return True
        place += 1
    return False


def _is_zeros(data: bytes, offset: int) -> bool:
    """Tell whether nothing but zeros follows."""
    return data.count(0, offset) == len(data) - offset


def _has_hole(data: bytes, start: int, end: int) -> bool:
    """Tell whether a sector between two places is zeros from `start` on: one never written."""
    for sector in range(start // SECTOR * SECTOR, end, SECTOR):
        if not any(data[max(start, sector) : sector + SECTOR]):
            return True
    return False
