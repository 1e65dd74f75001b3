"""The log on disk: segments of commit groups, and snapshots that replace old ones.

A directory holds `log-REVISION` segments, named by the first revision they may hold, the newest
`snapshot-REVISION`, and `lock`. One frame is one commit group: transactions that were synced
together. Nothing is acknowledged before its frame is synced. See docs/store-format.md.

A segment is lengthened with zeros ahead of its use, when there is time: writing over what is there
is synced faster than making a file longer.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple

import msgpack

from kubeloop.store import tree as trees
from kubeloop.store.disk import Disk, File
from kubeloop.store.facts import Cause
from kubeloop.store.frames import HEADER_SIZE, LOG, SNAPSHOT, frame, frame_parts, header
from kubeloop.store.history import Version, Write, leases_of

SEGMENT_BYTES: Final = 16 * 2**20  # A segment that has grown to this is followed by a new one.
AHEAD_BYTES: Final[int] = 2**20  # So much a segment is lengthened at a time.
_QUIET_BYTES: Final = 2**15  # Groups of more come when there is no time for what is ahead.
_BUFFER_MAX: Final = 2**22  # A buffer that has become larger is not used again.
_PIECE_BYTES: Final = 2**19  # Of a snapshot, written and synced at a time.


class SyncFailed(OSError):
    """The disk did not say that it has what was written: nothing about it is known any more."""


class Transaction(NamedTuple):
    """What one commit did. at: seconds since 1970."""

    revision: int
    writes: Sequence[Write]
    cause: Cause
    at: float


class Encoder:
    """Packs commit groups, into a buffer that it uses again: to make one costs more than to pack.

    Not safe for use by two threads at once.
    """

    def __init__(self) -> None:
        self._packer = msgpack.Packer()

    def encode(self, group: Sequence[Transaction]) -> bytes:
        """Return a commit group in msgpack: the payload of a frame."""
        payload: bytes = self._packer.pack(
            [
                (
                    revision,
                    [w[:2] if w.expires is None else (w.key, w.value, w.expires) for w in writes],
                    cause,
                    at,
                )
                for revision, writes, cause, at in group
            ]
        )
        if len(payload) > _BUFFER_MAX:
            self._packer = msgpack.Packer()
        return payload


class Log:
    """Appends to the newest segment. Not safe for use by two threads at once."""

    def __init__(self, disk: Disk, directory: str, cluster_id: bytes) -> None:
        self.disk, self.directory, self.cluster_id = disk, directory, cluster_id
        self._file: File | None = None
        self._size = 0
        self._synced = 0  # Up to here the segment is synced.
        self._ahead = 0  # Up to here the segment holds zeros at least.
        self._quiet = True
        self._broken: SyncFailed | None = None

    def append(self, payload: bytes, first_revision: int, *, sync: bool = True) -> None:
        """Write a frame and sync it. Raises: OSError, after which the log is as before; SyncFailed.

        payload:        a commit group, as `Encoder.encode` gives it.
        first_revision: of the group, which names the segment if one has to be begun.
        """
        if self._broken is not None:
            raise self._broken
        if self._file is None or self._size >= SEGMENT_BYTES:
            self._rotate(first_revision)
        assert self._file is not None
        parts = frame_parts(payload, self._synced)
        try:
            self._file.writev(parts, self._size)
        except OSError as error:
            self._cut(self._file, error)
            raise
        if sync:
            self._sync(self._file)
        self._size += sum(map(len, parts))
        self._quiet = len(payload) <= _QUIET_BYTES
        if sync:
            self._synced = self._size

    def sync(self) -> None:
        """Sync what was appended without. Raises: SyncFailed."""
        if self._file is not None and self._synced < self._size:
            self._sync(self._file)
            self._synced = self._size

    def prepare(self) -> None:
        """Lengthen the segment, if it will be needed soon. If that fails, appending will tell.

        It pays for small groups, whose time is that of the sync; the large ones of a busy time
        would only have to wait for it.
        """
        if self._file is None or self._broken or self._size >= SEGMENT_BYTES or not self._quiet:
            return
        if AHEAD_BYTES == 0 or self._size + AHEAD_BYTES // 2 <= self._ahead:
            return
        start = max(self._ahead, self._size)
        try:
            self._file.write(bytes(AHEAD_BYTES), start)
        except OSError as error:
            with suppress(SyncFailed):
                self._cut(self._file, error)
            return
        self._ahead = start + AHEAD_BYTES
        with suppress(SyncFailed):
            self._sync(self._file)
            self._synced = self._size

    def resume(self, name: str, size: int, unsure: bytes) -> None:
        """Go on with an existing segment whose good part has this size. Raises: OSError.

        unsure: its end, if it may never have been synced. It is written again: after a sync that
                failed the system shows what it will never write by itself.
        """
        self._file = self.disk.open(f"{self.directory}/{name}")
        try:
            self._file.truncate(size)
            self._file.write(unsure, size - len(unsure))
            self._file.sync()
        except OSError:
            self.close()
            raise
        self._size = self._synced = self._ahead = size

    def snapshot(self, version: Version) -> Iterator[int]:
        """Write a version beside, put it in place at once, and delete what it replaces.

        A generator, so that groups can be appended between its steps. Yields the bytes written so
        far.

        Raises: OSError; then the log is as good as before.
        """
        name = file_name("snapshot", version.revision)
        beside = f"{self.directory}/{name}.new"
        try:
            yield from write_snapshot(self.disk, beside, self.cluster_id, version)
        except OSError:
            with suppress(OSError):
                self.disk.remove(beside)  # Else it will be on the next opening.
            raise
        self.disk.rename(beside, f"{self.directory}/{name}")
        self.disk.sync_directory(self.directory)
        for old in replaced(self.disk.names(self.directory), version.revision):
            self.disk.remove(f"{self.directory}/{old}")

    def close(self) -> None:
        """Close the segment."""
        if self._file is not None:
            if self._ahead > self._size:
                with suppress(OSError):  # It only looks better without the zeros.
                    self._file.truncate(self._size)
            self._file.close()
            self._file = None

    def _rotate(self, first_revision: int) -> None:
        """Begin a new segment. Raises: OSError, after which the log is as before; SyncFailed."""
        self.sync()  # Only the newest segment may have an end that is not.
        path = f"{self.directory}/{file_name('log', first_revision)}"
        file = self.disk.open(path)
        try:
            file.truncate(0)  # What an earlier attempt may have left.
            file.write(header(LOG, self.cluster_id), 0)
            self._sync(file)
            self.disk.sync_directory(self.directory)
        except OSError:
            file.close()
            raise
        self.close()
        self._file = file
        self._size = self._synced = self._ahead = HEADER_SIZE

    def _cut(self, file: File, why: OSError) -> None:
        """Take back what was written of a group that does not fit. Raises: SyncFailed."""
        self._ahead = self._size
        try:
            file.truncate(self._size)
        except OSError as worse:
            self._broken = SyncFailed(worse.errno, worse.strerror)
            raise self._broken from why

    def _sync(self, file: File) -> None:
        try:
            file.sync()
        except OSError as error:
            self._broken = SyncFailed(error.errno or errno.EIO, error.strerror)
            raise self._broken from error


def write_snapshot(disk: Disk, path: str, cluster_id: bytes, version: Version) -> Iterator[int]:
    """Write a snapshot into a new file, synced; yield the bytes written so far. Raises: OSError."""
    size = 0
    file = disk.open(path)
    try:
        for piece in _pieces(cluster_id, version):
            file.write(piece, size)
            file.sync()
            size += len(piece)
            yield size
    finally:
        file.close()


def replaced(names: Sequence[str], revision: int) -> list[str]:
    """Return which of a directory's files a snapshot of a revision makes superfluous.

    A segment is as soon as the next one begins with what the snapshot does not have.
    """
    segments = sorted(number for kind, number in map(parse_name, names) if kind == "log")
    followed = {number for number, after in pairwise(segments) if after <= revision + 1}
    return [
        name
        for name, (kind, number) in zip(names, map(parse_name, names), strict=True)
        if (kind == "log" and number in followed) or (kind == "snapshot" and number < revision)
    ]


def file_name(kind: str, revision: int) -> str:
    """Return the name of a file of this kind: "log", "snapshot"."""
    return f"{kind}-{revision:020d}"


def parse_name(name: str) -> tuple[str, int]:
    """Return the kind and the revision of a file; ("", 0) if it is none of ours."""
    kind, _, number = name.partition("-")
    if kind in ("log", "snapshot") and len(number) == 20 and number.isascii() and number.isdigit():
        return kind, int(number)
    return "", 0


def _pieces(cluster_id: bytes, version: Version) -> Iterator[bytes]:
    """Yield the bytes of a snapshot."""
    yield header(SNAPSHOT, cluster_id)
    leases = {key: (at, expires) for key, at, expires in leases_of(version)}
    part: list[tuple[str, bytes, int] | tuple[str, bytes, int, float]] = []
    size = 0
    for item in trees.items(version.tree):
        key, value, revision = item
        at, expires = leases.get(key, (0, 0.0))
        part.append((*item, expires) if at == revision else item)
        size += len(value)
        if size >= _PIECE_BYTES:
            yield frame(msgpack.packb(part))
            part, size = [], 0
    end = {"keys": trees.count(version.tree), "revision": version.revision}
    yield frame(msgpack.packb(part)) + frame(msgpack.packb(end))
