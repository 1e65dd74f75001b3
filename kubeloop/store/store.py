"""The store: what is true, in memory and on disk.

A commit is applied in memory at once, and staged; `flush` makes everything staged durable with one
sync, then publishes it to the watchers, then tells who waited. While a sync is under way further
commits gather for the next one: the more wait, the more share a sync.

An error of sync is final: what the disk holds is not known any more, so the store takes no more
writes and serves what is durable. A full disk refuses writes until there is room again.
See docs/store.md for what is promised.
"""

import errno
import gc
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final, Literal, Self

from kubeloop.store.disk import Disk
from kubeloop.store.facts import Cause, Fact
from kubeloop.store.history import History, Page, Retention, Stored, Version, Write
from kubeloop.store.log import Encoder, SyncFailed, Transaction
from kubeloop.store.recovery import Recovery, recover
from kubeloop.store.watch import Hub
from kubeloop.store.writer import Job, Later, Threadsafe, Writer

SNAPSHOT_BYTES: Final = 64 * 2**20  # So much log is followed by a snapshot.
GROUP_BYTES: Final = 2**16  # Of values: a smaller group is written whole.
SYNC_INTERVAL_S: Final = 0.1  # With sync="interval": what a loss of power may cost.
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_NO_CHECKS: Final[Mapping[str, int]] = {}

Done = Callable[[Exception | None], None]
Sync = Literal["always", "interval", "never"]


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
        self,
        history: History,
        *,
        writer: Writer | None = None,
        recovery: Recovery | None = None,
        sync: Sync = "always",
        later: Later | None = None,
    ) -> None:
        self.history, self.hub = history, Hub(history)
        self.recovery = recovery
        self.durable = self.hub.revision = history.settled = history.revision
        self.failure: StoreFailed | None = None
        self._writer, self._sync_policy, self._later = writer, sync, later
        self._encoder = Encoder()
        self._staged: list[Transaction] = []
        self._facts: list[Fact] = []
        self._waiting: deque[tuple[int, Done]] = deque()  # For which revision, oldest first.
        self._busy = self._abandoned = False
        self._group_bytes = 0  # Of the values of the last group.
        self._sync_due = False
        self._log_bytes = 0 if recovery is None else recovery.bytes
        self._snapshot = 0 if recovery is None else recovery.snapshot

    @classmethod
    def memory(cls, *, retention: Retention | None = None) -> Self:
        """Return a store that keeps nothing."""
        return cls(History(retention=retention))

    @classmethod
    def open(
        cls,
        disk: Disk,
        directory: str,
        *,
        threadsafe: Threadsafe | None,
        fresh_id: bytes,
        retention: Retention | None = None,
        sync: Sync = "always",
        later: Later | None = None,
    ) -> "Store":
        """Open the store in a directory, which must exist.

        threadsafe: runs a call on the loop, from the thread that syncs; None syncs inline.
        fresh_id:   16 random bytes: the id of the cluster if the directory is empty.
        sync:       when what is acknowledged has been synced. "always"; "interval": at most
                    SYNC_INTERVAL_S later, by `later`; "never": when the system likes. The last
                    two survive a crash of the process, but not a loss of power.
        Raises: BlockingIOError if another process has it open, CorruptLog, OSError.
        """
        if sync == "interval" and later is None:
            raise ValueError("sync='interval' needs `later`, which makes a call after some time")
        lock = disk.lock(f"{directory}/lock")
        collecting = gc.isenabled()
        gc.disable()  # Nothing of what is read is garbage: to look for some would double the time.
        try:
            log, history, recovery = recover(disk, directory, fresh_id, retention=retention)
        except BaseException:
            lock.release()
            raise
        finally:
            if collecting:
                gc.enable()
        writer = Writer(log, lock, threadsafe, later)
        return cls(history, writer=writer, recovery=recovery, sync=sync, later=later)

    @property
    def revision(self) -> int:
        """The revision of the newest commit, durable or not."""
        return self.history.revision

    # Reading.

    def get(self, key: str, revision: int | None = None) -> Stored | None:
        """Return a value, as `History.get`."""
        return self.history.get(key, revision)

    def list(
        self, prefix: str, *, revision: int | None = None, start_after: str = "", limit: int = 0
    ) -> Page:
        """Return a page of values, as `History.list`."""
        return self.history.list(prefix, revision=revision, start_after=start_after, limit=limit)

    def due(self, now: float) -> Sequence[str]:
        """Return keys whose lease has run out, as `History.due`: delete them."""
        return self.history.due(now)

    def next_expiry(self) -> float | None:
        """Return when the next lease may run out, as `History.next_expiry`."""
        return self.history.next_expiry()

    def fork(self, revision: int | None = None) -> "Store":
        """Return a store in memory that goes on from a revision by itself. Cost: O(1).

        Raises: Expired.
        """
        return Store(self.history.fork(self.durable if revision is None else revision))

    # Writing.

    def commit(
        self,
        writes: Sequence[Write],
        cause: Cause,
        *,
        at: float = 0.0,
        checks: Mapping[str, int] = _NO_CHECKS,
    ) -> int:
        """Do all writes as one revision, or none; return it. It is durable after `flush`.

        at, checks: as for `History.commit`.
        Raises: CompareFailed, StoreFailed.
        """
        if self.failure is not None:
            raise self.failure
        facts = self.history.commit(writes, cause, at=at, checks=checks)
        self._facts += facts
        if self._writer is not None:
            self._staged.append(Transaction(facts[0].revision, writes, cause, at))
        return facts[0].revision

    async def confirm(self) -> None:
        """Return when all that others had written before this call is known here.

        Nobody else writes to a directory, or to memory; over etcd it raises StoreUnavailable.
        """

    def flush(self, done: Done) -> None:
        """Make everything committed so far durable, publish it, then call `done`.

        done: None if all went well, else StoreFailed or StoreFull: then it was taken back.
        A store in memory does all that before it returns.
        """
        if self._writer is None:
            self._publish(self.revision)
            done(None)
            return
        self._waiting.append((self.revision, done))
        if not self._busy:
            self._write()

    def compact(self, revision: int) -> None:
        """Forget how things were before `revision`; it becomes the floor.

        On disk that shows with the next snapshot.
        """
        self.history.compact(revision)

    def abandon(self) -> None:
        """Be as if the process had been killed: nothing is made durable or told any more.

        The directory may be opened again at once. `close` then has nothing left to do.
        """
        self.failure = StoreFailed("the store was abandoned")
        if self._writer is not None:
            self._writer.abandon()
            self._abandoned = True

    def close(self) -> None:
        """Make what is staged durable, give the directory back. Harmless if it is closed."""
        if self._writer is None or self._abandoned:
            return
        self._writer.stop()  # From here on groups are written inline.
        self._sync_policy = "always"
        self._sync_now()
        self.flush(lambda error: None)
        self._writer.close()
        self._writer = None
        self.failure = self.failure or StoreFailed("the store is closed")

    async def aclose(self) -> None:
        """Close; a store that has connections waits for their end."""
        self.close()

    # Parts.

    def _write(self) -> None:
        """Send the next group to the disk."""
        assert self._writer is not None
        group = self._next_group()
        if not group:
            self._settle_durable()
            return
        self._busy = True
        data, revision = self._encoder.encode(group), group[-1].revision
        self._log_bytes += len(data)
        job = Job(data, group[0].revision, self._sync_policy == "always", self._version())
        self._writer.write(job, lambda error: self._written(revision, error))

    def _next_group(self) -> Sequence[Transaction]:
        """Take what is staged; of much only a part, if the loop goes on meanwhile.

        Clients who write again when they are told come in as many as they were told at once. So
        groups of one size let the disk and the loop work side by side, where one large group would
        have each wait for the other: the size goes half the way to it each time.
        """
        assert self._writer is not None
        group, self._staged = self._staged, []
        if not self._writer.aside or not group:
            return group
        sizes = list(accumulate(map(_size_of, group)))
        most = max(GROUP_BYTES, (self._group_bytes + sizes[-1]) // 2)
        count = min(bisect_left(sizes, most) + 1, len(sizes))
        self._group_bytes = sizes[count - 1]
        group, self._staged = group[:count], group[count:]
        return group

    def _version(self) -> Version | None:
        """Return what the next snapshot shall hold, None if it is not time for one.

        It is as things were at the floor: what the log has after that is the history.
        """
        floor = self.history.floor
        if self._log_bytes <= max(SNAPSHOT_BYTES, self.history.value_bytes):
            return None
        if floor == self._snapshot:
            return None
        self._log_bytes, self._snapshot = 0, floor
        return self.history.version(floor)

    def _written(self, revision: int, error: OSError | None) -> None:
        """Hear how the write of a group ended."""
        assert self._writer is not None
        self._busy = False
        if error is not None:
            failure = self._take_back(error)
            waiting, self._waiting = self._waiting, deque()
            self._settle([done for _, done in waiting], failure)
            return
        self._publish(revision)
        self._sync_later()
        if self._waiting and self._writer.aside:
            self._write()  # First: the disk works while the others are told.
        self._settle_durable()
        if self._waiting and not self._busy:
            self._write()

    def _sync_later(self) -> None:
        if self._sync_policy == "interval" and not self._sync_due and self._later is not None:
            self._sync_due = True
            self._later(SYNC_INTERVAL_S, self._sync_now)

    def _sync_now(self) -> None:
        """Sync what was acknowledged without."""
        if self._sync_due and self._writer is not None and self.failure is None:
            self._sync_due = False
            self._writer.write(Job(b"", 0, sync=True), self._synced)

    def _synced(self, error: OSError | None) -> None:
        if error is not None:
            self._take_back(error)

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

    def _settle_durable(self) -> None:
        """Tell those whose revision is durable."""
        while self._waiting and self._waiting[0][0] <= self.durable:
            _, done = self._waiting.popleft()
            self._settle([done], None)

    def _settle(self, waiting: Sequence[Done], failure: Exception | None) -> None:
        for done in waiting:
            done(failure)


def _size_of(transaction: Transaction) -> int:
    return sum([len(write.value or b"") for write in transaction.writes])


def _revision_of(fact: Fact) -> int:
    return fact.revision
