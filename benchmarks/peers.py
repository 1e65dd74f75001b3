"""The processes the proxy benchmark talks to: `python peers.py server` and `… proxy PORT…`.

Each prints the port it listens on and ends when its standard input does.
"""

import asyncio
import random
import sys
from dataclasses import dataclass

from kubeloop.net.userspace.listeners import open_at
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


async def ended() -> None:
    """Return when standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await ended()


async def proxy(port: int, backends: list[int]) -> None:
    found = UserspaceProxy(
        addresses=["127.0.0.1"], connect=connect_directly(), draw=random.Random(1).random
    )
    rule = Rule(("", port, "TCP"), [("127.0.0.1", backend) for backend in backends])
    found.apply({rule.place: rule})
    await found.settled()
    print(port, flush=True)
    await ended()
    await found.close()


if __name__ == "__main__":
    ports = [int(text) for text in sys.argv[2:]]
    asyncio.run(serve() if sys.argv[1] == "server" else proxy(ports[0], ports[1:]))
