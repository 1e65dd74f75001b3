"""Backups of a store, and the way out of damage: functions over a disk and a store's directory.

Whoever only reads takes no lock: a cluster may write at the same time. What is read then is how
things were at one revision, with everything that was acknowledged before the reading began; when
files are replaced or written to under the reader, it reads again.

A backup is a snapshot in a file by itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final, NamedTuple

from kubeloop.store import tree as trees
from kubeloop.store.disk import Disk, Files
from kubeloop.store.frames import HEADER_SIZE, SNAPSHOT, BadHeader, read_header
from kubeloop.store.history import History, Retention, Version
from kubeloop.store.log import file_name, parse_name, write_snapshot
from kubeloop.store.recovery import CorruptLog, Reader, Recovery, read_snapshot, recover

EVERYTHING: Final = Retention(revisions=None, age_s=None, bytes=None)
NEWEST: Final = Retention(revisions=1)
_SURE: Final = 3  # Damage that is found so often in a row is there: no write was under way.
_TRIES_MAX: Final = 50


class Refused(Exception):
    """It cannot be done; nothing was changed."""


class DamagedBackup(Exception):
    """A file is no whole backup."""

    def __init__(self, path: str, offset: int, why: str) -> None:
        super().__init__(f"{path} is no whole backup: at byte {offset}, {why}; take another")
        self.path, self.offset, self.why = path, offset, why


class Content(NamedTuple):
    """What was read: a history, and how it was found. recovery.snapshot is the floor on disk."""

    history: History
    recovery: Recovery


class Written(NamedTuple):
    """What a backup holds. value_bytes: of all values;  size: of the file, in bytes."""

    revision: int
    keys: int
    value_bytes: int
    size: int


class Compacted(NamedTuple):
    """What a compaction did. removed: the names of files;  freed: bytes, less if negative."""

    revision: int
    removed: list[str]
    freed: int


@dataclass(frozen=True, slots=True)
class Loss:
    """What it takes to go back to before the damage.

    revision: the newest that is kept.
    damage:   the first that was found.
    aside:    the names of files to be put aside.
    cut:      (name, size) of the one among them whose beginning stays, if there is one.
    """

    revision: int
    damage: CorruptLog
    aside: list[str]
    cut: tuple[str, int] | None


# Reading.


def read(disk: Disk, directory: str, retention: Retention = EVERYTHING) -> Content:
    """Read a store, which may be in use.

    Raises: Refused if there is none, CorruptLog, OSError.
    """
    found: list[tuple[str, int, str]] = []
    for _ in range(_TRIES_MAX):
        files_of(disk, directory)
        reader = Reader(disk, directory)
        try:
            history = reader.read(retention)
        except FileNotFoundError:
            found.clear()  # A snapshot has replaced it in between.
            continue
        except CorruptLog as error:
            # A write that was seen while it was under way is whole when the file is read again.
            found.append((error.path, error.offset, error.why))
            if found[-_SURE:] == [found[-1]] * _SURE:
                raise
            continue
        return Content(history, reader.recovery(reader.cluster_id))
    raise Refused(f"{directory} changes faster than it can be read, {_TRIES_MAX} times in a row")


def files_of(disk: Disk, directory: str) -> list[str]:
    """Return the names of a store's segments and snapshots. Raises: Refused, OSError."""
    try:
        names = [name for name in disk.names(directory) if parse_name(name)[0]]
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(f"{directory} holds no store: there is no such directory") from None
    if not names:
        raise Refused(f"{directory} holds no store: there is no log and no snapshot in it")
    return names


def sizes_of(disk: Disk, directory: str) -> dict[str, int]:
    """Return how many bytes a store's files have, by name. Raises: Refused, OSError."""
    sizes = {}
    for name in files_of(disk, directory):
        with suppress(FileNotFoundError):  # A snapshot has just replaced it.
            sizes[name] = disk.size(f"{directory}/{name}")
    return sizes


def read_backup(disk: Disk, path: str) -> Content:
    """Read a backup. Raises: DamagedBackup, OSError."""
    return _parse_backup(path, disk.read(path))


def version_at(history: History, revision: int | None) -> Version:
    """Return how things were at a revision, None being the newest. Raises: Refused."""
    newest, floor = history.revision, history.floor
    if revision is not None and not floor <= revision <= newest:
        raise Refused(
            f"revision {revision} is not there: it must be from {floor}, the oldest that is kept, "
            f"to {newest}, the newest"
        )
    return history.version(revision)


# Backups.


def snapshot(
    disk: Disk,
    directory: str,
    path: str,
    *,
    revision: int | None = None,
    replace: bool = False,
    mark: str = "new",
) -> Written:
    """Write a store, which may be in use, into one file: how it is, or was at a revision.

    replace: whether there may be a file already.
    mark:    ends the name of the file until it is whole; who may write at once has another.
    Raises: FileExistsError, Refused, CorruptLog, OSError; then there is no new file.
    """
    folder, _, name = path.rpartition("/")
    if folder == directory:
        raise Refused(f"{path} is within the store: a backup belongs somewhere else")
    if name in disk.names(folder) and not replace:
        raise FileExistsError(f"{path} exists already")
    history, recovery = read(disk, directory, NEWEST if revision is None else EVERYTHING)
    version = version_at(history, revision)
    beside = f"{path}.{mark}"
    with _cleaned_up(disk, beside):
        *_, size = write_snapshot(disk, beside, recovery.cluster_id, version)
        disk.rename(beside, path)
    disk.sync_directory(folder)
    return Written(version.revision, trees.count(version.tree), version.size, size)


def restore(disk: Disk, path: str, directory: str) -> Written:
    """Make a store of a backup, in a directory that exists and holds none.

    The cluster is the same, and its revisions go on from that of the backup.
    Raises: DamagedBackup, Refused, BlockingIOError if a cluster uses the directory, OSError.
    """
    data = disk.read(path)
    history, recovery = _parse_backup(path, data)
    with held(disk, directory):
        for name in disk.names(directory):
            if parse_name(name)[0]:
                raise Refused(f"{directory} holds a store already ({name}): take a new directory")
        _put(disk, f"{directory}/{file_name('snapshot', recovery.revision)}", data)
    keys = trees.count(history.version().tree)
    return Written(recovery.revision, keys, history.value_bytes, len(data))


def compact(disk: Disk, directory: str, revision: int | None = None) -> Compacted:
    """Forget how things were before a revision, None being the newest: that becomes the floor.

    Raises: BlockingIOError if a cluster uses the directory, Refused, CorruptLog, OSError.
    """
    files_of(disk, directory)  # Before a lock is made where there is none.
    with held(disk, directory):
        before = sizes_of(disk, directory)
        log, history, recovery = recover(disk, directory, b"", retention=EVERYTHING)
        try:
            version = version_at(history, revision)
            if version.revision > recovery.snapshot:
                for _ in log.snapshot(version):
                    pass
        finally:
            log.close()
        if 0 < version.revision == history.revision:
            for name in files_of(disk, directory):
                if parse_name(name)[0] == "log":
                    disk.remove(f"{directory}/{name}")  # The snapshot has all of it.
        disk.sync_directory(directory)
        after = sizes_of(disk, directory)
    freed = sum(before.values()) - sum(after.values())
    return Compacted(version.revision, sorted(before.keys() - after.keys()), freed)


# The way out of damage. The caller holds the lock all the time.


@contextmanager
def held(disk: Disk, directory: str) -> Iterator[None]:
    """Hold a store's lock. Raises: BlockingIOError that names who holds it."""
    lock = disk.lock(f"{directory}/lock")
    try:
        yield
    finally:
        lock.release()


def find_loss(disk: Disk, directory: str) -> Loss:
    """Return what it takes to go back to before the damage; change nothing.

    Raises: Refused if there is no damage, or nothing before it; OSError.
    """
    names = files_of(disk, directory)
    rest = _Rest(disk)
    damage: CorruptLog | None = None
    for _ in range(2 * len(names) + 1):
        reader = Reader(rest, directory)
        try:
            reader.read(NEWEST)
        except CorruptLog as error:
            damage = damage or error
            rest.give_up(error, names)
            continue
        if damage is None:
            raise Refused(f"{directory} is not damaged: there is nothing to give up")
        if reader.revision == 0:
            raise Refused(
                f"{damage.path} is damaged at byte {damage.offset}, and no file tells how things "
                "were before: restore a backup into a new directory"
            )
        return Loss(reader.revision, damage, sorted(rest.hidden), rest.cut)
    raise AssertionError("every turn hides or cuts a file")


def aside_name(disk: Disk, directory: str) -> str:
    """Return the name of a new directory, within the store's, for damaged files."""
    names = {name.partition("/")[0] for name in disk.names(directory)}
    return next(n for n in map("damaged-{}".format, range(1, len(names) + 2)) if n not in names)


def go_back(disk: Disk, directory: str, loss: Loss, aside: str) -> Recovery:
    """Go back to before the damage: put files aside, keep the good beginning of one of them.

    aside: the name of a directory within the store's, which exists.
    Whenever it is interrupted it can be done again, and nothing is lost.
    Raises: OSError.
    """
    if loss.cut is not None:
        name, size = loss.cut
        path = f"{directory}/{name}"
        data = disk.read(path)
        _put(disk, f"{directory}/{aside}/{name}", data)
        _put(disk, path, data[:size])
    # The oldest first: while newer ones are left, what is missing before them is seen.
    for name in loss.aside:
        if loss.cut is None or name != loss.cut[0]:
            disk.rename(f"{directory}/{name}", f"{directory}/{aside}/{name}")
            disk.sync_directory(f"{directory}/{aside}")
            disk.sync_directory(directory)
    content = read(disk, directory, NEWEST)
    assert content.recovery.revision == loss.revision, "what was found to be good is what is kept"
    return content.recovery


class _Rest(Files):
    """What is left of a directory without its damage.

    hidden: the names of files that are to be put aside;  cut: whose beginning stays, and its size.
    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self.hidden: set[str] = set()
        self.cut: tuple[str, int] | None = None

    def give_up(self, damage: CorruptLog, names: list[str]) -> None:
        """Hide what is damaged, and all that comes after it."""
        name = damage.path.rpartition("/")[2]
        kind, number = parse_name(name)
        if kind == "snapshot":
            self.hidden.add(name)
            return
        self.hidden |= {
            n for n in names if parse_name(n)[0] == "log" and parse_name(n)[1] >= number
        }
        self.cut = (name, damage.offset) if damage.offset > HEADER_SIZE else None

    def read(self, path: str) -> bytes:
        data = self._files.read(path)
        return data[: self.cut[1]] if self.cut and path.endswith(f"/{self.cut[0]}") else data

    def size(self, path: str) -> int:
        return len(self.read(path))

    def names(self, directory: str) -> list[str]:
        kept = self.cut[0] if self.cut else ""
        return [n for n in self._files.names(directory) if n not in self.hidden or n == kept]


def _parse_backup(path: str, data: bytes) -> Content:
    """Return what a backup holds. Raises: DamagedBackup."""
    try:
        cluster_id = read_header(data, SNAPSHOT)
        revision, values, leases = read_snapshot(path, data)
    except BadHeader as error:
        raise DamagedBackup(path, 0, str(error)) from error
    except CorruptLog as error:
        raise DamagedBackup(path, error.offset, error.why) from error
    items = [(key, *values[key]) for key in sorted(values)]
    held = [(key, at, expires) for key, (at, expires) in leases.items()]
    history = History.restored(revision, items, held)
    return Content(history, Recovery(revision, cluster_id, snapshot=revision, bytes=len(data)))


def _put(disk: Disk, path: str, data: bytes) -> None:
    """Write a file beside, and put it in place at once, synced. Raises: OSError."""
    beside = f"{path}.new"
    with _cleaned_up(disk, beside):
        file = disk.open(beside)
        try:
            file.write(data, 0)
            file.sync()
        finally:
            file.close()
        disk.rename(beside, path)
    disk.sync_directory(path.rpartition("/")[0])


@contextmanager
def _cleaned_up(disk: Disk, beside: str) -> Iterator[None]:
    """Have no unfinished file at a path: neither an older one, nor one after an error."""
    with suppress(FileNotFoundError):
        disk.remove(beside)
    try:
        yield
    except OSError:
        with suppress(OSError):
            disk.remove(beside)
        raise
