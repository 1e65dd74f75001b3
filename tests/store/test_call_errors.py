"""Every call of the disk fails once: whoever waits is told, and what is in memory is on the disk.

The run is one of a store with its thread, step by step. Calls fail before anything was done, in the
middle of a write, and after all was done; once, or from then on. docs/store-format.md says what
follows from which error: no room is told as StoreFull, anything else as StoreFailed, and a snapshot
that fails is given up.
"""

import errno
import os
import random
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import pytest

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import backup
from kubeloop.store.disk import RealDisk
from kubeloop.store.history import Write
from kubeloop.store.store import Store, StoreFailed, StoreFull, Sync
from tests.store.crashes import REVISIONS, Run, Stepper
from tests.store.faults import BY, DIRECTORY, ID, KEYS, State, reopen, small_files, state_of

CODES = (errno.EIO, errno.ENOSPC, errno.EDQUOT)
STEPS: dict[Sync, int] = {"always": 24, "interval": 44, "never": 24}
SIZES = (10, 100, 900)
SMALL = {"segment": 1200, "snapshot": 2500, "piece": 400, "ahead": 900}


class Failing(MemoryDisk):
    """Fails the nth call from when it is armed, and knows which one that was.

    lasting: whether all calls after that fail, too, but reads.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed: tuple[str, str] | None = None

    def arm(self, nth: int, code: int, part: float, *, lasting: bool = False) -> None:
        at, self.part = self.calls + nth, part

        def fault(operation: str, path: str) -> OSError | None:
            if self.calls < at or (self.calls > at and not lasting):
                return None
            self.failed = self.failed or (operation, path)
            return OSError(code, os.strerror(code), path)

        self.fault = fault

    def heal(self) -> None:
        self.fault = lambda operation, path: None


def copied(disk: MemoryDisk) -> Failing:
    """Return a disk with the same files, all safe."""
    same = Failing()
    same.files = {path: bytearray(data) for path, data in disk.files.items()}
    same.settle()
    return same


def opened(sync: Sync = "always", seed: int = 1) -> tuple[Stepper, Failing]:
    disk = Failing()
    return Stepper(Run(sync, seed), SIZES, disk), disk


def calls_of_a_run(sync: Sync) -> int:
    stepper, disk = opened(sync)
    begun = disk.calls
    for _ in range(STEPS[sync]):
        stepper.step()
    stepper.rest()
    return disk.calls - begun


def go_on(stepper: Stepper) -> None:
    """Go on until the end of the run, or until the store takes no more; then let it rest."""
    for _ in range(STEPS[stepper.run.sync]):
        if stepper.store.failure is not None:
            break
        stepper.step()
    stepper.rest()


def outcome(stepper: Stepper, disk: Failing, code: int) -> str:
    """Assert that what was told is what should be after this call failed; return it."""
    assert disk.failed is not None
    operation, path = disk.failed
    told = {type(error) for error in stepper.errors}
    if stepper.store.failure is not None:
        assert told <= {StoreFailed, StoreFull}
        assert code == errno.EIO or operation == "sync", "there was no room"
        assert "snapshot-" not in path
        with pytest.raises(StoreFailed, match="the disk failed"):
            stepper.store.commit([Write(KEYS[0], b"x")], BY)
        return "failed"
    assert told <= {StoreFull}
    assert not told or code != errno.EIO
    assert not told or "snapshot-" not in path
    return "full" if told else "nothing"


def check_memory(stepper: Stepper) -> State:
    """Assert that what is served is what is durable; return it."""
    state = state_of(stepper.store)
    assert state == stepper.run.states[stepper.store.durable]
    assert stepper.store.revision == stepper.store.durable
    return state


def check_disk(disk: MemoryDisk, run: Run, least: int, *, exact: bool) -> None:
    """Assert that what comes back holds what it must, and what comes back stays."""
    for seed, after in enumerate((disk.copy(), disk.crash(random.Random(disk.calls)))):
        store = reopen(after, revisions=REVISIONS)
        assert store.revision >= least
        assert store.revision == least or not exact
        if store.revision < len(run.states):
            assert state_of(store) == run.states[store.revision]
        state, revision = state_of(store), store.revision
        store.commit([Write(KEYS[0], b"on")], BY)
        store.flush(lambda error: None)
        again = reopen(after.crash(random.Random(seed)))
        assert again.revision == revision + 1
        assert state_of(again) == state | {KEYS[0]: b"on"}


FAULTS = (  # (error, how much of the call is done)
    (errno.EIO, 0.5), (errno.EIO, 1.0),
    (errno.ENOSPC, 0.0), (errno.ENOSPC, 0.5), (errno.ENOSPC, 1.0), (errno.EDQUOT, 0.5),
)  # fmt: skip


@pytest.mark.parametrize(
    "sync, faults", [("always", FAULTS), ("interval", FAULTS[0:4:3]), ("never", FAULTS[0:4:3])]
)
def test_every_call_of_a_run_fails_once(sync: Sync, faults: Sequence[tuple[int, float]]) -> None:
    outcomes = {"failed": 0, "full": 0, "nothing": 0}
    kinds = set()
    with small_files(**SMALL):
        calls = calls_of_a_run(sync)
        assert calls > 40
        for nth, (code, part) in product(range(1, calls + 1), faults):
            stepper, disk = opened(sync)
            disk.arm(nth, code, part)
            go_on(stepper)
            assert disk.failed is not None
            kinds.add(disk.failed[0])
            disk.heal()
            found = outcome(stepper, disk, code)
            outcomes[found] += 1
            state, store, run = check_memory(stepper), stepper.store, stepper.run
            exact = sync == "always" and found != "failed"
            check_disk(disk, run, store.durable if exact else run.safe, exact=exact)
            if found != "failed":
                assert run.states[store.durable :] == [state], "what is refused is taken back"
                stepper.commit()
                stepper.rest()
                assert len(run.states) - 1 == store.durable, "writes go on"
            stepper.end()
            assert disk.opened == 0
    calls_that_change = {"open", "write", "sync", "truncate", "rename", "remove", "sync_directory"}
    assert kinds == calls_that_change | {"names"}
    assert min(outcomes.values()) > 10, outcomes


@pytest.mark.parametrize("code", CODES)
def test_every_call_after_the_nth_fails(code: int) -> None:
    """A disk that is dead, or stays full; after that it is well, and the store is opened again."""
    with small_files(**SMALL):
        for nth in range(1, calls_of_a_run("always") + 1):
            stepper, disk = opened()
            disk.arm(nth, code, 0.5, lasting=True)
            go_on(stepper)
            for _ in range(3):
                if stepper.store.failure is None:
                    stepper.commit()
                    stepper.rest()
            assert stepper.errors, "a disk that is dead is noticed"
            state = check_memory(stepper)
            disk.heal()
            if stepper.store.failure is None:
                assert code != errno.EIO
                stepper.commit()
                stepper.rest()
                assert state_of(stepper.store) != state, "there is room again"
            check_disk(disk, stepper.run, stepper.run.safe, exact=False)
            stepper.end()
            assert disk.opened == 0


def test_opening_fails_at_every_call_and_succeeds_after_that() -> None:
    """What is there: a snapshot, what it replaced, an unfinished one, a torn end, an empty file."""
    with small_files(**SMALL):
        stepper, disk = opened()
        for _ in range(60):
            stepper.step()
        stepper.rest()
        before, run = disk.copy(), stepper.run
        stepper.end()
        newest = max(path for path in before.files if "log-" in path)
        before.files[newest] = before.files[newest].rstrip(b"\0") + b"\xf5klf torn"
        before.files[f"{DIRECTORY}/log-{10**6:020d}"] = bytearray()
        before.files[f"{DIRECTORY}/snapshot-{10**6:020d}.new"] = bytearray(b"KUBELOOP")
        before.settle()
        disk = copied(before)
        reopen(disk, revisions=REVISIONS)
        calls, failures = disk.calls, 0
        assert calls > 12, "names, reads, removals, and what is cut and written again"
        for nth, (code, part) in product(range(1, calls + 2), FAULTS):
            disk = copied(before)
            disk.arm(nth, code, part)
            try:
                reopen(disk, revisions=REVISIONS).close()
            except OSError as error:
                assert error.errno == code
                failures += 1
            assert disk.opened == 0
            disk.heal()
            check_disk(disk, run, len(run.states) - 1, exact=True)
        assert failures == calls * len(FAULTS)


def test_restoring_a_backup_fails_at_every_call_and_leaves_no_half_of_it() -> None:
    disk = Failing()
    stepper = Stepper(Run("always", 3), SIZES, disk)
    for _ in range(STEPS["always"]):
        stepper.step()
    stepper.end()
    state = state_of(stepper.store)
    backup.snapshot(disk, DIRECTORY, "/kept/backup")
    failures = 0
    for nth, (code, part) in product(range(1, 20), FAULTS):
        after = Failing()
        after.files["/kept/backup"] = disk.files["/kept/backup"]
        after.settle()
        after.arm(nth, code, part)
        try:
            backup.restore(after, "/kept/backup", "/new")
        except OSError as error:
            assert error.errno == code
            failures += 1
        assert after.opened == 0
        after.heal()
        for left in (after.copy(), after.crash(random.Random(nth))):
            names = [name for name in left.names("/new") if name.startswith("snapshot-")]
            if not [name for name in names if not name.endswith(".new")]:
                assert failures, "it succeeded, and is not there"
                backup.restore(left, "/kept/backup", "/new")
            store = Store.open(left, "/new", threadsafe=None, fresh_id=bytes(16))
            assert state_of(store) == state
            assert store.recovery is not None
            assert store.recovery.cluster_id == ID
    assert 40 < failures < 19 * len(FAULTS)


@pytest.mark.parametrize("code, error", [(errno.ENOSPC, StoreFull), (errno.EIO, StoreFailed)])
def test_a_write_that_is_cut_short_by_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[Exception]
) -> None:
    """The system writes a part and says so; of the rest it writes a part, and then it fails."""
    write, left = os.pwrite, [3, 5]

    def pwritev(handle: int, parts: Sequence[bytes], at: int) -> int:
        return write(handle, b"".join(parts)[:17], at)

    def pwrite(handle: int, data: bytes, at: int) -> int:
        if not left:
            raise OSError(code, os.strerror(code))
        return write(handle, data[: left.pop()], at)

    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=ID)
    told: list[Exception | None] = []
    commit: Callable[[bytes], None] = lambda value: (  # noqa: E731
        store.commit([Write(KEYS[0], value)], BY),
        store.flush(told.append),
    )[-1]
    commit(b"first")
    (segment,) = tmp_path.glob("log-*")
    before = segment.read_bytes()
    monkeypatch.setattr(os, "pwritev", pwritev)
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: write(handle, data[:7], at))
    commit(b"second")
    assert told == [None, None], "a part, and another, are the whole"
    monkeypatch.setattr(os, "pwrite", pwrite)
    whole = segment.read_bytes()
    commit(b"third")
    assert isinstance(told[2], error)
    assert store.durable == 2
    assert segment.read_bytes() == whole != before
    monkeypatch.undo()
    if error is StoreFull:
        commit(b"fourth")
        assert told[3] is None
    store.close()
    again = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=ID)
    assert state_of(again) == {KEYS[0]: b"fourth" if error is StoreFull else b"second"}
    again.close()
