"""One proxied connection: bytes both ways, with back-pressure, half-close and reset passed on.

    client ──► Inbound ──► Outbound ──► endpoint
           ◄──         ◄──          ◄──

What arrives before the endpoint is connected stays in the kernel: reading is paused until then, so
a failed connect can be tried on another endpoint without the client noticing.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Final

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time: close sends a reset.


class Side(asyncio.Protocol):
    """One end of a spliced pair; what it reads the other end writes."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: Side | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        peer = self.peer
        if peer is not None and peer.transport is not None:
            peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the half-close on; keep this side open for what the other still sends."""
        self._ended = True
        peer = self.peer
        if peer is None or peer.transport is None or peer._ended:
            return False  # Both have said all: closing one side closes the other.
        if peer.transport.can_write_eof() and not peer.transport.is_closing():
            peer.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        peer, self.peer, self.transport = self.peer, None, None
        if peer is None or peer.transport is None:
            return
        peer.peer = None
        if error is None:
            peer.transport.close()
        else:
            reset(peer.transport)


class Inbound(Side):
    """The client's end.

    arrived: called with this side when a client has connected;  left: when it has gone.
    """

    def __init__(self, arrived: "Callable[[Inbound], None]", left: "Callable[[Inbound], None]"):
        super().__init__()
        self._arrived, self._left = arrived, left

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        self._arrived(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._left(self)

    @property
    def client(self) -> str:
        """The client's address, without its port."""
        assert self.transport is not None
        name = self.transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    def join(self, outbound: Side) -> None:
        """Begin to pass bytes both ways; the client may have gone in the meantime."""
        if self.transport is None:
            if outbound.transport is not None:
                outbound.transport.abort()
            return
        self.peer, outbound.peer = outbound, self
        self.transport.resume_reading()

    def refuse(self) -> None:
        """Reset the connection: nobody is there to answer."""
        if self.transport is not None:
            reset(self.transport)


def reset(transport: asyncio.Transport) -> None:
    """Cut a connection so that the other end is told: asyncio's abort alone looks like an end."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()
