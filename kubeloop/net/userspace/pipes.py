"""Long streams go from socket to socket through a pipe, and never into this process: splice(2).

A stream that fills the buffer has a pipe from then on, until it runs dry. Pipes are kept for the
next one: making one and giving it a megabyte takes longer than most streams do.
"""

import fcntl
import os
from typing import Final

PIPE_BYTES: Final = 1 << 20
KEPT_MAX: Final = 16
_MOVE: Final = 1 | 2  # SPLICE_F_MOVE, SPLICE_F_NONBLOCK.


class Pipe:
    """A pipe, and how much is in it [bytes]."""

    __slots__ = ("held", "reading", "size", "writing")

    def __init__(self) -> None:
        """Raises: OSError, when descriptors have run out."""
        self.reading, self.writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.held = 0
        try:
            self.size = fcntl.fcntl(self.writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:  # More than /proc/sys/fs/pipe-user-pages-soft allows.
            self.size = fcntl.fcntl(self.writing, fcntl.F_GETPIPE_SZ)

    def fill(self, source: int) -> int:
        """Take what a socket has; return how much, 0 at its end. Raises: OSError."""
        moved = os.splice(source, self.writing, self.size - self.held, flags=_MOVE)
        self.held += moved
        return moved

    def drain(self, target: int) -> int:
        """Give a socket what it takes; return how much. Raises: OSError."""
        moved = os.splice(self.reading, target, self.held, flags=_MOVE)
        self.held -= moved
        return moved

    def close(self) -> None:
        os.close(self.reading)
        os.close(self.writing)


class Pipes:
    """Those that wait for a stream."""

    def __init__(self) -> None:
        self._idle: list[Pipe] = []

    def take(self) -> Pipe | None:
        """Return a pipe; None if there can be none now."""
        if self._idle:
            return self._idle.pop()
        try:
            return Pipe()
        except OSError:
            return None

    def give(self, pipe: Pipe) -> None:
        """Take one back; one with something in it was of a connection that broke."""
        if pipe.held or len(self._idle) >= KEPT_MAX:
            pipe.close()
        else:
            self._idle.append(pipe)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
