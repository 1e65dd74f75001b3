"""Backups hold what was acknowledged; going back to before a damage keeps all that was good."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import backup
from kubeloop.store.disk import Disk, RealDisk
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.history import Retention, Write
from kubeloop.store.recovery import CorruptLog
from kubeloop.store.store import Store
from tests.store.faults import ID, Ledger, small_files, state_of, work

FILE = "backup"


class Place:
    """A disk with a directory for a store, one for another, and one for backups."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk, self.root = disk, root
        self.store, self.other, self.file = f"{root}/store", f"{root}/other", f"{root}/kept/{FILE}"

    def open(self, directory: str = "", *, revisions: int = 100) -> Store:
        return Store.open(
            self.disk,
            directory or self.store,
            threadsafe=None,
            fresh_id=ID,
            retention=Retention(revisions=revisions),
        )

    def filled(self, groups: int = 12) -> tuple[Store, Ledger]:
        """Return an open store of some size, the last commit of which has a lease."""
        store, ledger = self.open(), Ledger()
        work(store, ledger, random.Random(3), groups=groups)
        store.commit([Write("/registry/events/default/e", b"e", None, 1234.5)], NO_CAUSE)
        ledger.states.append({**ledger.states[-1], "/registry/events/default/e": b"e"})
        store.flush(lambda error: None)
        ledger.acknowledged = store.durable
        return store, ledger

    def flip(self, path: str, bit: int) -> None:
        """Flip a bit of a file."""
        data = bytearray(self.disk.read(path))
        data[bit // 8] ^= 1 << bit % 8
        self.put(path, bytes(data))

    def put(self, path: str, data: bytes) -> None:
        file = self.disk.open(path)
        file.truncate(0)
        file.write(data, 0)
        file.close()


@pytest.fixture(params=["memory", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    for name in ("store", "other", "kept"):
        (tmp_path / name).mkdir()
    disk = MemoryDisk() if request.param == "memory" else RealDisk()
    with small_files():
        yield Place(disk, str(tmp_path))


def test_a_backup_is_how_things_are_and_restores_to_the_same(place: Place) -> None:
    store, _ = place.filled()
    written = backup.snapshot(place.disk, place.store, place.file)
    page = store.list("/registry/")
    assert written.revision == store.revision
    assert written.keys == len(page.keys)
    assert written.value_bytes == sum(map(len, page.values))
    assert written.size == place.disk.size(place.file)
    assert backup.restore(place.disk, place.file, place.other) == written
    other = place.open(place.other)
    assert other.list("/registry/") == page
    assert list(other.history.leases()) == list(store.history.leases()) != []
    assert other.next_expiry() == 1234.5
    assert other.recovery is not None
    assert other.recovery.cluster_id == ID
    other.commit([Write("/registry/pods/default/new", b"x")], NO_CAUSE)
    other.flush(lambda error: None)
    other.close()
    assert place.open(place.other).revision == written.revision + 1
