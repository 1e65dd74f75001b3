"""The determinism checker: what is the same passes, what differs is named with its origin."""

import asyncio
import itertools
import os
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.checker import Nondeterminism, check_determinism
from kubeloop.sim.loop import Pct
from kubeloop.sim.trace import CHECKPOINT, Trace, position_of
from kubeloop.sim.twin import ScenarioNotFound, TwinFailed

NAMES = ("ada", "grace", "barbara", "frances", "margaret", "radia", "shafi", "jean")


async def _greet(name: str) -> None:
    await asyncio.sleep(len(name))


async def quiet(count: int = 700) -> float:
    """Do the same thing every time, with time and chance."""
    for n in range(count):
        await asyncio.sleep(random.random())
        if n % 100 == 0:
            await asyncio.gather(*(_greet(name) for name in NAMES))
    return random.random()


async def by_hash() -> None:
    """Go through a set of strings, late."""
    await quiet(300)
    tasks = [asyncio.create_task(_greet(name), name=name) for name in set(NAMES)]
    await asyncio.gather(*tasks)


async def by_hash_in_a_set_of_tasks() -> list[str]:
    """Go through a set of tasks: they have an order."""
    tasks = {asyncio.create_task(_greet(name), name=name) for name in NAMES}
    done, _ = await asyncio.wait(tasks)
    return [task.get_name() for task in done]


async def fails() -> None:
    print("this is no outcome")
    os.write(1, b"nor is this")
    await quiet(10)
    raise KeyError("always")


@pytest.mark.parametrize("policy", ["fifo", "random", "pct", Pct(2, 50)], ids=str)
def test_what_is_the_same_has_a_digest(policy: Any) -> None:
    digest = check_determinism(quiet, seed=5, policy=policy)
    assert check_determinism(quiet, seed=5, policy=policy, runs=3) == digest
    assert check_determinism(quiet, seed=6, policy=policy) != digest


def test_a_trace_is_the_same_in_every_process() -> None:
    digest = check_determinism(by_hash_in_a_set_of_tasks, seed=3, policy=Pct(2, 50))
    elsewhere = check_determinism(
        by_hash_in_a_set_of_tasks, seed=3, policy=Pct(2, 50), processes=True
    )
    assert elsewhere == digest


def test_the_order_of_a_set_of_strings_is_found_across_processes() -> None:
    check_determinism(by_hash)  # In one process it is the same.
    with pytest.raises(Nondeterminism) as caught:
        check_determinism(by_hash, processes=True)
    text = str(caught.value)
    lines = Path(__file__).read_text().splitlines()
    line = 1 + lines.index(
        "    tasks = [asyncio.create_task(_greet(name), name=name) for name in set(NAMES)]"
    )
    assert "by_hash with seed 0" in text
    assert "run 1 (PYTHONHASHSEED=0), run 2 (PYTHONHASHSEED=1, -X dev)" in text
    assert text.count("scheduled at\n") == 2
    assert text.count(f"{__file__}:{line} in ") >= 2
    assert text.count("(_greet)") == 2  # The tasks that differ, by name.
    assert "Before, in both:\n" in text
    assert "task task-1 (by_hash)" in text


def _differs(at: int, what: str) -> Any:
    """Return a scenario that does something else in every second run, `at` some place."""
    runs = itertools.count()

    async def other() -> None:
        await asyncio.sleep(0)

    async def scenario() -> Any:
        number = next(runs) % 2
        result = 0
        for step in range(at + 50):
            await asyncio.sleep(1)
            if step == at and number:
                if what == "task":
                    await asyncio.create_task(other(), name="other")
                elif what == "chance":
                    random.random()
                elif what == "time":
                    await asyncio.sleep(1e-9)
                elif what == "end":
                    return result
                elif what == "result":
                    result = number
                elif what == "error":
                    raise KeyError(number)
        return result

    return scenario


@given(
    at=st.one_of(st.integers(0, 20), st.integers(CHECKPOINT // 2 - 3, CHECKPOINT // 2 + 3)),
    what=st.sampled_from(["task", "chance", "time", "end"]),
)
@settings(max_examples=20)
def test_any_difference_is_found_where_it_is(at: int, what: str) -> None:
    with pytest.raises(Nondeterminism) as caught:
        check_determinism(_differs(at, what))
    text = str(caught.value)
    number = int(text.split("They part at callback ")[1].split(":")[0])
    steps_before = 2 * at + (1 if at else 0)  # Of sleep: the timer, and the task goes on.
    assert steps_before <= number <= steps_before + 6, text
    assert f"at {at:.6f} s" in text or f"at {at + 1:.6f} s" in text


@pytest.mark.parametrize(
    ("what", "told"), [("result", "One returned 0, the other returned 1"), ("error", "KeyError: 1")]
)
def test_another_end_of_the_same_callbacks_is_told(what: str, told: str) -> None:
    with pytest.raises(Nondeterminism, match=told if what == "result" else "part at callback"):
        check_determinism(_differs(49 if what == "result" else 3, what))


def test_a_difference_that_moves_is_told_as_such() -> None:
    runs = itertools.count()

    async def scenario() -> None:
        number = next(runs)
        for n in range(3_000):
            await asyncio.sleep(0)
            if n == 300 * (number + 1):
                random.random()

    with pytest.raises(Nondeterminism, match=r"another place each time.*\n?.*between callbacks"):
        check_determinism(scenario)


def test_an_error_in_all_runs_is_raised(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError, match="always"):
        check_determinism(fails)
    with pytest.raises(TwinFailed, match="KeyError: 'always'"):
        check_determinism(fails, processes=True)


def test_a_scenario_for_processes_can_be_imported() -> None:
    with pytest.raises(ScenarioNotFound, match="function of a module"):
        check_determinism(lambda: quiet(1), processes=True)


def test_a_script_checks_its_own_scenario(tmp_path: Path) -> None:
    import subprocess

    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio\n"
        "from kubeloop.sim.checker import check_determinism\n"
        "async def scenario():\n"
        "    await asyncio.sleep(1)\n"
        "if __name__ == '__main__':\n"
        "    print(check_determinism(scenario, processes=True))\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, check=False, cwd=tmp_path
    )
    assert len(done.stdout.strip()) == 32, done.stderr.decode()


@given(st.integers(), st.lists(st.sampled_from(["random", "getrandbits"]), max_size=1_300))
@settings(max_examples=10)
def test_the_position_of_chance_is_that_of_its_state(seed: int, draws: list[str]) -> None:
    chance = random.Random(seed)
    position = position_of(chance)
    for draw in draws:
        before = position()
        chance.random() if draw == "random" else chance.getrandbits(32)
        assert position() == chance.getstate()[1][-1] != before


def test_a_trace_changes_nothing() -> None:
    """Not the chance, not the order."""
    trace = Trace(detail=range(20))
    plain = sim.run(quiet, seed=4, policy="random")
    assert sim.run(quiet, seed=4, policy="random", trace=trace) == plain
    assert trace.steps > 1_400
    assert len(trace.checkpoints) == trace.steps // CHECKPOINT
    assert [step.number for step in trace.recorded] == list(range(20))
    assert len(trace.digest) == 32
