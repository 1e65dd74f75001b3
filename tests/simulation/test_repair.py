"""Whatever is broken, the loop that owns it repairs it: whole clusters in virtual time, seeded.

Each scenario does something to a cluster (crashes actors at chosen messages, deletes what it can,
takes nodes away), then waits for what was wanted to be true again, and at last sees that nothing is
written any more.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop import sim
from kubeloop.actors.controllers.settings import Settings as Controllers
from kubeloop.actors.requests.state import Settings
from kubeloop.api.errors import InternalError
from kubeloop.api.resources import RESOURCES
from kubeloop.cluster import Cluster
from kubeloop.net.client import ALL, KubeObject

ACTORS = (
    "apiserver",
    "controller-manager",
    "scheduler",
    "kubelet/node-1",
    "kubelet/node-2",
    "kube-proxy/node-1",
)
WAIT_S = 900.0


def deployment(replicas: int = 3, image: str = "web:1", **strategy: Any) -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            **({"strategy": strategy} if strategy else {}),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
        },
    }


def controller(replicas: int = 3) -> dict[str, Any]:
    labels = {"app": "rc"}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "rc"},
        "spec": {
            "replicas": replicas,
            "selector": labels,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "rc:1"}]},
            },
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "type": "NodePort",
        "selector": {"app": "web"},
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 31001}],
    },
}


def crash_after(cluster: Cluster, name: str, messages: int, *, first: bool) -> None:
    """Have an actor fail in the turn that takes its `messages`-th message from now.

    first: before the turn has done anything; otherwise after it has done everything.
    """
    actor = cluster.supervisor.actor(name)
    if actor is None:
        return  # It is just being restarted.
    handle, left = actor.on_batch, messages

    def on_batch(envelopes: Sequence[Envelope[Any]]) -> None:
        nonlocal left
        left -= len(envelopes)
        if left > 0 or not first:
            handle(envelopes)
        if left <= 0:
            raise RuntimeError(f"{name} was made to fail")

    actor.on_batch = on_batch  # type: ignore[method-assign]


def spare(cluster: Cluster) -> None:
    """Let those live who were to be made to fail and have not been."""
    for name in ACTORS:
        vars(cluster.supervisor.actor(name) or cluster).pop("on_batch", None)


async def ready(cluster: Cluster, what: str, replicas: int) -> None:
    """Return when `what` has just so many ready pods and its controller has nothing left to do."""

    def settled(obj: KubeObject) -> bool:
        status = obj.status
        return (
            status.get("observedGeneration") == obj["metadata"]["generation"]
            and status.get("replicas", 0) == replicas
            and status.get("readyReplicas", 0) == replicas
            and status.get("updatedReplicas", replicas) == replicas
        )

    await patiently(lambda: cluster.api.wait(what, settled, timeout_s=WAIT_S))


async def served(cluster: Cluster, replicas: int) -> None:
    """Return when the Service's slices name just the ready pods."""
    async with asyncio.timeout(WAIT_S):
        async for _ in cluster.api.watch("endpointslices"):
            slices = await cluster.api.list(
                "endpointslices", labels="kubernetes.io/service-name=web"
            )
            pods = await cluster.api.list("pods", labels="app=web")
            told = [e for s in slices for e in s["endpoints"] if e["conditions"]["ready"]]
            alive = {p.status.get("podIP") for p in pods if not is_ending(p)}
            if {e["addresses"][0] for e in told} == alive and len(told) == replicas:
                return


def is_ending(obj: KubeObject) -> bool:
    return "deletionTimestamp" in obj["metadata"]


async def quiet(cluster: Cluster) -> None:
    """See that nothing is written in ten minutes but heartbeats."""
    await asyncio.sleep(30)  # What was deleted is gone, last events are written.
    before = cluster.store.revision
    cursor = cluster.hub.open(
        resources=[
            "pods",
            "services",
            "replicasets.apps",
            "deployments.apps",
            "replicationcontrollers",
            "endpoints",
            "endpointslices.discovery.k8s.io",
            "namespaces",
            "events",
        ],
        revision=before,
        wake=lambda: None,
    )
    await asyncio.sleep(200)
    written = [fact.key for fact in cursor.take()]
    cursor.close()
    assert written == [], "what is settled is written no more"


def run(scenario: Callable[[Cluster], Any], *, seed: int, **options: Any) -> Cluster:
    async def main() -> Cluster:
        async with Cluster(nodes=2, seed=seed, **options) as cluster:
            await scenario(cluster)
        return cluster

    result: Cluster = sim.run(main, seed=seed, policy="random")
    return result


@given(
    seed=st.integers(0, 2**32),
    crashes=st.lists(
        st.tuples(st.sampled_from(ACTORS), st.integers(1, 60), st.booleans()), max_size=6
    ),
)
@settings(max_examples=30)
def test_any_actor_may_crash_at_any_message(
    seed: int, crashes: list[tuple[str, int, bool]]
) -> None:
    async def scenario(cluster: Cluster) -> None:
        for name, messages, first in crashes:
            crash_after(cluster, name, messages, first=first)
        await patiently(lambda: cluster.api.apply(deployment()))
        await patiently(lambda: cluster.api.apply(SERVICE))
        await ready(cluster, "deployment/web", 3)
        for name, messages, first in crashes:
            crash_after(cluster, name, messages, first=first)
        await patiently(lambda: cluster.api.apply(deployment(5, "web:2")))
        await ready(cluster, "deployment/web", 5)
        spare(cluster)
        await served(cluster, 5)
        await quiet(cluster)

    run(scenario, seed=seed)


async def patiently(work: Callable[[], Any]) -> None:
    """Try again while the API server fails on purpose."""
    while True:
        try:
            await work()
        except InternalError:
            await asyncio.sleep(0.1)
        else:
            return


@pytest.mark.parametrize("seed", range(5))
def test_deleted_pods_are_replaced_and_scaling_holds(seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.api.create(controller())
        await ready(cluster, "rc/rc", 3)
        victim = (await cluster.api.list("pods"))[0].name
        await cluster.api.delete("pod", victim)
        await cluster.api.wait(f"pod/{victim}", "delete", timeout_s=WAIT_S)
        await ready(cluster, "rc/rc", 3)
        for replicas in (10, 1):
            await cluster.api.scale("rc", "rc", replicas)
            await ready(cluster, "rc/rc", replicas)
        await cluster.api.delete("rc", "rc")
        async with asyncio.timeout(WAIT_S):
            while await cluster.api.list("pods"):
                await asyncio.sleep(1)
        await quiet(cluster)

    run(scenario, seed=seed)


@pytest.mark.parametrize("seed", range(3))
def test_the_pods_of_a_stopped_node_move(seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.api.create(deployment(4))
        await ready(cluster, "deployment/web", 4)
        await cluster.stop_node("node-1")
        await cluster.api.wait("node/node-1", "condition=Ready=Unknown", timeout_s=WAIT_S)

        async with asyncio.timeout(WAIT_S):
            async for _ in cluster.api.watch("pods"):
                alive = [p for p in await cluster.api.list("pods") if not is_ending(p)]
                where = [p.spec.get("nodeName") for p in alive if p.condition("Ready") == "True"]
                if where == ["node-2"] * 4:
                    return

    run(
        scenario,
        seed=seed,
        settings=Settings(pod_cidr="127.244.0.0/16", eviction_tolerance_s=20),
        controllers=Controllers(node_grace_s=40),
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "strategy",
    [
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "50%", "maxUnavailable": "50%"}},
    ],
)
def test_a_rollout_stays_within_its_bounds(seed: int, strategy: dict[str, Any]) -> None:
    rolling = strategy["rollingUpdate"]
    surge = {1: 1, 0: 0, "50%": 2}[rolling["maxSurge"]]
    unavailable = {1: 1, 0: 0, "50%": 2}[rolling["maxUnavailable"]]

    async def scenario(cluster: Cluster) -> None:
        await cluster.api.create(deployment(4, **strategy))
        await ready(cluster, "deployment/web", 4)
        watcher = asyncio.create_task(guard(cluster, 4 + surge, 4 - unavailable))
        for image in ("web:2", "web:3"):
            await cluster.api.apply(deployment(4, image, **strategy))
            await ready(cluster, "deployment/web", 4)
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher

    run(scenario, seed=seed)


async def guard(cluster: Cluster, most: int, least: int) -> None:
    """Follow the pods; fail as soon as there are too many, or too few ready ones."""
    pods: dict[str, KubeObject] = {}
    for pod in await cluster.api.list("pods"):
        pods[pod.name] = pod
    async for change in cluster.api.watch("pods"):
        pods[change.object.name] = change.object
        if change.type == "DELETED":
            del pods[change.object.name]
        alive = [p for p in pods.values() if not is_ending(p)]
        assert len(alive) <= most, f"{len(alive)} pods, at most {most} allowed"
        able = [p for p in alive if p.condition("Ready") == "True"]
        assert len(able) >= least, f"{len(able)} ready pods, at least {least} needed"


@pytest.mark.parametrize("seed", range(3))
def test_a_namespace_goes_with_all_it_holds(seed: int) -> None:
    async def scenario(cluster: Cluster) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
        await cluster.api.create(namespace)
        for obj in (deployment(), SERVICE | {"metadata": {"name": "web"}}, controller()):
            await cluster.api.create(obj, namespace="n")
        await cluster.api.wait("deployment/web", "condition=Available", namespace="n")
        await cluster.api.delete("ns", "n")
        await cluster.api.wait("ns/n", "delete", timeout_s=WAIT_S)
        for kind in ("pods", "replicasets", "events", "endpointslices", "serviceaccounts"):
            left = [o for o in await cluster.api.list(kind, namespace=ALL) if o.namespace == "n"]
            assert left == []

    run(scenario, seed=seed)


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
def test_propagation(policy: Any) -> None:
    async def scenario(cluster: Cluster) -> None:
        await cluster.api.create(deployment())
        await ready(cluster, "deployment/web", 3)
        await cluster.api.delete("deployment", "web", propagation=policy)
        await cluster.api.wait("deployment/web", "delete", timeout_s=WAIT_S)
        await asyncio.sleep(60)
        sets, pods = await cluster.api.list("rs"), await cluster.api.list("pods")
        if policy == "Orphan":
            assert len(pods) == 3
            assert [s["metadata"].get("ownerReferences") for s in sets] == [None]
        else:
            assert (sets, pods) == ([], [])
        await quiet(cluster)

    run(scenario, seed=1)


def test_a_seed_is_a_history() -> None:
    def history(seed: int) -> list[bytes]:
        facts: list[bytes] = []

        async def scenario(cluster: Cluster) -> None:
            cursor = cluster.hub.open(resources=list(RESOURCES), revision=0, wake=lambda: None)
            await cluster.api.apply(deployment())
            await ready(cluster, "deployment/web", 3)
            facts.extend(fact.encoded for fact in cursor.take(10_000))

        run(scenario, seed=seed)
        return facts

    assert history(7) == history(7)
    assert history(7) != history(8)
