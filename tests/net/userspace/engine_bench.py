"""An engine on a bench: turn by turn, with a clock to set, and what it asked of pods noted."""

import random
import socket
from dataclasses import dataclass

from kubeloop.net.balancer import Endpoint, Place
from kubeloop.net.userspace.engine import Engine


@dataclass
class Rule:
    """What an engine needs to know of a port of a Service."""

    endpoints: list[Endpoint]
    affinity_s: int = 0
    place: Place = ("", 1, "TCP")
    service: str = "default/web"
    balancing: str = "random"


class Bench:
    """listening: a socket that is for rule 1, and the engine's from now on."""

    def __init__(
        self,
        listening: socket.socket,
        *,
        turns: int,
        connections_max: int = 100,
        pod_network: str = "",
    ) -> None:
        self.now_s, self._turns = 100.0, turns
        self.wanted: list[tuple[str, bool]] = []  # Of which pods sockets, and whether for UDP.
        self.engine = Engine(
            now=lambda: self.now_s,
            draw=random.Random(7).random,
            want=lambda ip, udp: self.wanted.append((ip, udp)),
            connections_max=connections_max,
            pod_network=pod_network,
        )
        self.address: Endpoint = listening.getsockname()
        self.engine.listen(1, 1, listening)

    def rule(self, *endpoints: Endpoint) -> None:
        self.engine.apply({1: Rule(list(endpoints))})

    def turns(self) -> None:
        """Have so many turns that nothing is left to do at this time."""
        for _ in range(self._turns):
            self.engine.turn(0.001)

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """(connections, active, refused, failures)."""
        connections, active, refused, failures, *_ = self.engine.counts()[1]
        return connections, active, refused, failures

    @property
    def known(self) -> int:
        """How many clients that send datagrams are known."""
        return len(self.engine.datagrams.flows)
