"""Claims in whole clusters, whatever crashes: each has its own volume, which keeps what was written
and is gone when it is to be."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_repair import ACTORS, crash_after, spare

from kubeloop import sim
from kubeloop.cluster import Cluster
from kubeloop.nodes import SimulatedNodes

CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
WAIT_S = 900.0
CRASHES = st.lists(
    st.tuples(st.sampled_from(ACTORS), st.integers(1, 40), st.booleans()), max_size=5
)


def stateful_set(replicas: int = 2, **spec: Any) -> dict[str, Any]:
    """Pods that add a line to a file on their volume whenever they begin."""
    labels, mount = {"app": "db"}, {"name": "data", "mountPath": "/data"}
    writes = {"kubeloop.dev/sim.write": '{"/data/log": "begun"}'}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": writes},
                "spec": {"containers": [{"name": "c", "image": "w:1", "volumeMounts": [mount]}]},
            },
            "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": claim}],
            **spec,
        },
    }


async def logs(cluster: Cluster) -> dict[str, int]:
    """Return claim → lines in its file, as the nodes' disks have it."""
    found: dict[str, int] = {}
    assert isinstance(cluster.nodes, SimulatedNodes)
    for runtime in cluster.nodes.runtimes.values():
        for path, data in runtime.disk.files.items():
            claim = path.split("/")[-2].partition("_default_")[2]
            assert claim not in found, "the data of a claim is in one place"
            found[claim] = data.count(b"\n")
    return found


async def see_that_pairs_are_pairs(cluster: Cluster) -> None:
    claims = {c.uid: c for c in await cluster.api.list(CLAIMS)}
    volumes = {v.name: v for v in await cluster.api.list(VOLUMES)}
    assert {c.spec["volumeName"] for c in claims.values()} == {*volumes}
    for volume in volumes.values():
        owner = claims[volume.spec["claimRef"]["uid"]]
        assert owner.spec["volumeName"] == volume.name
        assert owner.status["phase"] == volume.status["phase"] == "Bound"
    for pod in await cluster.api.list("pods"):
        for one in pod.spec.get("volumes") or ():
            name = one["persistentVolumeClaim"]["claimName"]
            bound = next(c for c in claims.values() if c.name == name)
            term = volumes[bound.spec["volumeName"]].spec["nodeAffinity"]["required"]
            (expression,) = term["nodeSelectorTerms"][0]["matchExpressions"]
            assert expression["values"] == [pod.spec["nodeName"]]


async def play(seed: int, crashes: list[tuple[str, int, bool]]) -> dict[str, int]:
    async with Cluster(nodes=2, seed=seed, storage_class="standard") as cluster:

        async def go_on() -> None:
            await cluster.settled(within_s=WAIT_S)
            await see_that_pairs_are_pairs(cluster)

        for actor, messages, first in crashes:
            crash_after(cluster, actor, messages, first=first)
        await cluster.api.create(stateful_set())
        await go_on()
        before = await logs(cluster)
        assert {*before} == {"data-db-0", "data-db-1"}
        await cluster.api.delete("pods", "db-0")
        await go_on()
        after = await logs(cluster)
        assert after["data-db-0"] > before["data-db-0"], "what was there is there, and more"
        await cluster.stop_node("node-1")
        await asyncio.sleep(5.0)
        cluster.start_node("node-1")
        await go_on()
        again = await logs(cluster)
        assert all(again[claim] >= count for claim, count in after.items())
        await cluster.api.delete("statefulsets", "db")
        await go_on()
        assert await logs(cluster) == again, "claims outlive their set, if nobody says otherwise"
        for name in before:
            await cluster.api.delete(CLAIMS, name)
        spare(cluster)
        await go_on()
        assert await cluster.api.list(VOLUMES) == [] and await logs(cluster) == {}
        return again


@settings(max_examples=25)
@given(st.integers(0, 2**20), CRASHES)
def test_data_outlives_its_pods_and_nothing_leaks(
    seed: int, crashes: list[tuple[str, int, bool]]
) -> None:
    sim.run(lambda: play(seed, crashes), seed=seed, policy="random")


def test_a_seed_is_a_history() -> None:
    told = [sim.run(lambda: play(3, [("scheduler", 5, True)]), seed=3) for _ in range(2)]
    assert told[0] == told[1]


@pytest.mark.parametrize("actor", ["controller-manager", "scheduler", "kubelet/node-1"])
@pytest.mark.parametrize("messages", range(1, 16, 2))
def test_one_crash_while_volumes_are_made(actor: str, messages: int) -> None:
    sim.run(lambda: play(messages, [(actor, messages, messages % 4 == 1)]), seed=messages)


async def scaled() -> None:
    policy = {"whenDeleted": "Delete", "whenScaled": "Delete"}
    async with Cluster(nodes=2, seed=1, storage_class="standard") as cluster:
        made = stateful_set(3, persistentVolumeClaimRetentionPolicy=policy)
        await cluster.api.create(made)
        await cluster.settled()
        assert len(await logs(cluster)) == 3
        await cluster.api.scale("statefulsets", "db", 1)
        await cluster.settled()
        assert [*await logs(cluster)] == ["data-db-0"]
        await cluster.api.delete("statefulsets", "db")
        await cluster.settled()
        assert await cluster.api.list(CLAIMS) == await cluster.api.list(VOLUMES) == []
        assert await logs(cluster) == {}


def test_what_is_to_go_goes_with_its_data() -> None:
    sim.run(scaled, seed=1)


def one_pod(name: str, **volume: Any) -> dict[str, Any]:
    container = {"name": "c", "image": "w:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
    spec = {"containers": [container], "volumes": [{"name": "v", **volume}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def one_claim(name: str, **spec: Any) -> dict[str, Any]:
    told = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**kind, "metadata": {"name": name}, "spec": told}


async def said(cluster: Cluster, name: str, reason: str) -> list[str]:
    events = await cluster.api.list("events")
    return [e["message"] for e in events
            if (e["involvedObject"]["name"], e["reason"]) == (name, reason)]  # fmt: skip


async def lonely() -> None:
    async with Cluster(nodes=2, seed=1, storage_class="standard") as cluster:
        await cluster.api.create(one_claim("c", accessModes=["ReadWriteOncePod"]))
        claimed = {"persistentVolumeClaim": {"claimName": "c"}}
        await cluster.api.create(one_pod("a", **claimed))
        await cluster.settled()
        await cluster.api.create(one_pod("b", **claimed))
        await cluster.settled()
        (why,) = await said(cluster, "b", "FailedScheduling")
        assert "with the same name and ReadWriteOncePod access mode" in why
        await cluster.api.delete("pods", "a")
        await cluster.settled()
        assert (await cluster.api.get("pods", "b")).status["phase"] == "Running"


def test_only_one_pod_has_what_only_one_may_have() -> None:
    sim.run(lonely, seed=1)


async def waiting() -> None:
    """A pod waits for a claim that is not there, is of nobody's class, and then is a right one."""
    async with Cluster(nodes=2, seed=1, storage_class="standard") as cluster:
        claimed = {"persistentVolumeClaim": {"claimName": "c"}}
        await cluster.api.create(one_pod("a", **claimed))
        await cluster.settled()
        await cluster.api.create(one_claim("c", storageClassName="nowhere"))
        await cluster.settled()
        told = await said(cluster, "a", "FailedScheduling")
        assert ['"c" not found' in told[0], "unbound immediate" in told[1]] == [True, True]
        await cluster.api.delete(CLAIMS, "c")
        await cluster.settled()
        await cluster.api.create(one_claim("c"))
        await cluster.settled()
        assert (await cluster.api.get("pods", "a")).status["phase"] == "Running"


def test_a_pod_waits_for_its_claim() -> None:
    sim.run(waiting, seed=1)


async def foreign() -> None:
    """A driver nobody has: what is simulated mounts it, wherever the pod is."""
    async with Cluster(nodes=2, seed=1) as cluster:
        source = {"csi": {"driver": "csi.example", "volumeHandle": "h"}}
        spec = {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "1Gi"}, **source}
        kind = {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"}}
        await cluster.api.create({**kind, "spec": spec})
        await cluster.api.create(one_claim("c", accessModes=["ReadWriteMany"]))
        for number in (1, 2):
            user = one_pod(f"p{number}", persistentVolumeClaim={"claimName": "c"})
            user["metadata"]["annotations"] = {"kubeloop.dev/sim.write": '{"/v/f": "here"}'}
            user["spec"]["nodeName"] = f"node-{number}"
            await cluster.api.create(user)
        await cluster.settled()
        pod = await cluster.api.get("pods", "p2")
        assert isinstance(cluster.nodes, SimulatedNodes)
        runtime = cluster.nodes.runtimes["node-2"]
        session = await runtime.open_exec(pod.uid, "c", ["cat", "/v/f"], stdin=False, tty=False)
        assert (await session.read())[1] == b"here\nhere\n"


def test_volumes_of_the_network_are_the_same_everywhere() -> None:
    sim.run(foreign, seed=1)
