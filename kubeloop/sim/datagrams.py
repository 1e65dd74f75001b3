"""UDP over the simulated network: each datagram takes its own time, if it comes at all."""

import asyncio
import contextvars
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from kubeloop.sim.sockets import Endpoint, Place
from kubeloop.sim.transport import HOST

if TYPE_CHECKING:
    from kubeloop.sim.network import Network

SIZE_MAX: Final = 65_507  # Bytes; what UDP over IPv4 can carry.


class DatagramTransport(asyncio.DatagramTransport):
    """One socket. own, far: addresses as asyncio tells them; far: None unless it is connected.

    waiter: is told when the protocol knows.
    """

    def __init__(
        self,
        network: "Network",
        own: Any,
        far: Any,
        protocol: asyncio.DatagramProtocol,
        waiter: "asyncio.Future[None]",
    ) -> None:
        self.host, self.options = HOST.get(), dict[tuple[int, int], Any]()
        endpoint = Endpoint(own, far, self, socket.SOCK_DGRAM)
        super().__init__({"sockname": own, "peername": far, "socket": endpoint})
        self.own, self.far = own, far
        self._network, self._protocol = network, protocol
        self._context = contextvars.copy_context()
        self._closed = False
        self._call(self._begin, waiter)

    def _call(self, function: Any, *args: Any) -> None:
        self._network.loop.call_soon(function, *args, context=self._context)

    def _begin(self, waiter: "asyncio.Future[None]") -> None:
        self._protocol.connection_made(self)
        if not waiter.done():
            waiter.set_result(None)

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send. What fails at once is told to the protocol. Raises: ValueError."""
        if self.far is not None and addr not in (None, self.far):
            raise ValueError(f"Invalid address: must be None or {self.far}")
        target = self.far if addr is None else addr
        if self._closed or target is None or len(data) > SIZE_MAX:
            if not self._closed:
                code = errno.EDESTADDRREQ if target is None else errno.EMSGSIZE
                self._protocol.error_received(OSError(code, os.strerror(code)))
            return
        self._network.datagrams.send(self, bytes(data), (str(target[0]), int(target[1])))

    def receive(self, data: bytes, source: Any) -> bool:
        """Hand a datagram to the protocol; tell whether it was for this socket."""
        if self.far is not None and source != self.far:
            return False
        self._call(self._protocol.datagram_received, data, source)
        return True

    def refused(self) -> None:
        """Hear that nobody is there; who is not connected does not."""
        if self.far is not None and not self._closed:
            error = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
            self._call(self._protocol.error_received, error)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._network.datagrams.unbind(self)
            self._call(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return self._closed

    def get_write_buffer_size(self) -> int:
        return 0

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.DatagramProtocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def fileno(self) -> int:
        """Return what never polls as readable: all that comes is read at once."""
        return -1 if self._closed else self._network.pollable(readable=False)


class Datagrams:
    """Who is bound where, and what is between them."""

    def __init__(self, network: "Network") -> None:
        self._network = network
        self._bound: dict[Place, DatagramTransport] = {}

    def bind(self, place: Place, transport: DatagramTransport) -> None:
        """Let what is sent to `place` come to this socket."""
        self._bound[place] = transport

    def unbind(self, transport: DatagramTransport) -> None:
        """Let nothing come to this socket any more."""
        self._bound = {p: bound for p, bound in self._bound.items() if bound is not transport}

    def vanish(self, host: str) -> None:
        """Let the sockets of a host be gone without a word."""
        self._bound = {p: bound for p, bound in self._bound.items() if bound.host != host}

    def taken(self, place: Place) -> bool:
        """Tell whether somebody is bound there."""
        return place in self._bound

    def send(self, source: DatagramTransport, data: bytes, target: Place) -> None:
        """Let a datagram go; it may be lost, doubled and overtaken."""
        network = self._network
        host = network.owner(target[0])
        if host is None:
            return
        route = network.links.route(source.host, host)
        chance = network.chance("datagrams", source.host, host)
        leaves = route.sent(network.loop.time(), len(data))
        if not route.link.up or route.lost(chance):
            return
        origin = network.origin(source.host, source.own, target[0])
        twice = route.link.duplicate > 0 and chance.random() < route.link.duplicate
        for _ in range(1 + twice):
            arrival = leaves + route.delay(chance)
            network.loop.call_at(arrival, self._arrive, source, origin, data, target)

    def _arrive(self, source: DatagramTransport, origin: Any, data: bytes, target: Place) -> None:
        host = self._network.owner(target[0]) or ""
        bound = self._bound.get(target) or self._bound.get((host, target[1]))
        if bound is not None and bound.receive(data, origin):
            return
        back = self._network.links.route(host, source.host)
        if back.link.up:  # ICMP: port unreachable.
            chance = self._network.chance("datagrams", host, source.host)
            self._network.loop.call_later(back.delay(chance), source.refused)
