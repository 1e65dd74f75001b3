"""Backups hold what was acknowledged; going back to before a damage keeps all that was good."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL

import pytest

from kubeloop.api.errors import Expired
from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import backup
from kubeloop.store.disk import Disk, RealDisk
from kubeloop.store.facts import NO_CAUSE
from kubeloop.store.history import Retention, Write
from kubeloop.store.log import file_name
from kubeloop.store.recovery import CorruptLog
from kubeloop.store.store import Store
from tests.store.faults import ID, Ledger, check, copy_of, small_files, work
from tests.store.test_kill import keeper
from tests.store.writer import expected

EVENT = "/registry/events/default/e"


Filled = tuple[Store, Ledger]


class Place:
    """A disk with a directory for a store, one for another, and one for backups."""

    def __init__(self, disk: Disk, root: str) -> None:
        self.disk, self.root = disk, root
        self.store, self.other, self.file = f"{root}/store", f"{root}/other", f"{root}/kept/backup"

    def open(self, directory: str = "", *, revisions: int = 100) -> Store:
        return Store.open(
            self.disk,
            directory or self.store,
            threadsafe=None,
            fresh_id=ID,
            retention=Retention(revisions=revisions),
        )

    def filled(
        self, groups: int = 12, *, sizes: tuple[int, ...] = (10, 100, 900), revisions: int = 100
    ) -> Filled:
        """Return an open store of some size, one key of which has a lease, and its ledger."""
        store, ledger = self.open(revisions=revisions), Ledger()
        store.commit([Write(EVENT, b"e", None, 1234.5)], NO_CAUSE)
        ledger.states.append({EVENT: b"e"})
        work(store, ledger, random.Random(3), groups=groups, sizes=sizes)
        return store, ledger

    def files(self, directory: str) -> dict[str, bytes]:
        """Return what is in a directory, without the lock and directories."""
        names = [n for n in self.disk.names(directory) if n[:4] in ("log-", "snap")]
        return {name: self.disk.read(f"{directory}/{name}") for name in names}

    def flip(self, path: str, bit: int) -> None:
        """Flip a bit of a file."""
        data = bytearray(self.disk.read(path))
        data[bit // 8] ^= 1 << bit % 8
        self.put(path, bytes(data))

    def put(self, path: str, data: bytes) -> None:
        file = self.disk.open(path)
        file.write(data, 0)
        file.truncate(len(data))
        file.close()


@pytest.fixture(params=["memory", "real"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    for name in ("store", "other", "kept"):
        (tmp_path / name).mkdir()
    disk = MemoryDisk() if request.param == "memory" else RealDisk()
    with small_files():
        yield Place(disk, str(tmp_path))


def test_a_backup_restores_to_the_same(place: Place) -> None:
    store, _ = place.filled()
    written = backup.snapshot(place.disk, place.store, place.file)
    page = store.list("/registry/")
    assert written.revision == store.revision
    assert written.keys == len(page.keys)
    assert written.value_bytes == sum(map(len, page.values))
    assert written.size == place.disk.size(place.file)
    kept = backup.read_backup(place.disk, place.file).history
    assert kept.list("/registry/") == page
    assert list(kept.leases()) == list(store.history.leases()) == [(EVENT, 1, 1234.5)]
    assert backup.restore(place.disk, place.file, place.other) == written
    other = place.open(place.other)
    assert other.list("/registry/") == page
    assert list(other.history.leases()) == list(kept.leases())
    assert other.recovery is not None
    assert other.recovery.cluster_id == ID
    other.commit([Write("/registry/pods/default/new", b"x")], NO_CAUSE)
    other.flush(lambda error: None)
    other.close()
    assert place.open(place.other).revision == written.revision + 1


def test_a_backup_of_every_revision_that_is_kept(place: Place) -> None:
    store, ledger = place.filled(16, revisions=12)
    content = backup.read(place.disk, place.store)
    floor = content.history.floor
    assert 0 < floor < store.revision - 5, "there is a snapshot, and a log after it"
    for revision in range(floor, store.revision + 1):
        written = backup.snapshot(
            place.disk, place.store, place.file, revision=revision, replace=True
        )
        history = backup.read_backup(place.disk, place.file).history
        page = history.list("/registry/")
        assert written.revision == history.revision == revision
        assert dict(zip(page.keys, page.values, strict=True)) == ledger.states[revision]
    for wrong in (floor - 1, store.revision + 1):
        told = f"revision {wrong} is not there: it must be from {floor}, .*, to {store.revision}"
        with pytest.raises(backup.Refused, match=told):
            backup.snapshot(
                place.disk, place.store, place.file, revision=wrong, replace=True
            )  # fmt: skip


def test_what_is_there_is_not_written_over(place: Place) -> None:
    place.filled()
    before = place.files(place.store)
    place.put(place.file, b"precious")
    with pytest.raises(FileExistsError, match="backup exists already"):
        backup.snapshot(place.disk, place.store, place.file)
    assert place.disk.read(place.file) == b"precious"
    backup.snapshot(place.disk, place.store, place.file, replace=True)
    with pytest.raises(backup.Refused, match="belongs somewhere else"):
        backup.snapshot(place.disk, place.store, f"{place.store}/snapshot-9")
    with pytest.raises(BlockingIOError):
        backup.restore(place.disk, place.file, place.store)
    place.open(place.other).close()
    backup.restore(place.disk, place.file, place.other)
    with pytest.raises(backup.Refused, match=r"holds a store already \(snapshot-"):
        backup.restore(place.disk, place.file, place.other)
    assert place.files(place.store) == before


def test_there_must_be_a_store(place: Place) -> None:
    for directory in (place.other, f"{place.root}/nowhere"):
        for call in (backup.read, backup.find_loss, backup.compact):
            with pytest.raises(backup.Refused, match="holds no store"):
                call(place.disk, directory)
        assert place.disk.names(place.other) == [], "no lock is made where there is no store"


def test_every_flipped_byte_is_found(place: Place) -> None:
    store, _ = place.filled(2, sizes=(0, 10))
    store.close()
    backup.compact(place.disk, place.store, 3)
    backup.snapshot(place.disk, place.store, place.file)
    files = place.files(place.store)
    assert {name.partition("-")[0] for name in files} == {"log", "snapshot"}
    for name, data in files.items():
        path = f"{place.store}/{name}"
        for at in range(len(data)):
            place.flip(path, 8 * at + at % 8)
            with pytest.raises(CorruptLog, match=f"{name} is damaged at byte"):
                backup.read(place.disk, place.store, backup.NEWEST)
            place.put(path, data)
    data = place.disk.read(place.file)
    for at in range(len(data)):
        place.flip(place.file, 8 * at + at % 8)
        with pytest.raises(backup.DamagedBackup, match="backup is no whole backup: at byte"):
            backup.restore(place.disk, place.file, place.other)
        place.put(place.file, data[:at])
        with pytest.raises(backup.DamagedBackup):
            backup.read_backup(place.disk, place.file)
        place.put(place.file, data)
    assert place.disk.names(place.other) == [], "no damaged backup was restored"


def test_a_snapshot_under_a_wrong_name_is_found(place: Place) -> None:
    store, _ = place.filled(2)
    store.close()
    newest = backup.compact(place.disk, place.store).revision
    right, wrong = (f"{place.store}/{file_name('snapshot', n)}" for n in (newest, newest + 1))
    place.disk.rename(right, wrong)
    with pytest.raises(CorruptLog, match=f"it is a snapshot of revision {newest}"):
        backup.read(place.disk, place.store)


# Beside a cluster that writes.


def test_a_backup_beside_a_writer_as_fast_as_it_can(tmp_path: Path) -> None:
    store, disk = tmp_path / "store", RealDisk()
    store.mkdir()
    path = str(tmp_path / "backup")
    revisions: list[int] = []
    with keeper(store) as writers:
        pid = writers.start()
        while writers.promised < 100:
            assert writers.hear(seconds=60)
        while len(revisions) < 60 or writers.promised < 2000:
            while writers.hear(seconds=0):
                pass
            promised = writers.promised
            written = backup.snapshot(disk, str(store), path, replace=True)
            page = backup.read_backup(disk, path).history.list("/registry/")
            found = dict(zip(page.keys, page.values, strict=True))
            assert found == expected(writers.owners, written.revision)
            assert written.revision >= promised
            revisions.append(written.revision)
        os.kill(pid, SIGKILL)
        writers.bury()
    assert revisions == sorted(revisions)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "store"]


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_written_during_a_read(seed: int) -> None:
    """During every read of a file groups are written: segments follow, snapshots replace."""
    place, chance = Place(MemoryDisk(), "/data"), random.Random(seed)
    assert isinstance(place.disk, MemoryDisk)
    files = place.disk.files
    with small_files(ahead=1000):
        store, ledger = place.filled(20, revisions=9)
        work(store, ledger, chance, groups=1, ahead=True)
        acknowledged, left = ledger.acknowledged, chance.randint(1, 12)

        def look(path: str, content: bytes) -> bytes:
            """Return what a reader sees: the beginning as it was, the rest as it has become."""
            nonlocal left
            if left:
                left -= 1
                work(store, ledger, chance, groups=chance.randint(1, 9), ahead=True)
                at = chance.randint(0, len(content))
                content = content[:at] + bytes(files.get(path, content))[at:]
            return content

        place.disk.look = look
        history, _ = backup.read(place.disk, place.store)
        assert history.revision >= acknowledged
        for revision in range(history.floor, history.revision + 1):
            page = history.list("/registry/", revision=revision)
            assert dict(zip(page.keys, page.values, strict=True)) == ledger.states[revision]


def test_reading_comes_to_an_end() -> None:
    place = Place(MemoryDisk(), "/data")
    assert isinstance(place.disk, MemoryDisk)
    store, ledger = place.filled(3)
    chance = random.Random(1)

    def vanish(path: str, content: bytes) -> bytes:
        work(store, ledger, chance, groups=1)
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    place.disk.look = vanish
    with pytest.raises(backup.Refused, match="/data/store changes faster than it can be read"):
        backup.snapshot(place.disk, place.store, place.file)
    assert place.disk.names(f"{place.root}/kept") == []


def test_an_error_of_the_disk_leaves_the_old_backup_or_the_new_one() -> None:
    place = Place(MemoryDisk(), "/data")
    assert isinstance(place.disk, MemoryDisk)
    with small_files():
        store, ledger = place.filled(5)
        backup.snapshot(place.disk, place.store, place.file)
        old = place.disk.read(place.file)
        work(store, ledger, random.Random(4), groups=5)
        backup.snapshot(place.disk, place.store, place.file, replace=True)
        new = place.disk.read(place.file)
        place.put(place.file, old)
        failures = 0
        for nth in range(1, 100):
            disk = copy_of(place.disk)
            disk.fail(nth, errno.EIO)
            try:
                backup.snapshot(disk, place.store, place.file, replace=True)
            except OSError:
                failures += 1
            disk.kill()
            assert disk.names(f"{place.root}/kept") == ["backup"]
            for after in (disk, disk.crash(random.Random(nth))):
                assert after.read(place.file) in (old, new)
        assert 10 < failures < 99


def test_two_may_write_a_backup_at_once() -> None:
    place = Place(MemoryDisk(), "/data")
    disk = place.disk
    assert isinstance(disk, MemoryDisk)
    store, ledger = place.filled(5)

    def aim(path: str, at: int) -> tuple[str, int]:
        """Have the other begin, and end, while the first writes."""
        if path.endswith(".a"):
            disk.aim = lambda path, at: (path, at)
            work(store, ledger, random.Random(1), groups=3)
            backup.snapshot(disk, place.store, place.file, replace=True, mark="b")
        return path, at

    disk.aim = aim
    written = backup.snapshot(disk, place.store, place.file, replace=True, mark="a")
    assert written.revision < store.revision
    assert backup.read_backup(disk, place.file).history.revision == written.revision
    assert disk.names(f"{place.root}/kept") == ["backup"]


# Compaction.


def test_compaction_forgets_what_was_before(place: Place) -> None:
    store, ledger = place.filled()
    with pytest.raises(BlockingIOError, match="lock is held by process"):
        backup.compact(place.disk, place.store)
    store.close()
    middle, newest = store.revision - 5, store.revision
    assert backup.compact(place.disk, place.store, middle).revision == middle
    store = place.open()
    assert store.history.floor == middle
    check(store, ledger)
    with pytest.raises(Expired):
        store.list("/registry/", revision=middle - 1)
    store.close()
    done = backup.compact(place.disk, place.store)
    assert done.revision == newest
    assert done.freed > 0
    assert list(place.files(place.store)) == [file_name("snapshot", newest)]
    store = place.open()
    check(store, ledger)
    assert list(store.history.leases()) != []
    work(store, ledger, random.Random(1), groups=2)
    store.close()
    check(place.open(), ledger)


def test_compaction_to_what_is_not_there_is_refused(place: Place) -> None:
    store, _ = place.filled(2)
    store.close()
    before = place.files(place.store)
    with pytest.raises(backup.Refused, match=f"to {store.revision}, the newest"):
        backup.compact(place.disk, place.store, store.revision + 1)
    assert place.files(place.store) == before
    newest = backup.compact(place.disk, place.store).revision
    with pytest.raises(backup.Refused, match=f"from {newest}, the oldest"):
        backup.compact(place.disk, place.store, newest - 1)
    assert backup.compact(place.disk, place.store) == (newest, [], 0)
    assert place.open().revision == newest, "and the lock was given back"


def test_compaction_may_fail_at_any_call() -> None:
    place = Place(MemoryDisk(), "/data")
    assert isinstance(place.disk, MemoryDisk)
    with small_files():
        store, ledger = place.filled()
        store.close()
        failures = 0
        for nth in range(1, 100):
            disk = copy_of(place.disk)
            disk.fail(nth, errno.EIO)
            try:
                backup.compact(disk, place.store)
            except OSError:
                failures += 1
            disk.kill()
            for after in (disk.crash(random.Random(nth)), disk):
                check(Place(after, "/data").open(), ledger)
        assert 20 < failures < 99


# Back to before a damage.


def go_back(place: Place) -> backup.Loss:
    """Go back as the command does."""
    with backup.held(place.disk, place.store):
        loss = backup.find_loss(place.disk, place.store)
        aside = backup.aside_name(place.disk, place.store)
        if isinstance(place.disk, RealDisk):
            Path(place.store, aside).mkdir()
        backup.go_back(place.disk, place.store, loss, aside)
    return loss


def logged(place: Place) -> tuple[Ledger, dict[str, bytes]]:
    """Return the ledger of a closed store of several segments after a snapshot, and its files."""
    store, ledger = place.filled(14)
    store.close()
    backup.compact(place.disk, place.store, 12)
    files = place.files(place.store)
    assert sum(name.startswith("log-") for name in files) >= 3
    return ledger, files


def test_going_back_keeps_what_was_before_the_damage(place: Place) -> None:
    ledger, files = logged(place)
    chance, revisions = random.Random(2), set[int]()
    for turn, name in enumerate([n for n in files if "log-" in n] * 8):
        path = f"{place.store}/{name}"
        place.flip(path, chance.randrange(8 * len(files[name])))
        damaged = place.files(place.store)
        with pytest.raises(CorruptLog) as told:
            place.open()
        loss = go_back(place)
        assert loss.revision == told.value.revision == loss.damage.revision
        revisions.add(loss.revision)
        aside = f"{place.store}/damaged-{turn + 1}"
        assert place.files(aside) == {n: damaged[n] for n in loss.aside}
        kept = place.files(place.store)
        assert kept.keys() | set(loss.aside) == damaged.keys(), "nothing is deleted"
        ledger.acknowledged = loss.revision
        store = place.open()
        assert store.revision == loss.revision
        check(store, ledger)
        if turn % 3 == 0:
            work(store, Ledger(ledger.states[: store.revision + 1]), chance, groups=2)
        store.close()
        for n in place.files(place.store):
            place.disk.remove(f"{place.store}/{n}")
        for n, data in files.items():
            place.put(f"{place.store}/{n}", data)
    assert len(revisions) > 5


@pytest.mark.parametrize(("start", "end", "cut"), [(0, 1, False), (60, -1, False), (-90, -9, True)])
def test_going_back_may_be_cut_short_at_any_call(start: int, end: int, cut: bool) -> None:
    """A part of the third segment from the end is zeros."""
    place = Place(MemoryDisk(), "/data")
    assert isinstance(place.disk, MemoryDisk)
    with small_files():
        ledger, files = logged(place)
        name = sorted(n for n in files if "log-" in n)[-3]
        rotten = bytearray(files[name])
        rotten[start:end] = bytes(len(rotten[start:end]))
        place.put(f"{place.store}/{name}", bytes(rotten))
        place.disk.settle()
        damaged = place.files(place.store)
        want = backup.find_loss(place.disk, place.store)
        assert (want.cut is not None) == cut
        assert len(want.aside) == 3
        ledger.acknowledged = want.revision
        failures = 0
        for nth in range(1, 100):
            disk = copy_of(place.disk)
            disk.fail(nth, errno.EIO)
            try:
                go_back(Place(disk, "/data"))
            except OSError:
                failures += 1
            disk.kill()
            for after in (disk.crash(random.Random(nth)), disk):
                again = Place(after, "/data")
                try:
                    store = again.open()
                except CorruptLog:
                    assert go_back(again).revision == want.revision
                    store = again.open()
                assert store.revision == want.revision
                check(store, ledger)
                left = [bytes(data) for data in after.files.values()]
                assert all(data in left for data in damaged.values()), "nothing is deleted"
        assert 20 < failures < 99


def test_a_damaged_snapshot_is_given_up_only_if_the_older_files_are_there(place: Place) -> None:
    store, ledger = place.filled(4)
    store.close()
    older = place.files(place.store)
    newest = backup.compact(place.disk, place.store).revision
    place.flip(f"{place.store}/{file_name('snapshot', newest)}", 999)
    before = place.files(place.store)
    with pytest.raises(backup.Refused, match="no file tells how things were before: restore"):
        go_back(place)
    assert place.files(place.store) == before
    for name, data in older.items():  # As if there had been a crash before they were removed.
        place.put(f"{place.store}/{name}", data)
    loss = go_back(place)
    assert (loss.revision, loss.aside) == (newest, [file_name("snapshot", newest)])
    check(place.open(), ledger)


def test_there_is_no_way_back_from_nothing(place: Place) -> None:
    store, ledger = place.filled(4)
    store.close()
    with pytest.raises(backup.Refused, match="is not damaged"):
        go_back(place)
    check(place.open(), ledger)
