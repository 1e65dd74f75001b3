"""The userspace data path: a TCP load balancer in asyncio, on every node address and in every pod.

Ports of the node are listened to on the node's own addresses. ClusterIPs exist inside pods only:
the pod network makes a listening socket in each pod's namespace and hands it over, so that a
connection from a pod to a ClusterIP arrives here without any packet crossing a namespace.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

from kubeloop.net.balancer import Balancer, Endpoint, Place, Rule
from kubeloop.net.splice import Inbound, Side

CONNECT_TIMEOUT_S: Final = 5.0
BACKLOG: Final = 1024

logger = logging.getLogger("kubeloop.proxy")


class PodSockets(Protocol):
    """The pods of one node, as far as sockets go."""

    async def listen(self, pod_uid: str, ip: str, port: int) -> socket.socket:
        """Return a socket that listens inside a pod. Raises: OSError."""

    def pods(self) -> Sequence[tuple[str, str]]:
        """Return (pod uid, pod ip) of the pods that run."""

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever a pod came or went."""


class Connector(Protocol):
    """Reaches endpoints, wherever they are."""

    async def __call__(self, factory: Callable[[], Side], endpoint: Endpoint) -> Side:
        """Return the connected side. Raises: OSError."""


Trouble = Callable[[Any, str, str], None]


class UserspaceProxy:
    """Listens where the rules say and splices each connection to an endpoint.

    addresses: the node's own, where its node ports answer.
    draw:      a random number in [0, 1).
    """

    name = "userspace"

    def __init__(
        self,
        *,
        addresses: Sequence[str],
        connect: Connector,
        draw: Callable[[], float],
        sockets: PodSockets | None = None,
    ) -> None:
        self.addresses, self.connect, self.draw = tuple(addresses), connect, draw
        self.sockets = sockets
        self.connections = 0
        self._balancers: dict[Place, Balancer] = {}
        self._listeners: dict[tuple[Place, str], asyncio.Server | None] = {}
        self._failed: set[tuple[Place, str]] = set()
        self._inbounds: dict[Inbound, None] = {}  # In order: the same in every run.
        self._tasks: set[asyncio.Task[None]] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._troubled: Trouble = _ignore
        self._closed = False
        if sockets is not None:
            sockets.on_change(self._reconcile)

    # What kube-proxy says.

    def listen(self, troubled: Trouble) -> None:
        self._troubled = troubled

    def apply(self, changes: Mapping[Any, Any]) -> None:
        for place, rule in changes.items():
            if rule is None:
                # As with kube-proxy, connections outlive the Service they came through.
                self._balancers.pop(place, None)
            elif place in self._balancers:
                self._balancers[place].update(rule)
            else:
                self._balancers[place] = Balancer(rule, draw=self.draw)
        self._reconcile()

    def replace(self, rules: Mapping[Any, Any]) -> None:
        gone = dict.fromkeys(place for place in self._balancers if place not in rules)
        self.apply({**gone, **rules})

    def retry(self) -> None:
        self._failed.clear()
        self._reconcile()

    async def settled(self) -> None:
        """Return when every place that is wanted is open or has failed."""
        while self._opening:
            await asyncio.gather(*self._opening)

    async def close(self) -> None:
        """Stop listening and cut every connection."""
        self._closed = True
        self.apply(dict.fromkeys(tuple(self._balancers)))
        for inbound in tuple(self._inbounds):
            inbound.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # Listening.

    def _wanted(self) -> set[tuple[Place, str]]:
        """Return (place, where): where is a node address, or the uid of a pod."""
        pods = [uid for uid, _ in self.sockets.pods()] if self.sockets is not None else []
        wanted = set()
        for place in self._balancers:
            ip, _, protocol = place
            if protocol == "TCP":
                wanted |= {(place, where) for where in (pods if ip else self.addresses)}
        return wanted

    def _reconcile(self) -> None:
        """Open what is wanted and not open, close what is open and not wanted."""
        wanted = self._wanted() if not self._closed else set()
        for key in [k for k in self._listeners if k not in wanted]:
            server = self._listeners.pop(key)
            if server is not None:
                server.close()
        self._failed &= wanted
        for key in sorted(wanted - self._listeners.keys() - self._failed):
            self._listeners[key] = None
            opening = self._spawn(self._open(key))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, key: tuple[Place, str]) -> None:
        place, where = key
        try:
            server = await self._serve(place, where)
        except OSError as error:
            if self._listeners.get(key, ...) is None:
                del self._listeners[key]
                self._failed.add(key)
                self._tell(place, where, error)
            return
        if self._listeners.get(key, ...) is None:
            self._listeners[key] = server
        else:
            server.close()

    async def _serve(self, place: Place, where: str) -> asyncio.Server:
        loop, (ip, port, _) = asyncio.get_running_loop(), place

        def factory() -> Inbound:
            return Inbound(lambda side: self._arrived(place, side), self._forget)

        if not ip:
            return await loop.create_server(factory, host=where, port=port, backlog=BACKLOG)
        assert self.sockets is not None
        sock = await self.sockets.listen(where, ip, port)
        return await loop.create_server(factory, sock=sock, backlog=BACKLOG)

    def _tell(self, place: Place, where: str, error: OSError) -> None:
        balancer = self._balancers.get(place)
        if balancer is None:
            return
        why = os.strerror(error.errno) if error.errno else str(error)
        address = f"{place[0] or where}:{place[1]}"
        logger.warning("cannot listen on %s for %s: %s", address, balancer.rule.service, why)
        if not place[0]:  # A pod that is just going away is nobody's trouble.
            self._troubled(balancer.rule, address, why)

    # Connections.

    def _arrived(self, place: Place, inbound: Inbound) -> None:
        balancer = self._balancers.get(place)
        if balancer is None or not balancer.rule.endpoints:
            inbound.refuse()
            return
        self.connections += 1
        self._inbounds[inbound] = None
        self._spawn(self._connect(balancer, inbound))

    def _forget(self, inbound: Inbound) -> None:
        self._inbounds.pop(inbound, None)

    async def _connect(self, balancer: Balancer, inbound: Inbound) -> None:
        """Find an endpoint that takes the connection; each is tried once."""
        loop, tried, client = asyncio.get_running_loop(), list[Endpoint](), inbound.client
        while inbound.transport is not None:
            endpoint = balancer.choose(client, loop.time(), tried)
            if endpoint is None:
                break
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    outbound = await self.connect(Side, endpoint)
            except (OSError, TimeoutError) as error:
                tried.append(endpoint)
                logger.debug("%s: %s:%s: %s", balancer.rule.service, *endpoint, error)
                continue
            inbound.join(outbound)
            return
        inbound.refuse()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def connect_directly() -> Connector:
    """Return a connector that reaches endpoints through the loop's own network."""

    async def connect(factory: Callable[[], Side], endpoint: Endpoint) -> Side:
        loop = asyncio.get_running_loop()
        _, side = await loop.create_connection(factory, *endpoint)
        return side

    return connect


def connect_by_dial(
    dial: Callable[[str, int], Coroutine[Any, Any, socket.socket | None]],
) -> Connector:
    """Return a connector over a pod network; what it does not know is reached directly.

    dial: (ip, port) → a connected socket made inside the pod, None if no pod has that ip.
    """
    directly = connect_directly()

    async def connect(factory: Callable[[], Side], endpoint: Endpoint) -> Side:
        sock = await dial(*endpoint)
        if sock is None:
            return await directly(factory, endpoint)
        try:
            loop = asyncio.get_running_loop()
            _, side = await loop.create_connection(factory, sock=sock)
        except BaseException:
            sock.close()
            raise
        return side

    return connect


def _ignore(rule: Any, address: str, why: str) -> None:
    """Nobody listens yet."""


__all__ = ["Rule", "UserspaceProxy", "connect_by_dial", "connect_directly"]
