"""Sets of coroutines and of anyio's scopes have an order that no address decides; of tasks one sees
those of one's own host."""

import asyncio

import pytest

from kubeloop import sim
from kubeloop.sim.loop import SimLoop

anyio = pytest.importorskip("anyio", reason="no anyio: pip install anyio")


async def _started(name: str, number: int, seen: list[tuple[str, int]]) -> None:
    seen.append((name, number))


def test_a_set_of_coroutines_is_begun_by_name_and_arguments() -> None:
    async def main() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        wanted = {_started(name, n, seen) for n in (3, 1, 2) for name in "cab"}
        for done in asyncio.as_completed(wanted):
            await done
        return seen

    assert sim.run(main) == [(name, n) for name in "abc" for n in (1, 2, 3)]


def test_what_is_no_set_keeps_its_order() -> None:
    async def main() -> list[tuple[str, int]]:
        seen: list[tuple[str, int]] = []
        tasks = [asyncio.ensure_future(_started("x", n, seen)) for n in (3, 1, 2)]
        for done in asyncio.as_completed(set(tasks), timeout=1):
            await done
        return seen

    assert sim.run(main) == [("x", 3), ("x", 1), ("x", 2)]


def test_scopes_hash_alike_inside_only() -> None:
    async def main() -> set[int]:
        return {hash(anyio.CancelScope()) for _ in range(10)}

    assert sim.run(main) == {0}
    kept = []

    async def real() -> set[int]:
        kept.extend(anyio.CancelScope() for _ in range(10))
        return {hash(scope) for scope in kept}

    assert len(asyncio.run(real())) == 10
    assert asyncio.as_completed is asyncio.tasks.as_completed


def test_a_cancelled_group_ends_its_children_in_one_order() -> None:
    ended: list[int] = []

    async def child(number: int) -> None:
        with anyio.CancelScope():
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(number)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(child, number)
            await anyio.sleep(1)
            group.cancel_scope.cancel()

    orders = []
    for _ in range(5):
        ended.clear()
        sim.run(main)
        orders.append(list(ended))
    assert orders[1:] == orders[:-1]
    assert sorted(orders[0]) == list(range(50))


def test_a_host_sees_its_own_tasks() -> None:
    async def names() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks()}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.network.add_host("a", "10.0.0.1")
        here = asyncio.create_task(asyncio.sleep(100), name="here")
        with loop.network.on("a"):
            there = asyncio.create_task(asyncio.sleep(100), name="there")
            asked = asyncio.create_task(names(), name="asked")
        assert await asked == {"there", "asked"}
        assert await names() == {"here", "task-1"}
        assert asyncio.all_tasks(loop) == {here, there, asyncio.current_task()}

    sim.run(main)
