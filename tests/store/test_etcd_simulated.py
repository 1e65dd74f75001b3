"""Stores over one etcd, and somebody with etcdctl, in a bad network: a seed decides what happens.

Everything that is written has a text of its own, so what became of it can be looked up: what was
acknowledged is in etcd once, at the revision that was told; what was superseded is nowhere.
"""

import asyncio
import json
import random
from dataclasses import dataclass, field
from typing import Any, NoReturn

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("aetcd", reason="no etcd client: pip install 'kubeloop[etcd]'")

from aetcd import rpc

from kubeloop.api.errors import Expired
from kubeloop.store.etcd.client import Compacted, Heard, Item, Unavailable
from kubeloop.store.etcd.groups import Group
from kubeloop.store.etcd.keys import Keys
from kubeloop.store.etcd.outcomes import StoreUnavailable, Superseded
from kubeloop.store.etcd.records import Commit, Record, Value
from kubeloop.store.facts import NO_CAUSE, Fact
from kubeloop.store.history import Write
from tests.servers.etcd_stores import EtcdStore, flush, fresh_id
from tests.servers.fake_etcd import FakeClient, FakeEtcd

KEYS = [f"/registry/pods/default/p{n}" for n in range(4)]
COUNTER = "/registry/configmaps/default/n"
BY_HAND = [*KEYS[:2], "/registry/pods/default/q"]


@dataclass
class Seen:
    """What one watcher was told, from where it last began."""

    store: EtcdStore
    by_hand: bool  # Then a deletion may be known, by listing, before it was adopted: no fact of it.
    facts: dict[int, list[Fact]] = field(default_factory=dict)
    cursor: Any = None

    def begin(self) -> None:
        self.cursor = self.store.hub.open(
            resources=["pods", "configmaps"], revision=self.store.durable, wake=self.take
        )
        self.last = self.store.durable

    def take(self) -> None:
        try:
            facts = self.cursor.take()
        except Expired:
            self.cursor.close()
            self.begin()
            return
        for fact in facts:
            assert fact.revision >= self.last, "in order"
            assert self.by_hand or fact.revision <= self.last + 1, "without a gap"
            self.last = fact.revision
            told = self.facts.setdefault(fact.revision, [])
            assert fact.key not in [one.key for one in told], "once"
            told.append(fact)


MOST_S = 600.0


@dataclass
class Run:
    """One simulation. fates: text -> what its writer was told: its revision, or the error."""

    seed: int
    trouble: float
    by_hand: bool
    fates: dict[str, int | Exception | None] = field(default_factory=dict)
    counted: list[tuple[int, int]] = field(default_factory=list)
    acknowledged: int = 0
    reads: int = 0

    def __post_init__(self) -> None:
        self.etcd, self.chance, self.keys = FakeEtcd(), random.Random(self.seed), Keys()
        self.alone = self.chance.random() < 0.3  # One writer for each store.
        self.clients: list[FakeClient] = []

    async def connect(self, patience_s: float) -> EtcdStore:
        client = FakeClient(self.etcd, random.Random(self.chance.random()), self.trouble)
        self.clients.append(client)
        while True:
            try:
                return await EtcdStore.over(
                    client, fresh_id=fresh_id(), patience_s=patience_s, compact_s=None
                )
            except TimeoutError:
                continue

    async def write(self, store: EtcdStore, name: str, times: int) -> None:
        """Write values with a text of their own; now and then count, several at a time, delete."""
        for n in range(times):
            await asyncio.sleep(self.chance.uniform(0, 0.3))
            writes = [Write(key, f"{name}-{n}-{key[-1]}".encode()) for key in
                      self.chance.sample(KEYS, self.chance.randint(1, 2))]  # fmt: skip
            if self.chance.random() < 0.2 and store.get(writes[0].key) is not None:
                writes[0] = Write(writes[0].key, None)
            number = 0
            if self.chance.random() < 0.5:
                found = store.get(COUNTER)
                number, expect = (1, 0) if found is None else (int(found.value) + 1, found.revision)
                writes.append(Write(COUNTER, str(number).encode(), expect))
            checks = {}
            if self.chance.random() < 0.3:
                other = next(key for key in KEYS if key not in [write.key for write in writes])
                stored = store.get(other)
                checks[other] = 0 if stored is None else stored.revision
            revision = store.commit(writes, NO_CAUSE, checks=checks)
            if self.alone and self.chance.random() < 0.3:
                await asyncio.sleep(self.chance.uniform(0, 0.3))  # It may be lost before the flush.
            error = await flush(store)
            if error is None:
                self.acknowledged = max(self.acknowledged, revision)
            for write in writes:
                if write.value is not None and write.key != COUNTER:
                    self.fates[write.value.decode()] = error or revision
            if error is None and number:
                self.counted.append((number, revision))

    async def read(self, store: EtcdStore, times: int) -> None:
        """Read what is newest: no less than what anybody was told before."""
        for _ in range(times):
            await asyncio.sleep(self.chance.uniform(0, 0.5))
            known = self.acknowledged
            try:
                await store.confirm()
            except StoreUnavailable:
                continue
            assert store.durable >= known
            self.reads += 1

    async def meddle(self, times: int) -> None:
        """Do what others might do to etcd."""
        for n in range(times):
            await asyncio.sleep(self.chance.uniform(0, 1))
            key = self.chance.choice(BY_HAND)
            outer, name = self.keys.outer(key), key.rpartition("/")[2]
            act = self.chance.random()
            if act < 0.2:
                self.etcd.compacted = max(
                    self.etcd.compacted, self.etcd.revision - self.chance.randint(0, 3)
                )
            elif not self.by_hand:
                self.etcd.write({b"/elsewhere": b"x"})
            elif act < 0.6:
                metadata = {"name": name, "namespace": "default", "resourceVersion": "1"}
                self.etcd.write({outer: json.dumps({"metadata": metadata, "n": n}).encode()})
            elif act < 0.7:
                self.etcd.write({outer: b"nonsense"})
            elif outer in self.etcd.kvs:
                self.etcd.write({outer: None})

    async def main(self) -> None:
        stores = [await self.connect(self.chance.choice([1.0, 30.0])) for _ in range(2)]
        seen = [Seen(store, self.by_hand) for store in stores]
        for one in seen:
            one.begin()
        async with asyncio.timeout(MOST_S):  # Virtual, too: whoever waits is told something.
            await asyncio.gather(
                *(self.write(stores[n % 2], f"w{n}", 12) for n in range(2 if self.alone else 4)),
                *(self.read(stores[n % 2], 10) for n in range(4)),
                self.meddle(15),
            )
        for client in self.clients:
            client.trouble = 0.0
        await asyncio.sleep(60)  # Virtual: everything under way arrives.
        assert self.reads > 0
        third = await self.connect(30.0)
        await asyncio.sleep(60)
        self.check([*stores, third], seen)
        for store in (*stores, third):
            assert store.failure is None
            await store.aclose()

    def check(self, stores: list[EtcdStore], seen: list[Seen]) -> None:
        kept = {}
        for outer, (value, _) in self.etcd.kvs.items():
            key, found = self.keys.inner(outer), Value.decode(value)
            if key is not None and found is not None:
                kept[key] = (key, found.value, found.revision)
        for store in stores:
            assert store.list("/registry/").items == [kept[key] for key in sorted(kept)]
            assert store.durable == store.revision == stores[0].durable
        facts = dict(seen[0].facts)
        for revision, told in seen[1].facts.items():
            mine = facts.setdefault(revision, told)
            one, other = ([f[:3] for f in facts if not (self.by_hand and f.value is None)]
                          for facts in (mine, told))  # fmt: skip
            assert one == other, "both are told the same"
        texts = {
            fact.value.decode(errors="replace"): revision
            for revision, told in facts.items() for fact in told if fact.value is not None
        }  # fmt: skip
        began = [min(one.facts) for one in seen if one.facts]
        whole = began and set(facts) == set(range(1, stores[0].durable + 1))
        for text, fate in self.fates.items():
            if isinstance(fate, int):
                assert texts.get(text, fate if not whole else None) == fate, "acknowledged"
            else:
                assert isinstance(fate, Superseded | StoreUnavailable), fate
                assert not isinstance(fate, Superseded) or text not in texts, "superseded"
        numbers = [
            int(fact.value or b"0")
            for _, told in sorted(facts.items()) for fact in told if fact.key == COUNTER
        ]  # fmt: skip
        assert len(dict(self.counted)) == len(self.counted), "no update is lost"
        if whole:
            assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("by_hand", [False, True])
@pytest.mark.parametrize("trouble", [0.0, 0.05, 0.3])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=10)
def test_whatever_the_network_does(simulate: Any, trouble: float, by_hand: bool, seed: int) -> None:
    simulate(Run(seed, trouble, by_hand).main, seed=seed, policy="random")


def test_what_is_lost_before_it_is_flushed_is_told_at_the_flush(simulate: Any) -> None:
    async def scenario() -> None:
        run = Run(1, 0.0, by_hand=False)
        first, second = [await run.connect(30.0) for _ in range(2)]
        second.commit([Write(KEYS[0], b"second", 0)], NO_CAUSE)
        first.commit([Write(KEYS[0], b"first", 0)], NO_CAUSE)
        assert await flush(first) is None
        await asyncio.sleep(1)
        assert second.get(KEYS[0]) == (KEYS[0], b"first", 1)
        second.commit([Write(KEYS[1], b"second", 0)], NO_CAUSE)  # Of the same turn, as it were.
        assert isinstance(await flush(second), Superseded)
        assert second.list("/registry/").items == [(KEYS[0], b"first", 1)]
        assert await flush(second) is None
        second.commit([Write(KEYS[1], b"again", 0)], NO_CAUSE)
        assert await flush(second) is None
        assert len(run.etcd.log) == 2
        for store in (first, second):
            await store.aclose()

    simulate(scenario)


def test_who_is_superseded_can_read_what_came_first_when_told(simulate: Any) -> None:
    async def scenario() -> None:
        run = Run(1, 0.0, by_hand=False)
        first, second = [await run.connect(30.0) for _ in range(2)]
        read: list[Any] = []

        def told(error: Exception | None) -> None:
            assert isinstance(error, Superseded)
            read.append(second.get(KEYS[0]))
            second.commit([Write(KEYS[0], b"third", 1)], NO_CAUSE)
            second.flush(read.append)

        first.commit([Write(KEYS[0], b"first", 0)], NO_CAUSE)
        assert await flush(first) is None
        second.commit([Write(KEYS[0], b"second", 0)], NO_CAUSE)
        second.flush(told)
        await asyncio.sleep(5)
        assert read == [(KEYS[0], b"first", 1), None]
        assert first.get(KEYS[0]) == (KEYS[0], b"third", 2)
        for store in (first, second):
            await store.aclose()

    simulate(scenario)


@pytest.mark.parametrize("then_a_group", [False, True])
def test_an_old_value_that_was_put_back_while_nobody_looked_is_a_new_commit(
    simulate: Any, then_a_group: bool
) -> None:
    async def scenario() -> None:
        run = Run(1, 0.0, by_hand=True)
        old = await run.connect(30.0)
        old.commit([Write(KEYS[0], b"old", 0)], NO_CAUSE)
        await flush(old)
        outer = run.keys.outer(KEYS[0])
        kept = run.etcd.kvs[outer][0]
        old.commit([Write(KEYS[0], b"new", 1)], NO_CAUSE)
        if then_a_group:
            old.commit([Write(KEYS[1], b"other", 0)], NO_CAUSE)
        await old.aclose()
        run.etcd.write({outer: kept})
        last = old.durable
        if then_a_group:  # By somebody who ended before it could adopt anything.
            last += 1
            commits = [Commit(last, [Write(KEYS[2], b"more")], NO_CAUSE, 0.0)]
            base = run.etcd.kvs[run.keys.sequence][1]
            group = Group(Record(b"w" * 16, 1, {}, commits), base, {})
            assert run.etcd.txn(group.request(run.keys)).succeeded
        store = await run.connect(30.0)
        assert store.get(KEYS[0]) == (KEYS[0], b"old", last + 1)
        await store.aclose()

    simulate(scenario)


class LateClient(FakeClient):
    """A client whose watch can be told that all is forgotten, and whose calls can be held up."""

    forget, go, go_write = False, True, True

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        while not self.go_write:
            await asyncio.sleep(0.1)
        return await super().txn(request)

    async def list(self, first: bytes, end: bytes) -> tuple[int, list[Item]]:
        found = await super().list(first, end)
        while not self.go:
            await asyncio.sleep(0.1)
        return found

    async def watch(self, first: bytes, end: bytes, after: int, heard: Heard) -> NoReturn:
        try:
            async with asyncio.timeout(1):
                await super().watch(first, end, after, heard)
        except TimeoutError:
            if self.forget:
                raise Compacted("all") from None
            raise Unavailable("it is time") from None


def test_a_listing_that_is_older_than_what_one_has_written_since_is_made_again(
    simulate: Any,
) -> None:
    async def scenario() -> None:
        run = Run(1, 0.0, by_hand=False)
        client = LateClient(run.etcd, random.Random(1), 0.0)
        store = await EtcdStore.over(client, fresh_id=fresh_id())
        client.forget, client.go = True, False
        await asyncio.sleep(5)
        store.commit([Write(KEYS[0], b"x", 0)], NO_CAUSE)
        assert await flush(store) is None
        client.forget, client.go = False, True
        await asyncio.sleep(5)
        assert store.get(KEYS[0]) == (KEYS[0], b"x", 1)
        other = await run.connect(30.0)
        other.commit([Write(KEYS[1], b"y", 0)], NO_CAUSE)
        assert await flush(other) is None
        await asyncio.sleep(5)
        assert store.get(KEYS[1]) == (KEYS[1], b"y", 2)
        for one in (store, other):
            await one.aclose()

    simulate(scenario)


def test_what_is_changed_again_while_it_is_adopted_is_adopted_as_it_is_then(simulate: Any) -> None:
    async def scenario() -> None:
        run = Run(1, 0.0, by_hand=True)
        client = LateClient(run.etcd, random.Random(1), 0.0)
        store = await EtcdStore.over(client, fresh_id=fresh_id())
        metadata = {"name": "p0", "namespace": "default"}
        outer = run.keys.outer(KEYS[0])
        client.go_write = False
        for n in range(2):
            run.etcd.write({outer: json.dumps({"metadata": metadata, "n": n}).encode()})
            await asyncio.sleep(0.5 * (1 - n))  # The first is being adopted when the second comes.
        client.go_write = True
        await asyncio.sleep(5)
        (found,) = store.list("/registry/").items
        assert msgpack.unpackb(found.value)["n"] == 1
        kept = Value.decode(run.etcd.kvs[outer][0])
        assert kept is not None
        assert (kept.value, kept.revision) == (found.value, found.revision)
        await store.aclose()

    simulate(scenario)
