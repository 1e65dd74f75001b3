"""One connection of the simulated network: two transports, joined by a pipe in each direction.

As in TCP: bytes arrive in order, a writer whose peer does not read is paused, each direction ends
by itself, and data for a closed socket is answered by a reset.
"""

import asyncio
import contextvars
import errno
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

HOST: Final = contextvars.ContextVar("HOST", default="localhost")
HIGH_WATER: Final = 64 * 1024  # Bytes sent and not yet read, above which a writer is paused.


class Wire(Protocol):
    """What a connection needs of the network it runs over."""

    loop: asyncio.AbstractEventLoop

    def delay(self) -> float:
        """Draw the time one chunk takes."""

    def blocked(self, source: str, target: str) -> bool:
        """Tell whether nothing that `source` sends reaches `target` now."""

    def ended(self, transport: "Transport") -> None:
        """Hear that both sides of a connection are gone."""


class Transport(asyncio.Transport):
    """One side of a connection. extra: what `get_extra_info` tells."""

    peer: "Transport"

    def __init__(self, network: Wire, host: str, port: int, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self.host, self.network, self.port = host, network, port
        self.outgoing = Pipe(self)
        self.reading = False
        self.closing = self.lost = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._protocol: Any = None
        self._context: contextvars.Context | None = None
        self._writing_paused = self._eof_sent = False

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` soon, on behalf of whoever owns this side."""
        self.network.loop.call_soon(function, *args, context=self._context)

    def attach(self, protocol: asyncio.BaseProtocol, context: contextvars.Context) -> None:
        """Give this side its protocol; what has arrived so far is then delivered."""
        context = context.copy()
        context.run(HOST.set, self.host)
        self._protocol, self._context = protocol, context
        self.call(self._begin)

    def _begin(self) -> None:
        if not self.lost:
            self._protocol.connection_made(self)
            self.resume_reading()

    # Reading.

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading and not self.lost:
            self.reading = True
            self.peer.outgoing.resume()

    def receive(self, data: bytes | None) -> None:
        """Hand data (None: the end) from the other side to the protocol."""
        if self.lost or self.closing:
            if data is not None and not self.peer.lost:
                self.peer.lose(reset_error())  # Data for a closed socket is answered by a reset.
            return
        if data is None:
            if not self._protocol.eof_received():
                self.close()
        elif isinstance(self._protocol, asyncio.BufferedProtocol):
            self._fill(self._protocol, data)
        else:
            self._protocol.data_received(data)

    @staticmethod
    def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        while data:
            buffer = memoryview(protocol.get_buffer(len(data)))
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            protocol.buffer_updated(count)
            data = data[count:]

    # Writing.

    def write(self, data: Any) -> None:
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        if self.closing or self.lost or not data:
            return
        self.outgoing.put(bytes(data))
        if self.outgoing.size > self._high and not self._writing_paused:
            self._writing_paused = True
            self._protocol.pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def drained(self) -> None:
        """Go on writing, or finish closing, now that the other side has read enough."""
        if self._writing_paused and self.outgoing.size <= self._low and not self.lost:
            self._writing_paused = False
            self._protocol.resume_writing()
            if self.closing:
                self.lose(None)

    def write_eof(self) -> None:
        if not self._eof_sent and not self.closing and not self.lost:
            self._eof_sent = True
            self.outgoing.put(None)

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return self.outgoing.size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        self._high, self._low = high, high // 4 if low is None else low

    # Ending.

    def is_closing(self) -> bool:
        return self.closing or self.lost

    def close(self) -> None:
        if self.closing or self.lost:
            return
        if not self._eof_sent:
            self.write_eof()
        self.closing = True
        if not self._writing_paused:  # Else what was written must be read first; see `drained`.
            self.lose(None)

    def abort(self) -> None:
        if not self.lost:
            self.outgoing.clear()
            self.outgoing.put(reset_error())
            self.closing = True
            self.lose(None)

    def lose(self, error: OSError | None) -> None:
        """End this side; its protocol hears why."""
        if self.lost:
            return
        self.lost = True
        self.reading = False
        if error is not None:
            self.outgoing.clear()
        if self.peer.lost:
            self.network.ended(self)
        if self._protocol is not None:
            self.call(self._protocol.connection_lost, error)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol


Chunk = bytes | OSError | None  # Data, a reset, or the end.


class Pipe:
    """One direction of a connection: chunks on their way, in order."""

    def __init__(self, source: Transport) -> None:
        self.source = source
        self.size = 0  # Bytes on their way or waiting to be read.
        self._chunks: deque[tuple[float, Chunk]] = deque()
        self._scheduled = False

    def put(self, chunk: Chunk) -> None:
        """Send; it arrives after the network's latency, never before what was sent earlier."""
        network = self.source.network
        arrival = network.loop.time() + network.delay()
        if self._chunks:
            arrival = max(arrival, self._chunks[-1][0])
        self._chunks.append((arrival, chunk))
        self.size += len(chunk) if isinstance(chunk, bytes) else 0
        self.resume()

    def clear(self) -> None:
        """Forget what has not arrived."""
        self._chunks.clear()
        self.size = 0

    def resume(self) -> None:
        """See to it that the next chunk arrives in its time."""
        target = self.source.peer
        # Without a protocol nobody reads yet; a paused reader leaves everything in the pipe.
        if self._chunks and not self._scheduled and target._context is not None:
            self._scheduled = True
            target.network.loop.call_at(self._chunks[0][0], self._arrive, context=target._context)

    def _arrive(self) -> None:
        self._scheduled = False
        target, network = self.source.peer, self.source.network
        if not self._chunks or network.blocked(self.source.host, target.host):
            return
        if not target.reading and not target.is_closing():
            return
        if network.loop.time() < self._chunks[0][0]:  # The pipe was cleared and filled again.
            self.resume()
            return
        _, chunk = self._chunks.popleft()
        if isinstance(chunk, OSError):
            target.lose(chunk)
        else:
            if chunk is not None:
                self.size -= len(chunk)
                self.source.call(self.source.drained)
            target.receive(chunk)
        self.resume()


def reset_error() -> OSError:
    """Return what a side of a reset connection is told."""
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
