"""What a node tells load balancers: whether it has endpoints of a Service itself.

A Service with `externalTrafficPolicy: Local` has a port for that on every node. The answer is
kube-proxy's: 200 with the number of endpoints here, 503 if there are none.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final

_REQUEST_MAX: Final = 65_536


class HealthCheck(asyncio.Protocol):
    """Answers each request on a connection.

    ask: ("default/web", how many endpoints of it are on this node), as it is now.
    """

    def __init__(self, ask: Callable[[], tuple[str, int]]) -> None:
        self._ask = ask
        self._heard = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        *requests, self._heard = (self._heard + data).split(b"\r\n\r\n")
        for _ in requests:
            self._transport.write(answer(*self._ask()))
        if len(self._heard) > _REQUEST_MAX:
            self._transport.abort()


def answer(service: str, count: int) -> bytes:
    """Return the response for a Service of which `count` endpoints are here."""
    namespace, _, name = service.partition("/")
    told = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": count,
        "serviceProxyHealthy": True,
    }
    body = json.dumps(told, indent="\t").encode()
    status = "200 OK" if count else "503 Service Unavailable"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {count}\r\n\r\n"
    )
    return head.encode() + body
