"""The userspace data path on real loopback sockets: exact bytes, retries, half-close, refusal."""

import asyncio
import hashlib
import itertools
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest

from kubeloop.net.balancer import Endpoint, Place
from kubeloop.net.loop_forwarder import LoopForwarder
from kubeloop.net.proxy import UserspaceProxy
from kubeloop.net.userspace.nested import NestedForwarder
from kubeloop.net.userspace.workers import WorkerForwarder

AnyForwarder = LoopForwarder | NestedForwarder | WorkerForwarder
KINDS = ["loop", "nested", "workers"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass
class Rule:
    place: Place
    endpoints: list[Endpoint] = field(default_factory=list)
    affinity_s: int = 0
    service: str = "default/web"
    balancing: str = "random"
    kind: str = "NodePort"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def echo(name: bytes = b"") -> AsyncIterator[Endpoint]:
    """Serve `name`, then everything the client sends, until the client ends its half."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(name)
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


async def lend(ip: str, count: int, udp: bool) -> list[socket.socket]:
    raise OSError(f"{ip}: nobody has been asked for {count} sockets before")


def make(kind: str) -> AnyForwarder:
    draw = random.Random(1).random
    if kind == "loop":
        return LoopForwarder(draw=draw)
    if kind == "nested":
        return NestedForwarder(draw=draw, lend=lend, pod_network="", connections_max=100)
    return WorkerForwarder(2, lend=lend, pod_network="")


@asynccontextmanager
async def proxying(kind: str, *endpoints: Endpoint) -> AsyncIterator[tuple[UserspaceProxy, Rule]]:
    forwarder = make(kind)
    proxy = UserspaceProxy(addresses=["127.0.0.1"], forwarder=forwarder, numbers=itertools.count(1))
    rule = Rule(("", free_port(), "TCP"), list(endpoints))
    proxy.apply({rule.place: rule})
    await proxy.settled()
    try:
        yield proxy, rule
    finally:
        await proxy.close()
        await forwarder.close()


@every_kind
@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_bytes_are_exact_and_half_close_is_passed_on(kind: str, size: int) -> None:
    sent = random.Random(size).randbytes(size)
    async with echo() as endpoint, proxying(kind, endpoint) as (_, rule):
        reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])

        async def send() -> None:
            writer.write(sent)
            await writer.drain()
            writer.write_eof()

        _, received = await asyncio.gather(send(), reader.read(-1))
        writer.close()
    assert hashlib.sha256(received).digest() == hashlib.sha256(sent).digest()


@every_kind
async def test_connections_are_spread(kind: str) -> None:
    async with echo(b"a") as a, echo(b"b") as b, proxying(kind, a, b) as (_, rule):
        seen = set()
        for _ in range(40):
            reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])
            seen.add(await reader.readexactly(1))
            writer.close()
    assert seen == {b"a", b"b"}


@every_kind
async def test_a_dead_endpoint_is_passed_over(kind: str) -> None:
    dead = ("127.0.0.1", free_port())
    async with echo(b"x") as alive, proxying(kind, dead, alive) as (_, rule):
        for _ in range(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])
            assert await reader.readexactly(1) == b"x"
            writer.close()


@every_kind
async def test_without_endpoints_connections_are_refused(kind: str) -> None:
    async with proxying(kind) as (_, rule):
        with pytest.raises(ConnectionResetError):  # By the connect, or by the first read.
            reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])
            try:
                await reader.read(1)
            finally:
                writer.close()


@every_kind
async def test_what_is_no_longer_an_endpoint_gets_no_connection(kind: str) -> None:
    async with echo(b"a") as a, echo(b"b") as b, proxying(kind, a) as (proxy, rule):
        for number in range(100):
            name, endpoint = [(b"a", a), (b"b", b)][number % 2]
            proxy.apply({rule.place: Rule(rule.place, [endpoint])})
            if isinstance(proxy.forwarder, WorkerForwarder):
                await proxy.forwarder.counts()  # What it was told before has been done.
            reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])
            assert await reader.readexactly(1) == name
            writer.close()


@every_kind
async def test_a_connection_outlives_its_rule_but_not_the_proxy(kind: str) -> None:
    async with echo(b"x") as endpoint, proxying(kind, endpoint) as (proxy, rule):
        reader, writer = await asyncio.open_connection("127.0.0.1", rule.place[1])
        await reader.readexactly(1)
        proxy.apply({rule.place: None})
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", rule.place[1])
        writer.write(b"still here")
        assert await reader.readexactly(10) == b"still here"
        await proxy.forwarder.close()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()


@every_kind
async def test_a_taken_port_is_told_and_retried(kind: str) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        forwarder = make(kind)
        proxy = UserspaceProxy(
            addresses=["127.0.0.1"], forwarder=forwarder, numbers=itertools.count(1)
        )
        told: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()
        proxy.listen(lambda rule, address, why: told.set_result((address, why)))
        async with echo(b"x") as endpoint:
            proxy.apply({("", port, "TCP"): Rule(("", port, "TCP"), [endpoint])})
            assert await told == (f"127.0.0.1:{port}", "Address already in use")
            holder.close()
            proxy.retry()
            await proxy.settled()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.readexactly(1) == b"x"
            writer.close()
            await proxy.close()
            await forwarder.close()


@every_kind
async def test_two_nodes_of_a_host_share_a_balancers_address(kind: str) -> None:
    forwarder, numbers, port = make(kind), itertools.count(1), free_port()
    nodes = [
        UserspaceProxy(addresses=[f"127.0.0.{n}"], forwarder=forwarder, numbers=numbers)
        for n in (2, 3)
    ]
    place = ("127.0.0.9", port, "TCP")
    async with echo(b"x") as endpoint:
        for node in nodes:
            node.apply({place: Rule(place, [endpoint], kind="LoadBalancer")})
            await node.settled()
        for node in [*nodes, None]:
            reader, writer = await asyncio.open_connection("127.0.0.9", port)
            assert await reader.readexactly(1) == b"x"
            writer.close()
            if node is not nodes[-1] and node is not None:
                await node.close()  # The other goes on.
    await nodes[-1].close()
    await forwarder.close()


async def test_a_node_tells_balancers_of_its_endpoints() -> None:
    proxy = UserspaceProxy(
        addresses=["127.0.0.1"], forwarder=make("nested"), numbers=itertools.count(1)
    )
    place = ("", free_port(), "TCP")
    for endpoints, status in [([("10.244.0.1", 0)], 200), ([], 503)]:
        proxy.apply({place: Rule(place, endpoints, kind="HealthCheck")})
        await proxy.settled()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{place[1]}/healthz") as answer,
        ):
            assert answer.status == status
            assert answer.headers["X-Load-Balancing-Endpoint-Weight"] == str(len(endpoints))
            assert await answer.json() == {
                "service": {"namespace": "default", "name": "web"},
                "localEndpoints": len(endpoints),
                "serviceProxyHealthy": True,
            }
    await proxy.close()
    await proxy.forwarder.close()


@every_kind
async def test_the_fewest_connections_are_counted(kind: str) -> None:
    async with echo(b"a") as a, echo(b"b") as b, proxying(kind, a) as (proxy, rule):
        proxy.apply({rule.place: Rule(rule.place, [a, b], balancing="least-connections")})
        if isinstance(proxy.forwarder, WorkerForwarder):
            return  # Each counts its own.
        held, names = [], []
        for _ in range(6):  # One after the other: what is under way is not counted.
            held.append(await asyncio.open_connection("127.0.0.1", rule.place[1]))
            names.append(await held[-1][0].readexactly(1))
        assert names.count(b"a") == names.count(b"b") == 3
        for name, (reader, writer) in zip(names, held, strict=True):
            if name == b"a":
                writer.close()
                assert await reader.read() == b""
        for _ in range(100):
            await asyncio.sleep(0)
        for _ in range(3):
            held.append(await asyncio.open_connection("127.0.0.1", rule.place[1]))
            assert await held[-1][0].readexactly(1) == b"a"
        for _, writer in held:
            writer.close()


@pytest.mark.parametrize(
    ("where", "rule_kind", "why"),
    [
        ("127.0.0.9", "LoadBalancer", "Address already in use"),
        ("192.0.2.1", "LoadBalancer", "Cannot assign requested address"),
        ("127.0.0.9", "ExternalIP", "Address already in use"),
        ("192.0.2.1", "ExternalIP", None),  # It may be another host's.
    ],
)
async def test_an_address_that_cannot_be_had_is_told(
    where: str, rule_kind: str, why: str | None
) -> None:
    forwarder, told = make("nested"), list[tuple[str, str]]()
    proxy = UserspaceProxy(addresses=["127.0.0.1"], forwarder=forwarder, numbers=itertools.count(1))
    proxy.listen(lambda rule, address, why: told.append((address, why)))
    with socket.create_server(("0.0.0.0", 0)) as holder:
        port = holder.getsockname()[1]
        place = (where, port, "TCP")
        proxy.apply({place: Rule(place, [("127.0.0.1", 1)], kind=rule_kind)})
        await proxy.settled()
    assert told == ([] if why is None else [(f"{where}:{port}", why)])
    await proxy.close()
    await forwarder.close()
