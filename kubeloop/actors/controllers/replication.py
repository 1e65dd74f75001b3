"""ReplicationController and ReplicaSet: keep `replicas` pods that carry the template.

One reconciler, two kinds. It adopts orphans its selector matches, releases pods it no longer
matches, creates what is missing, deletes what is too many, and counts. Source: Kubernetes,
"ReplicaSet", and the order in which pods are given up: "Scaling a ReplicaSet".
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    condition,
    controller_of,
    controller_uids,
    is_active,
    is_ready,
    orphan_namespace,
    own_uid,
    reference_to,
    revision_of,
    split,
    unix_s,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.resources import BY_KIND
from kubeloop.api.selectors import LabelSelector, label_selector, set_selector
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of

BURST_MAX: Final = 500  # Pods made or ended in one pass; kube-controller-manager's BurstReplicas.
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
_PODS: Final = "pods"
_PHASE_ORDER: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_UNAVAILABLE: Final = float("inf")


class ReplicationController:
    """Reconciles one of the two kinds."""

    def __init__(self, kind: Literal["ReplicationController", "ReplicaSet"]) -> None:
        version = "v1" if kind == "ReplicationController" else "apps/v1"
        self.kind, self.resource = kind, BY_KIND[version, kind].id
        self.name = "replication-controller" if version == "v1" else "replicaset-controller"
        self.resources = (self.resource, _PODS)
        self.indexes: Mapping[tuple[str, str], Index] = {
            (self.resource, "uid"): own_uid,
            (self.resource, "anchor"): self._anchor,
            (self.resource, "controller"): controller_uids,
            (_PODS, "controller"): controller_uids,
            (_PODS, "orphan"): orphan_namespace,
        }
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if not key.startswith(f"/registry/{_PODS}/"):
            yield key
            return
        for pod in (before, after):
            if pod is None:
                continue
            owner = controller_of(pod)
            if owner is not None:
                for found in view.by(self.resource, "uid", owner["uid"]):
                    yield self._key(found)
            elif pod is after:
                labels = pod["metadata"].get("labels") or {}
                namespace = pod["metadata"]["namespace"]
                anchors = [f"{namespace}/{k}={v}" for k, v in labels.items()]
                for anchor in (f"{namespace}/", *anchors):
                    for found in view.by(self.resource, "anchor", anchor):
                        if self._selector(found).matches(labels):
                            yield self._key(found)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        set_ = view.get(*split(key))
        if set_ is None:
            return NOTHING
        selector = self._selector(set_)
        mine = list(view.by(_PODS, "controller", set_["metadata"]["uid"]))
        owned = [pod for pod in mine if _matches(selector, pod)]
        actions: list[Action] = []
        if not set_["metadata"].get("deletionTimestamp"):
            claimed, claims = self._claim(set_, selector, mine, view)
            actions += claims
            if not claims:
                active = [pod for pod in claimed if is_active(pod)]
                actions += self._replicate(set_, active, view, trouble)
        status, next_ = self._status(set_, owned, now_s, trouble)
        if status != (set_.get("status") or {}):
            changed = {**set_, "status": status}
            actions.append(Action(self._write.update(changed, subresource="status")))
        if next_ is None:
            return Result(actions)
        return Result(actions, again_s=next_[0], owes=True, since=next_[1])

    def _claim(
        self, set_: Object, selector: LabelSelector, mine: Sequence[Object], view: View
    ) -> tuple[list[Object], list[Action]]:
        """Return the pods that are ours, and the writes that adopt and release."""
        uid = set_["metadata"]["uid"]
        claimed = [pod for pod in mine if _matches(selector, pod)]
        claims = [
            self._write.release(pod, [uid])
            for pod in mine
            if not _matches(selector, pod) and is_active(pod)
        ]
        claims += [
            self._write.adopt(pod, set_)
            for pod in view.by(_PODS, "orphan", set_["metadata"]["namespace"])
            if is_active(pod) and _matches(selector, pod)
        ]
        return claimed, claims

    def _replicate(
        self, set_: Object, active: Sequence[Object], view: View, trouble: str
    ) -> list[Action]:
        """Return the writes that bring the active pods to the number that is wanted."""
        missing = _replicas(set_) - len(active)
        if missing >= 0:
            # What one pod was refused for, the others would be too: try with one.
            count = min(missing, 1 if trouble else BURST_MAX)
            return [self._create(set_)] * count if count else []
        surplus = sorted(active, key=_worth(self._crowds(set_, active, view)))
        return [self._delete(set_, pod) for pod in surplus[: min(-missing, BURST_MAX)]]

    def _crowds(self, set_: Object, active: Sequence[Object], view: View) -> dict[str, int]:
        """Return how many pods each node runs of this set and of its siblings in a rollout."""
        owner = controller_of(set_)
        siblings = view.by(self.resource, "controller", owner["uid"]) if owner is not None else ()
        uids = [s["metadata"]["uid"] for s in siblings if s is not set_]
        others = [p for uid in uids for p in view.by(_PODS, "controller", uid) if is_active(p)]
        crowds: dict[str, int] = {}
        for pod in [*active, *others]:
            node = pod["spec"].get("nodeName") or ""
            crowds[node] = crowds.get(node, 0) + 1
        return crowds

    def _create(self, set_: Object) -> Action:
        template, metadata = set_["spec"]["template"], set_["metadata"]
        told = template.get("metadata") or {}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **{k: told[k] for k in ("labels", "annotations", "finalizers") if told.get(k)},
                "generateName": f"{metadata['name']}-",
                "namespace": metadata["namespace"],
                "ownerReferences": [reference_to(set_)],
            },
            "spec": template["spec"],
        }
        return Action(
            self._write.create(pod),
            success=Event(set_, "Normal", "SuccessfulCreate", "Created pod: {name}"),
            failure=Event(set_, "Warning", "FailedCreate", "Error creating: {error}"),
        )

    def _delete(self, set_: Object, pod: Object) -> Action:
        name = pod["metadata"]["name"]
        return Action(
            self._write.delete(pod),
            success=Event(set_, "Normal", "SuccessfulDelete", f"Deleted pod: {name}"),
            failure=Event(set_, "Warning", "FailedDelete", "Error deleting: {error}"),
            gone_is_fine=True,
        )

    def _status(
        self, set_: Object, owned: Sequence[Object], now_s: float, trouble: str
    ) -> tuple[dict[str, Any], tuple[float, int] | None]:
        """Return the status as it is, and when a ready pod will become an available one.

        Of that pod, if there is one: in how many seconds, and the revision of its last change.
        """
        active = [pod for pod in owned if is_active(pod)]
        spec, metadata = set_["spec"], set_["metadata"]
        wanted = (spec.get("template") or {}).get("metadata", {}).get("labels") or {}
        ready = [pod for pod in active if is_ready(pod)]
        min_ready_s = spec.get("minReadySeconds") or 0
        waits = [_available_in_s(pod, min_ready_s, now_s) for pod in ready]
        counts = {
            "fullyLabeledReplicas": sum(
                wanted.items() <= (p["metadata"].get("labels") or {}).items() for p in active
            ),
            "readyReplicas": len(ready),
            "availableReplicas": sum(wait <= 0 for wait in waits),
        }
        if self.kind == "ReplicaSet":
            ending = [p for p in owned if p["metadata"].get("deletionTimestamp")]
            counts["terminatingReplicas"] = len(ending)
        status: dict[str, Any] = {"replicas": len(active)}
        # Counts of zero are left out, as Kubernetes' omitempty does; terminatingReplicas is a
        # pointer there, so its zero is told.
        status |= {k: v for k, v in counts.items() if v or k == "terminatingReplicas"}
        status["observedGeneration"] = metadata.get("generation", 0)
        conditions = _conditions(set_, len(active), now_s, trouble)
        if conditions:
            status["conditions"] = conditions
        later = [
            (wait, revision_of(pod))
            for pod, wait in zip(ready, waits, strict=True)
            if 0 < wait < _UNAVAILABLE
        ]
        return status, min(later, default=None)

    def _anchor(self, set_: Object) -> list[str]:
        """Index: one label that every pod of a set has, within its namespace; none: a bare "/"."""
        selector = set_["spec"].get("selector") or {}
        if self.kind == "ReplicaSet":
            selector = selector.get("matchLabels") or {}
        label = "=".join(min(selector.items())) if selector else ""
        return [f"{set_['metadata']['namespace']}/{label}"]

    def _selector(self, set_: Object) -> LabelSelector:
        selector = set_["spec"].get("selector")
        if self.kind == "ReplicaSet":
            return label_selector(selector)
        return set_selector(selector or {})

    def _key(self, set_: Object) -> str:
        return key_of(self.resource, set_["metadata"]["namespace"], set_["metadata"]["name"])


def _matches(selector: LabelSelector, pod: Object) -> bool:
    return selector.matches(pod["metadata"].get("labels") or {})


def _replicas(set_: Object) -> int:
    replicas = set_["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _worth(crowds: Mapping[str, int]) -> Callable[[Object], tuple[Any, ...]]:
    """Return a sort key: the pods we would miss least first.

    Unassigned, pending, not ready, cheap to delete, crowded on their node, ready for a shorter
    time, restarted more often, younger.
    """

    def worth(pod: Object) -> tuple[Any, ...]:
        status, metadata = pod.get("status") or {}, pod["metadata"]
        node = pod["spec"].get("nodeName") or ""
        ready = is_ready(pod)
        restarts = [s.get("restartCount", 0) for s in status.get("containerStatuses") or ()]
        return (
            bool(node),
            _PHASE_ORDER.get(status.get("phase", "Pending"), 1),
            ready,
            _deletion_cost(pod),
            -crowds[node],
            -_ready_since_s(pod) if ready else 0.0,
            -max(restarts, default=0),
            -unix_s(metadata["creationTimestamp"]),
            metadata["name"],
        )

    return worth


def _deletion_cost(pod: Object) -> int:
    text = (pod["metadata"].get("annotations") or {}).get(DELETION_COST, "0")
    return int(text) if text.removeprefix("-").isdecimal() and text.isascii() else 0


def _ready_since_s(pod: Object) -> float:
    ready = condition(pod, "Ready")
    return unix_s(ready.get("lastTransitionTime")) if ready is not None else 0.0


def _available_in_s(pod: Object, min_ready_s: int, now_s: float) -> float:
    """Return how long until a ready pod is available; 0 or less if it is."""
    if not min_ready_s:
        return 0.0
    since = _ready_since_s(pod)
    return since + min_ready_s - now_s if since else _UNAVAILABLE


def _conditions(set_: Object, active: int, now_s: float, trouble: str) -> list[dict[str, Any]]:
    """Return the conditions, with ReplicaFailure while pods cannot be made or ended."""
    before = [dict(c) for c in (set_.get("status") or {}).get("conditions") or ()]
    others = [c for c in before if c["type"] != "ReplicaFailure"]
    missing = _replicas(set_) - active
    if not missing:
        return others
    reason = "FailedCreate" if missing > 0 else "FailedDelete"
    # A failure that is known is not told anew: its message names another pod each time.
    if not trouble or len(others) < len(before):
        return before
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": rfc3339(now_s),
        "reason": reason,
        "message": trouble,
    }
    return [*others, failure]
