"""What stands for sockets: addresses and options without I/O, and listeners."""

import asyncio
import contextvars
import errno
import os
import socket
import ssl
from asyncio import sslproto
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from kubeloop.sim.network import Network
    from kubeloop.sim.transport import Transport

Factory = Callable[[], asyncio.BaseProtocol]
Place = tuple[str, int]  # A host or one of its addresses, and a port; or a host's path, and 0.
UNSPECIFIED: Final = {4: "0.0.0.0", 6: "::"}


@dataclass(frozen=True, slots=True)
class Tls:
    """How a connection speaks TLS. Timeouts [s]; None: asyncio's own.

    context: None is asyncio's default for clients;  name: what the server's certificate must be
             for; "" for any.
    """

    context: ssl.SSLContext | None
    name: str = ""
    server_side: bool = False
    handshake_s: float | None = None
    shutdown_s: float | None = None

    def wrap(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        waiter: "asyncio.Future[None] | None",
    ) -> Any:
        """Return asyncio's own TLS around a protocol. waiter: is told when hands are shaken."""
        return sslproto.SSLProtocol(
            loop,
            protocol,
            self.context,  # type: ignore[arg-type]
            waiter,  # type: ignore[arg-type]
            self.server_side,
            self.name or None,
            ssl_handshake_timeout=self.handshake_s,  # type: ignore[arg-type]
            ssl_shutdown_timeout=self.shutdown_s,
        )


class Owner(Protocol):
    """Whose socket it is."""

    options: dict[tuple[int, int], Any]

    def fileno(self) -> int:
        """Return what polls as the socket would."""


class Endpoint:
    """What stands for a socket in `sockets` and `get_extra_info("socket")`."""

    def __init__(
        self,
        own: Any,
        far: Any = None,
        owner: Owner | None = None,
        type: socket.SocketKind = socket.SOCK_STREAM,
    ) -> None:
        self.own, self.far, self.type = own, far, type
        self.proto = socket.IPPROTO_UDP if type == socket.SOCK_DGRAM else socket.IPPROTO_TCP
        self._owner = owner
        if isinstance(own, str):
            self.family, self.proto = socket.AF_UNIX, 0
        else:
            self.family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET

    def getsockname(self) -> Any:
        """Return our address."""
        return self.own

    def getpeername(self) -> Any:
        """Return the other side's address. Raises: OSError for a listener."""
        if self.far is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.far

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        """Keep an option; those of keepalive and TCP_USER_TIMEOUT mean what they mean."""
        if self._owner is not None and value:
            self._owner.options[level, option] = value[0]

    def getsockopt(self, level: int, option: int, *_size: Any) -> Any:
        """Return an option; 0 if it was not set, and no error is ever pending."""
        return 0 if self._owner is None else self._owner.options.get((level, option), 0)

    def setblocking(self, flag: bool) -> None:
        """Do nothing: nothing here blocks."""

    def gettimeout(self) -> float:
        """Return 0: nothing here blocks."""
        return 0.0

    def fileno(self) -> int:
        """Return a descriptor to poll and to do nothing else with; -1 if there is none."""
        return -1 if self._owner is None else self._owner.fileno()


class Server(asyncio.AbstractServer):
    """A listener. places: where it listens;  sockets: what stands for them while it is open."""

    def __init__(
        self,
        network: "Network",
        factory: Factory,
        host: str,
        places: Sequence[Place],
        endpoints: Sequence[Endpoint],
        tls: Tls | None,
    ) -> None:
        self.host, self.places, self.context = host, places, contextvars.copy_context()
        self._network, self._factory, self._tls = network, factory, tls
        self._endpoints = tuple(endpoints)
        self._open = True
        self._serving = False
        self._closed: asyncio.Future[None] = network.loop.create_future()

    def accept(self, transport: "Transport") -> None:
        """Give a connection that has come in a protocol, or reset it."""
        if not self._serving:
            transport.abort()
            return
        transport.server = self
        protocol = self._factory()
        if self._tls is not None:
            protocol = self._tls.wrap(self._network.loop, protocol, None)
        transport.attach(protocol, self.context)

    @property
    def sockets(self) -> tuple[Endpoint, ...]:
        return self._endpoints if self._open else ()

    def close(self) -> None:
        if self._open:
            self._open = self._serving = False
            self._network.unlisten(self)
            if not self._closed.done():
                self._closed.set_result(None)

    def close_clients(self) -> None:
        """Close what was accepted (Python 3.13)."""
        for transport in self._accepted():
            transport.close()

    def abort_clients(self) -> None:
        """Reset what was accepted (Python 3.13)."""
        for transport in self._accepted():
            transport.abort()

    def _accepted(self) -> "list[Transport]":
        return [t.peer for t in self._network.connections.values() if t.peer.server is self]

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        self._serving = self._open

    async def serve_forever(self) -> None:
        await self.start_serving()
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()

    async def wait_closed(self) -> None:
        """Return: connections outlive their listener."""
