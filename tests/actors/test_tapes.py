"""Record and replay: every actor of a cluster lives through its tape again, and nothing differs."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors import tapes
from kubeloop.actors.controllers.deployment import DeploymentController
from kubeloop.actors.scheduler import Scheduler
from kubeloop.actors.supervisor import Supervisor
from kubeloop.cluster import Cluster

ACTORS = (
    "apiserver",
    "controller-manager",
    "scheduler",
    "kubelet/node-1",
    "kube-proxy/node-1",
)


def deployment(replicas: int = 3) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "web:1"}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
}


async def work(cluster: Cluster) -> None:
    """Do what users do, and something that is refused."""
    await cluster.api.create(deployment())
    await cluster.api.create(SERVICE)
    await cluster.api.wait("deployment/web", "condition=Available")
    for pod in (await cluster.api.list("pods"))[:1]:
        await cluster.api.delete("pods", pod.name)
    with pytest.raises(Exception, match="already exists"):
        await cluster.api.create(SERVICE)
    await asyncio.sleep(30)


def recorded(
    middle: Callable[[Cluster], Awaitable[None]] = work, *, data_dir: str | None = None, **more: Any
) -> dict[str, bytes]:
    """Return the tape of each actor of a cluster."""

    async def main() -> dict[str, bytes]:
        disk = sim.MemoryDisk() if data_dir else None
        cluster = Cluster(nodes=2, seed=1, data_dir=data_dir, disk=disk, **more)
        async with cluster:
            await cluster.api.create(deployment() | {"metadata": {"name": "before"}})
            await asyncio.sleep(5)
            files = {name: bytearray() for name in ACTORS}
            running = [
                tapes.record(cluster.supervisor, name, files[name].extend) for name in ACTORS
            ]
            await middle(cluster)
            for recording in running:
                recording.stop()
            size = {name: len(file) for name, file in files.items()}
            await asyncio.sleep(30)
            assert size == {name: len(file) for name, file in files.items()}, "it was stopped"
        return {name: bytes(file) for name, file in files.items()}

    return sim.run(main, seed=1)


@pytest.fixture(scope="module")
def tape() -> dict[str, bytes]:
    return recorded()


@pytest.mark.parametrize("name", ACTORS)
def test_every_actor_says_again_what_it_said(name: str, tape: dict[str, bytes]) -> None:
    steps = list(tapes.replay(tape[name]))
    assert [step.difference for step in steps if step.difference] == []
    assert [step.moment.kind for step in steps].count("begin") == 1
    assert len(steps) > 5
    assert any(step.said for step in steps[1:])


def test_a_server_with_a_disk_and_one_that_began_again() -> None:
    async def middle(cluster: Cluster) -> None:
        await work(cluster)
        for name in ACTORS:
            cluster.supervisor.crash(name, RuntimeError("on purpose"))
        await asyncio.sleep(5)
        await cluster.api.create(deployment() | {"metadata": {"name": "more"}})
        await asyncio.sleep(30)

    found = recorded(middle, data_dir="/data")
    for name in ACTORS:
        steps = list(tapes.replay(found[name]))
        assert [step.difference for step in steps if step.difference] == []
        assert [step.moment.kind for step in steps].count("begin") == 2


def test_a_change_of_the_code_is_noticed(
    tape: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    reconcile = DeploymentController.reconcile

    def lazy(self: Any, key: str, *args: Any) -> Any:
        result = reconcile(self, key, *args)
        return type(result)(result.actions[1:])

    monkeypatch.setattr(DeploymentController, "reconcile", lazy)
    differences = [step.difference for step in tapes.replay(tape["controller-manager"])]
    first = next(filter(None, differences))
    assert "create replicasets.apps default" in first
    assert first.startswith("it says "), first


def test_what_is_asked_otherwise_is_noticed(
    tape: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_batch = Scheduler.on_batch

    def curious(self: Any, envelopes: Any) -> None:
        self.world.wall()
        on_batch(self, envelopes)

    monkeypatch.setattr(Scheduler, "on_batch", curious)
    first = next(step.difference for step in tapes.replay(tape["scheduler"]) if step.difference)
    assert first.startswith("it asks for wall, where it asked for ")


def test_a_failure_is_had_again(monkeypatch: pytest.MonkeyPatch) -> None:
    on_batch = Scheduler.on_batch

    def fails(self: Any, envelopes: Any) -> None:
        on_batch(self, envelopes)
        if any(b"unlucky" in envelope.message for envelope in envelopes):
            raise ValueError("a pod called unlucky")

    async def middle(cluster: Cluster) -> None:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "unlucky"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        await cluster.api.create(pod)
        await asyncio.sleep(5)

    with monkeypatch.context() as patch:
        patch.setattr(Scheduler, "on_batch", fails)
        data = recorded(middle)["scheduler"]
        failed = [step for step in tapes.replay(data) if step.error is not None]
        assert failed and all(isinstance(step.error, ValueError) for step in failed)
        assert [step.difference for step in tapes.replay(data) if step.difference] == []
    cured = [step.difference for step in tapes.replay(data)]
    assert "it does not fail, where it failed with ValueError('a pod called unlucky')" in cured


def test_a_new_failure_is_told(tape: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: Any, envelopes: Any) -> None:
        raise ValueError("new")

    monkeypatch.setattr(Scheduler, "on_batch", fails)
    steps = list(tapes.replay(tape["scheduler"]))
    assert steps[1].difference == "it fails with ValueError('new'), where it did not fail"
    assert isinstance(steps[1].error, ValueError)


def test_who_cannot_be_recorded() -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as cluster:
            with pytest.raises(ValueError, match="no actor is called 'nobody'; there are"):
                tapes.record(cluster.supervisor, "nobody", lambda data: None)

    sim.run(main)


def test_damage(tape: dict[str, bytes]) -> None:
    whole = tape["scheduler"]
    for data in (b"", b"\xc1", b"no tape at all", msgpack.packb(["kubeloop tape", 99, "x"])):
        with pytest.raises(tapes.TapeDamaged, match="not a tape of this version"):
            list(tapes.read(data))
    header = msgpack.packb(["kubeloop tape", 1, "x"])
    with pytest.raises(tapes.TapeDamaged, match="before any life"):
        list(tapes.replay(header + msgpack.packb(["moment", "turn", [], [], [], ""])))
    count = len(list(tapes.read(whole)))
    rng = random.Random(1)
    for _ in range(50):
        cut = rng.randrange(20, len(whole))
        parts = list(tapes.read(whole[:cut]))
        assert len(parts) <= count
        assert parts == list(tapes.read(whole))[: len(parts)], "it ends early, and says no more"


@given(st.binary(max_size=60))
def test_reading_never_fails_otherwise(data: bytes) -> None:
    header = msgpack.packb(["kubeloop tape", 1, "x"])
    for content in (data, header + data):
        try:
            list(tapes.read(content))
        except tapes.TapeDamaged:
            continue


def test_an_actor_that_waits_to_be_restarted_is_not_begun_twice() -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as cluster:
            supervisor: Supervisor = cluster.supervisor
            supervisor.crash("scheduler", RuntimeError("on purpose"))
            file = bytearray()
            recording = tapes.record(supervisor, "scheduler", file.extend)
            assert supervisor.actor("scheduler") is None
            await asyncio.sleep(1)
            assert supervisor.actor("scheduler") is not None
            recording.stop()
            recording.stop()
            kinds = [part.kind for part in tapes.read(bytes(file))]
            assert kinds[:2] == ["scheduler", "begin"] and kinds.count("begin") == 1

    sim.run(main)
