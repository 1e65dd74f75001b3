"""`kubeloop store`: back up, restore, check, print and compact what a cluster keeps.

What only reads (`snapshot`, `verify`, `dump`, `stat`) works while the cluster runs.
"""

import gc
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from kubeloop.cli.state import running
from kubeloop.cli.store_text import (
    Source,
    render_log,
    render_loss,
    render_objects,
    render_stat,
    render_verified,
    statistics,
)
from kubeloop.store import backup
from kubeloop.store.backup import DamagedBackup, Refused
from kubeloop.store.disk import RealDisk
from kubeloop.store.history import Retention
from kubeloop.store.recovery import CorruptLog

_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_FILE_OR_DIRECTORY: Final = click.Path(exists=True, path_type=Path)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Explained(click.Group):
    """Tells in the store's own words what could not be done."""

    def invoke(self, ctx: click.Context) -> Any:
        with _explained():
            return super().invoke(ctx)


@contextmanager
def _explained() -> Iterator[None]:
    """Turn the errors of stores and files into click's. Raises: click.ClickException."""
    try:
        yield
    except (Refused, DamagedBackup, CorruptLog) as error:
        raise click.ClickException(str(error)) from error
    except BlockingIOError as error:
        told = f"{error.strerror}; stop that cluster first, with: kubeloop down"
        raise click.ClickException(told) from error
    except BrokenPipeError:
        raise  # Whoever reads the output has seen enough: click ends quietly.
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise click.ClickException(f"{where}{error.strerror or error}") from error


def _of_a_store(command: _Command) -> _Command:
    """Add the options that tell which store it is."""
    data_dir = click.option(
        "--data-dir", type=_DIRECTORY, help="As given to `kubeloop up`; the cluster may run or not."
    )
    name = click.option("--name", help="Of a running cluster.  [default: kubeloop]")
    return data_dir(name(command))


@click.group("store", cls=Explained)
def command() -> None:
    """Back up, restore, check, print and compact what a cluster keeps."""
    gc.disable()  # Nothing of what is read is garbage, and the process ends soon.


@command.command("snapshot")
@_of_a_store
@click.option("--revision", type=click.IntRange(0), help="How things were then; default: are now.")
@click.option("--force", is_flag=True, help="Replace FILE if there is one.")
@click.argument("file", type=_FILE)
def snapshot(
    data_dir: Path | None, name: str | None, revision: int | None, force: bool, file: Path
) -> None:
    """Write everything into one FILE, whether the cluster runs or not.

    The file holds Secrets as they are; only its owner may read it.
    """
    directory, path = _store_of(data_dir, name), file.parent.resolve() / file.name
    if not path.parent.is_dir():
        raise click.ClickException(f"FILE {file}: there is no directory {path.parent}; make it")
    try:
        written = backup.snapshot(
            RealDisk(),
            str(directory),
            str(path),
            revision=revision,
            replace=force,
            mark=f"{os.getpid()}.new",
        )
    except FileExistsError as error:
        raise click.ClickException(
            f"FILE {file} exists already: choose another, or replace it with --force"
        ) from error
    click.echo(
        f"{file}: revision {written.revision}, {written.keys:,} keys, {written.size:,} bytes"
    )


@command.command("restore")
@click.option("--data-dir", type=_DIRECTORY, required=True, help="Where the store is, or shall be.")
@click.option("--until-damage", is_flag=True, help="Have it go back to before its damage.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.argument("file", type=_FILE, required=False)
def restore(data_dir: Path, until_damage: bool, yes: bool, file: Path | None) -> None:
    """Make a store of a backup FILE, or have a damaged one go back to before its damage.

    Nothing is deleted: with --until-damage the damaged files are put aside.
    """
    if until_damage == (file is not None):
        raise click.UsageError("give either a backup FILE or --until-damage")
    if file is None:
        _go_back(_store_of(data_dir, None), yes=yes)
        return
    disk, path, directory = RealDisk(), file.absolute(), data_dir.absolute() / "store"
    disk.size(str(path))  # Before a directory is made for nothing.
    _make(directory, disk)
    written = backup.restore(disk, str(path), str(directory))
    click.echo(
        f"{directory}: revision {written.revision}, {written.keys:,} keys; start the cluster "
        f"with: kubeloop up --data-dir {data_dir}"
    )


@command.command("verify")
@_of_a_store
@click.argument("path", type=_FILE_OR_DIRECTORY, required=False)
def verify(data_dir: Path | None, name: str | None, path: Path | None) -> None:
    """Read everything, check every checksum and revision; exit status 1 if anything is damaged.

    PATH is a backup or a data directory.
    """
    source = _read(data_dir, name, path, backup.NEWEST)
    names: Sequence[str] = ()
    if not source.is_backup:
        names = backup.files_of(RealDisk(), str(source.path))
    click.echo(render_verified(source, names))


@command.command("dump")
@_of_a_store
@click.option("--prefix", default="", metavar="KEY", help="As in /registry/pods/default.")
@click.option("--revision", type=click.IntRange(0), help="How things were then; default: are now.")
@click.option("--keys-only", is_flag=True, help="The keys, and nothing else.")
@click.option("--log", is_flag=True, help="What was written when, by whom, and why, instead.")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]), help="json: one a line.")
@click.option("--show-secrets", is_flag=True, help="Print what is in Secrets, too.")
@click.argument("path", type=_FILE_OR_DIRECTORY, required=False)
def dump(
    data_dir: Path | None,
    name: str | None,
    path: Path | None,
    prefix: str,
    revision: int | None,
    keys_only: bool,
    log: bool,
    output: str | None,
    show_secrets: bool,
) -> None:
    """Print the objects as YAML, or their keys, or the log of all writes that are kept.

    PATH is a backup or a data directory. The values in Secrets are left out unless --show-secrets
    asks for them.
    """
    if log and keys_only:
        raise click.UsageError("--log and --keys-only do not go together: give one of them")
    retention = backup.NEWEST if revision is None and not log else backup.EVERYTHING
    history = _read(data_dir, name, path, retention).content.history
    version = backup.version_at(history, revision)
    if log:
        facts = [f for f in history.since(history.floor) if f.revision <= version.revision]
        lines = render_log([f for f in facts if f.key.startswith(prefix)], output)
    else:
        items = history.list(prefix, revision=version.revision).items
        if keys_only:
            lines = iter([item.key for item in items])
        else:
            lines = render_objects(items, output or "yaml", show_secrets=show_secrets)
    for line in lines:
        click.echo(line)


@command.command("compact")
@_of_a_store
@click.option("--revision", type=click.IntRange(0), help="Of what is to stay; default: the newest.")
def compact(data_dir: Path | None, name: str | None, revision: int | None) -> None:
    """Forget how things were before a revision, and give back the room of the files it took.

    Not while the cluster runs: then it does so by itself, as far as --history allows.
    """
    try:
        done = backup.compact(RealDisk(), str(_store_of(data_dir, name)), revision)
    except BlockingIOError as error:
        raise click.ClickException(
            f"{error.strerror}: a running cluster compacts by itself; to do it by hand stop the "
            "cluster first, with: kubeloop down"
        ) from error
    click.echo(
        f"revision {done.revision} is the oldest now; {len(done.removed)} files removed, "
        f"{max(0, done.freed):,} bytes freed"
    )


@command.command("stat")
@_of_a_store
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def stat(data_dir: Path | None, name: str | None, output: str) -> None:
    """Show what a store holds: revisions, keys, files, and which process has it open."""
    directory = _store_of(data_dir, name)
    disk = RealDisk()
    source = Source(directory, False, backup.read(disk, str(directory), backup.NEWEST))
    sizes = backup.sizes_of(disk, str(directory))
    content = statistics(source, sizes, holder_of(directory / "lock"))
    click.echo(json.dumps(content, indent=2) if output == "json" else render_stat(content))


# Where the store is.


def _store_of(data_dir: Path | None, name: str | None) -> Path:
    """Return the directory of a store. Raises: click.ClickException if there is none."""
    if data_dir is not None and name is not None:
        raise click.UsageError("give either --data-dir or --name, of a running cluster")
    if data_dir is None:
        data_dir = _data_dir_of(name or "kubeloop")
    directory = data_dir.resolve() / "store"
    if not directory.is_dir():
        hint = "give the directory that `kubeloop up --data-dir` was given"
        if list(data_dir.glob("log-*")) or list(data_dir.glob("snapshot-*")):
            hint = f"give the directory around it: --data-dir {data_dir.absolute().parent}"
        raise click.ClickException(
            f"--data-dir {data_dir} holds no store: there is no {directory}; {hint}"
        )
    return directory


def _data_dir_of(name: str) -> Path:
    """Return where a running cluster keeps its objects. Raises: click.ClickException."""
    record = running(name)
    if record is None:
        raise click.ClickException(
            f"no cluster called {name!r} is running: give the --name of one that is, or the "
            "--data-dir of one that is not"
        )
    if not record.data_dir:
        raise click.ClickException(
            f"cluster {name!r} keeps nothing: it was started without --data-dir"
        )
    return Path(record.data_dir)


def _read(
    data_dir: Path | None, name: str | None, path: Path | None, retention: Retention
) -> Source:
    """Read the store, or the backup, that the command line names."""
    if path is not None and (data_dir is not None or name is not None):
        raise click.UsageError("give one of PATH, --data-dir and --name")
    if path is not None and not path.is_dir():
        content = backup.read_backup(RealDisk(), str(path.absolute()))
        return Source(path, True, content)
    directory = _store_of(path or data_dir, name)
    return Source(directory, False, backup.read(RealDisk(), str(directory), retention))


def _make(directory: Path, disk: RealDisk) -> None:
    """Make a directory and those around it, safely."""
    if not directory.is_dir():
        _make(directory.parent, disk)
        directory.mkdir()
        disk.sync_directory(str(directory.parent))


def holder_of(lock: Path) -> int | None:
    """Return the process that holds a lock file, None if nobody does. Takes no lock."""
    if not lock.exists():
        return None
    last, inode = lock.read_text(errors="replace").strip(), str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        _, kind, _, _, process, place, *_ = line.split()
        if kind == "FLOCK" and process == last and place.rpartition(":")[2] == inode:
            return int(process)
    return None


def _go_back(store: Path, *, yes: bool) -> None:
    """Have a damaged store go back, if the user agrees."""
    disk, directory = RealDisk(), str(store)
    with backup.held(disk, directory):
        loss = backup.find_loss(disk, directory)
        aside = backup.aside_name(disk, directory)
        click.echo(render_loss(loss, store / aside))
        if not yes:
            click.confirm(f"Go back to revision {loss.revision}?", abort=True)
        _make(store / aside, disk)
        backup.go_back(disk, directory, loss, aside)
    click.echo(f"{store}: revision {loss.revision} is the newest now")
