"""A cluster that is killed, and another that goes on with what it left; nodes without power."""

import asyncio
from typing import Any

import pytest

from kubeloop import sim
from kubeloop.actors.world import Clock
from kubeloop.api.errors import ApiError
from kubeloop.api.times import parse
from kubeloop.cluster import Cluster
from kubeloop.net.gate import Severed
from kubeloop.nodes import SimulatedNodes


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


def deployment(replicas: int = 2) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    }
    selector = {"matchLabels": {"app": "web"}}
    spec = {"replicas": replicas, "selector": selector, "template": template}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": spec,
    }


def test_one_that_is_killed_answers_nothing_and_its_successor_goes_on() -> None:
    async def main() -> None:
        disk = sim.MemoryDisk()
        old = Cluster(nodes=2, seed=1, rest=True, data_dir="/data", disk=disk)
        await old.start()
        await old.api.create(deployment())
        await old.api.wait("deployment/web", "condition=Available")
        uids = {pod.uid for pod in await old.api.list("pods")}
        pending = asyncio.ensure_future(old.api.create(config_map("pending")))
        await asyncio.sleep(0)
        old.kill()
        calls = disk.calls
        with pytest.raises(Severed):
            await pending
        with pytest.raises(Severed):
            await old.api.create(config_map("late"))
        with pytest.raises(Severed):
            async for _ in old.api.watch("pods", since=1):
                pass
        assert isinstance(old.nodes, SimulatedNodes) and not old.nodes.ledger.running
        await asyncio.sleep(600)
        assert disk.calls == calls, "the dead do not write"

        new = old.successor(seed=2)
        told = old.url, old.kubeconfig
        await old.stop()
        await new.prepare()
        assert new.store.durable >= 1
        await new.start()
        assert (new.url, new.kubeconfig) == told
        await asyncio.sleep(5)
        pods = await new.api.list("pods")
        assert {pod.uid for pod in pods} == uids, "they are the same"
        assert [pod.status["containerStatuses"][0]["restartCount"] for pod in pods] == [1, 1]
        assert isinstance(new.nodes, SimulatedNodes) and not new.nodes.ledger.violations
        assert new.nodes.ledger is old.nodes.ledger
        assert all(runtime.images() for runtime in new.nodes.runtimes.values())
        await new.stop()

    sim.run(main, seed=1)


def test_with_real_processes_there_is_none() -> None:
    async def main() -> None:
        cluster = Cluster(nodes=0, seed=1, runtime="process")
        cluster.nodes = cluster._make_nodes(None)  # type: ignore[arg-type]
        for call in (cluster.kill, lambda: cluster.successor(seed=2)):
            with pytest.raises(ValueError, match="only simulated pods"):
                call()

    sim.run(main)


def test_a_simulated_disk_leaves_nothing_on_the_real_one(tmp_path: Any) -> None:
    async def main() -> None:
        disk = sim.MemoryDisk()
        async with Cluster(nodes=0, rest=True, data_dir=tmp_path / "data", disk=disk) as cluster:
            assert cluster.url

    sim.run(main)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("off_s", [5, 600])
def test_a_node_gets_its_power_back(off_s: int) -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            await cluster.api.create(deployment())
            await cluster.api.wait("deployment/web", "condition=Available")
            before = await cluster.api.get("nodes", "node-1")
            pulls: list[str] = []
            assert isinstance(cluster.nodes, SimulatedNodes)
            cluster.nodes.registry.trouble(refuse=lambda image: pulls.append(image) or "gone")
            await cluster.stop_node("node-1")
            await cluster.stop_node("node-1")
            assert not cluster.nodes.ledger.running
            with pytest.raises(ApiError, match="does not answer"):
                name = (await cluster.api.list("pods"))[0].name
                asked = {"previous": False, "follow": False}
                async for _ in cluster.logs("default", name, "c", **asked):
                    pass
            await asyncio.sleep(off_s)
            cluster.start_node("node-1")
            cluster.start_node("node-1")
            await cluster.api.wait("node/node-1", "condition=Ready", timeout_s=60)
            await asyncio.sleep(60)
            after = await cluster.api.get("nodes", "node-1")
            assert after.uid == before.uid and after.status["addresses"]
            pods = await cluster.api.list("pods")
            assert [pod.condition("Ready") for pod in pods] == ["True", "True"]
            assert not pulls, "what its disk holds is there"
            with pytest.raises(KeyError):
                cluster.start_node("node-7")

    sim.run(main, seed=1)


def test_a_node_has_its_own_clock() -> None:
    async def main() -> None:
        async with Cluster(nodes=2, seed=1) as cluster:
            assert isinstance(cluster.nodes, SimulatedNodes)
            begun = cluster.world.now()
            right = cluster.nodes.clocks["node-1"].go_wrong(begun, ahead_s=1000.0)
            slow = cluster.nodes.clocks["node-1"].go_wrong(begun, rate=0.5)

            async def ahead_s(node: str) -> float:
                lease = await cluster.api.get("leases", node, namespace="kube-node-lease")
                return parse(lease.spec["renewTime"]) - cluster.world.wall()

            await asyncio.sleep(20)
            assert await ahead_s("node-1") == pytest.approx(990, abs=10)
            assert await ahead_s("node-2") == pytest.approx(-5, abs=6)
            right()
            await asyncio.sleep(20)
            assert await ahead_s("node-1") == pytest.approx(-25, abs=6)
            slow()
            right()
            await asyncio.sleep(20)
            assert await ahead_s("node-1") == pytest.approx(-5, abs=6)

    sim.run(main, seed=1)


def test_what_is_wrong_with_a_clock_adds_up() -> None:
    clock = Clock()
    assert clock.error_s(5.0) == 0
    stop = clock.go_wrong(10.0, rate=0.0)
    jump = clock.go_wrong(10.0, ahead_s=-60)
    assert clock.error_s(25.0) == -75
    again = clock.go_wrong(20.0, rate=0.0)
    assert clock.error_s(25.0) == -80
    stop()
    stop()
    assert clock.error_s(25.0) == -65
    again()
    jump()
    assert clock.error_s(25.0) == 0


def test_an_actor_lists_and_watches_anew() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            inbox = cluster.supervisor.inbox("kubelet/node-1")
            assert inbox is not None
            cluster.watch_anew("nobody")
            cluster.watch_anew("kubelet/node-1")
            kubelet = cluster.supervisor.actor("kubelet/node-1")
            heard: list[object] = []
            hear, kubelet._start_over = kubelet._start_over, lambda: heard.append(1) or hear()  # type: ignore
            await asyncio.sleep(1)
            assert heard == [1]

    sim.run(main, seed=1)
