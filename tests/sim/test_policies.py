"""The order of callbacks: every policy keeps what programs rely on, and finds what it is for."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.sim.loop import Pct, SimLoop
from kubeloop.sim.policies import PATIENCE, Policy, queue

POLICIES: list[Policy] = ["fifo", "random", "pct", Pct(depth=1, steps=10), Pct(5, 100)]


class Owner:
    """Somebody with callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name

    def act(self, *_what: Any) -> None:
        """Do nothing."""


class Slotted:
    """One that cannot be referred to weakly."""

    __slots__ = ()

    def act(self, *_what: Any) -> None:
        """Do nothing."""


def _plain(*_what: Any) -> None:
    """A function of nobody."""


@pytest.mark.parametrize("policy", POLICIES, ids=str)
@given(data=st.data(), seed=st.integers(0, 99))
def test_everybody_runs_once_and_in_its_own_order(
    policy: Policy, data: st.DataObject, seed: int
) -> None:
    loop, owners = SimLoop(), [Owner(name) for name in "abc"]
    ready = queue(policy, random.Random(seed))
    put: dict[Any, list[int]] = {}
    got: dict[Any, list[int]] = {}
    count = cancelled = 0
    for number, choice in enumerate(data.draw(st.lists(st.integers(-1, 3), max_size=60))):
        if choice >= 0:
            callback = owners[choice].act if choice < 3 else _plain
            handle = asyncio.Handle(callback, (number,), loop, None)
            ready.append(handle)
            count += 1
            if number % 7 == 6:
                handle.cancel()
                cancelled += 1
            else:
                put.setdefault(choice, []).append(number)
        elif count:
            count -= 1
            _take(ready.popleft(), owners, got)
        assert len(ready) == count
    while ready:
        _take(ready.popleft(), owners, got)
    assert got == put
    ready.clear()
    assert not ready
    loop.close()


def _take(handle: asyncio.Handle, owners: list[Owner], got: dict[Any, list[int]]) -> None:
    if not handle.cancelled():
        callback: Any = handle._callback  # type: ignore[attr-defined]
        (number,) = handle._args  # type: ignore[attr-defined]
        owner = getattr(callback, "__self__", None)
        got.setdefault(3 if owner is None else owners.index(owner), []).append(number)


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'lifo': fifo, random, pct"):
        SimLoop(policy="lifo")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="depth=0"):
        Pct(depth=0)
    with pytest.raises(ValueError, match="steps=2"):
        Pct(depth=3, steps=2)


async def _race(laps: int) -> list[str]:
    seen: list[str] = []

    async def racer(name: str) -> None:
        for _ in range(laps):
            seen.append(name)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for name in "abcd":
            group.create_task(racer(name))
    return seen


@pytest.mark.parametrize("policy", ["random", "pct"])
def test_an_order_is_decided_by_the_seed(policy: Policy) -> None:
    histories = [tuple(sim.run(_race(3), seed=seed, policy=policy)) for seed in range(40)]
    assert len(set(histories)) > 15
    for seed, history in enumerate(histories):
        assert tuple(sim.run(_race(3), seed=seed, policy=policy)) == history
        assert Counter(history) == dict.fromkeys("abcd", 3)


def test_pct_lets_the_highest_run_until_it_waits() -> None:
    orders = set()
    for seed in range(150):
        history = sim.run(_race(5), seed=seed, policy=Pct(depth=1))
        order = history[::5]
        assert history == [name for name in order for _ in range(5)]
        orders.add("".join(order))
    assert len(orders) == 24  # All there are.


@pytest.mark.parametrize("depth", [2, 3])
def test_pct_changes_its_mind_as_often_as_told(depth: int) -> None:
    most = 0
    for seed in range(100):
        history = sim.run(_race(5), seed=seed, policy=Pct(depth=depth, steps=20))
        changes = sum(a != b for a, b in pairwise(history))
        assert changes <= 3 + depth - 1
        most = max(most, changes)
    assert most == 3 + depth - 1


def test_who_pct_has_made_the_least_stays_it() -> None:
    loop, owners = SimLoop(), [Owner(name) for name in "abc"]
    for seed in range(50):
        ready = queue(Pct(depth=2, steps=2), random.Random(seed))
        last = set[str]()
        for _ in range(3):
            for owner in owners:
                ready.append(asyncio.Handle(owner.act, (owner.name,), loop, None))
            names = [ready.popleft()._args[0] for _ in owners]  # type: ignore[attr-defined]
            last.add(names[-1])
        assert len(last) == 1
    loop.close()


def test_pct_changes_its_mind_at_any_moment() -> None:
    gaps: set[int] = set()
    for seed in range(100):
        loop, owners = SimLoop(), [Owner(str(n)) for n in range(4)]
        ready = queue(Pct(depth=3, steps=30), random.Random(seed))
        for owner in owners * 30:
            ready.append(asyncio.Handle(owner.act, (owner.name,), loop, None))
        names = [ready.popleft()._args[0] for _ in range(30)]  # type: ignore[attr-defined]
        changes = [n for n, (a, b) in enumerate(pairwise(names)) if a != b]
        gaps.update(b - a for a, b in pairwise(changes))
        loop.close()
    assert len(gaps) > 10


def _misses(policy: Policy, seeds: int) -> int:
    """Return in how many runs a mistake shows that needs one task to wait long for another.

    A reader checks, works, and acts on what it checked; a writer needs fifty turns in between.
    """
    found = 0

    async def main() -> bool:
        state = {"there": True, "missed": False}

        async def writer() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            state["there"] = False

        async def reader() -> None:
            for _ in range(20):
                await asyncio.sleep(0)
                if state["there"]:
                    await asyncio.sleep(0)
                    state["missed"] |= not state["there"]

        await asyncio.gather(writer(), reader())
        return state["missed"]

    for seed in range(seeds):
        found += sim.run(main, seed=seed, policy=policy)
    return found


def test_pct_finds_what_shuffling_never_does() -> None:
    assert _misses("fifo", 1) == 0
    assert _misses("random", 100) == 0
    assert _misses(Pct(depth=2, steps=120), 100) >= 10


def test_pct_starves_nobody_for_ever() -> None:
    async def main() -> int:
        done, polls = asyncio.Event(), 0

        async def poll() -> None:
            nonlocal polls
            while not done.is_set():
                polls += 1
                await asyncio.sleep(0)

        async def other() -> None:
            done.set()

        await asyncio.gather(poll(), other())
        return polls

    polls = [sim.run(main, seed=seed, policy=Pct(depth=1)) for seed in range(20)]
    assert max(polls) == PATIENCE
    assert min(polls) == 0 or min(polls) == 1


def test_pct_counts_callbacks_of_futures_and_connections_first() -> None:
    """As on every event loop: what has happened is known before anybody acts on it."""

    async def main() -> list[str]:
        loop, seen = asyncio.get_running_loop(), list[str]()

        async def late() -> None:
            seen.append("late")

        tasks = [asyncio.create_task(late()) for _ in range(5)]
        loop.call_soon(seen.append, "first")
        loop.call_soon(seen.append, "second")
        await asyncio.gather(*tasks)
        return seen

    for seed in range(10):
        assert sim.run(main, seed=seed, policy="pct") == ["first", "second", *["late"] * 5]


@pytest.mark.parametrize("policy", ["random", "pct"])
def test_an_unmodified_aiohttp_works_in_any_order(policy: Policy) -> None:
    async def main() -> None:
        async def echo(request: web.Request) -> web.Response:
            return web.Response(body=await request.read())

        app = web.Application(client_max_size=2**24)
        app.add_routes([web.post("/", echo)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 80).start()
        async with aiohttp.ClientSession("http://localhost") as session:
            await asyncio.gather(*(_post(session, bytes(n * 50_000)) for n in range(4)))
        await runner.cleanup()

    async def _post(session: aiohttp.ClientSession, body: bytes) -> None:
        for _ in range(2):
            async with session.post("/", data=body) as answer:
                assert await answer.read() == body

    for seed in range(15):
        sim.run(main, seed=seed, policy=policy)


def test_owners_come_and_go() -> None:
    """Priorities are forgotten with their owners, if these can be referred to weakly."""
    ready = queue("pct", random.Random(1))
    loop, stay = SimLoop(), [Owner("stays"), Slotted()]
    call: Callable[..., Any]
    for _ in range(3):
        crowd = [Owner(str(n)) for n in range(900)]
        for n in range(1_800):
            call = crowd[n // 2].act if n % 2 else stay[n // 2 % 2].act
            ready.append(asyncio.Handle(call, (1,), loop, None))
            assert len(ready) == 1
            ready.popleft()
        litter = [Owner("other") for _ in range(900)]  # So that ids are not used again.
        stay += litter
    assert len(ready._ranks) < 1_900  # type: ignore[attr-defined]
    loop.close()
