"""What is not as it was written is found, and named, or it does no harm.

Bits that flip; reads and writes that go astray; a disk that says it has synced what it has not;
frames, segments and snapshots that are missing, doubled, exchanged, old, or of another cluster.
"""

import random
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import backup
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.frames import (
    HEAD_SIZE,
    HEADER_SIZE,
    LOG,
    SECTOR,
    SNAPSHOT,
    Flaw,
    frames,
    header,
)
from kubeloop.store.history import Retention, Write
from kubeloop.store.log import file_name
from kubeloop.store.recovery import CorruptLog, Reader
from kubeloop.store.store import Sync
from tests.store.crashes import Run, Stepper
from tests.store.faults import DIRECTORY, ID, KEYS, State, reopen, small_files, state_of

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Held:
    """Files to be read, by path."""

    files: Mapping[str, bytes]

    def read(self, path: str) -> bytes:
        return self.files[path]

    def size(self, path: str) -> int:
        return len(self.files[path])

    def names(self, directory: str) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.files)


@dataclass
class Kept:
    """A store's files, closed, and what they tell. states: by revision."""

    files: Files
    states: list[State] = field(default_factory=list)

    @property
    def newest(self) -> int:
        """The newest revision."""
        return len(self.states) - 1

    def paths(self, kind: str) -> list[str]:
        """Return the segments, or snapshots, the oldest first."""
        return sorted(path for path in self.files if f"/{kind}-" in path)


def read(files: Mapping[str, bytes]) -> tuple[int, State]:
    """Return the revision and the values that files tell. Raises: CorruptLog."""
    history = Reader(Held(files), DIRECTORY).read(Retention(revisions=1))
    page = history.list("/registry/")
    return history.revision, dict(zip(page.keys, page.values, strict=True))


def kept(seed: int, sizes: tuple[int, ...], groups: int, *, revisions: int = 5) -> Kept:
    """Return what a store leaves."""
    disk, run, chance = MemoryDisk(), Run("always", seed), random.Random(seed)
    store = reopen(disk, revisions=revisions)
    for _ in range(groups):
        for _ in range(chance.randint(1, 3)):
            run.commit(store, chance, sizes)
        store.flush(lambda error: None)
    store.close()
    return Kept({path: bytes(data) for path, data in disk.files.items()}, run.states)


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


# Flipped bits.


def log_of(*sizes: int) -> Kept:
    """Return one segment, a group for each value."""
    disk = MemoryDisk()
    store, states, chance = reopen(disk), [State()], random.Random(8)
    for size in sizes:
        key, value = KEYS[len(states) % 5], chance.randbytes(size)
        if size == 1030:
            value = bytes(size)  # Zeros that look like sectors that were never written.
        states.append(states[-1] | {key: value})
        store.commit([Write(key, value)], NO_CAUSE)
        store.flush(lambda error: None)
    store.close()
    return Kept({path: bytes(data) for path, data in disk.files.items()}, states)


def check_flips(path: str, data: bytes, revisions: Sequence[int], *, step: int = 1) -> None:
    """Assert that every flipped bit of a file is found, and where it is told.

    revisions: what is good before the header, and before each frame.
    """
    starts = [0, *(found.offset for found in frames(data))]
    for bit in range(0, 8 * len(data), step):
        index, rotten = bisect_right(starts, bit // 8) - 1, flipped(data, bit)
        if index:
            *before, last = frames(rotten)
            assert isinstance(last, Flaw), bit
            assert (last.kind, last.offset, len(before) + 1) == ("corrupt", starts[index], index)
        if index == 0 or bit // 8 - starts[index] < HEAD_SIZE or bit % 29 == 0:
            with pytest.raises(CorruptLog) as caught:
                read({path: rotten})
            told = caught.value
            assert (told.path, told.offset, told.revision) == (
                path, starts[index], revisions[index],
            ), bit  # fmt: skip


def test_every_bit_of_a_log_of_8_kib_is_found() -> None:
    log = log_of(3, 1200, 0, 4500, 40, 1500, 500)
    ((path, data),) = log.files.items()
    assert len(data) >= 8192
    assert read(log.files) == (log.newest, log.states[-1])
    check_flips(path, data, [0, *range(log.newest)])


def test_bits_of_what_looks_like_a_hole_are_found() -> None:
    log = log_of(10, 1030)
    ((path, data),) = log.files.items()
    check_flips(path, data, [0, 0, 1], step=9)


def test_every_bit_of_a_snapshot_of_8_kib_is_found() -> None:
    with small_files(piece=2000):
        log = kept(4, (900, 1700, 2400), 12)
        disk = MemoryDisk.holding(log.files)
        backup.compact(disk, DIRECTORY)
    ((path, data),) = disk.files.items()
    assert len(data) >= 8192
    assert read({path: bytes(data)}) == (log.newest, log.states[-1])
    count = sum(1 for _ in frames(bytes(data)))
    assert count > 3, "in pieces"
    check_flips(path, bytes(data), [0] * (count + 1))


def test_a_bit_in_the_room_ahead_is_found_or_does_no_harm() -> None:
    log = log_of(30, 40)
    ((path, data),) = log.files.items()
    found = 0
    for bit in range(0, 8 * 1500, 7):
        files = {path: data + flipped(bytes(1500), bit)}
        try:
            assert read(files) == (log.newest, log.states[-1]), "it is cut off, and told"
        except CorruptLog as error:
            assert (error.offset, error.revision) == (len(data), log.newest)
            found += 1
    assert 0 < found < 8 * SECTOR / 7


# Reads and writes that go astray.


def check_read(log: Kept, files: Mapping[str, bytes], *, last: bool = False) -> bool:
    """Assert that damage is found, or that everything is there; tell which.

    last: whether the newest frame may be taken for one that was not written.
    """
    try:
        revision, state = read(files)
    except CorruptLog as error:
        assert error.path in files
        assert 0 <= error.offset <= len(files[error.path])
        assert error.revision <= log.newest
        return True
    assert state == log.states[revision]
    assert revision == log.newest or last, "lost in silence"
    return False


def segmented(seed: int = 2) -> Kept:
    """Return several segments, and a snapshot; nothing that is superfluous."""
    with small_files(segment=1500, snapshot=4000, piece=700):
        log = kept(seed, (10, 100, 900), 14, revisions=12)
    assert len(log.paths("log")) >= 4
    assert len(log.paths("snapshot")) == 1
    return log


def newest_frame(data: bytes) -> int:
    """Return where the newest frame of a segment begins."""
    return max([found.offset for found in frames(data)], default=0)


def test_a_read_of_another_file_is_found() -> None:
    log = segmented()
    assert not check_read(log, log.files)
    for path in log.files:
        for other in log.files.keys() - {path}:
            found = check_read(log, log.files | {path: log.files[other]})
            assert found, f"{other} instead of {path}"


def test_a_read_from_another_place_is_found() -> None:
    """A sector comes from somewhere else, of this file or of another; or all is shifted."""
    log, chance = segmented(), random.Random(1)
    tried = 0
    for path, data in log.files.items():
        for sector in range(0, len(data), SECTOR):
            for _ in range(12):
                other = log.files[chance.choice(list(log.files))]
                at = chance.randrange(0, len(other), chance.choice((1, SECTOR)))
                there = other[at : at + SECTOR]
                wrong = data[:sector] + there + data[sector + len(there) :]
                if wrong == data:
                    continue
                tried += 1
                newest = path == log.paths("log")[-1] and sector + SECTOR > newest_frame(data)
                check_read(log, log.files | {path: wrong}, last=newest)
        for shift in (1, 4, HEADER_SIZE, len(data) - 50):
            assert check_read(log, log.files | {path: data[shift:]})
            assert check_read(log, log.files | {path: bytes(shift) + data})
    assert tried > 100


def test_an_old_sector_is_found() -> None:
    """A sector is as it was at any time before: only the newest frame may be missing for that."""
    history: list[Files] = []

    class Remembering(MemoryDisk):
        def touch(self, operation: str, path: str) -> None:
            super().touch(operation, path)
            if operation == "write":
                history.append({path: bytes(data) for path, data in self.files.items()})

    with small_files(segment=1500, snapshot=4000, piece=700, ahead=0):
        disk, run, chance = Remembering(), Run("always", 2), random.Random(2)
        store = reopen(disk, revisions=12)
        for _ in range(25):
            run.commit(store, chance, (10, 100, 900))
            store.flush(lambda error: None)
        store.close()
    log = Kept({path: bytes(data) for path, data in disk.files.items()}, run.states)
    found = lost = 0
    for old in history:
        for path, before in old.items():
            if path not in log.files:
                continue
            data = log.files[path]
            newest = path == log.paths("log")[-1]
            for sector in range(0, len(data), SECTOR):
                was = before[sector : sector + SECTOR].ljust(SECTOR, b"\0")
                wrong = data[:sector] + was[: len(data) - sector] + data[sector + SECTOR :]
                if wrong == data:
                    continue
                last = newest and sector + SECTOR > newest_frame(data)
                told = check_read(log, log.files | {path: wrong}, last=last)
                found, lost = found + told, lost + (not told)
    assert found > 50
    assert lost < found / 4


@given(st.integers(0, 2**32))
def test_a_write_that_goes_astray_is_found_unless_it_was_the_last(seed: int) -> None:
    """A write lands nowhere, somewhere else in its file, or in another file; all seems well."""
    chance, disk, run = random.Random(seed), MemoryDisk(), Run("always", seed)
    writes: list[tuple[str, int]] = []  # All of them, and where they should have landed.
    astray = chance.randint(2, 30)

    def aim(path: str, at: int) -> tuple[str, int] | None:
        writes.append((path, at))
        if len(writes) != astray or chance.random() < 0.2:
            return None if len(writes) == astray else (path, at)
        other = chance.choice(list(disk.files))
        return other, chance.randrange(
            0, len(disk.files[other]) + SECTOR, chance.choice((1, SECTOR))
        )

    with small_files(segment=1500, snapshot=4000, piece=700, ahead=0):
        store = reopen(disk, revisions=12)
        disk.aim = aim
        for _ in range(chance.randint(5, 25)):
            run.commit(store, chance, (10, 100, 900))
            store.flush(lambda error: None)
        store.close()
    files = {path: bytes(data) for path, data in disk.files.items()}
    if len(writes) < astray:
        assert read(files) == (store.revision, run.states[-1])
        return
    path, _ = writes[astray - 1]
    after = [where for where, _ in writes[astray:] if "/log-" in where]
    check_read(Kept(files, run.states), files, last="/log-" in path and not after)


@given(st.integers(0, 2**32), st.sampled_from(["always", "interval", "never"]))
def test_a_disk_that_lies_about_syncs_costs_an_end_or_is_found(seed: int, sync: Sync) -> None:
    chance, run = random.Random(seed), Run(sync, seed)
    disk = MemoryDisk()
    with small_files(segment=1500, snapshot=4000, piece=700, ahead=900):
        stepper = Stepper(run, (10, 100, 900), disk)
        for step in range(chance.randint(5, 60)):
            disk.lying = step >= 10
            stepper.step()
        for after in (disk.crash(chance) for _ in range(10)):
            try:
                revision, state = read({path: bytes(data) for path, data in after.files.items()})
            except CorruptLog:
                continue
            assert state == run.states[revision]


# Frames and files that are not where they were.


def doubled(log: Kept, path: str, chance: random.Random) -> Files:
    """A frame is there twice: at once, or once more later."""
    data, found = log.files[path], list(frames(log.files[path]))
    index = chance.randrange(len(found))
    frame, place = found[index], chance.choice(found[index:])
    return {path: data[: place.end] + data[frame.offset : frame.end] + data[place.end :]}


def exchanged(log: Kept, path: str, chance: random.Random) -> Files:
    """Two frames have changed their places."""
    data = log.files[path]
    one, two = sorted(chance.sample(list(frames(data)), 2), key=lambda found: found.offset)
    return {
        path: data[: one.offset] + data[two.offset : two.end] + data[one.end : two.offset]
        + data[one.offset : one.end] + data[two.end :]
    }  # fmt: skip


def without(log: Kept, path: str, chance: random.Random) -> Files:
    """A frame is missing, which is not the last."""
    data = log.files[path]
    found = chance.choice(list(frames(data))[:-1])
    return {path: data[: found.offset] + data[found.end :]}


@pytest.mark.parametrize("change", [doubled, exchanged, without])
def test_frames_that_are_not_where_they_were_are_found(
    change: Callable[[Kept, str, random.Random], Files],
) -> None:
    """In segments and in snapshots."""
    with small_files(segment=1500, snapshot=4000, piece=300):
        log, chance = kept(2, (10, 100, 900), 14, revisions=12), random.Random(1)
    found = 0
    for path in log.files:
        for _ in range(12):
            if sum(1 for _ in frames(log.files[path])) > 1:
                # What a snapshot has replaced is not read.
                found += check_read(log, log.files | change(log, path, chance))
    assert found > 30


def test_a_segment_that_is_missing_or_in_the_place_of_another_is_found() -> None:
    log = segmented()
    paths = log.paths("log")
    (snapshot,) = log.paths("snapshot")
    for path in paths[:-1]:
        assert check_read(log, {p: d for p, d in log.files.items() if p != path}), path
    for path in paths:
        for other in paths:
            if other != path:
                a, b = log.files[path], log.files[other]
                assert check_read(log, log.files | {path: b})
                assert check_read(log, log.files | {path: b, other: a})
    assert check_read(log, {p: d for p, d in log.files.items() if p != snapshot})


@pytest.mark.parametrize("kind, number", [("log", LOG), ("snapshot", SNAPSHOT)])
def test_a_file_of_another_cluster_or_of_another_kind_is_found(kind: str, number: int) -> None:
    log = segmented()
    other_kind = SNAPSHOT if number == LOG else LOG
    for path in log.paths(kind):
        rest = log.files[path][HEADER_SIZE:]
        for wrong, why in (
            (header(number, bytes(16)), "it belongs to another cluster"),
            (header(other_kind, ID), f"kind {other_kind}; expected 2, kind {number}"),
        ):
            # The first file that is read tells which cluster it is: then all others are foreign.
            with pytest.raises(CorruptLog, match=why) as caught:
                read(log.files | {path: wrong + rest})
            assert caught.value.offset == 0
            assert caught.value.path == path or (kind == "snapshot" and number == SNAPSHOT)


def test_an_older_snapshot_in_the_place_of_the_newest_is_found() -> None:
    log = segmented()
    (path,) = log.paths("snapshot")
    disk = MemoryDisk.holding(log.files)
    store = reopen(disk, revisions=1)
    newest = store.revision
    store.close()
    backup.compact(disk, DIRECTORY)
    (newer,) = [p for p in disk.files if "snapshot-" in p]
    assert newer == f"{DIRECTORY}/{file_name('snapshot', newest)}"
    with pytest.raises(CorruptLog, match="it is a snapshot of revision") as caught:
        read({newer: log.files[path]})
    assert caught.value.path == newer
    with pytest.raises(CorruptLog, match="it is a snapshot of revision"):
        reopen(MemoryDisk.holding({newer: log.files[path]}))
    assert state_of(reopen(disk)) == log.states[-1]
