"""What tests do with stores over etcd: write and wait, listen, compare."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kubeloop.store.facts import NO_CAUSE, Cause, Fact
from kubeloop.store.history import CompareFailed, Write

pytest.importorskip("aetcd", reason="no etcd client: pip install 'kubeloop[etcd]'")

from kubeloop.store.etcd.store import EtcdStore, Superseded

__all__ = ["COUNTER", "EtcdStore", "Listener", "Superseded", "caught_up", "count_up", "flush",
           "fresh_id", "put", "stores"]  # fmt: skip

WAIT_S = 30.0
COUNTER = "/registry/configmaps/default/counter"


class Ids:
    """Ids of writers, different from each other."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self) -> bytes:
        self._count += 1
        return self._count.to_bytes(16, "big")


fresh_id = Ids()


@asynccontextmanager
async def stores(
    endpoints: Sequence[str], prefix: str, count: int = 1, **options: Any
) -> AsyncIterator[list[EtcdStore]]:
    """Connect some stores, close them in the end."""
    opened: list[EtcdStore] = []
    try:
        while len(opened) < count:
            store = await EtcdStore.connect(
                endpoints, fresh_id=fresh_id(), prefix=prefix, **options
            )
            opened.append(store)
        yield opened
    finally:
        for store in opened:
            store.close()
            await store.aclose()


async def flush(store: EtcdStore) -> Exception | None:
    """Flush, and return what `done` is told."""
    told: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
    store.flush(told.set_result)
    return await told


async def put(store: EtcdStore, *writes: Write, cause: Cause = NO_CAUSE) -> int:
    """Commit until nobody else is first; return the revision."""
    while True:
        revision = store.commit(writes, cause)
        error = await flush(store)
        if error is None:
            return revision
        if not isinstance(error, Superseded):
            raise error


async def count_up(store: EtcdStore, key: str = COUNTER) -> tuple[int, int]:
    """Add one to a number, by compare-and-set; return its value and revision."""
    while True:
        found = store.get(key)
        number, expect = (0, 0) if found is None else (int(found.value), found.revision)
        try:
            revision = store.commit([Write(key, b"%d" % (number + 1), expect)], NO_CAUSE)
        except CompareFailed:
            continue
        error = await flush(store)
        if error is None:
            return number + 1, revision
        if not isinstance(error, Superseded):
            raise error


async def caught_up(store: EtcdStore, revision: int) -> None:
    """Wait until a store has published a revision."""
    bell = asyncio.Event()
    resources = ["namespaces", "pods", "configmaps", "events", "nodes"]
    async with asyncio.timeout(WAIT_S):
        while store.durable < revision:
            cursor = store.hub.open(resources=resources, revision=store.hub.revision, wake=bell.set)
            await bell.wait()
            cursor.close()
            bell.clear()


class Listener:
    """Takes every fact about some resources, as a watcher does, from a revision on."""

    def __init__(self, store: EtcdStore, resources: Sequence[str] = ("pods", "configmaps")) -> None:
        self.facts: list[Fact] = []
        self._cursor = store.hub.open(resources=resources, revision=store.durable, wake=self._take)

    def _take(self) -> None:
        self.facts += self._cursor.take()

    def told(self) -> list[tuple[int, str, bytes | None, bytes | None, int]]:
        """Return what was told of each fact."""
        return [(f.revision, f.key, f.value, f.prev, f.prev_revision) for f in self.facts]

    def check(self) -> None:
        """Each revision came once, in order, none was left out, each goes on from its past."""
        assert [fact.revision for fact in self.facts] == list(
            range(self.facts[0].revision, self.facts[0].revision + len(self.facts))
        )
        newest: dict[str, Fact] = {}
        for fact in self.facts:
            before = newest.get(fact.key)
            if before is not None:
                past = 0 if before.value is None else before.revision
                assert (fact.prev, fact.prev_revision) == (before.value, past)
            newest[fact.key] = fact
