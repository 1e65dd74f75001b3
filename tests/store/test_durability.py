"""What was acknowledged is never lost, and what was damaged is never served.

A small workload runs on a disk that loses power, fails a call, rots, is cut or is full. A ledger
keeps what was acknowledged; the store that comes back must be a prefix of what was committed that
holds all of it.
"""

import errno
import random
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store.history import Write
from kubeloop.store.recovery import CorruptLog
from kubeloop.store.store import Store, StoreFailed, StoreFull
from tests.store.faults import (
    BY,
    DIRECTORY,
    ID,
    KEYS,
    Ledger,
    check,
    copy_of,
    reopen,
    small_files,
    state_of,
    work,
)

GROUPS = 12


@given(st.integers(0, 2**32), st.booleans())
def test_a_death_or_a_loss_of_power_costs_nothing_acknowledged(seed: int, full: bool) -> None:
    chance = random.Random(seed)
    disk, ledger = MemoryDisk(), Ledger()

    def end(disk: MemoryDisk) -> MemoryDisk:
        if chance.random() < 0.5:
            return disk.crash(chance)
        disk.kill()
        return disk

    with small_files():
        for _ in range(6):
            disk.fail(chance.randint(1, 60), errno.ENOSPC if full else errno.EIO)
            try:
                store = reopen(disk)
            except OSError:
                disk = end(disk)
                continue
            check(store, ledger)
            # What had not been acknowledged, but came back, is served: true from now on.
            del ledger.states[store.revision + 1 :]
            ledger.acknowledged = store.revision
            work(store, ledger, chance, groups=chance.randint(0, 12))
            disk = end(disk)
        check(reopen(disk.crash(chance)), ledger)


def test_what_a_dead_process_had_not_synced_is_safe_once_it_is_served() -> None:
    disk, ledger = MemoryDisk(), Ledger()
    store = reopen(disk)
    work(store, ledger, random.Random(1), groups=3)
    before = store.durable
    disk.fault = lambda operation, path: OSError(errno.EIO, "EIO") if operation == "sync" else None
    work(store, ledger, random.Random(1), groups=1)
    disk.kill()
    served = reopen(disk).durable
    assert served > before, "the next process finds what was written"
    for seed in range(20):
        assert reopen(disk.crash(random.Random(seed))).durable == served


def calls_of_a_run() -> int:
    disk = MemoryDisk()
    store = reopen(disk)
    begun = disk.calls
    work(store, Ledger(), random.Random(1), groups=GROUPS)
    return disk.calls - begun


def test_a_failed_call_is_told_and_nothing_acknowledged_is_lost() -> None:
    """Every call of a run fails once, in both ways; then the process goes on, and dies."""
    with small_files():
        calls = calls_of_a_run()
        assert calls > 50
        for nth, code in product(range(1, calls + 1), (errno.EIO, errno.ENOSPC)):
            disk, ledger = MemoryDisk(), Ledger()
            store, chance = reopen(disk), random.Random(1)
            disk.fail(nth, code)
            work(store, ledger, chance, groups=GROUPS)
            assert state_of(store) == ledger.states[store.durable], "memory is what is durable"
            if store.failure is None:
                work(store, ledger, chance, groups=3)
                assert ledger.acknowledged == store.durable == store.revision
            else:
                with pytest.raises(StoreFailed, match="the disk failed"):
                    store.commit([Write(KEYS[0], b"x")], BY)
            check(reopen(disk.crash(chance)), ledger)


def small_log(groups: int = 8, *sizes: int) -> tuple[MemoryDisk, str, Ledger]:
    """Return a disk with one segment of some groups, synced, and closed."""
    disk, ledger = MemoryDisk(), Ledger()
    store = reopen(disk)
    work(store, ledger, random.Random(3), groups=groups, sizes=sizes or (10, 100, 900))
    store.close()
    disk.settle()
    (path,) = [p for p in disk.files if "log-" in p]
    return disk, path, ledger


def test_every_cut_of_a_log_is_a_prefix() -> None:
    disk, path, ledger = small_log()
    seen = set()
    for size in range(len(disk.files[path]) + 1):
        cut = copy_of(disk)
        del cut.files[path][size:]
        store = reopen(cut)
        assert state_of(store) == ledger.states[store.revision]
        seen.add(store.revision)
        if store.recovery is not None and store.recovery.cut is not None:
            assert store.recovery.cut.offset + store.recovery.cut.size == size
    assert {0, ledger.acknowledged} <= seen
    assert len(seen) == 9, "eight groups, and nothing: a group is whole or not there"


def test_every_flipped_bit_is_found() -> None:
    disk, path, _ = small_log(3, 0, 10)
    for bit in range(8 * len(disk.files[path])):
        rotten = copy_of(disk)
        rotten.flip(path, bit)
        with pytest.raises(CorruptLog, match=r"log-0+1 is damaged at byte \d+: .*revision \d+ is"):
            reopen(rotten)


def test_flipped_bits_in_a_larger_log_are_found() -> None:
    disk, path, _ = small_log()
    for bit in range(0, 8 * len(disk.files[path]), 61):
        rotten = copy_of(disk)
        rotten.flip(path, bit)
        with pytest.raises(CorruptLog):
            reopen(rotten)


def test_zeros_of_the_user_are_no_hole() -> None:
    disk = MemoryDisk()
    store = reopen(disk)
    store.commit([Write(KEYS[0], bytes(4096))], BY)
    store.flush(lambda error: None)
    disk.settle()
    (path,) = [p for p in disk.files if "log-" in p]
    for bit in range(0, 8 * len(disk.files[path]), 97):
        rotten = copy_of(disk)
        rotten.flip(path, bit)
        with pytest.raises(CorruptLog):
            reopen(rotten)


def test_a_flipped_bit_in_a_snapshot_is_found() -> None:
    disk, ledger = MemoryDisk(), Ledger()
    with small_files():
        work(reopen(disk), ledger, random.Random(5), groups=15)
        disk = disk.crash(random.Random(5))
        (path,) = [p for p in disk.files if "snapshot-" in p]
        for bit in range(0, 8 * len(disk.files[path]), 11):
            rotten = copy_of(disk)
            rotten.flip(path, bit)
            with pytest.raises(CorruptLog, match=r"snapshot-\d+ is damaged"):
                reopen(rotten)


def test_a_zeroed_sector_in_the_middle_is_no_torn_write() -> None:
    disk, path, _ = small_log()
    for sector in range(0, len(disk.files[path]) - 2048, 512):
        rotten = copy_of(disk)
        rotten.files[path][sector : sector + 512] = bytes(512)
        with pytest.raises(CorruptLog):
            reopen(rotten)


@pytest.mark.parametrize("damage", ["missing", "twice", "swapped"])
def test_segments_that_do_not_follow_each_other_are_found(damage: str) -> None:
    disk, ledger = MemoryDisk(), Ledger()
    with small_files(snapshot=10**9):
        work(reopen(disk), ledger, random.Random(2), groups=12)
        disk.settle()
        paths = sorted(p for p in disk.files if "log-" in p)
        assert len(paths) >= 3
        after = copy_of(disk)
        if damage == "missing":
            del after.files[paths[1]]
        elif damage == "twice":
            after.files[paths[2]] = after.files[paths[1]]
        else:
            after.files[paths[1]], after.files[paths[2]] = (
                after.files[paths[2]], after.files[paths[1]],
            )  # fmt: skip
        with pytest.raises(CorruptLog, match=r"revision \d+ follows \d+"):
            reopen(after)


def test_a_torn_write_that_is_not_the_last_is_damage() -> None:
    disk = MemoryDisk()
    with small_files(snapshot=10**9):
        work(reopen(disk), Ledger(), random.Random(2), groups=12)
        cut = copy_of(disk)
        path = sorted(p for p in cut.files if "log-" in p)[1]
        del cut.files[path][-10:]
        with pytest.raises(CorruptLog, match="the file ends in a frame") as caught:
            reopen(cut)
        assert caught.value.path == path


def test_the_segment_of_another_cluster_is_refused() -> None:
    disk, _, _ = small_log()
    other = MemoryDisk()
    with small_files(segment=100):
        store = Store.open(other, DIRECTORY, threadsafe=None, fresh_id=bytes(16))
        work(store, Ledger(), random.Random(3), groups=3)
    newest = max(p for p in other.files if "log-" in p)
    disk.files[newest] = other.files[newest]
    with pytest.raises(CorruptLog, match="another cluster"):
        reopen(disk)


def test_a_full_disk_refuses_writes_until_there_is_room() -> None:
    disk, ledger = MemoryDisk(), Ledger()
    store = reopen(disk)
    work(store, ledger, random.Random(1), groups=3)
    before, revision = state_of(store), store.revision
    heard: list[int] = []
    cursor = store.hub.open(resources=["pods"], revision=revision, wake=lambda: heard.append(1))
    disk.room = sum(map(len, disk.files.values())) + 100
    told: list[Exception | None] = []
    store.commit([Write(KEYS[0], bytes(5000))], BY)
    store.flush(told.append)
    assert isinstance(told[0], StoreFull)
    assert state_of(store) == before
    assert (store.revision, store.durable, heard) == (revision, revision, [])
    store.flush(told.append)
    assert told[1] is None, "reads go on"
    disk.room = None
    store.commit([Write(KEYS[0], b"small")], BY)
    store.flush(told.append)
    assert told[2] is None
    assert [fact.value for fact in cursor.take()] == [b"small"]
    store.close()
    assert state_of(reopen(disk)) == {**before, KEYS[0]: b"small"}


def test_a_failed_sync_is_final() -> None:
    disk, ledger = MemoryDisk(), Ledger()
    store = reopen(disk)
    work(store, ledger, random.Random(1), groups=3)
    disk.fault = lambda operation, path: OSError(errno.EIO, "EIO") if operation == "sync" else None
    told: list[Exception | None] = []
    store.commit([Write(KEYS[0], b"x")], BY)
    store.flush(told.append)
    assert isinstance(told[0], StoreFailed)
    disk.fault = lambda operation, path: None
    with pytest.raises(StoreFailed, match="open the store again"):
        store.commit([Write(KEYS[0], b"x")], BY)
    assert state_of(store) == ledger.states[ledger.acknowledged]
    store.flush(told.append)
    assert told[1] is None, "reads go on"


def test_the_identity_stays_and_the_lock_is_given_back() -> None:
    disk, _, _ = small_log()
    store = Store.open(disk, DIRECTORY, threadsafe=None, fresh_id=bytes(16))
    assert store.recovery is not None
    assert store.recovery.cluster_id == ID
    with pytest.raises(BlockingIOError, match="held"):
        reopen(disk)
    store.close()
    store.close()
    reopen(disk)
