"""Workers: what one of them knew is not lost with it."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from engine_bench import Rule

from kubeloop.net.balancer import Endpoint
from kubeloop.net.userspace import workers
from kubeloop.net.userspace.workers import WorkerForwarder


async def lend(ip: str, count: int, udp: bool) -> list[socket.socket]:
    """Return sockets of a pod that is called 127.0.0.1."""
    made = []
    for _ in range(count):
        made.append(socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        made[-1].bind((ip, 0))
    return made


@asynccontextmanager
async def echo() -> AsyncIterator[Endpoint]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            writer.write(chunk)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()
    server.close()


async def say(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"hello")
        return await reader.readexactly(5)
    finally:
        writer.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("pods", [set(), {"127.0.0.1"}], ids=["hosts", "pods"])
async def test_another_takes_the_place_of_one_that_died(
    monkeypatch: pytest.MonkeyPatch, pods: set[str]
) -> None:
    monkeypatch.setattr(workers, "_AGAIN_S", 0.0)
    forwarder = WorkerForwarder(1, lend=lend, pod_network="")
    async with echo() as endpoint:
        forwarder.apply({1: Rule([endpoint])})
        forwarder.pods(pods)
        port = free_port()
        close = await forwarder.listen_at(1, "127.0.0.1", port)
        assert await say(port) == b"hello"
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"  # It carries it.
        (pid,) = forwarder.pids
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionError):  # What it carried is lost, and that is told.
            if await reader.read(1) == b"":
                raise ConnectionAbortedError
        writer.close()
        assert await say(port) == b"hello", "who comes meanwhile waits in the backlog"
        assert forwarder.pids != [pid]
        assert (await forwarder.counts())[1][0] >= 1
        close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        (pid,) = forwarder.pids
        await forwarder.close()
        assert not Path(f"/proc/{pid}").exists()


async def test_workers_share_a_port_and_are_counted_together() -> None:
    forwarder = WorkerForwarder(2, lend=lend, pod_network="")
    async with echo() as endpoint:
        forwarder.apply({1: Rule([endpoint])})
        port = free_port()
        await forwarder.listen_at(1, "127.0.0.1", port)
        for _ in range(40):
            assert await say(port) == b"hello"
        assert (await forwarder.counts())[1][0] == 40
        assert [len(process.listeners) for process in forwarder._processes] == [1, 1]
        assert len(set(forwarder.pids)) == 2
    await forwarder.close()


async def test_one_whose_line_ends_ends() -> None:
    forwarder = WorkerForwarder(1, lend=lend, pod_network="")
    await forwarder.listen_at(1, "127.0.0.1", 0)
    await forwarder.counts()
    (process,) = forwarder._processes
    child = process.child
    assert child is not None
    await forwarder.close()
    assert child.returncode == 0, "by itself"


async def test_a_worker_finds_us_however_we_were_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(workers.__file__).parents[3]
    elsewhere = [path for path in sys.path if Path(path or ".").resolve() != root]
    monkeypatch.setattr(sys, "path", elsewhere)
    forwarder = WorkerForwarder(1, lend=lend, pod_network="")
    async with echo() as endpoint:
        forwarder.apply({1: Rule([endpoint])})
        port = free_port()
        await forwarder.listen_at(1, "127.0.0.1", port)
        async with asyncio.timeout(20):
            assert await say(port) == b"hello"
    await forwarder.close()
