"""What a simulation did, callback by callback: as a hash, and in detail where it is wanted.

Two runs with the same seed must have the same trace. If they have not, the checkpoints tell between
which callbacks they part, and a second run records those in detail: see `sim.checker`.
"""

import asyncio
import ctypes
import random
from collections import deque
from collections.abc import Callable
from functools import partial
from hashlib import blake2b
from typing import Final, NamedTuple, Protocol

from kubeloop.sim.naming import cycle_text, handle_name, outer_frames

CHECKPOINT: Final = 256  # Callbacks from one checkpoint to the next.
_STACK_MAX: Final = 8


class Observer(Protocol):
    """Who is told of every callback."""

    def scheduled(self, handle: asyncio.Handle) -> None:
        """Hear that a callback was made ready, or a timer set."""

    def begins(self, handle: asyncio.Handle, now: float) -> None:
        """Hear that it runs next."""

    def ended(self) -> None:
        """Hear that it has run."""


class Step(NamedTuple):
    """One callback.

    number: from 0.
    now:    seconds since the simulation began.
    name:   of the task or the function.
    drawn:  how much chance had been drawn when it had ended, as `Trace` counts it.
    origin: where it was scheduled: places in files, innermost first.
    """

    number: int
    now: float
    name: str
    drawn: str
    origin: tuple[str, ...]


class Trace:
    """An observer that hashes name, time and chance drawn of every callback.

    detail: the numbers of the callbacks to record in `recorded`, with where they were scheduled.

    Cost: some 2 µs per callback; with a detail some 20 µs more.
    """

    def __init__(self, detail: range = range(0)) -> None:
        self.detail, self.recorded = detail, list[Step]()
        self.steps = 0
        self.checkpoints: list[bytes] = []
        self.draws = 0  # From the chance of the loop; see `Counted`.
        self._hash = blake2b(digest_size=16)
        self._shared = position_of(random._inst)
        self._origins: dict[int, tuple[str, ...]] = {}
        self._current = "", 0.0, tuple[str, ...]()

    @property
    def digest(self) -> str:
        """The hash of all callbacks so far, in hexadecimal."""
        return self._hash.hexdigest()

    def chance(self, seed: str) -> random.Random:
        """Return a source of chance that is part of the trace."""
        return Counted(seed, self._drew)

    def _drew(self) -> None:
        self.draws += 1

    def scheduled(self, handle: asyncio.Handle) -> None:
        if self.detail and self.steps < self.detail.stop:
            self._origins[id(handle)] = tuple(outer_frames(_STACK_MAX))

    def begins(self, handle: asyncio.Handle, now: float) -> None:
        origin = self._origins.pop(id(handle), ()) if self.detail else ()
        self._current = handle_name(handle), now, origin

    def ended(self) -> None:
        name, now, origin = self._current
        drawn = f"{self.draws}/{self._shared()}"
        self._hash.update(f"{now!r} {drawn} {name}\n".encode())
        if self.steps in self.detail:
            self.recorded.append(Step(self.steps, now, name, drawn, origin))
        self.steps += 1
        if self.steps % CHECKPOINT == 0:
            self.checkpoints.append(self._hash.digest()[:8])


def position_of(chance: random.Random) -> Callable[[], int]:
    """Return what tells how far a source of chance has gone: another number after each draw.

    It is in the state, which is 625 numbers; so it is read where CPython keeps it, if it is there.
    Source: CPython's Modules/_randommodule.c, RandomObject.
    """

    def slow() -> int:
        return int(chance.getstate()[1][-1])

    probe, seen = random.Random(1), set[bool]()
    for _ in range(3):
        probe.random()
        seen.add(_index(probe).value == probe.getstate()[1][-1])
    return slow if False in seen else partial(getattr, _index(chance), "value")


def _index(chance: random.Random) -> ctypes.c_int:
    return ctypes.c_int.from_address(id(chance) + object.__basicsize__)


class Counted(random.Random):
    """A source of chance that tells each time something is drawn; it draws as any other."""

    def __init__(self, seed: str, drew: Callable[[], None]) -> None:
        self._drew = drew
        super().__init__(seed)

    def random(self) -> float:
        self._drew()
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        self._drew()
        return super().getrandbits(k)


class Wakes:
    """An observer that knows who scheduled whom lately: to tell what a livelock is made of."""

    def __init__(self) -> None:
        self.wakes: deque[tuple[str, str]] = deque(maxlen=10_000)
        self._wakers: dict[int, str] = {}
        self._current = "the outside"

    def scheduled(self, handle: asyncio.Handle) -> None:
        self._wakers[id(handle)] = self._current

    def begins(self, handle: asyncio.Handle, now: float) -> None:
        self._current = handle_name(handle)
        waker = self._wakers.pop(id(handle), None)
        if waker is not None:
            self.wakes.append((waker, self._current))

    def ended(self) -> None:
        """Nothing to be done."""

    def text(self) -> str:
        """Return the cycle gone through most, one line each."""
        return cycle_text(self.wakes)
