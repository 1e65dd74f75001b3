"""One port of one Service as the data path has it: who is chosen, and what was carried.

Nothing is counted per request: bytes are what the kernel has counted when a connection ends.
"""

import bisect
import socket
import struct
from _socket import socket as Socket
from collections.abc import Callable
from typing import Any, Final

from kubeloop.net.balancer import Balancer, Endpoint, Rule

# Seconds from accept to the endpoint's answer to connect; kube-proxy's buckets for durations.
BUCKETS_S: Final = tuple(0.001 * 2**n for n in range(15))
_BYTES: Final = struct.Struct("120xQQ")  # struct tcp_info: bytes acked, bytes received.


class ServicePort(Balancer):
    """Chooses the endpoint of each connection, and counts.

    connections: carried ever;  active: now;  refused: found no endpoint that would answer.
    failures:    connects that failed, each perhaps made good by another endpoint.
    received, sent: bytes from and to clients, of connections that have ended.
    waits:       how many were connected within each of BUCKETS_S, and later;  waited_s: in all.
    """

    def __init__(self, rule: Rule, *, draw: Callable[[], float]) -> None:
        super().__init__(rule, draw=draw)
        self.connections = self.active = self.refused = self.failures = 0
        self.received = self.sent = 0
        self.waits = [0] * (len(BUCKETS_S) + 1)
        self.waited_s = 0.0
        self._where: dict[int, Endpoint] = {}  # By descriptors of clients, if anybody asks.

    def counts(self) -> list[Any]:
        """Return [connections, active, refused, failures, received, sent, waited_s, waits]."""
        return [
            self.connections, self.active, self.refused, self.failures,
            self.received, self.sent, self.waited_s, list(self.waits),
        ]  # fmt: skip

    def opened(self, client: Socket, endpoint: Endpoint, waited_s: float) -> None:
        """A connection is joined, so long after its client came [s]."""
        if self.rule.balancing == "least-connections":
            self._where[client.fileno()] = endpoint
            self.took(endpoint)
        self.connections += 1
        self.active += 1
        self.waited_s += waited_s
        self.waits[bisect.bisect_left(BUCKETS_S, waited_s)] += 1

    def closed(self, client: Socket) -> None:
        """A connection is about to be closed."""
        self.active -= 1
        if self._where and (endpoint := self._where.pop(client.fileno(), None)):
            self.left(endpoint)
        sent, received = _BYTES.unpack(
            client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES.size)
        )
        self.sent += sent
        self.received += received
