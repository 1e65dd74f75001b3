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
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

HOST: Final = contextvars.ContextVar("HOST", default="localhost")
LATENCY_S: Final = (0.0001, 0.001)  # One way.
CONNECT_TIMEOUT_S: Final = 127.0  # Linux: SYN retries end after so long.
HIGH_WATER: Final = 64 * 1024  # Bytes sent and not yet read, above which a writer is paused.
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
            transport.lose(_reset())
            transport.peer.lose(_reset())
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
        client = Transport(self, here, own, far)
        accepted = Transport(self, server.host, far, own)
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


class Transport(asyncio.Transport):
    """One side of a connection."""

    peer: "Transport"

    def __init__(self, network: Network, host: str, own: Address, far: Address) -> None:
        endpoint = Endpoint(own, far)
        super().__init__({"sockname": own, "peername": far, "socket": endpoint})
        self.host, self.network = host, network
        self.outgoing = Pipe(self)
        self.reading = False
        self.closing = self.lost = False
        self._key = own[1]
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
                self.peer.lose(_reset())  # Data for a closed socket is answered by a reset.
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
            self.outgoing.put(_reset())
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
            self.network.connections.pop(self._key, None)
            self.network.connections.pop(self.peer._key, None)
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


def _reset() -> OSError:
    return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
