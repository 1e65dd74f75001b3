"""The log on disk: segments of commit groups, snapshots, and how a store comes back from them.

A directory holds `log-REVISION` segments, named by the first revision they may hold, the newest
`snapshot-REVISION`, and `lock`. One frame is one commit group: transactions that were synced
together. Nothing is acknowledged before its frame is synced. See docs/store-format.md.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import msgpack

from kubeloop.store.disk import Disk, File
from kubeloop.store.facts import Cause
from kubeloop.store.frames import (
    HEADER_SIZE,
    LOG,
    SNAPSHOT,
    BadHeader,
    Flaw,
    frame,
    frames,
    header,
    read_header,
)
from kubeloop.store.history import Stored, Write

SEGMENT_BYTES: Final = 16 * 2**20  # A segment that has grown to this is followed by a new one.
_PIECE_BYTES: Final = 2**20  # Of a snapshot, written and synced at a time.


class SyncFailed(OSError):
    """The disk did not say that it has what was written: nothing about it is known any more."""


class CorruptLog(Exception):
    """A file holds bytes that are not what was written. Nothing is skipped silently.

    The way out: restore the directory from a backup, or move the file that is named away, knowing
    that what came after `revision` is lost.
    """

    def __init__(self, path: str, offset: int, revision: int, why: str) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}: {why}; everything up to revision {revision} is "
            "good. Restore the directory from a backup, or move this file and all newer ones away "
            "to go on from there"
        )
        self.path, self.offset, self.revision = path, offset, revision


@dataclass(frozen=True, slots=True)
class Transaction:
    """What one commit did."""

    revision: int
    writes: tuple[Write, ...]
    cause: Cause


@dataclass(frozen=True, slots=True)
class Cut:
    """What was cut off the last segment on opening: a write that was never acknowledged."""

    path: str
    offset: int
    size: int
    why: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What was found on opening.

    items: the values as of `revision`.
    bytes: of the log, after the snapshot.
    """

    revision: int
    items: list[Stored]
    cluster_id: bytes
    transactions: int = 0
    bytes: int = 0
    cut: Cut | None = None


def encode(group: Sequence[Transaction]) -> bytes:
    """Return the frame of a commit group."""
    return frame(
        msgpack.packb(
            [[t.revision, [[w.key, w.value] for w in t.writes], list(t.cause)] for t in group]
        )
    )


class Log:
    """Appends to the newest segment. Not safe for use by two threads at once.

    sync: whether to sync; without, a loss of power may cost what was acknowledged lately.
    """

    def __init__(self, disk: Disk, directory: str, cluster_id: bytes, *, sync: bool = True) -> None:
        self.disk, self.directory, self.cluster_id = disk, directory, cluster_id
        self._sync_always = sync
        self._file: File | None = None
        self._size = 0

    def append(self, data: bytes, first_revision: int) -> None:
        """Write a frame and sync it. Raises: OSError, after which the log is as before; SyncFailed.

        first_revision: of the group, which names the segment if one has to be begun.
        """
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._rotate(first_revision)
        assert self._file is not None
        try:
            self._file.append(data)
        except OSError as error:
            try:
                self._file.truncate(self._size)
            except OSError as worse:
                raise SyncFailed(worse.errno, worse.strerror) from error
            raise
        if self._sync_always:
            self._sync(self._file)
        self._size += len(data)

    def resume(self, name: str, size: int) -> None:
        """Go on with an existing segment whose good part has this size. Raises: OSError."""
        self._file = self.disk.open(f"{self.directory}/{name}")
        self._file.truncate(size)
        self._file.sync()
        self._size = size

    def snapshot(self, revision: int, items: Sequence[Stored]) -> Iterator[int]:
        """Write all values beside, put them in place at once, and delete what they replace.

        A generator, so that groups can be appended between its steps: the first must be taken
        before what comes after `revision` is appended. Yields the bytes written so far.

        Raises: OSError; then the log is as good as before. SyncFailed.
        """
        self._rotate(revision + 1)
        name = _name("snapshot", revision)
        beside = f"{self.directory}/{name}.new"
        size = 0
        file = self.disk.open(beside)
        try:
            for piece in self._pieces(items):
                file.append(piece)
                file.sync()
                size += len(piece)
                yield size
        except OSError:
            with suppress(OSError):
                self.disk.remove(beside)  # Else it will be on the next opening.
            raise
        finally:
            file.close()
        self.disk.rename(beside, f"{self.directory}/{name}")
        self.disk.sync_directory(self.directory)
        for old in self.disk.names(self.directory):
            kind, number = _parse(old)
            if (kind == "log" and number <= revision) or (kind == "snapshot" and number < revision):
                self.disk.remove(f"{self.directory}/{old}")

    def close(self) -> None:
        """Close the segment."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _rotate(self, first_revision: int) -> None:
        """Begin a new segment. Raises: OSError, after which the log is as before; SyncFailed."""
        path = f"{self.directory}/{_name('log', first_revision)}"
        file = self.disk.open(path)
        try:
            file.truncate(0)  # What an earlier attempt may have left.
            file.append(header(LOG, self.cluster_id))
            self._sync(file)
            self.disk.sync_directory(self.directory)
        except OSError:
            file.close()
            raise
        self.close()
        self._file, self._size = file, HEADER_SIZE

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except OSError as error:
            raise SyncFailed(error.errno or errno.EIO, error.strerror) from error

    def _pieces(self, items: Sequence[Stored]) -> Iterator[bytes]:
        """Yield the bytes of a snapshot."""
        yield header(SNAPSHOT, self.cluster_id)
        part: list[tuple[str, bytes, int]] = []
        size = 0
        for item in items:
            part.append((item.key, item.value, item.revision))
            size += len(item.value)
            if size >= _PIECE_BYTES:
                yield frame(msgpack.packb(part))
                part, size = [], 0
        yield frame(msgpack.packb(part)) + frame(msgpack.packb(len(items)))


def recover(
    disk: Disk, directory: str, fresh_id: bytes, *, sync: bool = True
) -> tuple[Log, Recovery]:
    """Read everything back; return the log, ready to append.

    fresh_id: the cluster id of an empty directory.  Raises: CorruptLog, OSError.
    """
    names = disk.names(directory)
    for name in names:
        if name.endswith(".new"):
            disk.remove(f"{directory}/{name}")  # A snapshot that was not finished.
    reader = _Reader(disk, directory)
    snapshots = sorted(n for n in names if _parse(n)[0] == "snapshot")
    if snapshots:
        reader.read_snapshot(snapshots[-1])
    # Segments the snapshot has replaced may be there still: a crash came before their removal.
    segments = sorted(n for n in names if _parse(n)[0] == "log" and _parse(n)[1] > reader.base)
    while segments and reader.is_empty(segments[-1]):
        disk.remove(f"{directory}/{segments.pop()}")
    good = 0
    for name in segments:
        good = reader.read_segment(name, last=name == segments[-1])
    log = Log(disk, directory, reader.cluster_id or fresh_id, sync=sync)
    if segments:
        log.resume(segments[-1], good)
    return log, Recovery(
        revision=reader.revision,
        items=list(reader.values.values()),
        cluster_id=log.cluster_id,
        transactions=reader.transactions,
        bytes=reader.bytes,
        cut=reader.cut,
    )


class _Reader:
    """Reads a directory back into values."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self.disk, self.directory = disk, directory
        self.values: dict[str, Stored] = {}
        self.revision = self.base = 0
        self.cluster_id = b""
        self.transactions = self.bytes = 0
        self.cut: Cut | None = None

    def read_snapshot(self, name: str) -> None:
        """Begin with the values of a snapshot."""
        path = f"{self.directory}/{name}"
        data = self.disk.read(path)
        self._take_header(path, data, SNAPSHOT)
        count: Any = None
        for found in frames(data):
            if isinstance(found, Flaw):
                raise CorruptLog(path, found.offset, 0, found.why)
            if count is not None:
                raise CorruptLog(path, found.offset, 0, "the snapshot goes on after its end")
            content = msgpack.unpackb(found.payload)
            if isinstance(content, int):
                count = content
            else:
                self.values.update({key: Stored(key, value, at) for key, value, at in content})
        if count != len(self.values):
            raise CorruptLog(path, len(data), 0, "the snapshot is not whole")
        self.revision = self.base = _parse(name)[1]

    def is_empty(self, name: str) -> bool:
        """Tell whether a segment was made, but never held anything."""
        data = self.disk.read(f"{self.directory}/{name}")
        if len(data) == HEADER_SIZE and not self.cluster_id:
            with suppress(BadHeader):
                self.cluster_id = read_header(data, LOG)
        return len(data) <= HEADER_SIZE

    def read_segment(self, name: str, *, last: bool) -> int:
        """Apply a segment; return the size of its good part. Raises: CorruptLog."""
        path = f"{self.directory}/{name}"
        data = self.disk.read(path)
        if len(data) <= HEADER_SIZE and not last:
            return 0  # Begun when the disk was full; the one before went on.
        self._take_header(path, data, LOG)
        good = HEADER_SIZE
        for found in frames(data):
            if isinstance(found, Flaw):
                if not last or found.kind == "corrupt":
                    raise CorruptLog(path, found.offset, self.revision, found.why)
                self.cut = Cut(path, found.offset, len(data) - found.offset, found.why)
                break
            self._apply(path, found.offset, msgpack.unpackb(found.payload))
            good = found.end
        self.bytes += good
        return good

    def _apply(self, path: str, offset: int, group: Any) -> None:
        for revision, writes, _ in group:
            if revision != self.revision + 1:
                why = f"revision {revision} follows {self.revision}"
                raise CorruptLog(path, offset, self.revision, why)
            for key, value in writes:
                if value is None:
                    self.values.pop(key, None)
                else:
                    self.values[key] = Stored(key, value, revision)
            self.revision = revision
            self.transactions += 1

    def _take_header(self, path: str, data: bytes, kind: int) -> None:
        try:
            cluster_id = read_header(data, kind)
        except BadHeader as error:
            raise CorruptLog(path, 0, self.revision, str(error)) from error
        if self.cluster_id and cluster_id != self.cluster_id:
            raise CorruptLog(path, 0, self.revision, "it belongs to another cluster")
        self.cluster_id = cluster_id


def _name(kind: str, revision: int) -> str:
    return f"{kind}-{revision:020d}"


def _parse(name: str) -> tuple[str, int]:
    """Return the kind and the revision of a file; ("", 0) if it is none of ours."""
    kind, _, number = name.partition("-")
    if kind in ("log", "snapshot") and number.isdigit():
        return kind, int(number)
    return "", 0
