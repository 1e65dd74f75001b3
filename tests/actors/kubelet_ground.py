"""Ground for kubelet tests: a real API server and kubelets on a simulated runtime, no scheduler."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgpack

from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.kubelet import Kubelet, NodeConfig
from kubeloop.actors.messages import API_SERVER, Outcome, Request, decode
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.actors.runtimes.simulated import Ledger, SimulatedRuntime
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld
from kubeloop.store.facts import key_of
from kubeloop.store.store import Store

Object = dict[str, Any]


class Ground:
    """One API server, one kubelet on "node-1"; pods are created bound to it."""

    def __init__(self, images: dict[str, Script] | None = None, **config: Any) -> None:
        loop = asyncio.get_running_loop()
        self.world = LoopWorld(loop, seed=1, wall=getattr(loop, "wall", lambda: 1.8e9))
        self.supervisor, self.store = Supervisor(self.world), Store.memory()
        self.ledger = Ledger()
        self.runtime = SimulatedRuntime(
            self.world, images=images, node="node-1", ledger=self.ledger
        )
        self.config = NodeConfig(
            name="node-1", index=1, address="127.1.0.1", pod_cidr="10.244.1.0/24", **config
        )
        self.subscriptions = Subscriptions({})
        self.start_api_server()

    def start_api_server(self, kind: type[ApiServer] = ApiServer, **attributes: Any) -> None:
        def factory(scene: Supervisor, name: str) -> ApiServer:
            made = kind(scene, name, store=self.store, subscriptions=self.subscriptions)
            for attribute, value in attributes.items():
                setattr(made, attribute, value)
            return made

        self.supervisor.start(API_SERVER, factory)

    async def start(self, *, kubelet: bool = True) -> "Ground":
        for name in ("default", "kube-node-lease"):
            await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if kubelet:
            self.start_kubelet()
            await self.until(lambda: self.get("nodes", "", "node-1") is not None)
        return self

    def start_kubelet(self, kind: type[Kubelet] = Kubelet, **attributes: Any) -> None:
        def factory(scene: Supervisor, name: str) -> Kubelet:
            made = kind(scene, name, node=self.config, runtime=self.runtime, prober=self.runtime)
            for attribute, value in attributes.items():
                setattr(made, attribute, value)
            return made

        self.supervisor.start("kubelet/node-1", factory)

    @property
    def kubelet(self) -> Kubelet:
        actor = self.supervisor.actor("kubelet/node-1")
        assert isinstance(actor, Kubelet)
        return actor

    def crash(self) -> None:
        self.supervisor.crash("kubelet/node-1", RuntimeError("crashed by the test"))

    async def ask(self, request: Request) -> Outcome:
        answer = decode(await self.supervisor.ask(API_SERVER, request.encode()))
        assert isinstance(answer, Outcome)
        return answer

    async def create(self, obj: Object) -> Object:
        resource = _RESOURCES[obj["kind"]]
        namespace = obj["metadata"].get("namespace", "")
        if obj["kind"] not in ("Namespace", "Node"):
            namespace = namespace or "default"
        outcome = await self.ask(Request("create", resource, namespace, body=msgpack.packb(obj)))
        made: Object = msgpack.unpackb(outcome.body)
        assert outcome.code == 201, made
        return made

    async def delete(self, name: str, resource: str = "pods", **options: Any) -> Outcome:
        namespace = "" if resource == "nodes" else "default"
        return await self.ask(Request("delete", resource, namespace, name, options=options))

    async def delete_lease(self) -> None:
        """Do as the garbage collector does when a node is gone."""
        leases = "leases.coordination.k8s.io"
        await self.ask(Request("delete", leases, "kube-node-lease", "node-1"))

    def get(self, resource: str, namespace: str, name: str) -> Object | None:
        stored = self.store.get(key_of(resource, namespace, name))
        return None if stored is None else msgpack.unpackb(stored.value)

    def pod(self, name: str = "p") -> Object:
        found = self.get("pods", "default", name)
        assert found is not None, f"there is no pod {name}"
        return found

    def gone(self, name: str = "p") -> bool:
        return self.get("pods", "default", name) is None

    def phase(self, name: str = "p") -> str:
        return str(self.pod(name)["status"]["phase"])

    def condition(self, kind: str, name: str = "p") -> Object:
        return next(c for c in self.pod(name)["status"]["conditions"] if c["type"] == kind)

    def ready(self, name: str = "p") -> bool:
        conditions = self.pod(name)["status"].get("conditions") or ()
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def container(self, name: str = "p", index: int = 0) -> Object:
        found: Object = self.pod(name)["status"]["containerStatuses"][index]
        return found

    def events(self, name: str = "p") -> list[tuple[str, str, str, int]]:
        events = [
            msgpack.unpackb(item.value) for item in self.store.list("/registry/events/").items
        ]
        return [
            (event["type"], event["reason"], event["message"], event["count"])
            for event in sorted(events, key=lambda e: int(e["metadata"]["resourceVersion"]))
            if event["involvedObject"]["name"] == name
        ]

    def reasons(self, name: str = "p") -> list[str]:
        return [reason for _, reason, _, _ in self.events(name)]

    async def until(self, holds: Callable[[], Any], *, timeout_s: float = 60.0) -> None:
        """Wait for a condition on the store; looks every 10 ms of (virtual) time."""
        for _ in range(int(timeout_s / 0.01)):
            if holds():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(f"not so within {timeout_s} s; the pods are {self.pods()}")

    def pods(self) -> list[Object]:
        return [msgpack.unpackb(item.value) for item in self.store.list("/registry/pods/").items]

    def writes(self) -> int:
        """Return the revision of the last write to any pod."""
        return max((i.revision for i in self.store.list("/registry/pods/").items), default=0)

    def stop(self) -> None:
        self.supervisor.stop_all()


_RESOURCES = {
    "Pod": "pods",
    "Node": "nodes",
    "Namespace": "namespaces",
    "Service": "services",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
}


def pod(name: str = "p", *containers: Object, **spec: Any) -> Object:
    """Return a Pod bound to node-1, of one container "c" of image "i" if none are given."""
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": {
            "nodeName": "node-1",
            "containers": list(containers) or [{"name": "c", "image": "i"}],
            **spec,
        },
    }
