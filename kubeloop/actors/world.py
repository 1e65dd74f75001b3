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
