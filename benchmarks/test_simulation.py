"""What a simulation costs: callbacks beside asyncio's own loop, entering it, idle clusters.

Sketch: a callback costs asyncio a handle, a deque and a look at the clock and the selector each
time round: 2 µs. In a simulation there is no clock and no selector, so "fifo" should be no slower;
"random" adds a shuffle, "pct" a heap: half as fast at worst. A trace makes a hash of names:
twice as slow, and nothing when it is off, as the loop looks once per round.

Entering exchanges some 40 functions, by two words each, and keeps the state of `random`: 0.1 ms.

An idle node renews its lease every 10 s: 360 writes an hour, each through the API server, the store
and the controllers that watch leases, and nearly all that an idle cluster does. At 50 µs each, an
hour of 100 nodes would take 1.8 s.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop import Cluster, sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.sim.inside import inside
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.trace import Trace

CALLBACKS = 50_000
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "fifo": SimLoop,
    "random": lambda: SimLoop(policy="random"),
    "pct": lambda: SimLoop(policy="pct"),
    "fifo, traced": lambda: SimLoop(trace=Trace()),
}


async def turns() -> int:
    """Fifty tasks that give way to each other."""

    async def turn() -> int:
        for _ in range(CALLBACKS // 50 - 1):
            await asyncio.sleep(0)
        return CALLBACKS // 50

    return sum(await asyncio.gather(*(turn() for _ in range(50))))


async def callbacks() -> int:
    """A function that calls itself."""
    loop, left = asyncio.get_running_loop(), CALLBACKS
    done = loop.create_future()

    def call() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(call)
        else:
            done.set_result(CALLBACKS)

    call()
    return cast(int, await done)


async def timers() -> int:
    """Tasks that sleep: a timer, a future and two callbacks each time. Not for a real loop."""
    for _ in range(CALLBACKS // 2):
        await asyncio.sleep(1)
    return CALLBACKS


WORK: dict[str, Callable[[], Coroutine[Any, Any, int]]] = {
    "turns": turns,
    "callbacks": callbacks,
    "timers": timers,
}


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("work", WORK)
def test_callbacks(benchmark: BenchmarkFixture, beside: Beside, work: str, loop: str) -> None:
    if (loop, work) == ("asyncio", "timers"):
        pytest.skip("it would take hours")
    made = LOOPS[loop]()
    try:
        with beside(f"simulation: {work}", loop, CALLBACKS):
            assert benchmark(lambda: made.run_until_complete(WORK[work]())) == CALLBACKS
    finally:
        made.close()


async def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("how", ["asyncio.run", "sim.run", "inside"])
def test_entering_and_leaving(benchmark: BenchmarkFixture, beside: Beside, how: str) -> None:
    loop = SimLoop()

    def enter() -> None:
        with inside(loop):
            """Nothing is done."""

    calls: dict[str, Callable[[], None]] = {
        "asyncio.run": lambda: asyncio.run(nothing()),
        "sim.run": lambda: sim.run(nothing),
        "inside": enter,
    }
    with beside("simulation: entering and leaving", how, 1):
        benchmark(calls[how])
    loop.close()


@pytest.mark.parametrize(("nodes", "seconds"), [(1, 300), (10, 300), (100, 60)])
def test_an_idle_cluster(
    benchmark: BenchmarkFixture, beside: Beside, nodes: int, seconds: int
) -> None:
    """How many virtual seconds pass in a real one; starting and stopping is not counted."""
    loop = SimLoop()
    cluster = Cluster(nodes=nodes, seed=1)
    loop.run_until_complete(cluster.start())
    try:
        with beside("simulation: seconds of an idle cluster", f"{nodes} nodes", seconds):
            benchmark.pedantic(
                lambda: loop.run_until_complete(asyncio.sleep(seconds)), rounds=3, warmup_rounds=1
            )
    finally:
        loop.run_until_complete(cluster.stop())
        loop.close()


def test_a_hundred_nodes_and_a_cron_job_each_minute(
    benchmark: BenchmarkFixture, beside: Beside, request: pytest.FixtureRequest
) -> None:
    """How many virtual seconds pass in a real one; and every Job begins at its very instant."""
    hours: float = request.config.getoption("--simulated-hours")
    loop, born = SimLoop(), list[float]()

    async def watch() -> None:
        async for event in cluster.api.watch("jobs"):
            if event.type == "ADDED":
                born.append(loop.time())

    cluster = Cluster(nodes=100, seed=1, images={"i": Script(run_s=5.0)})
    loop.run_until_complete(cluster.start())
    watching = loop.create_task(watch())
    loop.run_until_complete(cluster.api.create(_CRON_JOB))
    try:
        with beside("simulation: seconds of a cluster that works", "100 nodes", hours * 3600):
            benchmark.pedantic(
                lambda: loop.run_until_complete(asyncio.sleep(hours * 3600 + 1)), rounds=1
            )
        watching.cancel()
        minutes = [60.0 * n for n in range(1, len(born) + 1)]
        assert len(born) == int(hours * 60)
        assert all(abs(at - due) < 0.001 for at, due in zip(born, minutes, strict=True))
    finally:
        loop.run_until_complete(cluster.stop())
        loop.close()


_CRON_JOB = {
    "apiVersion": "batch/v1",
    "kind": "CronJob",
    "metadata": {"name": "each-minute"},
    "spec": {
        "schedule": "* * * * *",
        "jobTemplate": {
            "spec": {
                "template": {
                    "spec": {
                        "restartPolicy": "Never",
                        "containers": [{"name": "c", "image": "i"}],
                    }
                }
            }
        },
    },
}
