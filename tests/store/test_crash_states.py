"""Every moment of a run, and everything a loss of power may make of it.

Each moment of a recorded run stands for a death, and for a loss of power: what was not synced is
old, new or as it was in between, sector by sector, files have any length, names are there or not,
the write under way is cut anywhere. Whatever it is, the store that opens it must be a prefix of
what was committed, with all that was promised; it tells what it cut off, and goes on.

    KUBELOOP_CRASH_STATES=1000000 KUBELOOP_COMPACTIONS=50000 pytest tests/store/test_crash_states.py
"""

import os
import random
from dataclasses import dataclass, field
from itertools import count

import pytest

from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.remains import Remains
from kubeloop.store import backup
from kubeloop.store.history import Write
from kubeloop.store.store import Store, Sync
from tests.store.crashes import REVISIONS, Moment, Recorder, Run, record
from tests.store.faults import BY, DIRECTORY, KEYS, reopen, small_files, state_of

STATES = int(os.environ.get("KUBELOOP_CRASH_STATES", "20000"))  # Different ones, in all.
POLICIES: tuple[Sync, ...] = ("always", "interval", "never")
COMPACTIONS = int(os.environ.get("KUBELOOP_COMPACTIONS", "500"))
SHARDS = 5  # For each policy.
MOST = 24 if STATES < 10**5 else 200  # Of one moment; see `Moment.outcomes`.
TWICE = 1 / 50  # So many of them lose power a second time, at any moment of their recovery.
SHAPES = (
    # The bytes of a segment, of log before a snapshot, of its pieces, of room ahead; of values.
    (700, 1200, 300, 600, (0, 10, 100, 300)),
    (2000, 3000, 1000, 1500, (10, 400, 900)),
    (5000, 9000, 2000, 4000, (10, 1000, 2500)),
)


@dataclass
class Tally:
    """Opens every state once, and counts them.

    found: revisions that came back, by the hash of the files.
    """

    run: Run
    chance: random.Random
    found: dict[int, int] = field(default_factory=dict)
    cuts: int = 0
    snapshots: int = 0

    def check(self, moment: Moment, most: int, *, twice: float = 0.0) -> None:
        """Check what may be left of a moment."""
        for files, promised in moment.outcomes(self.chance, most):
            mark = hash(frozenset(files.items()))
            if mark not in self.found:
                self.found[mark] = self._open(files)
                if self.chance.random() < twice:
                    self._die_again(files, self.found[mark])
            revision = self.found[mark]
            assert revision >= promised, f"{promised} was promised, {revision} came back"
            assert revision <= moment.committed, "nobody has committed that yet"

    def _open(self, files: Remains) -> int:
        """Open a store, check all of it, and go on; return the revision that came back."""
        disk, store = self.open(files)
        revision = store.revision
        self._go_on(disk, store)
        return revision

    def open(self, files: Remains) -> tuple[MemoryDisk, Store]:
        """Open a store, and check all of it."""
        disk = MemoryDisk.holding(files)
        store = reopen(disk, revisions=REVISIONS)
        self._check_content(store)
        self._check_cut(store, files, disk)
        return disk, store

    def _check_content(self, store: Store) -> None:
        run, history = self.run, store.history
        floor, revision = history.floor, store.revision
        assert store.durable == revision < len(run.states)
        for at in range(floor, revision + 1):
            page = store.list("/registry/", revision=at)
            assert dict(zip(page.keys, page.values, strict=True)) == run.states[at]
        told = [fact for facts in run.facts[floor + 1 : revision + 1] for fact in facts]
        assert list(history.since(floor)) == told
        assert list(history.leases()) == run.leases[revision]

    def _check_cut(self, store: Store, files: Remains, disk: MemoryDisk) -> None:
        """Check that nothing was changed but a torn end cut off, and that it was told."""
        recovery = store.recovery
        assert recovery is not None
        self.snapshots += recovery.snapshot > 0
        after = {path: bytes(data) for path, data in disk.files.items()}
        assert all(files[path].startswith(data) for path, data in after.items())
        shorter = [path for path, data in after.items() if len(data) < len(files[path])]
        cut = recovery.cut
        if cut is None:
            assert not any(any(files[path][len(after[path]) :]) for path in shorter), "in silence"
            return
        self.cuts += 1
        assert shorter == [cut.path]
        assert (len(after[cut.path]), cut.size) == (cut.offset, len(files[cut.path]) - cut.offset)
        assert cut.why

    def _go_on(self, disk: MemoryDisk, store: Store) -> None:
        state, revision = dict(self.run.states[store.revision]), store.revision + 1
        told: list[Exception | None] = []
        state[KEYS[0]] = b"and on"
        assert store.commit([Write(KEYS[0], b"and on")], BY) == revision
        store.flush(told.append)
        assert told == [None]
        if self.chance.random() < 0.5:
            store.close()
        else:
            disk = disk.crash(self.chance)
        again = reopen(disk, revisions=REVISIONS)
        assert again.revision == revision
        assert state_of(again) == state
        assert again.recovery is not None
        assert again.recovery.cut is None

    def _die_again(self, files: Remains, revision: int) -> None:
        """Lose power while the store is opened, or commits for the first time after that."""
        run = self.run.until(revision)
        disk = Recorder(run, files)
        store = reopen(disk, revisions=REVISIONS)
        run.commit(store, self.chance, (10, 600))
        store.flush(lambda error: None)
        tally = Tally(run, self.chance, self.found)
        for moment in disk.moments:
            tally.check(moment, 2)


@pytest.mark.parametrize(
    "sync, shard", [(sync, shard) for sync in POLICIES for shard in range(SHARDS)]
)
def test_power_lost_at_any_moment_costs_nothing_that_was_promised(sync: Sync, shard: int) -> None:
    states = cuts = snapshots = 0
    quota = STATES / len(POLICIES) / SHARDS
    for turn in count():
        seed = turn * SHARDS + shard
        segment, snapshot, piece, ahead, sizes = SHAPES[seed % len(SHAPES)]
        with small_files(segment=segment, snapshot=snapshot, piece=piece, ahead=ahead):
            run = record(sync, seed, sizes)
            tally = Tally(run, random.Random(seed))
            for moment in run.moments:
                try:
                    tally.check(moment, MOST, twice=TWICE)
                except Exception as error:
                    error.add_note(f"sync={sync!r}, seed={seed}, moment {moment.number}")
                    raise
                if turn and states + len(tally.found) > quota:
                    break
        states += len(tally.found)
        cuts += tally.cuts
        snapshots += tally.snapshots
        if states > quota:
            break
    assert cuts > states / 20, "many of them are torn"
    assert snapshots > states / 20, "many begin with a snapshot"


@pytest.mark.parametrize("shard", range(SHARDS))
def test_power_lost_in_a_compaction_costs_only_what_was_to_be_forgotten(shard: int) -> None:
    """Every step of every compaction is tried, in one of the ways it may end."""
    for seed in range(shard, COMPACTIONS, SHARDS):
        segment, snapshot, piece, ahead, sizes = SHAPES[seed % len(SHAPES)]
        with small_files(segment=segment, snapshot=snapshot, piece=piece, ahead=ahead):
            run, chance, disk = Run("always", seed), random.Random(seed), MemoryDisk()
            store = reopen(disk, revisions=9)
            for _ in range(chance.randint(1, 14)):
                run.commit(store, chance, sizes)
                store.flush(lambda error: None)
            store.close()
            run = run.until(store.revision)
            recorder = Recorder(run, disk.files)
            floor = backup.read(disk, DIRECTORY).history.floor
            backup.compact(recorder, DIRECTORY, chance.randint(floor, store.revision))
            tally = Tally(run, chance)
            for moment in recorder.moments:
                files, _ = chance.choice(list(moment.outcomes(chance, 1)))
                after, store = tally.open(files)
                assert store.revision == run.safe
                if chance.random() < 0.1:
                    store.close()
                    backup.compact(after, DIRECTORY)
                    assert reopen(after).history.floor == run.safe
