"""Which endpoint a connection goes to. Pure: chance and time are arguments.

Random choice is what kube-proxy's iptables and nftables modes do; session affinity keeps a client
with its endpoint as long as that is ready and the client comes back in time.
"""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

Place = tuple[str, int, str]
Endpoint = tuple[str, int]

_AFFINITY_MAX: Final = 65_536  # Clients remembered per place.


class Rule(Protocol):
    """What the data path needs to know of one port of one Service."""

    @property
    def service(self) -> str:
        """The Service: "default/web"."""

    @property
    def place(self) -> tuple[str, int, str]:
        """(ip, port, protocol); ip "" stands for the addresses of the node."""

    @property
    def endpoints(self) -> Sequence[tuple[str, int]]:
        """(ip, port) of those that may answer."""

    @property
    def affinity_s(self) -> int:
        """How long a client stays with its endpoint [s]; 0: not at all."""


class Balancer:
    """Chooses among the endpoints of one rule; the rule may be replaced at any time."""

    def __init__(self, rule: Rule, *, draw: Callable[[], float]) -> None:
        self.rule, self._draw = rule, draw
        self._clients: dict[str, tuple[Endpoint, float]] = {}

    def update(self, rule: Rule) -> None:
        """Follow a change of the rule; clients of endpoints that left choose anew."""
        self.rule = rule
        if self._clients:
            alive = set(rule.endpoints)
            self._clients = {c: kept for c, kept in self._clients.items() if kept[0] in alive}

    def choose(self, client: str, now_s: float, tried: Sequence[Endpoint] = ()) -> Endpoint | None:
        """Return an endpoint for a connection of `client`; None if none is left.

        tried: endpoints that have just failed this connection.
        """
        endpoints = self.rule.endpoints
        if tried:
            endpoints = [e for e in endpoints if e not in tried]
        if not endpoints:
            return None
        if not self.rule.affinity_s:
            return endpoints[int(self._draw() * len(endpoints))]
        kept = self._clients.pop(client, None)
        if kept is not None and kept[1] > now_s and kept[0] in endpoints:
            chosen = kept[0]
        else:
            chosen = endpoints[int(self._draw() * len(endpoints))]
            if len(self._clients) >= _AFFINITY_MAX:
                del self._clients[next(iter(self._clients))]
        self._clients[client] = (chosen, now_s + self.rule.affinity_s)
        return chosen
