"""The simulated runtime keeps the runtime's contract, in virtual time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubeloop.actors.runtimes.protocol import ContainerSpec, Exited, RuntimeFailure, SandboxSpec
from kubeloop.actors.runtimes.scripts import Script, annotated
from kubeloop.actors.runtimes.simulated import Ledger, SimulatedRuntime
from kubeloop.actors.world import LoopWorld

Scenario = Callable[[SimulatedRuntime, list[Exited]], Coroutine[Any, Any, None]]


@pytest.fixture
def play(simulate: Any) -> Callable[..., None]:
    """Return a function that plays a scenario on a fresh runtime with one sandbox, "u"."""

    def play(scenario: Scenario, script: Script | None = None) -> None:
        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            world = LoopWorld(loop, seed=1, wall=loop.wall)
            runtime = SimulatedRuntime(world, images={"i": script or Script()}, node="n")
            exits: list[Exited] = []
            runtime.listen(exits.append)
            sandbox = SandboxSpec(pod_uid="u", namespace="d", name="p", ip="10.0.0.2", hostname="p")
            assert await runtime.start_sandbox(sandbox) == "10.0.0.2"
            await scenario(runtime, exits)

        simulate(main)

    return play


def spec(attempt: int = 0, **more: Any) -> ContainerSpec:
    return ContainerSpec(pod_uid="u", name="c", attempt=attempt, image="i", **more)


def test_a_container_runs_and_ends_as_its_script_says(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        await runtime.start_container(spec())
        (run,) = runtime.sandboxes()[0].containers
        assert run.running and not exits
        await asyncio.sleep(2.5)
        assert exits == [Exited("u", "c", 0, 7, "Error")]
        (run,) = runtime.sandboxes()[0].containers
        assert (run.running, run.code, run.finished_s - run.started_s) == (False, 7, 2)
        await runtime.start_container(spec(1))
        assert [r.attempt for r in runtime.sandboxes()[0].containers] == [0, 1]
        await runtime.remove_container("u", "c", 1)
        assert len(runtime.sandboxes()[0].containers) == 2, "what runs is not forgotten"
        await runtime.remove_container("u", "c", 0)
        assert [r.attempt for r in runtime.sandboxes()[0].containers] == [1]

    play(scenario, Script(run_s=2, exit_code=7))


@pytest.mark.parametrize(("term_s", "took", "code"), [(1, 1, 143), (None, 5, 137), (9, 5, 137)])
def test_stop_waits_for_the_end(play: Any, term_s: float | None, took: float, code: int) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        loop = asyncio.get_running_loop()
        await runtime.start_container(spec())
        began = loop.time()
        await runtime.stop_container("u", "c", grace_s=5)
        assert loop.time() - began == pytest.approx(took)
        assert [exit.code for exit in exits] == [code]
        await runtime.stop_container("u", "c", grace_s=5)

    play(scenario, Script(term_s=term_s))


def test_a_second_stop_may_shorten_the_grace(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        await runtime.start_container(spec())
        first = asyncio.create_task(runtime.stop_container("u", "c", grace_s=30))
        await asyncio.sleep(1)
        await runtime.stop_container("u", "c", grace_s=2)
        assert exits[0].code == 137
        await first

    play(scenario, Script(term_s=None))


def test_a_sandbox_takes_everything_with_it(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        await runtime.start_container(spec())
        await runtime.stop_sandbox("u")
        assert [exit.code for exit in exits] == [137]
        assert runtime.sandboxes()[0].ip == ""
        assert [line async for _, line in runtime.logs("u", "c", attempt=0)] == [b"one\n", b"two\n"]
        with pytest.raises(RuntimeFailure, match="no sandbox"):
            await runtime.start_container(spec(1))
        await runtime.remove_sandbox("u")
        assert not runtime.sandboxes() and not runtime.ledger.running
        with pytest.raises(RuntimeFailure, match="no run 0"):
            _ = [line async for line in runtime.logs("u", "c", attempt=0)]

    play(scenario, Script(log=("one", "two")))


def test_one_container_runs_once(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        await runtime.start_container(spec())
        with pytest.raises(RuntimeFailure, match="runs already"):
            await runtime.start_container(spec(1))

    play(scenario)


def test_probes_follow_the_script(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        asked = {"scheme": "HTTP", "path": "/", "headers": {}, "timeout_s": 1.0}
        ok, text = await runtime.http("10.0.0.2", 80, **asked)
        assert not ok and text.endswith("connect: connection refused")
        await runtime.start_container(spec())
        results = []
        for _ in range(8):
            results.append((await runtime.http("10.0.0.2", 80, **asked))[0])
            await asyncio.sleep(1)
        assert results == [True, False, False, True, True, False, False, False]
        assert (await runtime.exec("u", "c", ["true"], timeout_s=1)).code == 1
        assert not (await runtime.tcp("10.0.0.2", 81, timeout_s=1))[0]

    play(
        scenario,
        Script(probe_results=(True, False), ready_after_s=3, fails_after_s=5, port=80),
    )


def test_images_are_pulled_and_removed(play: Any) -> None:
    async def scenario(runtime: SimulatedRuntime, exits: list[Exited]) -> None:
        record = await runtime.pull("i")
        assert (record.names, record.size_bytes) == (("i",), 5)
        assert runtime.images() == [record]
        await runtime.remove_image(record.digest)
        assert not runtime.images()
        runtime.scripts["bad"] = Script(pull_error="no")
        with pytest.raises(RuntimeFailure) as failure:
            await runtime.pull("bad")
        assert failure.value.reason == "ErrImagePull"

    play(scenario, Script(size_bytes=5, pull_s=1))


def test_the_ledger_sees_a_pod_on_two_nodes() -> None:
    ledger = Ledger()
    ledger.began("a", "u")
    ledger.began("a", "u")
    ledger.ended("a", "u")
    assert not ledger.violations
    ledger.began("b", "u")
    assert ledger.violations == ["pod u runs on a and b"]


def test_the_ledger_sees_a_pod_that_moves() -> None:
    ledger, heard = Ledger(), list[tuple[str, str]]()
    ledger.listen(lambda node, uid: heard.append((node, uid)))
    for node in ("a", "b"):
        ledger.began(node, "u")
        ledger.ended(node, "u")
    assert ledger.violations == ["pod u ran on a, and runs on b now"]
    assert heard == [("a", "u"), ("b", "u")] and not ledger.running


def test_annotations_change_the_script() -> None:
    notes = {
        "kubeloop.dev/sim.run-s": "3",
        "kubeloop.dev/sim.c.run-s": "never",
        "kubeloop.dev/sim.d.exit-code": "9",
        "kubeloop.dev/sim.fails": "1, 2",
        "kubeloop.dev/sim.probe-results": "ok,fail",
        "kubeloop.dev/sim.log": "a\nb",
        "unrelated": "x",
    }
    script = annotated(Script(), "c", notes)
    expected = Script(run_s=None, fails=(1, 2), probe_results=(True, False), log=("a", "b"))
    assert script == expected
    assert annotated(Script(), "d", notes).exit_code == 9


@pytest.mark.parametrize(
    ("key", "text"), [("run-s", "soon"), ("fails", "x"), ("probe-results", "yes")]
)
def test_a_wrong_annotation_is_named(key: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"sim.{key}"):
        annotated(Script(), "c", {f"kubeloop.dev/sim.{key}": text})
