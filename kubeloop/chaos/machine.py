"""A state machine of hypothesis over a whole simulated cluster, to be subclassed.

    class Machine(ClusterMachine):
        nodes = 3

        @rule()
        def read_back(self) -> None:
            assert self.run(self.stage.api.list("pods")) is not None

    TestMachine = Machine.TestCase

Between two rules the simulation stands still. Its steps and faults are rules already; every
monitor hears of every fact; at the end all is healed, and the cluster must settle.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from kubeloop.chaos import catalogue
from kubeloop.chaos.invariants import standard
from kubeloop.chaos.plan import POLICIES, Plan
from kubeloop.chaos.playing import SETTLE_S, cluster_of, happen_now, unless
from kubeloop.chaos.program import Program
from kubeloop.chaos.settled import settled
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.values import Happening, strategy
from kubeloop.chaos.watching import Monitor, Outcome, Watching
from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.loop import SimLoop, end

T = TypeVar("T")


class ClusterMachine(RuleBasedStateMachine):
    """A cluster, users, faults and monitors.

    nodes, rest, durable: as of a `Plan`.
    options:  for `Cluster`.
    steps, faults: the kinds of what users do and of what breaks; None for all there are.
    stage:    what rules act on; `stage.api` is a client.
    outcome:  how the run went, once it has ended.
    """

    nodes: ClassVar[int] = 2
    rest: ClassVar[bool] = False
    durable: ClassVar[bool] = False
    options: ClassVar[dict[str, Any]] = {}
    steps: ClassVar[Sequence[type[Happening]] | None] = None
    faults: ClassVar[Sequence[type[Happening]] | None] = None
    stage: Stage
    outcome: Outcome | None = None

    def __init__(self) -> None:
        super().__init__()
        self._watching: Watching | None = None
        self._operator: asyncio.Task[Any] | None = None

    # What subclasses may override.

    def monitors(self) -> Sequence[Monitor]:
        """Return those who watch: override, and add to what is there."""
        return standard()

    async def operator(self, stage: Stage) -> None:
        """Run beside the cluster, from when it is ready to the end; none if not overridden."""

    # What subclasses may use.

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work in the simulation. Raises: what it raises, or what a monitor has."""
        assert self._watching is not None
        return self._loop.run_until_complete(unless(work, self._watching.broken, self._operator))

    # Rules.

    @initialize(seed=st.integers(0, 2**16), policy=st.sampled_from(POLICIES))
    def begin(self, seed: int, policy: Any) -> None:
        """Start the cluster."""
        self._loop = SimLoop(seed, policy=policy)
        self._loop.run_until_complete(self._begin(Plan(
            seed=seed, policy=policy, nodes=self.nodes, rest=self.rest, durable=self.durable,
        )))  # fmt: skip

    @rule(step=st.runner().flatmap(lambda self: _any_of(self.steps, catalogue.steps)))
    def user(self, step: Happening) -> None:
        """Have a user do something now."""
        self.run(happen_now(self.stage, step))

    @rule(fault=st.runner().flatmap(lambda self: _any_of(self.faults, catalogue.faults)))
    def fault(self, fault: Happening) -> None:
        """Have something break now, for as long as it says."""
        self.run(happen_now(self.stage, fault))

    @rule(seconds=st.integers(0, 120))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.run(asyncio.sleep(seconds))

    def teardown(self) -> None:
        """Heal, let the cluster settle, look at it; then stop everything."""
        if self._watching is None:
            return
        try:
            self.stage.heal_all()
            self.run(self.stage.healed())
            self.run(settled(self.stage.cluster, within_s=SETTLE_S))
            self._watching.end()
        finally:
            try:
                self._loop.run_until_complete(self._end())
            finally:
                end(self._loop)

    # Parts.

    async def _begin(self, plan: Plan) -> None:
        disk = MemoryDisk() if plan.durable else None
        cluster = cluster_of(plan, disk, self.options)
        await cluster.start()
        self.stage = Stage(self._loop, cluster, disk=disk)
        self._watching = Watching(self.stage, self.monitors())
        self._watching.begin()
        if type(self).operator is not ClusterMachine.operator:
            self.stage.program = Program(self.stage, self.operator)
            self._operator = asyncio.create_task(self.stage.program.run())

    async def _end(self) -> None:
        assert self._watching is not None
        if self._operator is not None:
            self._operator.cancel()
            await asyncio.gather(self._operator, return_exceptions=True)
        self.outcome = self._watching.close()
        await self.stage.close()


def _any_of(
    chosen: Sequence[type[Happening]] | None, known: Callable[[], Sequence[type[Happening]]]
) -> "st.SearchStrategy[Happening]":
    kinds = known() if chosen is None else chosen
    return st.one_of([strategy(one) for one in kinds]) if kinds else st.nothing()
