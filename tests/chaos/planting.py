"""Planting a bug: some words of one function of ours are replaced, as long as a run lasts.

What is planted is told as source, so a mutant is a row of data, and it is one change to the code as
it stands today. If the words are not there any more planting fails, instead of planting nothing.
"""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from textwrap import dedent
from types import CodeType, FunctionType
from typing import Any, Final, Literal

from kubeloop.chaos.faults import actors, api, containers, disk, nodes
from kubeloop.chaos.generate import Profile

_ACTORS: Final = (actors.ActorCrashes, actors.ActorDown, actors.ActorFreezes, actors.ActorSlow,
                  actors.ActorWatchBreaks, api.ApiRestarts, api.Compaction)  # fmt: skip
_NODES: Final = (containers.ContainerExits, containers.ContainerOom, containers.ContainerHangs,
                 containers.ProbesFail, containers.SlowStarts, nodes.NodeOff, nodes.NodeCut,
                 nodes.RuntimeStalls)  # fmt: skip
_CLIENTS: Final = (api.AnswerLost, api.ApiFails, api.ConflictStorm, api.StaleReads, api.WatchEnds)
_DISK: Final = (disk.ClusterDies, disk.DiskFails, disk.DiskFull, disk.DiskSlow)

PROFILES: Final = {
    "users": Profile(faults=(), steps_most=12, nodes_most=2, within_s=90.0, durable=False),
    "small": Profile(
        faults=(*_ACTORS, *_NODES, *_CLIENTS),
        steps_most=8,
        faults_most=4,
        nodes_most=2,
        within_s=40.0,
        durable=False,
    ),
    "durable": Profile(
        faults=(*_ACTORS, *_DISK),
        steps_most=8,
        faults_most=4,
        nodes_most=2,
        within_s=40.0,
        durable=True,
    ),
}
"""What plans may hold: of clusters so small that a run takes a fifth of a second.

users: nothing breaks, so what must follow within seconds is looked at;  small: all but the disk;
durable: the store is on a disk, which breaks. None is there for one bug alone.
"""

Component = Literal["store", "API server", "controllers", "scheduler", "kubelet", "kube-proxy"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug that we might have written.

    where:   "package.module:Class.function", below `kubeloop`.
    right:   words of its source, that are there just once;  wrong: what is there instead.
    is_like: the kind of bug it stands for, as it has been seen elsewhere.
    """

    name: str
    component: Component
    where: str
    right: str
    wrong: str
    is_like: str
    profile: str = "small"

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Have the bug in the product within the block. Raises: LookupError, AttributeError."""
        function = _function(self.where)
        healthy = function.__code__
        function.__code__ = self._changed(function)
        try:
            yield
        finally:
            function.__code__ = healthy

    def _changed(self, function: FunctionType) -> CodeType:
        source = dedent(inspect.getsource(function))
        if source.count(self.right) != 1:
            count = source.count(self.right)
            raise LookupError(f"{self.where} has {self.right!r} {count} times, not once: {source}")
        # Inside another function, so that names of the class around it, as `super` needs them, are
        # free in it as they are in the original.
        lines = source.replace(self.right, self.wrong).splitlines()
        while not lines[0].startswith("def "):  # Decorators.
            del lines[0]
        free = ", ".join(function.__code__.co_freevars)
        name = function.__name__
        text = "\n".join([f"def around({free}):", *(f"    {line}" for line in lines)])
        found: dict[str, Any] = {}
        exec(f"{text}\n    return {name}", function.__globals__, found)
        made: Callable[..., FunctionType] = found["around"]
        code = made(*(None for _ in function.__code__.co_freevars)).__code__
        assert code.co_freevars == function.__code__.co_freevars
        return code


def _function(where: str) -> FunctionType:
    module, _, path = where.partition(":")
    found: Any = import_module(f"kubeloop.{module}")
    for name in path.split("."):
        found = inspect.getattr_static(found, name)
    found = getattr(found, "fget", None) or getattr(found, "__func__", found)
    assert isinstance(found, FunctionType), f"{where} is no function of Python"
    return found
