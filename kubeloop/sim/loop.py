"""An asyncio event loop whose time, order and network are decided by a seed.

Time is virtual: when nothing is ready the loop jumps to the next timer, so an hour costs what its
callbacks cost. There is no outside world: connections run over `sim.network`, threads are done
without, clocks and chance are the simulation's for any code (`sim.inside`), and whatever would
touch a real socket, process or thread fails and names who tried. Two runs with the same seed make
the same calls in the same order, on any machine; `sim.checker` finds out whether they really do.

A program that can never go on ends with an error instead of hanging: `Deadlock` if nothing is left
to happen, `Livelock` if too much happens.
"""

import asyncio
import contextvars
import gc
import heapq
import logging
import random
from asyncio import Handle, events
from collections import Counter
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from threading import get_ident
from typing import Any, Final, TypeVar

from kubeloop.sim.inside import inside
from kubeloop.sim.naming import caller, task_name, waiting_place
from kubeloop.sim.network import Network
from kubeloop.sim.outside import Outside
from kubeloop.sim.policies import Pct as Pct
from kubeloop.sim.policies import Policy, Ready, queue
from kubeloop.sim.tasks import SimFuture, SimTask
from kubeloop.sim.threads import Unsimulated as Unsimulated
from kubeloop.sim.trace import Observer, Trace, Wakes
from kubeloop.sim.transport import HOST

T = TypeVar("T")

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC).timestamp()  # The wall clock at time zero.
STEPS_MAX: Final = 20_000_000  # Callbacks one simulation may run unless told otherwise.
_WATCHED: Final = 10_000  # Callbacks before the bound that are watched, for the error.
_LAST_MAX: Final = 1_000  # Rounds at the end, for what is ready then, and what that makes ready.
_COLLECT: Final = 4_096  # Callbacks from one garbage collection to the next.
_log = logging.getLogger(__name__)


class SimulationError(Exception):
    """The simulated program cannot go on."""


class Deadlock(SimulationError):
    """Nothing is ready and no timer is set, yet the program has not ended."""


class Livelock(SimulationError):
    """The program ran more callbacks than it was allowed to."""


class SimLoop(Outside):
    """An event loop in virtual time.

    seed:      decides all chance: the order of callbacks, the network, and what programs draw.
    policy:    who is next among those who are ready: "fifo" as in asyncio, "random", "pct" or
               `Pct(depth, steps)`; see `sim.policies`.
    steps_max: callbacks to run before the loop gives up with `Livelock`.
    trace:     records what the loop does; see `sim.trace`.

    at_rest:   called when nothing is ready, before time passes; if it returns True it has made
               something ready. None: nobody.
    steps:     callbacks run so far.
    blocked:   for how many seconds the loop was blocked by `time.sleep` and the like, by place.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        policy: Policy = "fifo",
        steps_max: int = STEPS_MAX,
        trace: Trace | None = None,
    ) -> None:
        super().__init__()
        self.seed, self.policy, self.steps_max, self.trace = seed, policy, steps_max, trace
        self.steps = 0
        self.at_rest: Callable[[], bool] | None = None
        self.blocked: Counter[str] = Counter()
        self.network = Network(self, self.chance("network"))
        self.entropy, self.shared = self.chance("entropy"), None
        self._ready: Ready = queue(policy, self.chance("order"))
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timers_made = self._timers_cancelled = 0
        self._tasks_made = self._futures_made = 0
        self._collect_at = _COLLECT
        self._inlined = 0  # Functions now running that believe to be in a thread of their own.
        self._wakes: Wakes | None = None
        self._observers: list[Observer] = []
        if trace is not None:
            self._observe(trace)

    def chance(self, purpose: str) -> random.Random:
        """Return a source of chance of its own for `purpose`, decided by the seed."""
        seed = f"{purpose} {self.seed}"
        return random.Random(seed) if self.trace is None else self.trace.chance(seed)

    def run_forever(self) -> None:
        """Run until `stop`; all code sees the world of the simulation while it does."""
        self._check_closed()  # type: ignore[attr-defined]
        self._check_running()  # type: ignore[attr-defined]
        with inside(self):
            super().run_forever()

    # Time.

    def time(self) -> float:
        """Return seconds since the simulation began."""
        return self._now

    def wall(self) -> float:
        """Return seconds since 1970; the simulation begins at 2026-01-01T00:00:00Z."""
        return EPOCH + self._now

    def next_timer(self) -> float | None:
        """Return when the next timer is due, None if there is none."""
        while self._timers and self._timers[0][2]._cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def sleep(self, seconds: float) -> None:
        """Let time pass and nothing else happen, as a program does that blocks the loop.

        It counts as a callback, so that a program that only sleeps comes to an end.
        Raises: Livelock.
        """
        if self.steps + 1 >= self.steps_max:  # One is left to tell whoever waits for the error.
            raise Livelock(f"{self._endless()}\nLast: time.sleep at {caller()}")
        self.steps += 1
        self._now += seconds
        if not self._inlined:
            where = caller()
            if where not in self.blocked:
                _log.warning("the event loop was blocked for %g s: %s", seconds, where)
            self.blocked[where] += seconds  # type: ignore[assignment]

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
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timers_made += 1
        heapq.heappush(self._timers, (when, self._timers_made, timer))
        if self._observers:
            self._scheduled_one(timer)
        return timer

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """Schedule in `delay` seconds."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, _handle: asyncio.TimerHandle) -> None:
        """Leave cancelled timers where they are until many have gathered."""
        self._timers_cancelled += 1
        if self._timers_cancelled > 64 and self._timers_cancelled > len(self._timers) // 2:
            self._timers = [entry for entry in self._timers if not entry[2]._cancelled]
            heapq.heapify(self._timers)
            self._timers_cancelled = 0

    # Order.

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Make a callback ready."""
        if self._closed:  # type: ignore[attr-defined]
            self._check_closed()  # type: ignore[attr-defined]
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        if self._observers:
            self._scheduled_one(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        """Make a callback ready; from what was meant for another thread, when that has come to it.

        Raises: Unsimulated from a thread that is really another one.
        """
        if self._thread_id not in (None, get_ident()):  # type: ignore[attr-defined]
            raise Unsimulated("call_soon_threadsafe from another thread")
        if self._inlined:
            return self.call_at(self._now, callback, *args, context=context)
        return self.call_soon(callback, *args, context=context)

    def _run_once(self) -> None:
        """Run what is ready; if nothing is, let time pass until a timer is due."""
        ready = self._ready
        if not ready and not self._stopping:  # type: ignore[attr-defined]
            self._pass_time()
        if self._timers and self._timers[0][0] <= self._now:
            self._take_due()
        if self.steps >= self._collect_at:
            self._collect()
        count = len(ready)
        if self._observers or self.steps + count >= self.steps_max - _WATCHED:
            self._run_observed(count)
            return
        popleft = ready.popleft
        for _ in range(count):
            handle = popleft()
            if not handle._cancelled:
                self.steps += 1
                handle._run()

    def _run_observed(self, count: int) -> None:
        """Run as many as there are and tell the observers. Raises: Livelock at the bound."""
        for _ in range(count):
            if self.steps >= self.steps_max:
                raise Livelock(self._endless())
            handle = self._ready.popleft()
            if handle._cancelled:
                continue
            if self._wakes is None and self.steps >= self.steps_max - _WATCHED:
                self._wakes = Wakes()
                self._observe(self._wakes)
            self.steps += 1
            for observer in self._observers:
                observer.begins(handle, self._now)
            handle._run()
            for observer in self._observers:
                observer.ended()

    def _pass_time(self) -> None:
        at = self.next_timer()
        if self.at_rest is not None and (at is None or at > self._now) and self.at_rest():
            return
        if not self._timers:
            raise Deadlock(self._stuck())
        self._now = max(self._now, self._timers[0][0])

    def _take_due(self) -> None:
        while self._timers and self._timers[0][0] <= self._now:
            handle = heapq.heappop(self._timers)[2]
            if not handle._cancelled:
                self._ready.append(handle)

    def _collect(self) -> None:
        """Collect garbage, at moments that the callbacks decide and not what was allocated."""
        self._collect_at = self.steps + _COLLECT
        round_ = self.steps // _COLLECT
        gc.collect(2 if round_ % 256 == 0 else 1 if round_ % 16 == 0 else 0)

    def _observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def _scheduled_one(self, handle: Handle) -> None:
        for observer in self._observers:
            observer.scheduled(handle)

    def _endless(self) -> str:
        wakes = "" if self._wakes is None else self._wakes.text()
        return (
            f"no end after {self.steps_max} callbacks, at {self._now:.6f} s (seed {self.seed})."
            " A livelock, or steps_max is too small. At the end, who wakes whom:\n"
            f"{wakes or '  nobody'}"
        )

    def _stuck(self) -> str:
        waiting = "\n".join(
            f"  {task_name(task)}: {waiting_place(task)}" for task in _tasks_of(self)
        )
        return (
            f"nothing is left to happen at {self._now:.6f} s (seed {self.seed}) and the program"
            f" has not ended. Tasks that wait:\n{waiting or '  none'}"
        )

    # Tasks and futures.

    def create_task(  # type: ignore[override]
        self,
        coro: Any,
        *,
        name: str | None = None,
        context: contextvars.Context | None = None,
        **options: Any,
    ) -> "asyncio.Task[Any]":
        """Create a task; one without a name is numbered by this loop, not by the process."""
        self._check_closed()  # type: ignore[attr-defined]
        self._tasks_made += 1
        number = self._tasks_made
        if name is None:
            name = f"task-{number}"
        if self.get_task_factory() is not None:
            return super().create_task(coro, name=name, context=context, **options)
        return SimTask(number, coro, loop=self, name=name, context=context, **options)

    def create_future(self) -> "asyncio.Future[Any]":
        """Create a future."""
        self._futures_made += 1
        return SimFuture(self._futures_made, loop=self)

    # Threads: there are none; see `sim.threads`.

    def run_in_executor(  # type: ignore[override]
        self, _executor: Any, func: Callable[..., T], *args: Any
    ) -> "asyncio.Future[T]":
        """Call `func` at once, and give its result after as much time as it slept."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except (KeyboardInterrupt, SimulationError):
                raise
            except BaseException as error:  # noqa: BLE001 - whoever awaits the future gets it.
                self.call_soon_threadsafe(_fail, future, error)
            else:
                self.call_soon_threadsafe(_settle, future, result)

        self.inline(work)
        return future

    def inline(self, function: Callable[[], T]) -> T:
        """Return what `function` returns, which sees no running loop and a context of its own.

        The time it sleeps does not pass for anybody else.
        """
        begun, context = self._now, contextvars.Context()
        context.run(HOST.set, HOST.get())
        running = events._get_running_loop()
        events._set_running_loop(None)
        self._inlined += 1
        try:
            return context.run(function)
        finally:
            self._inlined -= 1
            events._set_running_loop(running)
            self._now = begun

    def _write_to_self(self) -> None:
        """Wake nobody: a simulation has one thread, and it is awake."""


def run(
    main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    policy: Policy = "fifo",
    steps_max: int = STEPS_MAX,
    trace: Trace | None = None,
) -> T:
    """Run `main` in a simulation of its own and return its result.

    Whatever it started and left behind is cancelled, in a fixed order, before the loop closes.
    Raises: what `main` raises; Deadlock; Livelock; RuntimeError inside a running event loop.
    """
    if events._get_running_loop() is not None:
        raise RuntimeError("a simulation cannot run while another loop is running")
    loop = SimLoop(seed, policy=policy, steps_max=steps_max, trace=trace)
    try:
        return loop.run_until_complete(main() if callable(main) else main)
    finally:
        end(loop)


def end(loop: SimLoop) -> None:
    """Cancel whatever is left behind in a simulation, in a fixed order, and close its loop."""
    try:
        _cancel_leftovers(loop)
        if loop._asyncgens:  # type: ignore[attr-defined]
            loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


def _cancel_leftovers(loop: SimLoop) -> None:
    loop.steps_max += loop.steps  # Cleaning up after a livelock needs steps of its own.
    leftovers = _tasks_of(loop)
    for task in leftovers:
        task.cancel()
    if leftovers:
        try:
            loop.run_until_complete(asyncio.gather(*leftovers, return_exceptions=True))
        except SimulationError as error:
            error.add_note("while the tasks left behind were being cancelled")
            raise
    for _ in range(_LAST_MAX):  # What tasks have called at their end is called, too.
        if not loop._ready:
            break
        loop.run_until_complete(asyncio.sleep(0))


def _tasks_of(loop: SimLoop) -> list["asyncio.Task[Any]"]:
    """Return the unfinished tasks of `loop`, in an order that does not depend on addresses."""
    return sorted(asyncio.all_tasks(loop), key=lambda task: (task_name(task), hash(task)))


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # A future refuses it.
        replaced = RuntimeError("a function in an executor raised StopIteration")
        replaced.__cause__ = error
        error = replaced
    future.set_exception(error)
