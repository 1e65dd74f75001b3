"""Virtual time: exact, ordered, repeatable; and a program that cannot go on says so."""

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.loop import EPOCH, Deadlock, Livelock, SimLoop, Unsimulated


def test_time_passes_only_by_waiting(simulate: Callable[..., Any]) -> None:
    async def main() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        await asyncio.sleep(86_400)
        return loop.time(), loop.wall()

    begun = time.monotonic()
    assert simulate(main) == (86_400, EPOCH + 86_400)
    assert time.monotonic() - begun < 5


@given(st.lists(st.integers(0, 5), max_size=30))
def test_timers_go_off_by_time_then_by_age(delays: list[int]) -> None:
    async def main() -> list[tuple[int, int]]:
        loop, seen = asyncio.get_running_loop(), list[tuple[int, int]]()
        for n, delay in enumerate(delays):
            loop.call_later(delay, seen.append, (delay, n))
        await asyncio.sleep(6)
        return seen

    assert sim.run(main) == sorted((delay, n) for n, delay in enumerate(delays))


@given(st.sets(st.integers(0, 400)))
def test_cancelled_timers_never_go_off(cancelled: set[int]) -> None:
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), list[int]()
        timers = [loop.call_later(1 + n % 3, seen.append, n) for n in range(400)]
        for n in sorted(cancelled - {400}):
            timers[n].cancel()
        await asyncio.sleep(5)
        return sorted(seen)

    assert sim.run(main) == [n for n in range(400) if n not in cancelled]


async def _racers() -> list[str]:
    seen: list[str] = []

    async def racer(name: str) -> None:
        for lap in range(3):
            await asyncio.sleep(0)
            seen.append(f"{name}{lap}")

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(racer(name))
    return seen


def test_fifo_is_asyncios_own_order() -> None:
    assert sim.run(_racers, seed=1) == asyncio.run(_racers())


def test_random_order_is_decided_by_the_seed() -> None:
    histories = {seed: sim.run(_racers, seed=seed, policy="random") for seed in range(20)}
    assert len({tuple(history) for history in histories.values()}) > 10
    for seed, history in histories.items():
        assert sim.run(_racers, seed=seed, policy="random") == history
        for name in "abcd":
            assert [step for step in history if step[0] == name] == [f"{name}{n}" for n in range(3)]


def test_random_order_keeps_that_of_plain_callbacks() -> None:
    async def main() -> list[int]:
        seen: list[int] = []
        for n in range(20):
            asyncio.get_running_loop().call_soon(seen.append, n)
        await asyncio.sleep(1)
        return seen

    assert sim.run(main, seed=3, policy="random") == list(range(20))


def test_same_seed_same_history_whatever_the_hash_seed() -> None:
    program = (
        "import asyncio\n"
        "from kubeloop import sim\n"
        "from tests.sim.test_loop import _racers\n"
        "print(sim.run(_racers, seed=5, policy='random'))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": hashed, "PYTHONPATH": "."},
            capture_output=True, check=True,
        ).stdout
        for hashed in ("0", "1")
    }  # fmt: skip
    assert len(outputs) == 1


def test_task_names_are_counted_per_simulation() -> None:
    async def main() -> list[str]:
        tasks = [asyncio.create_task(asyncio.sleep(0)) for _ in range(2)]
        await asyncio.gather(*tasks)
        return [task.get_name() for task in tasks]

    assert sim.run(main) == sim.run(main) == ["task-2", "task-3"]


def test_a_deadlock_names_who_waits_and_where(simulate: Callable[..., Any]) -> None:
    async def inner(event: asyncio.Event) -> None:
        await event.wait()

    async def sleeper() -> None:
        async with asyncio.timeout(None):
            await inner(asyncio.Event())

    async def main() -> None:
        task = asyncio.create_task(sleeper(), name="the-sleeper")
        await asyncio.sleep(3)
        assert not task.done()
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match="the-sleeper") as caught:
        simulate(main, seed=9)
    text = str(caught.value)
    assert "3.000000 s (seed 9)" in text
    lines = Path(__file__).read_text().splitlines()
    line = 1 + lines.index("        await event.wait()")
    waits = f"the-sleeper (test_a_deadlock_names_who_waits_and_where.<locals>.sleeper): {__file__}"
    assert f"{waits}:{line} in " in text
    assert "inner, awaiting Event.wait" in text
    assert "locals>.main\n" in f"{text}\n"  # It awaits a future itself.
    assert any("seed=9" in note for note in caught.value.__notes__)


def test_a_livelock_is_named(simulate: Callable[..., Any]) -> None:
    async def spin() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match="task spinner"):
        simulate(lambda: _named(spin(), "spinner"), steps_max=20_000)


def test_what_a_livelock_leaves_behind_is_ended() -> None:
    ended: list[str] = []

    async def spin(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(0)
        finally:
            for _ in range(100):
                await asyncio.sleep(0)
            ended.append(name)

    async def main() -> None:
        await asyncio.gather(spin("a"), spin("b"))

    with pytest.raises(Livelock) as caught:
        sim.run(main, steps_max=1_000)
    assert sorted(ended) == ["a", "b"]
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("policy", ["fifo", "random", "pct"])
def test_a_livelock_names_its_cycle(simulate: Callable[..., Any], policy: str) -> None:
    async def main() -> None:
        there, back = asyncio.Event(), asyncio.Event()

        async def ping() -> None:
            while True:
                await back.wait()
                back.clear()
                there.set()

        async def pong() -> None:
            while True:
                back.set()
                await there.wait()
                there.clear()

        bystander = asyncio.create_task(asyncio.sleep(0.5), name="bystander")
        await bystander
        tasks = [asyncio.create_task(ping(), name="ping"), asyncio.create_task(pong(), name="pong")]
        await asyncio.gather(*tasks)

    with pytest.raises(Livelock) as caught:
        simulate(main, steps_max=20_000, policy=policy)
    name = "test_a_livelock_names_its_cycle.<locals>.main.<locals>"
    cycle = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert {line.partition(" (")[0] for line in cycle} in (
        {"task ping", "→ wakes task pong", "→ wakes task ping"},
        {"task pong", "→ wakes task pong", "→ wakes task ping"},
    )
    assert any(f"→ wakes task ping ({name}.ping) (" in line for line in cycle)
    assert "bystander" not in str(caught.value)


async def _named(work: Any, name: str) -> None:
    await asyncio.get_running_loop().create_task(work, name=name)


def test_leftovers_are_cancelled_in_order_of_name() -> None:
    ended: list[str] = []

    async def leftover(name: str) -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append(name)

    async def main() -> None:
        tasks = [asyncio.create_task(leftover(name), name=name) for name in "hbgacefd"]
        await asyncio.wait(tasks, timeout=1)

    sim.run(main)
    assert "".join(ended) == "abcdefgh"


def test_the_error_of_main_is_raised() -> None:
    async def main() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        sim.run(main)


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        ("subprocess_exec", lambda loop: asyncio.create_subprocess_exec("true")),
        ("add_reader", lambda loop: loop.add_reader(0, print)),
        ("connect_read_pipe", lambda loop: loop.connect_read_pipe(print, 0)),
        ("create_server", lambda loop: asyncio.start_server(print, sock=socket.socket())),
        ("create_datagram_endpoint", lambda loop: loop.create_datagram_endpoint(print, sock=1)),
        ("create_unix_server", lambda loop: loop.create_unix_server(print, sock=1)),
    ],
)
def test_leaving_the_simulation_fails_by_name(name: str, attempt: Callable[[Any], Any]) -> None:
    async def main() -> None:
        with contextlib.ExitStack() as cleanup, pytest.raises(Unsimulated, match=name) as caught:
            result = attempt(asyncio.get_running_loop())
            cleanup.callback(getattr(result, "close", lambda: None))
            await result
        assert "no real I/O" in str(caught.value)
        assert "test_loop.py:" in str(caught.value)
        assert "task task-1 (" in str(caught.value)

    sim.run(main)


@pytest.mark.parametrize("policy", ["fifo", "random", "pct"])
def test_what_tasks_have_called_at_their_end_is_called(policy: Any) -> None:
    called: list[str] = []

    async def main() -> None:
        task = asyncio.ensure_future(asyncio.sleep(100))
        task.add_done_callback(lambda _: called.append("done"))
        task.cancel()

    for seed in range(5):
        sim.run(main, seed=seed, policy=policy)
    assert called == ["done"] * 5


def test_whoever_asks_for_it_is_called_when_nothing_is_ready_before_time_passes() -> None:
    told: list[tuple[str, float]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        waiting = [loop.create_future(), loop.create_future()]

        def at_rest() -> bool:
            told.append(("at rest", loop.time()))
            if loop.time() < 5 or not waiting:
                return False
            waiting.pop().set_result(None)
            return True

        loop.at_rest = at_rest
        loop.call_later(0, lambda: told.append(("due", loop.time())))
        loop.call_later(3, lambda: told.append(("cancelled", 0))).cancel()
        assert loop.next_timer() == 0
        loop.call_later(5, lambda: told.append(("later", loop.time())))
        await asyncio.gather(*waiting)
        loop.at_rest = None
        assert loop.next_timer() is None

    sim.run(main)
    assert told == [("due", 0), ("at rest", 0), ("later", 5), ("at rest", 5), ("at rest", 5)]
