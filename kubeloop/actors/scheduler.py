"""The scheduler: gives every pod without a node the best one, by writing a Binding.

One turn: fold the facts into `scheduling.State`, place every pod that waits, send the bindings. A
placed pod is assumed to be on its node at once; if the API server refuses the binding it is
forgotten there and tried again. What the scheduler says of a pod (events, the condition
PodScheduled) is Kubernetes' text to the letter.

A pod whose claims are to be bound where it goes is assumed to be there, too, while that is done:
see `scheduling.volumes`.

After a list it places nothing until the API server has listed the pods once more, behind all that
was ever sent from here: bindings of before, its own or of the one it replaces, may still wait to be
done when a list is made, and take room that the list shows as free.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgpack
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.events import Recorder
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
from kubeloop.actors.scheduling import volumes
from kubeloop.actors.scheduling.demand import Demand, Demands
from kubeloop.actors.scheduling.framework import MESSAGE_MAX, Placement, Placer
from kubeloop.actors.scheduling.nodeinfo import PodInfo, State
from kubeloop.actors.scheduling.queue import Pending, Queue
from kubeloop.actors.scheduling.volumes import Volumes
from kubeloop.actors.signing import ERA_BITS, Signer
from kubeloop.api.pod_claims import keys_of
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import Fact

NAME: Final = "default-scheduler"
USER: Final = "system:kube-scheduler"
FENCE_AGAIN_S: Final = 0.1  # A list of pods that was refused is asked for again.
DECISIONS_MAX: Final = 1000  # Pods placed in one turn: bounds how long it holds the loop.
RESOURCES: Final = ["nodes", "pods", *volumes.RESOURCES]
_CLAIMS: Final = "claims "
_NEVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding that was sent and is not yet seen as a fact. told: its success was recorded."""

    tag: str
    pending: Pending
    node: str
    told: bool = False


@dataclass(slots=True)
class Reservation:
    """A pod that waits on its node for its claims. tags: of what was written for them.

    due_s: when it has waited too long.
    """

    pending: Pending
    node: str
    due_s: float
    tags: set[str] = field(default_factory=set)


class Scheduler(AsyncActor):
    """Hears of pods and nodes; writes bindings, conditions and events."""

    def __init__(self, scene: Scene, name: str) -> None:
        super().__init__(scene, name)
        self._recorder = Recorder(NAME)
        self._demands = Demands()
        # Ids are part of tags, too: outcomes for a predecessor are not ours.
        self._signer = Signer(name, USER, self.world.rng.getrandbits(ERA_BITS))
        self._forget()

    def _forget(self) -> None:
        self._state = State()
        self._placer = Placer(self._state, self.world.rng.random)
        self._queue = Queue()
        self._bindings: dict[str, Binding] = {}  # By pod key; their pods are in the queue too.
        self._volumes = Volumes()
        self._reserved: dict[str, Reservation] = {}  # By pod key; in the queue, too.
        self._claimants: dict[str, dict[str, None]] = defaultdict(dict)  # Claim → pods that wait.
        self._touched: dict[str, int] = {}  # Claim → the revision of what may matter to it.
        self._listing = self._synced = False
        self._revision = 0  # Of the newest fact.
        self._fence = ""
        self._fence_due = _NEVER
        self._fenced_at: int | None = None  # The revision there must be a fact of; None: not known.

    def on_start(self) -> None:
        self.send(API_SERVER, Subscribe(self.name, RESOURCES).encode())

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        for envelope in envelopes:
            match decode(envelope.message):
                case Listing():
                    self._forget()
                    self._listing = True
                    self._send_fence()
                case Facts() as facts if self._listing:
                    for fact in facts.facts():
                        self._fold(fact)
                    self._revision = max(self._revision, facts.revision)
                case Synced() as synced if self._listing:
                    self._synced = True
                    self._revision = max(self._revision, synced.revision)
                case Outcome() as outcome if self._fence and outcome.tag == self._fence:
                    self._pass_fence(outcome)
                case Outcome() as outcome:
                    self._settle(outcome)
        if self._fence_due <= self.world.now():
            self._send_fence()
        if self._may_act():
            self._look_at_claims()
            self._wake()
            self._place_all()

    def busy(self) -> str | None:
        if not self._may_act():
            return "has not heard its list"
        if self._bindings:
            return f"binds {next(iter(self._bindings))}"
        for key, reservation in self._reserved.items():
            if reservation.tags:
                return f"has volumes bound for {key}"
        return self._queue.busy() or super().busy()

    def _may_act(self) -> bool:
        fenced_at = self._fenced_at
        return self._synced and fenced_at is not None and self._revision >= fenced_at

    def _send_fence(self) -> None:
        fence = self._signer.next_id()
        self._fence, self._fence_due = fence, _NEVER
        read = Request("list", "pods")
        self.send(API_SERVER, self._signer.sign(read, 0, id=fence, tag=fence).encode())

    def _pass_fence(self, outcome: Outcome) -> None:
        """Hear of the pods as they are by now: all that was bound is to be seen as a fact, too."""
        if outcome.code >= 300:
            self._fence_due = self.world.now() + FENCE_AGAIN_S
            self.wake_in(FENCE_AGAIN_S, "fence")
            return
        self._fence = ""
        pods = map(msgpack.unpackb, outcome.items)
        self._fenced_at = max((int(p["metadata"]["resourceVersion"]) for p in pods), default=0)

    # Folding.

    def _fold(self, fact: Fact) -> None:
        obj = fact.object()
        self._state.because = fact.revision
        if fact.resource == "nodes":
            if obj is None:
                self._lose_node(fact.key.removeprefix("/registry/nodes/"))
            else:
                self._state.set_node(obj)
            return
        if fact.resource in volumes.RESOURCES:
            name = fact.key.split("/", 3)[3]
            self._touch(self._volumes.fold(fact.resource, name, obj))
            return
        key = fact.key.removeprefix("/registry/pods/")
        if obj is None:
            self._gone(key)
        else:
            self._fold_pod(key, obj, fact.revision)

    def _lose_node(self, name: str) -> None:
        self._state.remove_node(name)
        for reservation in self._reserved.values():
            if reservation.node == name:
                self._touch(keys_of(reservation.pending.pod))

    def _fold_pod(self, key: str, pod: Mapping[str, Any], revision: int) -> None:
        binding = self._bindings.get(key)
        ours = binding is not None and _uid(binding.pending.pod) == _uid(pod)
        if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
            self._gone(key)
        elif node := pod["spec"].get("nodeName"):
            if binding is not None and ours and binding.node == node:
                self._tell_success(binding)
            self._bindings.pop(key, None)
            self._reserved.pop(key, None)
            self._queue.remove(key)
            self._state.place(self._info(key, pod), node)
        elif binding is not None and ours:
            binding.pending.pod = pod  # What becomes of it, the outcome tells.
        elif wanted(pod) and self._is_reserved(key, pod):
            self._reserved[key].pending.pod = pod
        elif wanted(pod):
            self._unplace(key)
            self._queue.put(key, pod, self._demand(pod), revision)
        else:
            self._gone(key)

    def _gone(self, key: str) -> None:
        """Nothing of this pod counts or waits any more."""
        self._unplace(key)
        self._queue.remove(key)

    def _unplace(self, key: str) -> None:
        """Count the pod on no node any more."""
        self._bindings.pop(key, None)
        reservation = self._reserved.pop(key, None)
        if reservation is not None:
            self._touch(self._volumes.doubt(reservation.pending.pod))
        placed = self._state.placed.get(key)
        if placed is not None:
            self._touch(placed[0].demand.claims)  # What only one pod may have is free.
        self._state.remove(key)

    def _is_reserved(self, key: str, pod: Mapping[str, Any]) -> bool:
        reservation = self._reserved.get(key)
        return reservation is not None and _uid(reservation.pending.pod) == _uid(pod)

    def _touch(self, claims: Iterable[str]) -> None:
        """Note that there was something that may matter to those who wait for these claims."""
        for claim in claims:
            if claim in self._claimants:
                self._touched[claim] = self._state.because

    def _demand(self, pod: Mapping[str, Any]) -> Demand:
        """Return what a pod asks now, its claims included."""
        demand = self._demands.of(pod)
        if not demand.claims:
            return demand
        metadata = pod["metadata"]
        for claim in demand.claims:
            self._claimants[claim][f"{metadata['namespace']}/{metadata['name']}"] = None
        return demand.with_needs(self._volumes.needs(pod, self._state.in_use))

    def _info(self, key: str, pod: Mapping[str, Any]) -> PodInfo:
        metadata = pod["metadata"]
        ending = bool(metadata.get("deletionTimestamp"))
        labels = metadata.get("labels") or {}
        return PodInfo(key, _uid(pod), self._demands.of(pod), labels, ending)

    # Placing.

    def _wake(self) -> None:
        """Try again what found no node, if one that changed since the last call will do now."""
        changes = self._state.take_changes()
        for demand in tuple(self._queue.parked()) if changes else ():
            because = self._placer.opened_by(demand, changes)
            if because is not None:
                self._queue.wake(demand, because)

    def _place_all(self) -> None:
        now = self.world.now()
        self._queue.advance(now)
        for pending in self._queue.pop(DECISIONS_MAX):
            if pending.demand.claims:  # Others may have got what was free.
                pending.demand = self._demand(pending.pod)
            decision = self._placer.schedule(pending.demand)
            if isinstance(decision, Placement):
                self._reserve(pending, decision.node)
            else:
                self._queue.park(pending, now)
                self._explain(pending, "Unschedulable", decision.message)
        due = self._queue.advance(now)
        if self._queue.active():
            self.wake_in(0.0)
        elif due is not None:
            self.wake_in(due - now)

    def _reserve(self, pending: Pending, node: str) -> None:
        """Bind a pod, or first have its claims bound where it goes."""
        needs = pending.demand.needs
        if needs is None or not needs.unbound:
            self._bind(pending, node)
            return
        self._state.because = pending.because
        self._state.place(self._info(pending.key, pending.pod), node)
        reservation = Reservation(pending, node, self.world.now() + volumes.BIND_S)
        self._reserved[pending.key] = reservation
        self.wake_in(volumes.BIND_S, "claims")
        for step in self._volumes.plan(needs, self._state.nodes[node]):
            self._volumes.assume(step, node)
            id_ = self._signer.next_id()
            tag = f"{id_} {_CLAIMS}{pending.key}"
            reservation.tags.add(tag)
            request = volumes.request_of(step, node)
            signed = self._signer.sign(request, pending.because, id=id_, tag=tag)
            self.send(API_SERVER, signed.encode())

    def _look_at_claims(self) -> None:
        """Go on with pods whose claims are bound, and try those again whose claims changed."""
        now = self.world.now()
        for key in [key for key, one in self._reserved.items() if one.due_s <= now]:
            self._let_go(key, "context deadline exceeded")
        while self._touched:
            claim, because = self._touched.popitem()
            for key in tuple(self._claimants[claim]):
                pending = self._queue.get(key)
                if pending is None:
                    del self._claimants[claim][key]
                elif key in self._reserved:
                    self._check(key, because)
                elif key not in self._bindings:
                    self._queue.put(key, pending.pod, self._demand(pending.pod), because)
            if not self._claimants[claim]:
                del self._claimants[claim]

    def _check(self, key: str, because: int) -> None:
        """See how far the claims are of a pod that waits on its node."""
        reservation = self._reserved[key]
        node = self._state.nodes.get(reservation.node)
        if node is None:
            self._let_go(key, f'node "{reservation.node}" not found')
            return
        progress = self._volumes.progress(reservation.pending.pod, node)
        if progress.failure:
            self._let_go(key, progress.failure)
        elif progress.bound:
            del self._reserved[key]
            reservation.pending.because = because
            self._bind(reservation.pending, reservation.node)

    def _let_go(self, key: str, why: str) -> None:
        """The claims of a pod are not bound where it was to go: another node is looked for."""
        pending = self._reserved[key].pending
        self._state.because = pending.because
        self._unplace(key)
        if not wanted(pending.pod):
            self._queue.remove(key)
            return
        self._queue.rest(pending, self.world.now())
        if why:
            text = f'running PreBind plugin "VolumeBinding": binding volumes: {why}'
            self._explain(pending, "SchedulerError", text)

    def _settle_claims(self, key: str, outcome: Outcome) -> None:
        """Take the API server's answer to what was written for the claims of a pod."""
        reservation = self._reserved.get(key)
        if reservation is None or outcome.tag not in reservation.tags:
            return
        reservation.tags.discard(outcome.tag)
        if outcome.code >= 400:
            known = outcome.code in (404, 409)  # Then the facts will tell.
            why = "" if known else msgpack.unpackb(outcome.body).get("message", "")
            self._let_go(key, why)

    def _bind(self, pending: Pending, node: str) -> None:
        """Assume the pod on `node` and ask the API server to put it there."""
        metadata = pending.pod["metadata"]
        uid, namespace, name = _uid(pending.pod), metadata["namespace"], metadata["name"]
        self._state.because = pending.because
        self._state.place(self._info(pending.key, pending.pod), node)
        id_ = self._signer.next_id()
        tag = f"{id_} {pending.key}"
        self._bindings[pending.key] = Binding(tag, pending, node)
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": name, "namespace": namespace, "uid": uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        body = msgpack.packb(binding)
        request = Request("create", "pods", namespace, name, "binding", body)
        signed = self._signer.sign(request, pending.because, id=id_, tag=tag)
        self.send(API_SERVER, signed.encode())

    def _settle(self, outcome: Outcome) -> None:
        """Take the API server's answer to a binding; other answers tell nothing."""
        key = outcome.tag.partition(" ")[2]
        if key.startswith(_CLAIMS):
            self._settle_claims(key.removeprefix(_CLAIMS), outcome)
            return
        binding = self._bindings.get(key)
        if binding is None or binding.tag != outcome.tag:
            return
        if outcome.code < 400:
            self._tell_success(binding)
            self._bindings[key] = replace(binding, told=True)
            return
        pending = binding.pending
        self._state.because = pending.because
        self._unplace(key)
        if not wanted(pending.pod):
            self._queue.remove(key)
            return
        self._queue.rest(pending, self.world.now())
        if outcome.code not in (404, 409):  # Then the facts will tell that it is gone, or bound.
            why = msgpack.unpackb(outcome.body).get("message", "")
            message = f'binding rejected: running Bind plugin "DefaultBinder": {why}'
            self._explain(pending, "SchedulerError", message)

    # What users see.

    def _tell_success(self, binding: Binding) -> None:
        if not binding.told:
            message = f"Successfully assigned {binding.pending.key} to {binding.node}"
            self._record(binding.pending, "Normal", "Scheduled", message)

    def _explain(self, pending: Pending, reason: str, message: str) -> None:
        """Say why a pod has no node: as an event, and as its condition if that changes."""
        pod = pending.pod
        self._record(pending, "Warning", "FailedScheduling", message[:MESSAGE_MAX])
        condition = unscheduled(pod, reason, message, rfc3339(self.world.wall()))
        if condition is not None:
            metadata = pod["metadata"]
            request = Request(
                "patch",
                "pods",
                metadata["namespace"],
                metadata["name"],
                "status",
                msgpack.packb({"status": {"conditions": [condition]}}),
                {"patchType": "strategic"},
            )
            self.send(API_SERVER, self._signer.sign(request, pending.because).encode())

    def _record(self, pending: Pending, type_: str, reason: str, message: str) -> None:
        regarding = {"apiVersion": "v1", "kind": "Pod", "metadata": pending.pod["metadata"]}
        wall_s = self.world.wall()
        request = self._recorder.record(regarding, type_, reason, message, wall_s=wall_s)
        self.send(API_SERVER, self._signer.sign(request, pending.because).encode())


def wanted(pod: Mapping[str, Any]) -> bool:
    """Tell whether a pod without a node is ours to place now."""
    spec = pod["spec"]
    return (
        spec.get("schedulerName", NAME) == NAME
        and not spec.get("schedulingGates")
        and not pod["metadata"].get("deletionTimestamp")
    )


def unscheduled(
    pod: Mapping[str, Any], reason: str, message: str, now: str
) -> dict[str, Any] | None:
    """Return the condition PodScheduled=False, None if the pod has it already."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    before: Mapping[str, Any] = next((c for c in conditions if c["type"] == "PodScheduled"), {})
    told = {"status": "False", "reason": reason, "message": message}
    if all(before.get(name) == value for name, value in told.items()):
        return None
    since = before.get("lastTransitionTime") if before.get("status") == "False" else None
    condition = {"type": "PodScheduled", **told, "lastTransitionTime": since or now}
    if generation := pod["metadata"].get("generation"):
        condition["observedGeneration"] = generation
    return condition


def _uid(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"].get("uid", ""))
