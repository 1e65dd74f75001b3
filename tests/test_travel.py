"""Time travel: the past as it was, the life of an object, what went wrong when, and forks."""

import asyncio
from typing import Any

import pytest

from kubeloop.api.errors import ApiError, Expired, NotFound
from kubeloop.chaos.steps import workload
from kubeloop.cluster import Cluster
from kubeloop.net.client import KubeObject
from kubeloop.store.history import Retention
from kubeloop.travel import Past

WAIT_S = 300.0


def deployment(replicas: int, image: str = "web:1") -> dict[str, Any]:
    return workload("Deployment", "web", replicas, image)


async def ready(cluster: Cluster, replicas: int) -> int:
    """Wait until so many pods are ready and up to date; return the revision."""

    def done(obj: KubeObject) -> bool:
        status = obj.status
        return (
            status.get("observedGeneration") == obj["metadata"]["generation"]
            and status.get("replicas", 0) == status.get("updatedReplicas", 0) == replicas
            and status.get("readyReplicas", 0) == replicas
        )

    await cluster.api.wait("deployment/web", done, timeout_s=WAIT_S)
    await asyncio.sleep(5)
    return cluster.store.durable


def test_the_past_is_as_it_was(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=2, seed=1) as cluster:
            await cluster.api.apply(deployment(3))
            first = await ready(cluster, 3)
            told = await cluster.api.list("pods")
            await cluster.api.apply(deployment(1, "web:2"))
            await ready(cluster, 1)
            past = cluster.at(first)
            assert past.revision == first
            assert past.list("pods") == told
            assert past.get("deployment", "web").spec["replicas"] == 3
            running = past.list("pods", labels="app=web", fields="status.phase=Running")
            assert len(running) == 3
            assert len(past.list("nodes")) == 2
            with pytest.raises(NotFound, match='pods "nope" not found'):
                past.get("pod", "nope")
            with pytest.raises(ApiError, match="unable to parse requirement"):
                past.list("pods", labels="a in b")
            assert cluster.at(cluster.store.durable).list("pods") == await cluster.api.list("pods")

    simulate(scenario)


def test_what_is_forgotten_is_expired(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=1, seed=1, retention=Retention(revisions=5)) as cluster:
            await cluster.api.apply(deployment(3))
            await ready(cluster, 3)
            with pytest.raises(Expired):
                cluster.at(1)
            with pytest.raises(Expired):
                cluster.fork(1)

    simulate(scenario)


def test_the_life_of_an_object(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            await cluster.api.apply(deployment(1))
            await ready(cluster, 1)
            await cluster.api.scale("deployment", "web", 2)
            await ready(cluster, 2)
            (name, *_) = (pod.name for pod in await cluster.api.list("pods"))
            await cluster.api.delete("deployment", "web")
            await cluster.api.wait(f"pod/{name}", "delete", timeout_s=WAIT_S)
            life = cluster.history("pod", name)
            assert [life[0].type, life[-1].type] == ["ADDED", "DELETED"]
            assert {moment.type for moment in life[1:-1]} == {"MODIFIED"}
            actors = [moment.cause.actor for moment in life]
            assert actors[:3] == ["controller-manager", "scheduler", "kubelet/node-1"]
            assert life[2].object.status["phase"] == "Running"
            assert "ADDED by controller-manager" in str(life[0])
            assert cluster.history("pod", "never") == []
            chain = cluster.why(life[0].object)
            assert chain.facts[0][0].revision == life[0].revision
            assert chain.facts[-1][0].cause.user == "system:admin"
            assert cluster.why(life[0].revision) == chain

    simulate(scenario)


def test_bisect_finds_the_very_change(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            for replicas in (1, 2, 5, 2, 6):
                await cluster.api.apply(deployment(replicas))
                await ready(cluster, replicas)

            def few(past: Past) -> None:
                assert len(past.list("pods")) <= 5, "more than five"

            turn = cluster.bisect(few)
            (fact, *_) = turn.facts
            assert fact.resource == "pods" and fact.prev_revision == 0
            assert len(cluster.at(turn.revision).list("pods")) == 6
            assert len(cluster.at(turn.revision - 1).list("pods")) == 5
            assert "more than five" in str(turn.error)
            assert "because of" in str(turn) and "deployments.apps/default/web changed" in str(turn)
            calls: list[int] = []

            def counted(past: Past) -> bool:
                calls.append(past.revision)
                return past.revision < turn.revision

            assert cluster.bisect(counted).revision == turn.revision
            assert len(calls) <= 2 + cluster.store.durable.bit_length()
            with pytest.raises(ValueError, match=r"good=.*it does not hold there"):
                cluster.bisect(lambda past: False)
            with pytest.raises(ValueError, match=r"bad=.*it holds there"):
                cluster.bisect(lambda past: True)

    simulate(scenario)


def test_a_fork_goes_its_own_way(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=2, seed=1) as cluster:
            await cluster.api.apply(deployment(3))
            revision = await ready(cluster, 3)
            before = {pod.uid: pod for pod in await cluster.api.list("pods")}
            async with cluster.fork() as fork:
                await asyncio.sleep(60)
                kept = {pod.uid: pod for pod in await fork.api.list("pods")}
                assert kept == before, "what runs goes on running, and nobody notices"
                await fork.api.scale("deployment", "web", 5)
                await ready(fork, 5)
                await fork.api.delete("pod", next(iter(before.values())).name)
                await ready(fork, 5)
            assert {pod.uid: pod for pod in await cluster.api.list("pods")} == before
            await cluster.api.scale("deployment", "web", 1)
            await ready(cluster, 1)
            async with cluster.fork(revision) as earlier:
                await asyncio.sleep(60)
                assert {pod.uid for pod in await earlier.api.list("pods")} == set(before)
                restarts = [
                    status["restartCount"]
                    for pod in await earlier.api.list("pods")
                    for status in pod.status["containerStatuses"]
                ]
                assert restarts == [0, 0, 0]

    simulate(scenario)


def test_a_forked_container_ends_when_its_script_says(simulate: Any) -> None:
    async def scenario() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            pod: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "p", "annotations": {"kubeloop.dev/sim.run-s": "100"}},
                "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]},
            }
            await cluster.api.create(pod)
            await cluster.api.wait("pod/p", "condition=Ready")
            async with cluster.fork() as fork:
                done = await fork.api.wait(
                    "pod/p", lambda p: p.status["phase"] == "Succeeded", timeout_s=WAIT_S
                )
                assert done is not None

    simulate(scenario)


def test_forks_are_repeatable(simulate: Any) -> None:
    async def scenario() -> list[bytes]:
        async with Cluster(nodes=2, seed=1) as cluster:
            await cluster.api.apply(deployment(2))
            await ready(cluster, 2)
            async with cluster.fork() as fork:
                await fork.api.scale("deployment", "web", 4)
                await ready(fork, 4)
                return [fact.encoded for fact in fork.store.history.since(fork.store.history.floor)]

    assert simulate(scenario, seed=3) == simulate(scenario, seed=3)
