"""A cluster with an endpoint in a simulation, and a program on another host that uses it.

The program is somebody's operator, written with somebody's library: for every ConfigMap labelled
`order` it makes a Pod of that name, and when the pod runs it deletes the ConfigMap. It lists,
watches, creates and deletes, and begins again after any error, as programs do.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from kubeloop import Cluster, sim
from kubeloop.sim.loop import SimLoop
from kubeloop.sim.network import Network

PATIENCE_S = 90  # A watch of which nothing is heard for so long is begun again.
WATCH_S = 60
ORDER = "order"
CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"

Program = Callable[[dict[str, Any]], Awaitable[None]]
"""(kubeconfig): works until it is cancelled."""


@dataclass
class Run:
    """What a simulation has come to. log, trace: digests of all facts, of all that was sent."""

    seconds: float
    log: str
    trace: str
    pods: list[str]
    orders: list[str]
    network: dict[str, int] = field(default_factory=dict)


def order(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {ORDER: "yes"}},
    }


def pod(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "b"}]},
    }


def access(kubeconfig: dict[str, Any]) -> tuple[str, str, str | None]:
    """Return (URL of the server, token, the authority in base64)."""
    cluster, user = kubeconfig["clusters"][0]["cluster"], kubeconfig["users"][0]["user"]
    return cluster["server"], user["token"], cluster.get("certificate-authority-data")


async def weather(net: Network) -> None:
    """Let a connection be reset, be cut off, be forgotten; half an hour in all, by virtual time."""
    await asyncio.sleep(130)
    net.reset("laptop", "localhost")
    await asyncio.sleep(170)
    heal = net.partition("laptop", "localhost")
    await asyncio.sleep(100)
    heal()
    await asyncio.sleep(200)
    net.half_open("laptop")
    await asyncio.sleep(200)
    net.fault("laptop", "localhost", loss=0.2, cut=0.5, bytes_per_s=20_000)
    await asyncio.sleep(200)
    net.fault("laptop", "localhost", reset=0.5)
    await asyncio.sleep(200)
    net.heal()
    await asyncio.sleep(600)


def run(program: Program, *, tls: bool, seed: int = 1, policy: Any = "fifo") -> Run:
    """Let a program work through half an hour of bad weather, in which 12 orders come."""
    facts, trace = hashlib.sha256(), hashlib.sha256()
    counts: dict[str, int] = {}

    def told(*event: Any) -> None:
        counts[event[1]] = counts.get(event[1], 0) + 1
        trace.update(repr(event).encode())

    async def main() -> Run:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        loop.network.add_host("laptop", "10.1.0.1")
        async with Cluster(nodes=2, rest=True, tls=tls, seed=seed) as cluster:
            loop.network.trace = told
            with loop.network.on("laptop"):
                work = asyncio.create_task(program(cluster.kubeconfig), name="program")
            clouds = asyncio.create_task(weather(loop.network), name="weather")
            for n in range(12):
                await cluster.api.create(order(f"web-{n}"))
                await asyncio.sleep(100)
            await clouds
            assert not work.done(), work
            work.cancel()
            await asyncio.wait([work])
            pods = await cluster.api.list("pods", namespace="default")
            orders = await cluster.api.list("configmaps", namespace="default", labels=ORDER)
            for fact in cluster.store.history.since(0):
                facts.update(repr(fact).encode())
            running = [p["metadata"]["name"] for p in pods if p.status["phase"] == "Running"]
            names = [o["metadata"]["name"] for o in orders]
        return Run(loop.time(), facts.hexdigest(), trace.hexdigest(), running, names, counts)

    return sim.run(main, seed=seed, policy=policy)
