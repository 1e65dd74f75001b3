"""A disk in memory that keeps its promises, and nothing more.

What was not synced may be lost, torn or full of holes after `crash`; a call may be made to fail.
Implements `store.disk.Disk`.
"""

import errno
import os
import random
from collections.abc import Callable
from typing import Final

SECTOR: Final = 512

Fault = Callable[[str, str], OSError | None]
"""(operation, path) → the error this call shall end with, None if it shall work."""


class MemoryDisk:
    """Files by path. What is durable is kept apart from what a program sees.

    fault:  asked before every call that touches the disk.
    room:   how many bytes fit in all; None for no limit.
    calls:  how many there were: to make the Nth fail.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytearray] = {}
        self.durable: dict[str, bytes] = {}
        self.fault: Fault = lambda operation, path: None
        self.room: int | None = None
        self.calls = 0
        self._held: set[str] = set()
        self._removed: set[str] = set()  # Names that are gone, which was not synced.
        self._synced: dict[str, bytes] = {}  # Content that is safe, by path as the program sees it.

    # What a program calls.

    def open(self, path: str) -> "MemoryFile":
        self.touch("open", path)
        self.files.setdefault(path, bytearray())
        self._removed.discard(path)
        return MemoryFile(self, path)

    def read(self, path: str) -> bytes:
        self.touch("read", path)
        self._must_be(path)
        return bytes(self.files[path])

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
        self._removed.discard(to)

    def remove(self, path: str) -> None:
        self.touch("remove", path)
        self._must_be(path)
        del self.files[path]
        self._synced.pop(path, None)
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
        after = MemoryDisk()
        for path, content in self.durable.items():
            if path in self._removed and chance.random() < 0.5:
                continue
            synced = self._synced.get(path, content)
            seen = bytes(self.files.get(path, synced))
            after.files[path] = bytearray(_survivor(synced, seen, chance))
        # A name that was not synced may be there or not; nothing may be in it.
        for path, data in self.files.items():
            if path not in self.durable and chance.random() < 0.5:
                synced = self._synced.get(path, b"")
                after.files[path] = bytearray(_survivor(synced, bytes(data), chance))
        after.settle()
        return after

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
        if path in self.durable:
            self.durable[path] = self._synced[path]

    def _must_be(self, path: str) -> None:
        if path not in self.files:
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", path)

    def free(self) -> int | None:
        """Return how many bytes still fit, None for no limit."""
        if self.room is None:
            return None
        return max(0, self.room - sum(map(len, self.files.values())))


class MemoryFile:
    """A file of a MemoryDisk, opened for writing."""

    def __init__(self, disk: MemoryDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def write(self, data: bytes, at: int) -> None:
        content = self._disk.files[self._path]
        try:
            self._disk.touch("write", self._path)
        except OSError:
            _overwrite(content, data[: len(data) // 2], at)  # As far as it came.
            raise
        free = self._disk.free()
        room = len(data) if free is None else max(0, len(content) - at) + free
        _overwrite(content, data[:room], at)
        if room < len(data):
            raise OSError(errno.ENOSPC, "No space left on device", self._path)

    def sync(self) -> None:
        self._disk.touch("sync", self._path)
        self._disk.synced(self._path)

    def truncate(self, size: int) -> None:
        self._disk.touch("truncate", self._path)
        del self._disk.files[self._path][size:]

    def close(self) -> None:
        """Nothing happens: nothing is synced."""


class MemoryLock:
    """A held lock."""

    def __init__(self, held: set[str], path: str) -> None:
        self._held, self._path = held, path

    def release(self) -> None:
        self._held.discard(self._path)


def _overwrite(content: bytearray, data: bytes, at: int) -> None:
    if data:
        content.extend(bytes(max(0, at - len(content))))
        content[at : at + len(data)] = data


def _survivor(synced: bytes, seen: bytes, chance: random.Random) -> bytes:
    """Return what is left of a file: of every sector that was not synced the old or the new.

    How far the file was made longer, or cut, is as uncertain.
    """
    if len(seen) < len(synced):
        size = chance.choice((len(seen), len(synced)))
    else:
        size = chance.randint(len(synced), len(seen))
    old, new = synced.ljust(size, b"\0"), seen.ljust(len(synced), b"\0")
    kept = bytearray(size)
    likely = chance.choice((0.2, 0.5, 0.8))
    for start in range(0, size, SECTOR):
        sector = slice(start, min(size, start + SECTOR))
        kept[sector] = (old if chance.random() < likely else new)[sector]
    return bytes(kept)
