"""Which nodes a DaemonSet's pod may run on. Pure.

Source: Kubernetes, "DaemonSet: How Daemon Pods are scheduled", "Taints and tolerations".
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from kubeloop.actors.scheduling.demand import Demand, Taint, demand_of
from kubeloop.actors.scheduling.filters import node_affinity, node_name, tolerated
from kubeloop.actors.scheduling.nodeinfo import NodeInfo
from kubeloop.actors.view import Object

_TOLERATED: Final = (
    ("not-ready", "NoExecute"),
    ("unreachable", "NoExecute"),
    ("disk-pressure", "NoSchedule"),
    ("memory-pressure", "NoSchedule"),
    ("pid-pressure", "NoSchedule"),
    ("unschedulable", "NoSchedule"),
)
_NETWORK: Final = ("network-unavailable", "NoSchedule")


class Fit(Enum):
    """What a node is to a DaemonSet: it should run a pod, keep one that it has, or have none."""

    RUNS = "runs"
    KEEPS = "keeps"
    NEVER = "never"


def work_of(set_: Object) -> Demand:
    """Return what the pods of a DaemonSet ask of a node. Raises: ValueError for a bad quantity."""
    spec = with_tolerations(set_["spec"]["template"]["spec"])
    return demand_of({"metadata": {"namespace": set_["metadata"]["namespace"]}, "spec": spec})


def fit(work: Demand, node: Object) -> Fit:
    """Return what `node` is to the pods that ask for `work`."""
    metadata, spec = node["metadata"], node.get("spec") or {}
    info = NodeInfo(metadata["name"], labels=metadata.get("labels") or {})
    if node_name(work, info) is not None or node_affinity(work, info) is not None:
        return Fit.NEVER
    taints = [Taint(t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ()]
    effects = {t.effect for t in taints if not tolerated(t, work.tolerations)}
    if "NoExecute" in effects:
        return Fit.NEVER
    return Fit.KEEPS if "NoSchedule" in effects else Fit.RUNS


def matters(before: Object | None, after: Object | None) -> bool:
    """Tell whether a change of a node may change what it is to DaemonSets."""
    if before is None or after is None:
        return True
    return _seen(before) != _seen(after)


def _seen(node: Object) -> tuple[Any, ...]:
    return node["metadata"].get("labels"), (node.get("spec") or {}).get("taints")


def node_of(pod: Object) -> str:
    """Return the name of the node a pod runs on, or is meant for; "" if it is for none."""
    spec = pod["spec"]
    if spec.get("nodeName"):
        return str(spec["nodeName"])
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            if field.get("key") == "metadata.name" and field.get("operator") == "In":
                return str((field.get("values") or [""])[0])
    return ""


def with_tolerations(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod's spec that puts up with what daemons put up with."""
    names = (*_TOLERATED, _NETWORK) if spec.get("hostNetwork") else _TOLERATED
    added = [
        {"key": f"node.kubernetes.io/{name}", "operator": "Exists", "effect": effect}
        for name, effect in names
    ]
    told = [t for t in spec.get("tolerations") or () if t not in added]
    return {**spec, "tolerations": [*told, *added]}
