"""A whole cluster: how long until it can be used, and how long until pods run.

Sketch: without REST a boot is six actors a node, about thirty commits of 30 µs and as many turns:
under 10 ms. With the endpoint come a certificate (1 ms), a TLS context and a listening socket. A
pod costs four commits, some events, and the turns between: about 1 ms of CPU in all.

Goals, imports excluded: under 30 ms without REST, under 80 ms with it; import under 150 ms.
"""

import asyncio
import subprocess
import sys
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.cluster import Cluster
from kubeloop.net.client import KubeObject


@pytest.mark.parametrize("rest", ["none", "http", "https"])
@pytest.mark.parametrize("nodes", [1, 3])
def test_boot_to_usable(benchmark: BenchmarkFixture, nodes: int, rest: str) -> None:
    async def boot() -> None:
        async with Cluster(nodes=nodes, rest=rest != "none", tls=rest == "https") as cluster:
            assert len(await cluster.api.list("nodes")) == nodes

    benchmark.pedantic(lambda: asyncio.run(boot()), rounds=10, warmup_rounds=2)


@pytest.mark.parametrize("what", ["pass", "import kubeloop", "from kubeloop import Cluster"])
def test_import(benchmark: BenchmarkFixture, what: str) -> None:
    def start() -> None:
        subprocess.run([sys.executable, "-c", what], check=True)

    benchmark.pedantic(start, rounds=8, warmup_rounds=1)


@pytest.mark.parametrize("pods", [1, 100])
def test_create_to_running(benchmark: BenchmarkFixture, pods: int) -> None:
    """From the creation of a ReplicaSet to the last of its pods being ready."""
    with asyncio.Runner() as runner:
        cluster = Cluster(nodes=3)
        runner.run(cluster.start())

        def once() -> None:
            runner.run(deploy(cluster, pods))

        def clean() -> None:
            runner.run(remove(cluster))

        benchmark.pedantic(once, setup=clean, rounds=8, warmup_rounds=1)
        if benchmark.stats is not None:
            benchmark.extra_info["pods_per_s"] = round(pods / benchmark.stats.stats.median)
        runner.run(cluster.stop())


async def deploy(cluster: Cluster, pods: int) -> None:
    def running(obj: KubeObject) -> bool:
        return bool(obj.status.get("readyReplicas", 0) == pods)

    await cluster.api.create(replica_set(pods))
    await cluster.api.wait("rs/web", running)


async def remove(cluster: Cluster) -> None:
    if await cluster.api.list("rs"):
        await cluster.api.delete("rs", "web", propagation="Foreground")
        await cluster.api.wait("rs/web", "delete")


def replica_set(pods: int) -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": pods,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    }
