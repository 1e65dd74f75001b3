"""Playing a plan: a cluster on a fresh simulated loop, all that shall happen, and who watches.

At the end everything is healed; then the cluster must settle, and what must hold at rest holds.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from kubeloop.api.errors import ApiError
from kubeloop.chaos.invariants import standard
from kubeloop.chaos.plan import Plan, told_of
from kubeloop.chaos.program import Program
from kubeloop.chaos.settled import NotSettled, settled
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.succession import Unrecovered
from kubeloop.chaos.values import Happening
from kubeloop.chaos.watching import Broken, Monitor, Outcome, Watching
from kubeloop.cluster import Cluster
from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.loop import SimLoop, SimulationError, run

T = TypeVar("T")

HAPPEN_S: Final = 7200.0  # Of virtual time: what users do and what breaks takes some minutes.

SETTLE_S: Final = 1800.0  # Of virtual time: what has not settled by then never will.

Operator = Callable[[Stage], Coroutine[Any, Any, Any]]
"""A program that runs beside the cluster, from when it is ready to the end; see `Program`."""


class Violation(AssertionError):
    """A run in which something was broken that must hold.

    monitor: the name of who saw it, "settled" if the cluster did not.
    """

    def __init__(self, plan: Plan, monitor: str, text: str, outcome: Outcome) -> None:
        super().__init__(f"{monitor}: {text}\nat {outcome.now_s:.3f} s of\n{plan}")
        self.plan, self.monitor, self.text, self.outcome = plan, monitor, text, outcome


def play(
    plan: Plan,
    *,
    monitors: Callable[[], Sequence[Monitor]] = standard,
    operator: Operator | None = None,
    keep: bool = False,
    **options: Any,
) -> Outcome:
    """Play a plan and return how it went.

    monitors: makes those who watch this run; `tuple` for nobody.
    operator: runs beside the cluster.
    keep:     whether the outcome tells every fact.
    options:  for `Cluster`.
    Raises: Violation, also if the cluster does not settle, or the simulation cannot go on.
    """
    player = _Player(plan, monitors, operator, keep=keep, options=options)
    try:
        run(player.main, seed=plan.seed, policy=plan.policy)
    except Unrecovered as error:
        raise Violation(plan, "recovery", str(error), player.outcome) from error
    except Broken as error:
        raise Violation(plan, player.culprit, str(error), player.outcome) from error
    except NotSettled as error:
        raise Violation(plan, "settled", str(error), player.outcome) from error
    except Unanswered as error:
        raise Violation(plan, "answers", str(error), player.outcome) from error
    except SimulationError as error:
        raise Violation(plan, type(error).__name__, str(error), player.outcome) from error
    return player.outcome


class Unanswered(Exception):
    """Somebody who asked the cluster for something waits in vain."""


class _Player:
    """One run."""

    def __init__(
        self,
        plan: Plan,
        monitors: Callable[[], Sequence[Monitor]],
        operator: Operator | None,
        *,
        keep: bool,
        options: dict[str, Any],
    ) -> None:
        self.plan, self.monitors, self.operator = plan, monitors, operator
        self.keep, self.options = keep, options
        self.outcome, self.culprit = Outcome(), "operator"

    async def main(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        disk = MemoryDisk() if self.plan.durable else None
        cluster = cluster_of(self.plan, disk, self.options)
        await cluster.start()
        stage = Stage(loop, cluster, disk=disk)
        try:
            watching = Watching(stage, self.monitors(), keep=self.keep)
            try:
                await self._watch(watching)
            finally:
                self.outcome, self.culprit = watching.close(), watching.culprit or self.culprit
        finally:
            await stage.close()

    async def _watch(self, watching: Watching) -> None:
        watching.begin()
        stage, plan = watching.stage, self.plan
        beside = None
        if self.operator is not None:
            stage.program = Program(stage, self.operator)
            beside = asyncio.ensure_future(stage.program.run())
        try:
            await unless(_ended(stage, plan.happenings), watching.broken, beside)
            await unless(stage.healed(), watching.broken, beside)  # What came last broke, too.
            stage.heal_all()
            await unless(stage.healed(), watching.broken, beside)
            await unless(settled(stage.cluster, within_s=SETTLE_S), watching.broken, beside)
        finally:
            if beside is not None:
                beside.cancel()
                await asyncio.gather(beside, return_exceptions=True)
        watching.end()


def cluster_of(plan: Plan, disk: MemoryDisk | None, options: dict[str, Any]) -> Cluster:
    """Return the cluster a plan asks for, not yet started."""
    return Cluster(
        nodes=plan.nodes,
        seed=plan.seed,
        rest=plan.rest,
        data_dir="/data" if plan.durable else None,
        disk=disk,
        **options,
    )


async def _ended(stage: Stage, happenings: Sequence[Happening]) -> None:
    """Have everything happen. Raises: Unanswered."""
    try:
        async with asyncio.timeout(HAPPEN_S):
            await happen(stage, happenings)
    except TimeoutError:
        text = f"what was to happen is not done after {HAPPEN_S:.0f} s: somebody is not answered"
        raise Unanswered(text) from None


async def happen(stage: Stage, happenings: Sequence[Happening]) -> None:
    """Have everything happen at its time, counted from now."""
    begin = stage.loop.time()

    async def do(happening: Happening) -> None:
        await stage.sleep_until(begin + happening.at_s)
        await happen_now(stage, happening)

    await asyncio.gather(*map(do, happenings))


async def happen_now(stage: Stage, happening: Happening) -> None:
    """Have something happen; that it is refused is noted, and no more."""
    try:
        await happening.happen(stage)
    except (ApiError, ConnectionError) as error:
        stage.note(f"{told_of(happening)}: {error}")


async def unless(work: Coroutine[Any, Any, T], *others: "asyncio.Future[None] | None") -> T:
    """Do some work to its end, unless another ends before: then raise what that raises."""
    also: list[asyncio.Future[Any]] = [other for other in others if other is not None]
    for other in also:
        if other.done():
            work.close()
            other.result()
    task = asyncio.ensure_future(work)
    try:
        either: list[asyncio.Future[Any]] = [task, *also]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for other in also:
            if other.done():
                other.result()
        return task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
