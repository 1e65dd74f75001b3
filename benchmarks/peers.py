"""The processes the proxy benchmark talks to: `python peers.py server|workers|nested PORT…`.

Each prints the port it listens on, and the pid of what carries the bytes, and ends when its
standard input does.
"""

import asyncio
import itertools
import os
import random
import socket
import sys
from dataclasses import dataclass

from kubeloop.net.proxy import UserspaceProxy
from kubeloop.net.userspace.nested import NestedForwarder
from kubeloop.net.userspace.workers import WorkerForwarder

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Answering(asyncio.Protocol):
    """Answers each request head at once."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))


@dataclass
class Rule:
    place: tuple[str, int, str]
    endpoints: list[tuple[str, int]]
    affinity_s: int = 0
    service: str = "default/web"
    balancing: str = "random"
    kind: str = "NodePort"


async def ended() -> None:
    """Return when standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], os.getpid(), flush=True)
    await ended()


async def lend(ip: str, count: int, udp: bool) -> list[socket.socket]:
    raise OSError(f"{ip} is no pod: it lends no {count} sockets")


async def proxy(kind: str, port: int, backends: list[int]) -> None:
    forwarder = (
        WorkerForwarder(1, lend=lend, pod_network="")
        if kind == "workers"
        else NestedForwarder(
            draw=random.Random(1).random, lend=lend, pod_network="", connections_max=10_000
        )
    )
    found = UserspaceProxy(addresses=["127.0.0.1"], forwarder=forwarder, numbers=itertools.count(1))
    rule = Rule(("", port, "TCP"), [("127.0.0.1", backend) for backend in backends])
    found.apply({rule.place: rule})
    await found.settled()
    await forwarder.counts()  # It works when it answers.
    pids = forwarder.pids if isinstance(forwarder, WorkerForwarder) else [os.getpid()]
    print(port, *pids, flush=True)
    await ended()
    await found.close()
    await forwarder.close()


if __name__ == "__main__":
    ports = [int(text) for text in sys.argv[2:]]
    asyncio.run(serve() if sys.argv[1] == "server" else proxy(sys.argv[1], ports[0], ports[1:]))
