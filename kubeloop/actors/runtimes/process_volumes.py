"""Directories of a node that pods mount: what a node's own disk is to its pods.

A node's paths are below a directory of the node's own, `host` in its state: `/data` of a hostPath
volume is `host/data` there. So no pod sees anything of the machine, and what pods leave outlives
them, and us, if there is a data directory.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kubeloop.actors.pods.host_paths import MADE, Found, failed, why_not
from kubeloop.actors.runtimes.process_launch import Volume
from kubeloop.actors.runtimes.process_layers import remove_tree
from kubeloop.actors.runtimes.protocol import Mount, RuntimeFailure
from kubeloop.actors.runtimes.sandbox.beneath import walk


def volumes(host: Path, pod: Path, mounts: Iterator[Mount]) -> Iterator[Volume]:
    """Make what is missing, and yield what is to be mounted. Raises: RuntimeFailure.

    host: the node's disk;  pod: the pod's own directory, for its emptyDirs.
    """
    for mount in mounts:
        if mount.remote:
            raise RuntimeFailure("FailedMount", _unmountable(mount))
        root = host if not mount.empty else pod / "volumes" / mount.empty
        root.mkdir(parents=True, exist_ok=True)
        try:
            parts = [] if mount.empty else _parts(mount.host)
            if not mount.empty:
                _see_to(root, parts, mount)
            if mount.sub_path:
                parts += _parts(mount.sub_path)
                os.close(walk(str(root), parts, make=True))
        except OSError as error:
            raise RuntimeFailure("FailedMount", failed(mount.volume, str(error))) from error
        yield Volume(str(root), mount.target, mount.read_only, tuple(parts))


def remove(host: Path, path: str) -> None:
    """Delete what is at a path of the node, with all in it; harmless if nothing is.

    Raises: OSError.
    """
    parts = _parts(path)
    try:
        os.close(walk(str(host), parts, make=False))
    except FileNotFoundError:
        return
    remove_tree(host.joinpath(*parts))


def _see_to(root: Path, parts: list[str], mount: Mount) -> None:
    """See that what should be at a path is there. Raises: OSError, RuntimeFailure."""
    try:
        found = _found(root, parts)
    except FileNotFoundError:
        found = ""
    made = MADE.get(mount.kind)
    if not found and made == "directory":
        os.close(walk(str(root), parts, make=True))
    elif not found and made == "file":
        at = walk(str(root), parts[:-1], make=False)
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
        os.close(os.open(parts[-1], flags, 0o644, dir_fd=at))
        os.close(at)
    if why := why_not(mount, found or _made(made)):
        raise RuntimeFailure("FailedMount", why)


def _made(what: str | None) -> Found:
    return "directory" if what == "directory" else "file" if what == "file" else ""


def _found(root: Path, parts: list[str]) -> Found:
    """Return what is at a path. Raises: OSError."""
    at = walk(str(root), parts, make=False)
    mode = os.fstat(at).st_mode
    os.close(at)
    kinds: dict[int, Found] = {
        stat.S_IFDIR: "directory",
        stat.S_IFREG: "file",
        stat.S_IFSOCK: "socket file",
        stat.S_IFCHR: "character device",
        stat.S_IFBLK: "block device",
    }
    return kinds.get(stat.S_IFMT(mode), "other")


def _parts(path: str) -> list[str]:
    """Return the parts of a path. Raises: OSError for one that climbs."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise OSError(f"{path}: it must not contain '..'")
    return parts


def _unmountable(mount: Mount) -> str:
    kind, _, driver = mount.remote.partition(" ")
    if kind == "csi":
        return (
            f'MountVolume.MountDevice failed for volume "{mount.volume}" : kubernetes.io/csi:'
            " attacher.MountDevice failed to create newCsiDriverClient: driver name"
            f" {driver} not found in the list of registered CSI drivers"
        )
    return failed(
        mount.volume, f"{kind} volumes are not supported by this node: use hostPath or local"
    )
