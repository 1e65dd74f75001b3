"""What the store costs.

Sketch. A commit is a dict look-up, a sorted insertion or replacement, a fact, and a list append:
about 3 µs, whatever the number of keys. Durable, it costs a write and an fdatasync: what `bare`
measures of this disk; packing and a checksum of 3 kB add 5 µs, two hops between threads add 30 µs.
A group of 64 shares one sync, so each costs a 64th of it and its own 10 µs. A list of 10,000 copies
that many pointers: 0.3 ms. A fact costs each idle watcher a call and a list slice: 0.5 µs; of 5,000
watchers by node, one is told, and the others cost nothing. Recovery reads 3 kB an event at
1 GB/s, checks it at more and unpacks it: 5 µs an event.
"""

import os
import queue
from collections.abc import Callable
from pathlib import Path

import msgpack
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.store import store as store_module
from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, key_of, prefix_of
from kubeloop.store.history import Write
from kubeloop.store.store import Store

GROUP = 64


def pod(number: int, node: str = "") -> bytes:
    """Return about 3 kB, like a packed pod."""
    spec = {"nodeName": node, "padding": os.urandom(2900)}
    packed: bytes = msgpack.packb({"metadata": {"name": f"pod-{number}"}, "spec": spec})
    return packed


def filled(store: Store, keys: int) -> Store:
    value = pod(0)
    for number in range(keys):
        store.commit([Write(key_of("pods", "default", f"pod-{number:06}"), value)], NO_CAUSE)
    store.flush(lambda _: None)
    return store


@pytest.mark.parametrize("keys", [100, 10_000, 100_000])
def test_commit(benchmark: BenchmarkFixture, keys: int) -> None:
    store = filled(Store.memory(), keys)
    write = Write(key_of("pods", "default", "pod-000007"), pod(7))

    def commit() -> None:
        store.commit([write], NO_CAUSE)
        store.flush(lambda _: None)

    benchmark(commit)


@pytest.mark.parametrize("keys", [10_000, 150_000])
def test_pause_by_compaction(
    benchmark: BenchmarkFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    keys: int,
) -> None:
    """What the loop waits for a commit, while the history forgets and snapshots are written.

    The greatest is what counts: below 5 ms, however many keys there are. Snapshots follow each
    other without a rest.
    """
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    monkeypatch.setattr(store_module, "SNAPSHOT_BYTES", 1)
    store = Store.open(
        RealDisk(), str(tmp_path), threadsafe=calls.put, fresh_id=bytes(16), sync="never"
    )
    value, told = os.urandom(600), list[Exception | None]()
    writes = [[Write(key_of("pods", "default", f"p{n:06}"), value)] for n in range(keys)]
    for number, write in enumerate(writes):
        store.commit(write, NO_CAUSE)
        if number % 100 == 99:
            store.flush(told.append)
            calls.get()()

    def setup() -> None:
        while store._busy:
            calls.get()()
        monkeypatch.setattr(store, "_log_bytes", 1 << 40)

    def commit() -> None:
        store.commit(writes[len(told) % keys], NO_CAUSE)
        store.flush(told.append)

    benchmark.pedantic(commit, setup=setup, rounds=5000)
    benchmark.extra_info["worst_ms"] = round(benchmark.stats["max"] * 1000, 2)
    store.close()


def test_durable_bare(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """The yardstick: what the disk takes for one value, written and synced."""
    handle = os.open(tmp_path / "bare", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    value = pod(0)

    def write() -> None:
        os.write(handle, value)
        os.fdatasync(handle)

    benchmark.pedantic(write, rounds=1000)
    os.close(handle)


@pytest.mark.parametrize("writers", [1, GROUP])
def test_durable(benchmark: BenchmarkFixture, tmp_path: Path, writers: int) -> None:
    """One round: each of the writers commits a value and waits until it is durable."""
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=calls.put, fresh_id=bytes(16))
    values = [pod(number) for number in range(writers)]

    def commit_all() -> None:
        told: list[Exception | None] = []
        for number, value in enumerate(values):
            store.commit([Write(key_of("pods", "default", f"pod-{number}"), value)], NO_CAUSE)
        for _ in values:
            store.flush(told.append)
        while len(told) < writers:
            calls.get()()

    benchmark.pedantic(commit_all, rounds=1000 if writers == 1 else 100, warmup_rounds=5)
    benchmark.extra_info["writes a second"] = round(writers / benchmark.stats["median"])
    store.close()


def test_durable_inline(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
    write = Write(key_of("pods", "default", "pod-7"), pod(7))

    def commit() -> None:
        store.commit([write], NO_CAUSE)
        store.flush(lambda _: None)

    benchmark.pedantic(commit, rounds=1000)
    store.close()


@pytest.mark.parametrize("limit", [0, 500])
@pytest.mark.parametrize("past", [False, True], ids=["now", "past"])
def test_list_10000(benchmark: BenchmarkFixture, limit: int, past: bool) -> None:
    """`past`: a list at a revision after which 100 of the keys changed."""
    store = filled(Store.memory(), 10_000)
    revision = store.revision
    if past:
        filled(store, 100)
    prefix = prefix_of("pods")
    page = benchmark(store.list, prefix, revision=revision, limit=limit)
    assert len(page.items) + page.remaining == 10_000


@pytest.mark.parametrize("watchers", [1, 100, 5000])
def test_fan_out(benchmark: BenchmarkFixture, watchers: int) -> None:
    """One fact, told to every watcher of a resource, each of which takes it."""
    store = Store.memory()
    awake: list[int] = []
    cursors = [
        store.hub.open(resources=["pods"], revision=0, wake=lambda n=n: awake.append(n))
        for n in range(watchers)
    ]
    write = Write(key_of("pods", "default", "pod-7"), pod(7))

    def tell() -> None:
        store.commit([write], NO_CAUSE)
        store.flush(lambda _: None)
        assert len(awake) == watchers
        for number in awake:
            cursors[number].take()
        awake.clear()

    benchmark(tell)


@pytest.mark.parametrize("watchers", [1, 100, 5000])
def test_fan_out_by_node(benchmark: BenchmarkFixture, watchers: int) -> None:
    """One fact of a pod, told to the one of the watchers whose node it is on."""
    store = Store.memory()
    awake: list[int] = []
    cursors = [
        store.hub.open(
            resources=["pods"], revision=0, node=f"node-{n}", wake=lambda n=n: awake.append(n)
        )
        for n in range(watchers)
    ]
    write = Write(key_of("pods", "default", "pod-7"), pod(7, "node-0"))

    def tell() -> None:
        store.commit([write], NO_CAUSE)
        store.flush(lambda _: None)
        assert [len(cursors[number].take()) for number in awake] == [1]
        awake.clear()

    benchmark(tell)


@pytest.mark.parametrize("watchers", [1, 100, 5000])
def test_fan_out_by_label(benchmark: BenchmarkFixture, watchers: int) -> None:
    """One fact of a pod, told to the one of the watchers whose label it has."""
    store = Store.memory()
    awake: list[int] = []
    cursors = [
        store.hub.open(
            resources=["pods"],
            revision=0,
            labels=("app", (f"a{n}",)),
            wake=lambda n=n: awake.append(n),
        )
        for n in range(watchers)
    ]
    obj = {"metadata": {"labels": {"app": "a0"}}, "spec": {"padding": os.urandom(2900)}}
    write = Write(key_of("pods", "default", "pod-7"), msgpack.packb(obj))

    def tell() -> None:
        store.commit([write], NO_CAUSE)
        store.flush(lambda _: None)
        assert [len(cursors[number].take()) for number in awake] == [1]
        awake.clear()

    benchmark(tell)


def test_recovery_of_10000_events(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16), sync="never")
    for number in range(10_000):
        write = Write(key_of("pods", "default", f"pod-{number % 1000}"), pod(number))
        store.commit([write], NO_CAUSE)
        if number % 10 == 9:
            store.flush(lambda _: None)
    store.close()

    def reopen() -> None:
        again = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
        assert again.revision == 10_000
        again.close()

    benchmark.pedantic(reopen, rounds=5)


@pytest.mark.parametrize("routes", [1, 2])
def test_fan_out_of_a_group(benchmark: BenchmarkFixture, routes: int) -> None:
    """GROUP facts that became durable together, told to 5,000 watchers of one or two resources."""
    store = Store.memory()
    awake: list[int] = []
    resources = ["pods", "nodes"][:routes]
    cursors = [
        store.hub.open(resources=resources, revision=0, wake=lambda n=n: awake.append(n))
        for n in range(5000)
    ]
    value = pod(7)
    writes = [[Write(key_of("pods", "default", f"pod-{n}"), value)] for n in range(GROUP)]

    def tell() -> None:
        for write in writes:
            store.commit(write, NO_CAUSE)
        store.flush(lambda _: None)
        assert len(awake) == 5000
        for number in awake:
            cursors[number].take()
        awake.clear()

    benchmark(tell)
    each_us = benchmark.stats["median"] / (GROUP * 5000) * 1e6
    benchmark.extra_info["a delivery [µs]"] = round(each_us, 3)
