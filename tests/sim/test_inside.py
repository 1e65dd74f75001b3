"""What programs see inside a simulation: its time, its chance; and outside of it the world."""

import asyncio
import datetime
import gc
import os
import random
import secrets
import ssl
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, date, timedelta
from os import urandom
from random import choice, shuffle
from time import gmtime, localtime, monotonic, perf_counter, strftime
from time import sleep as snooze
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.loop import EPOCH, Livelock, SimLoop

Datetime = datetime.datetime  # Captured early, as `from datetime import datetime` does.
BEGIN = Datetime(2026, 1, 1, tzinfo=UTC)


class Stamp(Datetime):
    """What libraries derive from datetime."""


CLOCKS: dict[str, Callable[[], float]] = {
    "time": time.time,
    "time_ns": lambda: time.time_ns() / 1e9,
    "datetime.now": lambda: Datetime.now(UTC).timestamp(),
    "datetime.now, local": lambda: Datetime.now().timestamp(),
    "datetime.now by keyword": lambda: Datetime.now(tz=UTC).timestamp(),
    "datetime.utcnow": lambda: Datetime.utcnow().replace(tzinfo=UTC).timestamp(),
    "datetime.today": lambda: Datetime.today().timestamp(),
    "a class of one's own": lambda: Stamp.now(UTC).timestamp(),
    "clock_gettime": lambda: time.clock_gettime(time.CLOCK_REALTIME),
    "clock_gettime_ns": lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) / 1e9,
    "localtime": lambda: time.mktime(localtime()),
    "gmtime": lambda: Datetime(*gmtime()[:6], tzinfo=UTC).timestamp(),
    "strftime": lambda: Datetime.strptime(strftime("%F %T"), "%Y-%m-%d %H:%M:%S").timestamp(),
    "ctime": lambda: Datetime.strptime(time.ctime(), "%c").timestamp(),
    "asctime": lambda: Datetime.strptime(time.asctime(), "%c").timestamp(),
    "uuid1": lambda: (uuid.uuid1().time - 0x01B21DD213814000) / 1e7,
    "file made by logging": lambda: _logged().created,
}
STOPWATCHES: dict[str, Callable[[], float]] = {
    "monotonic": monotonic,
    "monotonic_ns": lambda: time.monotonic_ns() / 1e9,
    "perf_counter": perf_counter,
    "perf_counter_ns": lambda: time.perf_counter_ns() / 1e9,
    "clock_gettime": lambda: time.clock_gettime(time.CLOCK_MONOTONIC),
    "clock_gettime_ns": lambda: time.clock_gettime_ns(time.CLOCK_MONOTONIC) / 1e9,
}


def _logged() -> Any:
    import logging

    return logging.LogRecord("name", logging.INFO, "path", 1, "message", None, None)


@pytest.mark.parametrize("name", CLOCKS)
def test_clocks_on_the_wall(name: str) -> None:
    async def main() -> tuple[float, float]:
        begun = CLOCKS[name]()
        await asyncio.sleep(86_400 * 40)
        return begun, CLOCKS[name]()

    before = time.time()
    assert sim.run(main) == pytest.approx((EPOCH, EPOCH + 86_400 * 40), abs=1e-5)
    assert CLOCKS[name]() == pytest.approx(before, abs=120)


@pytest.mark.parametrize("name", STOPWATCHES)
def test_stopwatches(name: str) -> None:
    async def main() -> tuple[float, float, float]:
        begun = STOPWATCHES[name]()
        await asyncio.sleep(1_000.5)
        return begun, STOPWATCHES[name](), asyncio.get_running_loop().time()

    assert sim.run(main) == (0, 1_000.5, 1_000.5)
    begun = STOPWATCHES[name]()
    assert 1e-6 < begun <= STOPWATCHES[name]() < begun + 60


def test_what_is_given_a_moment_tells_that_one() -> None:
    async def main() -> None:
        assert date.today() == date(2026, 1, 1) or time.timezone
        assert gmtime(0)[:3] == (1970, 1, 1)
        assert gmtime(None)[:3] == (2026, 1, 1)
        assert strftime("%Y", gmtime(0)) == "1970"
        assert time.asctime(gmtime(0)).startswith("Thu Jan  1 00:00:00 1970")
        assert Datetime.now(datetime.timezone(timedelta(hours=3))).hour == 3
        assert Stamp.now().__class__ is Stamp
        assert time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID) > 0.01
        assert time.process_time() > 0.01

    sim.run(main)


def _draw() -> list[Any]:
    """Draw chance in all ways there are."""
    deck = list(range(50))
    shuffle(deck)
    random.shuffle(other := list(range(50)))
    return [
        deck, other, choice(deck), random.random(), random.Random().random(),
        random.SystemRandom().random(), urandom(8), os.getrandom(8), ssl.RAND_bytes(8),
        secrets.token_hex(), secrets.choice(deck), uuid.uuid4(), uuid.uuid1(),
        os.path.basename(tempfile.mktemp()),
    ]  # fmt: skip


def test_chance_is_decided_by_the_seed() -> None:
    async def main() -> list[Any]:
        first = _draw()
        random.seed()
        assert _draw() != first
        return [first, _draw(), random.random()]

    state = random.getstate()
    runs = [sim.run(main, seed=seed) for seed in (1, 2, 1)]
    assert random.getstate() == state
    assert runs[0] == runs[2]
    assert all(a != b for a, b in zip(runs[0][0], runs[1][0], strict=True))
    assert _draw() != _draw()
    assert urandom(8) != urandom(8)


def test_chance_goes_on_over_several_runs_of_a_loop() -> None:
    async def draw(count: int) -> list[float]:
        return [random.random() for _ in range(count)]

    def drawn(*counts: int) -> list[float]:
        loop, found = SimLoop(7), list[float]()
        for count in counts:
            found += loop.run_until_complete(draw(count))
            random.random()  # Others draw, too.
        loop.close()
        return found

    assert drawn(6) == drawn(1, 2, 3)


@given(st.integers(0, 2**64), st.integers(0, 9))
def test_a_seed_given_by_the_program_counts(seed: int, count: int) -> None:
    async def main() -> list[float]:
        random.seed(seed)
        return [random.random() for _ in range(count)] + [random.Random(seed).random()]

    chance = random.Random(seed)
    assert sim.run(main) == [chance.random() for _ in range(count)] + [random.Random(seed).random()]


def test_the_world_is_as_it_was_after_an_error() -> None:
    async def main() -> None:
        raise KeyboardInterrupt

    state, real = random.getstate(), time.time()
    with pytest.raises(KeyboardInterrupt):
        sim.run(main)
    assert random.getstate() == state
    assert real <= time.time() < real + 60
    assert gc.isenabled()
    assert time.sleep.__self__ is time  # type: ignore[attr-defined]
    assert Datetime.__dict__["now"].__class__.__name__ == "classmethod_descriptor"


def test_a_simulation_cannot_run_inside_another() -> None:
    async def inner() -> None:
        raise AssertionError("it runs")

    async def main() -> float:
        await asyncio.sleep(5)
        coroutine = inner()
        with pytest.raises(RuntimeError, match="a simulation cannot run"):
            sim.run(coroutine)
        coroutine.close()
        await asyncio.sleep(5)
        return time.time() - EPOCH

    assert sim.run(main) == 10


def test_other_threads_see_the_world() -> None:
    """Also while two threads simulate at the same time."""
    meet, times = threading.Barrier(2, timeout=30), dict[int, tuple[float, float]]()

    def one(seed: int) -> None:
        async def main() -> None:
            await asyncio.sleep(seed)
            times[seed] = time.time(), random.Random().random()

        meet.wait()
        sim.run(main, seed=seed)

    async def alone() -> None:
        await asyncio.sleep(1)
        times[0] = time.time(), random.Random().random()

    sim.run(alone, seed=1)
    begun = time.time()
    threads = [threading.Thread(target=one, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert begun <= time.time() < begun + 60
    for thread in threads:
        thread.join()
    assert times[1] == times[0]
    assert times[2][0] == EPOCH + 2


def test_an_outsider_sees_the_world_while_a_simulation_runs() -> None:
    inside, looked = threading.Event(), threading.Event()
    seen: list[float] = []

    def look() -> None:
        inside.wait(30)
        snooze(0.001)
        seen.extend((time.time(), Datetime.now().timestamp(), monotonic()))
        looked.set()

    outsider = threading.Thread(target=look)
    outsider.start()
    real, since = time.time(), monotonic()

    async def main() -> None:
        await asyncio.sleep(1e6)
        inside.set()
        while not looked.is_set():
            pass
        assert time.time() == EPOCH + 1e6

    sim.run(main)
    outsider.join()
    assert seen == pytest.approx([real, real, since], abs=60)


def test_sleep_blocks_the_loop_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: seen.append(("timer", loop.time())))
        asyncio.get_running_loop().call_soon(lambda: seen.append(("soon", loop.time())))
        for _ in range(2):
            snooze(10)
            seen.append(("woke", time.time() - EPOCH))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert isinstance(loop, SimLoop)
        ((place, seconds),) = loop.blocked.items()
        assert "test_inside.py" in place and "task task-1" in place
        assert seconds == 20
        return seen

    assert sim.run(main) == [("woke", 10), ("woke", 20), ("soon", 20), ("timer", 20)]
    assert caplog.messages == [m for m in caplog.messages if "blocked for 10 s" in m][:1]


@pytest.mark.parametrize("length", [-1, float("nan"), "1", None])
def test_sleep_refuses_what_it_always_did(length: Any) -> None:
    async def main() -> None:
        with pytest.raises((ValueError, TypeError)):
            snooze(length)
        snooze(0)
        assert time.time() == EPOCH

    sim.run(main)


def test_who_only_sleeps_is_a_livelock() -> None:
    async def main() -> None:
        while True:
            snooze(1)

    with pytest.raises(Livelock, match=r"time.sleep at .*test_inside.py"):
        sim.run(main, steps_max=1_000)


def test_warm_code_is_reached_and_left_alone_again() -> None:
    """The interpreter specializes what it runs often."""

    def look() -> tuple[float, float]:
        return monotonic(), Datetime.now().timestamp()

    async def main() -> list[tuple[float, float]]:
        return [look() for _ in range(200)]

    for _ in range(3):
        real = [look() for _ in range(200)]
        assert set(sim.run(main)) == {(0.0, EPOCH)}
        assert all(moment > EPOCH + 1 or moment < EPOCH for _, moment in real)
        assert len(set(real)) > 1


def test_garbage_is_collected_at_the_same_callback_whatever_was_allocated() -> None:
    class Cycle:
        def __init__(self, died: Callable[[], None]) -> None:
            self.myself, self.died = self, died

        def __del__(self) -> None:
            self.died()

    async def main() -> list[int]:
        loop, deaths, kept = asyncio.get_running_loop(), list[int](), list[list[int]]()
        assert isinstance(loop, SimLoop)
        for _ in range(3):
            Cycle(lambda: deaths.append(loop.steps))
            for _ in range(5_000):
                kept.append([])  # Many of these would have the collector run.
                await asyncio.sleep(0)
        return deaths

    gc.collect()
    first = sim.run(main)
    gc.collect()
    litter = [[number] for number in range(345)]
    assert sim.run(main) == first
    assert len(first) == 3 and len(litter) == 345
