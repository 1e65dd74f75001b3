"""Where the command line keeps things: the images, and a record of each running cluster."""

import json
import os
import signal
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a running cluster.

    kubeconfig, data_dir: paths; data_dir "" means that nothing is kept.
    """

    name: str
    pid: int
    url: str
    kubeconfig: str
    data_dir: str
    nodes: int
    proxy_mode: str
    runtime: str

    @property
    def alive(self) -> bool:
        """Whether its process still runs; one whose end nobody has asked for does not."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return not _has_ended(self.pid)


def _has_ended(pid: int) -> bool:
    """Tell whether a process is a zombie, where the system tells: it may be one for a while."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return told.rpartition(")")[2].split()[0] in ("Z", "X")


def data_home() -> Path:
    """Return the user's data directory for kubeloop; $XDG_DATA_HOME is honoured."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "kubeloop"


def image_directory() -> Path:
    """Return where the images every cluster may pull are kept."""
    return data_home() / "images"


def cluster_directory(name: str) -> Path:
    """Return where a cluster's record and kubeconfig are kept; it need not exist."""
    return data_home() / "clusters" / name


def write_record(record: Record) -> None:
    """Remember a cluster that runs."""
    directory = cluster_directory(record.name)
    directory.mkdir(parents=True, exist_ok=True)
    beside = directory / "cluster.json.new"
    beside.write_text(json.dumps(asdict(record), indent=2) + "\n")
    beside.replace(directory / "cluster.json")


def forget(name: str) -> None:
    """Forget a cluster that has stopped."""
    (cluster_directory(name) / "cluster.json").unlink(missing_ok=True)


def running(name: str) -> Record | None:
    """Return the record of the cluster called `name` if it runs."""
    path = cluster_directory(name) / "cluster.json"
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    record = Record(**content)
    return record if record.alive else None


def must_run(name: str) -> Record:
    """Return the record of a running cluster. Raises: click.ClickException if it does not run."""
    record = running(name)
    if record is None:
        option = "" if name == "kubeloop" else f" --name {name}"
        raise click.ClickException(
            f"no cluster called {name!r} is running; start one with: kubeloop up{option}"
        )
    return record


def stop(record: Record, *, timeout_s: float) -> bool:
    """Ask a cluster's process to end; tell whether it did within `timeout_s`."""
    import select

    try:
        handle = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return True
    try:
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        readable, _, _ = select.select([handle], [], [], timeout_s)
        return bool(readable)
    finally:
        os.close(handle)
