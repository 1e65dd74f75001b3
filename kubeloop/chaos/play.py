"""Playing a plan: a cluster on a fresh simulated loop, all that shall happen, and who watches.

At the end everything is healed; then the cluster must settle, and what must hold at rest holds.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kubeloop.api.errors import ApiError
from kubeloop.api.resources import RESOURCES
from kubeloop.chaos.plan import Plan, told_of
from kubeloop.chaos.settled import NotSettled, settled
from kubeloop.chaos.stage import Mark, Stage
from kubeloop.chaos.values import Happening
from kubeloop.cluster import Cluster
from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.loop import SimLoop, SimulationError, run
from kubeloop.store.facts import Fact

SETTLE_S: Final = 1800.0  # Of virtual time: what has not settled by then never will.
_TAKE: Final = 100_000

Operator = Callable[[Stage], Coroutine[Any, Any, Any]]
"""A program that runs beside the cluster, from when it is ready to the end."""


class Broken(AssertionError):
    """What must hold does not; the message says what was seen."""


class Monitor(Protocol):
    """Watches a run. What it raises as `Broken` ends the run."""

    name: str

    def begin(self, stage: Stage) -> None:
        """Hear that a cluster is ready."""

    def heard(self, facts: Sequence[Fact]) -> None:
        """Hear of the facts of a flush, oldest first, before anything else happens."""

    def end(self) -> None:
        """Look at a cluster that has settled, after everything was healed."""


class Violation(AssertionError):
    """A run in which something was broken that must hold.

    monitor: the name of who saw it.
    """

    def __init__(self, plan: Plan, monitor: str, text: str, outcome: "Outcome") -> None:
        super().__init__(f"{monitor}: {text}\nat {outcome.now_s:.3f} s of\n{plan}")
        self.plan, self.monitor, self.text, self.outcome = plan, monitor, text, outcome


@dataclass
class Outcome:
    """How a run went.

    hash:     of every fact in the store's log: equal for equal runs.
    revision: the last one;  facts: how many there were.
    now_s:    the virtual time of its end.
    marks:    what happened, for a timeline.
    history:  every fact, oldest first, if it was asked for.
    """

    hash: str = ""
    revision: int = 0
    facts: int = 0
    now_s: float = 0.0
    marks: list[Mark] = field(default_factory=list)
    history: list[Fact] = field(default_factory=list)


def play(
    plan: Plan,
    *,
    monitors: Callable[[], Sequence[Monitor]] = tuple,
    operator: Operator | None = None,
    keep: bool = False,
    **options: Any,
) -> Outcome:
    """Play a plan and return how it went.

    monitors: makes those who watch this run.
    operator: runs beside the cluster.
    keep:     whether the outcome tells every fact.
    options:  for `Cluster`.
    Raises: Violation, also if the cluster does not settle, or the simulation cannot go on.
    """
    outcome = Outcome()
    player = _Player(plan, monitors(), outcome, keep=keep)
    try:
        run(lambda: player.main(operator, options), seed=plan.seed, policy=plan.policy)
    except Broken as error:
        raise Violation(plan, player.culprit, str(error), outcome) from error
    except NotSettled as error:
        raise Violation(plan, "settled", str(error), outcome) from error
    except SimulationError as error:
        raise Violation(plan, type(error).__name__, str(error), outcome) from error
    return outcome


class _Player:
    """One run."""

    def __init__(
        self, plan: Plan, monitors: Sequence[Monitor], outcome: Outcome, *, keep: bool
    ) -> None:
        self.plan, self.monitors, self.outcome, self.keep = plan, monitors, outcome, keep
        self.culprit = ""
        self._hash = hashlib.sha256()
        self._broken: asyncio.Future[None]

    async def main(self, operator: Operator | None, options: dict[str, Any]) -> None:
        loop, plan = asyncio.get_running_loop(), self.plan
        assert isinstance(loop, SimLoop)
        self._broken = loop.create_future()
        disk = MemoryDisk() if plan.durable else None
        async with Cluster(
            nodes=plan.nodes,
            seed=plan.seed,
            rest=plan.rest,
            data_dir="/data" if plan.durable else None,
            disk=disk,
            **options,
        ) as cluster:
            stage = Stage(loop, cluster, disk=disk)
            self.outcome.marks = stage.marks
            try:
                await self._watch(stage, operator)
            finally:
                self.outcome.hash = self._hash.hexdigest()
                self.outcome.now_s = loop.time()

    async def _watch(self, stage: Stage, operator: Operator | None) -> None:
        self._listen(stage)
        beside = [] if operator is None else [asyncio.ensure_future(operator(stage))]
        try:
            await self._unless_broken(self._happen(stage), *beside)
            stage.heal_all()
            await self._unless_broken(settled(stage.cluster, within_s=SETTLE_S), *beside)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
        for monitor in self.monitors:
            self.culprit = monitor.name
            monitor.end()

    def _listen(self, stage: Stage) -> None:
        """Have every monitor hear of everything."""
        hub = stage.cluster.hub

        def hear() -> None:
            facts = cursor.take(_TAKE)
            self.outcome.facts += len(facts)
            self.outcome.revision = facts[-1].revision if facts else self.outcome.revision
            if self.keep:
                self.outcome.history += facts
            for fact in facts:
                self._hash.update(fact.encoded)
            self._tell(facts)

        for monitor in self.monitors:
            self.culprit = monitor.name
            monitor.begin(stage)
        cursor = hub.open(resources=list(RESOURCES), revision=0, wake=hear)
        hear()

    def _tell(self, facts: Sequence[Fact]) -> None:
        for monitor in self.monitors:
            try:
                monitor.heard(facts)
            except Broken as error:
                if not self._broken.done():
                    self.culprit = monitor.name
                    self._broken.set_exception(error)
                return

    async def _happen(self, stage: Stage) -> None:
        """Have everything happen at its time."""
        begin = stage.loop.time()
        await asyncio.gather(*(self._do(stage, begin, one) for one in self.plan.happenings))

    async def _do(self, stage: Stage, begin: float, happening: Happening) -> None:
        await stage.sleep_until(begin + happening.at_s)
        try:
            await happening.happen(stage)
        except ApiError as error:
            stage.note(f"{told_of(happening)}: {error}")

    async def _unless_broken(
        self, work: Coroutine[Any, Any, None], *beside: "asyncio.Future[Any]"
    ) -> None:
        """Do some work to its end, unless a monitor or what runs beside it ends first."""
        task = asyncio.ensure_future(work)
        try:
            first = [task, self._broken, *beside]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            for ended in (self._broken, *beside, task):
                if ended.done():
                    ended.result()
                    if ended is not task:
                        raise Broken("the operator has ended")
                    return
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
