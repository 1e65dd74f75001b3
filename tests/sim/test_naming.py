"""Names and places: the same in every run, and those of the program, not of its libraries."""

import asyncio
import functools
from contextlib import AsyncExitStack
from typing import Any

import pytest

from kubeloop import sim
from kubeloop.sim.naming import caller, cycle_text, handle_name, outer_frames, task_name
from kubeloop.sim.naming import waiting_place as where
from kubeloop.sim.naming import without_addresses as plain

HERE = __file__


class Bell:
    """Somebody with a name."""

    name = "the bell"

    def ring(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        (Bell().ring, "Bell.ring of the bell"),
        (functools.partial(functools.partial(Bell().ring)), "Bell.ring of the bell"),
        ([].append, "list.append"),
        (print, "print"),
        (type("Callable", (), {"__call__": print})(), "Callable"),
    ],
)
def test_names_of_callbacks(callback: Any, name: str) -> None:
    loop = sim.SimLoop()
    assert handle_name(asyncio.Handle(callback, (), loop, None)) == name
    loop.close()


def test_names_hold_no_addresses() -> None:
    async def main() -> str:
        task = asyncio.create_task(asyncio.sleep(0), name=f"cleaner of {object()}")
        await task
        return task_name(task)

    assert sim.run(main) == "cleaner of <object object at 0x…> (sleep)"
    assert plain("0xfeed 0x1234567 0x7f00deadbeef") == "0xfeed 0x… 0x…"


def test_where_a_task_waits_is_a_place_of_the_program() -> None:
    class Slow:
        async def __aenter__(self) -> None:
            await asyncio.get_running_loop().create_future()

        async def __aexit__(self, *_: object) -> None:
            """Never."""

    async def through_the_library() -> None:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(Slow())

    async def in_the_library() -> None:
        await asyncio.Queue[int]().get()

    async def iterating() -> None:
        async def numbers() -> Any:
            await asyncio.Event().wait()
            yield 1

        async for _ in numbers():
            """Never."""

    async def main() -> list[str]:
        work = [through_the_library(), in_the_library(), iterating(), asyncio.Event().wait()]
        tasks = [asyncio.create_task(one) for one in work]
        await asyncio.sleep(1)
        return [where(task) for task in tasks]

    through, within, iterated, only_library = sim.run(main)
    assert through.startswith(f"{HERE}:")
    assert through.endswith("Slow.__aenter__")
    assert within.endswith("in_the_library, awaiting Queue.get")
    assert iterated.endswith("numbers, awaiting Event.wait")
    assert only_library == "Event.wait"


def test_callers_are_of_the_program() -> None:
    async def main() -> None:
        assert caller().startswith(f"{HERE}:")
        assert caller().endswith(
            "main, task task-1 (test_callers_are_of_the_program.<locals>.main)"
        )

    sim.run(main)
    assert "task" not in caller().rpartition(" in ")[2]
    assert outer_frames(1)[0].startswith(f"{HERE}:")


def test_a_cycle_is_told_from_what_leads_to_it_and_from_what_is_rare() -> None:
    wakes = [("start", "a"), *[("a", "b"), ("b", "c"), ("c", "a")] * 9, ("b", "rare"), ("c", "c")]
    lines = [line.strip() for line in cycle_text(wakes).splitlines()]
    ring = ["a", "→ wakes b (9 ×)", "→ wakes c (9 ×)", "→ wakes a (9 ×)"]
    turned = [[name, *ring[1:][n:], *ring[1:][:n]] for n, name in enumerate("abc")]
    assert lines in turned
    assert cycle_text([]) == ""
    assert cycle_text([("a", "b")]).splitlines() == ["  a", "  → wakes b (1 ×)"]
