"""What a simulation has of the outside world: a network in memory. All else is refused by name.

A base class of `sim.loop.SimLoop`, so that the loop itself is about time and order only.
"""

import asyncio
import contextvars
import os
import signal
import socket
import ssl as ssl_module
from asyncio import base_events, staggered
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

from kubeloop.sim.datagrams import DatagramTransport
from kubeloop.sim.network import Network
from kubeloop.sim.sets import simulated_sets
from kubeloop.sim.sockets import Factory, Server, Tls
from kubeloop.sim.threads import Unsimulated
from kubeloop.sim.tls import virtual_tls
from kubeloop.sim.transport import HOST, Transport


class Outside(base_events.BaseEventLoop):
    """An event loop's connections, over `network`; and signals, which only `send_signal` sends."""

    network: Network

    def __init__(self) -> None:
        super().__init__()
        self._signals: dict[tuple[str, int], asyncio.Handle] = {}

    def wall(self) -> float:
        """Return seconds since 1970 in the simulation."""
        raise NotImplementedError

    def run_forever(self) -> None:
        """Run; while it does TLS lives in virtual time, and sets are in order."""
        with virtual_tls(self, self.wall), simulated_sets(self):
            super().run_forever()

    def close(self) -> None:
        """Close, and give back what the network has of the real world."""
        super().close()
        self.network.close()

    # Streams.

    async def create_server(  # type: ignore[override]
        self,
        factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        family: int = 0,
        sock: Any = None,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        **_options: Any,
    ) -> Server:
        """Listen on the simulated network; options of real sockets mean nothing here."""
        if sock is not None:
            raise Unsimulated(f"create_server(sock={sock!r})")
        tls = _server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = self.network.listen(factory, host, int(port or 0), tls=tls, family=family)
        if start_serving:
            await server.start_serving()
        return server

    async def create_unix_server(  # type: ignore[override]
        self,
        factory: Factory,
        path: Any = None,
        *,
        sock: Any = None,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        **_options: Any,
    ) -> Server:
        """Listen on a path of the host; no file appears."""
        if sock is not None or path is None:
            raise Unsimulated(f"create_unix_server({path!r}, sock={sock!r})")
        tls = _server_tls(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        server = self.network.listen_unix(factory, os.fspath(path), tls)
        if start_serving:
            await server.start_serving()
        return server

    async def create_connection(  # type: ignore[override]
        self,
        factory: Factory,
        host: Any = None,
        port: Any = None,
        *,
        ssl: Any = None,
        family: int = 0,
        flags: int = 0,
        sock: Any = None,
        local_addr: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        **_options: Any,
    ) -> tuple[Any, asyncio.BaseProtocol]:
        """Connect over the simulated network; `sock` may be one that sock_connect connected."""
        times = ssl_handshake_timeout, ssl_shutdown_timeout
        tls = _client_tls(ssl, server_hostname, host, times)
        if sock is not None:
            if host is not None or port is not None:
                raise ValueError("host/port and sock can not be specified at the same time")
            transport = self.network.adopt(sock)
        elif host is None and port is None:
            raise ValueError("host and port was not specified and no sock specified")
        else:
            infos = self.network.resolve(host, port, family, socket.SOCK_STREAM, flags)
            if happy_eyeballs_delay is not None and interleave is None:
                interleave = 1
            if interleave:
                infos = _interleaved(infos, interleave)
            dials = [partial(self.network.dial, info[4], local_addr) for info in infos]
            transport = await self._first(dials, happy_eyeballs_delay)
        return await self._attach(transport, factory, tls)

    async def create_unix_connection(  # type: ignore[override]
        self,
        factory: Factory,
        path: Any = None,
        *,
        ssl: Any = None,
        sock: Any = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[Any, asyncio.BaseProtocol]:
        """Connect to a path that a server of the same host listens on."""
        if sock is not None or path is None:
            raise Unsimulated(f"create_unix_connection({path!r}, sock={sock!r})")
        times = ssl_handshake_timeout, ssl_shutdown_timeout
        tls = _client_tls(ssl, server_hostname, None, times)
        transport = await self.network.dial_unix(os.fspath(path))
        return await self._attach(transport, factory, tls)

    async def sock_connect(self, sock: Any, address: Any) -> None:
        """Connect; the real socket only stands for the simulated connection, it is never used."""
        await self.network.connect_socket(sock, address)

    async def _first(
        self, dials: "Sequence[Callable[[], Any]]", stagger_s: float | None
    ) -> Transport:
        """Return the first connection that comes about. Raises: OSError if none does."""
        errors: list[BaseException] = []
        if stagger_s is not None:
            won, _, failed = await staggered.staggered_race(dials, stagger_s)
            if won is not None:
                return won  # type: ignore[no-any-return]
            errors = [error for error in failed if error is not None]
        else:
            for dial in dials:
                try:
                    return await dial()  # type: ignore[no-any-return]
                except OSError as error:
                    errors.append(error)
        if len({str(error) for error in errors}) == 1:
            raise errors[0]
        raise OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")

    async def _attach(
        self, transport: Transport, factory: Factory, tls: Tls | None
    ) -> tuple[Any, asyncio.BaseProtocol]:
        """Give a connection its protocol; return when it may be used. Raises: OSError."""
        protocol = factory()
        context = contextvars.copy_context()
        waiter = self.create_future()
        wrapped: Any = protocol if tls is None else tls.wrap(self, protocol, waiter)
        transport.attach(wrapped, context, waiter if tls is None else None)
        try:
            await waiter
        except BaseException:
            transport.close()
            raise
        return transport if tls is None else wrapped._app_transport, protocol

    # Datagrams.

    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        factory: Callable[[], asyncio.DatagramProtocol],
        local_addr: Any = None,
        remote_addr: Any = None,
        *,
        family: int = 0,
        sock: Any = None,
        **_options: Any,
    ) -> tuple[DatagramTransport, asyncio.DatagramProtocol]:
        """Make a UDP socket on the simulated network. Raises: OSError, ValueError."""
        if sock is not None or family == getattr(socket, "AF_UNIX", None):
            raise Unsimulated(f"create_datagram_endpoint(sock={sock!r}, family={family!r})")
        if not (local_addr or remote_addr or family):
            raise ValueError("unexpected address family")
        resolve = partial(self.network.resolve, family=family, type=socket.SOCK_DGRAM)
        far = resolve(*remote_addr[:2])[0][4] if remote_addr else None
        near = resolve(*local_addr[:2], flags=socket.AI_PASSIVE)[0][4] if local_addr else None
        six = family == socket.AF_INET6 or any(a and ":" in a[0] for a in (far, near))
        own, place = self.network.bind_datagrams(near or ("", 0), 6 if six else 4)
        if far is not None:
            own = self.network.origin(HOST.get(), own, far[0])
        waiter, protocol = self.create_future(), factory()
        transport = DatagramTransport(self.network, own, far, protocol, waiter)
        self.network.datagrams.bind(place, transport)
        await waiter
        return transport, protocol

    # Names.

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """Resolve the names of the simulated network."""
        return self.network.resolve(host, port, family, type, flags)

    async def getnameinfo(self, sockaddr: Any, flags: int = 0) -> tuple[str, str]:
        """Return the address and port as text: nothing is looked up."""
        return str(sockaddr[0]), str(sockaddr[1])

    # Signals: those of the process that simulates stay its own.

    def add_signal_handler(  # type: ignore[override]
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Have the program on this host called when `send_signal` sends `sig`."""
        if sig in (signal.SIGKILL, signal.SIGSTOP):
            raise RuntimeError(f"sig {sig} cannot be caught")
        self._signals[HOST.get(), sig] = asyncio.Handle(callback, args, self, None)

    def remove_signal_handler(self, sig: int) -> bool:
        """Return whether there was one."""
        return self._signals.pop((HOST.get(), sig), None) is not None

    def send_signal(self, host: str, sig: int) -> bool:
        """Send a signal to the program on `host`; return whether it handles it."""
        handle = self._signals.get((host, sig))
        if handle is not None:
            self._ready.append(handle)  # type: ignore[attr-defined]
        return handle is not None


def _refused(name: str) -> Callable[..., Any]:
    def refuse(_loop: Outside, *args: Any, **_options: Any) -> NoReturn:
        told = ", ".join(repr(argument) for argument in args[:2])
        raise Unsimulated(f"{name}({told})")

    return refuse


for _name in (
    *("add_reader", "remove_reader", "add_writer", "remove_writer", "sock_accept"),
    *("sock_recv", "sock_recv_into", "sock_recvfrom", "sock_sendall", "sock_recvfrom_into"),
    *("sock_sendto", "sock_sendfile", "sendfile", "connect_accepted_socket"),
    *("connect_read_pipe", "connect_write_pipe", "subprocess_exec", "subprocess_shell"),
):
    setattr(Outside, _name, _refused(_name))


def _server_tls(context: Any, handshake_s: float | None, shutdown_s: float | None) -> Tls | None:
    if not context:
        return None
    if not isinstance(context, ssl_module.SSLContext):
        raise TypeError("ssl argument must be an SSLContext or None")
    return Tls(context, server_side=True, handshake_s=handshake_s, shutdown_s=shutdown_s)


def _client_tls(
    context: Any, name: str | None, host: Any, times: tuple[float | None, float | None]
) -> Tls | None:
    """Return how to speak TLS, None if not. Raises: ValueError, as asyncio does."""
    if not context:
        if name is not None:
            raise ValueError("server_hostname is only meaningful with ssl")
        return None
    if name is None and not host:
        raise ValueError("You must set server_hostname when using ssl without a host")
    known = context if isinstance(context, ssl_module.SSLContext) else None
    return Tls(known, host if name is None else name, False, *times)


def _interleaved(infos: list[Any], first: int) -> list[Any]:
    """Order addresses so that families take turns, after `first` of the first (RFC 8305, 4)."""
    families = list(dict.fromkeys(info[0] for info in infos))
    lanes = [[info for info in infos if info[0] == family] for family in families]
    ordered = [lanes[0].pop(0) for _ in range(min(first - 1, len(lanes[0])))]
    while any(lanes):
        ordered += [lane.pop(0) for lane in lanes if lane]
    return ordered
