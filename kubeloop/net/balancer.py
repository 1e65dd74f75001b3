"""Which endpoint a connection goes to. Pure: chance and time are arguments.

Random choice is what kube-proxy's iptables and nftables modes do; session affinity keeps a client
with its endpoint as long as that is ready and the client comes back in time. A Service may ask for
another way of choosing among those that are left:

- round-robin: one after the other;
- least-connections: the one that has the fewest now;
- maglev: always the same for a client, and nearly always when others come and go. Source: Eisenbud
  et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, 3.4.
"""

import zlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

Place = tuple[str, int, str]
Endpoint = tuple[str, int]

_AFFINITY_MAX: Final = 65_536  # Clients remembered per place.
# Sizes of a table for so many endpoints at most: primes, a hundred slots for each, while it can be
# made in a moment. A table of one size changes little when endpoints do.
_MAGLEV_SIZES: Final = ((10, 1_021), (160, 16_381))
_MAGLEV_SIZE_MAX: Final = 131_071


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

    @property
    def balancing(self) -> str:
        """ "random", "round-robin", "least-connections" or "maglev"."""


class Balancer:
    """Chooses among the endpoints of one rule; the rule may be replaced at any time."""

    def __init__(self, rule: Rule, *, draw: Callable[[], float]) -> None:
        self.rule, self._draw = rule, draw
        self._clients: dict[str, tuple[Endpoint, float]] = {}
        self._turn = 0
        self._active: dict[Endpoint, int] = {}  # Only of a rule that asks for the least.
        self._table: list[Endpoint] = []

    def update(self, rule: Rule) -> None:
        """Follow a change of the rule; clients of endpoints that left choose anew."""
        if rule.endpoints != self.rule.endpoints:
            self._table = []
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
            if self.rule.balancing == "random":
                return endpoints[int(self._draw() * len(endpoints))]
            return self._pick(client, endpoints)
        kept = self._clients.pop(client, None)
        if kept is not None and kept[1] > now_s and kept[0] in endpoints:
            chosen = kept[0]
        else:
            chosen = self._pick(client, endpoints)
            if len(self._clients) >= _AFFINITY_MAX:
                del self._clients[next(iter(self._clients))]
        self._clients[client] = (chosen, now_s + self.rule.affinity_s)
        return chosen

    def took(self, endpoint: Endpoint) -> None:
        """Hear that an endpoint has a connection more."""
        if self.rule.balancing == "least-connections":
            self._active[endpoint] = self._active.get(endpoint, 0) + 1

    def left(self, endpoint: Endpoint) -> None:
        """Hear that an endpoint has one less; of one that was never told nothing is known."""
        count = self._active.get(endpoint, 0)
        if count > 1:
            self._active[endpoint] = count - 1
        else:
            self._active.pop(endpoint, None)

    def _pick(self, client: str, endpoints: Sequence[Endpoint]) -> Endpoint:
        match self.rule.balancing:
            case "round-robin":
                self._turn += 1
                return endpoints[(self._turn - 1) % len(endpoints)]
            case "least-connections":
                fewest = min(self._active.get(e, 0) for e in endpoints)
                least = [e for e in endpoints if self._active.get(e, 0) == fewest]
                return least[int(self._draw() * len(least))]
            case "maglev":
                return self._look_up(client, endpoints)
        return endpoints[int(self._draw() * len(endpoints))]

    def _look_up(self, client: str, endpoints: Sequence[Endpoint]) -> Endpoint:
        if not self._table:
            self._table = maglev(self.rule.endpoints)
        at, size = zlib.crc32(client.encode()), len(self._table)
        allowed = set(endpoints)
        while self._table[at % size] not in allowed:  # It has been tried: the next will be.
            at += 1
        return self._table[at % size]


def maglev(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Return a table in which each endpoint has its share of slots, wherever the others are.

    Each endpoint has an order of all slots of its own; in turns, each takes the next free one.
    """
    assert endpoints
    assert len(endpoints) <= _MAGLEV_SIZE_MAX
    sizes = (size for most, size in _MAGLEV_SIZES if len(endpoints) <= most)
    size = next(sizes, _MAGLEV_SIZE_MAX)
    orders = []
    for endpoint in sorted(endpoints):
        name = f"{endpoint[0]}:{endpoint[1]}".encode()
        orders.append([zlib.crc32(name) % size, zlib.crc32(name[::-1], 1) % (size - 1) + 1])
    table: list[Endpoint | None] = [None] * size
    free = size
    while free:
        for endpoint, order in zip(sorted(endpoints), orders, strict=True):
            at, skip = order
            while table[at] is not None:
                at = (at + skip) % size
            table[at], order[0] = endpoint, (at + skip) % size
            free -= 1
            if not free:
                break
    return [slot for slot in table if slot is not None]
