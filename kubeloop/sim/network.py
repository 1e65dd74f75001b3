"""A network inside the event loop: hosts, links between them, and everything that can be wrong.

It sits below asyncio, behind `create_server`, `create_connection` and their like, so whatever
speaks asyncio (aiohttp, kopf, httpx's anyio backend) runs over it unmodified.

Hosts have names and addresses. Code runs on the host named by the context variable `HOST`, which
tasks and callbacks inherit; "localhost", with all of 127.0.0.0/8, unless told otherwise. Between
two hosts lies a `Link` in each direction. A connection is two `Pipe`s, each a queue of what was
sent and has not been read. Every connection draws from a source of chance of its own, decided by
the seed, its two hosts and how many they had before: what happens to one changes no other.

Faults take names of hosts and plain values, so that they can be written down: see
docs/simulation-network.md.
"""

import asyncio
import errno
import ipaddress
import os
import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final
from weakref import WeakKeyDictionary

from kubeloop.sim.datagrams import Datagrams
from kubeloop.sim.links import ANY, Link, Links
from kubeloop.sim.pipe import Fate, Pipe, reset_error
from kubeloop.sim.sockets import UNSPECIFIED, Endpoint, Factory, Place, Server, Tls
from kubeloop.sim.transport import HOST, Transport

CONNECT_TRIES_S: Final = (1, 2, 4, 8, 16, 32, 64)  # Linux: tcp_syn_retries = 6.
CONNECT_TIMEOUT_S: Final = float(sum(CONNECT_TRIES_S))
_PORTS: Final = range(32_768, 61_000)  # Linux: ip_local_port_range.
_WILDCARDS: Final = ("", *UNSPECIFIED.values())

Undo = Callable[[], None]
Trace = Callable[[float, str, int, str, str, int], None]
"""(time [s], what, connection, source, target, bytes): "connect", "sent", "read", "reset", "lost",
"ended"."""


class Network:
    """The hosts of a simulation and what lies between them.

    links:       what lies between hosts; `link`, `fault` and `heal` change it.
    connections: those that have not ended, by number: the sides that connected.
    trace:       is told of everything that happens to connections.
    lookup:      the error every look-up of a name ends with, 0 for none: socket.EAI_AGAIN.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, rng: random.Random) -> None:
        self.loop = loop
        self.links = Links()
        self.datagrams = Datagrams(self)
        self.connections: dict[int, Transport] = {}
        self.trace: Trace | None = None
        self.lookup = 0
        self._salt = rng.getrandbits(64)
        self._chances: dict[tuple[str, ...], random.Random] = {}
        self._pairs: Counter[tuple[str, str]] = Counter()
        self._hosts: dict[str, tuple[str, ...]] = {"localhost": ("127.0.0.1",)}
        self._owner: dict[str, str] = {}
        self._listeners: dict[Place, Server] = {}
        self._made = 0
        self._port = _PORTS.start
        self._sockets: WeakKeyDictionary[socket.socket, Transport] = WeakKeyDictionary()
        self._polled: list[socket.socket] = []

    # The map.

    def add_host(self, name: str, *addresses: str) -> None:
        """Name a host; its addresses are its own, the first of a kind is the one it speaks from."""
        if not addresses or name == ANY:
            raise ValueError(f"host {name!r} needs a name and an address")
        self._hosts[name] = tuple(str(ipaddress.ip_address(address)) for address in addresses)
        self._owner.update(dict.fromkeys(self._hosts[name], name))

    @contextmanager
    def on(self, host: str) -> Iterator[None]:
        """Run the body, and the tasks it starts, on `host`."""
        self._must_know(host)
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

    def resolve(
        self, host: Any, port: Any, family: int = 0, type: int = 0, flags: int = 0
    ) -> list[tuple[Any, ...]]:
        """Return getaddrinfo's answer for a name or address. Raises: socket.gaierror."""
        text = host.decode() if isinstance(host, bytes) else host
        if not text:
            passive = flags & socket.AI_PASSIVE
            found: Sequence[str] = (UNSPECIFIED[4],) if passive else ("127.0.0.1",)
        elif _version(text):
            found = (str(ipaddress.ip_address(text)),)
        elif self.lookup:
            raise socket.gaierror(self.lookup, "Temporary failure in name resolution")
        else:
            found = self._hosts.get(text, ())
        kinds = {4: socket.AF_INET, 6: socket.AF_INET6}
        answers: list[tuple[Any, ...]] = []
        for address in found:
            kind = kinds[_version(address)]
            for sort, protocol in _SORTS.items():
                if family in (0, kind) and type in (0, sort):
                    answers.append((kind, sort, protocol, "", end(address, int(port or 0))))
        if not answers:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return answers

    # What lies between hosts. Names of hosts may be "*": see `Links`.

    def link(self, one: str, other: str, link: Link | None = None, *, both: bool = True) -> Link:
        """Return the link from one host to the other, with its faults; `link` is the new one.

        both: the way back is like it.
        """
        if link is not None:
            self._must_know(one, other)
            self.links.declare(one, other, link)
            if both:
                self.links.declare(other, one, link)
            self._changed()
        return self.links.find(one, other)

    def fault(self, one: str, other: str, *, both: bool = True, **changes: Any) -> Undo:
        """Change fields of the link from one host to the other until `heal`.

        Returns: what ends this fault and no other. Raises: ValueError.
        """
        self._must_know(one, other)
        made = [self.links.fault(one, other, changes)]
        if both and one != other:
            made.append(self.links.fault(other, one, changes))
        self._changed()

        def undo() -> None:
            self.links.end(made)
            self._changed()

        return undo

    def partition(self, one: str, other: str, *, both: bool = True) -> Undo:
        """Let nothing that `one` sends reach `other`; and the reverse, if `both`. See `fault`."""
        return self.fault(one, other, both=both, up=False)

    def heal(self, *hosts: str) -> None:
        """End every fault, or those told of all `hosts`: what was held back arrives."""
        self._must_know(*hosts)
        self.links.heal(frozenset(hosts))
        if not hosts:
            self.lookup = 0
        self._changed()

    # What happens once.

    def reset(self, *hosts: str) -> int:
        """Reset every connection (of a host, between two) now; return how many there were."""
        hit = self._between(hosts)
        for transport in hit:
            self.told("reset", transport, 0)
            transport.lose(reset_error())
            transport.peer.lose(reset_error())
        return len(hit)

    def half_open(self, *hosts: str) -> int:
        """Let no connection (of a host, between two) carry anything ever again; return how many.

        Nobody is told, as when something on the way has forgotten them: who sends gives up after
        a quarter of an hour, who does not waits for ever. New connections are not concerned.
        """
        hit = self._between(hosts)
        for transport in hit:
            for side in (transport, transport.peer):
                side.outgoing.kill()
        self._changed()
        return len(hit)

    def vanish(self, host: str) -> Undo:
        """Take a host's power: it is cut off, and its sides of connections and its listeners are
        gone without a word; return what gives it back (`heal` does, too).

        Its tasks are somebody else's to end. Once it has power, others learn by a reset when they
        send something.
        """
        undo = self.fault(host, ANY, up=False)
        for server in {id(s): s for s in self._listeners.values() if s.host == host}.values():
            server.close()
        self.datagrams.vanish(host)
        hit = self._between([host])
        for transport in hit:
            for side in (transport, transport.peer):
                if side.host == host:
                    side.outgoing.clear()
                    side.forget()
        return undo

    # What the event loop calls.

    def listen(
        self, factory: Factory, host: Any, port: int, *, tls: Tls | None = None, family: int = 0
    ) -> Server:
        """Bind `host`:`port` (0: any free port); `start_serving` then lets connections in.

        Raises: OSError.
        """
        here = HOST.get()
        names = host if isinstance(host, list | tuple) else [host]
        addresses: list[str] = []
        for name in names:
            addresses += [a for a in self._own(here, name, family) if a not in addresses]
        taken = {bound for _, bound in self._listeners}
        port = port or next(p for p in iter(self._free_port, None) if p not in taken)
        places = list(dict.fromkeys((here if a in _WILDCARDS else a, port) for a in addresses))
        mine = {name for name, _ in places}
        for name, bound in self._listeners:
            whole = name == here or (here in mine and self.owner(name) == here)
            if bound == port and (name in mine or whole):
                raise OSError(errno.EADDRINUSE, f"address {name}:{port} is already in use")
        endpoints = [Endpoint(end(address, port)) for address in addresses]
        return self._bind(Server(self, factory, here, places, endpoints, tls))

    def listen_unix(self, factory: Factory, path: str, tls: Tls | None) -> Server:
        """Bind a path of this host; no file is made. Raises: OSError."""
        here = HOST.get()
        place = (f"{here}:{path}", 0)
        if place in self._listeners:
            raise OSError(errno.EADDRINUSE, f"Address {path!r} is already in use")
        return self._bind(Server(self, factory, here, [place], [Endpoint(path)], tls))

    def _bind(self, server: Server) -> Server:
        self._listeners.update(dict.fromkeys(server.places, server))
        return server

    def unlisten(self, server: Server) -> None:
        """Refuse connections to a listener from now on."""
        for place in server.places:
            self._listeners.pop(place, None)

    async def dial(self, address: Any, local: Any = None) -> Transport:
        """Connect to (address, port). local: from where. Raises: OSError, as connect(2) would."""
        here, ip, port = HOST.get(), str(address[0]), int(address[1])
        there = self.owner(ip)
        if there is None:
            raise OSError(errno.EHOSTUNREACH, f"no host has the address {ip}")
        origin = self.origin(here, local or ("", 0), ip)
        server = await self._knock(here, there, [(ip, port), (there, port)])
        if server is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"nobody listens on {ip}:{port}")
        return self._join(here, origin, server, end(ip, port))

    async def dial_unix(self, path: str) -> Transport:
        """Connect to a path of this host. Raises: OSError."""
        here = HOST.get()
        server = await self._knock(here, here, [(f"{here}:{path}", 0)])
        if server is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._join(here, "", server, path)

    async def _knock(self, here: str, there: str, places: Sequence[Place]) -> Server | None:
        """Return who listens at one of the places, None if refused. Raises: TimeoutError."""
        to, back = self.links.route(here, there), self.links.route(there, here)
        chance = self.chance("connect", here, there)
        for patience_s in CONNECT_TRIES_S:
            link = to.link
            if not link.up or link.connect == "blackholed" or to.lost(chance):
                await asyncio.sleep(patience_s)
                continue
            spent_s = to.delay(chance)
            await asyncio.sleep(spent_s)
            server = next((self._listeners[p] for p in places if p in self._listeners), None)
            if not back.link.up or back.lost(chance):
                await asyncio.sleep(max(0.0, patience_s - spent_s))
                continue
            await asyncio.sleep(back.delay(chance))
            refused = link.connect == "refused" or server is None or not server.is_serving()
            return None if refused else server
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def _join(self, here: str, own: Any, server: Server, far: Any) -> Transport:
        """Return our side of a new connection. The server hears of it by the first thing sent."""
        there = server.host
        self._made += 1
        client = Transport(self, here, self._made, {"sockname": own, "peername": far})
        accepted = Transport(self, there, self._made, {"sockname": far, "peername": own})
        client.peer, accepted.peer = accepted, client
        self._pairs[here, there] += 1
        number = self._pairs[here, there]
        fate = Fate(random.Random(f"{self._salt} {here} {there} {number}"))
        client.outgoing = Pipe(client, self.links.route(here, there), fate)
        accepted.outgoing = Pipe(accepted, self.links.route(there, here), fate)
        accepted.context = server.context
        self.connections[self._made] = client
        self.told("connect", client, 0)
        client.outgoing.put(lambda: server.accept(accepted))
        return client

    # What sockets stand for: aiohttp connects one, then gives it to create_connection.

    async def connect_socket(self, sock: socket.socket, address: Any) -> None:
        """Connect on behalf of `sock`; `adopt` takes the connection over."""
        self._sockets[sock] = await self.dial(address)

    def adopt(self, sock: socket.socket) -> Transport:
        """Return the connection that `connect_socket` made. Raises: OSError."""
        transport = self._sockets.pop(sock, None)
        if transport is None:
            raise OSError(errno.ENOTCONN, "this loop's sock_connect did not connect the socket")
        sock.close()
        return transport

    # What parts of the network call.

    def chance(self, *purpose: str) -> random.Random:
        """Return a source of chance of its own for a purpose, decided by the seed."""
        if purpose not in self._chances:
            self._chances[purpose] = random.Random(f"{self._salt} {purpose}")
        return self._chances[purpose]

    def origin(self, here: str, local: Any, target: str) -> Any:
        """Return where something sent to an address comes from. Raises: OSError."""
        version = _version(target)
        address, port = local[0], local[1] or self._free_port()
        if address in _WILDCARDS:
            addresses = (*self._hosts[here], *(["::1"] if here == "localhost" else []))
            own = next((a for a in addresses if _version(a) == version), None)
            if own is None:
                raise OSError(errno.ENETUNREACH, f"{here} has no IPv{version} address")
            address = own
        elif self.owner(address) != here:
            raise OSError(errno.EADDRNOTAVAIL, f"{here} does not have the address {address}")
        return end(address, port)

    def told(self, what: str, transport: Transport, size: int) -> None:
        """Tell of what happens to a connection."""
        if self.trace is not None:
            ends = transport.number, transport.host, transport.peer.host
            self.trace(self.loop.time(), what, *ends, size)

    def ended(self, transport: Transport) -> None:
        """Forget a connection of which both sides are gone."""
        if self.connections.pop(transport.number, None) is not None:
            self.told("ended", transport, 0)

    def pollable(self, readable: bool) -> int:
        """Return a descriptor that polls as readable, or never does; all share the two."""
        if not self._polled:
            never, other = socket.socketpair()
            always, ended = socket.socketpair()
            ended.close()
            self._polled = [never, always, other]
        return self._polled[readable].fileno()

    def close(self) -> None:
        """Give back what it has of the real world."""
        for sock in self._polled:
            sock.close()
        self._polled.clear()

    def bind_datagrams(self, local: Any, version: int) -> tuple[Any, Place]:
        """Return the address of a new UDP socket, and where it is bound. Raises: OSError."""
        here = HOST.get()
        address = local[0] or UNSPECIFIED[version]
        port = int(local[1]) or self._free_port()
        if address not in _WILDCARDS and self.owner(address) != here:
            raise OSError(errno.EADDRNOTAVAIL, f"{here} does not have the address {address}")
        place = (here if address in _WILDCARDS else address, port)
        if self.datagrams.taken(place):
            raise OSError(errno.EADDRINUSE, f"address {place} is already in use")
        return end(address, port), place

    def _own(self, here: str, name: Any, family: int) -> list[str]:
        """Return the addresses of this host that a listener means. Raises: OSError."""
        if name is None or name in _WILDCARDS:
            return [name or UNSPECIFIED[6 if family == socket.AF_INET6 else 4]]
        found = [str(info[4][0]) for info in self.resolve(name, 0, family, socket.SOCK_STREAM)]
        for address in found:
            if self.owner(address) != here:
                raise OSError(errno.EADDRNOTAVAIL, f"{here} does not have the address {address}")
        return found

    def _between(self, hosts: Sequence[str]) -> list[Transport]:
        self._must_know(*hosts)
        named = set(hosts)
        return [t for t in self.connections.values() if named <= {t.host, t.peer.host}]

    def _must_know(self, *hosts: str) -> None:
        for host in hosts:
            if host != ANY and host not in self._hosts:
                raise ValueError(f"there is no host {host}: add_host({host!r}, address)")

    def _changed(self) -> None:
        """Let connections feel what has become of their links."""
        for client in tuple(self.connections.values()):
            for side in (client, client.peer):
                if side.outgoing.passes and side.incoming.passes:
                    side.recovered()
                else:
                    side.unheard()
                side.outgoing.resume()

    def _free_port(self) -> int:
        """Return the next port in turn: none is likely to be in use still when its turn comes."""
        self._port = self._port + 1 if self._port + 1 in _PORTS else _PORTS.start
        return self._port


_SORTS: Final = {
    socket.SOCK_STREAM: socket.IPPROTO_TCP,
    socket.SOCK_DGRAM: socket.IPPROTO_UDP,
}


def end(address: str, port: int) -> tuple[Any, ...]:
    """Return an address as sockets tell it: IPv6 has two numbers more."""
    return (address, port, 0, 0) if ":" in address else (address, port)


def _version(address: str) -> int:
    """Return 4 or 6; 0 if it is not an address."""
    try:
        return ipaddress.ip_address(address).version
    except ValueError:
        return 0
