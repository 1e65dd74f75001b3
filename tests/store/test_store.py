"""The store with a thread that syncs: one sync for all that wait, told on the loop, in order."""

import errno
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import log as log_module
from kubeloop.store import store as store_module
from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import History, Retention, Write
from kubeloop.store.log import Log
from kubeloop.store.recovery import recover
from kubeloop.store.store import Store, StoreFailed, StoreFull

DIRECTORY = "/data"
Calls = queue.Queue[Callable[[], None]]


class Threaded:
    """A store whose thread answers into a queue, which the test empties when it likes."""

    def __init__(self, retention: Retention | None = None) -> None:
        self.disk = MemoryDisk()
        self.calls: Calls = queue.Queue()
        self.store = Store.open(
            self.disk,
            DIRECTORY,
            threadsafe=self.calls.put,
            fresh_id=bytes(16),
            retention=retention,
        )
        self.told: list[tuple[int, Exception | None]] = []

    def commit(self, name: str = "p", *, size: int = 10) -> int:
        write = Write(key_of("pods", "a", name), bytes(size))
        return self.store.commit([write], NO_CAUSE)

    def flush(self) -> None:
        revision = self.store.revision
        self.store.flush(lambda error: self.told.append((revision, error)))

    def run(self) -> None:
        """Take the next answer of the thread."""
        self.calls.get(timeout=10)()


@pytest.fixture
def threaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Threaded]:
    monkeypatch.setattr(log_module, "AHEAD_BYTES", 0)  # It would happen at any time.
    one = Threaded()
    yield one
    one.store.close()


def test_all_that_wait_share_a_sync(threaded: Threaded) -> None:
    syncs: list[str] = []
    for _ in range(10):
        threaded.commit()
        threaded.flush()
    threaded.run()
    assert threaded.told == [(1, None)], "the first went alone: nobody else was there yet"
    threaded.disk.fault = lambda operation, path: syncs.append(operation)  # type: ignore[func-returns-value]
    threaded.run()
    assert threaded.told == [(n, None) for n in range(1, 11)]
    assert threaded.store.durable == 10
    _, _, recovery = recover(threaded.disk, DIRECTORY, bytes(16))
    assert recovery.transactions == 10


def test_what_is_next_goes_to_the_disk_before_those_who_waited_are_told(
    threaded: Threaded,
) -> None:
    order: list[str] = []

    def told(error: Exception | None) -> None:
        order.append("told")
        then = threaded.calls.get(timeout=10)  # Of the next group, which is written by now.
        threaded.calls.put(then)
        order.append("written")

    threaded.commit()
    threaded.store.flush(told)
    threaded.commit()
    threaded.flush()
    threaded.run()
    assert (order, threaded.told) == (["told", "written"], [(2, None)])


def test_those_who_write_much_come_to_groups_of_one_size(threaded: Threaded) -> None:
    """All write again as soon as they are told; else the disk and the loop would take turns."""
    groups: list[int] = []
    for _ in range(64):
        threaded.commit(size=3000)
        threaded.flush()
    for _ in range(12):
        threaded.run()
        groups.append(len(threaded.told))
        for _ in range(len(threaded.told)):
            threaded.commit(size=3000)
            threaded.flush()
        threaded.told.clear()
    assert groups[:2] == [1, 32]
    assert set(groups[4:]) <= {31, 32, 33}


@given(
    st.lists(
        st.one_of(st.integers(0, 60_000), st.sampled_from(["flush", "run"])), min_size=1
    ).filter(lambda steps: "flush" in steps),
    st.booleans(),
)
def test_each_is_told_once_in_turn_and_not_before_it_is_durable(
    steps: list[int | str], full: bool
) -> None:
    threaded, promised, waiting = Threaded(), list[int](), 0
    for step in steps:
        if isinstance(step, int):
            threaded.commit(f"p{step}", size=step)
        elif step == "flush":
            before = len(threaded.told)
            promised.append(threaded.store.revision)
            threaded.flush()
            waiting += 1 - (len(threaded.told) - before)
        elif waiting:
            if full:
                threaded.disk.room = 0
            before = len(threaded.told)
            threaded.run()
            waiting -= len(threaded.told) - before
            threaded.disk.room = None
        good = [revision for revision, error in threaded.told if error is None]
        assert all(revision <= threaded.store.durable for revision in good)
        assert [revision for revision, _ in threaded.told] == promised[: len(threaded.told)]
    threaded.store.close()
    assert len(threaded.told) == len(promised)


def test_nobody_hears_of_what_is_not_durable(threaded: Threaded) -> None:
    woken: list[int] = []
    cursor = threaded.store.hub.open(resources=["pods"], revision=0, wake=lambda: woken.append(1))
    threaded.commit("x")
    threaded.flush()
    threaded.commit("y")
    late = threaded.store.hub.open(resources=["pods"], revision=0, wake=lambda: woken.append(2))
    assert (cursor.take(), late.take(), woken, threaded.store.durable) == ([], [], [], 0)
    threaded.run()
    assert [f.revision for f in cursor.take()] == [f.revision for f in late.take()] == [1]
    assert woken == [1, 2]
    assert threaded.store.get(key_of("pods", "a", "y")) is not None, "staged: the writer sees it"


def test_a_read_after_a_write_waits_for_it(threaded: Threaded) -> None:
    threaded.flush()
    assert threaded.told == [(0, None)], "there was nothing to wait for"
    threaded.commit()
    threaded.flush()
    threaded.flush()
    assert len(threaded.told) == 1
    threaded.run()
    assert threaded.told[1:] == [(1, None), (1, None)]


def test_what_was_built_on_a_lost_write_is_lost_with_it(threaded: Threaded) -> None:
    threaded.commit("a")
    threaded.flush()
    threaded.run()
    threaded.disk.room = sum(map(len, threaded.disk.files.values())) + 50
    threaded.commit("b", size=1000)
    threaded.flush()
    threaded.commit("c")
    threaded.flush()
    threaded.run()
    assert [type(error) for _, error in threaded.told] == [type(None), StoreFull, StoreFull]
    assert [i.key for i in threaded.store.list("/registry/pods/").items] == ["/registry/pods/a/a"]
    threaded.disk.room = None
    assert threaded.commit("d") == 2
    threaded.flush()
    threaded.run()
    assert threaded.told[-1] == (2, None)
    _, history, _ = recover(threaded.disk, DIRECTORY, bytes(16))
    assert history.list("/registry/").keys == ["/registry/pods/a/a", "/registry/pods/a/d"]


def test_a_failed_sync_reaches_all_who_wait(threaded: Threaded) -> None:
    threaded.disk.fail(1, errno.EIO)
    for _ in range(3):
        threaded.commit()
        threaded.flush()
    threaded.run()
    assert [type(error) for _, error in threaded.told] == [StoreFailed] * 3
    with pytest.raises(StoreFailed):
        threaded.commit()


def test_close_tells_all_who_wait_and_keeps_what_was_staged() -> None:
    threaded = Threaded()
    for _ in range(3):
        threaded.commit()
        threaded.flush()
    threaded.commit()
    threaded.store.close()
    assert threaded.told == [(1, None), (2, None), (3, None)]
    threaded.run()  # The loop hears of it later: harmless.
    again = Store.open(threaded.disk, DIRECTORY, threadsafe=None, fresh_id=bytes(16))
    assert again.revision == 4
    with pytest.raises(StoreFailed, match="closed"):
        threaded.commit()


def test_snapshots_are_written_between_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "SNAPSHOT_BYTES", 20_000)
    monkeypatch.setattr(log_module, "_PIECE_BYTES", 1000)
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 8000)
    threaded = Threaded(Retention(revisions=10))
    for number in range(200):
        threaded.commit(f"p{number % 20}", size=500)
        threaded.flush()
        threaded.run()
    threaded.store.close()
    names = threaded.disk.names(DIRECTORY)
    assert any(name.startswith("snapshot-") for name in names)
    again = Store.open(threaded.disk, DIRECTORY, threadsafe=None, fresh_id=bytes(16))
    assert again.revision == 200
    assert again.recovery is not None
    assert again.recovery.transactions < 200
    assert [i.revision for i in again.list("/registry/pods/").items] == [
        i.revision for i in threaded.store.list("/registry/pods/").items
    ]


def test_a_snapshot_that_does_not_fit_costs_nothing() -> None:
    disk = MemoryDisk()
    log, _, _ = recover(disk, DIRECTORY, bytes(16))
    history = History.restored(1, [(key_of("pods", "a", "x"), bytes(5000), 1)])
    disk.room = 200
    with pytest.raises(OSError, match="No space"):
        list(log.snapshot(history.version()))
    assert [n for n in disk.names(DIRECTORY) if n.startswith("snapshot")] == []


def test_without_sync_nothing_is_synced() -> None:
    disk, operations = MemoryDisk(), list[str]()
    log, _, _ = recover(disk, DIRECTORY, bytes(16))
    log.append(b"first", 1, sync=False)
    disk.fault = lambda operation, path: operations.append(operation)  # type: ignore[func-returns-value]
    log.append(b"second", 2, sync=False)
    assert operations == ["write"]


def test_the_real_disk(tmp_path: Path) -> None:
    disk, path = RealDisk(), str(tmp_path)
    file = disk.open(f"{path}/a")
    file.write(b"one", 0)
    file.write(b"two", 3)
    file.sync()
    file.truncate(4)
    file.write(b"three", 4)
    assert disk.size(f"{path}/a") == 9
    file.close()
    disk.sync_directory(path)
    assert disk.read(f"{path}/a") == b"onetthree"
    disk.rename(f"{path}/a", f"{path}/b")
    assert disk.names(path) == ["b"]
    disk.remove(f"{path}/b")
    assert disk.names(path) == []
    assert Log(disk, path, bytes(16)).directory == path
