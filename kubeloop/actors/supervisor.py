"""The supervisor of one cluster: it starts actors by name and restarts those that fail.

Actors of one cluster know each other through their supervisor only. pykka's process-wide registry
is not used, so two clusters in one process never meet, and stopping one stops nothing else.

A successor adopts the mailbox of the actor that failed: what was not yet read is not lost. What the
failed turn had read is; whoever needs it learns again by list + watch.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, cast

from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, AsyncFuture, Inbox, Scene
from kubeloop.actors.interception import Interceptor, Interceptors
from kubeloop.actors.world import Timer, World

BACKOFF_MIN_S: Final = 0.01
BACKOFF_MAX_S: Final = 10.0
QUIET_S: Final = 60.0  # After so long without a failure the back-off starts over.

logger = logging.getLogger("kubeloop.actors")

Factory = Callable[[Scene, str], AsyncActor]


class Attendant(Protocol):
    """Attends whenever an actor begins."""

    def scene(self, real: Scene) -> Scene:
        """Return the scene it is to be made in."""

    def made(self, actor: AsyncActor) -> None:
        """Hear that it was made, and begins next."""

    def began(self) -> None:
        """Hear that it has begun."""


def backoff_s(failures: int) -> float:
    """Return the pause before restart number `failures` (from 1): doubling, bounded."""
    assert failures >= 1
    return float(min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(failures - 1, 30)))


class NoSuchActor(Exception):
    """Nobody in this cluster has that name."""


@dataclass(slots=True)
class _Scene:
    """The scene as an actor sees it that lives in a world of its own."""

    world: World
    inbox: Callable[[str], Inbox | None]
    crashed: Callable[[AsyncActor, Exception], None]


class Supervisor:
    """Starts, restarts and stops the actors of one cluster. Implements `actor.Scene`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.restarts: dict[str, int] = {}
        self._factories: dict[str, Factory] = {}
        self._scenes: dict[str, Scene] = {}
        self._inboxes: dict[str, Inbox] = {}
        self._doors: dict[str, Inbox] = {}  # The mailboxes, as others see them.
        self._interceptors: dict[str, list[Interceptor]] = {}
        self._attendants: dict[str, Attendant] = {}
        self._actors: dict[str, AsyncActor] = {}
        self._asked: dict[str, dict[AsyncFuture, None]] = {}
        self._failures: dict[str, tuple[int, float]] = {}
        self._timers: dict[str, Timer] = {}
        self._held: dict[str, list[object]] = {}
        self._stopping = False

    def start(self, name: str, factory: Factory, *, world: World | None = None) -> None:
        """Start the actor `factory(scene, name)`; `name` must be free.

        world: as it is for this actor, if it is not as for all.
        Raises: what the factory raises; what `on_start` raises is a crash like any other.
        """
        assert name not in self._factories, f"{name} is started already"
        self._factories[name] = factory
        if world is not None:
            self._scenes[name] = _Scene(world, self.inbox, self.crashed)
        self._inboxes[name] = Inbox()
        self._intercept(name)
        self._asked[name] = {}
        try:
            self._launch(name)
        except BaseException:  # The factory failed: to whoever called it belongs the name again.
            self.stop(name)
            raise

    def inbox(self, name: str) -> Inbox | None:
        return self._doors.get(name)

    def actor(self, name: str) -> AsyncActor | None:
        """Return the actor running under `name`; None while it waits to be restarted."""
        return self._actors.get(name)

    def names(self) -> list[str]:
        """Return the names of all actors, in the order they were started."""
        return list(self._factories)

    def tell(self, name: str, message: bytes) -> None:
        """Send from outside any actor. Raises: NoSuchActor, MailboxFull."""
        self._mailbox(name).put(Envelope(message))

    async def ask(self, name: str, message: bytes) -> Any:
        """Send from outside any actor and return the answer.

        Raises: NoSuchActor (also if it is stopped before it answers), MailboxFull, ActorFailed.
        """
        answer = AsyncFuture()
        self._mailbox(name).put(Envelope(message, reply_to=answer))
        asked = self._asked[name]
        asked[answer] = None
        try:
            return await cast("Awaitable[Any]", answer)
        finally:
            del asked[answer]

    def crash(self, name: str, error: Exception) -> None:
        """Make the actor called `name` fail now, as if its turn had raised `error`."""
        actor = self._actors.get(name)
        if actor is not None:
            actor._fail(error)

    def intercept(self, name: str, interceptor: Interceptor) -> Callable[[], None]:
        """Put something in the way of the actor of that name, whoever has it from now on.

        Returns: what takes it out of the way again; harmless if it is.
        """
        chain = self._interceptors.setdefault(name, [])
        interceptor.over = False
        chain.append(interceptor)
        self._intercept(name)

        def end() -> None:
            if interceptor in chain:
                chain.remove(interceptor)
                self._intercept(name)
                interceptor.over = True
                interceptor.ended()

        return end

    def attend(self, name: str, attendant: Attendant) -> Callable[[], None]:
        """Have somebody attend whenever the actor of that name begins; one only.

        Returns: what ends that; harmless if it is over.
        """
        self._attendants[name] = attendant

        def end() -> None:
            if self._attendants.get(name) is attendant:
                del self._attendants[name]

        return end

    def renew(self, name: str) -> None:
        """Have the actor called `name` begin anew, as after a failure, but at once.

        One that waits to be restarted goes on waiting.
        """
        actor = self._actors.pop(name, None)
        if actor is not None:
            actor.finish()
            self._relaunch(name)

    def hold_down(self, name: str) -> Callable[[], None]:
        """Have the actor of that name fail now, and not start again until it is let go.

        Returns: what lets it go. Meanwhile messages wait for it.
        """
        hold = object()
        self._held.setdefault(name, []).append(hold)
        self.crash(name, RuntimeError(f"{name} is held down"))

        def let_go() -> None:
            held = self._held.get(name, [])
            if hold in held:
                held.remove(hold)
                if not held and name in self._factories and name not in self._actors:
                    self._restart_in(0.0, name)

        return let_go

    def crashed(self, actor: AsyncActor, error: Exception) -> None:
        name = actor.name
        if self._actors.get(name) is not actor:
            return
        del self._actors[name]
        if not self._stopping and name in self._factories:
            self._restart(name, error)

    def _restart(self, name: str, error: Exception) -> None:
        count, last = self._failures.get(name, (0, 0.0))
        count = 1 if self.world.now() - last > QUIET_S else count + 1
        self._failures[name] = (count, self.world.now())
        self.restarts[name] = self.restarts.get(name, 0) + 1
        pause_s = backoff_s(count)
        logger.warning("%s failed; restart in %.2f s", name, pause_s, exc_info=error)
        self._restart_in(pause_s, name)

    def _restart_in(self, pause_s: float, name: str) -> None:
        if timer := self._timers.pop(name, None):
            timer.cancel()
        self._timers[name] = self.world.later(pause_s, lambda: self._relaunch(name))

    def _relaunch(self, name: str) -> None:
        if self._held.get(name):
            return  # Whoever holds it down will have it start.
        try:
            self._launch(name)
        except Exception as error:  # noqa: BLE001 - a factory may fail in any way, like a turn.
            self._restart(name, error)

    def busy(self) -> str | None:
        """Return what some actor still has to do, None if nobody has anything; see `settling`."""
        for name in self._factories:
            actor = self._actors.get(name)
            if actor is None:
                return f"{name} has failed, and will be restarted"
            if (what := actor.busy()) is not None:
                return f"{name} {what}"
        return None

    def stop(self, name: str) -> None:
        """Stop one actor for good; its name is free again."""
        if timer := self._timers.pop(name, None):
            timer.cancel()
        del self._factories[name]
        self._scenes.pop(name, None)
        actor = self._actors.pop(name, None)
        if actor is not None:
            actor.finish()
        self._refuse(name)

    def stop_all(self) -> None:
        """Stop every actor, the last started first."""
        self._stopping = True
        for name in reversed(self.names()):
            self.stop(name)

    def _mailbox(self, name: str) -> Inbox:
        inbox = self._doors.get(name)
        if inbox is None:
            raise NoSuchActor(f"no actor is called {name!r}; there are {self.names()}")
        return inbox

    def _launch(self, name: str) -> None:
        attendant = self._attendants.get(name)
        scene = self._scenes.get(name, self)
        if attendant is not None:
            scene = attendant.scene(scene)
        actor = self._factories[name](scene, name)
        actor.actor_inbox = actor.actor_ref.actor_inbox = self._inboxes[name]
        self._actors[name] = actor
        self._intercept(name)
        if attendant is not None:
            attendant.made(actor)
        try:
            actor._start_actor_loop()
        except Exception as error:  # noqa: BLE001 - a start may fail in any way, like a turn.
            actor._fail(error)
        if attendant is not None:
            attendant.began()

    def _intercept(self, name: str) -> None:
        """Put what intercepts an actor in its way, and nothing if nothing does."""
        inbox, actor = self._inboxes.get(name), self._actors.get(name)
        found = Interceptors(chain) if (chain := self._interceptors.get(name)) else None
        if inbox is not None:
            self._doors[name] = inbox if found is None else found.door(inbox)
        if actor is None:
            return
        if found is None:
            actor.reach, actor.pace, actor.around = self.inbox, None, None
        else:
            actor.reach, actor.around = found.reach(self.inbox), found.around
            actor.pace = partial(found.pace, actor.world.soon)

    def _refuse(self, name: str) -> None:
        """Answer those who still wait for an actor that is gone, and let blocked senders go on."""
        inbox = self._inboxes.pop(name)
        del self._doors[name]
        inbox.envelopes.clear()
        inbox.drained()
        gone = NoSuchActor(f"{name} has stopped")
        for answer in tuple(self._asked.pop(name)):
            answer.set_exception((NoSuchActor, gone, gone.__traceback__))
