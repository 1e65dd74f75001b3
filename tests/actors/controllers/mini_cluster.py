"""A control plane in one synchronous object: the real controller manager, the real request core.

Nothing moves by itself. A test says which message travels next, which one is refused or lost, who
crashes, what a kubelet or a user does in between; `settle` then lets everything run until nobody
has anything left to do, and `see_that_it_rests` makes a fresh manager look at every key again: it
must not write anything.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgpack
from hypothesis import strategies as st
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Inbox
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
from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.state import Settings as ServerSettings
from kubeloop.api.errors import ApiError, ServiceUnavailable
from kubeloop.api.resources import BY_KIND
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import Fact, prefix_of
from kubeloop.store.store import Store

Obj = dict[str, Any]
Op = tuple[Any, ...]

MANAGER = "controller-manager"
EPOCH = 1_795_413_600.0
TURNS_MAX = 5_000  # More without an end is a livelock.
ENDLESS_S = 1e9


class MiniTimer:
    """A call that waits for its time."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class MiniWorld:
    """A clock that stands until it is moved."""

    def __init__(self, seed: int) -> None:
        self.rng, self.time = random.Random(seed), 0.0
        self.turns: deque[Callable[[], None]] = deque()
        self.timers: list[tuple[float, int, MiniTimer]] = []
        self.count = 0

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return EPOCH + self.time

    def soon(self, call: Callable[[], None]) -> None:
        self.turns.append(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> MiniTimer:
        timer = MiniTimer(call)
        self.count += 1
        heapq.heappush(self.timers, (self.time + delay_s, self.count, timer))
        return timer

    def spawn(self, work: Any, name: str) -> Any:
        raise AssertionError("the controller manager awaits nothing")

    def next_timer(self) -> float | None:
        while self.timers and self.timers[0][2].call is None:
            heapq.heappop(self.timers)
        return self.timers[0][0] if self.timers else None

    def advance(self, to: float) -> None:
        """Move the clock; what is due by then is called."""
        while (at := self.next_timer()) is not None and at <= to:
            self.time = max(self.time, at)
            call = heapq.heappop(self.timers)[2].call
            assert call is not None
            call()
        self.time = max(self.time, to)


class Mini:
    """The cluster: a store, a core, a manager, and the wires between them.

    nodes: they never fall silent unless `settings` make the grace short.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        settings: Settings | None = None,
        nodes: Sequence[str] = ("n1", "n2"),
    ) -> None:
        self.world = MiniWorld(seed)
        self.settings = settings or Settings(node_grace_s=ENDLESS_S)
        self.store = Store.memory()
        self.core = Core(
            self.store,
            wall=self.world.wall,
            bits=random.Random(seed + 1).getrandbits,
            settings=ServerSettings(),
        )
        self.to_server, self.inbox = Inbox(), Inbox()
        self.cursor: Any = None
        self.subscription: Subscribe | None = None
        self.manager: ControllerManager | None = None
        self.after_write: Callable[[], None] = lambda: None
        self.addresses = 0
        self.asked: list[Request] = []  # Every write the manager asked for, done or not.
        for obj in bootstrap_objects(self.core.state.settings):
            self.create(obj)
        for name in nodes:
            self.create(node(name, self.world.wall()))

    # The scene the manager plays in.

    def scene_inbox(self, name: str) -> Inbox | None:
        return self.to_server if name == API_SERVER else self.inbox

    def crashed(self, actor: AsyncActor, error: Exception) -> None:
        raise error

    def start(self) -> None:
        """Start the manager, or start it over after a crash: its mailbox stays."""
        if self.manager is not None:
            self.manager.finish()
        self.world.turns.clear()
        scene = _Scene(self)
        self.manager = ControllerManager(scene, MANAGER, settings=self.settings)
        self.manager.actor_inbox = self.manager.actor_ref.actor_inbox = self.inbox
        self.manager._start_actor_loop()

    # What users do, and how they look at it.

    def ask(self, verb: str, resource: str, namespace: str, name: str, **more: Any) -> Outcome:
        body = more.pop("body", None)
        request = Request(
            verb,
            resource,
            namespace,
            name,
            more.pop("subresource", ""),
            msgpack.packb(body) if body is not None else b"",
            more,
        )
        return self._handle(request)

    def create(self, obj: Obj, **more: Any) -> Obj | None:
        """Return the object as it was made, None if it was refused."""
        resource = BY_KIND[obj["apiVersion"], obj["kind"]]
        namespace = obj["metadata"].get("namespace", "default") if resource.namespaced else ""
        return _body(self.ask("create", resource.id, namespace, "", body=obj, **more))

    def patch(self, obj: Obj, change: Obj, **more: Any) -> Obj | None:
        more.setdefault("patchType", "merge")
        return _body(self.ask("patch", *_address(obj), body=change, **more))

    def delete(self, obj: Obj, **options: Any) -> Outcome:
        return self.ask("delete", *_address(obj), **options)

    def get(self, resource: str, name: str, namespace: str = "default") -> Obj | None:
        return self.core.state.get(resource, namespace, name)

    def all(self, resource: str, namespace: str = "") -> list[Obj]:
        return self.core.state.all(resource, namespace)

    def plant(self, obj: Obj, status: Obj | None = None, *, deleted: bool = False) -> Obj | None:
        """Create an object in a half-way state: with a status, and being deleted."""
        made = self.create(obj)
        if made is not None and status is not None:
            made = self.patch(made, {"status": status}, subresource="status")
        if made is not None and deleted:
            self.delete(made)
        return made

    def _handle(self, request: Request) -> Outcome:
        before = self.store.revision
        outcome = self.core.handle(request)
        self.store.flush(lambda error: None)
        if self.store.revision != before:
            self.after_write()
        return outcome

    # What travels.

    def serve(self) -> None:
        """Have the API server handle the next message."""
        if self.to_server.empty():
            return
        message = decode(self.to_server.get().message)
        if isinstance(message, Subscribe):
            self.subscription = message
            self._list()
        else:
            assert isinstance(message, Request)
            if message.verb != "list":
                self.asked.append(message)
            outcome = self._handle(message)
            if message.sender and message.tag:
                self.inbox.put_answer(outcome.encode())

    def refuse(self, error: ApiError, *, done: bool = False) -> None:
        """Have the API server refuse the next write; done: although it took effect."""
        if self.to_server.empty():
            return
        frame = self.to_server.get().message
        message = decode(frame)
        if not isinstance(message, Request) or not message.sender or message.verb == "list":
            self.to_server.envelopes.appendleft(Envelope(frame))
            self.serve()
            return
        if done:
            self._handle(message)
        outcome = Outcome(message.tag, error.code, 0, msgpack.packb(error.status()))
        self.inbox.put_answer(outcome.encode())

    def feed(self, limit: int = 1000) -> bool:
        """Have the API server tell the manager of changes; return whether there were any."""
        facts = self.cursor.take(limit) if self.cursor is not None else []
        if facts:
            frames = [fact.encoded for fact in facts]
            self.inbox.put_answer(Facts(facts[-1].revision, frames).encode())
        return bool(facts)

    def turn(self) -> None:
        """Give the manager a turn."""
        if self.world.turns:
            self.world.turns.popleft()()

    def crash_server(self, messages: int, done: int) -> None:
        """Lose so many requests in a turn that fails; the first `done` of them took effect."""
        for number in range(messages):
            if self.to_server.empty():
                break
            message = decode(self.to_server.get().message)
            if isinstance(message, Subscribe):
                self.subscription = message
            elif isinstance(message, Request) and number < done:
                self._handle(message)
        if self.subscription is not None:
            self._list()

    def _list(self) -> None:
        assert self.subscription is not None
        if self.cursor is not None:
            self.cursor.close()
        revision = self.store.revision
        self.inbox.put_answer(Listing(revision).encode())
        frames = [
            Fact(item.revision, item.key, item.value).encoded
            for resource in self.subscription.resources
            for item in self.store.list(prefix_of(resource)).items
        ]
        half = len(frames) // 2  # A crash may fall between the parts of a list.
        for part in (frames[:half], frames[half:]):
            self.inbox.put_answer(Facts(revision, part).encode())
        self.inbox.put_answer(Synced(revision).encode())
        self.cursor = self.store.hub.open(
            resources=self.subscription.resources, revision=revision, wake=lambda: None
        )

    # What kubelets do.

    def pods(self) -> list[Obj]:
        return self.all("pods")

    def run_pod(self, pod: Obj) -> bool:
        """Take a pod one step further, as scheduler and kubelet would; tell whether there was one.

        A pod that failed stays so; one that is being deleted ends. The kubelet of a node that is
        Unknown does nothing.
        """
        metadata, status = pod["metadata"], pod.get("status") or {}
        place = self.get("nodes", pod["spec"].get("nodeName", ""), "")
        if place is not None and _is_unknown(place):
            return False
        if metadata.get("deletionTimestamp"):
            if metadata.get("deletionGracePeriodSeconds"):
                self.delete(pod, gracePeriodSeconds=0)
                return True
            return False
        if status.get("phase") in ("Failed", "Succeeded"):
            return False
        if not pod["spec"].get("nodeName"):
            return self.bind(pod)
        if status.get("phase") == "Running" and ready(pod):
            return False
        self.set_pod(pod, phase="Running", ready=True)
        return True

    def bind(self, pod: Obj) -> bool:
        nodes = sorted(n["metadata"]["name"] for n in self.all("nodes") if not _is_unknown(n))
        if not nodes:
            return False
        target = nodes[int(pod["metadata"]["uid"][:4], 16) % len(nodes)]
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        body = {"target": {"kind": "Node", "name": target}}
        outcome = self.ask("create", "pods", namespace, name, subresource="binding", body=body)
        return outcome.code < 300

    def set_pod(self, pod: Obj, *, phase: str, ready: bool) -> None:
        """Write a pod's status as its kubelet would; its address stays."""
        status = pod.get("status") or {}
        if not status.get("podIP"):
            self.addresses += 1
        address = status.get("podIP") or f"10.244.{self.addresses // 250}.{self.addresses % 250}"
        self.patch(
            pod,
            {"status": pod_status(phase, ready, self.world.wall(), address)},
            subresource="status",
        )

    # Until nothing is left to do.

    def pump(self) -> None:
        """Deliver everything there is, at this time."""
        for _ in range(TURNS_MAX):
            if not self.to_server.empty():
                self.serve()
            elif not self.feed():
                if not self.world.turns:
                    return
                self.turn()
        raise AssertionError("no end to it: a livelock")

    def pump_until_writes(self) -> None:
        """Deliver everything up to the next write, which stays on its way."""
        for _ in range(TURNS_MAX):
            messages = [decode(e.message) for e in self.to_server.envelopes]
            if any(isinstance(m, Request) and m.verb != "list" for m in messages):
                return
            if not self.to_server.empty():
                self.serve()
            elif not self.feed():
                self.turn()
        raise AssertionError("nothing is written")

    def settle(self, horizon_s: float = 2000.0, *, kubelets: bool = True) -> None:
        """Let everything run until nobody has anything to do, for at most `horizon_s`."""
        until = self.world.time + horizon_s
        for _ in range(TURNS_MAX):
            self.pump()
            moved = [self.run_pod(pod) for pod in self.pods()] if kubelets else []
            if any(moved):
                continue
            at = self.world.next_timer()
            if at is None or at > until:
                self.world.advance(until)
                return
            self.world.advance(at)
        raise AssertionError("no end to it: a livelock")

    def see_that_it_rests(self, *, kubelets: bool = True) -> None:
        """See that a fresh manager, which looks at everything, finds nothing to write."""
        for _ in range(2):
            before = self.store.revision
            self.asked.clear()
            self.start()
            self.settle(kubelets=kubelets)
            assert self.manager is not None
            assert self.manager.idle()
            changes = [(fact.key, fact.object()) for fact in self.changes(before)]
            assert changes == [], "what is settled is written no more"
            assert self.asked == [], "nor does anybody try to"

    def changes(self, since: int) -> list[Fact]:
        """Return the facts after a revision."""
        cursor = self.store.hub.open(
            resources=self.subscription.resources if self.subscription else ["pods"],
            revision=since,
            wake=lambda: None,
        )
        facts: list[Fact] = cursor.take(100_000)
        cursor.close()
        return facts

    # Disturbance, as data.

    def disturb(self, op: Op) -> bool:
        """Do one thing of `DISTURBANCES`; return whether it was one."""
        match op:
            case "serve", count:
                for _ in range(count):
                    self.serve()
            case "feed", count:
                self.feed(count)
            case "turn", _:
                self.turn()
            case "work", count:
                for _ in range(count):
                    self.serve()
                    self.feed()
                    self.turn()
            case "wait", delay_s:
                self.world.advance(self.world.time + delay_s)
            case "refuse", done:
                self.refuse(ServiceUnavailable("on purpose"), done=done)
            case "crash server", messages, done:
                self.crash_server(messages, done)
            case "crash manager", _:
                self.start()
            case "kubelet", number:
                pods = self.pods()
                if pods:
                    self.run_pod(pods[number % len(pods)])
            case _:
                return False
        return True


class _Scene:
    """What the manager sees of the mini cluster."""

    def __init__(self, mini: Mini) -> None:
        self.mini, self.world = mini, mini.world

    def inbox(self, name: str) -> Inbox | None:
        return self.mini.scene_inbox(name)

    def crashed(self, actor: AsyncActor, error: Exception) -> None:
        self.mini.crashed(actor, error)


DISTURBANCES = st.one_of(
    st.tuples(st.just("work"), st.integers(1, 20)),
    st.tuples(st.just("serve"), st.integers(1, 10)),
    st.tuples(st.just("feed"), st.sampled_from([1, 3, 1000])),
    st.tuples(st.just("turn"), st.none()),
    st.tuples(st.just("wait"), st.sampled_from([0.01, 1.0, 40.0])),
    st.tuples(st.just("refuse"), st.booleans()),
    st.tuples(st.just("crash server"), st.integers(0, 5), st.integers(0, 5)),
    st.tuples(st.just("crash manager"), st.none()),
    st.tuples(st.just("kubelet"), st.integers(0, 9)),
)


def _address(obj: Obj) -> tuple[str, str, str]:
    resource = BY_KIND[obj["apiVersion"], obj["kind"]]
    return resource.id, obj["metadata"].get("namespace", ""), obj["metadata"]["name"]


def _body(outcome: Outcome) -> Obj | None:
    return msgpack.unpackb(outcome.body) if outcome.code < 300 else None


def node(name: str, wall_s: float) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "status": {
            "conditions": [
                {
                    "type": "Ready",
                    "status": "True",
                    "reason": "KubeletReady",
                    "lastHeartbeatTime": rfc3339(wall_s),
                    "lastTransitionTime": rfc3339(wall_s),
                }
            ]
        },
    }


def template(labels: dict[str, str], image: str = "web:1") -> Obj:
    return {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": image}]}}


def replica_set(name: str, labels: dict[str, str], replicas: int, **spec: Any) -> Obj:
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(labels),
            **spec,
        },
    }


def replication_controller(name: str, labels: dict[str, str], replicas: int, **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": name},
        "spec": {"replicas": replicas, "selector": labels, "template": template(labels), **spec},
    }


def deployment(replicas: int, image: str = "web:1", **spec: Any) -> Obj:
    labels = {"app": "web"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": template(labels, image),
            **spec,
        },
    }


def pod(name: str, labels: dict[str, str], owner: Obj | None = None, **metadata: Any) -> Obj:
    told: Obj = {"name": name, "labels": labels, **metadata}
    if owner is not None:
        told["ownerReferences"] = [reference(owner)]
    spec = {"containers": [{"name": "c", "image": "web:1"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": told, "spec": spec}


def pod_status(phase: str, is_ready: bool, wall_s: float, address: str) -> Obj:
    told = {
        "type": "Ready",
        "status": "True" if is_ready else "False",
        "lastTransitionTime": rfc3339(wall_s),
    }
    return {
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [told],
    }


def reference(owner: Obj, *, controller: bool = True, block: bool = True) -> Obj:
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        **({"controller": True} if controller else {}),
        **({"blockOwnerDeletion": True} if block else {}),
    }


def ready(obj: Obj) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _is_unknown(obj: Obj) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "Unknown" for c in conditions)


def active(obj: Obj) -> bool:
    phase = (obj.get("status") or {}).get("phase")
    return phase not in ("Failed", "Succeeded") and "deletionTimestamp" not in obj["metadata"]


def owner_uid(obj: Obj) -> str:
    """Return the uid of an object's controller, "" if it has none."""
    references = obj["metadata"].get("ownerReferences") or ()
    return next((r["uid"] for r in references if r.get("controller")), "")


def owned(mini: Mini, owner: Obj, resource: str = "pods") -> Iterator[Obj]:
    uid = owner["metadata"]["uid"]
    return (obj for obj in mini.all(resource) if owner_uid(obj) == uid)
