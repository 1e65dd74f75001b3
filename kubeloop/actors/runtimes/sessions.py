"""What both runtimes have of sessions: output that waits, and who is attached to a container.

A container does not wait for who is attached to it: who falls too far behind is cut off.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from kubeloop.api.errors import InternalError

BEHIND_MAX: Final = 4 << 20  # How far one who is attached may fall behind [bytes].
STDOUT, STDERR = 1, 2


class Input(Protocol):
    """Standard input of a container."""

    async def write(self, data: bytes) -> None:
        """Write all of it; harmless once nobody reads."""

    def close(self) -> None:
        """No more is written."""


def _nothing(width: int, height: int) -> None:
    """There is no terminal."""


class Queue:
    """Output that waits for its reader."""

    def __init__(self) -> None:
        self.size = 0
        self.ended = False
        self.failure: Exception | None = None
        self._pieces: deque[tuple[int, bytes]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()

    def put(self, stream: int, data: bytes) -> None:
        """Add what was written."""
        self._pieces.append((stream, data))
        self.size += len(data)
        self._changed.set()

    def end(self, failure: Exception | None = None) -> None:
        """There will be no more."""
        self.ended, self.failure = True, failure
        self._changed.set()
        self._room.set()

    async def room(self) -> None:
        """Return when not too much waits, or nobody waits for it."""
        while self.size > BEHIND_MAX and not self.ended:
            self._room.clear()
            await self._room.wait()

    async def take(self) -> tuple[int, bytes] | None:
        """Return the oldest; None at the end. Raises: `failure`."""
        while not self._pieces:
            if self.failure is not None:
                raise self.failure
            if self.ended:
                return None
            self._changed.clear()
            await self._changed.wait()
        stream, data = self._pieces.popleft()
        self.size -= len(data)
        self._room.set()
        return stream, data


class AttachedSession:
    """One who is attached to a container: implements `Session`.

    stdin:  of the container, None if nothing may be written;  once: end it when this one goes.
    leave:  called when it is closed;  size: sets that of the terminal, if there is one.
    """

    def __init__(
        self,
        stdin: Input | None = None,
        *,
        once: bool = False,
        size: Callable[[int, int], None] = _nothing,
        leave: Callable[["AttachedSession"], None],
    ) -> None:
        self.code = 0
        self._queue, self._stdin, self._once = Queue(), stdin, once
        self._size, self._leave = size, leave

    def put(self, stream: int, data: bytes) -> None:
        """The container has written."""
        if self._queue.ended:
            return
        self._queue.put(stream, data)
        if self._queue.size > BEHIND_MAX:
            why = f"the client is more than {BEHIND_MAX} bytes behind the container: attach again"
            self._queue.end(InternalError(why))

    def ended(self, code: int) -> None:
        """The container has ended."""
        self.code = code
        self._queue.end()

    async def read(self) -> tuple[int, bytes] | None:
        return await self._queue.take()

    async def write(self, data: bytes) -> None:
        if self._stdin is not None:
            await self._stdin.write(data)

    def end_input(self) -> None:
        if self._stdin is not None and self._once:
            self._stdin.close()

    def resize(self, width: int, height: int) -> None:
        self._size(width, height)

    def close(self) -> None:
        if not self._queue.ended:
            self._queue.end()
        self.end_input()
        self._leave(self)
