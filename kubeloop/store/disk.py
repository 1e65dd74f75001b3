"""The seam to the file system: what the log needs of a disk, and the real one.

Under simulation `sim.disk.MemoryDisk` takes its place: it tears, loses and corrupts what was not
synced. All errors are OSError.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """A file that is written to."""

    def write(self, data: bytes, at: int) -> None:
        """Write at a place; what was written before an error stays, unsynced."""

    def writev(self, parts: Sequence[bytes], at: int) -> None:
        """Write these, one after the other, as `write` does one."""

    def sync(self) -> None:
        """Return when all that was written survives a loss of power."""

    def truncate(self, size: int) -> None:
        """Cut the file."""

    def close(self) -> None:
        """Close it; syncs nothing."""


class Lock(Protocol):
    """A held lock."""

    def release(self) -> None:
        """Give it back."""


class Files(Protocol):
    """Files to be read. Paths are absolute."""

    def read(self, path: str) -> bytes:
        """Return the content of a file."""

    def size(self, path: str) -> int:
        """Return how long a file is, in bytes."""

    def names(self, directory: str) -> list[str]:
        """Return the names in a directory, sorted."""


class Disk(Files, Protocol):
    """A file system.

    lag_s: for how many seconds after its calls a written group is not yet known to be safe: what a
           real disk takes its calls take.
    """

    lag_s: float

    def open(self, path: str) -> File:
        """Open a file for writing; it is made if there is none."""

    def rename(self, path: str, to: str) -> None:
        """Rename a file over another, at once."""

    def remove(self, path: str) -> None:
        """Delete a file."""

    def sync_directory(self, directory: str) -> None:
        """Return when new, renamed and removed names survive a loss of power."""

    def lock(self, path: str) -> Lock:
        """Hold the lock file at `path`. Raises: BlockingIOError that names who holds it."""


class RealDisk:
    """The disk of this machine."""

    lag_s = 0.0

    def open(self, path: str) -> "RealFile":
        return RealFile(path)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    def size(self, path: str) -> int:
        return os.stat(path).st_size

    def names(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def rename(self, path: str, to: str) -> None:
        os.replace(path, to)

    def remove(self, path: str) -> None:
        os.remove(path)

    def sync_directory(self, directory: str) -> None:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def lock(self, path: str) -> "RealLock":
        return RealLock(path)


class RealFile:
    """A file opened for writing."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, data: bytes, at: int) -> None:
        left = memoryview(data)
        while left:
            done = os.pwrite(self._handle, left, at)
            left, at = left[done:], at + done

    def writev(self, parts: Sequence[bytes], at: int) -> None:
        done = os.pwritev(self._handle, parts, at)
        if done < sum(map(len, parts)):
            self.write(b"".join(parts)[done:], at + done)

    def sync(self) -> None:
        os.fdatasync(self._handle)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._handle, size)

    def close(self) -> None:
        os.close(self._handle)


class RealLock:
    """A lock the kernel gives back by itself when its holder dies."""

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            told = os.pread(self._handle, 32, 0).decode(errors="replace")
            holder = told.strip() or "another process"
            os.close(self._handle)
            raise BlockingIOError(error.errno, f"{path} is held by process {holder}") from None
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._handle)
