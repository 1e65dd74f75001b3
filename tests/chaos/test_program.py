"""A program that is killed: nothing of it is left, and it begins anew."""

import asyncio
from typing import Any

import pytest
from stages import MAPS, config_map, create, rest, told

from kubeloop.chaos.faults.api import CrashAtWrite, OperatorCrashes
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import Violation, play
from kubeloop.chaos.program import PROGRAM
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.values import Happening
from kubeloop.chaos.watching import Outcome


def played(operator: Any, *happenings: Happening, policy: Any = "random") -> Outcome:
    return play(
        Plan(seed=1, policy=policy, nodes=0, rest=True, happenings=happenings),
        operator=operator,
        keep=True,
    )


def written(outcome: Outcome) -> list[str]:
    """Return the names of the ConfigMaps that were made, of one letter or more after a dash."""
    names = [f.key.rpartition("/")[2] for f in outcome.history if f.resource == "configmaps"]
    return [name for name in names if not name.startswith("kube-")]


def test_whatever_it_does_when_it_is_killed_comes_to_nothing() -> None:
    begun: list[float] = []
    seen: list[str] = []

    async def operator(stage: Stage) -> None:
        begun.append(stage.loop.time())

        async def aside() -> None:
            for number in range(1000):
                await stage.client("operator").create(config_map(f"aside-{len(begun)}-{number}"))
                await asyncio.sleep(1)

        async def stubborn() -> None:
            while True:
                try:
                    await asyncio.sleep(1000)
                except asyncio.CancelledError:
                    seen.append("stubborn")
                    if seen.count("stubborn") > 5 * len(begun):
                        raise

        tasks = [asyncio.ensure_future(aside()), asyncio.ensure_future(stubborn())]
        async with rest(stage, "operator/1.0") as http:
            try:
                await asyncio.gather(asyncio.sleep(1000), *tasks)
            finally:
                if len(begun) == 1:
                    for last_will in (
                        lambda: stage.client("operator").create(config_map("in-process")),
                        lambda: create(http, "over-rest"),
                    ):
                        with pytest.raises((ConnectionRefusedError, asyncio.CancelledError)):
                            await last_will()
                        seen.append("tried")

    outcome = played(operator, OperatorCrashes(at_s=3.5, for_s=4))
    names = written(outcome)
    assert [name for name in names if name.startswith("aside-1")] == [
        f"aside-1-{number}" for number in range(4)
    ]
    assert "aside-2-0" in names
    assert not {"in-process", "over-rest"} & set(names)
    assert len(begun) == 2 and begun[1] - begun[0] == pytest.approx(7.5, abs=0.01)
    assert seen.count("tried") == 2


def test_its_connections_are_reset_and_the_new_one_has_its_own() -> None:
    async def operator(stage: Stage) -> None:
        async with rest(stage, "operator/1.0") as http, http.get(f"{MAPS}?watch=1") as response:
            async for _ in response.content:
                connections = [
                    one for one in stage.network.connections.values() if one.host == PROGRAM
                ]
                assert len(connections) == 1
                assert len(stage.gate._feeds) == 1, "the watch of the dead one is over"

    played(operator, OperatorCrashes(at_s=3, for_s=2), OperatorCrashes(at_s=9, for_s=0))


@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize("over_rest", [False, True])
def test_killed_at_a_write_that_is_done(nth: int, over_rest: bool) -> None:
    begun: list[float] = []

    async def operator(stage: Stage) -> None:
        begun.append(stage.loop.time())
        async with rest(stage, "operator") as http:
            await told(http, "GET", MAPS)
            for letter in "abc":
                name = f"{letter}-{len(begun)}"
                if over_rest:
                    await create(http, name)
                else:
                    try:
                        await stage.client("operator").create(config_map(name))
                    except ConnectionError:
                        await stage.client("operator").create(config_map("never"))
            await asyncio.sleep(1000)

    outcome = played(operator, CrashAtWrite(at_s=0, client="operator", nth=nth, down_s=3, for_s=60))
    first = ["a-1", "b-1"][:nth]
    assert written(outcome) == [*first, "a-2", "b-2", "c-2"]
    assert len(begun) == 2 and 3 <= begun[1] - begun[0] < 3.1


def test_an_operator_that_ends_by_itself_or_fails_is_told() -> None:
    async def ends(stage: Stage) -> None:
        await asyncio.sleep(1)

    async def fails(stage: Stage) -> None:
        await asyncio.sleep(1)
        raise LookupError("no such luck")

    with pytest.raises(Violation, match="the operator has ended") as seen:
        played(ends, OperatorCrashes(at_s=5))
    assert seen.value.monitor == "operator"
    with pytest.raises(LookupError, match="no such luck"):
        played(fails, OperatorCrashes(at_s=5))


def test_it_is_killed_whoever_is_ready_first() -> None:
    async def operator(stage: Stage) -> None:
        await asyncio.gather(*(asyncio.sleep(1000) for _ in range(5)))

    for seed in range(10):
        crash = OperatorCrashes(at_s=5, for_s=5)
        play(Plan(seed=seed, policy="pct", nodes=0, happenings=(crash,)), operator=operator)


def test_one_that_cannot_be_killed_is_told() -> None:
    cancelled = 0

    async def operator(stage: Stage) -> None:
        nonlocal cancelled
        while True:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                cancelled += 1
                if cancelled > 1000:  # Else the test itself would not end.
                    raise

    with pytest.raises(Violation, match="cannot be killed"):
        played(operator, OperatorCrashes(at_s=5, for_s=60), policy="fifo")


def test_without_an_operator_nothing_happens() -> None:
    outcome = played(None, OperatorCrashes(at_s=1), CrashAtWrite(at_s=1, for_s=5))
    assert len([mark for mark in outcome.marks if "there is no operator" in mark.text]) == 2
