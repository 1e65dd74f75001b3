"""One connection of the simulated network: two transports, joined by a pipe in each direction.

As in TCP: bytes arrive in order, a writer whose peer does not read is paused, each direction ends
by itself, and data for a closed socket is answered by a reset. What nobody acknowledges is given up
after a quarter of an hour; who has nothing to send notices nothing, unless it asked for keepalive.
"""

import asyncio
import contextvars
import errno
import os
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from kubeloop.sim.pipe import Pipe, reset_error
from kubeloop.sim.sockets import Endpoint

HOST: Final = contextvars.ContextVar("HOST", default="localhost")
HIGH_WATER: Final = 64 * 1024  # Bytes sent and not yet read, above which a writer is paused.
GIVE_UP_S: Final = 924.6  # Linux: tcp_retries2 = 15.
_TCP_USER_TIMEOUT: Final = 18
_KEEPALIVE: Final = ((4, 7200), (6, 9), (5, 75))  # Linux: TCP_KEEPIDLE, _KEEPCNT, _KEEPINTVL.


class Wire(Protocol):
    """What a connection needs of the network it runs over."""

    loop: asyncio.AbstractEventLoop

    def told(self, what: str, transport: "Transport", size: int) -> None:
        """Hear what happens to a connection."""

    def ended(self, transport: "Transport") -> None:
        """Hear that both sides of a connection are gone."""

    def pollable(self, readable: bool) -> int:
        """Return a descriptor that polls as readable, or never does."""


class Transport(asyncio.Transport):
    """One side of a connection.

    number: of the connection; both sides have the same.
    extra:  what `get_extra_info` tells.
    """

    _start_tls_compatible = True  # asyncio's start_tls asks for it.
    peer: "Transport"
    outgoing: Pipe
    server: object = None  # Which accepted it.

    def __init__(self, network: Wire, host: str, number: int, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self.host, self.network, self.number = host, network, number
        self.options: dict[tuple[int, int], Any] = {}
        self.reading = False
        self.closing = self.lost = False
        self._high, self._low = HIGH_WATER, HIGH_WATER // 4
        self._protocol: Any = None
        self.context: contextvars.Context | None = None
        self._writing_paused = self._eof_sent = self._refusing = False
        self._doubts: dict[str, asyncio.TimerHandle] = {}
        if "sockname" in extra:
            extra["socket"] = Endpoint(extra["sockname"], extra["peername"], self)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run `function` soon, on behalf of whoever owns this side."""
        self.network.loop.call_soon(function, *args, context=self.context)

    def attach(
        self,
        protocol: asyncio.BaseProtocol,
        context: contextvars.Context,
        waiter: "asyncio.Future[None] | None" = None,
    ) -> None:
        """Give this side its protocol; what has arrived so far is then delivered.

        waiter: is told when the protocol knows.
        """
        context = context.copy()
        context.run(HOST.set, self.host)
        self._protocol, self.context = protocol, context
        self.call(self._begin, waiter)

    @property
    def attached(self) -> bool:
        """Whether this side has a protocol."""
        return self._protocol is not None

    def _begin(self, waiter: "asyncio.Future[None] | None") -> None:
        if not self.lost:
            self.reading = True
            self._protocol.connection_made(self)
            self.incoming.resume()
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # Reading.

    @property
    def incoming(self) -> Pipe:
        """What the other side sends."""
        return self.peer.outgoing

    def is_reading(self) -> bool:
        return self.reading and not self.closing

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        if not self.reading and not self.lost:
            self.reading = True
            self.incoming.resume()

    def receive(self, data: bytes | None) -> None:
        """Hand data (None: the end) from the other side to the protocol."""
        if self.is_closing():
            if data is not None and not self._refusing:
                self._refusing = True
                self.outgoing.put(reset_error())  # Data for a closed socket.
        elif data is None:
            if not self._protocol.eof_received():
                self.close()
        elif isinstance(self._protocol, asyncio.BufferedProtocol):
            self._fill(self._protocol, data)
        else:
            self._protocol.data_received(data)

    @staticmethod
    def _fill(protocol: asyncio.BufferedProtocol, data: bytes) -> None:
        left = memoryview(data)
        while left:
            buffer = memoryview(protocol.get_buffer(len(left)))
            count = min(len(buffer), len(left))
            buffer[:count] = left[:count]
            protocol.buffer_updated(count)
            left = left[count:]

    # Writing.

    def write(self, data: Any) -> None:
        if self._eof_sent:
            raise RuntimeError("cannot write after write_eof()")
        if self.closing or self.lost or not data:
            return
        if self.incoming.was_reset():  # Nobody read it, but the kernel knows.
            self.lose(reset_error())
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

    def taken(self) -> None:
        """Hear that the other side has read."""
        if self._writing_paused and self.outgoing.size <= self._low:
            self.call(self.drained)

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
        self._force_close(None)

    def _force_close(self, error: BaseException | None) -> None:
        """Reset the connection; asyncio's TLS ends this way, too."""
        if not self.lost:
            self.lose(error)
            self.outgoing.clear()
            self.outgoing.put(reset_error())

    def lose(self, error: BaseException | None) -> None:
        """End this side; its protocol hears why."""
        if self.lost:
            return
        self.forget()
        if error is not None:
            self.network.told("lost", self, 0)
            self.outgoing.clear()
        if self._protocol is not None:
            self.call(self._protocol.connection_lost, error)

    def forget(self) -> None:
        """End this side; nobody hears of it."""
        self.lost, self.reading = True, False
        self.recovered()
        if self.peer.lost:
            self.network.ended(self)

    # When nothing comes back.

    def unheard(self) -> None:
        """Begin to doubt, as the other side cannot be reached now or does not answer."""
        if self.lost:
            return
        if self.outgoing.size and "unacknowledged" not in self._doubts:
            user_ms = self.options.get((socket.IPPROTO_TCP, _TCP_USER_TIMEOUT), 0)
            self._doubt("unacknowledged", user_ms / 1000 or GIVE_UP_S)
        asks = self.options.get((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 0)
        if asks and "keepalive" not in self._doubts:
            idle, count, interval = (
                self.options.get((socket.IPPROTO_TCP, option), normal)
                for option, normal in _KEEPALIVE
            )
            self._doubt("keepalive", idle + count * interval)

    def recovered(self) -> None:
        """Doubt no more."""
        for timer in self._doubts.values():
            timer.cancel()
        self._doubts.clear()

    def _doubt(self, why: str, patience_s: float) -> None:
        self._doubts[why] = self.network.loop.call_later(
            patience_s, self._give_up, context=self.context
        )

    def _give_up(self) -> None:
        self.lose(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))

    # What asyncio and others ask.

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def fileno(self) -> int:
        """Return what polls as this side would now; -1 if it is gone."""
        return -1 if self.lost else self.network.pollable(self.incoming.has_arrived())
