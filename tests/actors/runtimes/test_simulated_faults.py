"""What may go wrong in the simulated runtime and at its registry, and that it ends."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubeloop.actors.runtimes.protocol import ContainerSpec, Exited, RuntimeFailure, SandboxSpec
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.actors.runtimes.simulated import SimulatedRegistry, SimulatedRuntime
from kubeloop.actors.world import LoopWorld

Scenario = Callable[[SimulatedRuntime, list[Exited]], Coroutine[Any, Any, None]]
HTTP = {"scheme": "HTTP", "path": "/", "headers": {}}
SPEC = ContainerSpec(pod_uid="u", name="c", attempt=0, image="i")


@pytest.fixture
def play(simulate: Any) -> Callable[..., None]:
    """Return a function that plays a scenario on a runtime with one container that runs."""

    def play(scenario: Scenario, script: Script | None = None) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            world = LoopWorld(loop, seed=1, wall=loop.wall)
            runtime = SimulatedRuntime(world, images={"i": script or Script()}, node="n")
            exits: list[Exited] = []
            runtime.listen(exits.append)
            await runtime.start_sandbox(
                SandboxSpec(pod_uid="u", namespace="d", name="p", ip="10.0.0.2", hostname="p")
            )
            await runtime.start_container(SPEC)
            await scenario(runtime, exits)

        simulate(main)

    return play


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_process_is_killed_for_a_reason(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        runtime.kill("u", "c", reason="OOMKilled")
        runtime.kill("u", "c")
        assert exits == [Exited("u", "c", 0, 137, "OOMKilled")]
        (run,) = runtime.sandboxes()[0].containers
        assert (run.code, run.reason) == (137, "OOMKilled")

    play(scenario)


def test_a_sick_container_fails_its_probes(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        async def healthy() -> list[bool]:
            return [
                (await runtime.http("10.0.0.2", 80, timeout_s=1, **HTTP))[0],  # type: ignore
                (await runtime.tcp("10.0.0.2", 80, timeout_s=1))[0],
                (await runtime.exec("u", "c", ["true"], timeout_s=1)).code == 0,
            ]

        twice = [runtime.sicken("u", "c"), runtime.sicken("u", "c")]
        twice[0]()
        assert await healthy() == [False] * 3
        twice[1]()
        assert await healthy() == [True] * 3
        runtime.sicken("nobody", "c")()

    play(scenario)


def test_one_that_hangs_answers_nothing_and_ends_when_it_goes_on(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        go_on = runtime.hang("u", "c")
        begun = now()
        ok, text = await runtime.http("10.0.0.2", 80, timeout_s=2, **HTTP)  # type: ignore
        assert not ok and "deadline exceeded" in text and now() - begun == pytest.approx(2)
        with pytest.raises(TimeoutError):
            await runtime.exec("u", "c", ["true"], timeout_s=3)
        assert (await runtime.tcp("10.0.0.2", 80, timeout_s=1))[0], "the system answers for it"
        stop = asyncio.create_task(runtime.stop_container("u", "c", grace_s=60))
        await asyncio.sleep(30)
        assert not exits, "it does not hear TERM"
        go_on()
        await stop
        assert [exit.code for exit in exits] == [143]
        runtime.hang("u", "c")()

    play(scenario, Script(term_s=1))


def test_what_ends_by_itself_ends_later_if_it_hangs(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        both = [runtime.hang("u", "c"), runtime.hang("u", "c")]
        await asyncio.sleep(20)
        both[0]()
        assert not exits
        both[1]()
        assert [exit.code for exit in exits] == [3]

    play(scenario, Script(run_s=5, exit_code=3))


def test_kill_ends_one_that_hangs_unless_it_is_deaf(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        hear = runtime.hang("u", "c", deaf=True)
        runtime.hang("u", "c")
        stop = asyncio.create_task(runtime.stop_container("u", "c", grace_s=5))
        await asyncio.sleep(60)
        assert not exits and not stop.done()
        for end in (runtime.stop_sandbox, runtime.remove_sandbox):
            with pytest.raises(RuntimeFailure, match="to be killed") as failure:
                await end("u")
            assert failure.value.reason == "KillContainerError"
        assert runtime.ledger.running == {"u": {"n": 1}}, "it runs, whatever anybody believes"
        hear()
        await stop
        assert [exit.code for exit in exits] == [137], "KILL ends it, though it still hangs"
        await runtime.remove_sandbox("u")
        assert not runtime.sandboxes()

    play(scenario, Script(term_s=1))


def test_a_runtime_that_stalls_answers_later(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        both = [runtime.stall(), runtime.stall()]
        sandbox = SandboxSpec(pod_uid="v", namespace="d", name="q", ip="10.0.0.3", hostname="q")
        work = [
            asyncio.ensure_future(call)
            for call in (
                runtime.start_sandbox(sandbox),
                runtime.pull("i"),
                runtime.exec("u", "c", ["true"], timeout_s=1),
                runtime.remove_container("u", "c", 7),
                runtime.stop_container("u", "c", grace_s=0),
            )
        ]
        await asyncio.sleep(60)
        both[0]()
        both[0]()
        await asyncio.sleep(60)
        assert not any(one.done() for one in work) and not exits
        both[1]()
        await asyncio.gather(*work)
        assert len(runtime.sandboxes()) == 2 and runtime.images()

    play(scenario)


def test_starts_may_take_longer(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        runtime.kill("u", "c")
        both = [runtime.slow(7.0), runtime.slow(7.0)]
        for took_s in (16, 9, 2):
            begun = now()
            await runtime.start_container(SPEC)
            assert now() - begun == pytest.approx(took_s)
            runtime.kill("u", "c")
            if both:
                both.pop()()

    play(scenario, Script(start_s=2))


def test_power_takes_even_the_deaf(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        go_on = runtime.hang("u", "c", deaf=True)
        runtime.lose()
        assert not runtime.sandboxes() and not runtime.ledger.running
        go_on()
        assert not exits, "nobody is told"

    play(scenario)


def test_a_registry_is_slow_or_refuses_until_its_trouble_is_over(simulate: Any) -> None:
    async def main() -> None:
        registry = SimulatedRegistry({"web:1": Script(pull_s=1, size_bytes=9)})

        async def took_s(image: str) -> float:
            begun = now()
            assert (await registry.pull(image)).names == (image,)
            return now() - begun

        assert await took_s("web:1") == pytest.approx(1)
        end = registry.trouble("web:1", slow_s=10)
        assert await took_s("web:1") == pytest.approx(11)
        assert await took_s("db:1") == pytest.approx(0)
        pull = asyncio.create_task(took_s("web:1"))
        await asyncio.sleep(4)
        end()
        end()
        assert await pull == pytest.approx(5), "whoever waits goes on"

        ends = [
            registry.trouble(refuse=lambda image: f"{image}: not found"),
            registry.trouble("db:1", refuse=lambda image: "503"),
        ]
        with pytest.raises(RuntimeFailure, match="db:1: not found") as failure:
            await registry.pull("db:1")
        assert failure.value.reason == "ErrImagePull"
        ends[0]()
        assert await took_s("web:1") == pytest.approx(1)
        with pytest.raises(RuntimeFailure, match="503"):
            await registry.pull("db:1")
        ends[1]()
        assert await took_s("db:1") == pytest.approx(0)

    simulate(main)
