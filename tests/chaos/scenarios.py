"""Small scenarios to be run in every order: what their parts do, and what must hold in them."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack

from kubeloop.api.errors import Conflict
from kubeloop.chaos.orders import Choose, Move
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.watching import Broken
from kubeloop.net.client import Client, KubeObject
from kubeloop.store.facts import Fact

Obj = dict[str, Any]


def every_order(run: Callable[[Choose], object]) -> Iterator[object]:
    """Run each order there is, one by one."""
    path: list[tuple[int, int]] = []  # (chosen, of how many)
    while True:
        at = 0

        def choose(moves: Sequence[Move]) -> Move:
            nonlocal at
            if at == len(path):
                path.append((0, len(moves)))
            at += 1
            return moves[path[at - 1][0]]

        yield run(choose)
        while path and path[-1][0] + 1 == path[-1][1]:
            path.pop()
        if not path:
            return
        path[-1] = path[-1][0] + 1, path[-1][1]


# A counter that programs count up.


async def a_counter(api: Client) -> None:
    counter = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "counter"}}
    await api.create({**counter, "data": {"n": "0"}})


async def careless(api: Client) -> None:
    """Read, modify, write, whatever has happened between."""
    found = await api.get("configmap", "counter")
    more = str(int(found["data"]["n"]) + 1)
    await api.patch("configmap", "counter", {"data": {"n": more}})


async def careful(api: Client) -> None:
    """Write only what nobody has changed since, or begin again."""
    while True:
        found = await api.get("configmap", "counter")
        found["data"]["n"] = str(int(found["data"]["n"]) + 1)
        try:
            await api.update(found)
        except Conflict:
            continue
        return


class Counts:
    """At rest the counter shows what it should; seen: what it showed at rest in each run."""

    name = "lost update"

    def __init__(self, wanted: int, seen: list[str] | None = None) -> None:
        self.wanted, self.seen = wanted, seen

    def begin(self, stage: Stage) -> None:
        self.store = stage.cluster.store

    def heard(self, facts: Sequence[Fact]) -> None:
        """At rest only."""

    def end(self) -> None:
        stored = self.store.get("/registry/configmaps/default/counter")
        assert stored is not None
        shows = msgpack.unpackb(stored.value)["data"]["n"]
        if self.seen is not None:
            self.seen.append(shows)
        if int(shows) != self.wanted:
            raise Broken(f"the counter shows {shows}, not {self.wanted}")


class Log:
    """Remembers what was written in each run: the value of every fact."""

    name = "log"

    def __init__(self, logs: list[tuple[bytes, ...]]) -> None:
        self.logs, self.facts = logs, list[bytes]()

    def begin(self, stage: Stage) -> None:
        """Everything comes."""

    def heard(self, facts: Sequence[Fact]) -> None:
        self.facts += [fact.value or fact.key.encode() for fact in facts]

    def end(self) -> None:
        self.logs.append(tuple(self.facts))


# Pods and those who make them.


def pod(name: str, *, cpu: str = "1") -> Obj:
    requests = {"requests": {"cpu": cpu}}
    container = {"name": "c", "image": "i", "resources": requests}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container]},
    }


def workload(kind: str, replicas: int, **spec: Any) -> Obj:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container("i:1")]}}
    selector = {"matchLabels": labels}
    wanted = {"replicas": replicas, "selector": selector, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web"}, "spec": wanted}


def container(image: str) -> Obj:
    return {"name": "c", "image": image}


async def make_ready(api: Client, pod: KubeObject) -> None:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"status": {"phase": "Running", "conditions": [ready]}}
    await api.patch("pod", pod.name, status, type_="merge", subresource="status")


async def a_replica_set_of_one(api: Client) -> None:
    await api.create(workload("ReplicaSet", 1))


async def a_deployment_of_two(api: Client) -> None:
    """Make a Deployment that must not go below two, and may go one beyond."""
    limits = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    await api.create(workload("Deployment", 2, strategy=limits))
    while len(pods := await api.list("pods")) < 2:
        await asyncio.sleep(1)
    for found in pods:
        await make_ready(api, found)
    await asyncio.sleep(1)


async def readies(api: Client) -> None:
    """Do what a kubelet does: pods become ready."""
    async for change in api.watch("pods"):
        if change.type == "ADDED" and not change.object.status.get("conditions"):
            await make_ready(api, change.object)


async def scales_to_two(api: Client) -> None:
    await api.scale("replicaset", "web", 2)


async def deletes_a_pod(api: Client) -> None:
    pods = await api.list("pods")
    await api.delete("pod", pods[0].name)


async def sets_another_image(api: Client) -> None:
    spec = {"template": {"spec": {"containers": [container("i:2")]}}}
    await api.patch("deployment", "web", {"spec": spec})


class Pods:
    """There are never more pods than so many, never fewer ready ones; at rest there are `rest`."""

    name = "pods"

    def __init__(self, *, most: int, rest: int, ready: int = 0) -> None:
        self.most, self.rest, self.least = most, rest, ready
        self.pods: dict[str, bool] = {}  # Whether each is ready.

    def begin(self, stage: Stage) -> None:
        """What there is by now is told at once, before it is judged."""
        self.setting_up = True

    def heard(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if fact.resource == "pods":
                self._fold(fact.key, fact.object())
                if not self.setting_up:
                    self._judge()
        self.setting_up = False

    def _fold(self, key: str, found: Any) -> None:
        if found is None or found["metadata"].get("deletionTimestamp"):
            self.pods.pop(key, None)
            return
        conditions = (found.get("status") or {}).get("conditions") or ()
        self.pods[key] = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def _judge(self) -> None:
        if len(self.pods) > self.most:
            raise Broken(f"there are {len(self.pods)} pods, at most {self.most} are wanted")
        if sum(self.pods.values()) < self.least:
            raise Broken(f"{sum(self.pods.values())} pods are ready, {self.least} must be")

    def end(self) -> None:
        if len(self.pods) != self.rest:
            raise Broken(f"at rest there are {len(self.pods)} pods, not {self.rest}")


class Fits:
    """So many pods fit on the node, and none is ever moved."""

    name = "room"

    def __init__(self, room: int) -> None:
        self.room = room
        self.bound: dict[str, str] = {}

    def begin(self, stage: Stage) -> None:
        """Everything comes."""

    def heard(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            found = fact.object() if fact.resource == "pods" else None
            if found is not None and (node := found["spec"].get("nodeName")):
                self.bound[fact.key] = node
            if len(self.bound) > self.room:
                raise Broken(f"{len(self.bound)} pods were bound, there is room for {self.room}")

    def end(self) -> None:
        if len(self.bound) != self.room:
            raise Broken(f"{len(self.bound)} pods are bound, there is room for {self.room}")


class NothingRuns:
    """At rest the node runs nothing."""

    name = "left behind"

    def begin(self, stage: Stage) -> None:
        self.cluster = stage.cluster

    def heard(self, facts: Sequence[Fact]) -> None:
        """At rest only."""

    def end(self) -> None:
        nodes: Any = self.cluster.nodes
        if found := nodes.runtimes["node-1"].sandboxes():
            raise Broken(f"{len(found)} pods still run")
