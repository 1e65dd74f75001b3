"""Disruption budgets: how many of some pods may be evicted now.

Source: Kubernetes, "Disruptions", "Specifying a Disruption Budget for your Application";
kube-controller-manager's disruption controller in behaviour.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    controller_of,
    is_ready,
    own_namespace,
    own_uid,
    split,
    unix_s,
)
from kubeloop.actors.requests.eviction import BUDGETS, told
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.selectors import label_selector
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of

CONFIRM_S: Final = 120.0  # So long an evicted pod may take until its deletion is seen.
_PODS: Final = "pods"
_SCALED: Final = {
    ("apps/v1", "ReplicaSet"): "replicasets.apps",
    ("apps/v1", "Deployment"): "deployments.apps",
    ("apps/v1", "StatefulSet"): "statefulsets.apps",
    ("v1", "ReplicationController"): "replicationcontrollers",
}
_DONE: Final = ("Succeeded", "Failed")


class _Unmanaged(Exception):
    """How many pods there ought to be cannot be told."""


class Count(NamedTuple):
    """expected: pods there ought to be;  desired: how many of them healthy."""

    expected: int
    desired: int


class DisruptionController:
    """Work items are PodDisruptionBudgets. scaled: the resources whose replicas count pods."""

    name = "disruption-controller"
    indexes: Mapping[tuple[str, str], Index]

    def __init__(self, served: Iterable[str]) -> None:
        self._scaled = {kind: id_ for kind, id_ in _SCALED.items() if id_ in set(served)}
        self.resources: Sequence[str] = (BUDGETS, _PODS, *self._scaled.values())
        self.indexes = {
            (BUDGETS, "namespace"): own_namespace,
            (_PODS, "namespace"): own_namespace,
            **{(id_, "uid"): own_uid for id_ in self._scaled.values()},
        }
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == BUDGETS:
            yield key
            return
        for budget in view.by(BUDGETS, "namespace", namespace):
            if resource != _PODS or _concerns(budget, before, after):
                yield key_of(BUDGETS, namespace, budget["metadata"]["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        budget = view.get(*split(key))
        if budget is None or budget["metadata"].get("deletionTimestamp"):
            return NOTHING
        selector = label_selector((budget.get("spec") or {}).get("selector"))
        pods = [
            pod
            for pod in view.by(_PODS, "namespace", budget["metadata"]["namespace"])
            if selector.matches(pod["metadata"].get("labels") or {})
            and (pod.get("status") or {}).get("phase") not in _DONE
        ]
        try:
            count = self._count(budget, pods, view)
        except _Unmanaged as error:
            return self._fail(budget, str(error), now_s)
        disrupted, again_s = _disrupted(budget, pods, now_s)
        healthy = sum(
            is_ready(pod)
            for pod in pods
            if not pod["metadata"].get("deletionTimestamp")
            and pod["metadata"]["name"] not in disrupted
        )
        allowed = max(0, healthy - count.desired) if count.expected > 0 else 0
        status: dict[str, Any] = {
            "observedGeneration": budget["metadata"].get("generation", 0),
            "disruptionsAllowed": allowed,
            "currentHealthy": healthy,
            "desiredHealthy": count.desired,
            "expectedPods": count.expected,
        }
        if disrupted:
            status["disruptedPods"] = disrupted
        kept = {"conditions": (budget.get("status") or {}).get("conditions") or []}
        status["conditions"] = told({**kept, **status}, budget, rfc3339(now_s))
        if status == budget.get("status"):
            return Result(again_s=again_s, owes=again_s is not None)
        news = None if pods else Event(budget, "Normal", "NoPods", "No matching pods found")
        request = self._write.update({**budget, "status": status}, subresource="status")
        return Result([Action(request, success=news)], again_s=again_s, owes=again_s is not None)

    def _count(self, budget: Object, pods: Sequence[Object], view: View) -> Count:
        """Return how many pods are expected and desired. Raises: _Unmanaged."""
        spec = budget.get("spec") or {}
        most, least = spec.get("maxUnavailable"), spec.get("minAvailable")
        if most is not None:
            expected = self._expected(pods, view)
            return Count(expected, max(0, expected - _part(most, expected)))
        if isinstance(least, str):
            expected = self._expected(pods, view)
            return Count(expected, _part(least, expected))
        return Count(len(pods), int(least or 0))

    def _expected(self, pods: Sequence[Object], view: View) -> int:
        """Return how many pods the controllers of these want. Raises: _Unmanaged."""
        wanted: dict[str, int] = {}
        for pod in pods:
            owner = self._scale_of(pod, view)
            if owner is None:
                raise _Unmanaged(f'found no controllers for pod "{pod["metadata"]["name"]}"')
            replicas = owner["spec"].get("replicas")
            wanted[owner["metadata"]["uid"]] = 1 if replicas is None else replicas
        return sum(wanted.values())

    def _scale_of(self, obj: Object, view: View) -> Object | None:
        """Return what says how many there are of a pod: the highest controller with replicas."""
        reference = controller_of(obj)
        if reference is None:
            return None
        resource = self._scaled.get((reference["apiVersion"], reference["kind"]))
        if resource is None:
            return None
        found = next(iter(view.by(resource, "uid", reference["uid"])), None)
        return None if found is None else self._scale_of(found, view) or found

    def _fail(self, budget: Object, why: str, now_s: float) -> Result:
        """Return the write that allows nothing while the pods cannot be counted."""
        status = {**(budget.get("status") or {}), "disruptionsAllowed": 0}
        status["observedGeneration"] = budget["metadata"].get("generation", 0)
        now = rfc3339(now_s)
        before = next(
            (c for c in status.get("conditions") or () if c.get("reason") == "SyncFailed"), None
        )
        failed = {
            "type": "DisruptionAllowed",
            "status": "False",
            "observedGeneration": status["observedGeneration"],
            "lastTransitionTime": now if before is None else before["lastTransitionTime"],
            "reason": "SyncFailed",
            "message": why,
        }
        status["conditions"] = [failed]
        if status == budget.get("status"):
            return NOTHING
        text = f"Failed to calculate the number of expected pods: {why}"
        news = Event(budget, "Warning", "CalculateExpectedPodCountFailed", text)
        request = self._write.update({**budget, "status": status}, subresource="status")
        return Result([Action(request, success=news)])


def _concerns(budget: Object, *pods: Object | None) -> bool:
    selector = label_selector((budget.get("spec") or {}).get("selector"))
    return any(
        pod is not None and selector.matches(pod["metadata"].get("labels") or {}) for pod in pods
    )


def _part(value: int | str, total: int) -> int:
    """Return a count; of a percentage as many of `total`, rounded up."""
    if isinstance(value, int):
        return value
    return -(-int(value.removesuffix("%")) * total // 100)


def _disrupted(
    budget: Object, pods: Sequence[Object], now_s: float
) -> tuple[dict[str, Any], float | None]:
    """Return the evicted pods whose deletion is not seen yet, and when to look again."""
    alive = {
        pod["metadata"]["name"]: pod for pod in pods if not pod["metadata"].get("deletionTimestamp")
    }
    kept: dict[str, Any] = {}
    waits: list[float] = []
    for name, time in ((budget.get("status") or {}).get("disruptedPods") or {}).items():
        left_s = unix_s(time) + CONFIRM_S - now_s
        if name in alive and left_s > 0:
            kept[name] = time
            waits.append(left_s)
    return kept, min(waits, default=None)
