"""Unpacking the layers of an image: archives from strangers, so nothing in them is believed.

Every path is walked by directory descriptors, component by component, never following a link out of
the target: a link's text is looked up inside the target, as if that were the root. Links themselves
are kept as they are, since they are followed only inside the container. Owners, devices,
set-user-id bits and extended attributes are not kept: everything belongs to the one user there is.
"""

import errno
import gzip
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Final

UNPACKED_BYTES_MAX: Final = 16 * 1024**3
MEMBERS_MAX: Final = 2_000_000
LINKS_MAX: Final = 40
DEPTH_MAX: Final = 256
_WHITEOUT: Final = ".wh."
_OPAQUE: Final = ".wh..wh..opq"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class LayerError(ValueError):
    """The archive is not one, is not the one that was named, or is hostile."""


class _Hashing:
    """A readable file that remembers the digest of what was read."""

    def __init__(self, file: IO[bytes], bytes_max: int) -> None:
        self.file, self.left, self.sha = file, bytes_max, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self.file.read(size)
        self.left -= len(data)
        if self.left < 0:
            raise LayerError("the layer unpacks to more than an image may take")
        self.sha.update(data)
        return data


def unpack(
    file: IO[bytes], target: Path, *, diff_id: str, bytes_max: int = UNPACKED_BYTES_MAX
) -> int:
    """Apply a layer (tar or tar+gzip) to the tree at `target`; return the bytes it unpacked to.

    diff_id: the digest the uncompressed archive must have. Raises: LayerError, OSError.
    """
    magic = file.read(4)
    file.seek(0)
    if magic == b"\x28\xb5\x2f\xfd":
        raise LayerError("the layer is compressed with zstd; only gzip is supported")
    plain: Any = gzip.GzipFile(fileobj=file) if magic[:2] == b"\x1f\x8b" else file
    source = _Hashing(plain, bytes_max)
    stream: Any = source  # tarfile needs no more of a stream than `read`.
    try:
        with tarfile.open(fileobj=stream, mode="r|") as archive, _opened(target) as root:
            for count, member in enumerate(archive):
                if count >= MEMBERS_MAX:
                    raise LayerError(f"the layer has more than {MEMBERS_MAX} files")
                _apply(archive, member, root)
        while source.read(1 << 20):
            pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile) as error:
        raise LayerError(f"the layer is damaged: {error}") from error
    found = f"sha256:{source.sha.hexdigest()}"
    if found != diff_id:
        raise LayerError(f"the layer unpacks to {found}, but the image says {diff_id}")
    return bytes_max - source.left


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    fd = os.open(path, _DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, root: int) -> None:
    """Do to the tree what one member of a layer says."""
    parts = _parts(member.name)
    if not parts:
        return
    *parents, name = parts
    if name.startswith(_WHITEOUT):
        _white_out(root, parents, name)
        return
    parent = _walk(root, parents, make=True)
    try:
        if member.isdir():
            _make_directory(root, parts, parent, member)
        elif member.isreg():
            _remove(parent, name)
            _write(archive, member, parent, name)
        elif member.issym():
            _remove(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
        elif member.islnk():
            _link(root, member, parent, name)
        # Devices and pipes are left out: /dev is the runtime's, and nothing else needs them.
    finally:
        os.close(parent)


def _parts(name: str) -> list[str]:
    """Return the components of a member's path; an absolute one counts from the target."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise LayerError(f"the layer has a file {name!r}, which would lie outside of the image")
    if len(parts) > DEPTH_MAX:
        raise LayerError(f"the layer has a path of more than {DEPTH_MAX} directories")
    return parts


def _walk(root: int, parts: list[str], *, make: bool) -> int:
    """Return a descriptor of the directory at `parts` below `root`, following links inside it.

    make: create what is missing. Raises: FileNotFoundError, LayerError.
    """
    todo, trail, links = list(reversed(parts)), [os.dup(root)], 0
    try:
        while todo:
            part = todo.pop()
            if part == "..":  # In a link's text only; the root is its own parent.
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            try:
                trail.append(os.open(part, _DIRECTORY, dir_fd=trail[-1]))
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(part, 0o755, dir_fd=trail[-1])
                todo.append(part)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                links += 1
                text = _link_text(trail[-1], part)
                if links > LINKS_MAX:
                    raise LayerError(f"too many links on the way to {'/'.join(parts)}") from None
                if text.startswith("/"):
                    while len(trail) > 1:
                        os.close(trail.pop())
                todo.extend(p for p in reversed(text.split("/")) if p not in ("", "."))
        return trail.pop()
    finally:
        for fd in trail:
            os.close(fd)


def _link_text(parent: int, name: str) -> str:
    """Return where a link points; a file where a directory should be is an error."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError:
        raise LayerError(f"the layer has files below {name!r}, which is no directory") from None


def _make_directory(root: int, parts: list[str], parent: int, member: tarfile.TarInfo) -> None:
    name, mode = parts[-1], member.mode & 0o1777 | 0o700  # We must be able to delete it.
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
    except FileNotFoundError:
        found = 0
    if stat.S_ISLNK(found):
        with suppress(FileNotFoundError, LayerError):
            os.close(_walk(root, parts, make=False))
            return  # As `bin` → `usr/bin`: the directory it leads to stays what it is.
    if not stat.S_ISDIR(found):
        _remove(parent, name)
        os.mkdir(name, mode, dir_fd=parent)
    fd = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
    content = archive.extractfile(member)
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fchmod(file.fileno(), member.mode & 0o777 | 0o400)
        with suppress(OverflowError, OSError):  # A nonsense date is no reason to refuse.
            os.utime(file.fileno(), (member.mtime, member.mtime))


def _link(root: int, member: tarfile.TarInfo, parent: int, name: str) -> None:
    *parents, source = _parts(member.linkname) or [""]
    try:
        directory = _walk(root, parents, make=False)
    except FileNotFoundError:
        raise LayerError(f"{member.name!r} is a link to nothing: {member.linkname!r}") from None
    try:
        if not stat.S_ISREG(os.stat(source, dir_fd=directory, follow_symlinks=False).st_mode):
            raise LayerError(f"{member.name!r} is a hard link to what is no file")
        _remove(parent, name)
        os.link(source, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        raise LayerError(f"{member.name!r} is a link to nothing: {member.linkname!r}") from None
    finally:
        os.close(directory)


def _white_out(root: int, parents: list[str], name: str) -> None:
    """Remove what a layer below had: one entry, or all in a directory."""
    try:
        parent = _walk(root, parents, make=False)
    except FileNotFoundError:
        return
    try:
        doomed = os.listdir(parent) if name == _OPAQUE else [name.removeprefix(_WHITEOUT)]
        for entry in doomed:
            if entry in ("", ".", ".."):
                raise LayerError(f"the layer removes {name!r}, which is no file")
            _remove(parent, entry)
    finally:
        os.close(parent)


def _remove(parent: int, name: str) -> None:
    """Remove whatever `name` is, if it is there."""
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if stat.S_ISDIR(found.st_mode):
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def remove_tree(path: Path) -> None:
    """Delete a tree of ours, also where a container took our rights to its directories away."""

    def permit(_: Any, failed: str, __: Any) -> None:
        for directory in (os.path.dirname(failed), failed):
            with suppress(OSError):
                if stat.S_ISDIR(os.lstat(directory).st_mode):
                    os.chmod(directory, 0o700)
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(failed).st_mode):
                shutil.rmtree(failed, ignore_errors=True)
            else:
                os.unlink(failed)

    shutil.rmtree(path, onerror=permit)
    if path.exists():  # What could be deleted only after its parent was permitted.
        shutil.rmtree(path, ignore_errors=True)
