"""The switchboard of a simulated cluster: every message is held until somebody lets it go on.

Between any two who talk there is a line. Actors put their messages on it through an `Interceptor`,
programs that use a `Client` through the cluster's gate: what they ask, what they are answered, and
each fact of each of their watches. When nothing is ready any more the loop asks the switchboard,
and the switchboard asks its operator which line is next; so all that happens because of one message
happens before the next one goes on. Time passes only when nothing is held, unless it is told that
it may at any time.
"""

import asyncio
import random
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.interception import Deliver, Interceptor
from kubeloop.actors.messages import API_SERVER, Facts, Outcome, Request, decode
from kubeloop.chaos.orders import EVERYWHERE, Choose, Move
from kubeloop.net.gate import Feed, Open, Pass, Wake, Wanted
from kubeloop.store.facts import Fact

if TYPE_CHECKING:
    from kubeloop.actors.actor import AsyncActor, Pace, Scene
    from kubeloop.actors.world import World
    from kubeloop.cluster import Cluster
    from kubeloop.sim.loop import SimLoop

TIME: Final = "time"  # The line of the clock.
READS: Final = ("get", "list")
_TAKE: Final = 100_000


@dataclass(frozen=True, slots=True)
class Ways:
    """How freely messages and turns may be ordered.

    turns:  "each": an actor has a turn for each message; "any": it may take any number at once.
    wires:  "one": what the API server tells an actor arrives in order, as in this process; "two":
            answers and facts do not wait for each other, as over the network.
    timers: "rest": time passes only when nothing else can happen; "any": whenever it likes.
    hidden: what is written of these resources is thrown away: nobody reads it.
    """

    turns: Literal["each", "any"] = "each"
    wires: Literal["one", "two"] = "one"
    timers: Literal["rest", "any"] = "rest"
    hidden: tuple[str, ...] = ("events",)


@dataclass(slots=True)
class _Held:
    """What is held: the move that lets it go on, how old it is, and how that is done."""

    move: Move
    age: int
    go: Callable[[], None]


class Switchboard:
    """Holds all messages of a cluster, from `begin` on. Implements `net.Gate`.

    choose:  says which goes on.
    over:    tells, when nothing is held, whether the run is at its end.
    check:   raises what is wrong.
    made:    the moves made so far.
    ended:   done when the run is over; False if it was cut off.
    """

    def __init__(
        self,
        loop: "SimLoop",
        cluster: "Cluster",
        choose: Choose,
        *,
        ways: Ways,
        over: Callable[[], bool],
        check: Callable[[], None],
    ) -> None:
        self.cluster, self.ways, self._loop = cluster, ways, loop
        self.made: list[Move] = []
        self.ended: asyncio.Future[bool] = loop.create_future()
        self._choose, self._over, self._check = choose, over, check
        self._lines: dict[str, deque[_Held]] = {}
        self._feeds: list[_Feed] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened: Counter[str] = Counter()  # Watches, by program.
        self._count = 0
        self._published: list[int] = []  # The newest durable revision after each move.

    def begin(self) -> None:
        """Hold everything from now on."""
        supervisor = self.cluster.supervisor
        for name in supervisor.names():
            supervisor.intercept(name, _Plug(self, name))
        self._before = self.cluster.store.durable
        self.cluster.gate = self
        self._loop.at_rest = self._at_rest

    def end(self) -> None:
        """Hold nothing any more; what is held is lost."""
        self._loop.at_rest = None
        self._lines.clear()

    def hold(
        self,
        line: str,
        place: str,
        what: object,
        go: Callable[[], None],
        *,
        looks: bool = False,
        cause: int | None = None,
    ) -> None:
        """Put something on a line. cause: of the moves, what else has made it possible."""
        causes = {len(self.made) - 1, -1 if cause is None else cause} - {-1}
        self._count += 1
        move = Move(line, place, what, tuple(sorted(causes)), looks)
        self._lines.setdefault(line, deque()).append(_Held(move, self._count, go))

    # What moves it.

    def _at_rest(self) -> bool:
        """Let something go on; tell whether anything may be ready now."""
        if self.ended.done():
            return False
        try:
            return self._move_on()
        except Exception as error:  # noqa: BLE001 - whoever waits for the end hears of it.
            self.ended.set_exception(error)
            return True

    def _move_on(self) -> bool:
        durable = self.cluster.store.durable
        self._published += [durable] * (len(self.made) - len(self._published))
        self._check()
        for feed in self._feeds:
            feed.pump()
        waiting = sorted((line[0] for line in self._lines.values() if line), key=_age)
        moves = [held.move for held in waiting]
        if not moves and self._over():
            self.ended.set_result(True)
            return True
        any_time = self.ways.timers == "any" and self._loop.next_timer() is not None
        if not moves or any_time:
            moves.append(Move(TIME, EVERYWHERE, "passes"))
        move = self._choose(moves)
        if move is None:
            self.ended.set_result(False)
            return True
        self.made.append(move)
        if move.line == TIME:
            return False
        self._lines[move.line].popleft().go()
        return True

    def publisher(self, fact: Fact) -> int | None:
        """Return the number of the move that published a fact; None if it was before all."""
        if fact.revision <= self._before:
            return None
        number = bisect_left(self._published, fact.revision)
        return number if number < len(self.made) else None

    # Actors.

    def said(self, name: str, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        """Take a message of an actor to another."""
        message = decode(envelope.message)
        line, looks = f"{name} → {to}", False
        if isinstance(message, Request):
            if message.resource in self.ways.hidden and not message.tag:
                return
            looks = message.verb in READS
        elif self.ways.wires == "two" and not isinstance(message, Outcome):
            line += " (watch)"
        self.hold(line, to, _Told(message), partial(deliver, envelope), looks=looks)

    def due(self, name: str, turn: Callable[[], None], soon: "Pace") -> None:
        """Have a turn of an actor begin."""
        if self.ways.turns == "each":
            soon(turn)
        else:
            self.hold(f"{name} takes a turn", name, "", partial(soon, turn))

    # Programs.

    async def ask(self, request: Request, pass_on: Pass) -> Outcome:
        """Answer a request, when it may go on, and its answer may.

        What was asked goes on, also if whoever asked waits no more: it is on its way.
        """
        answer: asyncio.Future[Outcome] = self._loop.create_future()

        def go() -> None:
            task = self._loop.create_task(self._serve(request, pass_on, answer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        line, looks = f"{request.agent} → {API_SERVER}", request.verb in READS
        self.hold(line, API_SERVER, _Told(request), go, looks=looks)
        return await answer

    async def _serve(
        self, request: Request, pass_on: Pass, answer: "asyncio.Future[Outcome]"
    ) -> None:
        try:
            outcome = await pass_on(request)
        except ConnectionError as error:  # The cluster has ended.
            if not answer.done():
                answer.set_exception(error)
            return
        line = f"{API_SERVER} → {request.agent}"
        self.hold(line, request.agent, _Told(outcome), partial(_settle, answer, outcome))

    async def open(self, wanted: Wanted, wake: Wake, pass_on: Open) -> Feed:
        """Open a watch, which is told one fact after the other."""
        self._opened[wanted.agent] += 1
        feed = _Feed(self, wanted, wake, self._opened[wanted.agent])
        feed.cursor = pass_on(wanted, feed.woken)
        self._feeds.append(feed)
        return feed

    def closed(self, feed: "_Feed") -> None:
        """Hear that a watch reads no more; what is held for it goes on, and to nobody."""
        if feed in self._feeds:
            self._feeds.remove(feed)


class _Plug(Interceptor):
    """Stands in the way of one actor."""

    def __init__(self, board: Switchboard, name: str) -> None:
        self._board, self._name = board, name

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        self._board.said(self._name, to, envelope, deliver)

    def due(self, turn: Callable[[], None], soon: "Pace") -> None:
        self._board.due(self._name, turn, soon)


class _Feed:
    """What one watch of a program is shown. Implements `net.Feed`."""

    def __init__(self, board: Switchboard, wanted: Wanted, wake: Wake, number: int) -> None:
        self.revision = wanted.revision
        self.cursor: Feed
        self._board, self._wake, self._place = board, wake, wanted.agent
        self._line = f"{API_SERVER} → {wanted.agent} (watch {number})"
        self._shown: list[Fact] = []

    def woken(self) -> None:
        """Hear that something was published: it is taken when nothing is ready."""

    def pump(self) -> None:
        """Put on the line what was published."""
        for fact in self.cursor.take(_TAKE):
            self._board.hold(
                self._line,
                self._place,
                _Shown(fact),
                partial(self._show, fact),
                cause=self._board.publisher(fact),
            )

    def _show(self, fact: Fact) -> None:
        self._shown.append(fact)
        self._wake()

    # What a watch needs.

    @property
    def behind(self) -> bool:
        """Whether there is something to take."""
        return bool(self._shown)

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts."""
        facts, self._shown = self._shown[:limit], self._shown[limit:]
        if facts:
            self.revision = facts[-1].revision
        return facts

    def close(self) -> None:
        """Ask for no more."""
        self._board.closed(self)
        self.cursor.close()


class OwnChance:
    """Attends an actor: it draws its chance from a source of its own.

    Else what one draws would depend on how often another has drawn before.
    """

    def __init__(self, seed: str) -> None:
        self._chance = random.Random(seed)

    def scene(self, real: "Scene") -> "Scene":
        """Return the scene it is to be made in."""
        return _OwnScene(real, self._chance)

    def made(self, actor: "AsyncActor") -> None:
        """Hear that it was made."""

    def began(self) -> None:
        """Hear that it has begun."""


class _OwnScene:
    def __init__(self, real: "Scene", chance: random.Random) -> None:
        self.world: World = _OwnWorld(real.world, chance)
        self.inbox, self.crashed = real.inbox, real.crashed


class _OwnWorld:
    def __init__(self, world: "World", chance: random.Random) -> None:
        self.rng, self.now, self.wall = chance, world.now, world.wall
        self.soon, self.later, self.spawn = world.soon, world.later, world.spawn


class _Told:
    """What a message says, for people; it costs nothing if nobody wants to know."""

    def __init__(self, message: object) -> None:
        self._message = message

    def __str__(self) -> str:
        message = self._message
        if isinstance(message, Request):
            parts = (message.resource, message.name or _name_in(message), message.subresource)
            return f"{message.verb} {'/'.join(filter(None, parts))}"
        if isinstance(message, Outcome):
            return _answer(message)
        if isinstance(message, Facts):
            return ", ".join(str(_Shown(fact)) for fact in message.facts())
        return type(message).__name__.lower()


class _Shown:
    """What a fact says, for people."""

    def __init__(self, fact: Fact) -> None:
        self._fact = fact

    def __str__(self) -> str:
        _, _, *parts = self._fact.key.split("/")
        gone = " is gone" if self._fact.value is None else ""
        return f"{'/'.join(parts)}{gone} (revision {self._fact.revision})"


def _name_in(request: Request) -> str:
    if request.verb != "create" or not request.body:
        return ""
    metadata = msgpack.unpackb(request.body).get("metadata") or {}
    return str(metadata.get("name") or f"{metadata.get('generateName', '')}…")


def _answer(outcome: Outcome) -> str:
    if outcome.code < 400:
        return f"{outcome.code} at revision {outcome.revision}"
    return f"{outcome.code} {msgpack.unpackb(outcome.body).get('reason', '')}"


def _age(held: _Held) -> int:
    return held.age


def _settle(answer: "asyncio.Future[Outcome]", outcome: Outcome) -> None:
    if not answer.done():  # Whoever asked may have been cancelled.
        answer.set_result(outcome)
