"""Pressure on nodes: what a Node says of it, which pods go, and which ones come."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import Cluster, sim
from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.pods.pressure import Pressure, Usage, victim
from kubeloop.net.client import Client
from kubeloop.nodes import SimulatedNodes

GI, MI = 2**30, 2**20


def pod(name: str, memory: str = "", request: str = "", **spec: Any) -> dict[str, Any]:
    """Return a pod that uses some memory of what it may have asked for."""
    container: dict[str, Any] = {"name": "c", "image": "i"}
    if request:
        container["resources"] = {"requests": {"memory": request}}
    annotations = {"kubeloop.dev/sim.memory": memory} if memory else {}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"containers": [container], **spec},
    }


def hog(cluster: Cluster, **amounts: int) -> Any:
    """Have something else use so much of the first node."""
    assert isinstance(cluster.nodes, SimulatedNodes)
    return cluster.nodes.runtimes["node-1"].hog(**amounts)


async def condition(api: Client, kind: str) -> tuple[str, str]:
    """Return status and reason of a condition of the first node."""
    conditions = (await api.get("node", "node-1"))["status"]["conditions"]
    return next((c["status"], c["reason"]) for c in conditions if c["type"] == kind)


def test_a_node_without_memory_evicts_who_uses_more_than_he_asked_for() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            await c.api.create(pod("modest", "1Gi", "2Gi"))
            await c.api.create(pod("greedy", "3Gi", "1Gi"))
            await c.api.create(pod("more-greedy", "4Gi"))
            await c.settled()
            end = hog(c, memory=24 * GI - 50 * MI)
            await c.api.wait("pod/more-greedy", lambda p: p["status"]["phase"] == "Failed")
            gone = (await c.api.get("pod", "more-greedy"))["status"]
            assert gone["reason"] == "Evicted"
            assert gone["message"] == (
                "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
                "Container c was using 4Gi, request is 0, has larger consumption of memory. "
            )
            (why,) = [one for one in gone["conditions"] if one["type"] == "DisruptionTarget"]
            assert (why["status"], why["reason"]) == ("True", "TerminationByKubelet")
            reason = "KubeletHasInsufficientMemory"
            assert await condition(c.api, "MemoryPressure") == ("True", reason)
            node = await c.api.wait("node/node-1", lambda n: n["spec"].get("taints"))
            (taint,) = node["spec"]["taints"]
            assert taint["key"] == "node.kubernetes.io/memory-pressure"
            await c.settled()
            assert (await c.api.get("pod", "greedy"))["status"]["phase"] == "Running"
            told = {e["reason"] for e in await c.api.list("events")}
            assert {"Evicted", "EvictionThresholdMet", "NodeHasInsufficientMemory"} <= told
            end()
            await c.api.wait("node/node-1", lambda n: not n["spec"].get("taints"), timeout_s=400)
            reason = "KubeletHasSufficientMemory"
            assert await condition(c.api, "MemoryPressure") == ("False", reason)

    sim.run(main)


def test_one_goes_every_ten_seconds_and_the_important_stay() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            for n in range(3):
                await c.api.create(pod(f"p{n}"))
            critical = pod("critical", priorityClassName="system-node-critical")
            critical["metadata"]["namespace"] = "kube-system"
            await c.api.create(critical)
            await c.settled()
            hog(c, memory=32 * GI)
            left = []
            for _ in range(4):
                pods = await c.api.list("pods")
                left.append(sum(p["status"]["phase"] == "Running" for p in pods))
                await asyncio.sleep(10.0)
            assert left == [2, 1, 0, 0] or left == [3, 2, 1, 0]
            kept = await c.api.get("pod", "critical", namespace="kube-system")
            assert kept["status"]["phase"] == "Running"

    sim.run(main)


@pytest.mark.parametrize(("what", "taken"), [("memory", 32 * GI), ("disk", 95 * GI)])
def test_who_is_bound_to_a_node_under_pressure(what: str, taken: int) -> None:
    """Under pressure of memory only those who asked for nothing are turned away."""

    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            await c.settled()
            hog(c, **{what: taken})
            kind = {"memory": "MemoryPressure", "disk": "DiskPressure"}[what]
            await c.api.wait(
                "node/node-1",
                lambda n: ("True" in [x["status"] for x in n["status"]["conditions"]
                                      if x["type"] == kind]),
            )  # fmt: skip
            refused = await c.api.create(pod("free", nodeName="node-1"))
            found = await c.api.wait("pod/free", lambda p: p["status"]["phase"] == "Failed")
            assert found["status"]["reason"] == "Evicted"
            assert f"The node had condition: [{kind}]. " in found["status"]["message"]
            assert refused.name == "free"
            asks = pod("asks", request="1Gi", nodeName="node-1")
            await c.api.create(asks)
            phase = "Failed" if what == "disk" else "Running"
            seen = set()

            def happened(p: Any) -> bool:
                seen.add(p["status"]["phase"])
                return phase in seen

            await c.api.wait("pod/asks", happened)

    sim.run(main)


def test_a_kubelet_that_is_restarted_knows_of_the_pressure() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as c:
            await c.settled()
            hog(c, memory=32 * GI)
            c.supervisor.crash("kubelet/node-1", RuntimeError("for a test"))
            reason = "KubeletHasInsufficientMemory"
            await c.settled()
            assert await condition(c.api, "MemoryPressure") == ("True", reason)

    sim.run(main)


AMOUNTS = st.integers(0, 40).map(lambda n: n * GI)


@given(st.lists(st.tuples(AMOUNTS, st.integers(0, 20), st.integers(0, 2)), max_size=6), AMOUNTS)
def test_pressure_ends_or_nobody_is_left(pods: list[tuple[int, int, int]], others: int) -> None:
    """Whatever uses what: one goes after the other, the worst first, until there is room."""
    pressure = Pressure(NodeConfig(name="n", index=1, address="", pod_cidr=""))
    alive = {
        f"p{n}": (used, {**pod(f"p{n}", request=f"{asked}Gi"), "metadata": {"name": f"p{n}"}}, prio)
        for n, (used, asked, prio) in enumerate(pods)
    }
    for _, told, prio in alive.values():
        told["spec"]["priority"] = prio
    now = 0.0
    while True:
        usage = {uid: {"c": {"memory": used}} for uid, (used, _, _) in alive.items()}
        pressure.usage = Usage({"memory": others}, usage)
        short = pressure.shortages(now)
        living = [(uid, told) for uid, (_, told, _) in alive.items()]
        relief = pressure.turn(living, now)
        assert bool(relief.victim) == bool(short and living)
        assert ("MemoryPressure" in relief.conditions) >= bool(short)
        if not relief.victim:
            break
        assert relief.victim == victim(living, short[0], pressure.usage)
        used, told, _ = alive.pop(relief.victim)
        asked = int(told["spec"]["containers"][0]["resources"]["requests"]["memory"][:-2]) * GI
        if used <= asked:  # Then nobody used more than he had asked for.
            for more, other, _ in alive.values():
                has = other["spec"]["containers"][0]["resources"]["requests"]["memory"]
                assert more <= int(has[:-2]) * GI
        now += 10.0
    total = others + sum(used for used, _, _ in alive.values())
    assert not alive or 32 * GI - total >= 100 * MI
    assert pressure.conditions(now + 301) == frozenset()
