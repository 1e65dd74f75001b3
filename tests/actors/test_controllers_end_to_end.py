"""Controllers against the real API server, on a store that takes its time to be durable.

The API server and the controller manager fail at chosen messages; hands that stand for scheduler
and kubelets are as slow as chance has it. At every single commit there are never too many pods, and
never too few available ones; in the end all is as it was wanted, and nothing is written any more.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.controller_manager import ControllerManager, Settings
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Outcome,
    Request,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.actors.requests.bootstrap import bootstrap_objects
from kubeloop.actors.requests.state import Settings as ServerSettings
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.view import View
from kubeloop.actors.world import LoopWorld
from kubeloop.api.resources import BY_KIND, RESOURCES
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import Cause, prefix_of
from kubeloop.store.history import History, Retention, Write
from kubeloop.store.store import Done, Store

Object = dict[str, Any]
Simulate = Callable[..., Any]
MANAGER, HANDS = "controller-manager", "hands"
SETTLED_S = 900.0


class SlowStore(Store):
    """A store in memory whose sync takes a while, and that calls `check` when pods change."""

    def __init__(self, world: LoopWorld) -> None:
        super().__init__(History(retention=Retention(revisions=100_000)))
        self.world = world
        self.check: Callable[[], None] = lambda: None
        self.busy_until = 0.0

    def commit(
        self,
        writes: Sequence[Write],
        cause: Cause,
        *,
        at: float = 0.0,
        checks: Mapping[str, int] = MappingProxyType({}),
    ) -> int:
        revision = super().commit(writes, cause, at=at, checks=checks)
        if any(write.key.startswith(prefix_of("pods")) for write in writes):
            self.check()
        return revision

    def flush(self, done: Done) -> None:
        now = self.world.now()
        self.busy_until = max(self.busy_until, now) + self.world.rng.choice([0.0, 0.001, 0.02])
        self.world.later(self.busy_until - now, lambda: super(SlowStore, self).flush(done))


class Hands(AsyncActor):
    """Binds pods, runs them, and lets them go when they are deleted; each after some time."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self.view, self.due = View(), dict[str, float]()
        self.flying: set[str] = set()

    def on_start(self) -> None:
        self.send(API_SERVER, Subscribe(self.name, ["pods"]).encode())

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Listing):
                self.view.begin()
                self.flying.clear()
            elif isinstance(message, Facts):
                for fact in message.facts():
                    self.view.fold(fact)
            elif isinstance(message, Synced):
                self.view.finish(message.revision)
            elif isinstance(message, Outcome):
                self.flying.discard(message.tag)
        if self.view.synced:
            self.work()

    def work(self) -> None:
        now, rng = self.world.now(), self.world.rng
        for pod in self.view.list("pods"):
            uid = pod["metadata"]["uid"]
            request = self.next_step(pod)
            if request is None or uid in self.flying:
                continue
            at = self.due.setdefault(uid, now + rng.choice([0.0, 0.01, 0.5, 3.0]))
            if at > now:
                self.wake_in(at - now, uid)
                continue
            del self.due[uid]
            self.flying.add(uid)
            self.send(API_SERVER, request(uid).encode())

    def next_step(self, pod: Any) -> Callable[[str], Request] | None:
        metadata, status = pod["metadata"], pod.get("status") or {}
        place = (metadata["namespace"], metadata["name"])
        if metadata.get("deletionTimestamp"):
            if metadata.get("finalizers") and metadata["deletionGracePeriodSeconds"] == 0:
                return None
            options = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
            return lambda tag: Request(
                "delete", "pods", *place, options=options, sender=self.name, tag=tag
            )
        if not pod["spec"].get("nodeName"):
            target = {"kind": "Node", "name": self.world.rng.choice(["n1", "n2"])}
            body: Object = {"metadata": {"name": place[1]}, "target": target}
            return lambda tag: Request(
                "create", "pods", *place, "binding", msgpack.packb(body), sender=self.name, tag=tag
            )
        if status.get("phase") != "Pending":
            return None
        condition = {"type": "Ready", "status": "True"}
        condition["lastTransitionTime"] = rfc3339(self.world.wall())
        number = sum(map(ord, metadata["uid"])) % 250
        running = {"phase": "Running", "podIP": f"10.244.0.{number}", "conditions": [condition]}
        change = msgpack.packb({"status": running})
        return lambda tag: Request(
            "patch", "pods", *place, "status", change, {"patchType": "strategic"},
            sender=self.name, tag=tag,
        )  # fmt: skip


class Stage:
    """A cluster of one API server, one controller manager and the hands."""

    def __init__(self, seed: int, **options: Any) -> None:
        loop = asyncio.get_running_loop()
        self.world = LoopWorld(loop, seed=seed, wall=loop.wall)  # type: ignore[attr-defined]
        self.supervisor, self.store = Supervisor(self.world), SlowStore(self.world)
        self.subscriptions = Subscriptions({})
        self.supervisor.start(API_SERVER, self.api_server)
        self.options = {"node_grace_s": 1e9, **options}
        self.supervisor.start(HANDS, Hands)

    def api_server(self, scene: Scene, name: str) -> ApiServer:
        return ApiServer(scene, name, store=self.store, subscriptions=self.subscriptions)

    async def start(self) -> "Stage":
        for obj in (*bootstrap_objects(ServerSettings()), node("n1"), node("n2")):
            await self.create(obj)
        self.supervisor.start(
            MANAGER,
            lambda scene, name: ControllerManager(scene, name, settings=Settings(**self.options)),
        )
        return self

    async def ask(self, request: Request) -> Object:
        """Ask as a patient user does: again, if the API server failed."""
        while True:
            try:
                answer = decode(await self.supervisor.ask(API_SERVER, request.encode()))
            except Exception as error:
                if "made to fail" not in str(error):
                    raise
                await asyncio.sleep(0.1)
                continue
            assert isinstance(answer, Outcome)
            body: Object = msgpack.unpackb(answer.body)
            assert answer.code < 300 or answer.code == 409, body
            return body

    async def create(self, obj: Object) -> Object:
        resource = BY_KIND[obj["apiVersion"], obj["kind"]]
        namespace = obj["metadata"].get("namespace", "default") if resource.namespaced else ""
        body = msgpack.packb(obj)
        return await self.ask(Request("create", resource.id, namespace, body=body))

    async def patch(self, resource: str, name: str, patch: Object) -> Object:
        options = {"patchType": "strategic"}
        body = msgpack.packb(patch)
        return await self.ask(Request("patch", resource, "default", name, "", body, options))

    async def delete(self, resource: str, name: str, namespace: str = "default", **o: Any) -> None:
        await self.ask(Request("delete", resource, namespace, name, options=o))

    def all(self, resource: str) -> list[Object]:
        return [msgpack.unpackb(i.value) for i in self.store.list(prefix_of(resource)).items]

    def one(self, resource: str, name: str) -> Object:
        return next(o for o in self.all(resource) if o["metadata"]["name"] == name)

    def crash_after(self, name: str, messages: int, *, first: bool) -> None:
        """Have an actor fail in the turn that takes its `messages`-th message from now."""
        actor = self.supervisor.actor(name)
        if actor is None:
            return
        handle, left = actor.on_batch, messages

        def on_batch(envelopes: Sequence[Envelope[Any]]) -> None:
            nonlocal left
            left -= len(envelopes)
            if left > 0 or not first:
                handle(envelopes)
            if left <= 0:
                raise RuntimeError(f"{name} was made to fail")

        actor.on_batch = on_batch  # type: ignore[method-assign]

    async def rest(self) -> None:
        """Wait until nothing is written for long; fail if that never comes."""
        async with asyncio.timeout(20 * SETTLED_S):
            while True:
                before = self.store.revision
                await asyncio.sleep(SETTLED_S)
                if self.store.revision == before:
                    return

    def stop(self) -> None:
        self.supervisor.stop_all()


def node(name: str) -> Object:
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    status = {"conditions": [ready], "allocatable": {"pods": "110"}}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


def workload(kind: str, name: str, replicas: int, image: str = "a", **spec: Any) -> Object:
    labels = {"app": name}
    selector = labels if kind == "ReplicationController" else {"matchLabels": labels}
    return {
        "apiVersion": "v1" if kind == "ReplicationController" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": selector,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "c", "image": image}]},
            },
            **spec,
        },
    }


def service(name: str) -> Object:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def pods_of(stage: Stage, app: str) -> list[Object]:
    """Return the pods of an app that count."""
    return [
        pod
        for pod in stage.all("pods")
        if pod["metadata"].get("labels", {}).get("app") == app
        and "deletionTimestamp" not in pod["metadata"]
    ]


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Bounds:
    """Checks at every commit: at most so many pods of an app, at least so many ready ones."""

    def __init__(self, stage: Stage, limits: dict[str, tuple[int, int]]) -> None:
        self.stage, self.limits = stage, limits
        self.broken: list[str] = []

    def __call__(self) -> None:
        for app, (most, least) in self.limits.items():
            pods = pods_of(self.stage, app)
            if len(pods) > most:
                self.broken.append(f"{app}: {len(pods)} pods, at most {most} allowed")
            ready = sum(map(is_ready, pods))
            if ready < least:
                self.broken.append(f"{app}: {ready} ready pods, at least {least} needed")


CRASHES = st.lists(
    st.tuples(st.sampled_from([API_SERVER, MANAGER]), st.integers(1, 40), st.booleans()),
    max_size=6,
)


@given(seed=st.integers(0, 2**32), crashes=CRASHES)
@settings(max_examples=12)
def test_nothing_is_made_twice_whoever_crashes(
    seed: int, crashes: list[tuple[str, int, bool]], simulate: Simulate
) -> None:
    async def main() -> None:
        stage = await Stage(seed).start()
        limits = {"rc": (3, 0), "rs": (3, 0), "web": (5, 0)}
        stage.store.check = check = Bounds(stage, limits)
        rolling = {"maxSurge": 1, "maxUnavailable": 1}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        for crash in crashes[::2]:
            stage.crash_after(crash[0], crash[1], first=crash[2])
        await stage.create(workload("ReplicationController", "rc", 3))
        await stage.create(workload("ReplicaSet", "rs", 3))
        await stage.create(workload("Deployment", "web", 4, strategy=strategy))
        await stage.create(service("web"))
        await stage.rest()
        see_that_all_is_well(stage, "a")
        limits["web"] = (5, 3)
        for crash in crashes[1::2]:
            stage.crash_after(crash[0], crash[1], first=crash[2])
        for image in ("b", "c"):
            containers = [{"name": "c", "image": image}]
            template = {"template": {"spec": {"containers": containers}}}
            await stage.patch("deployments.apps", "web", {"spec": template})
            await asyncio.sleep(stage.world.rng.choice([0.0, 0.1, 5.0]))
        await stage.rest()
        see_that_all_is_well(stage, "c")
        assert check.broken == []
        stage.stop()

    simulate(main, seed=seed, policy="random")


def see_that_all_is_well(stage: Stage, image: str) -> None:
    for app, replicas in (("rc", 3), ("rs", 3), ("web", 4)):
        pods = pods_of(stage, app)
        assert len(pods) == replicas
        assert all(map(is_ready, pods))
    assert {p["spec"]["containers"][0]["image"] for p in pods_of(stage, "web")} == {image}
    status = stage.one("deployments.apps", "web")["status"]
    assert (status["readyReplicas"], status["updatedReplicas"], status["replicas"]) == (4, 4, 4)
    (slice_,) = (
        s
        for s in stage.all("endpointslices.discovery.k8s.io")
        if s["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
    )
    uids = {e["targetRef"]["uid"] for e in slice_["endpoints"]}
    assert uids == {p["metadata"]["uid"] for p in pods_of(stage, "web")}
    (subset,) = stage.one("endpoints", "web")["subsets"]
    assert {a["targetRef"]["uid"] for a in subset["addresses"]} == uids


@pytest.mark.parametrize("policy", ["Background", "Foreground", "Orphan"])
@pytest.mark.parametrize("seed", range(4))
def test_what_is_deleted_takes_along_what_it_should(
    policy: str, seed: int, simulate: Simulate
) -> None:
    async def main() -> None:
        stage = await Stage(seed).start()
        await stage.create(workload("Deployment", "web", 3))
        await stage.create(service("web"))
        await stage.rest()
        stage.crash_after(MANAGER, 5, first=bool(seed % 2))
        await stage.delete("deployments.apps", "web", propagationPolicy=policy)
        await stage.delete("services", "web")
        await stage.rest()
        assert stage.all("deployments.apps") == []
        left = [s["metadata"]["name"] for s in stage.all("endpointslices.discovery.k8s.io")]
        assert [name for name in left if name.startswith("web")] == []
        sets, pods = stage.all("replicasets.apps"), pods_of(stage, "web")
        if policy == "Orphan":
            assert [s["metadata"].get("ownerReferences") for s in sets] == [None]
            assert len(pods) == 3
        else:
            assert (sets, pods) == ([], [])
        stage.stop()

    simulate(main, seed=seed, policy="random")


@pytest.mark.parametrize("seed", range(6))
def test_a_namespace_goes_when_all_it_holds_has_gone(seed: int, simulate: Simulate) -> None:
    async def main() -> None:
        stage = await Stage(seed).start()
        await stage.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
        await asyncio.sleep(1)
        for obj in (workload("Deployment", "web", 3), service("web")):
            obj["metadata"]["namespace"] = "n"
            await stage.create(obj)
        held = {"name": "held", "namespace": "n", "finalizers": ["example.com/wait"]}
        await stage.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": held})
        await stage.rest()
        stage.crash_after(MANAGER, 3 * seed + 1, first=bool(seed % 2))
        await stage.delete("namespaces", "n", "")
        await stage.rest()
        namespace = stage.one("namespaces", "n")
        told = {c["type"]: (c["status"], c["message"]) for c in namespace["status"]["conditions"]}
        assert told["NamespaceContentRemaining"] == (
            "True",
            "Some resources are remaining: configmaps. has 1 resource instances",
        )
        assert told["NamespaceFinalizersRemaining"] == (
            "True",
            "Some content in the namespace has finalizers remaining: "
            "example.com/wait in 1 resource instances",
        )
        free = msgpack.packb({"metadata": {"finalizers": None}})
        options = {"patchType": "merge"}
        await stage.ask(Request("patch", "configmaps", "n", "held", "", free, options))
        await stage.rest()
        assert [o["metadata"]["name"] for o in stage.all("namespaces")].count("n") == 0
        inside = [r.id for r in RESOURCES.values() if r.namespaced]
        left = [o for r in inside for o in stage.all(r) if o["metadata"]["namespace"] == "n"]
        assert left == []
        stage.stop()

    simulate(main, seed=seed, policy="random")


def test_what_is_told(simulate: Simulate) -> None:
    async def main() -> None:
        stage = await Stage(1).start()
        await asyncio.sleep(1)
        await stage.create(workload("Deployment", "web", 2))
        await stage.rest()
        (set_,) = stage.all("replicasets.apps")
        told = sorted(
            (e["involvedObject"]["kind"], e["reason"], e["message"], e["source"]["component"])
            for e in stage.all("events")
        )
        name = set_["metadata"]["name"]
        pods = sorted(p["metadata"]["name"] for p in pods_of(stage, "web"))
        scaled = f"Scaled up replica set {name} from 0 to 2"
        assert told == [
            ("Deployment", "ScalingReplicaSet", scaled, "deployment-controller"),
            *(
                ("ReplicaSet", "SuccessfulCreate", f"Created pod: {pod}", "replicaset-controller")
                for pod in pods
            ),
        ]
        users = {fact.cause.user for fact in stage.store.history.since(0) if fact.cause.actor}
        assert f"system:serviceaccount:kube-system:{told[0][3]}" in users
        assert all(
            fact.cause.revision > 0
            for fact in stage.store.history.since(0)
            if fact.cause.actor == MANAGER
        )
        stage.stop()

    simulate(main)
