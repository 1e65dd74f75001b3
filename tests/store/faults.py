"""What tests of faults share: a small workload, a ledger of what was promised, a comparison."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import log as log_module
from kubeloop.store import store as store_module
from kubeloop.store.facts import Cause, key_of
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Store, Sync

DIRECTORY = "/data"
ID = bytes(range(16))
BY = Cause("tester", "m1", 7, "system:admin")
KEYS = [key_of("pods", "default", f"p{n}") for n in range(5)]

State = dict[str, bytes]


@dataclass
class Ledger:
    """What was committed, by revision, and up to where it was acknowledged."""

    states: list[State] = field(default_factory=lambda: [{}])
    acknowledged: int = 0

    def copy(self) -> "Ledger":
        """Return it as it is now. States never change."""
        return Ledger(list(self.states), self.acknowledged)


def state_of(store: Store) -> State:
    """Return all values."""
    page = store.list("/registry/")
    return dict(zip(page.keys, page.values, strict=True))


def reopen(disk: MemoryDisk, *, revisions: int = 7, sync: Sync = "always") -> Store:
    """Open the store on a disk; it looks back at `revisions`."""
    return Store.open(
        disk,
        DIRECTORY,
        threadsafe=None,
        fresh_id=ID,
        retention=Retention(revisions=revisions),
        sync=sync,
        later=lambda delay_s, call: None,
    )


@contextmanager
def small_files(
    *, segment: int = 2000, snapshot: int = 6000, piece: int = 500, ahead: int = 2**20
) -> Iterator[None]:
    """Have segments and snapshots every few commits."""
    before = (
        log_module.SEGMENT_BYTES, store_module.SNAPSHOT_BYTES,
        log_module._PIECE_BYTES, log_module.AHEAD_BYTES,
    )  # fmt: skip
    try:
        _set_sizes(segment, snapshot, piece, ahead)
        yield
    finally:
        _set_sizes(*before)


def _set_sizes(segment: int, snapshot: int, piece: int, ahead: int) -> None:
    log_module.SEGMENT_BYTES = segment  # type: ignore[misc]
    store_module.SNAPSHOT_BYTES = snapshot  # type: ignore[misc]
    log_module._PIECE_BYTES = piece  # type: ignore[misc]
    log_module.AHEAD_BYTES = ahead  # type: ignore[misc]


def work(
    store: Store,
    ledger: Ledger,
    chance: random.Random,
    *,
    groups: int,
    sizes: tuple[int, ...] = (10, 100, 900),
    ahead: bool = False,
) -> None:
    """Commit groups of transactions, each group with one sync; stop when one is refused.

    ahead: lengthen the segment whenever there is time, as the thread does.
    """
    for _ in range(groups):
        for _ in range(chance.randint(1, 4)):
            state = dict(ledger.states[store.revision])
            writes = []
            for key in chance.sample(KEYS, chance.randint(1, 2)):
                gone = key in state and chance.random() < 0.3
                value = None if gone else chance.randbytes(chance.choice(sizes))
                writes.append(Write(key, value))
                state.pop(key, None)
                if value is not None:
                    state[key] = value
            del ledger.states[store.revision + 1 :]
            ledger.states.append(state)
            store.commit(writes, BY)
        told: list[Exception | None] = []
        store.flush(told.append)
        if told != [None]:
            return
        ledger.acknowledged = store.durable
        if ahead and store._writer is not None:
            store._writer._log.prepare()


def check(store: Store, ledger: Ledger) -> None:
    """Assert that a store is a prefix of what was committed, with all that was acknowledged."""
    assert store.revision >= ledger.acknowledged, "acknowledged, and lost"
    assert store.revision < len(ledger.states), "never committed"
    assert state_of(store) == ledger.states[store.revision]
    assert store.durable == store.revision
    for revision in range(store.history.floor, store.revision):
        page = store.list("/registry/", revision=revision)
        assert dict(zip(page.keys, page.values, strict=True)) == ledger.states[revision]


def copy_of(disk: MemoryDisk) -> MemoryDisk:
    """Return a disk with the same files, all safe."""
    after = disk.copy()
    after.settle()
    return after
