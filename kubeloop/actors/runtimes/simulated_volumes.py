"""What simulated containers see of files: their volumes, and nothing else. Pure.

A node has a disk that outlives its pods, and its power; what is not of the node is on a disk that
all nodes share. An emptyDir is gone with the sandbox.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Final

from kubeloop.actors.pods.host_paths import MADE, Found, why_not
from kubeloop.actors.runtimes.protocol import ContainerSpec, Mount, RuntimeFailure
from kubeloop.actors.runtimes.scripts import Command

_REDIRECT: Final = re.compile(r"""\s*echo\s+(?:"([^"]*)"|'([^']*)'|(.*?))\s*(>>?)\s*(\S+)\s*""")


class Disk:
    """Files by absolute path, and directories."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.directories: dict[str, None] = {}

    def found(self, path: str) -> Found:
        """Return what is at a path."""
        if path in self.files:
            return "file"
        return "directory" if path in self.directories or any(self.below(path)) else ""

    def below(self, path: str) -> Iterator[str]:
        """Yield the files in a directory and below."""
        start = path.rstrip("/") + "/"
        return (name for name in self.files if name.startswith(start))

    def remove(self, path: str) -> None:
        """Delete what is at a path, with all in it; harmless if nothing is."""
        for name in [path, *self.below(path)]:
            self.files.pop(name, None)
        start = path + "/"
        for name in [d for d in self.directories if d == path or d.startswith(start)]:
            del self.directories[name]


class Inside:
    """The files of one run of a container. own: of the pod's emptyDirs."""

    def __init__(self, spec: ContainerSpec, *, node: Disk, remote: Disk, own: Disk) -> None:
        self._files = {_normal(target): files for target, files in spec.files.items()}
        self._mounts: dict[str, tuple[Disk, str, bool]] = {}
        for target, name in spec.shared.items():
            own.directories[f"/{name}"] = None
            self._mounts[_normal(target)] = own, f"/{name}", False
        for mount in spec.mounts:
            disk = own if mount.empty else remote if mount.remote else node
            path = _normal(f"/{mount.empty}" if mount.empty else mount.host)
            if mount.empty or mount.remote:
                disk.directories[path] = None
            else:
                _see_to(disk, mount, path)
            if mount.sub_path:
                path = _normal(f"{path}/{mount.sub_path}")
                if not disk.found(path):
                    disk.directories[path] = None
            self._mounts[_normal(mount.target)] = disk, path, mount.read_only

    def read(self, path: str) -> bytes | None:
        """Return a file's content, None if there is no such file."""
        path = _normal(path)
        for target, files in self._files.items():
            name = _below(path, target)
            if name is not None and name in files:
                return files[name]
        place = self._place(path)
        return None if place is None else place[0].files.get(place[1])

    def write(self, path: str, data: bytes, *, append: bool) -> str:
        """Write a file; return why not, "" if it is done."""
        place = self._place(_normal(path))
        if place is None:
            return "Read-only file system" if self.read(path) is not None else (
                "No such file or directory")  # fmt: skip
        disk, real, read_only = place
        if read_only:
            return "Read-only file system"
        if disk.found(real) == "directory":
            return "Is a directory"
        disk.files[real] = (disk.files.get(real, b"") if append else b"") + data
        return ""

    def names(self, path: str) -> list[str] | None:
        """Return what is in a directory, None if it is none."""
        path, found = _normal(path), dict[str, None]()
        known = False
        for target, files in self._files.items():
            if (name := _below(path, target)) is not None:
                known |= not name or name not in files
                start = f"{name}/" if name else ""
                found |= {f[len(start) :].split("/")[0]: None for f in files if f.startswith(start)}
        if (place := self._place(path)) is not None:
            disk, real, _ = place
            known |= disk.found(real) == "directory"
            start = real.rstrip("/") + "/"
            there = [*disk.below(real), *(d for d in disk.directories if d.startswith(start))]
            found |= {name[len(start) :].split("/")[0]: None for name in there}
        return sorted(filter(None, found)) if known else None

    def _place(self, path: str) -> tuple[Disk, str, bool] | None:
        """Return where a path really is, by the mount that is nearest."""
        for target in sorted(self._mounts, key=len, reverse=True):
            name = _below(path, target)
            if name is not None:
                disk, real, read_only = self._mounts[target]
                return disk, f"{real}/{name}".rstrip("/"), read_only
        return None


def command(inside: Inside, argv: Sequence[str]) -> Command | None:
    """Return what a command does with files: cat, ls, echo into one; None for any other."""
    line, words = " ".join(argv), list(argv)
    if len(words) == 3 and words[0].removeprefix("/bin/") == "sh" and words[1] == "-c":
        if told := _REDIRECT.fullmatch(words[2]):
            text = next((t for t in told.groups()[:3] if t is not None), "")
            why = inside.write(told[5], f"{text}\n".encode(), append=told[4] == ">>")
            error = f"sh: can't create {told[5]}: {why}\n" if why else ""
            return Command(line=line, stderr=error, code=int(bool(why)))
        words = words[2].split()
    match words:
        case ["cat" | "/bin/cat", *paths] if paths and "-" not in paths:
            return _cat(inside, line, paths)
        case ["ls" | "/bin/ls", path]:
            names = inside.names(path)
            if names is None:
                why = f"ls: {path}: No such file or directory\n"
                return Command(line=line, stderr=why, code=1)
            return Command(line=line, stdout="".join(f"{name}\n" for name in names))
    return None


def _cat(inside: Inside, line: str, paths: Sequence[str]) -> Command:
    out, errors = "", ""
    for path in paths:
        data = inside.read(path)
        if data is None:
            errors += f"cat: can't open '{path}': No such file or directory\n"
        else:
            out += data.decode(errors="replace")
    return Command(line=line, stdout=out, stderr=errors, code=int(bool(errors)))


def _see_to(disk: Disk, mount: Mount, path: str) -> None:
    """See that what should be at a path is there. Raises: RuntimeFailure."""
    if not disk.found(path):
        made = MADE.get(mount.kind)
        if made == "directory":
            disk.directories[path] = None
        elif made == "file":
            disk.files[path] = b""
    if why := why_not(mount, disk.found(path)):
        raise RuntimeFailure("FailedMount", why)


def _normal(path: str) -> str:
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


def _below(path: str, target: str) -> str | None:
    """Return the path relative to a mount, None if it is not in it."""
    if path == target:
        return ""
    start = target.rstrip("/") + "/"
    return path[len(start) :] if path.startswith(start) else None
