"""What happens to the parts of a control plane, and to those on nodes: the actors of a cluster.

An actor that fails is restarted by its supervisor, soon at first, later if it goes on failing. It
knows nothing then, lists and watches again, and what it had read and not yet done is lost.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pykka._envelope import Envelope

from kubeloop.actors.actor import Handle, Pace
from kubeloop.actors.interception import Interceptor
from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import NODES
from kubeloop.chaos.values import FLAG, OneOf, Real, Whole, drawn, kind

WATCHERS: Final = ("scheduler", "controller-manager", "kubelet", "kube-proxy")
ACTORS: Final = OneOf(*WATCHERS, "apiserver")
_OF_NODES: Final = ("kubelet", "kube-proxy")


class CrashTold(Exception):
    """What an actor fails with because a plan says so."""


@dataclass(frozen=True, kw_only=True)
class OfActor(Fault):
    """A fault of one actor. node: whose kubelet or kube-proxy; else it does not matter."""

    actor: str = drawn(ACTORS)
    node: int = drawn(NODES)

    @property
    def name(self) -> str:
        """The actor's name in its cluster."""
        return f"{self.actor}/node-{self.node}" if self.actor in _OF_NODES else self.actor

    def begin(self, stage: Stage) -> Heal | None:
        if not stage.alive or stage.cluster.supervisor.inbox(self.name) is None:
            stage.note(f"{self}: there is no {self.name}")
            return None
        return self.strike(stage)

    def strike(self, stage: Stage) -> Heal | None:
        """Break the actor, which is there; override."""
        raise NotImplementedError


@kind("actor-crashes")
@dataclass(frozen=True, kw_only=True)
class ActorCrashes(OfActor):
    """An actor fails when it reads its nth message from now; its supervisor restarts it.

    done: it fails after that turn, else before: then what it has read is lost.
    """

    nth: int = drawn(Whole(1, 50))
    done: bool = drawn(FLAG)

    def strike(self, stage: Stage) -> Heal:
        crasher = _Crasher(self.nth, done=self.done, tell=lambda: stage.note(f"{self.name} fails"))
        return stage.cluster.supervisor.intercept(self.name, crasher)


@kind("actor-down")
@dataclass(frozen=True, kw_only=True)
class ActorDown(OfActor):
    """An actor fails, and is not restarted before the end; what is sent to it waits."""

    def strike(self, stage: Stage) -> Heal:
        return stage.cluster.supervisor.hold_down(self.name)


@kind("actor-freezes")
@dataclass(frozen=True, kw_only=True)
class ActorFreezes(OfActor):
    """An actor does nothing, and then goes on with what it knew, as after a long pause."""

    def strike(self, stage: Stage) -> Heal:
        return stage.cluster.supervisor.intercept(self.name, _Freezer())


@kind("actor-slow")
@dataclass(frozen=True, kw_only=True)
class ActorSlow(OfActor):
    """Every turn of an actor begins so much later: it acts on what has long been otherwise."""

    delay_s: float = drawn(Real(0.0, 10.0))

    def strike(self, stage: Stage) -> Heal:
        later = stage.loop.call_later
        slow = _Slow(lambda turn: later(self.delay_s, turn))
        return stage.cluster.supervisor.intercept(self.name, slow)


@kind("actor-watch-breaks")
@dataclass(frozen=True, kw_only=True)
class ActorWatchBreaks(OfActor):
    """The connection of an actor to the API server breaks: it lists and watches again."""

    actor: str = drawn(OneOf(*WATCHERS))

    def strike(self, stage: Stage) -> None:
        stage.cluster.watch_anew(self.name)


class _Crasher(Interceptor):
    def __init__(self, nth: int, *, done: bool, tell: Callable[[], None]) -> None:
        self._left, self._done, self._tell = nth, done, tell

    def turn(self, envelopes: Sequence[Envelope[Any]], handle: Handle) -> None:
        before, self._left = self._left, self._left - len(envelopes)
        if not self._left <= 0 < before:
            handle(envelopes)
            return
        if self._done:
            handle(envelopes)
        self._tell()
        raise CrashTold("the plan says so")


class _Freezer(Interceptor):
    def __init__(self) -> None:
        self._due: list[tuple[Callable[[], None], Pace]] = []

    def due(self, turn: Callable[[], None], soon: Pace) -> None:
        self._due.append((turn, soon))

    def ended(self) -> None:
        for turn, soon in self._due:
            soon(turn)


class _Slow(Interceptor):
    def __init__(self, later: Callable[[Callable[[], None]], object]) -> None:
        self._later = later

    def due(self, turn: Callable[[], None], soon: Pace) -> None:
        self._later(lambda: soon(turn))
