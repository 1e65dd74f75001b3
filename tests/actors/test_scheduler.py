"""The scheduler as an actor, beside a fake API server that may crash at any message."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop import sim
from kubeloop.actors.actor import AsyncActor
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
from kubeloop.actors.scheduler import Scheduler
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld
from kubeloop.sim.loop import SimLoop
from kubeloop.store.facts import Fact, key_of

Object = dict[str, Any]


@dataclass
class Truth:
    """What the fake API server knows; it survives the crashes of its actor."""

    objects: dict[str, Object] = field(default_factory=dict)
    revision: int = 0
    subscriptions: dict[str, Subscribe] = field(default_factory=dict)
    bindings: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, int]] = field(default_factory=list)
    events: list[Object] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    patches: int = 0
    handled: int = 0
    crash_at: set[int] = field(default_factory=set)
    heard: int = 0
    scheduler_crash_at: set[int] = field(default_factory=set)
    fail_bindings: int = 0


class FakeApiServer(AsyncActor):
    """Lists, watches, binds and patches as the real one does, as far as a scheduler can tell."""

    def __init__(self, scene: Any, name: str, truth: Truth) -> None:
        super().__init__(scene, name)
        self.truth = truth

    def on_start(self) -> None:
        for name in self.truth.subscriptions:
            self.relist(name)

    def relist(self, name: str) -> None:
        revision = self.truth.revision
        frames = [
            Fact(1, key, msgpack.packb(obj)).encoded for key, obj in self.truth.objects.items()
        ]
        for message in (Listing(revision), Facts(revision, frames), Synced(revision)):
            self.answer(name, message.encode())

    def answer(self, name: str, frame: bytes) -> None:
        inbox = self.scene.inbox(name)
        if inbox is not None:
            inbox.put_answer(frame)

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            self.truth.handled += 1
            if self.truth.handled in self.truth.crash_at:
                raise RuntimeError("the API server crashes")
            message = decode(envelope.message)
            if isinstance(message, Subscribe):
                self.truth.subscriptions[message.sender] = message
                self.relist(message.sender)
            elif isinstance(message, Request):
                self.handle(message)

    def handle(self, request: Request) -> None:
        self.truth.asked.append(request)
        code = 201
        match (request.verb, request.resource, request.subresource):
            case ("create", "pods", "binding"):
                code = self.bind(request)
            case ("create", "events", _):
                self.truth.events.append(msgpack.unpackb(request.body))
            case ("patch", "pods", "status"):
                self.patch(request)
            case ("put" | "remove", _, _):  # From the test.
                value = msgpack.unpackb(request.body) if request.body else None
                self.commit(request.resource, request.namespace, request.name, value)
        if request.sender:
            status = msgpack.packb({"kind": "Status", "message": "no luck"})
            self.answer(
                request.sender, Outcome(request.tag, code, self.truth.revision, status).encode()
            )

    def bind(self, request: Request) -> int:
        pod = self.truth.objects.get(key_of("pods", request.namespace, request.name))
        binding = msgpack.unpackb(request.body)
        assert (binding["apiVersion"], binding["kind"]) == ("v1", "Binding")
        if self.truth.fail_bindings:
            self.truth.fail_bindings -= 1
            return self.refuse(request, 500)
        if pod is None:
            return self.refuse(request, 404)
        if pod["spec"].get("nodeName") or pod["metadata"]["uid"] != binding["metadata"]["uid"]:
            return self.refuse(request, 409)
        node = binding["target"]["name"]
        self.truth.bindings.append((pod["metadata"]["uid"], node))
        bound = {**pod, "spec": {**pod["spec"], "nodeName": node}}
        self.commit("pods", request.namespace, request.name, bound)
        return 201

    def refuse(self, request: Request, code: int) -> int:
        self.truth.refused.append((request.name, code))
        return code

    def patch(self, request: Request) -> None:
        self.truth.patches += 1
        pod = self.truth.objects.get(key_of("pods", request.namespace, request.name))
        if pod is not None:
            status = msgpack.unpackb(request.body)["status"]
            patched = {**pod, "status": {**pod["status"], **status}}
            self.commit("pods", request.namespace, request.name, patched)

    def commit(self, resource: str, namespace: str, name: str, value: Object | None) -> None:
        key = key_of(resource, namespace, name)
        self.truth.revision += 1
        if value is None:
            self.truth.objects.pop(key, None)
        else:
            self.truth.objects[key] = value
        packed = None if value is None else msgpack.packb(value)
        fact = Fact(self.truth.revision, key, packed)
        for subscriber in self.truth.subscriptions:
            self.answer(subscriber, Facts(self.truth.revision, [fact.encoded]).encode())


class Mortal(Scheduler):
    """A scheduler that crashes after the messages numbered in `truth.scheduler_crash_at`."""

    def __init__(self, scene: Any, name: str, truth: Truth) -> None:
        super().__init__(scene, name)
        self.truth = truth

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for number in range(1, len(envelopes) + 1):
            self.truth.heard += 1
            if self.truth.heard in self.truth.scheduler_crash_at:
                super().on_batch(envelopes[:number])
                raise RuntimeError("the scheduler crashes")
        super().on_batch(envelopes)


class Ground:
    """A cluster of two actors, and the hands of the test."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.truth = Truth()
        self.supervisor = Supervisor(LoopWorld(loop, seed=loop.seed, wall=loop.wall))
        self.supervisor.start(
            API_SERVER, lambda scene, name: FakeApiServer(scene, name, self.truth)
        )
        self.supervisor.start("scheduler", lambda scene, name: Mortal(scene, name, self.truth))

    def put(self, resource: str, obj: Object) -> None:
        """Write an object, whatever becomes of the API server."""
        metadata = obj["metadata"]
        self._tell("put", resource, metadata.get("namespace", ""), metadata["name"], obj)

    def remove(self, resource: str, name: str) -> None:
        self._tell("remove", resource, "default" if resource == "pods" else "", name, None)

    def _tell(
        self, verb: str, resource: str, namespace: str, name: str, obj: Object | None
    ) -> None:
        body = b"" if obj is None else msgpack.packb(obj)
        request = Request(verb, resource, namespace, name, body=body)
        self.supervisor.tell(API_SERVER, request.encode())

    def pod(self, name: str) -> Object:
        return self.truth.objects[key_of("pods", "default", name)]

    def node_of(self, name: str) -> str | None:
        node: str | None = self.pod(name)["spec"].get("nodeName")
        return node

    def events(self, name: str) -> list[tuple[str, str, str]]:
        return [
            (e["type"], e["reason"], e["message"])
            for e in self.truth.events
            if e["involvedObject"]["name"] == name
        ]


def node(name: str, cpu: str = "1", **spec: Any) -> Object:
    allocatable = {"cpu": cpu, "memory": "4Gi", "pods": "110"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": name},
        "spec": spec,
        "status": {"allocatable": allocatable},
    }


def pod(
    name: str, cpu: str = "100m", *, uid: str = "", phase: str = "Pending", **spec: Any
) -> Object:
    container = {"name": "c", "image": "app:1", "resources": {"requests": {"cpu": cpu}}}
    metadata = {"name": name, "namespace": "default", "uid": uid or f"uid-{name}", "generation": 1}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": [container], "schedulerName": "default-scheduler", **spec},
        "status": {"phase": phase},
    }


Simulate = Callable[..., Any]


def test_a_pod_is_bound_and_told_of(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("nodes", node("node-1"))
        ground.put("pods", pod("web-0"))
        await asyncio.sleep(1)
        assert ground.truth.bindings == [("uid-web-0", "node-1")]
        told = ("Normal", "Scheduled", "Successfully assigned default/web-0 to node-1")
        assert ground.events("web-0") == [told]
        (event,) = ground.truth.events
        assert event["source"] == {"component": "default-scheduler"}
        assert ground.truth.patches == 0

    simulate(main)


def test_why_a_pod_has_no_node_is_told_once(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("pods", pod("big", "3"))
        await asyncio.sleep(1)
        assert ground.events("big")[-1][2] == "no nodes available to schedule pods"
        ground.put("nodes", node("node-1", "4", unschedulable=True))
        ground.put("nodes", node("node-2", "2"))
        await asyncio.sleep(301)  # Nothing helped; the five minutes' flush tells anew.
        message = (
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. "
            "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
        )
        assert ground.events("big")[-1] == ("Warning", "FailedScheduling", message)
        (condition,) = ground.pod("big")["status"]["conditions"]
        assert condition == {
            "type": "PodScheduled",
            "status": "False",
            "reason": "Unschedulable",
            "message": message,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        assert ground.truth.patches == 2
        await asyncio.sleep(1000)  # Only what changes is patched.
        assert ground.truth.patches == 2
        ground.put("nodes", node("node-1", "4"))
        await asyncio.sleep(1)
        assert ground.node_of("big") == "node-1"

    simulate(main)


@pytest.mark.parametrize("help", ["bigger node", "new node", "pod deleted", "pod finished"])
def test_what_may_help_wakes_the_waiting(simulate: Simulate, help: str) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("nodes", node("node-1"))
        ground.put("pods", pod("first", "900m"))
        await asyncio.sleep(1)
        ground.put("pods", pod("second", "900m"))
        await asyncio.sleep(1)
        assert ground.node_of("second") is None
        ground.put("nodes", node("node-8", "0"))
        match help:
            case "bigger node":
                ground.put("nodes", node("node-1", "2"))
            case "new node":
                ground.put("nodes", node("node-2"))
            case "pod deleted":
                ground.remove("pods", "first")
            case "pod finished":
                done = pod("first", "900m", phase="Succeeded", nodeName="node-1")
                ground.put("pods", done)
        helped = ground.truth.revision + 2
        ground.put("nodes", node("node-9", "0"))
        await asyncio.sleep(1)
        assert ground.node_of("second") is not None
        *_, binding = (r for r in ground.truth.asked if r.subresource == "binding")
        assert binding.because == helped, "and not what was told with it"

    simulate(main)


def test_a_pod_that_waits_for_company_follows_it(simulate: Simulate) -> None:
    """What helps may be a pod that the scheduler itself has just placed."""

    async def main() -> None:
        term = {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchLabels": {"app": "leader"}},
        }
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        follower = pod("follower", affinity={"podAffinity": {required: [term]}}, priority=9)
        leader = pod("leader")
        leader["metadata"]["labels"] = {"app": "leader"}
        ground = Ground()
        for name in ("node-1", "node-2", "node-3"):
            labelled = node(name)
            labelled["metadata"]["labels"] = {"kubernetes.io/hostname": name}
            ground.put("nodes", labelled)
        ground.put("pods", follower)
        ground.put("pods", leader)
        wanted = ground.truth.revision + 5
        ground.put("nodes", node("node-4", "0"))  # Told together with them, and no reason.
        await asyncio.sleep(1)
        assert ground.node_of("follower") == ground.node_of("leader") is not None
        bindings = [r for r in ground.truth.asked if r.subresource == "binding"]
        assert [r.because for r in bindings] == [wanted, wanted]

    simulate(main)


def test_priority_then_age(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        for name, priority in (("old", 0), ("young", 0), ("urgent", 1000)):
            ground.put("pods", pod(name, "900m", priority=priority))
        await asyncio.sleep(1)
        for number, name in enumerate(("urgent", "old", "young")):
            ground.put("nodes", node(f"node-{number}"))
            await asyncio.sleep(1)
            assert ground.node_of(name) == f"node-{number}"

    simulate(main)


@pytest.mark.parametrize(
    "other",
    [
        pod("p", schedulerName="mine"),
        pod("p", schedulingGates=[{"name": "wait"}]),
        {**pod("p"), "metadata": {**pod("p")["metadata"], "deletionTimestamp": "2026"}},
        pod("p", phase="Failed"),
        pod("p", nodeName="node-7"),
    ],
    ids=["scheduler", "gates", "deleted", "failed", "bound"],
)
def test_pods_that_are_not_ours_are_left_alone(simulate: Simulate, other: Object) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("nodes", node("node-1"))
        ground.put("pods", other)
        await asyncio.sleep(600)
        assert ground.truth.bindings == []
        assert ground.truth.events == []
        ground.put("pods", pod("p"))  # Now it is ours: say its gates are gone.
        await asyncio.sleep(1)
        assert ground.node_of("p") == "node-1"

    simulate(main)


def test_a_refused_binding_is_forgotten_and_tried_again(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.truth.fail_bindings = 3
        ground.put("nodes", node("node-1"))
        ground.put("pods", pod("p", "900m"))
        await asyncio.sleep(0.5)
        assert ground.truth.refused == [("p", 500)]
        message = 'binding rejected: running Bind plugin "DefaultBinder": no luck'
        assert ground.events("p") == [("Warning", "FailedScheduling", message)]
        assert ground.pod("p")["status"]["conditions"][0]["reason"] == "SchedulerError"
        await asyncio.sleep(6)  # Pauses of 1, 2 and 4 s.
        assert len(ground.truth.refused) == 3
        assert ground.node_of("p") is None
        await asyncio.sleep(1)
        assert ground.node_of("p") == "node-1"

    simulate(main)


def test_while_a_refused_pod_rests_its_room_is_free(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.truth.fail_bindings = 1
        ground.put("nodes", node("node-1"))
        ground.put("pods", pod("refused", "900m"))
        await asyncio.sleep(0.5)
        ground.put("pods", pod("quick", "900m"))
        await asyncio.sleep(0.1)
        assert ground.node_of("quick") == "node-1"
        await asyncio.sleep(20)
        assert ground.node_of("refused") is None

    simulate(main)


def test_an_outcome_for_a_predecessor_is_ignored(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("nodes", node("node-1"))
        ground.put("pods", pod("p"))
        stale = Outcome("1.1 default/p", 500, 1, msgpack.packb({"message": "stale"}))
        for _ in range(20):  # At every moment of the binding.
            ground.supervisor.tell("scheduler", stale.encode())
            await asyncio.sleep(0)
        assert [event[1] for event in ground.events("p")] == ["Scheduled"]

    simulate(main)


def test_a_pod_replaced_under_its_name_is_placed_anew(simulate: Simulate) -> None:
    async def main() -> None:
        ground = Ground()
        ground.put("nodes", node("node-1"))
        for number in range(5):
            ground.put("pods", pod("p", "600m", uid=f"uid-{number}"))
            if number % 2:
                await asyncio.sleep(1)
                assert ground.truth.bindings[-1] == (f"uid-{number}", "node-1")
            ground.remove("pods", "p")
        ground.put("pods", pod("p", "600m", uid="last"))
        await asyncio.sleep(20)
        assert ground.truth.bindings[-1] == ("last", "node-1")

    simulate(main)


CRASHES = st.lists(st.integers(1, 60), max_size=4, unique=True)


@given(
    st.lists(st.sampled_from(["100m", "300m", "700m"]), min_size=1, max_size=12),
    CRASHES,
    CRASHES,
    st.integers(0, 10**6),
    st.sampled_from(["fifo", "random"]),
)
def test_whatever_crashes_every_pod_is_bound_exactly_once(
    sizes: list[str],
    api_crashes: list[int],
    own_crashes: list[int],
    seed: int,
    policy: Any,
) -> None:
    """Either crashes at given messages; the batch it was reading is lost."""

    async def main() -> None:
        ground = Ground()
        ground.truth.crash_at = set(api_crashes)
        ground.truth.scheduler_crash_at = set(own_crashes)
        for n in range(3):
            ground.put("nodes", node(f"node-{n}", "4"))
        for n, size in enumerate(sizes):
            ground.put("pods", pod(f"p{n}", size))
            await asyncio.sleep(0.2 if n % 3 == 0 else 0)
        await asyncio.sleep(30)
        existing = [o for key, o in ground.truth.objects.items() if "/pods/" in key]
        nodes = [o for key, o in ground.truth.objects.items() if "/nodes/" in key]
        bound = Counter(uid for uid, _ in ground.truth.bindings)
        assert set(bound.values()) <= {1}
        if nodes:  # A crash may have eaten the test's own writes.
            assert set(bound) == {o["metadata"]["uid"] for o in existing}
        actor = ground.supervisor.actor("scheduler")
        assert isinstance(actor, Scheduler)
        assert not actor._bindings
        assert not nodes or not len(actor._queue)

    sim.run(main, seed=seed, policy=policy)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "add", "remove", "node", "shrink", "cordon"]),
            st.integers(0, 7),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(0, 10**6),
)
def test_no_pod_waits_while_a_node_fits(steps: list[tuple[str, int, bool]], seed: int) -> None:
    """S1 and work conserving, end to end: nothing overfull by us, nobody forgotten."""

    async def main() -> None:
        ground = Ground()
        for action, number, pause in steps:
            match action:
                case "add":
                    ground.put("pods", pod(f"p{number}", "400m", uid=f"{number}-{len(steps)}"))
                case "remove":
                    ground.remove("pods", f"p{number}")
                case "node":
                    ground.put("nodes", node(f"node-{number % 3}", "1"))
                case "shrink":
                    ground.remove("nodes", f"node-{number % 3}")
                case "cordon":
                    ground.put("nodes", node(f"node-{number % 3}", "1", unschedulable=True))
            await asyncio.sleep(float(pause))
        await asyncio.sleep(60)
        pods = [o for key, o in ground.truth.objects.items() if "/pods/" in key]
        nodes = [o for key, o in ground.truth.objects.items() if "/nodes/" in key]
        load = Counter(o["spec"].get("nodeName") for o in pods)
        free = [
            n
            for n in nodes
            if not n["spec"].get("unschedulable") and load[n["metadata"]["name"]] < 2
        ]
        assert not (free and load[None])
        assert all(count <= 2 for name, count in load.items() if name is not None)

    sim.run(main, seed=seed, policy="random")
