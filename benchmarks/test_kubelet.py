"""What a pod costs its kubelet, from the fact that binds it to the status that says it runs.

Sketch: decode the fact (25 µs), plan twice (10), start sandbox and container as two tasks that
answer by notes (4 × 10), render and compare the status (25), five requests, four of them events
(5 × 10), and as much again for the actor's turns: about 200 µs. A kubelet that has settled pays for
its heartbeat alone, whatever the number of its pods.
"""

import asyncio
from typing import Any

import msgpack
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.actors.actor import AsyncActor
from kubeloop.actors.kubelet import Kubelet, NodeConfig
from kubeloop.actors.messages import API_SERVER, Facts, Listing, Outcome, Request, Synced, decode
from kubeloop.actors.runtimes.simulated import SimulatedRuntime
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld
from kubeloop.store.facts import Fact

PODS = 100


class Api:
    """Stands in for the API server: keeps what is patched, answers at once, costs little."""

    def __init__(self, world: LoopWorld, supervisor: Supervisor) -> None:
        self.world, self.supervisor, self.revision = world, supervisor, 0
        self.running = 0
        self.objects: dict[str, dict[str, Any]] = {}

    def tell(self, message: bytes) -> None:
        inbox = self.supervisor.inbox("kubelet/n")
        assert inbox is not None
        inbox.put_answer(message)

    def put(self, key: str, obj: dict[str, Any]) -> None:
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        self.objects[key] = obj
        fact = Fact(self.revision, key, msgpack.packb(obj))
        self.tell(Facts(self.revision, [fact.encoded]).encode())

    def handle(self, request: Request) -> None:
        if request.resource != "pods":
            if request.tag:
                self.tell(Outcome(request.tag, 200, 0, b"").encode())
            return
        key = f"/registry/pods/default/{request.name}"
        obj = dict(self.objects[key])
        obj["metadata"] = dict(obj["metadata"])
        status = msgpack.unpackb(request.body)["status"]
        obj["status"] = {**obj["status"], **status}
        self.running += status.get("phase") == "Running"
        self.put(key, obj)
        self.tell(Outcome(request.tag, 200, self.revision, b"").encode())


def pod(name: str) -> dict[str, Any]:
    container = {"name": "c", "image": "i:1", "imagePullPolicy": "IfNotPresent"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "uid": name, "generation": 1},
        "spec": {"nodeName": "n", "containers": [container], "restartPolicy": "Always"},
        "status": {"phase": "Pending", "qosClass": "BestEffort"},
    }


async def start_pods(count: int) -> int:
    """Bind `count` pods to one kubelet at once; return how many run."""
    world = LoopWorld(asyncio.get_running_loop(), seed=1)
    supervisor = Supervisor(world)
    api = Api(world, supervisor)
    runtime = SimulatedRuntime(world)
    config = NodeConfig(name="n", index=1, address="127.1.0.1", pod_cidr="10.244.0.0/20")
    supervisor.start(API_SERVER, lambda scene, name: _Desk(scene, name, api))
    supervisor.start(
        "kubelet/n",
        lambda scene, name: Kubelet(scene, name, node=config, runtime=runtime, prober=runtime),
    )
    for message in (Listing(0), Synced(0)):
        api.tell(message.encode())
    for n in range(count):
        api.put(f"/registry/pods/default/p{n}", pod(f"p{n}"))
    while api.running < count:
        await asyncio.sleep(0)
    supervisor.stop_all()
    return api.running


class _Desk(AsyncActor):
    """The mailbox of the stand-in."""

    def __init__(self, scene: Any, name: str, api: Api) -> None:
        super().__init__(scene, name)
        self.api = api

    def on_batch(self, envelopes: Any) -> None:
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Request):
                self.api.handle(message)


@pytest.mark.parametrize("count", [1, PODS])
def test_pods_from_bound_to_running(benchmark: BenchmarkFixture, count: int) -> None:
    def run() -> int:
        return asyncio.run(start_pods(count))

    assert benchmark(run) == count
