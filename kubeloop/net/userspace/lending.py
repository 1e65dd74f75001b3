"""Asks pods for sockets, for whoever runs an engine."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from kubeloop.net.userspace.stashes import BATCH

# (pod ip, how many, for UDP) → sockets made inside that pod, not connected. Raises: OSError.
Lend = Callable[[str, int, bool], Awaitable[list[socket.socket]]]
Give = Callable[[list[socket.socket]], None]

logger: Final = logging.getLogger("kubeloop.proxy")


class Lending:
    """What was asked for and has not come."""

    def __init__(self, lend: Lend) -> None:
        self._lend = lend
        self._tasks: set[asyncio.Task[None]] = set()

    def borrow(self, ip: str, udp: bool, give: Give) -> None:
        """Have `give` called with sockets of a pod; none if it has none to give."""
        task = asyncio.get_running_loop().create_task(self._borrow(ip, udp, give))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _borrow(self, ip: str, udp: bool, give: Give) -> None:
        try:
            sockets = await self._lend(ip, BATCH, udp)
        except OSError as error:
            logger.debug("pod %s lends no sockets: %s", ip, error)
            sockets = []
        give(sockets)

    async def close(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
