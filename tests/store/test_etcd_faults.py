"""Three members of etcd, of which one is lost: what was acknowledged is there, once, and writes go
on."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest

from kubeloop.store.etcd.outcomes import StoreUnavailable
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.history import CompareFailed, Write
from tests.servers.etcd import Etcd, NoEtcd, running_etcd
from tests.servers.etcd_stores import (
    EtcdStore,
    Listener,
    Superseded,
    caught_up,
    flush,
    put,
    stores,
)

# Members notice soon that one is missing.
HASTY = ("--heartbeat-interval", "50", "--election-timeout", "300")
WRITERS = 6
prefixes = count(1)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    try:
        with running_etcd(tmp_path_factory.mktemp("etcd"), members=3, extra=HASTY) as etcd:
            yield etcd
    except NoEtcd as error:
        pytest.skip(str(error))


@dataclass
class Load:
    """Writers that count up a number each, by compare-and-set, on several stores.

    acknowledged: (key, number, revision) of each;  unknown: how often nobody knew.
    """

    stores: list[EtcdStore]
    acknowledged: list[tuple[str, int, int]] = field(default_factory=list)
    unknown: int = 0
    stopped: bool = False
    bell: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def write(self, number: int) -> None:
        """Count up until it is enough."""
        store, key = self.stores[number % len(self.stores)], f"/registry/pods/default/w{number}"
        while not self.stopped:
            found = store.get(key)
            value, expect = (1, 0) if found is None else (int(found.value) + 1, found.revision)
            try:
                revision = store.commit([Write(key, str(value).encode(), expect)], NO_CAUSE)
            except CompareFailed:
                raise AssertionError(f"nobody else writes {key}") from None
            error = await flush(store)
            if error is None:
                self.acknowledged.append((key, value, revision))
                async with self.bell:
                    self.bell.notify_all()
            else:
                assert isinstance(error, Superseded | StoreUnavailable), error
                self.unknown += isinstance(error, StoreUnavailable)

    async def more(self, enough: int = 7) -> None:
        """Wait until every writer was told of so many more writes."""
        goal = self.counts()
        goal.update(dict.fromkeys(range(WRITERS), enough))
        async with asyncio.timeout(30), self.bell:
            await self.bell.wait_for(lambda: self.counts() >= goal)

    def counts(self) -> "Counter[int]":
        """Return how many writes each writer was told of."""
        return Counter(int(key.rpartition("w")[2]) for key, _, _ in self.acknowledged)


async def under_load(etcd: Etcd, fault: Callable[[], None], repair: Callable[[], None]) -> Load:
    """Lose a member under load, bring it back, and check what was promised."""
    loop = asyncio.get_running_loop()
    async with stores(etcd.endpoints, f"/fault-{next(prefixes)}/registry/", 2) as pair:
        load, listeners = Load(pair), [Listener(store) for store in pair]
        writers = [asyncio.create_task(load.write(number)) for number in range(WRITERS)]
        await load.more()
        await loop.run_in_executor(None, fault)
        await load.more()
        await loop.run_in_executor(None, repair)
        await load.more()
        load.stopped = True
        await asyncio.wait_for(asyncio.gather(*writers), 30)
        await check(load, listeners)
        async with stores(etcd.endpoints, pair[0]._mirror.keys.outer("/registry/").decode()) as new:
            assert new[0].list("/registry/").items == pair[0].list("/registry/").items
    return load


async def check(load: Load, listeners: list[Listener]) -> None:
    """What was acknowledged happened, once; both stores tell the same."""
    last = max(store.durable for store in load.stores)
    for store, listener in zip(load.stores, listeners, strict=True):
        await caught_up(store, last)
        listener.check()
        assert listener.told() == listeners[0].told()
    happened = [(f.key, int(f.value or b""), f.revision) for f in listeners[0].facts]
    assert set(load.acknowledged) <= set(happened)
    assert len(set(load.acknowledged)) == len(load.acknowledged)
    assert len(happened) - len(load.acknowledged) <= load.unknown
    numbers: dict[str, int] = {}
    for key, number, _ in happened:
        assert number == numbers.get(key, 0) + 1, "counted once each time"
        numbers[key] = number


async def test_the_leader_is_killed(etcd: Etcd) -> None:
    leader = etcd.leader()
    load = await under_load(etcd, lambda: etcd.kill(leader), lambda: etcd.restart(leader))
    assert load.unknown == 0


async def test_the_leader_falls_silent(etcd: Etcd) -> None:
    leader = etcd.leader()
    load = await under_load(etcd, lambda: etcd.pause(leader), lambda: etcd.resume(leader))
    assert load.unknown == 0


async def test_the_member_one_talks_to_falls_silent(etcd: Etcd) -> None:
    if etcd.leader() == 0:
        etcd.ctl("move-leader", etcd.member_id(1))
    load = await under_load(etcd, lambda: etcd.pause(0), lambda: etcd.resume(0))
    assert load.unknown == 0


async def test_without_a_majority_nothing_is_acknowledged_until_it_is_back(etcd: Etcd) -> None:
    prefix = f"/fault-{next(prefixes)}/registry/"
    async with stores(etcd.endpoints, prefix, patience_s=0.5) as (store,):
        await put(store, Write("/registry/pods/default/web", b"one"))
        listener = Listener(store)
        etcd.pause(1)
        etcd.pause(2)
        try:
            store.commit([Write("/registry/pods/default/web", b"two", 1)], NO_CAUSE)
            assert isinstance(await flush(store), StoreUnavailable)
            assert store.get("/registry/pods/default/web", 1) is not None
        finally:
            etcd.resume(1)
            etcd.resume(2)
        async with asyncio.timeout(20):
            while isinstance(error := await flush_one(store), StoreUnavailable | Superseded):
                pass
        assert error is None
        listener.check()


async def flush_one(store: EtcdStore) -> Exception | None:
    store.commit([Write("/registry/pods/default/web", b"three")], NO_CAUSE)
    return await flush(store)
