"""Faults of the parts of a control plane: each does what it says, and the cluster recovers."""

import asyncio
from typing import Any

import pytest
from pykka._envelope import Envelope
from stages import config_map, ready, scale, with_web

from kubeloop.actors.interception import Deliver, Interceptor
from kubeloop.actors.messages import Listing, decode
from kubeloop.api.errors import ApiError
from kubeloop.chaos.faults.actors import (
    WATCHERS,
    ActorCrashes,
    ActorDown,
    ActorFreezes,
    ActorSlow,
    ActorWatchBreaks,
)
from kubeloop.chaos.faults.base import Fault
from kubeloop.chaos.stage import Stage


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("actor", [*WATCHERS, "apiserver"])
def test_an_actor_fails_at_its_nth_message_and_is_restarted(actor: str, done: bool) -> None:
    async def body(stage: Stage) -> None:
        fault = ActorCrashes(actor=actor, node=1, nth=3, done=done, for_s=100)
        await fault.happen(stage)
        restarts = stage.cluster.supervisor.restarts
        assert fault.name not in restarts
        for replicas in (1, 4, 3):
            await asyncio.wait_for(_insist(stage, replicas), 100)
            await asyncio.sleep(10)
        assert restarts == {fault.name: 1}, "once, though many more messages came"
        assert [mark.text for mark in stage.marks][-1] == f"{fault.name} fails"
        assert await ready(stage) == 3

    with_web(body)


async def _insist(stage: Stage, replicas: int) -> None:
    """Scale; an API server that fails with the request may have done it, or not."""
    while True:
        try:
            return await scale(stage, replicas)
        except ApiError as error:
            assert "failed" in str(error), error


def test_an_actor_is_down_for_a_while() -> None:
    async def body(stage: Stage) -> None:
        await ActorDown(actor="scheduler", for_s=30).happen(stage)
        await ActorDown(actor="scheduler", for_s=20).happen(stage)
        await scale(stage, 3)
        await asyncio.sleep(29)
        pods = await stage.api.list("pods")
        assert sorted(pod.status["phase"] for pod in pods) == ["Pending", "Running", "Running"]
        assert stage.cluster.supervisor.actor("scheduler") is None
        await asyncio.sleep(10)
        assert await ready(stage) == 3
        assert stage.cluster.supervisor.restarts == {"scheduler": 1}

    with_web(body)


def test_what_the_api_server_is_asked_while_it_is_down_waits() -> None:
    async def body(stage: Stage) -> None:
        begun = stage.loop.time()
        await ActorDown(actor="apiserver", for_s=30).happen(stage)
        await stage.api.create(config_map("late"))
        assert stage.loop.time() - begun == pytest.approx(30, abs=0.1)

    with_web(body)


def test_one_that_freezes_goes_on_with_what_it_knew() -> None:
    async def body(stage: Stage) -> None:
        await ActorFreezes(actor="controller-manager", for_s=30).happen(stage)
        await scale(stage, 3)
        await asyncio.sleep(29)
        assert len(await stage.api.list("pods")) == 2
        await asyncio.sleep(5)
        assert await ready(stage) == 3
        assert not stage.cluster.supervisor.restarts

    with_web(body)


def test_a_slow_one_acts_late() -> None:
    async def body(stage: Stage) -> None:
        await ActorSlow(actor="scheduler", delay_s=5, for_s=60).happen(stage)
        await scale(stage, 3)
        await asyncio.sleep(4)
        assert await ready(stage) == 2
        await asyncio.sleep(20)
        assert await ready(stage) == 3
        await asyncio.sleep(40)
        await scale(stage, 4)
        await asyncio.sleep(4)
        assert await ready(stage) == 4

    with_web(body)


@pytest.mark.parametrize("actor", WATCHERS)
def test_a_watch_breaks_and_all_is_listed_anew(actor: str) -> None:
    async def body(stage: Stage) -> None:
        heard: list[Any] = []

        class Ear(Interceptor):
            def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
                heard.append(decode(envelope.message))
                deliver(envelope)

        fault = ActorWatchBreaks(actor=actor, node=2)
        stage.cluster.supervisor.intercept(fault.name, Ear())
        await fault.happen(stage)
        await asyncio.sleep(1)
        assert len([one for one in heard if isinstance(one, Listing)]) == 1

    with_web(body)


@pytest.mark.parametrize(
    "fault", [ActorDown(actor="kubelet", node=3), ActorCrashes(actor="kube-proxy", node=3)]
)
def test_who_is_not_there_cannot_fail(fault: Fault) -> None:
    async def body(stage: Stage) -> None:
        await fault.happen(stage)
        assert "there is no ku" in stage.marks[-1].text

    with_web(body)
