"""The userspace data path: listens on every node address and in every pod, for a forwarder.

Ports of the node are listened to on the node's own addresses, those of load balancers and external
addresses on these, by all nodes that are on this host. ClusterIPs exist inside pods only:
the pod network makes a listening socket in each pod's namespace and hands it over, so that a
connection from a pod to a ClusterIP arrives here without any packet crossing a namespace.

What arrives is carried by a forwarder: an engine nested in the loop (`userspace.nested`), or in
processes of its own (`userspace.workers`), or asyncio itself (`loop_forwarder`), which is the one
that a simulated network has.
"""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kubeloop.net.balancer import Place, Rule
from kubeloop.net.health_checks import HealthCheck

logger = logging.getLogger("kubeloop.proxy")


class PodSockets(Protocol):
    """The pods of one node, as far as sockets go."""

    async def listen(self, pod_uid: str, ip: str, port: int, *, udp: bool) -> socket.socket:
        """Return a socket that listens inside a pod. Raises: OSError."""

    def pods(self) -> Sequence[tuple[str, str]]:
        """Return (pod uid, pod ip) of the pods that run."""

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a pod came or went."""


class PlacedRule(Rule, Protocol):
    """What else this data path needs to know of a rule."""

    @property
    def kind(self) -> str:
        """ "ClusterIP", "NodePort", "LoadBalancer", "ExternalIP" or "HealthCheck"."""


class Forwarder(Protocol):
    """Carries what arrives at listening sockets to the endpoints of their rules."""

    def apply(self, changes: Mapping[int, Rule | None]) -> None:
        """Have these rules, by number; None where there is none any more."""

    async def listen_at(
        self, number: int, address: str, port: int, *, shared: bool, udp: bool
    ) -> Callable[[], None]:
        """Listen on this host, for rule `number`; return what ends that. Raises: OSError.

        shared: others who share it may listen there, too; the kernel shares clients out.
        """

    async def listen_on(self, number: int, sock: socket.socket) -> Callable[[], None]:
        """Take a socket that listens, for rule `number`; return what ends that."""

    async def close(self) -> None:
        """Reset every connection."""


Trouble = Callable[[Any, str, str], None]


class UserspaceProxy:
    """Listens where the rules say, and has a forwarder carry what comes.

    addresses: the node's own, where its node ports answer.
    numbers:   where the forwarder's numbers of rules come from; proxies that share it share them.
    """

    name = "userspace"

    def __init__(
        self,
        *,
        addresses: Sequence[str],
        forwarder: Forwarder,
        numbers: Iterator[int],
        sockets: PodSockets | None = None,
    ) -> None:
        self.addresses, self.forwarder, self.sockets = tuple(addresses), forwarder, sockets
        self._fresh = numbers
        self._rules: dict[Place, PlacedRule] = {}
        self._numbers: dict[Place, int] = {}
        self._listeners: dict[tuple[Place, str], Callable[[], None] | None] = {}
        self._failed: set[tuple[Place, str]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._troubled: Trouble = _ignore
        self._closed = False
        if sockets is not None:
            sockets.on_change(self._reconcile)

    # What kube-proxy says.

    def listen(self, troubled: Trouble) -> None:
        self._troubled = troubled

    def apply(self, changes: Mapping[Any, Any]) -> None:
        told: dict[int, Rule | None] = {}
        for place, rule in changes.items():
            number = self._numbers.get(place)
            if rule is not None:
                if number is None:
                    number = self._numbers[place] = next(self._fresh)
                self._rules[place] = told[number] = rule
            elif number is not None:
                # As with kube-proxy, connections outlive the Service they came through.
                told[number] = None
                del self._numbers[place], self._rules[place]
        self.forwarder.apply(told)
        self._reconcile()

    def replace(self, rules: Mapping[Any, Any]) -> None:
        gone = dict.fromkeys(place for place in self._rules if place not in rules)
        self.apply({**gone, **rules})

    def retry(self) -> None:
        self._failed.clear()
        self._reconcile()

    async def settled(self) -> None:
        """Return when every place that is wanted is open or has failed."""
        while self._opening:
            await asyncio.gather(*self._opening)

    async def close(self) -> None:
        """Stop listening; the forwarder is whoever's who made it."""
        self._closed = True
        self.apply(dict.fromkeys(tuple(self._rules)))
        await self.settled()

    # Listening.

    def _wanted(self) -> set[tuple[Place, str]]:
        """Return (place, where): where is an address of this host, or the uid of a pod."""
        pods = [uid for uid, _ in self.sockets.pods()] if self.sockets is not None else []
        wanted = set()
        for place, rule in self._rules.items():
            ip, _, protocol = place
            if protocol in ("TCP", "UDP"):
                hosts = (ip,) if ip else self.addresses
                wanted |= {(place, where) for where in (pods if _inside(rule) else hosts)}
        return wanted

    def _reconcile(self) -> None:
        """Open what is wanted and not open, close what is open and not wanted."""
        wanted = self._wanted() if not self._closed else set()
        for key in [k for k in self._listeners if k not in wanted]:
            close = self._listeners.pop(key)
            if close is not None:
                close()
        self._failed &= wanted
        for key in sorted(wanted - self._listeners.keys() - self._failed):
            self._listeners[key] = None
            opening = asyncio.get_running_loop().create_task(self._open(key))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, key: tuple[Place, str]) -> None:
        place, where = key
        number = self._numbers.get(place, 0)
        if not self._waits(key, number):
            return
        try:
            close = await self._listen(number, place, where)
        except OSError as error:
            if self._waits(key, number):
                del self._listeners[key]
                self._failed.add(key)
                self._tell(place, where, error)
            return
        if self._waits(key, number):
            self._listeners[key] = close
        else:
            close()

    def _waits(self, key: tuple[Place, str], number: int) -> bool:
        """Tell whether a listener that was begun is still wanted, for the same rule."""
        return self._listeners.get(key, _ignore) is None and self._numbers.get(key[0]) == number

    async def _listen(self, number: int, place: Place, where: str) -> Callable[[], None]:
        ip, port, protocol = place
        rule, udp = self._rules[place], protocol == "UDP"
        if rule.kind == "HealthCheck":
            return await self._check(place, where)
        if not _inside(rule):
            return await self.forwarder.listen_at(number, where, port, shared=bool(ip), udp=udp)
        assert self.sockets is not None
        sock = await self.sockets.listen(where, ip, port, udp=udp)
        return await self.forwarder.listen_on(number, sock)

    async def _check(self, place: Place, where: str) -> Callable[[], None]:
        """Answer a load balancer that asks for this node's endpoints."""

        def ask() -> tuple[str, int]:
            rule = self._rules.get(place)
            return ("", 0) if rule is None else (rule.service, len(rule.endpoints))

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: HealthCheck(ask), where, place[1])
        return server.close

    def _tell(self, place: Place, where: str, error: OSError) -> None:
        rule = self._rules[place]
        why = os.strerror(error.errno) if error.errno else str(error)
        address = f"{place[0] or where}:{place[1]}"
        logger.warning("cannot listen on %s for %s: %s", address, rule.service, why)
        foreign = rule.kind == "ExternalIP" and error.errno == errno.EADDRNOTAVAIL
        if not (_inside(rule) or foreign):  # A pod that just goes, another host: nobody's trouble.
            self._troubled(rule, address, why)


def _inside(rule: PlacedRule) -> bool:
    return rule.kind == "ClusterIP"


def _ignore(rule: Any, address: str, why: str) -> None:
    """Nobody listens yet."""
