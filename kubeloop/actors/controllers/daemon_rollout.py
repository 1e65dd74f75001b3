"""How the pods of a DaemonSet give way to those of another template, and what it tells. Pure.

Source: Kubernetes, "Perform a Rolling Update on a DaemonSet": max unavailable, max surge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubeloop.actors.controllers.base import is_ready
from kubeloop.actors.controllers.daemon_nodes import Fit
from kubeloop.actors.controllers.revisions import POD_HASH, available_in_s, number
from kubeloop.actors.view import Object


@dataclass(frozen=True, slots=True)
class Plan:
    """A DaemonSet as it is now.

    fits:   what each node is to it;  pods: those of each node, oldest first, ending ones too.
    update: the hash of its template.
    """

    set_: Object
    fits: Mapping[str, Fit]
    pods: Mapping[str, Sequence[Object]]
    update: str
    now_s: float

    def nodes(self) -> list[str]:
        """Return the nodes that should have a pod."""
        return [node for node, fit in self.fits.items() if fit is Fit.RUNS]

    def is_new(self, pod: Object) -> bool:
        """Tell whether a pod is of the template."""
        return bool((pod["metadata"].get("labels") or {}).get(POD_HASH) == self.update)

    def is_available(self, pod: Object) -> bool:
        """Tell whether a pod has been ready for long enough."""
        least_s = self.set_["spec"].get("minReadySeconds") or 0
        return available_in_s(pod, least_s, self.now_s) <= 0

    def limit(self, rolling: Mapping[str, Any], name: str, default: int) -> int:
        """Return a limit of a rollout, in pods."""
        told = rolling.get(name)
        return number(default if told is None else told, len(self.nodes()), up=True)

    def pair(self, node: str) -> tuple[Object | None, Object | None]:
        """Return the new and the old pod of a node that stay."""
        staying = [p for p in self.pods[node] if not p["metadata"].get("deletionTimestamp")]
        new = next((pod for pod in staying if self.is_new(pod)), None)
        return new, next((pod for pod in staying if not self.is_new(pod)), None)


def replaced(plan: Plan, rolling: Mapping[str, Any]) -> tuple[list[Object], list[str]]:
    """Return the old pods to delete now: no more are unavailable than may be. No nodes: [].

    An old pod that is not available anyway costs nothing.
    """
    most = plan.limit(rolling, "maxUnavailable", 1) or 1
    doomed, candidates = list[Object](), list[Object]()
    unavailable = 0
    for node in plan.nodes():
        new, old = plan.pair(node)
        if new is None and old is not None:
            (candidates if plan.is_available(old) else doomed).append(old)
            unavailable += not plan.is_available(old)
        elif new is None or old is not None or not plan.is_available(new):
            unavailable += 1
    return [*doomed, *candidates[: max(0, most - unavailable)]], []


def surged(plan: Plan, rolling: Mapping[str, Any]) -> tuple[list[Object], list[str]]:
    """Return the old pods to delete now, and the nodes that get a new pod beside the old one."""
    most = plan.limit(rolling, "maxSurge", 0)
    doomed, at_once, candidates = list[Object](), list[str](), list[str]()
    surging = 0
    for node in plan.nodes():
        new, old = plan.pair(node)
        if old is None:
            continue
        if new is None:
            (candidates if plan.is_available(old) else at_once).append(node)
        elif plan.is_available(new):
            doomed.append(old)
        else:
            surging += 1
    return doomed, [*at_once, *candidates[: max(0, most - surging)]]


def surplus_of(plan: Plan, running: Sequence[Object]) -> list[Object]:
    """Return which pods of one node are too many. running: those that stay, oldest first."""
    rolling = (plan.set_["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    if not plan.limit(rolling, "maxSurge", 0):
        return list(running[1:])
    new = [pod for pod in running if plan.is_new(pod)]
    old = [pod for pod in running if not plan.is_new(pod)]
    surplus = [*new[1:], *old[1:]]
    if new and old and (not is_ready(old[0]) or plan.is_available(new[0])):
        surplus.append(old[0])
    return surplus


def status_of(plan: Plan) -> dict[str, Any]:
    """Return the status as it is."""
    counts = dict.fromkeys(
        (
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        ),
        0,
    )
    more = dict.fromkeys(("updatedNumberScheduled", "numberAvailable", "numberUnavailable"), 0)
    for node, fit in plan.fits.items():
        pods = plan.pods.get(node) or ()
        if fit is not Fit.RUNS:
            counts["numberMisscheduled"] += bool(pods)
            continue
        counts["desiredNumberScheduled"] += 1
        if not pods:
            continue
        counts["currentNumberScheduled"] += 1
        counts["numberReady"] += is_ready(pods[0])
        more["numberAvailable"] += plan.is_available(pods[0])
        more["updatedNumberScheduled"] += plan.is_new(pods[0])
    more["numberUnavailable"] = counts["desiredNumberScheduled"] - more["numberAvailable"]
    status: dict[str, Any] = {
        **counts,
        "observedGeneration": plan.set_["metadata"].get("generation", 0),
        **{name: count for name, count in more.items() if count},
    }
    before = plan.set_.get("status") or {}
    status |= {k: before[k] for k in ("collisionCount", "conditions") if before.get(k)}
    return status
