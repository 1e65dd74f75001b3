"""What is scheduled fits, and goes where it may.

Source: Kubernetes, "Resource Management for Pods and Containers: How Pods with resource requests
are scheduled"; KEP-753 for init containers that stay; "Taints and Tolerations".
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from typing import Any, Final

from kubeloop.api import quantities
from kubeloop.chaos.invariants.tale import (
    DONE,
    NODES,
    PODS,
    Change,
    Object,
    Tale,
    Watcher,
    full_name,
    is_active,
    uid_of,
)
from kubeloop.chaos.watching import Broken

SCHEDULER: Final = "system:kube-scheduler"
_CORDONED: Final = "node.kubernetes.io/unschedulable"
_ABSENT: Final = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_CHOOSY: Final = ("affinity", "nodeSelector", "schedulingGates", "topologySpreadConstraints")
_SCHEDULER_NAME: Final = "default-scheduler"
_NONE: Final = Fraction(0)

Amounts = Mapping[str, Fraction]


@dataclass(slots=True)
class _Node:
    """A node as the scheduler must see it.

    shrunk:   the revision at which it last offered less, or others than the scheduler came to it.
    cordoned: the revision at which it was cordoned, 0 if it is not.
    """

    allocatable: Amounts = field(default_factory=dict)
    used: Counter[str] = field(default_factory=Counter)
    shrunk: int = 0
    cordoned: int = 0
    exists: bool = False


class Capacity(Watcher):
    """Whenever the scheduler binds a pod it fits, and no pod waits that would.

    - The requests of all unfinished pods bound to a node, that one included, are no more than the
      node's allocatable, of any resource and in number; and the node is not cordoned, unless the
      pod tolerates that. What the scheduler could not yet know does not count: a pod that others
      bound, or a node that changed, after the fact because of which it acted.
    - At rest a node that is up has no taint that says it is not.
    - At rest no pod that asks for resources only waits while a node that is up, neither cordoned
      nor tainted, has room for it.
    """

    name = "capacity"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._nodes: dict[str, _Node] = {}
        self._pods: dict[str, tuple[str, Amounts]] = {}  # Uid → where, and what it requests.

    def see(self, change: Change) -> None:
        if change.resource == NODES:
            self._see_node(change)
        elif change.resource == PODS:
            self._see_pod(change)

    def _see_node(self, change: Change) -> None:
        node = self._node(str(change.either["metadata"]["name"]))
        obj = change.after or {}
        allocatable = _amounts((obj.get("status") or {}).get("allocatable"))
        if any(allocatable.get(name, 0) < had for name, had in node.allocatable.items()):
            node.shrunk = change.fact.revision
        node.allocatable, node.exists = allocatable, change.after is not None
        if not (obj.get("spec") or {}).get("unschedulable"):
            node.cordoned = 0
        elif not node.cordoned:
            node.cordoned = change.fact.revision

    def _see_pod(self, change: Change) -> None:
        uid, fact = uid_of(change.either), change.fact
        name = str(change.either["spec"].get("nodeName") or "")
        had = self._pods.pop(uid, None)
        if had is not None:
            self._node(had[0]).used.subtract(had[1])
        pod = change.after
        if pod is None or not name or (pod.get("status") or {}).get("phase") in DONE:
            return
        requests = had[1] if had is not None else requests_of(pod["spec"])
        node = self._node(name)
        node.used.update(requests)
        self._pods[uid] = name, requests
        if had is not None:
            return
        if fact.cause.user != SCHEDULER:
            node.shrunk = fact.revision
        else:
            self._check(pod, name, node, fact.cause.revision, fact.revision)

    def _check(self, pod: Object, name: str, node: _Node, knew: int, revision: int) -> None:
        """See that a pod the scheduler has just bound may be where it is."""
        bound = f"revision {revision} binds pod {full_name(pod)} to {name}"
        if 0 < node.cordoned <= knew and not _tolerates_cordon(pod):
            raise Broken(f"{bound}, which has been cordoned since revision {node.cordoned}")
        if node.shrunk > knew or not node.exists:
            return
        for resource, used in node.used.items():
            has = node.allocatable.get(resource, _NONE)
            if used > has and used:
                raise Broken(
                    f"{bound}: its pods now request {float(used):g} of {resource}, and it has "
                    f"{float(has):g}: {sorted(self._on(name))}"
                )

    def rest(self) -> None:
        nodes = [n for n in self.tale.view.list(NODES) if self.tale.is_up(n["metadata"]["name"])]
        for node in nodes:
            for taint in node["spec"].get("taints") or ():
                if taint["key"] in _ABSENT:
                    name = node["metadata"]["name"]
                    raise Broken(f"node {name} is up at rest, and has the taint {taint['key']}")
        for pod in self.tale.view.list(PODS):
            for node in nodes if _waits(pod) else ():
                spec, name = node["spec"], str(node["metadata"]["name"])
                if (
                    not spec.get("unschedulable")
                    and not spec.get("taints")
                    and self._room(pod, name)
                ):
                    raise Broken(
                        f"pod {full_name(pod)} waits at rest, and {name} has room for it: of "
                        f"{_told(self._node(name).allocatable)} its pods request "
                        f"{_told(self._node(name).used)}"
                    )

    def _room(self, pod: Object, name: str) -> bool:
        node = self._node(name)
        return all(
            node.used[resource] + amount <= node.allocatable.get(resource, _NONE)
            for resource, amount in requests_of(pod["spec"]).items()
        )

    def _on(self, node: str) -> list[str]:
        pods = self.tale.view.by(PODS, "node", node)
        return [full_name(pod) for pod in pods if uid_of(pod) in self._pods]

    def _node(self, name: str) -> _Node:
        return self._nodes.setdefault(name, _Node())


def requests_of(spec: Mapping[str, Any]) -> Amounts:
    """Return what a pod requests: the most it ever needs at once, as KEP-753 has it; and a pod.

    What it requests as a whole (KEP-2837) stands in place of what its containers do.
    """
    total: dict[str, Fraction] = {}
    staying: dict[str, Fraction] = {}  # Init containers that stay, so far.
    peak: dict[str, Fraction] = {}
    for container in spec.get("initContainers") or ():
        requests = _requests(container)
        if container.get("restartPolicy") == "Always":
            staying = _sum(staying, requests)
            peak = _most(peak, staying)
        else:
            peak = _most(peak, _sum(staying, requests))
    for container in spec["containers"]:
        total = _sum(total, _requests(container))
    most = {**_most(_sum(total, staying), peak), **_requests(spec)}
    return _sum(most, {**_amounts(spec.get("overhead")), "pods": Fraction(1)})


def _requests(container: Object) -> dict[str, Fraction]:
    return _amounts((container.get("resources") or {}).get("requests"))


def _amounts(told: Mapping[str, Any] | None) -> dict[str, Fraction]:
    return {name: _amount(str(text)) for name, text in (told or {}).items()}


@cache
def _amount(text: str) -> Fraction:
    return quantities.parse(text)


def _sum(one: Amounts, other: Amounts) -> dict[str, Fraction]:
    return {name: one.get(name, _NONE) + other.get(name, _NONE) for name in {**one, **other}}


def _most(one: Amounts, other: Amounts) -> dict[str, Fraction]:
    return {name: max(one.get(name, _NONE), other.get(name, _NONE)) for name in {**one, **other}}


def _waits(pod: Object) -> bool:
    """Tell whether a pod waits for the scheduler, and for nothing but resources."""
    spec = pod["spec"]
    told = ("nodeName", *_CHOOSY)
    return is_active(pod) and not any(spec.get(field) for field in told) and not _is_bound_up(spec)


def _is_bound_up(spec: Mapping[str, Any]) -> bool:
    """Tell whether a pod needs what a node may lack: a port of it, or a volume."""
    ports = any(p.get("hostPort") for c in spec["containers"] for p in c.get("ports") or ())
    claims = any("persistentVolumeClaim" in volume for volume in spec.get("volumes") or ())
    other = spec.get("schedulerName", _SCHEDULER_NAME) != _SCHEDULER_NAME
    return ports or claims or other


def _told(amounts: Mapping[str, Any]) -> str:
    return (
        ", ".join(f"{float(n):g} {name}" for name, n in sorted(amounts.items()) if n) or "nothing"
    )


def _tolerates_cordon(pod: Object) -> bool:
    for toleration in pod["spec"].get("tolerations") or ():
        exists = toleration.get("operator") == "Exists"
        effect = toleration.get("effect") in (None, "", "NoSchedule")
        if effect and exists and toleration.get("key") in (None, "", _CORDONED):
            return True
        if effect and toleration.get("key") == _CORDONED and not toleration.get("value"):
            return True
    return False
