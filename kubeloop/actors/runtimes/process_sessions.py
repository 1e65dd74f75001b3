"""Streams of real processes: what `exec` and `attach` read and write.

Output of a command waits in memory until it is read, but only so much: then the command has to
wait, as one that writes into a full pipe does.
"""

import asyncio
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from typing import Final

from kubeloop.actors.runtimes.sessions import Queue

CHUNK: Final = 64 << 10
QUEUE_MAX: Final = 1 << 20  # Of a command's output that waits [bytes].
_END_OF_TRANSMISSION: Final = b"\x04"


class Outlet:
    """The writing end of somebody's standard input, a pipe or a terminal; it owns the file."""

    def __init__(self, fd: int, *, terminal: bool) -> None:
        self.fd, self.terminal = fd, terminal
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._waiting: asyncio.Future[None] | None = None
        os.set_blocking(fd, False)

    async def write(self, data: bytes) -> None:
        """Write all of it; harmless once nobody reads."""
        async with self._turn:  # Several may be attached.
            while data and self.fd >= 0:
                try:
                    data = data[os.write(self.fd, data[:CHUNK]) :]
                except BlockingIOError:
                    await self._room()
                except OSError:  # A pipe whose reader is gone, a terminal that hung up.
                    self.close()

    async def _room(self) -> None:
        room = self._waiting = self._loop.create_future()
        self._loop.add_writer(self.fd, self._wake)
        try:
            await room
        finally:
            self._waiting = None
            if self.fd >= 0:
                self._loop.remove_writer(self.fd)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """No more is written."""
        if self.fd >= 0:
            self._loop.remove_writer(self.fd)
            os.close(self.fd)
            self.fd = -1
            self._wake()


class Inlet:
    """The reading end of what a command writes to; it owns the file."""

    def __init__(self, fd: int, stream: int, put: Callable[[int, bytes], None]) -> None:
        self.fd, self.stream, self.put = fd, stream, put
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self.take)

    def take(self) -> bool:
        """Take one piece; tell whether there may be more."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # A terminal whose other end is closed.
            data = b""
        if data:
            self.put(self.stream, data)
            return True
        self.close()
        return False

    def pause(self) -> None:
        """Leave what comes in the pipe."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)

    def resume(self) -> None:
        """Go on after `pause`."""
        if self.fd >= 0:
            self._loop.add_reader(self.fd, self.take)

    def close(self) -> None:
        """Read no more."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1


class CommandSession:
    """A command that runs: implements `Session`.

    outputs: (file, stream), which it owns;  stdin: None if that is empty.
    kill:    ends the command and all it has started; called once at most, if it has not ended.
    """

    def __init__(
        self, outputs: list[tuple[int, int]], stdin: Outlet | None, kill: Callable[[], None]
    ) -> None:
        self.code = 0
        self._queue, self._stdin, self._kill = Queue(), stdin, kill
        self._inlets = [Inlet(fd, stream, self._put) for fd, stream in outputs]
        self._paused = self._over = False

    def ended(self, code: int) -> None:
        """The command has ended: what is in its pipes belongs to it, what comes later does not."""
        if self._over:
            return
        self._over, self.code = True, code
        for inlet in self._inlets:
            left = QUEUE_MAX
            while left > 0 and inlet.take():  # Something that it left behind may go on writing.
                left -= CHUNK
        self._free()
        self._queue.end()

    async def read(self) -> tuple[int, bytes] | None:
        found = await self._queue.take()
        if self._paused and self._queue.size < QUEUE_MAX // 2:
            self._paused = False
            for inlet in self._inlets:
                inlet.resume()
        return found

    async def write(self, data: bytes) -> None:
        if self._stdin is not None:
            await self._stdin.write(data)

    def end_input(self) -> None:
        stdin = self._stdin
        if stdin is not None and stdin.fd >= 0 and stdin.terminal:
            try:
                os.write(stdin.fd, _END_OF_TRANSMISSION)
            except OSError:  # It is full, or has hung up: nobody is there who would take note.
                return
        elif stdin is not None:
            stdin.close()

    def resize(self, width: int, height: int) -> None:
        if self._stdin is not None and self._stdin.terminal:
            set_size(self._stdin.fd, width, height)
        elif self._inlets:
            set_size(self._inlets[0].fd, width, height)

    def close(self) -> None:
        if not self._over:
            self._over = True
            self._kill()
        self._free()
        self._queue.end()

    def _put(self, stream: int, data: bytes) -> None:
        self._queue.put(stream, data)
        if self._queue.size >= QUEUE_MAX and not self._paused and not self._over:
            self._paused = True
            for inlet in self._inlets:
                inlet.pause()

    def _free(self) -> None:
        for inlet in self._inlets:
            inlet.close()
        if self._stdin is not None:
            self._stdin.close()


def set_size(fd: int, width: int, height: int) -> None:
    """Set the size of a terminal; harmless if the file is none, or closed."""
    if fd >= 0:
        try:
            fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        except OSError:
            return
