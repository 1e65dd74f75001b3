"""In which order callbacks run that are ready at the same time: three kinds of queue.

asyncio calls what is ready in the order in which it became ready, and users come to rely on it. On
a real machine that order depends on the network and on other work; so a simulation may choose
another. Whatever it chooses, the callbacks of one task or object keep their order, and so do those
of plain functions.

- "fifo":   asyncio's own order.
- "random": those who are ready together are shuffled.
- "pct":    probabilistic concurrency testing. Tasks and objects have priorities by chance; who has
            the highest runs until it waits; at `depth` − 1 moments, by chance within `steps`
            callbacks, whoever is about to run becomes the least. A mistake that needs `depth`
            orderings to show is found with a chance of at least 1 / (n × steps^(depth−1)) in each
            run, n being the number of tasks and objects. It lets one wait long while others go on,
            which "random" never does.
            Source: Burckhardt, Kothari, Musuvathi, Nagarakatte: A Randomized Scheduler with
            Probabilistic Guarantees of Finding Bugs, ASPLOS 2010.
"""

import asyncio
import heapq
import math
import random
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from kubeloop.sim.naming import callback_of

_PLUMBING: Final = (asyncio.Future, asyncio.BaseProtocol, asyncio.BaseTransport)
_MACHINERY: Final = ("asyncio.", "builtins", "collections", "kubeloop.sim.")  # Modules.
PATIENCE: Final = 1_000  # Callbacks somebody may run under "pct" while others wait.


class Ready(Protocol):
    """What is ready: a queue that chooses."""

    def append(self, handle: asyncio.Handle) -> None:
        """Add one."""

    def popleft(self) -> asyncio.Handle:
        """Remove and return the one to run next."""

    def clear(self) -> None:
        """Forget all."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Pct:
    """The policy "pct". depth: orderings that matter;  steps: callbacks a run is thought to have.

    Raises: ValueError.
    """

    depth: int = 3
    steps: int = 10_000

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= self.steps:
            raise ValueError(f"depth={self.depth}, steps={self.steps}: expected 1 ≤ depth ≤ steps")


Policy = Literal["fifo", "random", "pct"] | Pct


def queue(policy: Policy, chance: random.Random) -> Ready:
    """Return a queue of this policy. Raises: ValueError."""
    if isinstance(policy, Pct):
        return Prioritized(policy, chance)
    kinds: dict[str, Callable[[], Ready]] = {
        "fifo": deque,
        "random": lambda: Shuffled(chance),
        "pct": lambda: Prioritized(Pct(), chance),
    }
    if policy not in kinds:
        raise ValueError(f"there is no policy {policy!r}: {', '.join(kinds)}")
    return kinds[policy]()


class Shuffled:
    """Those who are ready together run in a random order, each task's and object's in its own.

    Nobody is passed by who became ready later than all of them: programs rely on it that
    `await asyncio.sleep(0)` lets everybody else run once.
    """

    def __init__(self, chance: random.Random) -> None:
        self._shuffle = chance.shuffle
        self._together: deque[asyncio.Handle] = deque()  # In the order in which they will run.
        self._later: list[asyncio.Handle] = []
        self.append = self._later.append

    def popleft(self) -> asyncio.Handle:
        if not self._together:
            self._together.extend(self._mixed(self._later))
            self._later.clear()
        return self._together.popleft()

    def _mixed(self, handles: list[asyncio.Handle]) -> list[asyncio.Handle]:
        if len(handles) < 2:
            return handles
        lanes: dict[int, deque[asyncio.Handle]] = {}
        turns = [id(_owner_of(handle)) for handle in handles]
        for key, handle in zip(turns, handles, strict=True):
            lanes.setdefault(key, deque()).append(handle)
        self._shuffle(turns)
        return [lanes[key].popleft() for key in turns]

    def clear(self) -> None:
        self._together.clear()
        self._later.clear()

    def __len__(self) -> int:
        return len(self._together) + len(self._later)


class _Lane:
    """The callbacks of one task or object that are ready, oldest first.

    owner: kept as long as one is ready, so that its id is nobody else's.
    """

    __slots__ = ("handles", "owner")

    def __init__(self, owner: Any, handle: asyncio.Handle) -> None:
        self.owner, self.handles = owner, deque((handle,))


class Prioritized:
    """Who has the highest priority runs until it waits; see `Pct`.

    Futures, connections, lists and plain functions do not act, they are what happens: they come
    before all others, in asyncio's order, on which every library relies there (a protocol hears of
    its connection before the task that asked for it goes on). Whoever runs for PATIENCE callbacks
    while others wait becomes the least, or a loop that polls would keep them waiting for ever.
    """

    def __init__(self, policy: Pct, chance: random.Random) -> None:
        self._draw = chance.random
        moments = chance.sample(range(1, policy.steps + 1), policy.depth - 1)
        ranks = range(-policy.depth + 1, 0)
        self._changes = sorted(zip(moments, ranks, strict=True), reverse=True)
        self._least = -policy.depth
        self._ranks: dict[int, tuple[Callable[[], Any], float]] = {}  # By the id of the owner.
        self._prune_at = 1_024
        self._lanes: dict[int, _Lane] = {}  # By the id of the owner.
        self._heap: list[tuple[float, int]] = []  # (−rank, key) of the lanes.
        self._plumbing: deque[asyncio.Handle] = deque()
        self._steps = self._count = self._in_a_row = 0
        self._last = math.inf  # The rank of who ran last: it is nobody else's.

    def append(self, handle: asyncio.Handle) -> None:
        owner = _owner_of(handle)
        if _is_plumbing(owner):
            self._plumbing.append(handle)
            return
        lane = self._lanes.get(id(owner))
        if lane is None:
            self._lanes[id(owner)] = _Lane(owner, handle)
            heapq.heappush(self._heap, (-self._rank(owner), id(owner)))
        else:
            lane.handles.append(handle)
        self._count += 1

    def popleft(self) -> asyncio.Handle:
        self._steps += 1
        if self._plumbing:
            return self._plumbing.popleft()
        if self._changes and self._steps >= self._changes[-1][0]:
            self._demote(self._changes.pop()[1])
        rank, key = self._heap[0]
        self._in_a_row = self._in_a_row + 1 if rank == self._last else 0
        if self._in_a_row >= PATIENCE and len(self._heap) > 1:
            self._least -= 1
            self._demote(self._least)
            rank, key = self._heap[0]
            self._in_a_row = 0
        self._last = rank
        handles = self._lanes[key].handles
        handle = handles.popleft()
        if not handles:
            del self._lanes[key]
            heapq.heappop(self._heap)
        self._count -= 1
        return handle

    def clear(self) -> None:
        self._plumbing.clear()
        self._heap.clear()
        self._lanes.clear()
        self._count = 0

    def __len__(self) -> int:
        return len(self._plumbing) + self._count

    def _demote(self, rank: float) -> None:
        """Give whoever would run next another rank."""
        _, key = self._heap[0]
        self._ranks[key] = self._ranks[key][0], rank
        heapq.heapreplace(self._heap, (-rank, key))

    def _rank(self, owner: Any) -> float:
        """Return the rank of a task or object; who has none yet draws it, from 0 to 1."""
        known, rank = self._ranks.get(id(owner), (_nobody, 0.0))
        if known() is owner:
            return rank
        if len(self._ranks) >= self._prune_at:
            self._ranks = {
                k: v for k, v in self._ranks.items() if k in self._lanes or v[0]() is not None
            }
            self._prune_at = max(1_024, 2 * len(self._ranks))
        rank = self._draw()
        self._ranks[id(owner)] = _reference(owner), rank
        return rank


def _nobody() -> object:
    return _nobody


def _owner_of(handle: asyncio.Handle) -> Any:
    """Return the task or object a handle's callback belongs to; None for a plain function."""
    return getattr(callback_of(handle), "__self__", None)


def _is_plumbing(owner: Any) -> bool:
    if isinstance(owner, asyncio.Task):
        return False
    if owner is None or isinstance(owner, _PLUMBING):
        return True
    return type(owner).__module__.startswith(_MACHINERY)


def _reference(owner: Any) -> Callable[[], Any]:
    """Return what returns the owner, and does not keep it alive if possible."""
    try:
        return weakref.ref(owner)
    except TypeError:
        return lambda: owner
