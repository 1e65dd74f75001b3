"""The status of a Deployment: counts, and the conditions Available and Progressing. Pure.

Source: Kubernetes, "Deployments: Deployment status".
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import condition, unix_s
from kubeloop.actors.controllers.rollout import Bounds
from kubeloop.actors.view import Object
from kubeloop.api.times import rfc3339

_NO_DEADLINE: Final = 2**31 - 1
DONE: Final = "NewReplicaSetAvailable"
_TIMED_OUT: Final = "ProgressDeadlineExceeded"


def status_of(
    deployment: Object,
    new: Object | None,
    sets: Sequence[Object],
    bounds: Bounds,
    now_s: float,
    *,
    fresh: bool,
    trouble: str,
) -> tuple[dict[str, Any], float | None]:
    """Return the status as it is, and when the progress deadline runs out [s from now].

    new:     the ReplicaSet of the template;  sets: all of them.
    fresh:   `new` was made for this template, not found again by a rollback.
    trouble: why `new` could not be created.
    """
    before = deployment.get("status") or {}
    total = _sum(sets, "replicas")
    available = _sum(sets, "availableReplicas")
    counts = {
        "replicas": total,
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(sets, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, sum(map(wanted_by, sets)) - available),
    }
    status: dict[str, Any] = {"observedGeneration": deployment["metadata"].get("generation", 0)}
    status |= {name: count for name, count in counts.items() if count}
    status["terminatingReplicas"] = _sum(sets, "terminatingReplicas")
    if before.get("collisionCount"):
        status["collisionCount"] = before["collisionCount"]
    if new is None:
        progressing, again_s = _not_begun(deployment, trouble, now_s)
    else:
        progressing, again_s = _progress(deployment, new, counts, now_s, fresh=fresh)
    conditions = [_availability(deployment, available >= bounds.least_available, now_s)]
    if progressing is not None:
        conditions.append(progressing)
    conditions += _failures([*([new] if new is not None else []), *sets])
    status["conditions"] = conditions
    return status, again_s


def is_complete(deployment: Object, counts: Mapping[str, Any]) -> bool:
    """Tell whether all pods are of the template, available, and as many as are wanted."""
    wanted = wanted_by(deployment)
    names = ("replicas", "updatedReplicas", "availableReplicas")
    return all(counts.get(name, 0) == wanted for name in names)


def _availability(deployment: Object, enough: bool, now_s: float) -> dict[str, Any]:
    if enough:
        told = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        told = ("False", "MinimumReplicasUnavailable", message)
    return _condition(deployment, "Available", *told, now_s)


def _not_begun(
    deployment: Object, trouble: str, now_s: float
) -> tuple[dict[str, Any] | None, float | None]:
    """Return the Progressing condition while there is no set of the template."""
    known = condition(deployment, "Progressing")
    if _deadline_s(deployment) is None:
        return None, None
    if deployment["spec"].get("paused"):
        return _paused(deployment, now_s), None
    if trouble and (known is None or known["reason"] != "ReplicaSetCreateError"):
        told = ("False", "ReplicaSetCreateError", f"Failed to create new replica set: {trouble}")
        return _condition(deployment, "Progressing", *told, now_s), None
    return dict(known) if known is not None else None, None


def _progress(
    deployment: Object, new: Object, counts: Mapping[str, int], now_s: float, *, fresh: bool
) -> tuple[dict[str, Any] | None, float | None]:
    """Return the Progressing condition, and when to look again."""
    deadline_s = _deadline_s(deployment)
    if deadline_s is None:
        return None, None
    if deployment["spec"].get("paused"):
        return _paused(deployment, now_s), None
    known = condition(deployment, "Progressing")
    named = f'replica set "{new["metadata"]["name"]}"'
    other = known is not None and known["reason"] not in ("DeploymentPaused", "DeploymentResumed")
    if known is None or (fresh and other and new["metadata"]["name"] not in known["message"]):
        made = ("NewReplicaSetCreated", f"Created new {named}")
        told = made if fresh else ("FoundNewReplicaSet", f"Found new {named}")
        return _condition(deployment, "Progressing", "True", *told, now_s), deadline_s
    if known["reason"] == "DeploymentPaused":
        resumed = ("Unknown", "DeploymentResumed", "Deployment is resumed")
        return _condition(deployment, "Progressing", *resumed, now_s), deadline_s
    named = f'ReplicaSet "{new["metadata"]["name"]}"'
    if is_complete(deployment, counts):
        message = f"{named} has successfully progressed."
        return _condition(deployment, "Progressing", "True", DONE, message, now_s), None
    still_done = known["reason"] == DONE
    if still_done and counts["replicas"] == counts["updatedReplicas"]:
        return dict(known), None  # A finished rollout whose pods come and go.
    if still_done or _advanced(deployment.get("status") or {}, counts):
        moving = ("True", "ReplicaSetUpdated", f"{named} is progressing.")
        told_now = _condition(deployment, "Progressing", *moving, now_s)
        return {**told_now, "lastUpdateTime": rfc3339(now_s)}, deadline_s
    left_s = unix_s(known.get("lastUpdateTime")) + deadline_s - now_s
    if known["reason"] == _TIMED_OUT or left_s > 0:
        return dict(known), left_s if left_s > 0 else None
    message = f"{named} has timed out progressing."
    return _condition(deployment, "Progressing", "False", _TIMED_OUT, message, now_s), None


def _deadline_s(deployment: Object) -> float | None:
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or seconds == _NO_DEADLINE else float(seconds)


def _paused(deployment: Object, now_s: float) -> dict[str, Any]:
    known = condition(deployment, "Progressing")
    if known is not None and known["reason"] == _TIMED_OUT:
        return dict(known)  # That it got nowhere is the more important news.
    told = ("Unknown", "DeploymentPaused", "Deployment is paused")
    return _condition(deployment, "Progressing", *told, now_s)


def _advanced(before: Mapping[str, Any], counts: Mapping[str, int]) -> bool:
    """Tell whether the rollout has come further than the status says."""
    old_before = before.get("replicas", 0) - before.get("updatedReplicas", 0)
    old_now = counts["replicas"] - counts["updatedReplicas"]
    return bool(
        counts["updatedReplicas"] > before.get("updatedReplicas", 0)
        or old_now < old_before
        or counts["readyReplicas"] > before.get("readyReplicas", 0)
        or counts["availableReplicas"] > before.get("availableReplicas", 0)
    )


def _condition(
    deployment: Object, type_: str, status: str, reason: str, message: str, now_s: float
) -> dict[str, Any]:
    """Return a condition; one that says the same keeps its times."""
    known = condition(deployment, type_)
    now = rfc3339(now_s)
    if known is not None and (known["status"], known["reason"]) == (status, reason):
        return {**known, "message": message}
    same_status = known is not None and known["status"] == status
    return {
        "type": type_,
        "status": status,
        "lastUpdateTime": now,
        "lastTransitionTime": known["lastTransitionTime"] if known and same_status else now,
        "reason": reason,
        "message": message,
    }


def _failures(sets: Sequence[Object]) -> list[dict[str, Any]]:
    """Return the ReplicaFailure condition of the first set that has one."""
    found = (condition(s, "ReplicaFailure") for s in sets)
    failure = next((c for c in found if c is not None), None)
    if failure is None:
        return []
    return [{**failure, "lastUpdateTime": failure["lastTransitionTime"]}]


def wanted_by(obj: Object) -> int:
    """Return the replicas a Deployment or a ReplicaSet wants."""
    replicas = obj["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def _sum(sets: Sequence[Object], name: str) -> int:
    return sum((s.get("status") or {}).get(name, 0) for s in sets)
