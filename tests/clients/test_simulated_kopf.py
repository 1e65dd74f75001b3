"""An operator written with kopf, embedded in a simulation: its retries, timers, and what it hears.

kopf brings tasks, timeouts, back-offs, finalizers and annotations of its own, and nothing of it is
changed. Its credentials come from a login handler, as in any embedded operator.
"""

import asyncio
import logging
import signal
from itertools import pairwise
from typing import Any

import aiohttp
import pytest
from simulated import CONFIG_MAPS, ORDER, PODS, access, order, pod, run

from kubeloop import Cluster, sim
from kubeloop.sim.loop import SimLoop

kopf = pytest.importorskip("kopf", reason="no kopf: pip install kopf")

FINALIZER = "kopf.zalando.org/KopfFinalizerMarker"


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """kopf tells of every failed attempt, and there are many."""
    caplog.set_level(logging.CRITICAL, "kopf")


def registry(kubeconfig: dict[str, Any]) -> Any:
    """Return an operator's handlers, and how it logs in."""
    made = kopf.OperatorRegistry()
    url, token, authority = access(kubeconfig)

    @kopf.on.login(registry=made)
    async def login(**_: Any) -> Any:
        return kopf.ConnectionInfo(server=url, token=token, ca_data=authority)

    return made


async def order_taker(kubeconfig: dict[str, Any]) -> None:
    """Make a pod of every order, at the second try; then the order is deleted."""
    handlers = registry(kubeconfig)
    url, token, authority = access(kubeconfig)
    info = kopf.ConnectionInfo(server=url, token=token, ca_data=authority)

    @kopf.on.resume("configmaps", labels={ORDER: kopf.PRESENT}, registry=handlers)
    @kopf.on.create("configmaps", labels={ORDER: kopf.PRESENT}, registry=handlers)
    async def serve(name: str, retry: int, **_: Any) -> None:
        if retry == 0:
            raise kopf.TemporaryError("not yet", delay=20)
        async with aiohttp.ClientSession(
            url,
            headers={"Authorization": f"Bearer {token}"},
            connector=aiohttp.TCPConnector(ssl=info.as_ssl_context()),
            timeout=aiohttp.ClientTimeout(total=30),
        ) as session:
            async with session.post(PODS, json=pod(name)) as made:
                if made.status not in (201, 409):
                    raise kopf.TemporaryError(str(made.status), delay=5)
            async with session.delete(f"{CONFIG_MAPS}/{name}") as gone:
                assert gone.status in (200, 404)

    await kopf.operator(registry=handlers, namespaces=["default"], standalone=True)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_an_operator_gets_its_work_done(tls: bool) -> None:
    first = run(order_taker, tls=tls)
    assert sorted(first.pods) == sorted(f"web-{n}" for n in range(12))
    assert first.orders == []
    if tls:
        again = run(order_taker, tls=tls)
        assert (again.log, again.trace) == (first.log, first.trace)


GREETINGS: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "greetings.kopf.example"},
    "spec": {
        "group": "kopf.example",
        "scope": "Namespaced",
        "names": {"plural": "greetings", "kind": "Greeting"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def test_an_operator_of_a_custom_kind() -> None:
    """It hears of the kind when that is defined, of its objects, and writes their status."""
    heard: list[str] = []

    async def main() -> dict[str, Any]:
        async with Cluster(nodes=1, seed=3, rest=True) as cluster:
            handlers = registry(cluster.kubeconfig)

            @kopf.on.create("kopf.example", "v1", "greetings", registry=handlers, id="greet")
            async def greet(spec: Any, name: str, **_: Any) -> dict[str, str]:
                heard.append(name)
                return {"said": f"hello {spec['to']}"}

            @kopf.on.delete("kopf.example", "v1", "greetings", registry=handlers)
            async def part(name: str, **_: Any) -> None:
                heard.append(f"no more {name}")

            operator = asyncio.create_task(
                kopf.operator(registry=handlers, namespaces=["default"], standalone=True)
            )
            await asyncio.sleep(5)
            await cluster.api.create(GREETINGS)
            await cluster.api.wait("crd/greetings.kopf.example", "condition=Established")
            await asyncio.sleep(5)
            told = {"apiVersion": "kopf.example/v1", "kind": "Greeting", "metadata": {"name": "g"}}
            await cluster.api.create({**told, "spec": {"to": "world"}})
            await asyncio.sleep(10)
            found = await cluster.api.get("greetings", "g")
            await cluster.api.delete("greetings", "g")
            await asyncio.sleep(10)
            assert await cluster.api.list("greetings") == []
            operator.cancel()
            await asyncio.gather(operator, return_exceptions=True)
            return dict(found)

    found = sim.run(main, seed=3)
    assert found["status"]["greet"] == {"said": "hello world"}
    assert found["metadata"]["finalizers"] == [FINALIZER]
    assert heard == ["g", "no more g"]


def test_finalizers_timers_and_a_signal() -> None:
    ticks: list[float] = []
    seen: list[tuple[str, str]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        async with Cluster(nodes=1, rest=True, seed=1) as cluster:
            handlers = registry(cluster.kubeconfig)

            @kopf.timer("configmaps", labels={ORDER: "yes"}, interval=60, registry=handlers)
            def tick(**_: Any) -> None:  # A plain function: kopf has an executor run it.
                ticks.append(loop.time())

            @kopf.on.update("configmaps", field="data.x", registry=handlers)
            async def changed(name: str, old: Any, new: Any, patch: Any, **_: Any) -> None:
                seen.append((name, f"{old}→{new}"))
                patch.metadata.labels["seen"] = str(new)

            @kopf.on.delete("configmaps", registry=handlers)
            async def gone(name: str, **_: Any) -> None:
                seen.append((name, "gone"))

            operator = asyncio.create_task(
                kopf.operator(registry=handlers, namespaces=["default"], standalone=True)
            )
            await asyncio.sleep(1)
            await cluster.api.create({**order("web"), "data": {"x": "1"}})
            await asyncio.sleep(600)
            made = await cluster.api.get("configmaps", "web")
            assert made["metadata"]["finalizers"] == [FINALIZER]
            await cluster.api.patch("configmaps", "web", {"data": {"x": "2"}})
            await asyncio.sleep(5)
            made = await cluster.api.get("configmaps", "web")
            assert made["metadata"]["labels"]["seen"] == "2"
            await cluster.api.delete("configmaps", "web")
            await asyncio.sleep(5)
            assert await cluster.api.list("configmaps", namespace="default", labels=ORDER) == []
            assert loop.send_signal("localhost", signal.SIGTERM)
            await asyncio.wait_for(operator, 60)

    sim.run(main)
    assert seen == [("web", "1→2"), ("web", "gone")]
    assert 10 <= len(ticks) <= 11
    assert all(59 < b - a < 62 for a, b in pairwise(ticks))
