"""When what is acknowledged is synced: always, by interval, never; segments made longer ahead."""

import errno
import queue
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import log as log_module
from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.frames import END, HEAD_SIZE, HEADER_SIZE
from kubeloop.store.history import Write
from kubeloop.store.log import Log
from kubeloop.store.store import SYNC_INTERVAL_S, Store, StoreFailed, Sync

DIRECTORY = "/data"
KEY = key_of("pods", "a", "x")


class Disk(MemoryDisk):
    """Counts the syncs of files."""

    def __init__(self) -> None:
        super().__init__()
        self.syncs = 0

    def touch(self, operation: str, path: str) -> None:
        self.syncs += operation == "sync"
        super().touch(operation, path)


class Bench:
    """A store with a policy, and the calls it has asked for."""

    def __init__(self, sync: Sync) -> None:
        self.disk, self.alarms = Disk(), list[tuple[float, Callable[[], None]]]()
        self.store = Store.open(
            self.disk,
            DIRECTORY,
            threadsafe=None,
            fresh_id=bytes(16),
            sync=sync,
            later=lambda delay_s, call: self.alarms.append((delay_s, call)),
        )
        self.commit()
        self.disk.syncs = 0

    def commit(self) -> list[Exception | None]:
        told: list[Exception | None] = []
        self.store.commit([Write(KEY, b"x")], NO_CAUSE)
        self.store.flush(told.append)
        return told

    def after_power_loss(self, seed: int) -> int:
        disk = self.disk.crash(random.Random(seed))
        return Store.open(disk, DIRECTORY, threadsafe=None, fresh_id=bytes(16)).revision


@pytest.mark.parametrize("sync, syncs", [("always", 5), ("interval", 0), ("never", 0)])
def test_the_policy_says_what_an_acknowledgement_waits_for(sync: Sync, syncs: int) -> None:
    bench = Bench(sync)
    for _ in range(5):
        assert bench.commit() == [None]
    assert (bench.disk.syncs, bench.store.durable) == (syncs, 6)
    assert len(bench.alarms) == (sync == "interval"), "one for all"
    survivors = {bench.after_power_loss(seed) for seed in range(50)}
    assert survivors == {6} if sync == "always" else min(survivors) < 6


def test_after_the_interval_everything_is_safe() -> None:
    bench = Bench("interval")
    bench.commit()
    ((delay_s, sync),) = bench.alarms
    assert delay_s == SYNC_INTERVAL_S
    sync()
    assert bench.disk.syncs == 1
    assert {bench.after_power_loss(seed) for seed in range(50)} == {2}
    bench.commit()
    assert len(bench.alarms) == 2, "the next one begins anew"


def test_a_store_that_is_closed_in_order_is_safe() -> None:
    bench = Bench("interval")
    bench.commit()
    bench.store.close()
    assert {bench.after_power_loss(seed) for seed in range(50)} == {2}
    bench.alarms[0][1]()  # Too late, and harmless.


def test_an_error_of_the_sync_by_interval_is_final() -> None:
    bench = Bench("interval")
    bench.commit()
    bench.disk.fail(1, errno.EIO)
    bench.alarms[0][1]()
    with pytest.raises(StoreFailed, match="the disk failed"):
        bench.store.commit([Write(KEY, b"x")], NO_CAUSE)
    assert bench.store.get(KEY) is not None, "reads go on"


def test_an_interval_needs_a_clock() -> None:
    with pytest.raises(ValueError, match="needs `later`"):
        Store.open(
            MemoryDisk(), DIRECTORY, threadsafe=None, fresh_id=bytes(16), sync="interval"
        )  # fmt: skip


@given(st.integers(0, 2**32), st.sampled_from(["interval", "never"]))
def test_a_loss_of_power_costs_an_end_and_nothing_else(seed: int, sync: Sync) -> None:
    chance, bench = random.Random(seed), Bench(sync)
    values = [b"", b"x"]
    for _ in range(chance.randrange(30)):
        values.append(chance.randbytes(chance.choice((5, 300, 2000))))
        bench.store.commit([Write(KEY, values[-1])], NO_CAUSE)
        bench.store.flush(lambda _: None)
        if bench.alarms and chance.random() < 0.1:
            bench.alarms.pop()[1]()
    safe = bench.store.revision if not bench.alarms and sync == "interval" else 0
    disk = bench.disk.crash(chance)
    again = Store.open(disk, DIRECTORY, threadsafe=None, fresh_id=bytes(16))
    assert safe <= again.revision <= bench.store.revision
    found = again.get(KEY)
    assert (b"" if found is None else found.value) == values[again.revision]


def group(size: int) -> bytes:
    """Return what makes a frame of this size."""
    return b"f" * (size - HEAD_SIZE - len(END))


# Lengthening ahead.


def test_a_segment_is_lengthened_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "AHEAD_BYTES", 1000)
    monkeypatch.setattr(log_module, "SEGMENT_BYTES", 3000)
    disk = MemoryDisk()
    log = Log(disk, DIRECTORY, bytes(16))
    log.prepare()
    assert disk.files == {}, "there is no segment yet"
    log.append(group(100), 1)
    (path,) = disk.files
    log.prepare()
    assert len(disk.files[path]) == HEADER_SIZE + 100 + 1000
    log.prepare()
    log.append(group(400), 2)
    log.prepare()
    assert len(disk.files[path]) == HEADER_SIZE + 100 + 1000, "there is half of it left"
    log.append(group(200), 3)
    log.prepare()
    assert len(disk.files[path]) == HEADER_SIZE + 100 + 2000
    assert bytes(disk.files[path]).rstrip(b"\0") == bytes(disk.files[path])[: HEADER_SIZE + 700]
    log.append(group(4000), 4)
    log.prepare()
    assert len(disk.files[path]) == HEADER_SIZE + 4700, "a full one is not"
    log.close()
    log.append(group(10), 5)
    assert len(disk.files) == 2


def test_without_zeros_at_the_end_once_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_module, "AHEAD_BYTES", 1000)
    disk = MemoryDisk()
    log = Log(disk, DIRECTORY, bytes(16))
    log.append(group(100), 1)
    log.prepare()
    log.close()
    assert [len(data) for data in disk.files.values()] == [HEADER_SIZE + 100]


@pytest.mark.parametrize("code, works", [(errno.ENOSPC, True), (errno.EIO, False)])
def test_no_room_ahead_is_no_trouble_but_a_failed_sync_is(code: int, works: bool) -> None:
    disk = MemoryDisk()
    log = Log(disk, DIRECTORY, bytes(16))
    log.append(group(100), 1)
    (path,) = disk.files
    disk.fail(1 if works else 2, code)  # The write, or the sync after it.
    log.prepare()
    if works:
        assert len(disk.files[path]) == HEADER_SIZE + 100
        log.append(group(100), 2)
    else:
        with pytest.raises(OSError, match="Input/output error"):
            log.append(group(100), 2)


def test_the_thread_does_it_when_nobody_waits(tmp_path: Path) -> None:
    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=calls.put, fresh_id=bytes(16))
    for _ in range(3):
        store.commit([Write(KEY, b"x")], NO_CAUSE)
        store.flush(lambda _: None)
        calls.get()()
    (segment,) = tmp_path.glob("log-*")
    store._writer.stop()  # type: ignore[union-attr]
    assert segment.stat().st_size > log_module.AHEAD_BYTES
    store.close()
    assert segment.stat().st_size < 1000
    again = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
    assert again.revision == 3
    again.close()
