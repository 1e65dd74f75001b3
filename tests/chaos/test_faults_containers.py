"""Faults of containers and their images: each does what it says, and the cluster recovers."""

import asyncio
from typing import Any

import pytest
from stages import ready, scale, with_web

from kubeloop.chaos.faults.containers import (
    ContainerExits,
    ContainerHangs,
    ContainerOom,
    ProbesFail,
    SlowStarts,
    running,
)
from kubeloop.chaos.faults.images import PullsFail, PullsSlow
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import Deploy


async def first(stage: Stage) -> Any:
    """Return the status of the container that number 0 is."""
    pods = sorted(await stage.api.list("pods"), key=lambda pod: pod.name)
    return pods[0].status["containerStatuses"][0]


@pytest.mark.parametrize(
    ("fault", "reason", "code"),
    [
        (ContainerExits(code=0), "Completed", 0),
        (ContainerExits(code=3), "Error", 3),
        (ContainerOom(number=2), "OOMKilled", 137),
    ],
)
def test_a_process_ends_and_is_started_again(fault: Any, reason: str, code: int) -> None:
    async def body(stage: Stage) -> None:
        await fault.happen(stage)
        await asyncio.sleep(5)
        status = await first(stage)
        assert status["restartCount"] == 1 and "running" in status["state"]
        ended = status["lastState"]["terminated"]
        assert (ended["reason"], ended["exitCode"]) == (reason, code)

    with_web(body)


@pytest.mark.parametrize(("deaf", "after_s"), [(False, 31), (True, 101)])
def test_one_that_hangs_ends_late(deaf: bool, after_s: int) -> None:
    async def body(stage: Stage) -> None:
        _, uid, _ = running(stage)[0]
        await ContainerHangs(deaf=deaf, for_s=100).happen(stage)
        await asyncio.sleep(0.1)
        name = next(pod.name for pod in await stage.api.list("pods") if pod.uid == uid)
        await stage.api.delete("pods", name)
        await asyncio.sleep(after_s - 2)
        assert uid in stage.nodes.ledger.running, "it does not hear TERM"
        await asyncio.sleep(5)
        assert uid not in stage.nodes.ledger.running

    with_web(body)


def test_one_that_hangs_or_is_ill_gets_no_requests() -> None:
    async def body(stage: Stage) -> None:
        for fault in (ContainerHangs(for_s=30), ProbesFail(for_s=30)):
            await fault.happen(stage)
            await asyncio.sleep(20)
            assert await ready(stage) == 1
            await asyncio.sleep(20)
            assert await ready(stage) == 2
        assert (await first(stage))["restartCount"] == 0

    with_web(body)


def test_starts_and_pulls_take_longer_for_a_while() -> None:
    async def body(stage: Stage) -> None:
        for number in (1, 2):
            await SlowStarts(node=number, delay_s=20, for_s=40).happen(stage)
        await scale(stage, 3)
        await asyncio.sleep(19)
        assert await ready(stage) == 2
        await asyncio.sleep(5)
        assert await ready(stage) == 3
        await asyncio.sleep(40)
        await PullsSlow(image="app:2", delay_s=60, for_s=20).happen(stage)
        await Deploy(replicas=2, image="app:2", unavailable=2).happen(stage)
        await asyncio.sleep(19)
        assert await ready(stage) == 0
        await asyncio.sleep(5)
        assert await ready(stage) == 2, "when the registry is well those who wait are served"

    with_web(body)


@pytest.mark.parametrize(("answer", "why"), [("404", "not found"), ("503", "503 Service Unav")])
def test_a_registry_refuses_and_is_asked_again(answer: str, why: str) -> None:
    async def body(stage: Stage) -> None:
        await PullsFail(answer=answer, for_s=60).happen(stage)
        await Deploy(replicas=2, image="app:2").happen(stage)
        await asyncio.sleep(5)
        events = await stage.api.list("events")
        assert any(why in event["message"] for event in events if event["reason"] == "Failed")
        pods = [pod for pod in await stage.api.list("pods") if "app:2" in str(pod.spec)]
        waiting = pods[0].status["containerStatuses"][0]["state"]["waiting"]["reason"]
        assert waiting in ("ErrImagePull", "ImagePullBackOff")
        await asyncio.sleep(200)
        assert await ready(stage) == 2

    with_web(body)


def test_where_no_container_runs_none_fails() -> None:
    async def body(stage: Stage) -> None:
        await scale(stage, 0)
        await asyncio.sleep(60)
        await ContainerOom().happen(stage)
        assert "no container runs" in stage.marks[-1].text
        await scale(stage, 1)

    with_web(body)
