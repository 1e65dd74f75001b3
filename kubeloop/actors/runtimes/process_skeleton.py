"""The lowest layer of every container: the places where something will be mounted.

Made once for a node. Without it each container would make them in its own layer: three dozen
directories on disk to make at its start and to delete at its end.
"""

import os
from pathlib import Path
from typing import Final

from kubeloop.actors.runtimes.process_launch import BIN, host_directories, python
from kubeloop.actors.runtimes.sandbox.rootfs import DIRECTORIES, ETC, HOST_ETC

_OPEN: Final = ("/tmp", "/var/tmp")


def make(directory: Path, *, host: bool) -> None:
    """Fill an empty directory. host: with the places for what the host lends. Raises: OSError."""
    for path in DIRECTORIES:
        _at(directory, path).mkdir(parents=True, exist_ok=True)
    for path in _OPEN:
        _at(directory, path).chmod(0o1777)
    for name in ETC:
        _at(directory, f"/etc/{name}").touch()
    if not host:
        return
    for path in host_directories():
        if os.path.islink(path):
            _at(directory, path).symlink_to(os.readlink(path))
        else:
            _at(directory, path).mkdir(parents=True, exist_ok=True)
    for name in HOST_ETC:
        _place(Path("/etc", name), _at(directory, f"/etc/{name}"))
    _at(directory, BIN).mkdir(parents=True)
    _at(directory, f"{BIN}/python3").symlink_to(python())


def _place(source: Path, place: Path) -> None:
    """Make the place for a file, a directory or a link of the host, if it has it."""
    if not os.path.lexists(source):
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        place.symlink_to(os.readlink(source))
    elif source.is_dir():
        place.mkdir()
    else:
        place.touch()


def _at(directory: Path, path: str) -> Path:
    return directory / path.lstrip("/")
