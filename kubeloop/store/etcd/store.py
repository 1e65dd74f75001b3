"""etcd as the store: a history in memory that mirrors what etcd has, and follows it by one watch.

Reads come from the mirror. Commits are applied to it at once, as everywhere, and staged; `flush`
sends them as one transaction, a group. While it is under way further commits gather for the next.
etcd takes a group only if no other group came since the newest one the mirror has, and if every key
is as the mirror has it: so what was told from the mirror was right, or nothing was written. Then
the mirror goes back to what etcd has, and those who wait are told `Superseded`, once they can read
what came in between.

A group whose answer got lost is sent again: it cannot take effect twice, and whether it has is read
from the watch, which tells of every group, in order.

What somebody changes in etcd by other means has no place in that row of groups. Whoever sees it
first adopts it: writes it again as a commit, on condition that it is still so.
"""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from aetcd import rpc

from kubeloop.store.etcd.client import (
    PAUSE_S,
    Client,
    Compacted,
    Event,
    Full,
    Refused,
    Tls,
    Unavailable,
)
from kubeloop.store.etcd.groups import BYTES_MAX, OPS_MAX, Group, take_group
from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.listing import Listing, list_all, list_patiently
from kubeloop.store.etcd.mirror import Mirror
from kubeloop.store.etcd.newest import Newest
from kubeloop.store.etcd.outcomes import StoreUnavailable, Superseded
from kubeloop.store.etcd.records import Commit, Record, next_recent
from kubeloop.store.facts import Cause
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Done, Store, StoreFailed, StoreFull
from kubeloop.store.watch import Hub

__all__ = ["EtcdStore", "StoreUnavailable", "Superseded"]

PATIENCE_S: Final = 15.0
COMPACT_S: Final = 300.0

_NO_CHECKS: Final[Mapping[str, int]] = {}

logger = logging.getLogger("kubeloop.store.etcd")


class _Hub(Hub):
    """A hub that may have missed something."""

    def expire(self, revision: int) -> None:
        """Have everybody who watches told Expired: there is no telling what came before."""
        self.revision = revision
        idle: dict[Any, None] = {}
        for trail in self._trails.values():
            trail.lose(revision)
            idle.update(trail.idle)
        for cursor in idle:
            cursor.rest()
        for cursor in idle:
            cursor.wake()


class EtcdStore(Store):
    """A store whose commits are safe in etcd; other API servers may use the same. See `connect`.

    It lives on one event loop.
    """

    hub: _Hub

    def __init__(self, client: Client, keys: Keys, listing: Listing, writer: bytes,
                 retention: Retention | None, patience_s: float) -> None:  # fmt: skip
        super().__init__(listing.history(retention))
        self.hub = _Hub(self.history)
        self.hub.revision = self.durable
        self._client, self._mirror = client, Mirror(self.history, keys, listing)
        self._id, self._number = writer, 0
        self._patience_s = patience_s
        self._loop = asyncio.get_running_loop()
        self._commits: list[Commit] = []
        self._due: list[tuple[int, Done]] = []  # Who waits, and for which revision.
        self._flushed = self.durable  # Up to here commits may be sent.
        self._dropped: Exception | None = None  # Why commits are gone that nobody has flushed yet.
        self._superseded: list[Done] = []  # Who is to be told, once the mirror is up to date.
        self._group: Group | None = None
        mirror = self._mirror
        self._newest = Newest(client, mirror.keys.sequence, lambda: mirror.base, patience_s)
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def connect(
        cls,
        endpoints: Sequence[str],
        *,
        fresh_id: bytes,
        ca: bytes | None = None,
        cert: bytes | None = None,
        key: bytes | None = None,
        prefix: str = "/registry/",
        retention: Retention | None = None,
        patience_s: float = PATIENCE_S,
        compact_s: float | None = COMPACT_S,
    ) -> "EtcdStore":
        """Return a store over the etcd at some endpoints, "host:port" or "https://host:port".

        fresh_id:   16 random bytes: the id of this writer, never used again.
        ca, cert, key: PEM. With any of them, or an endpoint with "https", all is TLS.
        patience_s: how long etcd may fail to answer before a flush ends as StoreUnavailable.
        compact_s:  so much of the past etcd keeps at least; None: nobody here makes it forget.
        Raises: StoreUnavailable, StoreFailed.
        """
        secure = bool(ca or cert or key) or any(e.startswith("https://") for e in endpoints)
        client = Client(endpoints, Tls(ca=ca, cert=cert, key=key) if secure else None)
        try:
            return await cls.over(
                client, fresh_id=fresh_id, prefix=prefix, retention=retention,
                patience_s=patience_s, compact_s=compact_s,
            )  # fmt: skip
        except TimeoutError:
            raise StoreUnavailable(
                f"etcd at {', '.join(endpoints)} did not answer for {patience_s} s: does it run, "
                "are the endpoints right, do both sides use TLS or neither?"
            ) from None

    @classmethod
    async def over(
        cls,
        client: Client,
        *,
        fresh_id: bytes,
        prefix: str = "/registry/",
        retention: Retention | None = None,
        patience_s: float = PATIENCE_S,
        compact_s: float | None = COMPACT_S,
    ) -> "EtcdStore":
        """Return a store over a client, which belongs to it from now on. See `connect`.

        Raises: TimeoutError, StoreFailed; then the client is closed.
        """
        store: EtcdStore | None = None
        keys = Keys(prefix)
        try:
            async with asyncio.timeout(patience_s):
                listing = await list_patiently(client, keys)
                store = cls(client, keys, listing, fresh_id, retention, patience_s)
                await store._start(compact_s)
        except BaseException:
            if store is not None:
                store.close()
            await client.close()
            raise
        return store

    # What every store does.

    def commit(
        self,
        writes: Sequence[Write],
        cause: Cause,
        *,
        at: float = 0.0,
        checks: Mapping[str, int] = _NO_CHECKS,
    ) -> int:
        """Do all writes as one revision, or none, as `Store.commit`; it is in etcd after `flush`.

        Raises: CompareFailed, StoreFailed; StoreFull if it is more than etcd takes at a time.
        """
        if self.failure is not None:
            raise self.failure
        size = sum([len(write.value) for write in writes if write.value is not None])
        if len(writes) + len(checks) > OPS_MAX or size > BYTES_MAX:
            raise StoreFull(
                f"{len(writes)} writes of {size} bytes, {len(checks)} checks: etcd takes "
                f"{OPS_MAX} and {BYTES_MAX} bytes at once"
            )
        facts = self.history.commit(writes, cause, at=at, checks=checks)
        self._facts += facts
        self._commits.append(Commit(facts[0].revision, tuple(writes), cause, at, checks))
        return facts[0].revision

    def flush(self, done: Done) -> None:
        """Have everything committed so far written to etcd, publish it, then call `done`.

        done: None if all went well. Superseded, StoreFull: nothing was written, and it was taken
              back. StoreUnavailable, StoreFailed: whether it was written will be seen.
        """
        if self.failure is not None:
            done(self.failure)
        elif self._dropped is not None:
            reason, self._dropped = self._dropped, None
            self._drop_unflushed()
            self._tell([done], reason)
            self._go_on()
        elif self.history.revision == self.durable:
            done(None)
        else:
            self._flushed = self.history.revision
            self._due.append((self.history.revision, done))
            self._go_on()

    async def confirm(self) -> None:
        await self._newest.confirm()

    def close(self) -> None:
        """Ask etcd for nothing more; who waits is told StoreFailed. Harmless if it is closed."""
        self._fail(StoreFailed("the store is closed"))
        self._newest.close()
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Write what is staged, close, and wait for the connections to end."""
        written = self._loop.create_future()
        self.flush(written.set_result)
        await written
        self.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.close()

    # Groups on their way to etcd.

    def _go_on(self) -> None:
        """Do what is next, unless a group is under way."""
        self._newest.told()
        if self._group is not None or self.failure is not None:
            return
        if self._mirror.foreign:
            self._roll_back(Superseded())
            commit, compared = self._mirror.adoption()
            self._facts += self._mirror.apply(commit)
            self._send([commit], compared)
            return
        superseded, self._superseded = self._superseded, []
        self._settle(superseded, Superseded("somebody else wrote first: handle it again"))
        if self._group is None and self._due and self._commits:
            count = take_group(self._commits, self._flushed)
            commits, self._commits = self._commits[:count], self._commits[count:]
            self._send(commits, self._mirror.expected(commits))

    def _send(self, commits: Sequence[Commit], compared: Mapping[str, int]) -> None:
        self._number += 1
        recent = next_recent(self._mirror.recent, self._id, self._number)
        group = Group(Record(self._id, self._number, recent, commits), self._mirror.base, compared)
        group.timer = self._loop.call_later(self._patience_s, self._give_up, group)
        group.task = self._spawn(self._write_group(group), "etcd-write")
        self._group = group

    async def _write_group(self, group: Group) -> None:
        """Have etcd decide on a group."""
        request, pause_s = group.request(self._mirror.keys), PAUSE_S[0]
        while self._group is group:
            group.attempts += 1
            try:
                answer = await self._client.txn(request)
                if answer.succeeded:
                    self._won(group, answer.header.revision)
                else:
                    await self._failed(group, answer)
                return
            except Unavailable as error:
                logger.info("a write waits for etcd: %s", error)
            except Refused as error:
                self._refused(group, error)
                return
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S[1])

    def _won(self, group: Group, revision: int) -> None:
        """Hear that a group is in etcd, at a revision of etcd."""
        if self._group is not group:
            return
        group.end()
        self._group = None
        last = group.record.last
        self._mirror.recorded(group.record, revision)
        self._publish(last)
        told = [done for at, done in self._due if at <= last]
        self._due = [(at, done) for at, done in self._due if at > last]
        if self._due:
            self._go_on()  # etcd works while those who waited are told.
        self._settle(told, None)
        self._go_on()

    async def _failed(self, group: Group, answer: rpc.TxnResponse) -> None:
        """Find out why a compare failed, unless the watch will tell. Raises: Unavailable."""
        found = answer.responses[0].response_range.kvs
        base = found[0].mod_revision if found else 0
        if base < group.base:
            self._fail(StoreFailed(self._mirror.backwards()))
        if base != group.base:
            return  # By another group; or by this one, in an earlier attempt.
        answer = await self._client.txn(group.question(self._mirror.keys))
        if self._group is not group or not answer.succeeded:
            return
        for key, one in zip(group.compared, answer.responses, strict=True):
            kvs = one.response_range.kvs
            self._mirror.foreign.pop(key, None)
            mod, value = (kvs[0].mod_revision, kvs[0].value) if kvs else (0, None)
            if mod != self._mirror.mods.get(key, 0):
                self._mirror.changed(key, value, mod, answer.header.revision)
        self._lose(Superseded())
        self._go_on()

    def _refused(self, group: Group, error: Refused) -> None:
        if self._group is not group:
            return
        if isinstance(error, Full) and group.attempts == 1:
            self._lose(StoreFull(f"etcd is full: {error}; make room, and disarm its alarm"))
        else:
            self._lose(StoreUnavailable(f"etcd refuses to write: {error}"))
        self._go_on()

    def _give_up(self, group: Group) -> None:
        """Let nobody wait longer. Should the group be in etcd after all, the watch tells."""
        if self._group is group:
            waited = f"etcd did not answer for {self._patience_s} s"
            self._lose(StoreUnavailable(f"{waited}; whether it was written will be seen"))
            self._go_on()

    # Going back.

    def _lose(self, reason: Exception) -> None:
        """Hear that the group under way, if there is one, is not known to be in etcd."""
        if self._group is not None:
            self._group.end()
            self._group = None
        self._roll_back(reason)

    def _roll_back(self, reason: Exception) -> None:
        """Undo what is not in etcd; who waited for it is told why."""
        if self._commits and self._commits[-1].revision > self._flushed:
            self._dropped = reason
        waiting = [done for _, done in self._due]
        self._due, self._commits, self._facts = [], [], []
        self.history.rollback(self.durable)
        self._flushed = self.durable
        self._tell(waiting, reason)

    def _drop_unflushed(self) -> None:
        """Undo what was committed after other commits of the same flush were dropped."""
        kept = [commit for commit in self._commits if commit.revision <= self._flushed]
        if len(kept) < len(self._commits):
            before = self._commits[len(kept)].revision - 1
            self._commits = kept
            self._facts = [fact for fact in self._facts if fact.revision <= before]
            self.history.rollback(before)

    def _tell(self, waiting: Sequence[Done], reason: Exception) -> None:
        """Tell who waited that it came to nothing; of `Superseded` later, see `_go_on`."""
        if isinstance(reason, Superseded):
            self._superseded += waiting
        else:
            self._settle(waiting, reason)

    def _fail(self, error: StoreFailed) -> None:
        """Take no more writes."""
        self.failure = self.failure or error
        superseded, self._superseded = self._superseded, []
        self._settle(superseded, error)
        self._lose(error)

    # Following etcd.

    async def _start(self, compact_s: float | None) -> None:
        """Follow etcd, and adopt what was changed while nobody looked. Raises: StoreFailed."""
        self._spawn(self._follow(), "etcd-watch")
        if compact_s is not None:
            self._spawn(self._compact(compact_s), "etcd-compact")
        self._go_on()
        if self._group is not None:
            adopted = self._loop.create_future()
            self._superseded.append(lambda _: adopted.set_result(None))
            await adopted
        if self.failure is not None:
            raise self.failure

    async def _follow(self) -> None:
        """Keep the mirror up with etcd, for ever."""
        keys, pause_s, forgotten = self._mirror.keys, PAUSE_S[0], False
        while True:
            seen = self._mirror.seen
            try:
                while forgotten:
                    known = self._mirror.base
                    forgotten = not self._relisted(await list_all(self._client, keys), known)
                await self._client.watch(keys.first, keys.end, self._mirror.seen, self._heard)
            except Compacted as error:
                logger.warning("what came after %d must be listed: %s", self._mirror.seen, error)
                forgotten = True
            except (Unavailable, Refused) as error:
                logger.info("the watch of etcd begins again: %s", error)
                self._client.move_on()
                pause_s = PAUSE_S[0] if self._mirror.seen > seen else min(2 * pause_s, PAUSE_S[1])
                await asyncio.sleep(pause_s)

    def _heard(self, changes: list[tuple[int, list[Event]]]) -> None:
        """Hear what happened in etcd, oldest first. Raises: Compacted, StoreFailed."""
        mirror = self._mirror
        for revision, events in changes:
            told = {event.key: event.value for event in events}
            if mirror.keys.sequence not in told:
                for outer, value in told.items():
                    key = mirror.keys.inner(outer)
                    if key is not None:
                        mirror.changed(key, value, 0 if value is None else revision, revision)
            elif revision > mirror.base:
                self._heard_group(mirror.record(told), revision)
            mirror.seen = revision
        self._go_on()

    def _heard_group(self, record: Record, revision: int) -> None:
        """Hear of a group that was not known to be in etcd."""
        if self._group is not None and self._group.wrote(record):
            self._won(self._group, revision)
            return
        self._lose(Superseded())
        if record.first != self.durable + 1:
            raise Compacted(f"a group begins at {record.first}, not after {self.durable}")
        for commit in record.commits:
            self._facts += self._mirror.apply(commit)
        self._mirror.recorded(record, revision)
        self._publish(record.last)

    def _relisted(self, listing: Listing, known: int) -> bool:
        """Catch up although etcd has forgotten what happened; tell whether the listing will do.

        Whoever watches is told Expired if a group was missed.

        known: the revision of etcd of the newest group that was known before it was asked.
        Raises: StoreFailed.
        """
        mirror, group, due = self._mirror, self._group, self._due
        if listing.base < known:
            raise StoreFailed(mirror.backwards())
        if listing.base < mirror.base:
            return False  # Meanwhile a group of ours was found to be in etcd.
        if listing.base == mirror.base:
            mirror.compare(listing)  # A group may still be under way.
        else:
            last = 0
            if group is not None and listing.group_of(self._id) == group.record.number:
                last = group.record.last  # It is in etcd, if not as the newest.
            if group is not None:
                group.end()
                self._group = None
            self._due = []
            self._roll_back(Superseded())
            mirror.replace(listing)
            self.durable = listing.last
            self.hub.expire(listing.last)
            self._superseded += [done for at, done in due if at > last]
            self._settle([done for at, done in due if at <= last], None)
        self._go_on()
        return True

    # Tasks.

    async def _compact(self, compact_s: float) -> None:
        """Have etcd forget what is older than some seconds, for ever."""
        while True:
            seen = self._mirror.seen
            await asyncio.sleep(compact_s)
            with suppress(Unavailable, Refused, Compacted):  # Another does it; or the next time.
                await self._client.compact(seen)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        task = self._loop.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.error("the store ends", exc_info=error)
            failure = error if isinstance(error, StoreFailed) else StoreFailed(str(error))
            self._fail(failure)
