"""Threads, processes and sockets beside the event loop: what a simulation does instead of them.

A simulation has one thread. What would run in another one runs at once and in one piece, and what
cannot be done so is refused, with the place of the program that tried:

- `loop.run_in_executor`, `asyncio.to_thread`, `anyio.to_thread`: done at once. What the function
  sleeps delays its result, not the loop.
- `ThreadPoolExecutor.submit`: done at once.
- `Condition.wait` and what is made of it (`Event`, `Queue`, `Future.result`): with a timeout, the
  time passes and nobody has notified; without, refused, as it would hang.
- Look-ups of names (`socket.getaddrinfo`): answered by the simulated network.
- `Thread.start`, `subprocess`, `os.fork`, blocking sockets, a second event loop that is no
  simulation: refused.

Files are as real as ever.
"""

import os
import random
import socket
import subprocess
from asyncio import selector_events
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Thread, get_ident
from typing import Any, Final, Protocol

from kubeloop.sim.names import ANSWERS
from kubeloop.sim.naming import caller
from kubeloop.sim.swap import AttributeSwap, Swappable, exchange

_REFUSED: Final[tuple[tuple[Any, tuple[str, ...]], ...]] = (
    (socket.socket, ("connect", "connect_ex", "bind", "sendto")),
    (subprocess.Popen, ("__init__",)),
    (os, ("fork", "forkpty", "system", "posix_spawn", "posix_spawnp")),
)


class Unsimulated(NotImplementedError):
    """The program tried to leave the simulation."""

    def __init__(self, tried: str) -> None:
        super().__init__(
            f"{tried}: a simulation has no real I/O, no threads and no processes; use what goes"
            " through the event loop, which runs over the in-memory network, or a seam that sim"
            f" replaces. Called at {caller()}"
        )


class Simulation(Protocol):
    """What the code inside is shown.

    entropy: what `os.urandom` draws from.
    shared:  the state of the functions of `random`, which all code inside shares; None before the
             first run.
    """

    entropy: random.Random
    shared: Any

    def time(self) -> float:
        """Return seconds since the simulation began."""

    def wall(self) -> float:
        """Return seconds since 1970."""

    def sleep(self, seconds: float) -> None:
        """Let time pass and nothing else happen, as a thread that sleeps does."""

    def inline(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns, which shall believe to be in a thread of its own."""


here: Final[dict[int, Simulation]] = {}  # What a thread simulates just now.

Answer = Callable[..., Any]
"""(simulation, the function as it was, its arguments …) → its result inside the simulation."""


def within(answer: Answer) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what makes stand-ins, which answer in threads that simulate and nowhere else."""

    def make(real: Callable[..., Any]) -> Callable[..., Any]:
        def stand_in(*args: Any, **options: Any) -> Any:
            simulation = here.get(get_ident())
            if simulation is None:
                return real(*args, **options)
            return answer(simulation, real, *args, **options)

        return stand_in

    return make


def thread_swaps() -> list[Swappable]:
    """Return all that is exchanged for this."""
    refusals = [
        exchange(owner, name, within(_refusal(owner, name)))
        for owner, names in _REFUSED
        for name in names
        if hasattr(owner, name)
    ]
    return [
        AttributeSwap(Thread, "start", within(_start)),
        AttributeSwap(ThreadPoolExecutor, "submit", within(_submit)),
        AttributeSwap(Condition, "wait", within(_wait)),
        AttributeSwap(selector_events.BaseSelectorEventLoop, "__init__", within(_second_loop)),
        *(exchange(socket, name, within(answer)) for name, answer in ANSWERS.items()),
        *refusals,
    ]


def _refusal(owner: Any, name: str) -> Answer:
    told, skipped = f"{owner.__name__}.{name}", int(isinstance(owner, type))  # Itself.

    def refuse(_simulation: Simulation, _real: Any, *args: Any, **_options: Any) -> Any:
        raise Unsimulated(f"{told}({', '.join(map(_brief, args[skipped:][:2]))})")

    return refuse


def _brief(argument: object) -> str:
    text = repr(argument)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _start(simulation: Simulation, _real: Any, thread: Thread) -> None:
    if type(thread).__module__ == "anyio._backends._asyncio" and hasattr(thread, "queue"):
        thread.queue = _Chores(simulation, thread)
    else:
        raise Unsimulated(f"Thread.start({thread.name!r})")


def _second_loop(_simulation: Simulation, _real: Any, loop: Any, *_args: Any) -> None:
    loop._closed = True  # Or its finalizer would complain.
    raise Unsimulated("a second event loop, as asyncio.run makes,")


class _Chores:
    """The queue of a worker thread of anyio that was never started: a chore is done when put."""

    def __init__(self, simulation: Simulation, worker: Thread) -> None:
        self._simulation, self._worker = simulation, worker
        self._items: deque[Any] = deque()

    def put_nowait(self, item: Any) -> None:
        """Do a chore, and then what a worker does when told to end; None just tells it."""
        if item is not None:
            self._items.extend((item, None))
            self._simulation.inline(self._worker.run)

    def get(self) -> Any:
        """Return the next chore."""
        return self._items.popleft()

    def task_done(self) -> None:
        """Nobody joins it."""


def _submit(
    simulation: Simulation,
    _real: Any,
    _executor: ThreadPoolExecutor,
    function: Callable[..., Any],
    /,
    *args: Any,
    **options: Any,
) -> "Future[Any]":
    future: Future[Any] = Future()
    try:
        future.set_result(simulation.inline(lambda: function(*args, **options)))
    except Exception as error:  # noqa: BLE001 - whoever asks the future gets it.
        future.set_exception(error)
    return future


def _wait(
    simulation: Simulation, _real: Any, _condition: Condition, timeout: float | None = None
) -> bool:
    if timeout is None:
        raise Unsimulated("Condition.wait() without a timeout, which nobody would ever notify")
    if timeout > 0:
        simulation.sleep(timeout)
    return False
