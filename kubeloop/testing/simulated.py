"""A simulated cluster for one test: its loop, its faults, those who watch.

sim_cluster.run(sim_cluster.api.create(pod))  # In a plain test.
await sim_cluster.api.create(pod)             # In an async one, which runs in its loop.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from kubeloop.chaos.gatekeeper import TESTER
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import SETTLE_S, cluster_of, happen, unless
from kubeloop.chaos.settled import settled
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.watching import Monitor, Outcome, Watching
from kubeloop.cluster import Cluster
from kubeloop.net.client import Client
from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.loop import SimLoop, end

T = TypeVar("T")


class SimCluster:
    """A cluster on a simulated loop of its own. What is not found here is the cluster's.

    plan:    its seed, its size, and what breaks while the test runs.
    stage:   what happenings act on;  api: a client for what the test does.
    outcome: how it went, once it is closed.
    """

    def __init__(
        self, plan: Plan, monitors: Callable[[], Sequence[Monitor]], options: dict[str, Any]
    ) -> None:
        self.plan = plan
        self.loop = SimLoop(plan.seed, policy=plan.policy)
        self.outcome = Outcome()
        self._monitors, self._options = monitors, options
        self._faults: asyncio.Task[None] | None = None
        self._watching: Watching | None = None
        self.stage: Stage

    def __enter__(self) -> Self:
        try:
            self.loop.run_until_complete(self._begin())
        except BaseException:
            end(self.loop)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self.loop.run_until_complete(self._end())
        finally:
            end(self.loop)

    def __getattr__(self, name: str) -> Any:
        if name == "stage":
            raise AttributeError("the cluster has not begun: use it in a with statement")
        return getattr(self.stage.cluster, name)

    @property
    def api(self) -> Client:
        """A client: all it is told to write is remembered, and no fault of the API is meant for it.

        `stage.client("name")` is one of whom they are.
        """
        return Client(self.stage, agent=TESTER)

    @property
    def cluster(self) -> Cluster:
        """The cluster itself."""
        return self.stage.cluster

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in the simulation, from a plain test.

        Raises: what it raises, Broken as soon as a monitor objects, or what a fault's own code
        raises; Deadlock, Livelock.
        """
        return self.loop.run_until_complete(self.guarded(work))

    async def guarded(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work, unless a monitor objects before."""
        assert self._watching is not None
        return await unless(work, self._watching.broken)

    def told(self) -> Outcome:
        """Return how it has gone so far, with every fact."""
        assert self._watching is not None
        return self._watching.told()

    async def settled(self, *, within_s: float = SETTLE_S) -> None:
        """Have everything happen that shall, heal all, and wait until nothing is left to be done.

        Raises: NotSettled; Broken if what must hold at rest does not.
        """
        assert self._watching is not None
        if self._faults is not None:
            await self._faults
            self._faults = None
        self.stage.heal_all()
        await unless(settled(self.cluster, within_s=within_s), self._watching.broken)
        self._watching.end()

    async def _begin(self) -> None:
        disk = MemoryDisk() if self.plan.durable else None
        cluster = cluster_of(self.plan, disk, self._options)
        await cluster.start()
        self.stage = Stage(self.loop, cluster, disk=disk)
        self._watching = Watching(self.stage, self._monitors(), keep=True)
        self._watching.begin()
        if self.plan.happenings:
            self._faults = asyncio.create_task(happen(self.stage, self.plan.happenings))

    async def _end(self) -> None:
        if self._faults is not None:
            self._faults.cancel()
            await asyncio.gather(self._faults, return_exceptions=True)
        if self._watching is not None:
            self.outcome = self._watching.close()
            await self.cluster.stop()
