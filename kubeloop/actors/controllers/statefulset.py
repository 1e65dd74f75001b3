"""StatefulSet: pods with names that stay, made in order, replaced in reverse order.

A pod is made only where there is none of its name, and one that is being deleted is there until it
is gone: so never are there two of one ordinal, whoever crashes. Before the pod its claims are made.

Source: Kubernetes, "StatefulSets"; kube-controller-manager's statefulset controller in behaviour:
the order of steps, what waits for what, the texts of events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    DONE_PHASES,
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    adopters,
    controller_uids,
    orphan_namespace,
    own_namespace,
    own_uid,
    owners,
    split,
)
from kubeloop.actors.controllers.revisions import (
    REVISIONS,
    Lineage,
    lineage,
    number,
    outdated,
)
from kubeloop.actors.controllers.stateful_claims import Claims, is_claim_of
from kubeloop.actors.controllers.stateful_pods import (
    POD_NAME,
    counts,
    is_ending,
    is_well,
    new_pod,
    ordinal_of,
    parent_of,
    replicas_of,
    revision_of_pod,
    start_of,
    well_in_s,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.volumes import CLAIMS
from kubeloop.api.selectors import label_selector
from kubeloop.store.facts import key_of

SETS: Final = "statefulsets.apps"
_PODS: Final = "pods"
_HASH: Final = "controller.kubernetes.io/hash"


@dataclass(frozen=True, slots=True)
class _Scene:
    """One set, as it is now.

    pods:  those of it by ordinal;  ordinals: the wanted ones, lowest first.
    current, update: the revisions between which it goes.
    """

    set_: Object
    pods: Mapping[int, Object]
    ordinals: range
    current: Object
    update: Object
    now_s: float

    @property
    def ordered(self) -> bool:
        """Whether one waits for the other."""
        return bool(self.set_["spec"].get("podManagementPolicy") != "Parallel")

    @property
    def partition(self) -> int:
        """The first ordinal that follows the template."""
        strategy = self.set_["spec"].get("updateStrategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        return self.ordinals.start + int(rolling.get("partition") or 0)

    @property
    def rolls(self) -> bool:
        """Whether pods are replaced because the template changes."""
        strategy = self.set_["spec"].get("updateStrategy") or {}
        return bool(strategy.get("type") != "OnDelete")

    def wait_s(self, pod: Object) -> float:
        """Return how long until a pod is available [s]."""
        return well_in_s(pod, self.set_["spec"].get("minReadySeconds") or 0, self.now_s)


class StatefulSetController:
    """Work items are StatefulSets."""

    name = "statefulset-controller"
    resources = (SETS, _PODS, REVISIONS, CLAIMS)
    indexes: Mapping[tuple[str, str], Index] = {
        (SETS, "uid"): own_uid,
        (SETS, "namespace"): own_namespace,
        (_PODS, "controller"): controller_uids,
        (_PODS, "orphan"): orphan_namespace,
        (REVISIONS, "controller"): controller_uids,
        (REVISIONS, "orphan"): orphan_namespace,
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)
        self._claims = Claims(self._write)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == SETS:
            yield key
            return
        if resource == CLAIMS:
            for found in view.by(SETS, "namespace", namespace):
                if is_claim_of(found, name):
                    yield key_of(SETS, namespace, found["metadata"]["name"])
            return
        yield from owners(SETS, "StatefulSet", namespace, before, after)
        yield from adopters(SETS, after, view)
        if before is not None and after is None and resource == _PODS and parent_of(before):
            yield key_of(SETS, namespace, parent_of(before))  # Its name is free.

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        set_ = view.get(*split(key))
        if set_ is None:
            return NOTHING
        mine = list(view.by(_PODS, "controller", set_["metadata"]["uid"]))
        ending = bool(set_["metadata"].get("deletionTimestamp"))
        claims = [] if ending else self._claim(set_, mine, view)
        if claims:
            return Result(claims)
        line = lineage(self._write, set_, view, _HASH)
        if line.update is None or line.actions:
            return Result([] if ending else line.actions)
        current = line.named((set_.get("status") or {}).get("currentRevision")) or line.update
        start, wanted = start_of(set_), replicas_of(set_)
        pods = {o: pod for pod in mine if (o := ordinal_of(set_, pod)) is not None}
        ordinals = range(start, start + wanted)
        scene = _Scene(set_, pods, ordinals, current, line.update, now_s)
        owned = [] if ending else self._claims.owned(set_, pods, ordinals, view)
        if owned:
            return Result(owned)  # Before any of the pods ends: its claims may go with it.
        actions = [] if ending else self._step(scene, view, trouble)
        events = [] if ending else _recreated(scene, actions)
        status = _status(scene)
        if status != (set_.get("status") or {}):
            request = self._write.update({**set_, "status": status}, subresource="status")
            actions.append(Action(request))
        if not ending:
            actions += self._forget(scene, line, status)
        waits = [wait for pod in pods.values() if 0 < (wait := scene.wait_s(pod)) < float("inf")]
        return Result(actions, events, again_s=min(waits, default=None), owes=bool(waits))

    # Whose pods.

    def _claim(self, set_: Object, mine: Sequence[Object], view: View) -> list[Action]:
        """Return the writes that adopt and release pods, and that put their names on them."""
        selector = label_selector(set_["spec"].get("selector"))
        uid, name = set_["metadata"]["uid"], set_["metadata"]["name"]
        actions = []
        for pod in mine:
            labels = pod["metadata"].get("labels") or {}
            if parent_of(pod) != name or not selector.matches(labels):
                actions.append(self._write.release(pod, [uid]))
            elif labels.get(POD_NAME) != pod["metadata"]["name"] and not is_ending(pod):
                patch = {"metadata": {"labels": {POD_NAME: pod["metadata"]["name"]}}}
                actions.append(Action(self._write.patch(pod, patch), gone_is_fine=True))
        for pod in view.by(_PODS, "orphan", set_["metadata"]["namespace"]):
            ours = parent_of(pod) == name and not is_ending(pod)
            if ours and selector.matches(pod["metadata"].get("labels") or {}):
                actions.append(self._write.adopt(pod, set_))
        return actions

    # One set.

    def _step(self, scene: _Scene, view: View, trouble: str) -> list[Action]:
        """Return the next writes: first there are all, then none too many, then the right ones."""
        actions: list[Action] = []
        for ordinal in scene.ordinals:
            pod = scene.pods.get(ordinal)
            phase = None if pod is None else (pod.get("status") or {}).get("phase")
            if pod is None:
                actions += self._create(scene, ordinal, view)
                well = False
            elif phase in DONE_PHASES:
                actions += [] if is_ending(pod) else [self._delete(scene, pod)]
                well = False
            else:
                if phase == "Pending" and not is_ending(pod):
                    actions += self._claims.missing(scene.set_, ordinal, view)
                well = scene.wait_s(pod) <= 0
            if not well and (scene.ordered or (actions and trouble)):
                return actions
        surplus = self._scale_down(scene)
        if actions or surplus:
            return [*actions, *surplus]
        return self._roll(scene) if scene.rolls else []

    def _scale_down(self, scene: _Scene) -> list[Action]:
        """Return the writes that end the pods outside of the wanted ordinals, the highest first."""
        condemned = sorted((o for o in scene.pods if o not in scene.ordinals), reverse=True)
        if not scene.ordered:
            staying = [scene.pods[o] for o in condemned if not is_ending(scene.pods[o])]
            return [self._delete(scene, pod) for pod in staying]
        if not condemned:
            return []
        last = scene.pods[condemned[0]]
        # The lowest that is not well may go first: it would hold up the others for ever.
        unwell = [o for o in reversed(condemned) if not is_well(scene.pods[o])]
        waits = scene.wait_s(last) > 0 and condemned[0] not in unwell[:1]
        return [] if is_ending(last) or waits else [self._delete(scene, last)]

    def _roll(self, scene: _Scene) -> list[Action]:
        """Return the writes that end pods of another template, the highest first."""
        rolling = scene.set_["spec"]["updateStrategy"].get("rollingUpdate") or {}
        told = rolling.get("maxUnavailable")
        most = max(1, number(1 if told is None else told, len(scene.ordinals), up=False))
        pods = [scene.pods[o] for o in scene.ordinals]
        budget = most - sum(scene.wait_s(pod) > 0 for pod in pods)
        actions = []
        for ordinal in reversed(range(scene.partition, scene.ordinals.stop)):
            pod = scene.pods[ordinal]
            fits = revision_of_pod(pod) == scene.update["metadata"]["name"]
            if fits or is_ending(pod):
                continue
            if scene.wait_s(pod) <= 0:  # One that is not available costs nothing.
                if budget <= 0:
                    break
                budget -= 1
            actions.append(self._delete(scene, pod))
        return actions

    def _create(self, scene: _Scene, ordinal: int, view: View) -> list[Action]:
        """Return the writes that make a pod's claims; once they are there, the pod."""
        claims = self._claims.missing(scene.set_, ordinal, view)
        if claims or self._claims.hinder(scene.set_, ordinal, view):
            return claims
        old = scene.rolls and ordinal < scene.partition
        pod = new_pod(scene.set_, ordinal, scene.current if old else scene.update)
        return [_told(scene.set_, "create", pod, Action(self._write.create(pod)))]

    def _delete(self, scene: _Scene, pod: Object) -> Action:
        action = Action(self._write.delete(pod), gone_is_fine=True)
        return _told(scene.set_, "delete", pod, action)

    def _forget(self, scene: _Scene, line: Lineage, status: Mapping[str, Any]) -> list[Action]:
        """Return the writes that delete what of the history is too old."""
        live = {revision_of_pod(pod) for pod in scene.pods.values()}
        live |= {status["currentRevision"], status["updateRevision"]}
        live.add(scene.current["metadata"]["name"])
        return outdated(self._write, scene.set_, line, live)


def _told(set_: Object, verb: str, pod: Mapping[str, Any], action: Action) -> Action:
    """Return a write that tells of itself."""
    what = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {set_['metadata']['name']}"
    reason = verb.capitalize()
    return Action(
        action.request,
        success=Event(set_, "Normal", f"Successful{reason}", f"{what} successful"),
        failure=Event(set_, "Warning", f"Failed{reason}", f"{what} failed error: {{error}}"),
        gone_is_fine=action.gone_is_fine,
    )


def _recreated(scene: _Scene, actions: Sequence[Action]) -> list[Event]:
    """Return what to tell of pods that are deleted because they have ended."""
    set_, events = scene.set_, []
    metadata = set_["metadata"]
    doomed = {action.request.name for action in actions if action.request.verb == "delete"}
    for ordinal in scene.ordinals:
        pod = scene.pods.get(ordinal)
        if pod is None or pod["metadata"]["name"] not in doomed:
            continue
        what = f"StatefulSet {metadata['namespace']}/{metadata['name']} is recreating"
        phase, name = (pod.get("status") or {}).get("phase"), pod["metadata"]["name"]
        if phase == "Failed":
            text = f"{what} failed Pod {name}"
            events.append(Event(set_, "Warning", "RecreatingFailedPod", text))
        elif phase == "Succeeded":
            text = f"{what} terminated Pod {name}"
            events.append(Event(set_, "Normal", "RecreatingTerminatedPod", text))
    return events


def _status(scene: _Scene) -> dict[str, Any]:
    """Return the status as it is."""
    set_, wanted = scene.set_, len(scene.ordinals)
    before = set_.get("status") or {}
    current, update = (r["metadata"]["name"] for r in (scene.current, scene.update))
    found = counts(set_, list(scene.pods.values()), current, update, scene.now_s)
    arrived = ("updatedReplicas", "readyReplicas", "replicas")
    if scene.rolls and all(found[name] == wanted for name in arrived):
        current, found["currentReplicas"] = update, found["updatedReplicas"]
    status: dict[str, Any] = {"observedGeneration": set_["metadata"].get("generation", 0)}
    always = ("replicas", "availableReplicas")
    status |= {name: count for name, count in found.items() if count or name in always}
    status |= {"currentRevision": current, "updateRevision": update}
    status["collisionCount"] = before.get("collisionCount") or 0
    if before.get("conditions"):
        status["conditions"] = before["conditions"]
    return status
