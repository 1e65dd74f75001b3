"""The program under test, beside the cluster: it may be killed, and is then started again.

It runs on a host of its own, `PROGRAM`. To be killed is what SIGKILL does: from then on nothing of
it reaches the cluster, its connections are reset, its tasks are cancelled, again and again if they
go on, until none is left.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from kubeloop.chaos.watching import Broken
from kubeloop.sim.tasks import SimTask

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage

PROGRAM: Final = "operator"
_ADDRESS: Final = "192.0.2.1"  # RFC 5737: nobody has it.
_GRACE_S: Final = 30.0  # As a pod's terminationGracePeriodSeconds.
_TURN_S: Final = 1e-6  # Time goes on when nobody is ready: then all have heard, in any order.
_CANCELS_MAX: Final = 1000  # A task that goes on after so many will not end.


class Program:
    """Runs `main` over and over.

    starts: how often it was started.
    """

    def __init__(self, stage: "Stage", main: "Callable[[Stage], Coroutine[Any, Any, Any]]") -> None:
        self._stage, self._main = stage, main
        self.starts = 0
        self._crashed: asyncio.Future[None] | None = None  # Of the one that runs.
        self._revived = asyncio.Event()
        stage.network.add_host(PROGRAM, _ADDRESS)

    async def run(self) -> None:
        """Run until cancelled. Raises: what the program raises; Broken if it ends by itself."""
        while True:
            crashed = self._crashed = self._stage.loop.create_future()
            self._stage.gate.down.discard(PROGRAM)
            with self._stage.network.on(PROGRAM):
                task = asyncio.ensure_future(self._main(self._stage))
            self.starts += 1
            try:
                await asyncio.wait([task, crashed], return_when=asyncio.FIRST_COMPLETED)
            finally:
                task.cancel()
                if not crashed.done():  # Then it may clean up, as one that hears TERM.
                    await asyncio.wait([task], timeout=_GRACE_S)
                await self._kill()
            if not crashed.done():
                task.result()
                raise Broken("the operator has ended, though nobody told it to")
            await self._revived.wait()

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._crashed is not None and not self._crashed.done()

    def crash(self) -> None:
        """Kill it; nothing of what it does from now on is seen. It stays dead until `revive`."""
        if self._crashed is None or self._crashed.done():
            return
        self._stage.gate.down.add(PROGRAM)
        self._stage.network.reset(PROGRAM)
        self._revived.clear()
        self._crashed.set_result(None)
        self._cancel()

    def revive(self) -> None:
        """Start it again, if it is dead."""
        self._revived.set()

    def _cancel(self) -> bool:
        """Cancel whatever runs on its host; tell whether there was anything."""
        here = asyncio.current_task()
        tasks = [
            task
            for task in asyncio.all_tasks(self._stage.loop)
            if isinstance(task, SimTask) and task.host == PROGRAM and task is not here
        ]
        for task in sorted(tasks, key=hash):
            task.cancel()
        return bool(tasks)

    async def _kill(self) -> None:
        for _ in range(_CANCELS_MAX):
            if not self._cancel():
                return
            await asyncio.sleep(_TURN_S)
        raise Broken(f"the operator cannot be killed: a task goes on after {_CANCELS_MAX} cancels")
