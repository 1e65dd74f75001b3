"""Faults between an operator and the API server: each does what it says, and it ends."""

import asyncio
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from stages import MAPS, Watch, config_map, on_stage, rest

from kubeloop.chaos.faults.base import Fault
from kubeloop.chaos.faults.network import (
    NetCut,
    NetHalfOpen,
    NetLossy,
    NetNarrow,
    NetRefuses,
    NetReset,
    NetSlow,
)
from kubeloop.chaos.program import Program
from kubeloop.chaos.stage import Stage

LIST = f"{MAPS}?limit=500"
Took = dict[float, float]


def asked(fault: Fault, *, anew: bool = False) -> tuple[Took, list[str], Watch]:
    """Have an operator ask once a second, for 100 s, with a fault from 10.5 s on.

    anew: each time by a new connection.
    Returns: when it asked → how long that took, -1 if it failed;  the marks;  a watch of its.
    """
    took: Took = {}

    async def body(stage: Stage) -> Any:
        watches: list[Watch] = []

        async def ask(http: aiohttp.ClientSession) -> None:
            begun = stage.loop.time() - start
            try:
                async with http.get(LIST) as response:
                    await response.read()
            except (aiohttp.ClientError, ConnectionError):
                took[round(begun, 3)] = -1
            else:
                took[round(begun, 3)] = stage.loop.time() - start - begun

        async def operator(stage: Stage) -> None:
            async with rest(stage, "operator") as http:
                watches.append(Watch(http))
                while True:
                    if anew:
                        async with rest(stage, "operator") as other:
                            await ask(other)
                    else:
                        await ask(http)
                    await asyncio.sleep(1)

        start = stage.loop.time()
        await stage.api.create(config_map("large", text="x" * 5000))
        stage.program = Program(stage, operator)
        task = asyncio.ensure_future(stage.program.run())
        await asyncio.sleep(10.5)
        await fault.happen(stage)
        await asyncio.sleep(20)
        await stage.api.create(config_map("meanwhile"))
        await asyncio.sleep(69.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [mark.text for mark in stage.marks], watches[0]

    marks, watch = on_stage(body)
    before = [s for at, s in took.items() if at < 10]
    assert len(before) == 10 and 0 <= max(before) < 0.1, "all was well before"
    assert 0 <= max(s for at, s in took.items() if at > 90) < 0.1, "all is well again"
    return took, marks, watch


def slow(took: Took, until: float = 50) -> list[float]:
    return [s for at, s in took.items() if 10.5 < at < until]


@pytest.mark.parametrize(
    ("fault", "is_it"),
    [
        (NetSlow(delay_s=4.0, for_s=40), lambda s: min(s) >= 4 and max(s) <= 8.1),
        (NetSlow(delay_s=4.0, way="to", for_s=40), lambda s: min(s) >= 2 and max(s) <= 4.1),
        (NetSlow(delay_s=4.0, way="from", for_s=40), lambda s: min(s) >= 2 and max(s) <= 4.1),
        (NetNarrow(bytes_per_s=1000, way="from", for_s=40), lambda s: min(s) >= 5),
        (NetNarrow(bytes_per_s=1000, way="to", for_s=40), lambda s: max(s) < 2),
        (NetLossy(loss=0.3, for_s=40), lambda s: max(s) >= 0.1),
    ],
)
def test_it_takes_longer(fault: Fault, is_it: Callable[[list[float]], bool]) -> None:
    took, _, watch = asked(fault)
    assert is_it(slow(took, 45)), took
    assert watch.events[-1] == ("ADDED", "meanwhile") and not watch.end


@pytest.mark.parametrize("way", ["both", "to", "from"])
def test_nothing_passes_and_arrives_in_the_end(way: str) -> None:
    took, _, watch = asked(NetCut(way=way, for_s=40))
    (waited,) = slow(took)
    assert waited == pytest.approx(40, abs=1)
    assert watch.events[-1] == ("ADDED", "meanwhile") and not watch.end


def test_new_connections_are_refused() -> None:
    took, _, watch = asked(NetRefuses(for_s=40), anew=True)
    assert set(slow(took)) == {-1}
    assert watch.events[-1] == ("ADDED", "meanwhile"), "the old ones live on"
    took, _, _ = asked(NetRefuses(how="blackholed", for_s=40), anew=True)
    assert max(slow(took)) > 10
    took, _, _ = asked(NetRefuses(for_s=40))
    assert max(slow(took)) < 0.1


def test_all_connections_are_reset_once() -> None:
    took, _, watch = asked(NetReset(for_s=40))
    assert max(slow(took)) < 0.1
    assert watch.end == "cut" or watch.end == "reset"


def test_half_open_ones_say_nothing_until_they_are_reset() -> None:
    took, _, watch = asked(NetHalfOpen(for_s=60))
    assert 50 < max(slow(took)) < 61, "it is asked again then"
    assert ("ADDED", "meanwhile") not in watch.events
    assert watch.end in ("cut", "reset")


def test_without_an_operator_there_is_no_network() -> None:
    async def body(stage: Stage) -> None:
        for fault in (NetCut(), NetReset()):
            await fault.happen(stage)
            assert "there is no operator" in stage.marks[-1].text

    on_stage(body)
