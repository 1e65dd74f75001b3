"""The in-memory network behaves as TCP does, for streams and for an unmodified aiohttp."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.network import CONNECT_TIMEOUT_S, Network
from kubeloop.sim.transport import HIGH_WATER

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def network() -> Network:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimLoop)
    return loop.network


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes; after the end, say how much it was."""
    total = 0
    while data := await reader.read(1000):
        total += len(data)
        writer.write(data)
        await writer.drain()
    writer.write(b"/%d" % total)
    writer.close()


@given(
    st.lists(st.binary(min_size=1, max_size=9000), max_size=20),
    st.integers(0, 1000),
    st.sampled_from(["fifo", "random"]),
)
def test_bytes_are_exact_and_in_order_under_half_close(
    chunks: list[bytes], seed: int, policy: Any
) -> None:
    async def main() -> bytes:
        async with await asyncio.start_server(echo, "127.0.0.1", 80):
            reader, writer = await asyncio.open_connection("127.0.0.1", 80)
            for chunk in chunks:
                writer.write(chunk)
            writer.write_eof()
            answer = await reader.read()
            writer.close()
            await writer.wait_closed()
            await asyncio.sleep(1)
            assert not network().connections
            return answer

    sent = b"".join(chunks)
    assert sim.run(main, seed=seed, policy=policy) == sent + b"/%d" % len(sent)


def test_a_slow_reader_pauses_the_writer(simulate: Callable[..., Any]) -> None:
    most = 0

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(4096):
            await asyncio.sleep(1)
        writer.close()

    async def main() -> float:
        nonlocal most
        async with await asyncio.start_server(slow, "127.0.0.1", 80):
            _, writer = await asyncio.open_connection("127.0.0.1", 80)
            for _ in range(256):
                writer.write(bytes(4096))
                await writer.drain()
                most = max(most, writer.transport.get_write_buffer_size())
            writer.close()
            await writer.wait_closed()
            return asyncio.get_running_loop().time()

    assert simulate(main) > 100  # A writer that is never paused needs no time at all.
    assert most <= HIGH_WATER + 4096


def test_nobody_listens_and_nobody_is_there(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError, match=r"127\.0\.0\.1:81"):
            await asyncio.open_connection("127.0.0.1", 81)
        with pytest.raises(OSError, match=r"10\.1\.1\.1"):
            await asyncio.open_connection("10.1.1.1", 80)
        with pytest.raises(socket.gaierror):
            await asyncio.open_connection("nowhere.example", 80)

    simulate(main)


def test_an_address_is_listened_on_once(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 80)
        other = await asyncio.start_server(echo, "127.0.0.2", 80)
        with pytest.raises(OSError, match="in use"):
            await asyncio.start_server(echo, "127.0.0.1", 80)
        with pytest.raises(OSError, match="does not have"):
            await asyncio.start_server(echo, "10.9.9.9", 80)
        server.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", 80)
        await asyncio.open_connection("127.0.0.2", 80)
        await asyncio.start_server(echo, "127.0.0.1", 80)
        other.close()

    simulate(main)


def test_a_wildcard_listens_on_every_address_of_its_host(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network()
        net.add_host("node-1", "10.0.0.1", "10.0.0.2")
        with net.on("node-1"):
            server = await asyncio.start_server(echo, "0.0.0.0", 0)
        port = server.sockets[0].getsockname()[1]
        for name in ("10.0.0.1", "10.0.0.2", "node-1"):
            _, writer = await asyncio.open_connection(name, port)
            assert writer.get_extra_info("peername")[1] == port
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)

    simulate(main)


def test_a_reset_is_felt_on_both_sides(simulate: Callable[..., Any]) -> None:
    felt: list[str] = []

    async def serve(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionResetError:
            felt.append("server")

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 80):
            reader, _ = await asyncio.open_connection("127.0.0.1", 80)
            await asyncio.sleep(1)
            assert network().reset() == 1
            with pytest.raises(ConnectionResetError):
                await reader.read()
            await asyncio.sleep(1)
            assert felt == ["server"]
            assert network().reset() == 0

    simulate(main)


@pytest.mark.parametrize("how", ["abort", "close"])
def test_who_writes_to_a_closed_connection_is_reset(simulate: Callable[..., Any], how: str) -> None:
    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        getattr(writer.transport, how)()

    async def main() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 80):
            _, writer = await asyncio.open_connection("127.0.0.1", 80)
            with pytest.raises(ConnectionResetError):
                for _ in range(10):
                    await asyncio.sleep(1)
                    writer.write(b"anyone?")
                    await writer.drain()

    simulate(main)


def test_a_partition_holds_back_and_healing_delivers(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        net = network()
        net.add_host("a", "10.0.0.1")
        net.add_host("b", "10.0.0.2")
        with net.on("b"):
            await asyncio.start_server(echo, "10.0.0.2", 80)
        with net.on("a"):
            reader, writer = await asyncio.open_connection("10.0.0.2", 80)
            net.partition("a", "b")
            writer.write(b"held back")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.readexactly(9), timeout=60)
            begun = asyncio.get_running_loop().time()
            with pytest.raises(TimeoutError):
                await asyncio.open_connection("10.0.0.2", 80)
            assert asyncio.get_running_loop().time() - begun == CONNECT_TIMEOUT_S
            dial = asyncio.create_task(asyncio.open_connection("10.0.0.2", 80))
            await asyncio.sleep(5)
            assert not dial.done()
            net.heal()
            assert await reader.readexactly(9) == b"held back"
            await dial

    simulate(main)


async def _serve_http() -> web.AppRunner:
    async def post(request: web.Request) -> web.Response:
        return web.Response(body=(await request.read())[::-1])

    async def watch(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        for n in range(5):
            await asyncio.sleep(60)
            await stream.write(b"%d\n" % n)
        return stream

    app = web.Application(client_max_size=2**24)
    app.add_routes([web.post("/post", post), web.get("/watch", watch)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 8080).start()
    return runner


@pytest.mark.parametrize("policy", ["fifo", "random"])
def test_an_unmodified_aiohttp_runs_over_it(simulate: Callable[..., Any], policy: str) -> None:
    async def main() -> tuple[float, int]:
        runner = await _serve_http()
        body = bytes(range(256)) * 2000
        async with aiohttp.ClientSession("http://localhost:8080") as session:
            for _ in range(3):  # The second and third go over the first one's connection.
                async with session.post("/post", data=body) as answer:
                    assert answer.status == 200
                    assert await answer.read() == body[::-1]
            async with session.get("/watch") as answer:
                assert [line async for line in answer.content] == [b"%d\n" % n for n in range(5)]
            async with session.get("/nothing") as answer:
                assert answer.status == 404
        await runner.cleanup()
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        return loop.time(), loop.steps

    first = simulate(main, seed=1, policy=policy)
    assert 300 < first[0] < 301
    assert simulate(main, seed=1, policy=policy) == first


def test_an_aiohttp_client_survives_a_reset_connection(simulate: Callable[..., Any]) -> None:
    async def main() -> None:
        runner = await _serve_http()
        async with aiohttp.ClientSession("http://127.0.0.1:8080") as session:
            async with session.get("/watch") as answer:
                network().reset()
                with pytest.raises(aiohttp.ClientError):
                    await answer.read()
            async with session.post("/post", data=b"ab") as answer:
                assert await answer.read() == b"ba"
        await runner.cleanup()

    simulate(main)
