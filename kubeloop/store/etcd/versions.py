"""Another resourceVersion in a packed object, without unpacking it. Pure.

Needed for what somebody wrote into etcd by hand: its version is known once it has been adopted.
"""

from typing import Final

import msgpack

_METADATA: Final = "metadata"
_VERSION: Final = "resourceVersion"
_UNPACKER_BYTES: Final = 1024  # The least to begin with; the default of a mebibyte takes time.


def splice(packed: bytes, version: str) -> bytes:
    """Return a packed object with another metadata.resourceVersion; all other bytes stay.

    It is added, as the last of the metadata, if there is none. What is no map, or has no map of
    metadata, is returned as it is.
    Raises: ValueError if it is not msgpack.
    """
    unpacker = msgpack.Unpacker(
        read_size=min(len(packed), _UNPACKER_BYTES) or 1,
        max_buffer_size=max(len(packed), _UNPACKER_BYTES),
        strict_map_key=False,
    )
    unpacker.feed(packed)
    try:
        return _spliced(packed, unpacker, version)
    except msgpack.OutOfData as error:
        raise ValueError("a msgpack object ends before its end") from error


def _spliced(packed: bytes, unpacker: msgpack.Unpacker, version: str) -> bytes:
    if not _is_map(packed, 0):
        unpacker.skip()
        return packed
    for _ in range(unpacker.read_map_header()):
        if unpacker.unpack() == _METADATA:
            break
        unpacker.skip()
    else:
        return packed
    start = unpacker.tell()
    if not _is_map(packed, start):
        return packed
    count, first = unpacker.read_map_header(), unpacker.tell()
    for _ in range(count):
        key, at = unpacker.unpack(), unpacker.tell()
        unpacker.skip()
        if key == _VERSION:
            return b"".join((packed[:at], msgpack.packb(version), packed[unpacker.tell() :]))
    end = unpacker.tell()
    header = msgpack.Packer().pack_map_header(count + 1)
    added = msgpack.packb(_VERSION) + msgpack.packb(version)
    return b"".join((packed[:start], header, packed[first:end], added, packed[end:]))


def _is_map(packed: bytes, at: int) -> bool:
    if at >= len(packed):
        raise ValueError("a msgpack object ends before its end")
    return packed[at] >> 4 == 0x8 or packed[at] in (0xDE, 0xDF)
