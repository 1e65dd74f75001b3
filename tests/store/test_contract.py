"""One contract, every store: in memory, in a directory, in etcd.

A client does at random what clients do, beside a model of plain dictionaries. Whatever the store is
made of, it answers the same.
"""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kubeloop.api.errors import Expired
from kubeloop.sim.disk import MemoryDisk
from kubeloop.store.disk import Disk, RealDisk
from kubeloop.store.facts import Cause, Fact, key_of, prefix_of
from kubeloop.store.history import CompareFailed, Retention, Write
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor
from tests.servers.etcd import Etcd, NoEtcd, running_etcd

KINDS = ("memory", "simulated disk", "real disk", "etcd")
KEYS = [key_of("pods", namespace, name) for namespace in "ab" for name in "xyz"]
BY = Cause("tester", "m1", 0, "system:admin")
RETENTION = Retention(revisions=20)
State = dict[str, tuple[bytes, int]]
prefixes = itertools.count()

Opener = Callable[[], Awaitable[Store]]
"""Opens the store, or opens it again: what was closed in order is there."""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    try:
        with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
            yield etcd
    except NoEtcd as error:
        pytest.skip(str(error))


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    if request.param == "memory":
        memory = Store.memory(retention=RETENTION)

        async def open_memory() -> Store:
            return memory

        return open_memory
    if request.param == "etcd":
        return etcd_opener(request.getfixturevalue("etcd"))
    disk: Disk = MemoryDisk() if request.param == "simulated disk" else RealDisk()

    async def open_directory() -> Store:
        loop = asyncio.get_running_loop()
        return Store.open(
            disk,
            str(tmp_path),
            threadsafe=None if isinstance(disk, MemoryDisk) else loop.call_soon_threadsafe,
            fresh_id=bytes(16),
            retention=RETENTION,
        )

    return open_directory


def etcd_opener(etcd: Etcd) -> Opener:
    from tests.servers.etcd_stores import EtcdStore, fresh_id

    prefix = f"/contract-{next(prefixes)}/registry/"

    async def open_etcd() -> Store:
        return await EtcdStore.connect(
            etcd.endpoints, fresh_id=fresh_id(), prefix=prefix, retention=RETENTION
        )

    return open_etcd


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Store]:
    store = await opener()
    try:
        yield store
    finally:
        await store.aclose()


async def flushed(store: Store) -> None:
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    store.flush(told.set_result)
    assert await asyncio.wait_for(told, 30) is None


@dataclass
class Watcher:
    """A client of the hub, and what it believes."""

    cursor: Cursor
    state: State
    facts: list[Fact] = field(default_factory=list)

    def catch_up(self) -> None:
        while facts := self.cursor.take(3):
            for fact in facts:
                assert fact.revision >= self.facts[-1].revision if self.facts else True
                self.facts.append(fact)
                self.state.pop(fact.key, None)
                if fact.value is not None:
                    self.state[fact.key] = fact.value, fact.revision


class Client:
    """Does things at random, and knows what must come of them."""

    def __init__(self, store: Store, past: dict[int, State], chance: random.Random) -> None:
        self.store, self.past, self.chance = store, past, chance
        self.durable = store.revision
        self.watchers: list[Watcher] = []

    @property
    def state(self) -> State:
        return self.past[self.store.revision]

    def commit(self) -> None:
        state, writes = dict(self.state), []
        for key in self.chance.sample(KEYS, self.chance.randint(1, 3)):
            found = state.get(key, (b"", 0))[1]
            expect = self.chance.choice((None, found))
            value = None if found and self.chance.random() < 0.3 else self.chance.randbytes(9)
            writes.append(Write(key, value, expect))
            state.pop(key, None)
            if value is not None:
                state[key] = value, self.store.revision + 1
        written = {write.key for write in writes}
        checks = {key: self.state.get(key, (b"", 0))[1] for key in KEYS if key not in written}
        revision = self.store.commit(writes, BY, at=float(self.store.revision), checks=checks)
        assert revision == max(self.past) + 1
        self.past[revision] = state

    def refuse(self) -> None:
        key = self.chance.choice(KEYS)
        wrong = self.state.get(key, (b"", 0))[1] + self.chance.choice((1, 5))
        writes = [Write(KEYS[0], b"never"), Write(key, b"never", wrong)][key == KEYS[0] :]
        with pytest.raises(CompareFailed):
            self.store.commit(writes, BY)
        with pytest.raises(CompareFailed):
            self.store.commit([Write("/registry/nodes/n", b"never")], BY, checks={key: wrong})

    async def flush(self) -> None:
        await flushed(self.store)
        self.durable = self.store.revision
        assert self.store.durable == self.durable

    def watch(self) -> None:
        back = self.chance.randint(0, 3)
        revision = max(self.store.history.floor, self.store.durable - back)
        cursor = self.store.hub.open(resources=["pods"], revision=revision, wake=lambda: None)
        self.watchers.append(Watcher(cursor, dict(self.past[revision])))

    def catch_up(self) -> None:
        if not self.watchers:
            return
        watcher = self.chance.choice(self.watchers)
        try:
            watcher.catch_up()
        except Expired:
            assert watcher.cursor.revision < self.store.history.floor
            self.watchers.remove(watcher)
        else:
            assert watcher.state == self.past[self.durable], "all that is durable, and no more"

    def look_back(self) -> None:
        revision = max(0, self.store.revision - self.chance.randint(0, 25))
        prefix = prefix_of("pods", self.chance.choice("ab"))
        if revision < self.store.history.floor:
            with pytest.raises(Expired):
                self.store.list(prefix, revision=revision)
            return
        past = {k: v for k, v in self.past[revision].items() if k.startswith(prefix)}
        page = self.store.list(prefix, revision=revision, limit=2)
        assert [(i.key, i.value, i.revision) for i in page.items] == [
            (key, *past[key]) for key in sorted(past)[:2]
        ]
        assert page.remaining == max(0, len(past) - 2)
        fork = self.store.fork(revision)
        fork.commit([Write(KEYS[0], b"fork")], BY)
        assert state_of(fork) == {**self.past[revision], KEYS[0]: (b"fork", revision + 1)}


def state_of(store: Store) -> State:
    return {item.key: (item.value, item.revision) for item in store.list(prefix_of("pods")).items}


@pytest.mark.parametrize("seed", range(5))
async def test_a_store_is_what_its_contract_says(opener: Opener, seed: int) -> None:
    chance = random.Random(seed)
    past: dict[int, State] = {0: {}}
    for _ in range(3):
        async with opened(opener) as store:
            assert (store.revision, state_of(store)) == (max(past), past[max(past)]), "all is there"
            client = Client(store, past, chance)
            steps: list[Callable[[], Any]] = [
                client.commit, client.commit, client.refuse, client.flush, client.watch,
                client.catch_up, client.look_back,
            ]  # fmt: skip
            for _ in range(60):
                done = chance.choice(steps)()
                if done is not None:
                    await done
                assert state_of(store) == client.state
            await client.flush()
            client.catch_up()


async def test_leases_end_and_are_prolonged(opener: Opener) -> None:
    a, b, c = KEYS[:3]
    async with opened(opener) as store:
        store.commit([Write(a, b"1", expires=10.0), Write(b, b"1", expires=20.0)], BY, at=1.0)
        await flushed(store)
        store.commit([Write(c, b"1", expires=5.0)], BY, at=2.0)
        store.commit([Write(a, b"2", expires=30.0)], BY, at=3.0)
        await flushed(store)
        assert (store.next_expiry(), list(store.due(4.9)), list(store.due(10.0))) == (5.0, [], [c])
    async with opened(opener) as store:
        assert sorted(store.due(25.0)) == [b, c], "they survive with what they belong to"
        store.commit([Write(key, None) for key in store.due(25.0)], BY, at=25.0)
        await flushed(store)
        assert list(store.due(25.0)) == []
        assert list(store.due(30.0)) == [a]


async def test_the_cause_and_the_time_of_a_commit_are_kept(opener: Opener) -> None:
    async with opened(opener) as store:
        revision = store.commit([Write(KEYS[0], b"x"), Write(KEYS[1], b"y")], BY, at=12.5)
        await flushed(store)
    async with opened(opener) as store:
        facts = store.history.facts_at(revision) if store.history.floor < revision else ()
        told = [(fact.key, fact.value, fact.cause, fact.at) for fact in facts]
        both = [(KEYS[0], b"x", BY, 12.5), (KEYS[1], b"y", BY, 12.5)]
        assert told in (both, []), "or it is beyond the floor: another process begins there"


async def test_a_watcher_from_before_the_floor_is_told_so_and_one_at_it_is_not(
    opener: Opener,
) -> None:
    async with opened(opener) as store:
        for number in range(40):
            store.commit([Write(KEYS[0], b"%d" % number)], BY)
            await flushed(store)
        floor = store.history.floor
        assert floor == store.revision - 20
        cursor = store.hub.open(resources=["pods"], revision=floor, wake=lambda: None)
        assert [fact.revision for fact in cursor.take()] == list(range(floor + 1, floor + 21))
        with pytest.raises(Expired):
            store.hub.open(resources=["pods"], revision=floor - 1, wake=lambda: None)
        store.compact(floor + 7)
        with pytest.raises(Expired):
            store.get(KEYS[0], floor + 6)
        assert store.get(KEYS[0], floor + 7) is not None
