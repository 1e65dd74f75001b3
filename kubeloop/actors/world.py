"""The seam to time and chance: an actor knows both only through its world.

`LoopWorld` is the one implementation. Under simulation the asyncio loop below it is virtual and
the seed is fixed; nothing above it changes.
"""

import asyncio
import random
import time
from collections.abc import Callable, Coroutine
from typing import Any, Protocol


class Timer(Protocol):
    """A call that waits for its time."""

    def cancel(self) -> None:
        """Make sure the call never happens; harmless if it has happened already."""


class World(Protocol):
    """What an actor may not know by itself: the time, chance, and when it runs next."""

    rng: random.Random

    def now(self) -> float:
        """Return seconds on a clock that never goes back; only differences mean anything."""

    def wall(self) -> float:
        """Return seconds since 1970-01-01 UTC, for timestamps that users see."""

    def soon(self, call: Callable[[], None]) -> None:
        """Run `call` once, later, from the loop."""

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Run `call` once, `delay_s` seconds from now."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Start what must await as a task of the loop."""


class Clock:
    """A clock on a wall that may be wrong, in several ways at once."""

    def __init__(self) -> None:
        self._wrongs: list[tuple[float, float, float]] = []

    def go_wrong(
        self, now: float, *, ahead_s: float = 0.0, rate: float = 1.0
    ) -> Callable[[], None]:
        """Be ahead by so much, and from now on faster: so many seconds in one; 0 stands still.

        Returns: what sets it right again.
        """
        wrong = (ahead_s, rate - 1.0, now)
        self._wrongs.append(wrong)

        def end() -> None:
            if wrong in self._wrongs:
                self._wrongs.remove(wrong)

        return end

    def error_s(self, now: float) -> float:
        """Return by how many seconds it is ahead."""
        return sum([ahead + gain * (now - since) for ahead, gain, since in self._wrongs])


class OwnClock:
    """A world like another, but for its clock on the wall: that of one machine."""

    def __init__(self, world: World, clock: Clock) -> None:
        self.rng, self.now, self.soon = world.rng, world.now, world.soon
        self.later, self.spawn = world.later, world.spawn
        self._wall, self._clock = world.wall, clock

    def wall(self) -> float:
        """Return seconds since 1970, as the clock shows it."""
        return self._wall() + self._clock.error_s(self.now())


class LoopWorld:
    """The world of a running asyncio loop.

    seed: makes chance repeatable; None takes it from the operating system.
    wall: the clock on the wall; replaced under simulation.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        seed: int | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.loop = loop
        self.rng = random.Random(seed)
        self.wall = wall
        self.now = loop.time

    def soon(self, call: Callable[[], None]) -> None:
        self.loop.call_soon(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        return self.loop.call_later(delay_s, call)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        return self.loop.create_task(work, name=name)
