"""The engine inside an asyncio loop, which watches its epoll: nothing has to be started.

A busy loop makes connections wait; `workers` does not have that.
"""

import asyncio
import socket
from _socket import socket as Socket
from collections.abc import Callable, Mapping
from typing import Any

from kubeloop.net.balancer import Rule
from kubeloop.net.userspace.engine import Engine
from kubeloop.net.userspace.lending import Lend, Lending
from kubeloop.net.userspace.listeners import open_at


class NestedForwarder:
    """Carries connections on the running loop.

    lend:        asks for sockets made inside a pod; see `lending`.
    pod_network: the beginning of every pod's address, "10.244."; "" if none is special.
    """

    name = "nested"

    def __init__(
        self, *, draw: Callable[[], float], lend: Lend, pod_network: str, connections_max: int
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._lending = Lending(lend)
        self.engine = Engine(
            now=self._loop.time,
            draw=draw,
            want=self._want,
            connections_max=connections_max,
            pod_network=pod_network,
        )
        self._listeners = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._loop.add_reader(self.engine.carrier.epoll.fileno(), self._turn)

    def apply(self, changes: Mapping[int, Rule | None]) -> None:
        self.engine.apply(changes)

    async def listen_at(
        self, number: int, address: str, port: int, *, shared: bool = False, udp: bool = False
    ) -> Callable[[], None]:
        (sock,) = open_at(address, port, 1, shared=shared, udp=udp)
        return await self.listen_on(number, sock)

    async def listen_on(self, number: int, sock: socket.socket) -> Callable[[], None]:
        self._listeners += 1
        listener = self._listeners
        self.engine.listen(listener, number, sock)
        return lambda: None if self._closed else self.engine.unlisten(listener)

    def pods(self, ips: set[str]) -> None:
        self.engine.pods(ips)
        self._plan()

    async def counts(self) -> dict[int, list[Any]]:
        return self.engine.counts()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self.engine.carrier.epoll.fileno())
        if self._timer is not None:
            self._timer.cancel()
        await self._lending.close()
        self.engine.close()

    def _turn(self) -> None:
        if not self._closed:
            self.engine.turn(0)
            self._plan()

    def _plan(self) -> None:
        """Have a turn when something is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        wait_s = self.engine.wait_s()
        if wait_s >= 0:
            self._timer = self._loop.call_later(wait_s, self._turn)

    def _want(self, ip: str, udp: bool) -> None:
        self._lending.borrow(ip, udp, lambda sockets: self._provide(ip, udp, sockets))

    def _provide(self, ip: str, udp: bool, sockets: list[socket.socket]) -> None:
        ours = [Socket(s.family, s.type | socket.SOCK_NONBLOCK, 0, s.detach()) for s in sockets]
        self.engine.provide(ip, ours, udp=udp)
        self._plan()
