"""Whatever two ends do to each other, the engine between them changes nothing but the path.

Clients and servers that send in pieces, read slowly, end their half, close, or reset: who only ever
ends his half has every byte he was sent, in order; whoever is cut short has a beginning of it. And
when all is over there is nothing left.
"""

import asyncio
import contextlib
import os
import random
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from engine_bench import Rule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace import carrier
from kubeloop.net.userspace.nested import NestedForwarder
from kubeloop.net.userspace.sides import Side

HANG_S = 10.0  # Longer than anything here takes: what waits so long waits for ever.
RECEIVED_MAX = 150_000  # Less than a segment of loopback is long makes TCP crawl.
SENT_MAX = 60_000
RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class End:
    """What one end does: sends `pieces`, each so long, then `last`; and reads `at_once` bytes.

    late: it does not read before it has sent all.
    """

    pieces: tuple[int, ...]
    last: str
    at_once: int
    late: bool

    def sends(self, seed: int) -> bytes:
        return random.Random(seed).randbytes(sum(self.pieces))


@dataclass
class Seen:
    """What the ends of a connection got."""

    client: bytes = b""
    server: bytes = b""
    cut: set[str] = field(default_factory=set)


ends = st.builds(
    End,
    pieces=st.lists(
        st.sampled_from([1, 100, 5_000, 70_000, 262_144, 300_000, 1_500_000]), max_size=4
    ).map(tuple),
    last=st.sampled_from(["half", "half", "half", "close", "reset"]),
    at_once=st.sampled_from([1_000, 65_536, 1 << 20]),
    late=st.booleans(),
)


def small() -> socket.socket:
    """Return a socket whose buffers are soon full: then the engine has to wait."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED_MAX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_MAX)
    return sock


async def lend(ip: str, count: int, udp: bool) -> list[socket.socket]:
    return [small() for _ in range(count)]


def listening(*, large: bool = False) -> socket.socket:
    kind = socket.SOCK_STREAM | socket.SOCK_NONBLOCK
    sock = socket.socket(socket.AF_INET, kind) if large else small()
    sock.bind(("127.0.0.1", 0))
    sock.listen(100)
    return sock


@asynccontextmanager
async def carrying(
    endpoint: Endpoint, *, large: bool = False
) -> AsyncIterator[tuple[NestedForwarder, Endpoint]]:
    forwarder = NestedForwarder(
        draw=random.Random(1).random, lend=lend, pod_network="", connections_max=1_000
    )
    forwarder.apply({1: Rule([endpoint])})
    forwarder.pods(set() if large else {endpoint[0]})
    sock = listening(large=large)
    address = sock.getsockname()
    await forwarder.listen_on(1, sock)
    try:
        yield forwarder, address
    finally:
        await forwarder.close()


async def live(sock: socket.socket, end: End, data: bytes, seen: Seen, name: str) -> bytes:
    """Be one end of a connection; return what was received."""
    loop = asyncio.get_running_loop()
    received, written = bytearray(), asyncio.Event()

    async def read() -> None:
        if end.late:
            await written.wait()
        while chunk := await loop.sock_recv(sock, end.at_once):
            received.extend(chunk)

    async def write() -> None:
        at = 0
        for size in end.pieces:
            await loop.sock_sendall(sock, data[at : at + size])
            at += size
        if end.last == "half":
            sock.shutdown(socket.SHUT_WR)

    reading = asyncio.create_task(read())
    try:
        await write()
        written.set()
        if end.last == "half":
            await reading
    except (ConnectionError, OSError):
        seen.cut.add(name)
    finally:
        reading.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await reading
        if end.last == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        sock.close()
    return bytes(received)


async def play(flows: list[tuple[End, End]]) -> list[Seen]:
    """Live through all connections at once."""
    loop = asyncio.get_running_loop()
    seen = [Seen() for _ in flows]
    with listening() as servers:
        async with carrying(servers.getsockname()) as (forwarder, address):
            for number, (client, server) in enumerate(flows):
                theirs = small()
                await loop.sock_connect(theirs, address)
                ours, _ = await loop.sock_accept(servers)
                ours.setblocking(False)
                seen[number].client, seen[number].server = await asyncio.gather(
                    live(theirs, client, client.sends(number), seen[number], "client"),
                    live(ours, server, server.sends(-1 - number), seen[number], "server"),
                )
            while forwarder.engine.carrier.connections:
                await asyncio.sleep(0)  # The last closes are on their way.
            assert not any(
                isinstance(entry[2], Side) for entry in forwarder.engine.carrier._entries
            )
            (counted,) = (await forwarder.counts()).values()
            assert counted[:2] == [len(flows), 0]
    return seen


def one_reads_at_once(pair: tuple[End, End]) -> tuple[End, End]:
    """If both wait for the other to read, they do so for ever, engine or not."""
    client, server = pair
    return client, replace(server, late=server.late and not client.late)


@pytest.mark.parametrize("rounds", [1, carrier.ROUNDS_MAX])
@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # The patch is the same for all.
)
@given(st.lists(st.tuples(ends, ends).map(one_reads_at_once), min_size=1, max_size=3))
def test_who_is_not_cut_has_every_byte(
    monkeypatch: pytest.MonkeyPatch, rounds: int, flows: list[tuple[End, End]]
) -> None:
    monkeypatch.setattr(carrier, "ROUNDS_MAX", rounds)
    before = set(os.listdir("/proc/self/fd"))
    seen = asyncio.run(asyncio.wait_for(play(flows), HANG_S))
    for number, (client, server) in enumerate(flows):
        to_server, to_client = client.sends(number), server.sends(-1 - number)
        assert to_server.startswith(seen[number].server)
        assert to_client.startswith(seen[number].client)
        if client.last == server.last == "half":
            assert seen[number].cut == set()
            assert seen[number].server == to_server
            assert seen[number].client == to_client
        for name, (mine, other) in {"client": (client, server), "server": (server, client)}.items():
            if other.last == "reset" and mine.last == "half":
                assert name in seen[number].cut, "who is cut is told that there may have been more"
    assert len(os.listdir("/proc/self/fd")) <= len(before)


@asynccontextmanager
async def connected(
    *, large: bool = False
) -> AsyncIterator[tuple[socket.socket, socket.socket, NestedForwarder]]:
    """Yield both ends of a connection through an engine."""
    loop = asyncio.get_running_loop()
    with listening(large=large) as servers:
        async with carrying(servers.getsockname(), large=large) as (forwarder, address):
            with socket.socket() if large else small() as client:
                client.setblocking(False)
                await loop.sock_connect(client, address)
                server, _ = await loop.sock_accept(servers)
                server.setblocking(False)
                with server:
                    yield client, server, forwarder


async def quiet() -> None:
    """Return when what could move has moved: nothing here takes more turns."""
    for _ in range(200):
        await asyncio.sleep(0)


async def everything(sock: socket.socket) -> tuple[int, bool]:
    """Read to the end; return how many bytes there were, and whether a reset ended them."""
    loop, size = asyncio.get_running_loop(), 0
    while True:
        try:
            chunk = await loop.sock_recv(sock, 1 << 20)
        except ConnectionResetError:
            return size, True
        if not chunk:
            return size, False
        size += len(chunk)


@pytest.mark.parametrize(
    ("size", "large"),
    [(200_000, False), (600_000, False), (1_500_000, False), (4_500_000, True), (8_000_000, True)],
)
async def test_a_reader_may_come_when_the_sender_is_done(size: int, large: bool) -> None:
    async with connected(large=large) as (client, server, _):
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(server, bytes(size)))
        sending.add_done_callback(lambda _: server.shutdown(socket.SHUT_WR))
        await quiet()
        assert await everything(client) == (size, False)
        await sending


async def test_what_was_said_before_a_reset_is_passed_on() -> None:
    async with connected() as (client, server, forwarder):
        await asyncio.get_running_loop().sock_sendall(client, b"hello")
        await asyncio.get_running_loop().sock_recv(server, 5)
        server.send(bytes(10_000))
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        server.close()
        assert await everything(client) == (10_000, True)
        assert forwarder.engine.carrier.connections == 0
