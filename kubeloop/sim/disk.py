"""A disk in memory that keeps its promises, and nothing more.

What was not synced may be lost, torn, reordered or full of holes after `crash`; a call may be made
to fail, a write to be lost or to land elsewhere, a read to come from elsewhere, a sync to be a lie.
Implements `store.disk.Disk`.
"""

import errno
import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod
from typing import Final

SECTOR: Final = 512
_CUTS_MAX: Final = 1024  # So many bytes of growth are cut at each of them.
_MIXTURES_MAX: Final = 1024  # So many mixtures of old and new sectors are all of them.

Fault = Callable[[str, str], OSError | None]
"""(operation, path) → the error this call shall end with, None if it shall work."""
Aim = Callable[[str, int], tuple[str, int] | None]
"""(path, place) → where a write really lands; None: nowhere, though it was acknowledged."""
Look = Callable[[str, bytes], bytes]
"""(path, content) → what a read really returns."""


class MemoryDisk:
    """Files by path. What is durable is kept apart from what a program sees.

    fault:  asked before every call that touches the disk.
    aim:    asked where every write lands.
    look:   asked what every read returns.
    lying:  whether a sync of a file says that it is done, and does nothing.
    room:   how many bytes fit in all; None for no limit.
    calls:  how many there were: to make the Nth fail.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.durable: dict[str, bytes] = {}
        self.fault: Fault = lambda operation, path: None
        self.aim: Aim = lambda path, at: (path, at)
        self.look: Look = lambda path, content: content
        self.lying = False
        self.room: int | None = None
        self.calls = 0
        self._held: set[str] = set()
        self._removed: set[str] = set()  # Names that are gone, which was not synced.
        self._synced: dict[str, bytes] = {}  # Content that is safe, by path as the program sees it.
        self._changes: dict[str, list[tuple[int, bytes | None]]] = {}  # Since: see `change`.

    # What a program calls.

    def open(self, path: str) -> "MemoryFile":
        self.touch("open", path)
        self.files.setdefault(path, bytearray())
        self._removed.discard(path)
        return MemoryFile(self, path)

    def read(self, path: str) -> bytes:
        self.touch("read", path)
        self._must_be(path)
        return self.look(path, bytes(self.files[path]))

    def size(self, path: str) -> int:
        return len(self.read(path))

    def names(self, directory: str) -> list[str]:
        self.touch("names", directory)
        prefix = f"{directory}/"
        return sorted(p.removeprefix(prefix) for p in self.files if p.startswith(prefix))

    def rename(self, path: str, to: str) -> None:
        self.touch("rename", path)
        self._must_be(path)
        self.files[to] = self.files.pop(path)
        self._synced[to] = self._synced.pop(path, b"")
        self._changes[to] = self._changes.pop(path, [])
        self._removed.discard(to)

    def remove(self, path: str) -> None:
        self.touch("remove", path)
        self._must_be(path)
        del self.files[path]
        self._synced.pop(path, None)
        self._changes.pop(path, None)
        self._removed.add(path)

    def sync_directory(self, directory: str) -> None:
        self.touch("sync_directory", directory)
        prefix = f"{directory}/"
        kept = {p: d for p, d in self.durable.items() if not p.startswith(prefix)}
        names = {p: self._synced.get(p, b"") for p in self.files if p.startswith(prefix)}
        self.durable = kept | names
        self._removed = {p for p in self._removed if not p.startswith(prefix)}

    def lock(self, path: str) -> "MemoryLock":
        if path in self._held:
            raise BlockingIOError(errno.EAGAIN, f"{path} is held by process 1")
        self._held.add(path)
        return MemoryLock(self._held, path)

    # What the world does.

    def crash(self, chance: random.Random) -> "MemoryDisk":
        """Return the disk as it may be after a loss of power: any of the allowed ways."""
        after: dict[str, bytes] = {}
        for path, (versions, may_be_gone) in self._fates().items():
            if not may_be_gone or chance.random() < 0.5:
                after[path] = _survivor(versions, chance)
        return _disk_of(after)

    def survivors(self, chance: random.Random, most: int) -> Iterator["MemoryDisk"]:
        """Yield disks that a loss of power may leave: every one, if there are not more than `most`.

        That is every mixture of what unsynced sectors have ever held, every length a file may have
        had, every name there or not. If it is more, `most` of them by chance.
        """
        choices: list[list[tuple[str, bytes] | None]] = []
        for path, (versions, may_be_gone) in self._fates().items():
            contents: list[tuple[str, bytes] | None] = [
                (path, c) for c in sorted(_survivors(versions))
            ]
            choices.append(contents + [None] * may_be_gone)
        if prod(map(len, choices)) <= most:
            for chosen in product(*choices):
                yield _disk_of(dict(filter(None, chosen)))
        else:
            for _ in range(most):
                yield self.crash(chance)

    def copy(self) -> "MemoryDisk":
        """Return this moment: what is seen, what is safe, and no locks or faults."""
        same = MemoryDisk()
        same.files = {path: bytearray(data) for path, data in self.files.items()}
        same.durable, same._synced = dict(self.durable), dict(self._synced)
        same._changes = {path: list(changes) for path, changes in self._changes.items()}
        same._removed = set(self._removed)
        return same

    def kill(self) -> None:
        """End the process that holds the locks: what it wrote is seen, but no safer than before."""
        self._held.clear()
        self.fault = lambda operation, path: None

    def fail(self, nth: int, code: int) -> None:
        """Have the `nth` call from now on, and only that, end with an error: EIO, ENOSPC."""
        at = self.calls + nth

        def fault(operation: str, path: str) -> OSError | None:
            return OSError(code, os.strerror(code), path) if self.calls == at else None

        self.fault = fault

    def flip(self, path: str, bit: int) -> None:
        """Flip a bit of a file, counted from its beginning; the rot is durable."""
        self.files[path][bit // 8] ^= 1 << bit % 8
        self.synced(path)

    def settle(self) -> None:
        """Declare everything as it is now durable."""
        self._synced = {path: bytes(data) for path, data in self.files.items()}
        self.durable = dict(self._synced)
        self._changes.clear()
        self._removed.clear()

    def touch(self, operation: str, path: str) -> None:
        """Count a call, and fail if it shall."""
        self.calls += 1
        error = self.fault(operation, path)
        if error is not None:
            raise error

    def synced(self, path: str) -> None:
        """Make the content of a file safe; its name is safe once its directory is synced."""
        self._synced[path] = bytes(self.files[path])
        self._changes.pop(path, None)
        if path in self.durable:
            self.durable[path] = self._synced[path]

    def change(self, path: str, at: int, data: bytes | None) -> None:
        """Write, unsynced, or with None for the data cut a file; at most as much as there is room.

        Raises: OSError.
        """
        content = self.files[path]
        room = None if self.room is None else max(0, self.room - sum(map(len, self.files.values())))
        written = data
        if data is not None and room is not None:
            written = data[: max(0, len(content) - at) + room]
        self._changes.setdefault(path, []).append((at, written))
        _change(content, at, written)
        if data is not None and written is not None and len(written) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

    def _fates(self) -> dict[str, tuple[list[bytes], bool]]:
        """Return what every file has been since it was synced, and whether its name may be gone."""
        fates = {}
        for path in self.durable | self.files:
            versions = [self._synced.get(path, self.durable.get(path, b""))]
            for at, data in self._changes.get(path, ()):
                content = bytearray(versions[-1])
                _change(content, at, data)
                versions.append(bytes(content))
            if path in self.files:
                versions.append(bytes(self.files[path]))
            fates[path] = versions, path in self._removed or path not in self.durable
        return fates

    def _must_be(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)


class MemoryFile:
    """A file of a MemoryDisk, opened for writing."""

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def write(self, data: bytes, at: int) -> None:
        landed, error = self._disk.aim(self._path, at), None
        try:
            self._disk.touch("write", self._path)
        except OSError as raised:
            data, error = data[: len(data) // 2], raised  # As far as it came.
        if landed is not None:
            path, at = landed
            self._disk.change(path, at, data)
        if error is not None:
            raise error

    def writev(self, parts: Sequence[bytes], at: int) -> None:
        self.write(b"".join(parts), at)

    def sync(self) -> None:
        self._disk.touch("sync", self._path)
        if not self._disk.lying:
            self._disk.synced(self._path)

    def truncate(self, size: int) -> None:
        self._disk.touch("truncate", self._path)
        self._disk.change(self._path, size, None)

    def close(self) -> None:
        """Nothing happens: nothing is synced."""


class MemoryLock:
    """A held lock."""

    def __init__(self, held: set[str], path: str) -> None:
        self._held, self._path = held, path

    def release(self) -> None:
        self._held.discard(self._path)


def _disk_of(files: dict[str, bytes]) -> MemoryDisk:
    """Return a disk that holds these files, safely."""
    disk = MemoryDisk()
    disk.files = {path: bytearray(data) for path, data in files.items()}
    disk.settle()
    return disk


def _change(content: bytearray, at: int, data: bytes | None) -> None:
    """Write at a place, or with None for the data cut there."""
    if data is None:
        del content[at:]
    elif data:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data


def _survivor(versions: Sequence[bytes], chance: random.Random) -> bytes:
    """Return what is left of a file: every sector is as one version had it.

    versions: what it was when it was synced, and after every change since. How far it was made
              longer, or cut, is as uncertain.
    """
    lengths = [len(version) for version in versions]
    size = chance.choice(lengths)
    if chance.random() < 0.7 and lengths[-1] >= lengths[0]:
        size = chance.randint(min(lengths), max(lengths))
    likely = chance.choice((0.2, 0.5, 0.8))
    kept = bytearray(size)
    for start in range(0, size, SECTOR):
        version = versions[0] if chance.random() < likely else chance.choice(versions)
        kept[start : start + SECTOR] = _sector(version, start, size)
    return bytes(kept)


def _survivors(versions: Sequence[bytes]) -> set[bytes]:
    """Return all that may be left of a file; of too much to try it all, the most telling."""
    lengths = {len(version) for version in versions}
    least, most = min(lengths), max(lengths)
    steps = range(least, most + 1, 1 if most - least <= _CUTS_MAX else SECTOR)
    found = {version[:size].ljust(size, b"\0") for size in steps for version in versions}
    for size in lengths:
        sectors = [
            sorted({_sector(version, start, size) for version in versions})
            for start in range(0, size, SECTOR)
        ]
        if prod(map(len, sectors)) <= _MIXTURES_MAX:
            found.update(map(b"".join, product(*sectors)))
    return found


def _sector(version: bytes, start: int, size: int) -> bytes:
    """Return a sector of a version of a file that became `size` long."""
    end = min(size, start + SECTOR)
    return version[start:end].ljust(end - start, b"\0")
