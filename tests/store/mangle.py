"""Changes to the files of a store: as accidents make them, and as only a forger could.

An accident changes bytes, frames or files as they are. A forgery has right checksums around what no
store has written.
"""

import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgpack

from kubeloop.store.frames import (
    END,
    HEAD_SIZE,
    HEADER_SIZE,
    LOG,
    MARK,
    SECTOR,
    SNAPSHOT,
    Frame,
    checksum,
    frames,
    header,
)
from tests.store.faults import DIRECTORY, ID

Files = dict[str, bytes]
ACCIDENTS = (
    "flip", "cut", "insert", "overwrite", "copy", "zero", "sectors", "grow",
    "drop", "double", "exchange", "move", "rename", "remove", "again", "swap",
)  # fmt: skip
FORGERIES = (
    "length", "synced", "payload", "value", "append", "shift", "graft", "header", "nest", "claim",
)  # fmt: skip
NAMES = (
    "log-00000000000000000000", "log-00000000000000000005", "log-00000000000000000040",
    "log-99999999999999999999", "log-5", "log-", "log-x", "log-²", "log-٣", "log--1",
    "snapshot-00000000000000000000", "snapshot-00000000000000000003",
    "snapshot-00000000000000000033", "snapshot-²", "snapshot-3", "snapshot-0000000000000000001 ",
    "damaged-1", "x.new", "snapshot-00000000000000000009.new", "lock",
)  # fmt: skip


class Change(NamedTuple):
    """What is done. Numbers are taken modulo what there is, so that any do.

    file: which one;  at, to: where in it, or which frame;  size: how much;  data, value: what is
    put there.
    """

    kind: str
    file: int = 0
    at: int = 0
    to: int = 0
    size: int = 0
    data: bytes = b""
    value: Any = None


def mangled(files: Files, changes: Sequence[Change]) -> Files:
    """Return the files after all changes."""
    files = dict(files)
    for change in changes:
        if not files:
            break
        paths = sorted(files)
        path, other = paths[change.file % len(paths)], paths[change.to % len(paths)]
        if change.kind in ("rename", "remove", "again", "swap"):
            _move(files, path, other, change)
        elif change.kind in (
            "flip",
            "cut",
            "insert",
            "overwrite",
            "copy",
            "zero",
            "sectors",
            "grow",
        ):
            files[path] = _bytes(files[path], change)
        elif change.kind in ("drop", "double", "exchange", "move"):
            _frames(files, path, other, change)
        else:
            files[path] = _forged(files[path], change)
    return files


def sealed(payload: bytes, synced: int = 0, *, length: int | None = None) -> bytes:
    """Return a frame with right checksums. length: what it says, if that is not so."""
    size = len(payload) if length is None else length
    head = MARK + struct.pack("<III", size % 2**32, checksum(payload), synced % 2**32)
    return head + struct.pack("<I", checksum(head)) + payload + END


def _move(files: Files, path: str, other: str, change: Change) -> None:
    name = f"{DIRECTORY}/{NAMES[change.at % len(NAMES)]}"
    if change.kind == "rename":
        files[name] = files.pop(path)
    elif change.kind == "remove":
        del files[path]
    elif change.kind == "again":
        files[name] = files[path]
    else:
        files[path], files[other] = files[other], files[path]


def _bytes(data: bytes, change: Change) -> bytes:
    at = change.at % (len(data) + 1)
    end = min(len(data), at + change.size)
    if change.kind == "flip" and at < len(data):
        return data[:at] + bytes([data[at] ^ 1 << change.to % 8]) + data[at + 1 :]
    if change.kind == "cut":
        return data[:at]
    if change.kind == "insert":
        return data[:at] + change.data + data[at:]
    if change.kind == "overwrite":
        return data[:at] + change.data + data[at + len(change.data) :]
    if change.kind == "copy":
        to = change.to % (len(data) + 1)
        return data[:to] + data[at:end] + data[to + end - at :]
    if change.kind == "zero":
        return data[:at] + bytes(end - at) + data[end:]
    if change.kind == "sectors" and data:
        one, two = (n % len(data) // SECTOR * SECTOR for n in (change.at, change.to))
        there = data[two : two + SECTOR]
        return data[:one] + there + data[one + len(there) :]
    return data + bytes(change.size)


def _split(data: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Return the header, the frames and the rest of a file."""
    found = [f for f in frames(data) if isinstance(f, Frame)]
    end = found[-1].end if found else HEADER_SIZE
    return data[:HEADER_SIZE], [data[f.offset : f.end] for f in found], data[end:]


def _frames(files: Files, path: str, other: str, change: Change) -> None:
    head, found, rest = _split(files[path])
    if not found:
        return
    one, two = change.at % len(found), change.size % len(found)
    if change.kind == "drop":
        del found[one]
    elif change.kind == "double":
        found.insert(two, found[one])
    elif change.kind == "exchange":
        found[one], found[two] = found[two], found[one]
    else:
        there = _split(files[other])
        files[other] = b"".join((there[0], *there[1], found[one], there[2]))
        return
    files[path] = b"".join((head, *found, rest))


def _forged(data: bytes, change: Change) -> bytes:
    head, found, rest = _split(data)
    number = change.at
    if change.kind == "header":
        kinds = (LOG, SNAPSHOT, 0, change.to)
        head = header(
            kinds[change.at % 4] % 2**32, (ID, change.data[:16].ljust(16))[change.size % 2]
        )
        return b"".join((head, *found, rest))
    if change.kind in ("append", "nest", "claim") or not found:
        found.append(sealed(_payload(change), change.to))
        return b"".join((head, *found, rest))
    index = number % len(found)
    payload = found[index][HEAD_SIZE : -len(END)]
    synced = struct.unpack_from("<I", found[index], 12)[0]
    if change.kind == "length":
        found[index] = sealed(payload, synced, length=len(payload) + change.to - 2**15)
    elif change.kind == "synced":
        found[index] = sealed(payload, change.to)
    elif change.kind == "payload":
        at = change.to % (len(payload) + 1)
        payload = payload[:at] + change.data + payload[at + change.size % 9 :]
        found[index] = sealed(payload, synced)
    elif change.kind == "value":
        found[index] = sealed(_payload(change), synced)
    elif change.kind == "shift":
        found[index] = sealed(_shifted(payload, change.to - 2**15), synced)
    else:  # A value somewhere within what is there.
        found[index] = sealed(_grafted(payload, change), synced)
    return b"".join((head, *found, rest))


def _payload(change: Change) -> bytes:
    if change.kind == "nest":
        depth = change.size % 3000
        return (b"\x91", b"\x81\xa1k")[change.to % 2] * depth + b"\xc0"
    if change.kind == "claim":
        kinds = b"\xdd\xdf\xdb\xc6\xc9\xdc\xde\xda\xc5\xc8"  # Of arrays, maps, strings, bytes.
        return kinds[change.to % 10 :][:1] + b"\xff\xff\xff\xff" + change.data
    return pack(change.value)


def pack(value: Any) -> bytes:
    """Return a value in msgpack, whatever it is."""
    packed: bytes = msgpack.packb(value, strict_types=False)
    return packed


def _unpacked(payload: bytes) -> Any:
    """Return what is in a frame; None if an earlier change has left nothing that can be read."""
    try:
        return msgpack.unpackb(payload)
    except ValueError:
        return None


def _shifted(payload: bytes, by: int) -> bytes:
    """Change all revisions of a group, or of the values and the end of a snapshot."""
    content = _unpacked(payload)
    if isinstance(content, dict):
        return pack(content | {"revision": by})
    rows = content if isinstance(content, list) else []
    for row in rows:
        if isinstance(row, list) and len(row) > 2:
            index = 0 if isinstance(row[0], int) else 2
            row[index] = row[index] + by if isinstance(row[index], int) else by
    return pack(rows)


def _grafted(payload: bytes, change: Change) -> bytes:
    """Put a value in the place of one that is somewhere within."""
    content = _unpacked(payload)
    place, path = content, change.to
    for _ in range(change.size % 5):
        if not isinstance(place, list | dict) or not place:
            break
        keys = list(range(len(place))) if isinstance(place, list) else sorted(place)
        key, path = keys[path % len(keys)], path // len(keys)
        inner = place[key]
        if not isinstance(inner, list | dict) or not inner:
            place[key] = change.value
            return pack(content)
        place = inner
    if isinstance(place, list) and place:
        place[path % len(place)] = change.value
        return pack(content)
    return pack(change.value)
