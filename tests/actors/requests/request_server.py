"""The API server's core with a clock that can be moved; and the objects its tests begin with."""

import random
from typing import Any

import msgpack

from kubeloop.actors.requests.bootstrap import bootstrap_objects
from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.state import Settings
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.resources import BY_KIND
from kubeloop.store.store import Store

NOW = 1_795_413_600.0


class Server:
    """A core with a clock that can be moved, and requests in plain words."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.now = NOW
        self.store = Store.memory()
        self.core = Core(
            self.store,
            wall=lambda: self.now,
            bits=random.Random(1).getrandbits,
            settings=settings or Settings(),
        )
        for obj in bootstrap_objects(self.core.state.settings):
            self.create(obj)

    def ask(
        self, verb: str, resource: str, name: str = "", body: Any = None, **more: Any
    ) -> Outcome:
        namespace = more.pop("namespace", "default")
        subresource = more.pop("subresource", "")
        packed = msgpack.packb(body) if body is not None else b""
        return self.core.handle(
            Request(verb, resource, namespace, name, subresource, packed, options=more)
        )

    def ok(self, *args: Any, **more: Any) -> Any:
        outcome = self.ask(*args, **more)
        body = msgpack.unpackb(outcome.body) if outcome.body else None
        assert outcome.code < 300, body
        return body

    def refused(self, *args: Any, **more: Any) -> dict[str, Any]:
        outcome = self.ask(*args, **more)
        assert outcome.code >= 400
        status: dict[str, Any] = msgpack.unpackb(outcome.body)
        assert status["code"] == outcome.code
        return status

    def create(self, obj: dict[str, Any], **more: Any) -> Any:
        resource = BY_KIND[obj["apiVersion"], obj["kind"]]
        namespace = obj["metadata"].get("namespace", "default") if resource.namespaced else ""
        return self.ok("create", resource.id, body=obj, namespace=namespace, **more)


def pod(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "c", "image": "b"}], **spec},
    }


def config(name: str = "c", **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def service(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "ports": [{"port": 80}], **spec},
    }


def deployment(name: str = "d", replicas: int = 1) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": "b"}]},
            },
        },
    }
