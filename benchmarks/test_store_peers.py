"""The store beside a real etcd and beside SQLite, in one run, on one machine, with the same values.

Each group of rows is a table; the ratios stand in a table at the end, and in `extra_info`.
kubeloop and SQLite are libraries here and etcd is a server: its clients cost it a trip over the
loopback, as they do in a cluster. Everything that is called durable is synced with fdatasync or
fsync before it is acknowledged: SQLite with journal_mode=WAL and synchronous=FULL.

etcd is the bottleneck, not its client: that sends requests that are ready as bytes (etcd_wire.py),
60 µs of a core for a put; two processes of 32 clients each, the row "etcd, 2 processes", put as
much as one of 64, give or take what the machine's noise is.

Sketch. One client: a put is 30 µs of event loop and threads, 30 µs of tree, packing and publishing,
and the disk's write and sync, 150 µs; SQLite writes its pages, 8 KiB; etcd adds a trip over the
loopback, raft's own turn, and several wake-ups. Target: twice etcd.
64 clients: kubeloop's share a sync, so 30 µs of Python each; SQLite's, each alone, do not, and
those that are grouped do. Target: five times etcd. Reached: about three. On a quiet machine etcd
takes 70 µs a put, so the target is 14 µs; the loop alone takes 19 µs: clients 5, the tree and its
facts 8, publishing, waking and packing 6, and the disk's thread 6 more, of which a part is waited
for, as groups take turns. Without a disk it would be 10 µs.
A list copies 10,000 pointers out of a tree: 0.5 ms; etcd encodes and sends 30 MB.
Recovery reads 3 kB an event at 1 GB/s, checks and unpacks it: 6 µs an event. Target: a million in
10 s.
A watcher costs a call, and a slice of a list: 3 µs, shared by what a flush brought; etcd encodes
and sends 3 kB for each. Target: ten times etcd with 64 puts a flush.
A fork, and a page of the past, cost as much with 100,000 objects as with 100: a tree is kept for
every revision.
"""

import asyncio
import itertools
import os
import queue
import shutil
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from conftest import Beside
from etcd_wire import Connection, connect
from pytest_benchmark.fixture import BenchmarkFixture
from store_peers import (
    CONNECTIONS,
    GROUP,
    KEYS_EACH,
    PODS,
    SELECT,
    Etcd,
    EtcdOfProcesses,
    EtcdWatchers,
    Kubeloop,
    Peer,
    Sqlite,
    SqliteGrouped,
    check,
    etcd_answers,
    etcd_puts,
    fill,
    key,
    sqlite_fill,
    sqlite_open,
)
from test_store import pod

from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.history import Write
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor

LISTED: Final = 10_000
RECOVERED: Final = 100_000
FILLERS: Final = 250  # Clients that fill an etcd: they share more of its syncs than 64.
FAN_OUTS: Final = [(watchers, puts) for puts in (1, GROUP) for watchers in (1, 100, 1000, 5000)]
DELIVERIES_MAX: Final = 600_000  # etcd needs seconds for so many.
PEERS: Final[dict[str, Callable[[Path], Peer]]] = {
    "kubeloop": Kubeloop,
    "etcd": Etcd,
    "etcd, 2 processes": EtcdOfProcesses,
    "SQLite": Sqlite,
    "SQLite, grouped": SqliteGrouped,
}
ALONE: Final = [name for name in PEERS if "," not in name]


@pytest.fixture
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    found = PEERS[request.param](tmp_path / "peer")
    yield found
    found.close()


def beside_each_other(names: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("peer", names, ids=names, indirect=True)


def row(request: pytest.FixtureRequest) -> str:
    """Return which of the parameters it is."""
    return str(request.node.callspec.id)


# Durable puts.


@beside_each_other(ALONE)
def test_puts_of_one_client(
    benchmark: BenchmarkFixture, peer: Peer, beside: Beside, request: pytest.FixtureRequest
) -> None:
    value, each = pod(0), 200
    with beside("durable puts, 1 client", row(request), each):
        benchmark.pedantic(peer.puts, (value, 1, each), rounds=10, warmup_rounds=1)


@beside_each_other(list(PEERS))
def test_puts_of_64_clients(
    benchmark: BenchmarkFixture, peer: Peer, beside: Beside, request: pytest.FixtureRequest
) -> None:
    value, each = pod(0), 50
    with beside("durable puts, 64 clients", row(request), GROUP * each):
        benchmark.pedantic(peer.puts, (value, GROUP, each), rounds=5, warmup_rounds=1)


PAIRED_WARMUPS: Final = 8
PAIRED_ROUNDS: Final = 400
LATENCIES: Final = ["bare, written over", "bare, appended", "kubeloop", "kubeloop, a thread"]


class Replay:
    """A clock that tells of times taken before, each time it is moved on."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Return the seconds of all samples so far."""
        return self.time

    def go_on(self, samples: Iterator[float]) -> None:
        """Let the next sample pass."""
        self.time += next(samples)


REPLAY: Final = Replay()


@pytest.fixture(scope="module")
def paired(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[float]]:
    """Return the seconds of a put, and of writing and syncing as much, in four ways, turn by turn.

    What else the disk does hits all alike; who comes after whom matters a little, so it changes.
    """
    with ExitStack() as stack:
        actions = latencies(stack, tmp_path_factory.mktemp("paired"))
        samples: dict[str, list[float]] = {name: [] for name in actions}
        order = deque(actions.items())
        for _ in range(PAIRED_WARMUPS + PAIRED_ROUNDS):
            order.rotate()
            for name, action in order:
                begin = time.perf_counter()
                action()
                samples[name].append(time.perf_counter() - begin)
    return samples


@pytest.mark.parametrize("which", LATENCIES)
@pytest.mark.benchmark(timer=REPLAY.now)
def test_latency_of_a_put(
    benchmark: BenchmarkFixture, paired: dict[str, list[float]], beside: Beside, which: str
) -> None:
    """One durable put, beside a bare write and fdatasync of as many bytes.

    Target: of a thread, at most 1.3 times the bare write over what is there.
    """
    samples = iter(paired[which][PAIRED_WARMUPS:])
    with beside("durable puts beside bare writes, turn by turn", which, 1):
        benchmark.pedantic(REPLAY.go_on, (samples,), rounds=PAIRED_ROUNDS)


def latencies(stack: ExitStack, directory: Path) -> dict[str, Callable[[], None]]:
    """Return how to put one value, and to write as much, in four ways."""
    value = pod(0)
    frame = value + bytes(100)  # What the log adds to a value, about.
    appended = os.open(directory / "appended", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    stack.callback(os.close, appended)
    over = os.open(directory / "over", os.O_WRONLY | os.O_CREAT)
    stack.callback(os.close, over)
    os.write(over, bytes(4 * 2**20))
    os.fsync(over)
    places = itertools.count(0, len(frame))
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    inline = opened(stack, directory / "inline", None)
    threaded = opened(stack, directory / "threaded", calls.put)
    write = Write(key(0, 7), value)

    def append() -> None:
        os.write(appended, frame)
        os.fdatasync(appended)

    def write_over() -> None:
        os.pwrite(over, frame, next(places))
        os.fdatasync(over)

    def put_inline() -> None:
        inline.commit([write], NO_CAUSE)
        inline.flush(check)

    def put_in_a_thread() -> None:
        told: list[Exception | None] = []
        threaded.commit([write], NO_CAUSE)
        threaded.flush(told.append)
        while not told:
            calls.get()()
        check(told[0])

    return dict(zip(LATENCIES, [write_over, append, put_inline, put_in_a_thread], strict=True))


def opened(
    stack: ExitStack, directory: Path, threadsafe: Callable[[Callable[[], None]], None] | None
) -> Store:
    """Return a durable store that is closed with the stack."""
    directory.mkdir(exist_ok=True)
    store = Store.open(RealDisk(), str(directory), threadsafe=threadsafe, fresh_id=bytes(16))
    stack.callback(store.close)
    return store


# Reading.


@beside_each_other(ALONE)
def test_list_of_10000_values(
    benchmark: BenchmarkFixture, peer: Peer, beside: Beside, request: pytest.FixtureRequest
) -> None:
    """etcd's answer is received, 30 MB, but not taken apart; the others give what can be used."""
    peer.puts(pod(0), LISTED // KEYS_EACH, KEYS_EACH)
    with beside("lists of 10,000 values", row(request), 1):
        found = benchmark.pedantic(peer.list, rounds=6, warmup_rounds=1)
    assert found == LISTED


# Recovery.


def test_recovery_of_kubeloop(benchmark: BenchmarkFixture, tmp_path: Path, beside: Beside) -> None:
    """Every event is of another key, so that all have to be read, by whichever design."""
    recover_kubeloop(benchmark, tmp_path, beside, RECOVERED, rounds=3)


def test_recovery_of_etcd(benchmark: BenchmarkFixture, tmp_path: Path, beside: Beside) -> None:
    """Killed, and started again, until it answers a linearizable read; it must elect itself."""
    peer = Etcd(tmp_path)
    each = RECOVERED // FILLERS
    asyncio.run(etcd_puts(peer.port, pod(0), FILLERS, each, keys_each=each))

    def restart() -> None:
        peer.server.restart(0)
        asyncio.run(etcd_answers(peer.port))

    with beside(f"recoveries of {RECOVERED:,} events", "etcd", 1):
        benchmark.pedantic(restart, setup=lambda: peer.server.kill(0), rounds=2)
    assert peer.list() == each * FILLERS
    peer.close()


def test_recovery_of_sqlite(benchmark: BenchmarkFixture, tmp_path: Path, beside: Beside) -> None:
    """Opened with everything in the WAL, as after a crash, and all of it read."""
    source = sqlite_fill(tmp_path / "db", pod(0), RECOVERED)
    again = tmp_path / "again"
    connections: list[sqlite3.Connection] = []

    def copy() -> None:
        while connections:
            connections.pop().close()
        shutil.rmtree(again, ignore_errors=True)
        again.mkdir()
        for name in ("db", "db-wal"):
            shutil.copy(tmp_path / name, again / name)

    def recover() -> None:
        connections.append(sqlite_open(again / "db"))
        rows = connections[-1].execute(SELECT, (PODS, PODS + "~")).fetchall()
        assert len(rows) == RECOVERED

    with beside(f"recoveries of {RECOVERED:,} events", "SQLite", 1):
        benchmark.pedantic(recover, setup=copy, rounds=2)
    connections.pop().close()
    source.close()


def test_recovery_of_as_many_as_asked_for(
    benchmark: BenchmarkFixture, tmp_path: Path, beside: Beside, pytestconfig: pytest.Config
) -> None:
    """A million: 3 GB; 6 µs each, 6 s."""
    events: int = pytestconfig.getoption("--recovery-events")
    if not events:
        pytest.skip("it takes disk and time: ask for it with --recovery-events=1000000")
    recover_kubeloop(benchmark, tmp_path, beside, events, rounds=1)


def recover_kubeloop(
    benchmark: BenchmarkFixture, directory: Path, beside: Beside, events: int, *, rounds: int
) -> None:
    """Fill a store, and open it again."""
    disk, path = RealDisk(), str(directory)
    store = Store.open(disk, path, threadsafe=None, fresh_id=bytes(16), sync="never")
    fill(store, pod(0), events)
    store.close()
    del store
    found: list[Store] = []

    def close() -> None:
        while found:
            found.pop().close()

    def recover() -> None:
        found.append(Store.open(disk, path, threadsafe=None, fresh_id=bytes(16)))

    with beside(f"recoveries of {events:,} events", "kubeloop", 1):
        benchmark.pedantic(recover, setup=close, rounds=rounds)
    assert found[0].revision == events
    assert found[0].get(key(0, events - 1)) is not None
    close()


# Watches.


@pytest.mark.parametrize(("watchers", "puts"), FAN_OUTS)
def test_fan_out_of_kubeloop(
    benchmark: BenchmarkFixture, tmp_path: Path, beside: Beside, watchers: int, puts: int
) -> None:
    """Durable puts that share a flush, told to every watcher, which takes them."""
    with ExitStack() as stack:
        store = opened(stack, tmp_path, None)
        awake: list[Cursor] = []
        for _ in range(watchers):
            cursor = store.hub.open(resources=["pods"], revision=0, wake=lambda: None)
            cursor.wake = partial(awake.append, cursor)
        writes = [[Write(key(n, 0), pod(n))] for n in range(puts)]

        def tell() -> None:
            for write in writes:
                store.commit(write, NO_CAUSE)
            store.flush(check)
            assert sum(len(cursor.take()) for cursor in awake) == puts * watchers
            awake.clear()

        rounds = rounds_of(watchers * puts, 100)
        with beside(fan_out(watchers, puts), "kubeloop", watchers * puts):
            benchmark.pedantic(tell, rounds=rounds, warmup_rounds=1)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    peer = Etcd(tmp_path_factory.mktemp("watched"))
    yield peer
    peer.close()


@pytest.mark.parametrize(("watchers", "puts"), FAN_OUTS)
def test_fan_out_of_etcd(
    benchmark: BenchmarkFixture, watched: Etcd, beside: Beside, watchers: int, puts: int
) -> None:
    """As many puts under way at once, and what is sent to every watcher received and counted."""
    value = pod(0)
    with asyncio.Runner() as runner:

        async def begin() -> tuple[EtcdWatchers, list[Connection]]:
            writers = [await connect(watched.port) for _ in range(CONNECTIONS)]
            return await EtcdWatchers.open(watched.port, watchers), writers

        found, writers = runner.run(begin())
        rounds = rounds_of(watchers * puts, 20)
        with beside(fan_out(watchers, puts), "etcd", watchers * puts):
            benchmark.pedantic(
                lambda: runner.run(found.tell(writers, value, puts)),
                rounds=rounds,
                warmup_rounds=1,
            )
        found.close()
        for writer in writers:
            writer.transport.close()


def fan_out(watchers: int, puts: int) -> str:
    return f"deliveries, {watchers:,} watchers, {puts} puts a flush"


def rounds_of(deliveries: int, most: int) -> int:
    return max(2, min(most, DELIVERIES_MAX // deliveries))


# The past.


@pytest.mark.parametrize("objects", [100, 1000, 10_000, 100_000])
def test_fork(benchmark: BenchmarkFixture, beside: Beside, objects: int) -> None:
    """At a revision after which half of the history came. Flat: 5 µs."""
    store, past = with_a_past(objects)
    with beside("forks at an old revision", f"{objects:,} objects", 1):
        found = benchmark(store.fork, past)
    assert found.revision == past


@pytest.mark.parametrize("objects", [100, 1000, 10_000, 100_000])
def test_page_of_the_past(benchmark: BenchmarkFixture, beside: Beside, objects: int) -> None:
    """A hundred of the objects as they were. Flat: 20 µs, and a little for the depth of a tree."""
    store, past = with_a_past(objects)
    with beside("pages of 100 at an old revision", f"{objects:,} objects", 1):
        page = benchmark(store.list, PODS, revision=past, limit=100)
    assert len(page.values) == 100
    assert max(page.revisions) <= past


def with_a_past(objects: int) -> tuple[Store, int]:
    """Return a store of so many objects, and a revision after which a thousand changed."""
    store, value = Store.memory(), pod(0)
    fill(store, value, objects)
    past = store.revision
    for n in range(1000):
        store.commit([Write(key(0, n * 7919 % objects), value)], NO_CAUSE)
    store.flush(check)
    return store, past
