"""What the network in memory costs, beside the loopback of the kernel; and what faults add.

Sketch: a request over loopback is four system calls, two wake-ups of the selector and aiohttp's own
200 µs. In memory the system calls become a deque, a random number and a timer for each direction,
about 10 µs in all, so that requests should be as fast or faster. Bytes cost a copy or two here and
there: StreamReader's own, of both, sets the pace at about 1 GB/s, OpenSSL below 0.5 GB/s. A link
with all settings on adds a few draws to each segment of 64 KiB and cuts some of them: 10 to 20 %.
Client and server share one loop and one core.
"""

import asyncio
import ssl
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from aiohttp import ClientSession, TCPConnector, web
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop import sim
from kubeloop.net.certificates import make_certificates, server_context
from kubeloop.sim.links import Link
from kubeloop.sim.loop import EPOCH, SimLoop

REQUESTS = 400
MEGABYTES = 64
WRITE = bytes(64 * 1024)
ALL_ON = Link(
    latency="lognormal",
    latency_s=(0.0005, 0.005),
    bytes_per_s=1e9,
    loss=0.01,
    cut=0.1,
    reset=1e-9,
    reset_after=2**60,
    read_bytes_per_s=1e9,
)
ROWS = ["loopback", "memory", "memory, all settings", "memory, TLS", "loopback, TLS"]

Work = Callable[[ssl.SSLContext | None, ssl.SSLContext | None], Coroutine[Any, Any, None]]


def run(row: str, work: Work) -> None:
    """Do some work in a loop of its own."""
    contexts: tuple[ssl.SSLContext | None, ssl.SSLContext | None] = (None, None)
    if "TLS" in row:
        made = make_certificates([], ["127.0.0.1"], now=EPOCH)
        client = ssl.create_default_context(cadata=made.authority.decode())
        client.verify_flags |= 0x200000  # The real clock may be elsewhere.
        contexts = client, server_context(made)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, SimLoop) and "all" in row:
            loop.network.link("*", "*", ALL_ON)
        await work(*contexts)

    if row.startswith("loopback"):
        asyncio.run(main())
    else:
        sim.run(main)


async def requests(client: ssl.SSLContext | None, server: ssl.SSLContext | None) -> None:
    """Send requests to aiohttp, one after the other, on one connection."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app = web.Application()
    app.router.add_post("/", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server)
    await site.start()
    port = runner.addresses[0][1]
    url = f"{'https' if server else 'http'}://127.0.0.1:{port}/"
    async with ClientSession(connector=TCPConnector(ssl=client or False)) as session:
        for _ in range(REQUESTS):
            async with session.post(url, data=b"x" * 100) as response:
                assert len(await response.read()) == 100
    await runner.cleanup()


async def megabytes(client: ssl.SSLContext | None, server: ssl.SSLContext | None) -> None:
    """Send bytes one way, through streams."""
    total, done = 0, asyncio.Event()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal total
        while data := await reader.read(1 << 20):
            total += len(data)
            if total == MEGABYTES << 20:
                break
        done.set()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0, ssl=server) as listener:
        port = listener.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
        for _ in range((MEGABYTES << 20) // len(WRITE)):
            writer.write(WRITE)
            await writer.drain()
        await done.wait()
        writer.close()


@pytest.mark.parametrize("row", ROWS)
def test_requests(benchmark: BenchmarkFixture, beside: Beside, row: str) -> None:
    with beside("network: aiohttp requests", row, REQUESTS):
        benchmark.pedantic(lambda: run(row, requests), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("row", ROWS)
def test_megabytes(benchmark: BenchmarkFixture, beside: Beside, row: str) -> None:
    with beside("network: megabytes", row, MEGABYTES):
        benchmark.pedantic(lambda: run(row, megabytes), rounds=5, warmup_rounds=1)
