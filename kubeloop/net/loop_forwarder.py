"""A forwarder in plain asyncio: works on any loop, on that of a simulated network, too."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

from kubeloop.net.balancer import Balancer, Endpoint, Rule
from kubeloop.net.splice import Inbound, Side

CONNECT_TIMEOUT_S: Final = 5.0
BACKLOG: Final = 1024

logger = logging.getLogger("kubeloop.proxy")


class LoopForwarder:
    """Carries connections over the running loop's own network. draw: a random number in [0, 1)."""

    name = "loop"

    def __init__(self, *, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._balancers: dict[int, Balancer] = {}
        self._inbounds: dict[Inbound, None] = {}  # In order: the same in every run.
        self._carried: dict[Inbound, tuple[Balancer, Endpoint]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, changes: Mapping[int, Rule | None]) -> None:
        for number, rule in changes.items():
            if rule is None:
                self._balancers.pop(number, None)
            elif number in self._balancers:
                self._balancers[number].update(rule)
            else:
                self._balancers[number] = Balancer(rule, draw=self._draw)

    async def listen_at(
        self, number: int, address: str, port: int, *, shared: bool = False, udp: bool = False
    ) -> Callable[[], None]:
        if udp:
            raise OSError(errno.EOPNOTSUPP, "this network's forwarder carries no UDP")
        loop = asyncio.get_running_loop()
        server = await loop.create_server(
            self._inbound(number), address, port, backlog=BACKLOG, reuse_port=shared or None
        )
        return server.close

    async def listen_on(self, number: int, sock: socket.socket) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(self._inbound(number), sock=sock, backlog=BACKLOG)
        return server.close

    async def close(self) -> None:
        """Reset every connection."""
        for inbound in tuple(self._inbounds):
            inbound.refuse()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _inbound(self, number: int) -> Callable[[], Inbound]:
        return lambda: Inbound(lambda side: self._arrived(number, side), self._left)

    def _arrived(self, number: int, inbound: Inbound) -> None:
        balancer = self._balancers.get(number)
        if balancer is None or not balancer.rule.endpoints:
            inbound.refuse()
            return
        self._inbounds[inbound] = None
        self._spawn(self._connect(balancer, inbound))

    def _left(self, inbound: Inbound) -> None:
        self._inbounds.pop(inbound, None)
        carried = self._carried.pop(inbound, None)
        if carried is not None:
            balancer, endpoint = carried
            balancer.left(endpoint)

    async def _connect(self, balancer: Balancer, inbound: Inbound) -> None:
        """Find an endpoint that takes the connection; each is tried once."""
        loop, tried, client = asyncio.get_running_loop(), list[Endpoint](), inbound.client
        while inbound.transport is not None:
            endpoint = balancer.choose(client, loop.time(), tried)
            if endpoint is None:
                break
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    _, outbound = await loop.create_connection(Side, *endpoint)
            except (OSError, TimeoutError) as error:
                tried.append(endpoint)
                logger.debug("%s: %s:%s: %s", balancer.rule.service, *endpoint, error)
                continue
            balancer.took(endpoint)
            self._carried[inbound] = (balancer, endpoint)
            inbound.join(outbound)
            return
        inbound.refuse()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
