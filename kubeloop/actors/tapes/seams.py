"""What an actor asks, as a tape has it: told by the real ones and taken down, or told by the tape.

    live:     world ── told ──► TapedWorld ──► actor      replay:   tape ──► ToldWorld ──► actor

Chance is taken down bit by bit, so all of `random.Random` may be used.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Protocol, cast

import msgpack

from kubeloop.actors.kube_proxy import DataPath, Troubled
from kubeloop.actors.pods.pressure import Usage
from kubeloop.actors.routing import Place, Rule
from kubeloop.actors.runtimes.protocol import (
    ContainerRecord,
    Exited,
    ImageRecord,
    Runtime,
    SandboxRecord,
)
from kubeloop.actors.world import Timer, World

DATA_PATH = "data path"


class Asked(Protocol):
    """Takes down what was told."""

    def __call__(self, what: str, told: Any) -> None:
        """what: "wall", "bits 48";  told: what msgpack can carry."""


class Tell(Protocol):
    """Tells what is on the tape."""

    def __call__(self, what: str) -> Any:
        """Return what it was told when it asked for this. Raises: Diverged if it did not ask."""


class TapedWorld:
    """A world that has what it tells taken down."""

    def __init__(self, world: World, asked: Asked) -> None:
        self.rng: random.Random = _TapedChance(world.rng, asked)
        self.soon, self.later, self.spawn = world.soon, world.later, world.spawn
        self._world, self._asked = world, asked

    def now(self) -> float:
        """Return seconds."""
        now = self._world.now()
        self._asked("now", now)
        return now

    def wall(self) -> float:
        """Return seconds since 1970."""
        wall = self._world.wall()
        self._asked("wall", wall)
        return wall


class _TapedChance(random.Random):
    def __init__(self, rng: random.Random, asked: Asked) -> None:
        super().__init__(0)
        self._rng, self._asked = rng, asked

    def random(self) -> float:
        drawn = self._rng.random()
        self._asked("random", drawn)
        return drawn

    def getrandbits(self, k: int, /) -> int:
        drawn = self._rng.getrandbits(k)
        self._asked(f"bits {k}", f"{drawn:x}")
        return drawn


class ToldWorld:
    """The world of a replay: it tells what is on the tape, and nothing happens by itself."""

    def __init__(self, tell: Tell) -> None:
        self.rng: random.Random = _ToldChance(tell)
        self._tell = tell

    def now(self) -> float:
        """Return seconds."""
        return float(self._tell("now"))

    def wall(self) -> float:
        """Return seconds since 1970."""
        return float(self._tell("wall"))

    def soon(self, call: Callable[[], None]) -> None:
        """Do nothing: turns are on the tape."""

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        """Do nothing: the turns that timers made are on the tape, too."""
        return _NoTimer()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> "asyncio.Task[None]":
        """Do nothing: what the work brought is on the tape."""
        work.close()
        return cast("asyncio.Task[None]", _NoTask())


class _ToldChance(random.Random):
    def __init__(self, tell: Tell) -> None:
        super().__init__(0)
        self._tell = tell

    def random(self) -> float:
        return float(self._tell("random"))

    def getrandbits(self, k: int, /) -> int:
        return int(self._tell(f"bits {k}"), 16)


class _NoTimer:
    def cancel(self) -> None:
        """There is nothing to cancel."""


class _NoTask:
    """What is over as soon as it began."""

    def add_done_callback(self, call: Callable[[Any], object]) -> None:
        call(self)

    def cancel(self) -> bool:
        return False


class TapedRuntime:
    """A runtime that has taken down what it answers at once; what takes time arrives as notes."""

    def __init__(self, runtime: Runtime, asked: Asked) -> None:
        self._runtime, self._asked = runtime, asked

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def sandboxes(self) -> Sequence[SandboxRecord]:
        """Return what is there."""
        found = self._runtime.sandboxes()
        self._asked("sandboxes", [asdict(record) for record in found])
        return found

    def unsupported(self, pod: Mapping[str, Any]) -> str:
        """Return why it cannot run a pod, "" if it can."""
        why = self._runtime.unsupported(pod)
        self._asked("unsupported", why)
        return why

    def images(self) -> Sequence[ImageRecord]:
        """Return the images that are there."""
        found = self._runtime.images()
        self._asked("images", [asdict(record) for record in found])
        return found


class ToldRuntime:
    """The runtime of a replay. It has no processes: what became of them is on the tape."""

    def __init__(self, name: str, tell: Tell) -> None:
        self.name, self._tell = name, tell

    def listen(self, on_exit: Callable[[Exited], None]) -> None:
        """Do nothing: exits are on the tape."""

    def watch_usage(self, on_usage: Callable[[Usage], None]) -> None:
        """Do nothing: what was used is on the tape."""

    def sandboxes(self) -> Sequence[SandboxRecord]:
        """Return what was there."""
        return [
            SandboxRecord(**{**row, "containers": tuple(_runs(row["containers"]))})
            for row in self._tell("sandboxes")
        ]

    def unsupported(self, pod: Mapping[str, Any]) -> str:
        """Return why it could not run a pod."""
        return str(self._tell("unsupported"))

    def images(self) -> Sequence[ImageRecord]:
        """Return the images that were there."""
        return [
            ImageRecord(row["digest"], tuple(row["names"]), row["size_bytes"])
            for row in self._tell("images")
        ]

    def __getattr__(self, name: str) -> Any:
        async def never(*args: Any, **options: Any) -> None:
            raise AssertionError(f"{name}: nothing runs in a replay")

        return never


def _runs(rows: Sequence[Mapping[str, Any]]) -> list[ContainerRecord]:
    return [ContainerRecord(**row) for row in rows]


class TapedDataPath:
    """A data path that says what it is told to do; `path` does it, if there is one."""

    name = "taped"

    def __init__(self, said: Callable[[str, bytes], None], path: DataPath | None) -> None:
        self._said, self._path = said, path

    def apply(self, changes: Mapping[Place, Rule | None]) -> None:
        """Listen where a rule is, stop where there is None."""
        self._tell("apply", changes)
        if self._path is not None:
            self._path.apply(changes)

    def replace(self, rules: Mapping[Place, Rule]) -> None:
        """Have these rules and no others."""
        self._tell("replace", rules)
        if self._path is not None:
            self._path.replace(rules)

    def retry(self) -> None:
        """Try again what could not be opened."""
        self._tell("retry", {})
        if self._path is not None:
            self._path.retry()

    def listen(self, troubled: Troubled) -> None:
        """Have `troubled` called when a place cannot be opened."""
        if self._path is not None:
            self._path.listen(troubled)

    def _tell(self, what: str, rules: Mapping[Place, Rule | None]) -> None:
        rows = [
            [*place, None if rule is None else [rule.service, rule.endpoints, rule.affinity_s]]
            for place, rule in rules.items()
        ]
        self._said(DATA_PATH, msgpack.packb([what, rows]))
