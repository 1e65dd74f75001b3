"""A cluster has settled when nothing is left to be done: never said too early, and said at once."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from kubeloop import sim
from kubeloop.actors import settling
from kubeloop.actors.livelock import is_heartbeat
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.actors.settling import NotSettled
from kubeloop.api.errors import ApiError
from kubeloop.api.resources import RESOURCES
from kubeloop.chaos.generate import Profile, plan_of
from kubeloop.chaos.playing import cluster_of, happen
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import Deploy, container, workload
from kubeloop.cluster import Cluster
from kubeloop.net.client import Client
from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.loop import SimLoop
from kubeloop.store.facts import Fact

Body = Callable[[Cluster], Coroutine[Any, Any, Any]]

IMAGES = {
    "crashes": Script(run_s=1.0, exit_code=1),
    "slow": Script(start_s=7.0, ready_after_s=2.0),
    "sick": Script(fails_after_s=0.0),
    "missing": Script(pull_error="no such image"),
    "lingers": Script(term_s=20.0),
}


def on(body: Body, **options: Any) -> Any:
    async def main() -> Any:
        async with Cluster(**{"nodes": 2, "seed": 1, "images": IMAGES, **options}) as cluster:
            return await body(cluster)

    return sim.run(main, seed=1, policy="random")


def deployment(image: str, replicas: int = 2, **spec: Any) -> dict[str, Any]:
    return workload("Deployment", "web", replicas, image, **spec)


async def phases(cluster: Cluster) -> list[str]:
    pods = await cluster.api.list("pods")
    return [f"{pod.status.get('phase')} {pod.condition('Ready')}" for pod in pods]


async def took(work: Coroutine[Any, Any, None]) -> float:
    begun = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - begun


async def written(cluster: Cluster, within_s: float) -> list[Fact]:
    """Return what is written from now on, but heartbeats."""
    revision = cluster.hub.revision
    cursor = cluster.hub.open(resources=list(RESOURCES), revision=revision, wake=lambda: None)
    await asyncio.sleep(within_s)
    facts = [fact for fact in cursor.take(10_000) if not is_heartbeat(fact)]
    cursor.close()
    return facts


@pytest.mark.parametrize("seed", range(20))
def test_what_has_settled_writes_no_more(seed: int) -> None:
    plan = plan_of(seed, Profile(faults=()))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        async with cluster_of(plan, MemoryDisk() if plan.durable else None, {}) as cluster:
            await happen(Stage(loop, cluster), plan.happenings)
            # Not a moment of quiet: it is known, not guessed. But what drains takes its time.
            drains = [one.drain_s for one in plan.happenings if isinstance(one, Deploy)]
            assert await took(cluster.settled(quiet_s=0.0)) < 1.0 + max(drains, default=0)
            assert await written(cluster, 500.0) == []

    sim.run(main, seed=plan.seed, policy=plan.policy)


def test_it_waits_for_slow_starts_and_readiness() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.api.apply(deployment("slow"))
        assert 9.0 <= await took(cluster.settled(quiet_s=0.0)) < 12.0
        assert await phases(cluster) == ["Running True"] * 2

    on(body)


def test_it_waits_for_the_end_of_what_is_deleted() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.api.apply(deployment("lingers"))
        await cluster.settled()
        await cluster.api.delete("deployments", "web", propagation="Foreground")
        assert 20.0 <= await took(cluster.settled(quiet_s=0.0)) < 22.0
        assert await cluster.api.list("replicasets") == []

    on(body)


def test_it_waits_for_pods_to_become_available() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.api.apply(deployment("fine", minReadySeconds=25))
        assert 25.0 <= await took(cluster.settled(quiet_s=0.0)) < 28.0
        found = await cluster.api.get("deployments", "web")
        assert found.status["availableReplicas"] == 2

    on(body)


@pytest.mark.parametrize(
    ("image", "replicas", "seen"),
    [
        ("crashes", 1, "Running False"),
        ("sick", 1, "Running False"),
        ("missing", 1, "Pending False"),
    ],
)
def test_what_goes_on_for_ever_is_settled(image: str, replicas: int, seen: str) -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.api.apply(deployment(image, replicas))
        await cluster.settled()
        await asyncio.sleep(300)
        await cluster.settled()
        assert await phases(cluster) == [seen] * replicas

    on(body)


def test_a_pod_nobody_has_room_for_is_settled() -> None:
    async def body(cluster: Cluster) -> None:
        big = {**container("fine"), "resources": {"requests": {"cpu": "100"}}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "big"}}
        await cluster.api.create({**pod, "spec": {"containers": [big]}})
        await cluster.settled()
        assert await phases(cluster) == ["Pending "]

    on(body)


def test_it_waits_for_the_pods_of_a_node_that_is_gone() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.api.apply(deployment("fine", 4))
        await cluster.settled()
        await cluster.stop_node("node-1")
        assert 340.0 < await took(cluster.settled(within_s=600, quiet_s=0.0)) < 380.0
        pods = [
            p for p in await cluster.api.list("pods") if not p["metadata"].get("deletionTimestamp")
        ]
        assert [pod.spec["nodeName"] for pod in pods] == ["node-2"] * 4

    on(body)


def test_an_actor_that_is_being_restarted_is_waited_for() -> None:
    async def body(cluster: Cluster) -> None:
        await cluster.settled()
        for _ in range(5):
            cluster.supervisor.crash("scheduler", RuntimeError("made to fail"))
            assert cluster.supervisor.actor("scheduler") is None
            await cluster.settled(quiet_s=0.0)
            assert cluster.supervisor.actor("scheduler") is not None

    on(body)


async def unsettled(
    cluster: Cluster, beside: Coroutine[Any, Any, None], within_s: float = 20.0
) -> str:
    """Return why a cluster does not settle while something runs beside it."""
    task = asyncio.ensure_future(beside)
    try:
        with pytest.raises(NotSettled) as caught:
            await cluster.settled(within_s=within_s)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return str(caught.value)


def test_a_client_who_cannot_make_up_his_mind_is_named() -> None:
    async def waver(cluster: Cluster) -> None:
        for number in range(1000):
            await cluster.api.scale("deployments", "web", 3 if number % 2 else 5)
            await asyncio.sleep(0.4)

    async def body(cluster: Cluster) -> str:
        await cluster.api.apply(deployment("fine", 3))
        await cluster.settled()
        return await unsettled(cluster, waver(cluster))

    told = on(body).split("\n  ")
    assert told[:2] == [
        "not settled after 20 s",
        "nobody has anything to do, but it is never quiet for 0.5 s",
    ]
    assert told[2].startswith(
        "client 'system:admin' writes deployments default/web again and again: "
        "spec.replicas 3 → 5 → 3 → 5 → 3 → 5 → … ("
    )


@pytest.mark.parametrize(("pause_s", "told_s"), [(0.1, "5"), (0.0, "0")])
def test_an_operator_and_a_controller_who_write_in_turns_are_named(
    pause_s: float, told_s: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if they are so fast that virtual time stands still."""
    monkeypatch.setattr(settling, "AT_ONCE_MAX", 50)

    async def operate(cluster: Cluster) -> None:
        robot = Client(cluster, user="robot")
        async for change in robot.watch("replicasets"):
            if change.object.spec["replicas"] == 3:
                await asyncio.sleep(pause_s)
                await robot.scale("replicasets", change.object.name, 5)

    async def body(cluster: Cluster) -> str:
        await cluster.api.apply(deployment("fine", 3))
        await cluster.settled()
        return await unsettled(cluster, operate(cluster), within_s=5.0)

    told = on(body).split("\n  ")
    assert told[0] == f"not settled after {told_s} s"
    assert re.match(
        "(client 'robot' and deployment-controller|deployment-controller and client 'robot') write "
        r"replicasets default/web-\w+ in turns: spec.replicas (5 → )?3 → 5 → 3 → 5 → 3 → .*… \(",
        told[2],
    ), told


def test_a_pod_that_is_deleted_whenever_it_is_made() -> None:
    async def kill(cluster: Cluster) -> None:
        while True:
            for pod in await cluster.api.list("pods"):
                try:
                    await cluster.api.delete("pods", pod.name, grace_s=0)
                except ApiError:
                    continue
            await asyncio.sleep(0.2)

    async def body(cluster: Cluster) -> str:
        await cluster.api.apply(deployment("fine", 1))
        return await unsettled(cluster, kill(cluster))

    told = on(body)
    assert re.search(
        r"replicaset-controller creates pods default/web-\w+-\* and client 'system:admin' deletes "
        r"them, in turns: \d+ created, \d+ deleted",
        told,
    ), told


def test_in_real_time_it_takes_no_longer_than_it_must() -> None:
    async def main() -> None:
        async with Cluster(nodes=1) as cluster:
            await cluster.api.apply(deployment("fine", 3))
            assert await took(cluster.settled()) < 30.0
            assert await phases(cluster) == ["Running True"] * 3

    asyncio.run(main())
