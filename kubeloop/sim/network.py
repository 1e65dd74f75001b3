"""A network inside the event loop: hosts, latency, partitions, resets, flow control.

It sits below asyncio, behind `create_server` and `create_connection`, so whatever speaks asyncio
(aiohttp, kopf, httpx's anyio backend) runs over it unmodified.

Hosts have names and addresses. Code runs on the host named by the context variable `HOST`, which
tasks and callbacks inherit; "localhost", with all of 127.0.0.0/8, unless told otherwise. A
connection is two `Pipe`s, one per direction, each a queue of chunks that arrive after a seeded
latency, in order. A partition holds back what is sent until it heals, as retransmissions would.
"""

import asyncio
import contextvars
import errno
import ipaddress
import os
import random
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from kubeloop.sim.transport import HOST, Transport, reset_error

LATENCY_S: Final = (0.0001, 0.001)  # One way.
CONNECT_TIMEOUT_S: Final = 127.0  # Linux: SYN retries end after so long.
_EPHEMERAL: Final = 32_768
_WILDCARDS: Final = ("", "0.0.0.0", "::")

Factory = Callable[[], asyncio.BaseProtocol]
Address = tuple[str, int]


class Network:
    """The hosts of a simulation and what connects them.

    latency_s: the least and the most time a chunk takes one way; may be changed at any time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self.loop, self.rng = loop, rng
        self.latency_s: tuple[float, float] = LATENCY_S
        self.connections: dict[int, Transport] = {}  # Client sides, by order of creation.
        self._hosts: dict[str, str] = {"localhost": "127.0.0.1"}
        self._owner: dict[str, str] = {}
        self._listeners: dict[tuple[str, int], Server] = {}
        self._cut: set[tuple[str, str]] = set()
        self._healed: list[asyncio.Future[None]] = []
        self._ports = _EPHEMERAL
        self._sockets: WeakKeyDictionary[socket.socket, Transport] = WeakKeyDictionary()

    # The map.

    def add_host(self, name: str, *addresses: str) -> None:
        """Name a host; its addresses are its own, the first is the one it speaks from."""
        assert addresses, f"host {name} needs an address"
        self._hosts[name] = addresses[0]
        self._owner.update(dict.fromkeys(addresses, name))

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """Run the body, and the tasks it starts, on `host`."""
        assert host in self._hosts, f"there is no host {host}: add_host({host!r}, address)"
        token = HOST.set(host)
        try:
            yield
        finally:
            HOST.reset(token)

    def owner(self, address: str) -> str | None:
        """Return the host that has `address`, None if nobody has."""
        if address in self._owner:
            return self._owner[address]
        loopback = address == "::1" or address.startswith("127.")
        return "localhost" if loopback else None

    def resolve(self, host: Any, port: Any, family: int = 0) -> list[tuple[Any, ...]]:
        """Return getaddrinfo's answer for a name or address. Raises: socket.gaierror."""
        text = host.decode() if isinstance(host, bytes) else (host or "127.0.0.1")
        address = self._hosts.get(text, text)
        version = 0  # Of a name that nobody has.
        with suppress(ValueError):
            version = int(ipaddress.ip_address(address).version)
        found = {4: socket.AF_INET, 6: socket.AF_INET6}.get(version)
        if found is None or family not in (0, found):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        end = (address, int(port or 0), *((0, 0) if version == 6 else ()))
        return [(found, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", end)]

    # Faults.

    def partition(self, source: str, target: str, *, both: bool = True) -> None:
        """Let nothing that `source` sends reach `target`; and the reverse, if `both`."""
        self._cut.add((source, target))
        if both:
            self._cut.add((target, source))

    def heal(self) -> None:
        """End every partition: what was held back arrives, what tried to connect goes on."""
        self._cut.clear()
        healed, self._healed = self._healed, []
        for waiter in healed:
            if not waiter.done():
                waiter.set_result(None)
        for transport in tuple(self.connections.values()):
            transport.outgoing.resume()
            transport.peer.outgoing.resume()

    def reset(self, one: str | None = None, other: str | None = None) -> int:
        """Reset every connection (between two hosts, if named) now; return how many there were."""
        named = {one, other} - {None}
        hit = [t for t in self.connections.values() if named <= {t.host, t.peer.host}]
        for transport in hit:
            transport.lose(reset_error())
            transport.peer.lose(reset_error())
        return len(hit)

    def blocked(self, source: str, target: str) -> bool:
        """Tell whether a partition keeps `source` from reaching `target`."""
        return (source, target) in self._cut

    # What the event loop calls.

    def listen(self, factory: Factory, host: Any, port: int) -> "Server":
        """Accept connections to `host`:`port` (0: any free port). Raises: OSError."""
        here = HOST.get()
        wanted = host if isinstance(host, list | tuple) else [host]
        addresses = []
        for name in wanted:
            address = "" if name is None or name in _WILDCARDS else self._hosts.get(name, name)
            if address and self.owner(address) != here:
                raise OSError(errno.EADDRNOTAVAIL, f"{here} does not have the address {address}")
            addresses.append(address)
        port = port or self._free_port()
        keys = [(address or here, port) for address in addresses]
        for key, address in zip(keys, addresses, strict=True):
            if key in self._listeners or (address and (here, port) in self._listeners):
                raise OSError(errno.EADDRINUSE, f"address {key} is already in use")
        sockets = [Endpoint((address or "0.0.0.0", port)) for address in addresses]
        server = Server(self, factory, here, keys, sockets)
        self._listeners.update(dict.fromkeys(keys, server))
        return server

    def unlisten(self, keys: Sequence[tuple[str, int]]) -> None:
        """Refuse connections to `keys` from now on."""
        for key in keys:
            self._listeners.pop(key, None)

    async def connect(
        self, factory: Factory, host: Any, port: Any
    ) -> tuple["Transport", asyncio.BaseProtocol]:
        """Connect to `host`:`port`. Raises: OSError, as connect(2) would."""
        transport = await self._dial(self.resolve(host, port)[0][4])
        return await self._attach(transport, factory)

    async def connect_socket(self, sock: socket.socket, address: Any) -> None:
        """Connect on behalf of `sock`; `adopt` takes the connection over."""
        self._sockets[sock] = await self._dial(address)

    async def adopt(
        self, factory: Factory, sock: socket.socket
    ) -> tuple["Transport", asyncio.BaseProtocol]:
        """Give the connection that `connect_socket` made a protocol. Raises: OSError."""
        transport = self._sockets.pop(sock, None)
        if transport is None:
            raise OSError(errno.ENOTCONN, "this loop's sock_connect did not connect the socket")
        sock.close()
        return await self._attach(transport, factory)

    async def _attach(
        self, transport: "Transport", factory: Factory
    ) -> tuple["Transport", asyncio.BaseProtocol]:
        protocol = factory()
        transport.attach(protocol, contextvars.copy_context())
        await asyncio.sleep(0)
        return transport, protocol

    async def _dial(self, address: Any) -> "Transport":
        here, ip, port = HOST.get(), str(address[0]), int(address[1])
        there = self.owner(ip)
        if there is None:
            raise OSError(errno.EHOSTUNREACH, f"no host has the address {ip}")
        await self._cross(here, there)
        server = self._listeners.get((ip, port)) or self._listeners.get((there, port))
        if server is not None:
            client = self._join(here, (self._hosts[here], self._free_port()), server, (ip, port))
        await self._cross(there, here)
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {ip}:{port}")
        return client

    def _join(self, here: str, own: Address, server: "Server", far: Address) -> "Transport":
        client = Transport(self, here, own[1], _extra(own, far))
        accepted = Transport(self, server.host, far[1], _extra(far, own))
        client.peer, accepted.peer = accepted, client
        self.connections[own[1]] = client
        accepted.attach(server.factory(), server.context)
        return client

    async def _cross(self, source: str, target: str) -> None:
        """Let one packet go from `source` to `target`. Raises: TimeoutError."""
        deadline = self.loop.time() + CONNECT_TIMEOUT_S
        while self.blocked(source, target):
            healed = self.loop.create_future()
            self._healed.append(healed)
            await asyncio.wait([healed], timeout=deadline - self.loop.time())
            if not healed.done():
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        await asyncio.sleep(self.delay())

    def delay(self) -> float:
        """Draw the time one chunk takes."""
        return self.rng.uniform(*self.latency_s)

    def ended(self, transport: Transport) -> None:
        """Forget a connection of which both sides are gone."""
        for side in (transport, transport.peer):
            if self.connections.get(side.port) in (transport, transport.peer):
                del self.connections[side.port]

    def _free_port(self) -> int:
        self._ports += 1
        return self._ports


class Endpoint:
    """What stands for a socket in `sockets` and `get_extra_info("socket")`: addresses, no I/O."""

    type, proto = socket.SOCK_STREAM, socket.IPPROTO_TCP

    def __init__(self, own: Address, far: Address | None = None) -> None:
        self.own, self.far = own, far
        self.family = socket.AF_INET6 if ":" in own[0] else socket.AF_INET

    def getsockname(self) -> Address:
        """Return our address."""
        return self.own

    def getpeername(self) -> Address:
        """Return the other side's address. Raises: OSError for a listener."""
        if self.far is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        return self.far

    def setsockopt(self, *_option: Any) -> None:
        """Accept every option; none means anything here."""

    def getsockopt(self, *_option: Any) -> int:
        """Return 0: no option is set, no error is pending."""
        return 0

    def fileno(self) -> int:
        """Return -1: there is no file."""
        return -1


class Server(asyncio.AbstractServer):
    """A listener."""

    def __init__(
        self,
        network: Network,
        factory: Factory,
        host: str,
        keys: Sequence[tuple[str, int]],
        sockets: Sequence[Endpoint],
    ) -> None:
        self.factory, self.host, self.sockets = factory, host, tuple(sockets)
        self.context = contextvars.copy_context()
        self._network, self._keys, self._serving = network, keys, True
        self._closed: asyncio.Future[None] = network.loop.create_future()

    def close(self) -> None:
        if self._serving:
            self._serving = False
            self._network.unlisten(self._keys)
            if not self._closed.done():
                self._closed.set_result(None)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._network.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        """Do nothing: a listener listens from the beginning."""

    async def serve_forever(self) -> None:
        try:
            await asyncio.shield(self._closed)
        finally:
            self.close()

    async def wait_closed(self) -> None:
        """Return: connections outlive their listener."""


def _extra(own: Address, far: Address) -> dict[str, Any]:
    return {"sockname": own, "peername": far, "socket": Endpoint(own, far)}
