"""A cluster whose power goes at any moment comes back with all it has acknowledged, and goes on."""

import asyncio
import random
from contextlib import suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.api.errors import ApiError
from kubeloop.cluster import Cluster
from kubeloop.net.client import KubeObject

WAIT_S = 600.0


def controller(replicas: int) -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": labels,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    }


LIFE_S = 300.0


class PowerLoss(Exception):
    """The moment has come."""


def first_life(disk: sim.MemoryDisk, seed: int, calls: int) -> dict[str, str]:
    """Run a cluster until its disk has been called `calls` times; return what was acknowledged."""
    acknowledged: dict[str, str] = {}

    def fault(operation: str, path: str) -> OSError | None:
        if disk.calls >= calls:
            raise PowerLoss
        return None

    async def main() -> None:
        disk.fault = fault
        cluster = Cluster(nodes=2, seed=seed, data_dir="/data", disk=disk)
        # Without power nobody answers: whoever happened to wait would do so for ever.
        async with asyncio.timeout(LIFE_S):
            await live(cluster)

    async def live(cluster: Cluster) -> None:
        await cluster.start()
        await cluster.api.create(controller(3))
        acknowledged["rc/web"] = "3"
        for number in range(200):
            name = f"c{number % 20}"
            data = {"n": str(number)}
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
            await cluster.api.apply({**body, "data": data})
            acknowledged[f"cm/{name}"] = str(number)
            await asyncio.sleep(0.01)

    with suppress(PowerLoss, ApiError, TimeoutError):
        sim.run(main, seed=seed, policy="random")
    return acknowledged


@given(seed=st.integers(0, 2**32), calls=st.integers(1, 400))
@settings(max_examples=25)
def test_power_loss_at_any_call_of_the_disk(seed: int, calls: int) -> None:
    disk = sim.MemoryDisk()
    acknowledged = first_life(disk, seed, calls)
    after = disk.crash(random.Random(seed))

    async def main() -> None:
        async with Cluster(nodes=2, seed=seed, data_dir="/data", disk=after) as cluster:
            found = {o.name: o["data"]["n"] for o in await cluster.api.list("configmaps")}
            for key, value in acknowledged.items():
                kind, _, name = key.partition("/")
                if kind == "cm":
                    assert int(found[name]) >= int(value), f"{key} went back"
            if "rc/web" in acknowledged:

                def ready(rc: KubeObject) -> bool:
                    return bool(rc.status.get("readyReplicas") == 3)

                await cluster.api.wait("rc/web", ready, timeout_s=WAIT_S)

    sim.run(main, seed=seed, policy="random")


def test_a_pod_is_four_commits() -> None:
    async def main() -> None:
        async with Cluster(nodes=2, seed=1) as cluster:
            service = {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web"},
                "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
            }
            await cluster.api.create(service)
            await asyncio.sleep(5)
            cursor = cluster.hub.open(
                resources=["pods", "endpointslices.discovery.k8s.io"],
                revision=cluster.store.revision,
                wake=lambda: None,
            )
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": "web", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            }
            await cluster.api.create(pod)
            await cluster.api.wait("pod/web", "condition=Ready")
            await asyncio.sleep(60)
            resources = [fact.resource for fact in cursor.take()]
            assert resources == ["pods"] * 3 + ["endpointslices.discovery.k8s.io"]

    sim.run(main, seed=1)
