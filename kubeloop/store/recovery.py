"""How a store comes back from its directory: the newest snapshot, then the log after it.

What is damaged is never skipped: it is named, and the store stays closed. Only the end of the
newest segment may be cut, where a write was under way that was never acknowledged.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import msgpack

from kubeloop.store.disk import Disk, Files
from kubeloop.store.facts import Cause
from kubeloop.store.frames import (
    HEADER_SIZE,
    LOG,
    SNAPSHOT,
    BadHeader,
    Flaw,
    Frame,
    frames,
    read_header,
)
from kubeloop.store.history import History, Retention, Write
from kubeloop.store.log import Log, parse_name

_PREFIX: Final = "/registry/"
_REVISION_MAX: Final = 2**63 - 1


class CorruptLog(Exception):
    """A file holds bytes that are not what was written. Nothing is skipped silently.

    revision: the last that is good; 0 if nothing before the damage tells how things were.

    The way out: a backup, or to go back to `revision`; see `store.backup`.
    """

    def __init__(self, path: str, offset: int, revision: int, why: str) -> None:
        super().__init__(
            f"{path} is damaged at byte {offset}: {why}; everything up to revision {revision} is "
            "good. Restore a backup into a new directory with `kubeloop store restore FILE "
            "--data-dir NEW`, or give up what came after that revision with `kubeloop store "
            "restore --until-damage --data-dir DIR`, which keeps the damaged files aside"
        )
        self.path, self.offset, self.revision, self.why = path, offset, revision, why


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

    snapshot:     the revision of the snapshot it began with, 0 if there was none.
    transactions: how many were read from the log after it.
    bytes:        of the log that is kept.
    """

    revision: int
    cluster_id: bytes
    snapshot: int = 0
    transactions: int = 0
    bytes: int = 0
    cut: Cut | None = None


def recover(
    disk: Disk, directory: str, fresh_id: bytes, *, retention: Retention | None = None
) -> tuple[Log, History, Recovery]:
    """Read everything back; return the log, ready to append, and what it tells.

    fresh_id: the cluster id of an empty directory.  Raises: CorruptLog, OSError.
    """
    for name in disk.names(directory):
        if name.endswith(".new"):
            disk.remove(f"{directory}/{name}")  # A snapshot that was not finished.
    reader = Reader(disk, directory)
    history = reader.read(retention or Retention())
    for name in reader.empty:
        disk.remove(f"{directory}/{name}")
    log = Log(disk, directory, reader.cluster_id or fresh_id)
    if reader.segment:
        log.resume(reader.segment, reader.good, reader.unsure)
    return log, history, reader.recovery(log.cluster_id)


class Reader:
    """Reads a directory; changes nothing.

    cluster_id: b"" until a file has told it.
    segment:    the newest one that holds anything, "" if there is none;  good: its good part;
    unsure:     the end of that, which may never have been synced.
    empty:      newer ones, without a frame.
    """

    def __init__(self, disk: Files, directory: str) -> None:
        self.disk, self.directory = disk, directory
        self.cluster_id = b""
        self.segment, self.good, self.unsure = "", 0, b""
        self.empty: list[str] = []
        self.revision = self.base = 0
        self.transactions = self.bytes = 0
        self.cut: Cut | None = None

    def read(self, retention: Retention) -> History:
        """Return the history the directory tells. Raises: CorruptLog, OSError."""
        values, leases = self._snapshot()
        # What is older than the history will be is folded at once, which is cheaper.
        recent: deque[_Packed] = deque()
        for transaction in self._transactions():
            recent.append(transaction)
            if retention.revisions is not None and len(recent) > retention.revisions:
                _fold(recent.popleft(), values, leases)
        begin = self.revision - len(recent)
        items = [(key, *values[key]) for key in sorted(values)]
        held = [(k, at, e) for k, (at, e) in leases.items() if k in values and values[k][1] == at]
        history = History.restored(begin, items, held, retention=retention)
        values.clear()
        for revision, writes, cause, at in recent:
            history.apply(revision, [_write(*w) for w in writes], Cause(*cause), at=at)
            history.settled = revision
        return history

    def recovery(self, cluster_id: bytes) -> Recovery:
        """Return what was found."""
        return Recovery(
            self.revision, cluster_id, self.base, self.transactions, self.bytes, self.cut
        )

    def _snapshot(self) -> tuple[dict[str, tuple[bytes, int]], dict[str, tuple[int, float]]]:
        """Return the values of the newest snapshot and their leases, nothing if there is none."""
        names = [n for n in self.disk.names(self.directory) if parse_name(n)[0] == "snapshot"]
        if not names:
            return {}, {}
        path = f"{self.directory}/{max(names)}"
        data = self.disk.read(path)
        self._take_header(path, data, SNAPSHOT)
        revision, values, leases = read_snapshot(path, data)
        if revision != parse_name(max(names))[1]:
            raise CorruptLog(path, len(data), 0, f"it is a snapshot of revision {revision}")
        self.revision = self.base = revision
        return values, leases

    def _transactions(self) -> "Iterator[_Packed]":
        """Yield what the log holds after the snapshot, in order; find the segment to go on with."""
        segments = [n for n in self.disk.names(self.directory) if parse_name(n)[0] == "log"]
        # Segments the snapshot has replaced may be there still: a crash came before their removal.
        while len(segments) > 1 and parse_name(segments[1])[1] <= self.base + 1:
            segments.pop(0)
        while segments and self._is_empty(segments[-1]):
            self.empty.append(segments.pop())
        for name in segments:
            yield from self._read_segment(name, last=name == segments[-1])
        if segments:
            self.segment = segments[-1]

    def _is_empty(self, name: str) -> bool:
        """Tell whether a segment was made, but never held anything."""
        path = f"{self.directory}/{name}"
        if self.disk.size(path) > HEADER_SIZE:
            return False
        data = self.disk.read(path)
        if len(data) == HEADER_SIZE and not self.cluster_id:
            with suppress(BadHeader):
                self.cluster_id = read_header(data, LOG)
        return True

    def _read_segment(self, name: str, *, last: bool) -> "Iterator[_Packed]":
        """Yield the transactions of a segment after the snapshot. Raises: CorruptLog."""
        path = f"{self.directory}/{name}"
        data = self.disk.read(path)
        if len(data) <= HEADER_SIZE and not last:
            return  # Begun when the disk was full; the one before went on.
        self._take_header(path, data, LOG)
        good = synced = HEADER_SIZE
        for found in frames(data):
            if isinstance(found, Flaw):
                if not last or found.kind == "corrupt":
                    raise CorruptLog(path, found.offset, self.revision, found.why)
                self.cut = Cut(path, found.offset, len(data) - found.offset, found.why)
                break
            before = self.revision
            try:
                yield from self._group(path, found)
            except (TypeError, ValueError) as error:
                why = f"this is no group of transactions: {error}"
                raise CorruptLog(path, found.offset, before, why) from error
            good, synced = found.end, found.synced
        self.bytes += good
        self.good, self.unsure = good, data[synced:good]

    def _group(self, path: str, found: Frame) -> "Iterator[_Packed]":
        """Yield the transactions of a frame after the snapshot. Raises: TypeError, ValueError."""
        before = self.revision
        group: tuple[_Packed, ...] = msgpack.unpackb(found.payload, use_list=False)
        for packed in group:
            revision, writes, cause, at = packed
            if type(revision) is not int:
                raise TypeError(f"{revision!r:.99} is no revision")
            if revision <= self.base:
                continue  # The snapshot has it.
            if revision != self.revision + 1:
                why = f"revision {revision} follows {self.revision}"
                raise CorruptLog(path, found.offset, before, why)
            if type(writes) is not tuple or not writes:
                raise TypeError(f"{writes!r:.99} are no writes")
            for write in writes:
                _check_write(*write)
            _check_cause(*cause)
            _check_time(at)
            self.revision = revision
            self.transactions += 1
            yield packed

    def _take_header(self, path: str, data: bytes, kind: int) -> None:
        try:
            cluster_id = read_header(data, kind)
        except BadHeader as error:
            raise CorruptLog(path, 0, self.revision, str(error)) from error
        if self.cluster_id and cluster_id != self.cluster_id:
            raise CorruptLog(path, 0, self.revision, "it belongs to another cluster")
        self.cluster_id = cluster_id


def read_snapshot(
    path: str, data: bytes
) -> tuple[int, dict[str, tuple[bytes, int]], dict[str, tuple[int, float]]]:
    """Return its revision, (value, revision) by key, and (revision, expires) of what has a lease.

    Raises: CorruptLog.
    """
    values: dict[str, tuple[bytes, int]] = {}
    leases: dict[str, tuple[int, float]] = {}
    end: dict[str, Any] | None = None
    for found in frames(data):
        if isinstance(found, Flaw):
            raise CorruptLog(path, found.offset, 0, found.why)
        if end is not None:
            raise CorruptLog(path, found.offset, 0, "the snapshot goes on after its end")
        try:
            content = msgpack.unpackb(found.payload)
            if isinstance(content, dict):
                end = content
                continue
            for key, value, at, *expires in content:
                _check_write(key, value, *expires)
                if value is None or type(at) is not int or not 0 < at <= _REVISION_MAX:
                    raise TypeError(f"{key!r:.99} has no value, or no revision")
                values[key] = value, at
                if expires and expires[0] is not None:
                    leases[key] = at, expires[0]
        except (TypeError, ValueError) as error:
            raise CorruptLog(path, found.offset, 0, f"no values: {error}") from error
    if end is None or end.get("keys") != len(values):
        raise CorruptLog(path, len(data), 0, "the snapshot is not whole")
    revision = end.get("revision")
    newest = max([at for _, at in values.values()], default=0)
    if type(revision) is not int or not newest <= revision <= _REVISION_MAX:
        raise CorruptLog(path, len(data), 0, f"it cannot be of revision {revision!r:.99}")
    return revision, values, leases


_Packed = tuple[int, Sequence[Sequence[Any]], Sequence[Any], float]
"""A transaction as it was packed: its revision, its writes, its cause, when it was committed."""


def _check_write(key: object, value: object, expires: object = None) -> None:
    """Raises: TypeError, ValueError if these are no write."""
    if type(key) is not str or not key.startswith(_PREFIX):
        raise TypeError(f"{key!r:.99} is no key")
    if value is not None and type(value) is not bytes:
        raise TypeError(f"the value of {key:.99} is neither bytes nor nil")
    if expires is not None:
        _check_time(expires)


def _check_cause(actor: object, message: object, revision: object, user: object) -> None:
    """Raises: TypeError if these are no cause."""
    if not type(actor) is type(message) is type(user) is str or type(revision) is not int:
        raise TypeError("it does not tell who wrote it, and why")


def _check_time(at: object) -> None:
    """Raises: TypeError, ValueError if this is no time."""
    if type(at) is not float and type(at) is not int:
        raise TypeError(f"{at!r:.99} is no time")
    if not isfinite(at):
        raise ValueError(f"{at} is no time")


def _write(key: str, value: bytes | None, expires: float | None = None) -> Write:
    return Write(key, value, None, expires)


def _fold(
    packed: _Packed,
    values: dict[str, tuple[bytes, int]],
    leases: dict[str, tuple[int, float]],
) -> None:
    """Bring values up to a transaction."""
    revision, writes, _, _ = packed
    for key, value, *expires in writes:
        if value is None:
            values.pop(key, None)
            continue
        values[key] = value, revision
        if expires and expires[0] is not None:
            leases[key] = revision, expires[0]
