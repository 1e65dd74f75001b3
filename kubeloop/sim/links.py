"""What lies between two hosts, as values: how long, how wide, how bad.

A `Link` says what becomes of what one host sends to another. `Links` knows which link lies between
which hosts: those that were declared, and over them faults, which change single fields until
`heal`. Nothing here knows of sockets or of time; chance is an argument.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from random import Random
from typing import Any, Final, Literal, get_args

ANY: Final = "*"
RETRY_S: Final = 0.2  # Linux: the least time until a lost packet of a stream is sent again.
_RETRIES_MAX: Final = 15
_P99: Final = 2.3263478740408408  # Standard deviations from the median to the 99th percentile.

Shape = Literal["constant", "uniform", "lognormal", "pareto"]
Connect = Literal["open", "refused", "blackholed"]
Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One direction between two hosts. All fields are plain: `Link(**json)` and `asdict` invert.

    latency:          the shape of the time [s] a packet takes, with two numbers `latency_s`:
                      "constant": it takes the first; "uniform": between the two; "lognormal":
                      median and 99th percentile; "pareto": least and 99th percentile.
    bytes_per_s:      how much passes, for all connections and datagrams together; None: no limit.
    loss:             the chance that a packet is lost. A datagram is then gone; what belongs to a
                      stream is sent again, and so comes 0.2 s, 0.6 s, 1.4 s … later.
    duplicate:        the chance that a datagram arrives twice.
    cut:              the chance that what a stream carries in one write arrives in pieces.
    reset:            the chance that a connection is reset after some bytes, by chance up to 1 MiB.
    reset_after:      every connection is reset after so many bytes in this direction.
    read_bytes_per_s: how fast whoever receives reads, for each connection; None: at once.
    connect:          what becomes of attempts to connect: "blackholed" ones get no answer.
    up:               False lets nothing through: streams hold it back, datagrams are gone.

    Raises: ValueError for what makes no sense.
    """

    latency: Shape = "uniform"
    latency_s: tuple[float, float] = (0.0001, 0.001)
    bytes_per_s: float | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    cut: float = 0.0
    reset: float = 0.0
    reset_after: int | None = None
    read_bytes_per_s: float | None = None
    connect: Connect = "open"
    up: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency_s", tuple(self.latency_s))  # JSON knows lists only.
        _expect(self.latency in get_args(Shape), "latency", self.latency, get_args(Shape))
        _expect(self.connect in get_args(Connect), "connect", self.connect, get_args(Connect))
        _expect(
            len(self.latency_s) == 2 and 0 <= self.latency_s[0] <= self.latency_s[1],
            *("latency_s", self.latency_s, "two numbers, 0 ≤ first ≤ second"),
        )
        if self.latency in ("lognormal", "pareto"):
            _expect(self.latency_s[0] > 0, "latency_s", self.latency_s, "more than 0")
        for name in ("loss", "duplicate", "cut", "reset"):
            _expect(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        for name in ("bytes_per_s", "read_bytes_per_s"):
            rate = getattr(self, name)
            _expect(rate is None or rate > 0, name, rate, "more than 0, or None")
        _expect(
            self.reset_after is None or self.reset_after >= 0,
            *("reset_after", self.reset_after, "0 or more, or None"),
        )


FIELDS: Final = frozenset(field.name for field in fields(Link))


class Route:
    """A link in use, from `source` to `target`: it remembers until when it is busy."""

    __slots__ = ("_draw", "busy_until", "link", "source", "target")

    def __init__(self, source: str, target: str, link: Link) -> None:
        self.source, self.target = source, target
        self.busy_until = 0.0
        self.use(link)

    def use(self, link: Link) -> None:
        """Be like `link` from now on; what is on its way is not changed."""
        self.link = link
        self._draw = sampler(link.latency, *link.latency_s)

    def sent(self, now: float, size: int) -> float:
        """Return when the last of `size` bytes that are sent now is on its way."""
        if self.link.bytes_per_s is None:
            return now
        self.busy_until = max(now, self.busy_until) + size / self.link.bytes_per_s
        return self.busy_until

    def delay(self, chance: Random) -> float:
        """Draw the time [s] one packet takes."""
        return self._draw(chance)

    def lost(self, chance: Random) -> bool:
        """Draw whether a packet is lost."""
        return self.link.loss > 0 and chance.random() < self.link.loss

    def stream_delay(self, chance: Random) -> float:
        """Draw the time [s] until a part of a stream has come, being sent again when lost."""
        late = 0.0
        if self.link.loss > 0:
            tries = 0
            while tries < _RETRIES_MAX and chance.random() < self.link.loss:
                late += RETRY_S * 2**tries
                tries += 1
        return late + self._draw(chance)


class Links:
    """Which link lies between which hosts.

    "*" stands for every host. What is told of a pair counts more than what is told of its source,
    that more than what is told of its target, that more than what is told of all; of faults told of
    the same, the last one. "*" beside a name does not mean that host itself: whom a fault cuts off
    from all others still reaches itself.
    """

    def __init__(self) -> None:
        self._declared: dict[Pair, Link] = {(ANY, ANY): Link()}
        self._faults: dict[int, tuple[Pair, Mapping[str, Any]]] = {}
        self._faults_made = 0
        self._routes: dict[Pair, Route] = {}

    def route(self, source: str, target: str) -> Route:
        """Return the route from `source` to `target`; always the same one."""
        found = self._routes.get((source, target))
        if found is None:
            found = Route(source, target, self.find(source, target))
            self._routes[source, target] = found
        return found

    def find(self, source: str, target: str) -> Link:
        """Return the link from `source` to `target`, with its faults."""
        pairs = _matching(source, target)
        declared = next(self._declared[pair] for pair in pairs if pair in self._declared)
        changes: dict[str, Any] = {}
        for told in reversed(pairs):
            for pair, fault in self._faults.values():
                if pair == told:
                    changes.update(fault)
        return replace(declared, **changes) if changes else declared

    def declare(self, source: str, target: str, link: Link) -> None:
        """Let this be the link between hosts when nothing is wrong with it."""
        self._declared[source, target] = link
        self._refresh()

    def fault(self, source: str, target: str, changes: Mapping[str, Any]) -> int:
        """Change fields of a link until that ends; return its number. Raises: ValueError."""
        unknown = sorted(changes.keys() - FIELDS)
        _expect(not unknown, "fields of a link", unknown, ", ".join(sorted(FIELDS)))
        replace(self.find(source, target), **changes)  # It says what makes no sense.
        self._faults_made += 1
        self._faults[self._faults_made] = (source, target), dict(changes)
        self._refresh()
        return self._faults_made

    def end(self, numbers: Iterable[int]) -> None:
        """End faults; harmless if they have ended."""
        for number in numbers:
            self._faults.pop(number, None)
        self._refresh()

    def heal(self, named: frozenset[str]) -> None:
        """End every fault; if hosts are named, those which were told of all of them."""
        self.end([n for n, (pair, _) in self._faults.items() if named <= set(pair)])

    def _refresh(self) -> None:
        for (source, target), route in self._routes.items():
            route.use(self.find(source, target))


def sampler(shape: Shape, first: float, second: float) -> Callable[[Random], float]:
    """Return what draws latencies [s]; see `Link.latency`. Never more than 100 times the second.

    They are rounded to nanoseconds, so that the last bit of a machine's logarithm does not show.
    """
    if shape == "constant" or first == second:
        return lambda chance: first
    if shape == "uniform":
        return lambda chance: chance.uniform(first, second)
    most = 100 * second
    ratio = math.log(second / first)
    if shape == "lognormal":
        middle, spread = math.log(first), ratio / _P99
        return lambda chance: round(min(most, chance.lognormvariate(middle, spread)), 9)
    steepness = math.log(100) / ratio
    return lambda chance: round(min(most, first * chance.paretovariate(steepness)), 9)


def _matching(source: str, target: str) -> tuple[Pair, ...]:
    """Return what may be told of a pair, what counts most first."""
    if source == target:
        return (source, target), (ANY, ANY)
    return (source, target), (source, ANY), (ANY, target), (ANY, ANY)


def _expect(holds: bool, name: str, value: object, wanted: object) -> None:
    if not holds:
        raise ValueError(f"{name}={value!r}: expected {wanted}")
