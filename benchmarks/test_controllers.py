"""What controllers cost: that of one change knows nothing of all the other objects.

Sketch: a pod's change is decoded (about 30 µs), put into a dozen indexes, and shown to ten
controllers; its ReplicaSet and its Service look at their own three pods and make three writes. So
some 0.3 ms, with any number of other sets and pods. Scaling to 500 is one look that makes 500
requests; four fifths of its time are the API server's, about 1 ms a pod.
"""

import random
from itertools import count
from typing import Any

import msgpack
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.actors.controllers import all_controllers
from kubeloop.actors.controllers.base import split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.requests.bootstrap import bootstrap_objects
from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.state import Settings as ServerSettings
from kubeloop.actors.view import View
from kubeloop.api.calls import Request
from kubeloop.api.resources import BY_KIND
from kubeloop.store.facts import Fact, key_of
from kubeloop.store.store import Store

WALL_S = 1_795_413_600.0
TIME = "2026-11-23T06:00:00Z"
SCALE = 500


class Controllers:
    """All controllers over one view, without an actor around them."""

    def __init__(self) -> None:
        self.controllers = all_controllers(Settings(node_grace_s=1e9), begun_s=WALL_S)
        self.view = View({k: v for c in self.controllers for k, v in c.indexes.items()})

    def look(self) -> list[Request]:
        """Return the writes that what has changed leads to."""
        changes, requests = self.view.take_changed(), []
        for controller in self.controllers:
            keys: dict[str, None] = {}
            for key, before, after, _ in changes:
                if split(key)[0] in controller.resources:
                    keys.update(dict.fromkeys(controller.keys(key, before, after, self.view)))
            for key in keys:
                actions = controller.reconcile(key, self.view, WALL_S, "").actions
                requests += [action.request for action in actions]
        return requests


def replica_set(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": _metadata(name),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
        "status": {
            "replicas": replicas,
            "fullyLabeledReplicas": replicas,
            "readyReplicas": replicas,
            "availableReplicas": replicas,
            "terminatingReplicas": 0,
            "observedGeneration": 1,
        },
    }


def pod(name: str, owner: str, address: str, *, ready: bool) -> dict[str, Any]:
    reference = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": owner,
        "uid": f"uid-{owner}",
        "controller": True,
        "blockOwnerDeletion": True,
    }
    told = {"type": "Ready", "status": str(ready), "lastTransitionTime": TIME}
    metadata = {**_metadata(name), "labels": {"app": owner}, "ownerReferences": [reference]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "web:1"}]},
        "status": {"phase": "Running", "podIP": address, "conditions": [told]},
    }


def service(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(name),
        "spec": {"clusterIP": "10.96.0.9", "selector": {"app": name}, "ports": [{"port": 80}]},
    }


def _metadata(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": TIME,
    }


@pytest.mark.parametrize("sets", [10, 1000])
def test_one_pod_changes(benchmark: BenchmarkFixture, sets: int) -> None:
    revisions, world = count(1), Controllers()

    def fold(obj: dict[str, Any]) -> None:
        resource = BY_KIND[obj["apiVersion"], obj["kind"]]
        namespace = "default" if resource.namespaced else ""
        key = key_of(resource.id, namespace, obj["metadata"]["name"])
        world.view.fold(Fact(next(revisions), key, msgpack.packb(obj)))

    for number in range(sets):
        name = f"s{number}"
        fold(replica_set(name, 3))
        fold(service(name))
        for index in range(3):
            address = f"10.244.{number // 80}.{number % 80 * 3 + index}"
            fold(pod(f"{name}-{index}", name, address, ready=True))
    world.look()
    flips = count()

    def change() -> list[Request]:
        fold(pod("s7-1", "s7", "10.244.0.22", ready=next(flips) % 2 == 1))
        return world.look()

    requests = benchmark(change)
    assert "endpoints" in {r.resource for r in requests}


def test_scale_a_deployment_to_500(benchmark: BenchmarkFixture) -> None:
    def begin() -> tuple[tuple[Core, Controllers, Any], dict[str, Any]]:
        store, world = Store.memory(), Controllers()
        bits = random.Random(1).getrandbits
        core = Core(store, wall=lambda: WALL_S, bits=bits, settings=ServerSettings())
        for obj in bootstrap_objects(core.state.settings):
            ask(core, "create", obj)
        watched = sorted({r for c in world.controllers for r in c.resources})
        cursor = store.hub.open(resources=watched, revision=0, wake=lambda: None)
        ask(core, "create", _deployment())
        run(core, world, cursor)
        return (core, world, cursor), {}

    def scale(core: Core, world: Controllers, cursor: Any) -> None:
        ask(core, "patch", _deployment(SCALE))
        run(core, world, cursor)
        assert len(core.state.all("pods")) == SCALE

    benchmark.extra_info["pods"] = SCALE
    benchmark.pedantic(scale, setup=begin, rounds=3)


def run(core: Core, world: Controllers, cursor: Any) -> None:
    """Let store and controllers answer each other until nothing is left to do."""
    while True:
        core.state.store.flush(lambda error: None)
        facts = cursor.take(10_000)
        if not facts:
            return
        for fact in facts:
            world.view.fold(fact)
        for request in world.look():
            core.handle(request)


def ask(core: Core, verb: str, obj: dict[str, Any]) -> None:
    resource = BY_KIND[obj["apiVersion"], obj["kind"]]
    namespace = "default" if resource.namespaced else ""
    name = obj["metadata"]["name"] if verb == "patch" else ""
    options = {"patchType": "merge"} if verb == "patch" else {}
    body = msgpack.packb(obj)
    outcome = core.handle(Request(verb, resource.id, namespace, name, body=body, options=options))
    assert outcome.code < 300, outcome.body


def _deployment(replicas: int = 0) -> dict[str, Any]:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "web:1"}]},
            },
        },
    }
