"""The store: what is true, in memory and on disk.

A commit is applied in memory at once, and staged; `flush` makes everything staged durable with one
sync, then publishes it to the watchers, then tells who waited. While a sync is under way further
commits gather for the next one: the more wait, the more share a sync.

An error of sync is final: what the disk holds is not known any more, so the store takes no more
writes and serves what is durable. A full disk refuses writes until there is room again.
"""

import errno
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

import pykka

from kubeloop.store.disk import Disk, Lock
from kubeloop.store.facts import Cause, Fact
from kubeloop.store.history import History, Page, Stored, Write
from kubeloop.store.log import Log, Recovery, SyncFailed, Transaction, encode, recover
from kubeloop.store.watch import Hub

HISTORY_REVISIONS: Final = 10_000
SNAPSHOT_BYTES: Final = 64 * 2**20  # So much log is followed by a snapshot.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)

Done = Callable[[Exception | None], None]
Threadsafe = Callable[[Callable[[], None]], None]


class StoreFailed(Exception):
    """The disk failed: no more writes until the store is opened again."""


class StoreFull(Exception):
    """There is no room on the disk: nothing was written, and writes may be tried again."""


class Store:
    """A history, a hub, and a log if it is to be kept.

    durable:  the revision of the newest commit that is safe, and published.
    recovery: what was found on opening; None for a store in memory.
    failure:  why it takes no more writes; None if it does.
    """

    def __init__(
        self, history: History, writer: "_Writer | None", recovery: Recovery | None
    ) -> None:
        self.history, self.hub = history, Hub(history)
        self.recovery = recovery
        self.durable = self.hub.revision = history.revision
        self.failure: StoreFailed | None = None
        self._writer = writer
        self._staged: list[Transaction] = []
        self._facts: list[Fact] = []
        self._waiting: list[Done] = []
        self._syncing = False
        self._log_bytes = 0 if recovery is None else recovery.bytes
        self._value_bytes = sum(len(item.value) for item in history.items())

    @classmethod
    def memory(cls, *, history_revisions: int = HISTORY_REVISIONS) -> "Store":
        """Return a store that keeps nothing."""
        return cls(History(revisions_max=history_revisions), None, None)

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        threadsafe: Threadsafe | None,
        fresh_id: bytes,
        history_revisions: int = HISTORY_REVISIONS,
        sync: Literal["always", "never"] = "always",
    ) -> "Store":
        """Open the store in a directory, which must exist.

        threadsafe: runs a call on the loop, from the thread that syncs; None syncs inline.
        fresh_id:   16 random bytes: the id of the cluster if the directory is empty.
        sync:       "never" survives a crash of the process, but not a loss of power.
        Raises: BlockingIOError if another process has it open, CorruptLog, OSError.
        """
        lock = disk.lock(f"{directory}/lock")
        try:
            log, recovery = recover(disk, directory, fresh_id, sync=sync == "always")
        except BaseException:
            lock.release()
            raise
        history = History(revisions_max=history_revisions)
        history.restore(recovery.revision, recovery.items)
        return cls(history, _Writer(log, lock, threadsafe), recovery)

    @property
    def revision(self) -> int:
        """The revision of the newest commit, durable or not."""
        return self.history.revision

    def get(self, key: str, revision: int | None = None) -> Stored | None:
        """Return a value, as `History.get`."""
        return self.history.get(key, revision)

    def list(
        self, prefix: str, *, revision: int | None = None, start_after: str = "", limit: int = 0
    ) -> Page:
        """Return a page of values, as `History.list`."""
        return self.history.list(prefix, revision=revision, start_after=start_after, limit=limit)

    def commit(self, writes: Sequence[Write], cause: Cause) -> int:
        """Do all writes as one revision, or none; return it. It is durable after `flush`.

        Raises: CompareFailed, StoreFailed.
        """
        if self.failure is not None:
            raise self.failure
        facts = self.history.commit(writes, cause)
        self._facts += facts
        if self._writer is not None:
            self._staged.append(Transaction(facts[0].revision, tuple(writes), cause))
        return facts[0].revision

    def flush(self, done: Done) -> None:
        """Make everything committed so far durable, publish it, then call `done`.

        done: None if all went well, else StoreFailed or StoreFull: then it was taken back.
        A store in memory does all that before it returns.
        """
        if self._writer is None:
            self._publish(self.revision)
            done(None)
            return
        self._waiting.append(done)
        if not self._syncing:
            self._sync()

    def close(self) -> None:
        """Make what is staged durable, give the directory back. Harmless if it is closed."""
        if self._writer is None:
            return
        self._writer.stop()  # From here on groups are written inline.
        self.flush(lambda error: None)
        self._writer.close()
        self._writer = None
        self.failure = self.failure or StoreFailed("the store is closed")

    def _sync(self) -> None:
        """Send the next group to the disk."""
        assert self._writer is not None
        waiting, self._waiting = self._waiting, []
        group, self._staged = self._staged, []
        if not group:
            self._settle(waiting, None)
            return
        self._syncing = True
        data, revision = encode(group), group[-1].revision
        self._log_bytes += len(data)
        snapshot: Sequence[Stored] | None = None
        if self._log_bytes > max(SNAPSHOT_BYTES, self._value_bytes):
            # Nothing newer than this group is staged: it is what the values are after it.
            snapshot, self._log_bytes = self.history.items(), 0
            self._value_bytes = sum(len(item.value) for item in snapshot)
        self._writer.write(
            _Job(data, group[0].revision, revision, snapshot),
            lambda error: self._synced(revision, waiting, error),
        )

    def _synced(self, revision: int, waiting: Sequence[Done], error: OSError | None) -> None:
        """Hear how the write of a group ended."""
        self._syncing = False
        failure: Exception | None = None
        if error is None:
            self._publish(revision)
        else:
            failure = self._take_back(error)
            waiting = [*waiting, *self._waiting]
            self._waiting = []
        if self._waiting and self._writer is not None and self._writer.threaded:
            self._sync()  # The disk works while those who waited are told.
        self._settle(waiting, failure)
        if self._waiting and not self._syncing:
            self._sync()

    def _take_back(self, error: OSError) -> Exception:
        """Undo what did not reach the disk; return what to tell those who wait."""
        self.history.rollback(self.durable)
        self._staged.clear()
        self._facts.clear()
        if error.errno in _FULL and not isinstance(error, SyncFailed):
            return StoreFull(f"the disk is full: {error}")
        self.failure = StoreFailed(
            f"the disk failed: {error}; open the store again once it is well"
        )
        return self.failure

    def _publish(self, revision: int) -> None:
        count = bisect_right(self._facts, revision, key=_revision_of)
        facts, self._facts = self._facts[:count], self._facts[count:]
        self.durable = self.history.settled = revision
        self.hub.publish(facts)

    def _settle(self, waiting: Sequence[Done], failure: Exception | None) -> None:
        for done in waiting:
            done(failure)


@dataclass(frozen=True, slots=True)
class _Job:
    """A group to be written, and perhaps the values after it, for a snapshot."""

    data: bytes
    first: int
    last: int
    snapshot: Sequence[Stored] | None


class _Writer:
    """Writes groups, one at a time: in a thread of its own, or inline."""

    def __init__(self, log: Log, lock: Lock, threadsafe: Threadsafe | None) -> None:
        self._log, self._lock, self._threadsafe = log, lock, threadsafe
        self._results: deque[Callable[[], None]] = deque()
        self._actor: Any = None
        if threadsafe is not None:
            self._actor = _SyncActor.start(log, self._answer)
            # The process-wide registry could stop it behind our back.
            pykka.ActorRegistry.unregister(self._actor)

    @property
    def threaded(self) -> bool:
        """Whether `write` returns before it is done."""
        return self._actor is not None

    def write(self, job: _Job, done: Callable[[OSError | None], None]) -> None:
        """Have a group written; `done` is called on the loop."""
        if self._actor is not None:
            self._actor.tell((job, done))
            return
        error = _write(self._log, job)
        if error is None:
            for _ in _snapshot(self._log, job):
                pass
        done(error)

    def stop(self) -> None:
        """Wait for what the thread still has to do, and go on inline."""
        if self._actor is not None:
            self._actor.stop(block=True)
            self._actor = None
            self._collect()

    def close(self) -> None:
        """Let go of the directory."""
        self._log.close()
        self._lock.release()

    def _answer(self, call: Callable[[], None]) -> None:
        """Have a call made on the loop, or by `stop` if that comes first. In the thread."""
        assert self._threadsafe is not None
        self._results.append(call)
        self._threadsafe(self._collect)

    def _collect(self) -> None:
        while self._results:
            self._results.popleft()()


class _SyncActor(pykka.ThreadingActor):
    """The thread that waits for the disk, so that the loop does not.

    A snapshot is written in pieces, each a message to itself: groups go in between.
    """

    use_daemon_thread = True

    def __init__(self, log: Log, answer: Callable[[Callable[[], None]], None]) -> None:
        super().__init__()
        self._log, self._answer = log, answer
        self._snapshot: Generator[int, None, None] | None = None

    def on_receive(self, message: Any) -> None:
        if message is not _NEXT_PIECE:
            job, done = message
            error = _write(self._log, job)
            if error is None and self._snapshot is None:
                self._snapshot = _snapshot(self._log, job)
                self._write_piece()
            self._answer(lambda: done(error))
        else:
            self._write_piece()

    def on_stop(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()  # What there is of it is removed on the next opening.

    def _write_piece(self) -> None:
        assert self._snapshot is not None
        if next(self._snapshot, None) is None:
            self._snapshot = None
        else:
            self.actor_ref.tell(_NEXT_PIECE)


_NEXT_PIECE: Final = "next piece"


def _write(log: Log, job: _Job) -> OSError | None:
    """Append a group; return what went wrong."""
    try:
        log.append(job.data, job.first)
    except OSError as error:
        return error
    return None


def _snapshot(log: Log, job: _Job) -> Generator[int, None, None]:
    """Write the snapshot of a job, if it has one; yield after every piece."""
    if job.snapshot is None:
        return
    # If it fails, the log is as good as before, and the next one is tried in its time.
    with suppress(OSError):
        yield from log.snapshot(job.last, job.snapshot)


def _revision_of(fact: Fact) -> int:
    return fact.revision
