"""An asyncio event loop whose time, order and network are decided by a seed.

Time is virtual: when nothing is ready the loop jumps to the next timer, so an hour costs what its
callbacks cost. There is no outside world: connections run over `sim.network`, executors run inline,
and whatever would touch a real socket, process or signal fails and names what was tried. Two runs
with the same seed make the same calls in the same order, on any machine and hash seed.

A program that can never go on ends with an error instead of hanging: `Deadlock` if nothing is left
to happen, `Livelock` if too much happens.
"""

import asyncio
import contextvars
import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeVar

from kubeloop.sim.network import Network
from kubeloop.sim.outside import Outside
from kubeloop.sim.outside import Unsimulated as Unsimulated

T = TypeVar("T")
Policy = Literal["fifo", "random"]

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # The wall clock at time zero.
STEPS_MAX: Final = 20_000_000  # Callbacks one simulation may run unless told otherwise.
_WATCHED: Final = 10_000  # Callbacks before the bound that are counted by name, for the error.


class SimulationError(Exception):
    """The simulated program cannot go on."""


class Deadlock(SimulationError):
    """Nothing is ready and no timer is set, yet the program has not ended."""


class Livelock(SimulationError):
    """The program ran more callbacks than it was allowed to."""


class SimLoop(Outside):
    """An event loop in virtual time.

    seed:      decides the order of callbacks (under policy "random") and the network's latencies.
    policy:    "fifo" is asyncio's own order. "random" interleaves tasks and objects by the seed;
               the callbacks of one object, and those of plain functions, keep their order.
    steps_max: callbacks to run before the loop gives up with `Livelock`.
    """

    def __init__(
        self, seed: int = 0, *, policy: Policy = "fifo", steps_max: int = STEPS_MAX
    ) -> None:
        assert policy in ("fifo", "random"), f"there is no policy {policy!r}: fifo or random"
        super().__init__()
        self.seed, self.policy, self.steps_max = seed, policy, steps_max
        self.steps = 0
        self._watched_from = steps_max - _WATCHED
        self.network = Network(self, self.chance("network"))
        self._order = self.chance("order")
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = self._timers_cancelled = 0
        self._tasks_made = 0
        self._busy: Counter[str] = Counter()

    def chance(self, purpose: str) -> random.Random:
        """Return a source of chance of its own for `purpose`, decided by the seed."""
        return random.Random(f"{purpose} {self.seed}")

    # Time.

    def time(self) -> float:
        """Return seconds since the simulation began."""
        return self._now

    def wall(self) -> float:
        """Return seconds since 1970; the simulation begins at 2026-01-01T00:00:00Z."""
        return EPOCH + self._now

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule as asyncio does; timers due at the same time go off in the order they were set.

        In virtual time such ties are common, so their order must not depend on the heap.
        """
        self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, list(args), self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))
        return timer

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """Leave cancelled timers where they are until many have gathered."""
        self._timers_cancelled += 1
        if self._timers_cancelled > 64 and self._timers_cancelled > len(self._timers) // 2:
            self._timers = [entry for entry in self._timers if not entry[2].cancelled()]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    # Order.

    def _run_once(self) -> None:
        """Run what is ready; if nothing is, let time pass until a timer is due."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._pass_time()
        self._take_due(ready)
        if self.policy == "random":
            shuffled = list(_interleaved(ready, self._order))
            ready.clear()
            ready.extend(shuffled)
        for _ in range(len(ready)):
            if self.steps >= self._watched_from:
                self._watch(ready[0])
            handle = ready.popleft()
            if not handle.cancelled():
                self.steps += 1
                handle._run()

    def _pass_time(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Deadlock(self._stuck())
        self._now = max(self._now, self._timers[0][0])

    def _take_due(self, ready: "deque[asyncio.Handle]") -> None:
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if not handle.cancelled():
                ready.append(handle)

    def _watch(self, handle: asyncio.Handle) -> None:
        """Note who is busy shortly before the bound. Raises: Livelock at the bound."""
        self._busy[_name_of(handle)] += 1
        if self.steps >= self.steps_max:
            busiest = "\n".join(f"  {n:>6} × {name}" for name, n in self._busy.most_common(5))
            raise Livelock(
                f"no end after {self.steps_max} callbacks, at {self._now:.6f} s (seed {self.seed})."
                f" A livelock, or steps_max is too small. Busiest at the end:\n{busiest}"
            )

    def _stuck(self) -> str:
        waiting = "\n".join(f"  {name}" for name in sorted(map(_task_text, _tasks_of(self))))
        return (
            f"nothing is left to happen at {self._now:.6f} s (seed {self.seed}) and the program"
            f" has not ended. Tasks that wait:\n{waiting or '  none'}"
        )

    def create_task(  # type: ignore[override]
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> "asyncio.Task[Any]":
        """Create a task; one without a name is numbered by this loop, not by the process."""
        if name is None:
            self._tasks_made += 1
            name = f"task-{self._tasks_made}"
        return super().create_task(coro, name=name, context=context, **options)

    # The outside world: see `sim.outside`.

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Call `func` at once: a simulation has one thread."""
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever awaits the future gets it.
            future.set_exception(error)
        return future

    def _write_to_self(self) -> None:
        """Wake nobody: a simulation has one thread, and it is awake."""


def run(
    main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    policy: Policy = "fifo",
    steps_max: int = STEPS_MAX,
) -> T:
    """Run `main` in a simulation of its own and return its result.

    Whatever it started and left behind is cancelled, in a fixed order, before the loop closes.
    Raises: what `main` raises; Deadlock; Livelock.
    """
    loop = SimLoop(seed, policy=policy, steps_max=steps_max)
    try:
        return loop.run_until_complete(main() if callable(main) else main)
    finally:
        try:
            _cancel_leftovers(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()


def _cancel_leftovers(loop: SimLoop) -> None:
    loop.steps = 0  # Cleaning up after a livelock needs steps of its own.
    loop._busy.clear()
    leftovers = _tasks_of(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        try:
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        except SimulationError as error:
            error.add_note("while the tasks left behind were being cancelled")
            raise


def _tasks_of(loop: SimLoop) -> list["asyncio.Task[Any]"]:
    """Return the unfinished tasks of `loop`, in an order that does not depend on addresses."""
    return sorted(asyncio.all_tasks(loop), key=_task_text)


def _task_text(task: "asyncio.Task[Any]") -> str:
    return f"{task.get_name()} ({getattr(task.get_coro(), '__qualname__', '?')})"


def _interleaved(
    handles: Iterable[asyncio.Handle], order: random.Random
) -> Iterator[asyncio.Handle]:
    """Yield the handles in a random order that keeps the order within each task or object."""
    lanes: dict[int, deque[asyncio.Handle]] = {}
    turns: list[int] = []
    for handle in handles:
        owner = getattr(_callback_of(handle), "__self__", None)
        lanes.setdefault(id(owner), deque()).append(handle)
        turns.append(id(owner))
    order.shuffle(turns)
    for lane in turns:
        yield lanes[lane].popleft()


def _callback_of(handle: asyncio.Handle) -> Any:
    return handle._callback  # type: ignore[attr-defined]


def _name_of(handle: asyncio.Handle) -> str:
    callback = _callback_of(handle)
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return f"task {_task_text(owner)}"
    name = getattr(callback, "__qualname__", None) or repr(callback)
    if isinstance(called := getattr(owner, "name", None), str):
        return f"{name} of {called}"
    return str(name)
