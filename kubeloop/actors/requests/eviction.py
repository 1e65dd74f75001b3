"""Eviction: a pod is deleted if the disruption budget it is covered by allows that now.

The budget's status is the account: an eviction takes one from `disruptionsAllowed` and notes the
pod in `disruptedPods`, before the pod goes; the disruption controller balances it later. Both
writes are of one turn, so no other eviction comes in between.

Source: Kubernetes, "API-initiated Eviction", "Specifying a Disruption Budget"; the eviction
subresource of kube-apiserver in behaviour.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.deletion import check_deletion, delete
from kubeloop.actors.requests.state import Object, State, is_dry_run
from kubeloop.api.calls import Request
from kubeloop.api.errors import (
    BadRequest,
    Cause,
    Forbidden,
    NotFound,
    TooManyRequests,
    Unexplained,
)
from kubeloop.api.resources import RESOURCES
from kubeloop.api.selectors import label_selector

BUDGETS: Final = "poddisruptionbudgets.policy"
ALLOWED: Final = "DisruptionAllowed"
_PODS: Final = "pods"
_DISRUPTED_MAX: Final = 2000
_WOULD_VIOLATE: Final = "Cannot evict pod as it would violate the pod's disruption budget."
_SEVERAL: Final = (
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not "
    "support."
)
_EXEMPT_PHASES: Final = ("Succeeded", "Failed", "Pending")
_PROCESSING_S: Final = 10


def evict(state: State, request: Request) -> None:
    """Delete a pod as `kubectl drain` asks for it.

    Raises: NotFound, Conflict, BadRequest; TooManyRequests if its budget does not allow it now.
    """
    body = msgpack.unpackb(request.body) if request.body else {}
    told = (body.get("metadata") or {}).get("name")
    if told not in (None, "", request.name):
        raise BadRequest(f"name in URL does not match name in Eviction object: {told}")
    pod = state.get(_PODS, request.namespace, request.name)
    if pod is None:
        raise NotFound(_PODS, request.name)
    options = {**request.options, **(body.get("deleteOptions") or {})}
    options.pop("apiVersion", None)
    options.pop("kind", None)
    deletion = _like(request, options)
    check_deletion(RESOURCES[_PODS], pod, deletion)  # Before anything is taken for it.
    if not _is_exempt(pod):
        _take_from_budget(state, pod, deletion)
    _tell_why(state, pod, deletion)
    delete(state, _like(request, _without_revision(options)))


def _without_revision(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a deletion whose resourceVersion was checked, and has changed since."""
    preconditions = dict(options.get("preconditions") or {})
    preconditions.pop("resourceVersion", None)
    return {**options, "preconditions": preconditions}


def _like(request: Request, options: dict[str, Any]) -> Request:
    """Return the deletion of a pod that an eviction asks for."""
    return Request(
        "delete",
        _PODS,
        request.namespace,
        request.name,
        options=options,
        user=request.user,
        sender=request.sender,
        because=request.because,
        id=request.id,
    )


def _is_exempt(pod: Object) -> bool:
    """Tell whether the end of a pod disrupts nothing."""
    phase = (pod.get("status") or {}).get("phase")
    return phase in _EXEMPT_PHASES or bool(pod["metadata"].get("deletionTimestamp"))


def _take_from_budget(state: State, pod: Object, request: Request) -> None:
    """Take one from the budget of a pod that has one. Raises: TooManyRequests, Unexplained."""
    labels = pod["metadata"].get("labels") or {}
    budgets = [
        budget
        for budget in state.all(BUDGETS, pod["metadata"]["namespace"])
        if label_selector((budget.get("spec") or {}).get("selector")).matches(labels)
    ]
    if len(budgets) > 1:
        raise Unexplained(_SEVERAL)
    for budget in budgets:
        spec, status = budget.get("spec") or {}, dict(budget.get("status") or {})
        if not _is_ready(pod):
            if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
                return
            desired = status.get("desiredHealthy", 0)
            if status.get("currentHealthy", 0) >= desired and desired > 0:
                return  # It does not count as healthy: nothing is taken.
        _decrement(state, budget, status, pod, request)


def _decrement(
    state: State, budget: Object, status: dict[str, Any], pod: Object, request: Request
) -> None:
    name, allowed = budget["metadata"]["name"], status.get("disruptionsAllowed", 0)
    if status.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        text = f"The disruption budget {name} is still being processed by the server."
        raise _refused(text, retry_after_s=_PROCESSING_S)
    if allowed < 0:
        raise Forbidden(BUDGETS, name, "pdb disruptions allowed is negative")
    disrupted = dict(status.get("disruptedPods") or {})
    if len(disrupted) > _DISRUPTED_MAX:
        why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller"
        raise Forbidden(BUDGETS, name, why)
    if allowed == 0:
        raise _refused(
            f"The disruption budget {name} needs {status.get('desiredHealthy', 0)} healthy pods "
            f"and has {status.get('currentHealthy', 0)} currently"
        )
    status["disruptionsAllowed"] = allowed - 1
    status["disruptedPods"] = {**disrupted, pod["metadata"]["name"]: state.now()}
    if allowed == 1:
        status["conditions"] = told(status, budget, state.now())
    if not is_dry_run(request):
        changed = {**budget, "status": status}
        state.put(RESOURCES[BUDGETS], changed, request, create=False)


def told(status: Mapping[str, Any], budget: Mapping[str, Any], now: str) -> list[dict[str, Any]]:
    """Return the conditions of a budget whose `disruptionsAllowed` is known.

    now: as metav1.Time.
    """
    enough = status.get("disruptionsAllowed", 0) > 0
    value, reason = ("True", "SufficientPods") if enough else ("False", "InsufficientPods")
    conditions = list(status.get("conditions") or ())
    before = next((c for c in conditions if c["type"] == ALLOWED), None)
    same = before is not None and before["status"] == value
    since = before["lastTransitionTime"] if before is not None and same else now
    condition = {
        "type": ALLOWED,
        "status": value,
        "observedGeneration": budget["metadata"].get("generation", 0),
        "lastTransitionTime": since,
        "reason": reason,
        "message": "",
    }
    return [*(c for c in conditions if c["type"] != ALLOWED), condition]


def _tell_why(state: State, pod: Object, request: Request) -> None:
    """Write into a pod why it will end."""
    if is_dry_run(request):
        return
    status = dict(pod.get("status") or {})
    others = [c for c in status.get("conditions") or () if c.get("type") != "DisruptionTarget"]
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": state.now(),
        "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting",
    }
    status["conditions"] = [*others, condition]
    state.put(RESOURCES[_PODS], {**pod, "status": status}, request, create=False)


def _refused(why: str, *, retry_after_s: int = 0) -> TooManyRequests:
    cause = Cause("DisruptionBudget", why, "")
    return TooManyRequests(_WOULD_VIOLATE, retry_after_s=retry_after_s, causes=[cause])


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
