"""Faults of whole nodes: each does what it says, and the cluster recovers."""

import asyncio

import pytest
from stages import ready, scale, with_web

from kubeloop.api.times import parse
from kubeloop.chaos import Deploy, Plan, play
from kubeloop.chaos.faults.nodes import NodeClock, NodeCut, NodeOff, RuntimeStalls
from kubeloop.chaos.stage import Stage
from kubeloop.net.client import KubeObject


async def node(stage: Stage, number: int = 1) -> str:
    """Return whether a node is ready: "True", "Unknown"."""
    found = await stage.api.get("nodes", f"node-{number}")
    return found.condition("Ready") or ""


async def pods_on(stage: Stage, name: str) -> dict[str, KubeObject]:
    pods = await stage.api.list("pods")
    return {pod.uid: pod for pod in pods if pod.spec.get("nodeName") == name}


def running_on(stage: Stage, name: str) -> set[str]:
    """Return the uids of the pods that run on a node, whatever anybody believes."""
    return {uid for uid, nodes in stage.nodes.ledger.running.items() if name in nodes}


def test_a_node_that_is_soon_back_has_been_rebooted() -> None:
    async def body(stage: Stage) -> None:
        before = await pods_on(stage, "node-1")
        assert before
        await NodeOff(node=1, for_s=10).happen(stage)
        await asyncio.sleep(1)
        assert not running_on(stage, "node-1") and "node-1" not in stage.cluster.fleet.running
        await NodeOff(node=1, for_s=1).happen(stage)
        assert "there is no node-1" in stage.marks[-1].text
        await asyncio.sleep(30)
        after = await pods_on(stage, "node-1")
        assert after.keys() == before.keys() == running_on(stage, "node-1")
        assert all(p.status["containerStatuses"][0]["restartCount"] == 1 for p in after.values())

    with_web(body)


def test_the_pods_of_one_that_is_off_for_long_go_elsewhere() -> None:
    async def body(stage: Stage) -> None:
        await NodeOff(node=1, for_s=500).happen(stage)
        await asyncio.sleep(60)
        assert await node(stage) == "Unknown"
        await asyncio.sleep(400)
        assert len(running_on(stage, "node-2")) == 2
        await asyncio.sleep(100)
        assert await node(stage) == "True"

    with_web(body)


def test_one_that_is_healed_at_once_is_on() -> None:
    async def body(stage: Stage) -> None:
        for seed in range(5):
            await NodeOff(node=1 + seed % 2, for_s=0).happen(stage)
            await stage.healed()
            await asyncio.sleep(1)
            assert len(stage.cluster.fleet.running) == 2

    with_web(body)


def test_a_clock_is_wrong_for_a_while() -> None:
    async def body(stage: Stage) -> None:
        async def ahead_s() -> float:
            lease = await stage.api.get("leases", "node-1", namespace="kube-node-lease")
            return parse(lease.spec["renewTime"]) - stage.cluster.world.wall()

        await NodeClock(node=1, ahead_s=86400.0, rate=0.0, for_s=60).happen(stage)
        await asyncio.sleep(50)
        assert await ahead_s() == pytest.approx(86400 - 50, abs=5)
        assert await node(stage) == "True"
        await asyncio.sleep(30)
        assert await ahead_s() == pytest.approx(-5, abs=6)

    with_web(body)


def test_a_runtime_stalls_and_what_runs_runs_on() -> None:
    async def body(stage: Stage) -> None:
        for number in (1, 2):
            await RuntimeStalls(node=number, for_s=60).happen(stage)
        await scale(stage, 4)
        await asyncio.sleep(59)
        assert await ready(stage) == 2 and await node(stage) == "True"
        await asyncio.sleep(10)
        assert await ready(stage) == 4

    with_web(body)


@pytest.mark.parametrize("how", ["held", "severed"])
@pytest.mark.parametrize("for_s", [20, 100, 500])
def test_a_node_is_cut_off(how: str, for_s: int) -> None:
    async def body(stage: Stage) -> None:
        before = running_on(stage, "node-1")
        assert before
        await NodeCut(node=1, how=how, for_s=for_s).happen(stage)
        await scale(stage, 6)
        await asyncio.sleep(for_s - 1)
        assert await node(stage) == ("True" if for_s < 40 else "Unknown")
        assert running_on(stage, "node-1") == before, "nobody there knows of anything"
        assert (len(running_on(stage, "node-2")) == 6) == (for_s > 400), "evicted"
        await asyncio.sleep(30)
        assert await node(stage) == "True"
        assert await ready(stage) == 6
        assert (running_on(stage, "node-1") >= before) == (for_s < 400), "it has heard of it"

    with_web(body)


def test_one_that_crashes_while_it_is_cut_off_lists_in_the_end() -> None:
    async def body(stage: Stage) -> None:
        await NodeCut(node=1, how="severed", for_s=60).happen(stage)
        stage.cluster.supervisor.crash("kubelet/node-1", RuntimeError("no luck"))
        await asyncio.sleep(100)
        assert await node(stage) == "True"

    with_web(body)


@pytest.mark.parametrize("ahead_s", [-60.0, 60.0])
def test_a_node_whose_clock_is_wrong_is_not_taken_for_silent(ahead_s: float) -> None:
    """Its own times say that it fell silent long ago; who hears it knows that it did not."""
    wrong = NodeClock(at_s=5, for_s=120.0, ahead_s=ahead_s)
    outcome = play(Plan(happenings=(Deploy(replicas=2), wrong)), keep=True)
    nodes = [fact.object() for fact in outcome.history if fact.resource == "nodes"]
    told = [c["reason"] for node in nodes if node for c in node["status"].get("conditions", ())]
    assert "NodeStatusUnknown" not in told and "KubeletReady" in told


@pytest.mark.parametrize("back_s", [52.0, 59.0, 61.0])
def test_a_node_that_is_started_while_it_is_cut_off_comes_back(back_s: float) -> None:
    cut = NodeCut(for_s=60.0, node=1, how="severed")
    play(Plan(nodes=1, happenings=(cut, NodeOff(for_s=back_s, node=1))))
