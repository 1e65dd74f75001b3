"""Tasks and futures whose hash is their number, so that sets of them have a fixed order.

Usually the hash is the address. asyncio itself iterates over such sets (a TaskGroup that cancels
its tasks), and so do those who use `asyncio.wait`.
"""

import asyncio
from typing import Any

from kubeloop.sim.transport import HOST


class SimTask(asyncio.Task[Any]):
    """A task of a simulation. host: the one it was started on."""

    __slots__ = ("_number", "host")

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        context = options.get("context")
        self.host: str = HOST.get() if context is None else context.get(HOST, HOST.get())
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class SimFuture(asyncio.Future[Any]):
    """A future of a simulation."""

    __slots__ = ("_number",)

    def __init__(self, number: int, *, loop: asyncio.AbstractEventLoop) -> None:
        self._number = number
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._number
