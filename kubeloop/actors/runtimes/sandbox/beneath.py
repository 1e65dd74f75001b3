"""Paths below a directory of ours that a container may have changed: no link in them is followed.

A container may put a link where a path of its volume leads, between a check and the use. So nothing
is checked by name: each part is opened by itself, relative to the one before.
"""

import errno
import os
import stat
from collections.abc import Sequence


def walk(root: str, parts: Sequence[str], *, make: bool) -> int:
    """Return a descriptor (O_PATH) of what is at `parts` below `root`; the caller closes it.

    make: directories that are missing are made. Raises: OSError, ELOOP for a link.
    """
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for number, part in enumerate(parts):
        try:
            child = _step(at, part, make=make)
        finally:
            os.close(at)
        at, mode = child, os.fstat(child).st_mode
        last = number == len(parts) - 1
        wrong = errno.ELOOP if stat.S_ISLNK(mode) else 0
        if not wrong and not last and not stat.S_ISDIR(mode):
            wrong = errno.ENOTDIR
        if wrong:
            os.close(at)
            raise OSError(wrong, f"{'/'.join(parts[: number + 1])}: {os.strerror(wrong)}")
    return at


def _step(at: int, part: str, *, make: bool) -> int:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(part, flags, dir_fd=at)
    except FileNotFoundError:
        if not make:
            raise
    os.mkdir(part, 0o777, dir_fd=at)
    return os.open(part, flags, dir_fd=at)
