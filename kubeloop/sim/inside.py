"""What any code sees of time, chance and threads while a simulation runs it.

Clocks show virtual time; `random`, `secrets`, `uuid` and `os.urandom` draw from the seed; what
would need a second thread, a process or a socket is done at once where that is possible (see
`sim.threads`), or refused. It does not matter how a function was imported: see `sim.swap`. All
this holds in the thread of a simulation while its callbacks run: other threads, and whoever called
`run`, see the world as it is.

Not seen to: CPU time (`time.process_time`) is real, to measure what a simulation costs; keys and
handshakes of TLS are made by OpenSSL; `numpy.random`; local time is that of the machine's TZ; the
functions of `random` have one state for all threads, so simulations in two threads at the same time
disturb each other there.
"""

import gc
import operator
import os
import random
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from functools import cache
from threading import get_ident
from typing import Any, Final

from kubeloop.sim.swap import AttributeSwap, MethodSwap, Swappable, exchange
from kubeloop.sim.threads import Simulation, here, thread_swaps, within

_NODE: Final = 0x02_6B_75_62_65_01  # A locally administered MAC address, for uuid1.
_lock: Final = threading.Lock()


@contextmanager
def inside(simulation: Simulation) -> Iterator[None]:
    """Show the world of a simulation to all code in this thread while the body runs.

    The garbage collector is stopped: it would run at moments that no seed decides.
    """
    thread, collects, chance = get_ident(), gc.isenabled(), random.getstate()
    before = here.get(thread)
    with _lock:
        if not here:
            for swap in _swaps():
                swap.enter()
        here[thread] = simulation
    try:
        gc.disable()
        if simulation.shared is None:
            random.seed(simulation.entropy.getrandbits(256))
        else:
            random.setstate(simulation.shared)
        yield
    finally:
        simulation.shared = random.getstate()
        random.setstate(chance)
        if collects:
            gc.enable()
        with _lock:
            if before is None:
                del here[thread]
            else:
                here[thread] = before
            if not here:
                for swap in _swaps():
                    swap.leave()


@cache
def _swaps() -> list[Swappable]:
    """Return all that is exchanged; made once."""
    answers: tuple[tuple[Any, str, Callable[..., Any]], ...] = (
        (time, "time", lambda simulation, _: simulation.wall()),
        (time, "time_ns", lambda simulation, _: round(simulation.wall() * 1e6) * 1000),
        (time, "monotonic", lambda simulation, _: simulation.time()),
        (time, "monotonic_ns", lambda simulation, _: round(simulation.time() * 1e9)),
        (time, "perf_counter", lambda simulation, _: simulation.time()),
        (time, "perf_counter_ns", lambda simulation, _: round(simulation.time() * 1e9)),
        (time, "clock_gettime", _clock_gettime),
        (time, "clock_gettime_ns", _clock_gettime_ns),
        (time, "gmtime", _moment),
        (time, "localtime", _moment),
        (time, "ctime", _moment),
        (time, "strftime", _strftime),
        (time, "asctime", _asctime),
        (time, "sleep", _sleep),
        (os, "urandom", _urandom),
        (os, "getrandom", _urandom),
        (ssl, "RAND_bytes", _urandom),
    )
    swaps: list[Swappable] = [
        exchange(module, name, within(answer))
        for module, name, answer in answers
        if hasattr(module, name)
    ]
    swaps += [
        MethodSwap(datetime, "now", within(_now)),
        MethodSwap(datetime, "utcnow", within(_utcnow)),
        AttributeSwap(random.Random, "seed", within(_seed)),
        AttributeSwap(random, "seed", within(_seed_shared)),
        AttributeSwap(uuid, "_node", lambda _: _NODE),
    ]
    for module, name in (  # What these modules remember, and what they ask the system.
        (uuid, "_generate_time_safe"),
        (uuid, "_UuidCreate"),
        (uuid, "_last_timestamp"),
        (tempfile, "_name_sequence"),
    ):
        swaps.append(AttributeSwap(module, name, lambda _: None))
    return swaps + thread_swaps()


# Time.


def _clock_gettime(simulation: Simulation, real: Callable[[int], float], clock: int) -> float:
    if clock == time.CLOCK_REALTIME:
        return simulation.wall()
    return simulation.time() if clock == time.CLOCK_MONOTONIC else real(clock)


def _clock_gettime_ns(simulation: Simulation, real: Callable[[int], int], clock: int) -> int:
    if clock == time.CLOCK_REALTIME:
        return time.time_ns()
    return time.monotonic_ns() if clock == time.CLOCK_MONOTONIC else real(clock)


def _moment(simulation: Simulation, real: Callable[[float], Any], seconds: Any = None) -> Any:
    """Answer what tells a moment in another way, now if none is given."""
    return real(simulation.wall() if seconds is None else seconds)


def _strftime(simulation: Simulation, real: Callable[..., str], format: str, *moment: Any) -> str:
    return real(format, *(moment or (time.localtime(simulation.wall()),)))


def _asctime(simulation: Simulation, real: Callable[..., str], *moment: Any) -> str:
    return real(*(moment or (time.localtime(simulation.wall()),)))


def _sleep(simulation: Simulation, real: Callable[[Any], None], seconds: Any) -> None:
    length = seconds if isinstance(seconds, float) else operator.index(seconds)
    if length > 0:
        simulation.sleep(length)
    else:
        real(length)  # Nothing, or an error.


def _now(
    simulation: Simulation, _real: Any, kind: type[datetime], tz: tzinfo | None = None
) -> datetime:
    return kind.fromtimestamp(simulation.wall(), tz)


def _utcnow(simulation: Simulation, _real: Any, kind: type[datetime]) -> datetime:
    return kind.fromtimestamp(simulation.wall(), UTC).replace(tzinfo=None)


# Chance.


def _urandom(
    simulation: Simulation, real: Callable[[int], bytes], size: int, flags: int = 0
) -> bytes:
    return simulation.entropy.randbytes(size) if size >= 0 else real(size)


def _seed(
    simulation: Simulation, real: Any, chance: random.Random, a: Any = None, version: int = 2
) -> None:
    """Seed a generator; one without a seed gets one that the simulation's seed decides."""
    real(chance, simulation.entropy.getrandbits(256) if a is None else a, version)


def _seed_shared(simulation: Simulation, real: Any, a: Any = None, version: int = 2) -> None:
    real(simulation.entropy.getrandbits(256) if a is None else a, version)
