"""A stage with an API server in front of a store, and clients on it; no nodes unless told."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from kubeloop import sim
from kubeloop.chaos.settled import settled
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import Deploy, Expose
from kubeloop.cluster import Cluster
from kubeloop.sim.loop import SimLoop

MAPS = "/api/v1/namespaces/default/configmaps"
Body = Callable[[Stage], Awaitable[Any]]


def on_stage(body: Body, *, seed: int = 1, policy: Any = "fifo", **options: Any) -> Any:
    """Run `body` in a simulation of its own; options are of `Cluster`."""

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        async with Cluster(**{"nodes": 0, "rest": True, "seed": seed, **options}) as cluster:
            await asyncio.sleep(1)  # The controllers have made what they make in every cluster.
            return await body(Stage(loop, cluster))

    return sim.run(main, seed=seed, policy=policy)


def with_web(body: Body, *, seed: int = 1, nodes: int = 2, **options: Any) -> Any:
    """Run `body` where the app `web` is up; then all is healed, and it must be up again.

    Afterwards the cluster has settled, web has as many replicas ready as its Deployment asks for,
    and no pod has run on two nodes.
    """

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        disk = sim.MemoryDisk()
        cluster = Cluster(nodes=nodes, seed=seed, data_dir="/data", disk=disk, **options)
        await cluster.start()
        stage = Stage(loop, cluster, disk=disk)
        try:
            await Deploy(replicas=2).happen(stage)
            await Expose().happen(stage)
            await settled(cluster, within_s=100)
            found = await body(stage)
            stage.heal_all()
            await stage.healed()
            await settled(stage.cluster, within_s=1800)
            web = await stage.api.get("deployments", "web")
            assert web.status["readyReplicas"] == web.spec["replicas"]
            assert not stage.nodes.ledger.violations
        finally:
            await stage.close()
        return found

    return sim.run(main, seed=seed, policy="random")


async def scale(stage: Stage, replicas: int) -> None:
    await stage.api.scale("deployments", "web", replicas)


async def ready(stage: Stage) -> int:
    """Return how many replicas of web are ready."""
    web = await stage.api.get("deployments", "web")
    return int(web.status.get("readyReplicas", 0))


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@asynccontextmanager
async def rest(stage: Stage, agent: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Yield a REST client that calls itself `agent`."""
    token = stage.cluster.kubeconfig["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}", "User-Agent": agent}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(stage.cluster.url, headers=headers, timeout=timeout) as http:
        yield http


async def create(http: aiohttp.ClientSession, name: str, **data: str) -> int:
    async with http.post(MAPS, json=config_map(name, **data)) as response:
        return response.status


async def told(
    http: aiohttp.ClientSession, method: str, path: str, **options: Any
) -> tuple[int, Any, dict[str, str]]:
    """Return status, body and the headers that tell something of the answer."""
    async with http.request(method, path, **options) as response:
        text = await response.text()
        named = ("Content-Type", "Retry-After", "X-Content-Type-Options")
        headers = {name: response.headers[name] for name in named if name in response.headers}
        plain = headers["Content-Type"].startswith("text/plain")
        return response.status, text if plain else json.loads(text), headers


class Watch:
    """A watch over REST, running. events: (type, name or revision);  end: how it ended, "" yet."""

    def __init__(self, http: aiohttp.ClientSession, path: str = MAPS, **parameters: Any) -> None:
        self.events: list[tuple[str, str]] = []
        self.objects: list[Any] = []
        self.end = ""
        asked = {"watch": "1", **{name: str(value) for name, value in parameters.items()}}
        self.task = asyncio.ensure_future(self._run(http, path, asked))

    async def _run(self, http: aiohttp.ClientSession, path: str, asked: dict[str, str]) -> None:
        rest = b""
        try:
            async with http.get(path, params=asked) as response:
                if response.status != 200:
                    self.end = str(response.status)
                    return
                async for data in response.content.iter_any():
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._hear(json.loads(line))
        except aiohttp.ClientPayloadError:
            self.end = "torn" if rest else "cut"
        except (aiohttp.ClientConnectionError, ConnectionError):
            self.end = "reset"
        else:
            self.end = "clean"

    def _hear(self, event: dict[str, Any]) -> None:
        obj = event["object"]
        self.objects.append(obj)
        if event["type"] == "ERROR":
            self.events.append(("ERROR", str(obj["code"])))
        elif event["type"] == "BOOKMARK":
            self.events.append(("BOOKMARK", obj["metadata"]["resourceVersion"]))
        else:
            self.events.append((event["type"], obj["metadata"]["name"]))
