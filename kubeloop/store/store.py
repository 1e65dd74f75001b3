"""The store: what is true, in memory and on disk.

A commit is applied in memory at once, and staged; `flush` makes everything staged durable with one
sync, then publishes it to the watchers, then tells who waited. While a sync is under way further
commits gather for the next one: the more wait, the more share a sync.

An error of sync is final: what the disk holds is not known any more, so the store takes no more
writes and serves what is durable. A full disk refuses writes until there is room again.
"""

import errno
import secrets
from collections.abc import Callable, Sequence
from typing import Any, Final

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

    revision: of the newest commit;  durable: of the newest that is safe, and published.
    """

    def __init__(self, history: History, log: "_Writer | None", recovery: Recovery | None) -> None:
        self.history, self.hub = history, Hub(history)
        self.recovery = recovery
        self.durable = self.hub.revision = history.revision
        self.failure: StoreFailed | None = None
        self._writer = log
        self._staged: list[Transaction] = []
        self._facts: list[Fact] = []
        self._waiting: list[Done] = []
        self._syncing = False
        self._log_bytes = 0

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
        history_revisions: int = HISTORY_REVISIONS,
        fresh_id: bytes | None = None,
    ) -> "Store":
        """Open the store in a directory, which must exist.

        threadsafe: runs a call on the loop, from the thread that syncs; None syncs inline.
        Raises: BlockingIOError if another process has it open, CorruptLog, OSError.
        """
        lock = disk.lock(f"{directory}/lock")
        try:
            log, recovery = recover(disk, directory, fresh_id or secrets.token_bytes(16))
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
        """Write what is staged, and give the directory back."""
        if self._writer is not None:
            group, self._staged = self._staged, []
            self._writer.close(group if self.failure is None else [])
            self._writer = None

    def _sync(self) -> None:
        """Send the next group to the disk."""
        assert self._writer is not None
        waiting, self._waiting = self._waiting, []
        group, self._staged = self._staged, []
        if not group:
            self._settle(waiting, None)
            return
        self._syncing = True
        data = encode(group)
        self._log_bytes += len(data)
        snapshot = None
        if self._log_bytes > SNAPSHOT_BYTES:
            snapshot, self._log_bytes = self._snapshot(group), 0
        revision = group[-1].revision
        self._writer.write(
            data,
            group[0].revision,
            snapshot,
            lambda error: self._synced(revision, waiting, error),
        )

    def _snapshot(self, group: Sequence[Transaction]) -> tuple[int, Sequence[Stored]]:
        """Return what a snapshot after this group holds; nothing newer is staged yet."""
        return group[-1].revision, self.history.items()

    def _synced(self, revision: int, waiting: Sequence[Done], error: OSError | None) -> None:
        """Hear how the write of a group ended."""
        self._syncing = False
        if self._writer is None:
            return  # Closed in the meantime.
        failure: Exception | None = None
        if error is None:
            self._publish(revision)
        else:
            failure = self._take_back(error)
            waiting = [*waiting, *self._waiting]
            self._waiting = []
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
        count = sum(fact.revision <= revision for fact in self._facts)
        facts, self._facts = self._facts[:count], self._facts[count:]
        self.durable = self.history.settled = revision
        self.hub.publish(facts)

    def _settle(self, waiting: Sequence[Done], failure: Exception | None) -> None:
        for done in waiting:
            done(failure)


class _Writer:
    """Writes groups, one at a time: in a thread of its own, or inline."""

    def __init__(self, log: Log, lock: Lock, threadsafe: Threadsafe | None) -> None:
        self._log, self._lock, self._threadsafe = log, lock, threadsafe
        self._actor: Any = None
        if threadsafe is not None:
            self._actor = _SyncActor.start(log, threadsafe)
            # The process-wide registry could stop it behind our back.
            pykka.ActorRegistry.unregister(self._actor)

    def write(
        self,
        data: bytes,
        first_revision: int,
        snapshot: tuple[int, Sequence[Stored]] | None,
        done: Callable[[OSError | None], None],
    ) -> None:
        """Have a group written; `done` is called on the loop."""
        if self._actor is not None:
            self._actor.tell((data, first_revision, snapshot, done))
        else:
            done(_write(self._log, data, first_revision, snapshot))

    def close(self, group: Sequence[Transaction]) -> None:
        """Wait for what is under way, write the last group, and let go. Raises: OSError."""
        if self._actor is not None:
            self._actor.stop(block=True)
        try:
            if group:
                self._log.append(encode(group), group[0].revision)
        finally:
            self._log.close()
            self._lock.release()


class _SyncActor(pykka.ThreadingActor):
    """The thread that waits for the disk, so that the loop does not."""

    use_daemon_thread = True

    def __init__(self, log: Log, threadsafe: Threadsafe) -> None:
        super().__init__()
        self._log, self._threadsafe = log, threadsafe

    def on_receive(self, message: Any) -> None:
        data, first_revision, snapshot, done = message
        error = _write(self._log, data, first_revision, snapshot)
        self._threadsafe(lambda: done(error))


def _write(
    log: Log, data: bytes, first_revision: int, snapshot: tuple[int, Sequence[Stored]] | None
) -> OSError | None:
    """Append a group, and a snapshot after it; return what went wrong with the group."""
    try:
        log.append(data, first_revision)
    except OSError as error:
        return error
    if snapshot is not None:
        try:
            log.snapshot(*snapshot)
        except OSError:
            return None  # The group is safe; the next snapshot will be tried in its time.
    return None
