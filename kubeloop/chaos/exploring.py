"""Exploring: a small scenario is run in every order of its messages that matters.

    explored = chaos.explore(chaos.Scenario(users={"alice": alice, "bob": bob}, monitors=rules))
    assert explored.complete, explored

Each run is a cluster of its own in a simulation of its own. It is set up in asyncio's order, and
comes to rest; from then on the switchboard holds every message, and the search says which goes on.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.actors.settling import NotSettled
from kubeloop.actors.supervisor import Factory
from kubeloop.chaos.orders import Bounds, Choose, Move, NotTheSame, Search, Walk, needed
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.switchboard import OwnChance, Switchboard, Ways
from kubeloop.chaos.watching import Broken, Monitor, Watching
from kubeloop.cluster import Cluster
from kubeloop.net.client import Client
from kubeloop.sim.loop import SimLoop, SimulationError, run

WITHIN_S: Final = 60.0  # Of virtual time: what is not over by then never will be.
_SET_UP_S: Final = 600.0
_QUIET_S: Final = 0.01
_ACTORS: Final = ("apiserver", "controller-manager", "scheduler")

Part = Callable[[Client], Coroutine[Any, Any, Any]]
"""What somebody does, with a client of his own."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is run in every order.

    users:     who do something once, by name: the run is over when they have, and nobody has
               anything left to do. That one raises an error breaks the run.
    operators: who run beside them and never end.
    setup:     what is there before, done before anything is held.
    actors:    more actors of the cluster, by name;  absent: those that are not there, after the
               setup: what they would do makes no difference to what is looked for.
    monitors:  make those who watch a run.
    nodes, options, seed: of the cluster.
    ways:      how freely messages may be ordered.
    within_s:  how much virtual time a run may take.
    """

    users: Mapping[str, Part]
    operators: Mapping[str, Part] = field(default_factory=dict)
    setup: Part | None = None
    actors: Mapping[str, Factory] = field(default_factory=dict)
    absent: Sequence[str] = ()
    monitors: Callable[[], Sequence[Monitor]] = tuple
    nodes: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    ways: Ways = field(default_factory=Ways)
    within_s: float = WITHIN_S


@dataclass(frozen=True, slots=True)
class Ordering:
    """An order in which something is broken.

    monitor: the name of who saw it;  text: what was seen.
    moves:   what was done until then;  overtaken: for each, what waited longer, if something did.
    """

    monitor: str
    text: str
    moves: tuple[Move, ...]
    overtaken: tuple[Move | None, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """What `follow` takes to have the same run again."""
        return tuple(move.line for move in self.moves)

    def __str__(self) -> str:
        """Return what is broken, each move that led to it, and what was held back meanwhile."""
        wide = max([0, *(len(line) for line in self.lines)])
        rows, waits = list[str](), None
        for number, (move, older) in enumerate(zip(self.moves, self.overtaken, strict=True), 1):
            if older is not None and (waits is None or older.line != waits.line):
                rows.append(f"       held back: {older.line}  {older.what}")
            waits = older
            rows.append(f"  {number:3}  {move.line:{wide}}  {move.what}".rstrip())
        return "\n".join([f"{self.monitor}: {self.text}", f"after {len(self.moves)} moves:", *rows])


@dataclass(frozen=True, slots=True)
class Explored:
    """How far an exploration has come.

    runs:    to their end, each in an order that matters;  cut: those cut off, for they were going
             to repeat another.
    moves:   made in all of them;  longest: in one.
    bounded: what it was not complete for: "executions", "depth", "delays".
    found:   the first order in which something is broken, made short; it ends the exploration.
    """

    runs: int
    cut: int
    moves: int
    longest: int
    bounded: tuple[str, ...] = ()
    found: Ordering | None = None

    @property
    def complete(self) -> bool:
        """Whether every order was run, and nothing is broken in any."""
        return self.found is None and not self.bounded

    def __str__(self) -> str:
        """Return a report."""
        how = f"{self.runs} orders were run, {self.cut} were cut off as repetitions"
        size = f"at most {self.longest} moves in one"
        if self.found is not None:
            return f"{self.found}\n{how}, {size}"
        if self.bounded:
            return f"not complete, for it was bounded by {', '.join(self.bounded)}: {how}, {size}"
        return f"complete: {how}, {size}"


def explore(scenario: Scenario, bounds: Bounds | None = None) -> Explored:
    """Run a scenario in every order that matters, until something is broken.

    Raises: NotTheSame if its parts are not decided by what they are told.
    """
    search = Search(bounds)
    while search.more():
        ran = _run(scenario, search.choose)
        if ran.broken is not None:
            found = _shortest(scenario, ran)
            made = len(ran.moves)
            longest = max(search.longest, made)
            runs, moves = search.runs + 1, search.moves + made
            return Explored(runs, search.cut, moves, longest, tuple(search.bounded), found)
    bounded = tuple(search.bounded)
    return Explored(search.runs, search.cut, search.moves, search.longest, bounded)


def follow(scenario: Scenario, lines: Sequence[str]) -> Ordering | None:
    """Run a scenario in one order: these lines, then whatever waits longest; return what breaks.

    Raises: NotTheSame if nothing waits on a line when it is to be next.
    """
    ran = _run(scenario, _Follow(lines, strict=True))
    return None if ran.broken is None else ran.ordering()


def count_orders(scenario: Scenario, *, samples: int = 20) -> float:
    """Return about how many orders a scenario has, as `samples` walks by chance make it."""
    chance, found = random.Random(scenario.seed), []
    for _ in range(samples):
        walk = Walk(chance.randrange)
        _run(scenario, walk)
        found.append(walk.orders)
    return sum(found) / samples


@dataclass(slots=True)
class _Ran:
    """One run. broken: who saw what, None if nothing is broken."""

    moves: list[Move] = field(default_factory=list)
    overtaken: list[Move | None] = field(default_factory=list)
    broken: tuple[str, str] | None = None

    def ordering(self) -> Ordering:
        assert self.broken is not None
        return Ordering(*self.broken, tuple(self.moves), tuple(self.overtaken))


class _Follow:
    """Chooses lines one after the other, then what waits longest.

    strict: whether each must be there; else it is left out.
    """

    def __init__(self, lines: Sequence[str], *, strict: bool) -> None:
        self._lines, self._strict = list(reversed(lines)), strict

    def __call__(self, moves: Sequence[Move]) -> Move:
        while self._lines:
            line = self._lines.pop()
            for move in moves:
                if move.line == line:
                    return move
            if self._strict:
                waiting = ", ".join(move.line for move in moves)
                raise NotTheSame(f"nothing waits on {line!r}, but on {waiting}")
        return moves[0]


class _Player:
    """Has one run."""

    def __init__(self, scenario: Scenario, choose: Choose) -> None:
        self.scenario, self._choose = scenario, choose
        self.ran = _Ran()
        self._tasks: dict[str, asyncio.Task[Any]] = {}

    async def main(self) -> None:
        loop, scenario = asyncio.get_running_loop(), self.scenario
        assert isinstance(loop, SimLoop)
        cluster = Cluster(nodes=scenario.nodes, seed=scenario.seed, **scenario.options)
        try:
            await cluster.prepare()
            self._separate(cluster)
            await cluster.start()
            for name, factory in scenario.actors.items():
                cluster.supervisor.start(name, factory)
            if scenario.setup is not None:
                await scenario.setup(Client(cluster))
            await cluster.settled(within_s=_SET_UP_S, quiet_s=_QUIET_S)
            for name in scenario.absent:
                cluster.supervisor.stop(name)
            await self._watch(Watching(Stage(loop, cluster), scenario.monitors()))
        finally:
            await cluster.stop()

    def _separate(self, cluster: Cluster) -> None:
        """Give each actor chance of its own."""
        nodes = [f"node-{index}" for index in range(1, self.scenario.nodes + 1)]
        of_nodes = [f"{part}/{node}" for node in nodes for part in ("kubelet", "kube-proxy")]
        for name in (*_ACTORS, *of_nodes, *self.scenario.actors):
            cluster.supervisor.attend(name, OwnChance(f"{name} {self.scenario.seed}"))

    async def _watch(self, watching: Watching) -> None:
        stage, scenario = watching.stage, self.scenario
        board = Switchboard(
            stage.loop,
            stage.cluster,
            self._chosen,
            ways=scenario.ways,
            over=lambda: self._is_over(stage),
            check=lambda: self._check(watching),
        )
        self.ran.moves, self._late_s = board.made, stage.loop.time() + scenario.within_s
        try:
            watching.begin()
            board.begin()
            for name, part in (*scenario.users.items(), *scenario.operators.items()):
                self._tasks[name] = asyncio.ensure_future(part(Client(stage.cluster, agent=name)))
            if await board.ended:
                watching.end()
        except Broken as error:
            self.ran.broken = watching.culprit or "program", str(error)
        finally:
            board.end()
            watching.close()
            for task in self._tasks.values():
                task.cancel()
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _chosen(self, moves: Sequence[Move]) -> Move | None:
        move = self._choose(moves)
        if move is not None:
            self.ran.overtaken.append(None if move is moves[0] else moves[0])
        return move

    def _check(self, watching: Watching) -> None:
        """Raise what is wrong by now. Raises: Broken."""
        watching.check()
        watching.culprit = ""
        for name, task in self._tasks.items():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                raise Broken(f"{name} failed: {type(error).__name__}: {error}") from error
        if watching.stage.loop.time() > self._late_s:
            busy = watching.stage.cluster.supervisor.busy() or self._waiting()
            raise Broken(f"it is not over after {self.scenario.within_s:g} s: {busy}")

    def _waiting(self) -> str:
        names = [name for name in self.scenario.users if not self._tasks[name].done()]
        return f"{', '.join(names)} not done" if names else "messages go on and on"

    def _is_over(self, stage: Stage) -> bool:
        users = (self._tasks[name] for name in self.scenario.users)
        return all(task.done() for task in users) and stage.cluster.supervisor.busy() is None


def _run(scenario: Scenario, choose: Choose) -> _Ran:
    player = _Player(scenario, choose)
    try:
        run(player.main, seed=scenario.seed)
    except NotSettled as error:
        raise ValueError(f"the scenario has no rest to begin with: {error}") from error
    except SimulationError as error:
        player.ran.broken = type(error).__name__, str(error)
    return player.ran


def _shortest(scenario: Scenario, ran: _Ran) -> Ordering:
    """Return an order that breaks the same, with as few moves and overtakings as are found."""
    assert ran.broken is not None
    monitor = ran.broken[0]

    def breaks(lines: Sequence[str]) -> _Ran | None:
        tried = _run(scenario, _Follow(lines, strict=False))
        return tried if tried.broken is not None and tried.broken[0] == monitor else None

    lines = [move.line for move in needed(ran.moves)]
    best = breaks(lines)
    if best is None or len(best.moves) > len(ran.moves):
        best, lines = ran, [move.line for move in ran.moves]
    for length in range(len(lines)):  # After that, whatever waits longest will do.
        shorter = breaks(lines[:length])
        if shorter is not None:
            best, lines = shorter, lines[:length]
            break
    for index in reversed(range(len(lines))):
        without = lines[:index] + lines[index + 1 :]
        shorter = breaks(without)
        if shorter is not None and len(shorter.moves) <= len(best.moves):
            best, lines = shorter, without
    lines = [move.line for move in needed(best.moves)]
    for index in reversed(range(len(lines) + 1)):  # First with all of them, then without one each.
        without = lines[:index] + lines[index + 1 :]
        shorter = breaks(without)
        if shorter is not None and len(shorter.moves) < len(best.moves):
            best, lines = shorter, without
    return best.ordering()
