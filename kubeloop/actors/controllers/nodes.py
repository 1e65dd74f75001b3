"""Node life: a silent node becomes Unknown, is tainted, and loses its pods.

Source: Kubernetes, "Nodes: Node heartbeats", "Taints and Tolerations: Taint based Evictions".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Event,
    Result,
    Writer,
    condition,
    is_ready,
    revision_of,
    split,
    unix_s,
)
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, Sign, View
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of

_NODES: Final = "nodes"
_PODS: Final = "pods"
_LEASES: Final = "leases.coordination.k8s.io"
_LEASE_NAMESPACE: Final = "kube-node-lease"

NOT_READY: Final = "node.kubernetes.io/not-ready"
UNREACHABLE: Final = "node.kubernetes.io/unreachable"
UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
_PRESSURES: Final = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_OWN: Final = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_PRESSURES.values()})
_REPORTED: Final = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")

Taint = dict[str, Any]


def _node_of(pod: Object) -> list[str]:
    return [pod["spec"]["nodeName"]] if pod["spec"].get("nodeName") else []


def _heartbeat(node: Object) -> Any:
    """The sign of life a Node gives: what its kubelet wrote, whatever others write of it.

    That it is unknown how the node is only this controller writes. So whatever follows is a sign,
    even with the time of an earlier one: the node's clock may have been set back.
    """
    ready = condition(node, "Ready")
    if ready is None or ready["status"] == "Unknown":
        return None
    return ready.get("lastHeartbeatTime")


def _renewal(lease: Object) -> Any:
    return (lease.get("spec") or {}).get("renewTime")


class NodeLifecycleController:
    """Work items are nodes.

    begun_s: since when it watches; a node is not blamed for what nobody could hear before.
    """

    name = "node-controller"
    resources = (_NODES, _PODS, _LEASES)
    indexes: Mapping[tuple[str, str], Index] = {(_PODS, "node"): _node_of}
    signs: Mapping[str, Sign] = {_NODES: _heartbeat, _LEASES: _renewal}

    def __init__(self, settings: Settings, *, begun_s: float) -> None:
        self._grace_s, self._begun_s = settings.node_grace_s, begun_s
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == _NODES:
            yield key
        elif resource == _LEASES:
            if namespace == _LEASE_NAMESPACE and _was_late(before, after, self._grace_s):
                yield key_of(_NODES, "", name)
        elif after is not None and _node_of(after):
            node = view.get(_NODES, "", _node_of(after)[0])
            if node is not None and any(_evicts(t) for t in node["spec"].get("taints") or ()):
                yield key_of(_NODES, "", _node_of(after)[0])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, _, name = split(key)
        node = view.get(_NODES, "", name)
        if node is None or node["metadata"].get("deletionTimestamp"):
            return NOTHING
        heard_s, heard = self._heard(node, view)
        late_in_s = heard_s + self._grace_s - now_s
        if late_in_s <= 0 and _is_known(node):
            return Result([self._give_up(node, now_s)])
        wait_s = late_in_s if late_in_s > 0 else None
        taints = _taints(node, now_s)
        if taints != list(node["spec"].get("taints") or ()):
            spec = {k: v for k, v in node["spec"].items() if k != "taints"}
            if taints:
                spec["taints"] = taints
            action = Action(self._write.update({**node, "spec": spec}))
            return Result([action], again_s=wait_s, since=heard)
        pods = list(view.by(_PODS, "node", name))
        actions = self._mark_not_ready(node, pods, now_s)
        evictions, next_s = self._evict(taints, pods, now_s)
        actions += evictions
        owes = next_s is not None
        if next_s is not None and (wait_s is None or next_s < wait_s):
            return Result(actions, again_s=next_s, owes=owes)  # Since the taint made us look.
        return Result(actions, again_s=wait_s, owes=owes, since=heard)

    def _give_up(self, node: Object, now_s: float) -> Action:
        """Return the write that tells that a node has fallen silent."""
        status = {**(node.get("status") or {}), "conditions": _unknown(node, now_s)}
        message = f"Node {node['metadata']['name']} status is now: NodeNotReady"
        event = Event(node, "Normal", "NodeNotReady", message)
        request = self._write.update({**node, "status": status}, subresource="status")
        return Action(request, success=event)

    def _heard(self, node: Object, view: View) -> tuple[float, int]:
        """Return when the node last gave a sign of life, by its lease or its status.

        And the revision of that sign; 0 if there was none since we watch.
        """
        name, made = node["metadata"]["name"], unix_s(node["metadata"]["creationTimestamp"])
        lease, own = key_of(_LEASES, _LEASE_NAMESPACE, name), key_of(_NODES, "", name)
        signs = [(self._begun_s, 0), (made, revision_of(node))]
        return max(*signs, view.signed(lease), view.signed(own))

    def _mark_not_ready(self, node: Object, pods: Sequence[Object], now_s: float) -> list[Action]:
        """Return the writes that tell of each pod that it is not ready, once its node is silent."""
        ready = condition(node, "Ready")
        if ready is None or ready["status"] != "Unknown":
            return []
        actions = []
        for pod in pods:
            if not is_ready(pod):
                continue
            told = {"type": "Ready", "status": "False", "lastTransitionTime": rfc3339(now_s)}
            patch = {"status": {"conditions": [told]}}
            event = Event(pod, "Warning", "NodeNotReady", "Node is not ready")
            request = self._write.patch(pod, patch, type_="strategic", subresource="status")
            actions.append(Action(request, success=event, gone_is_fine=True))
        return actions

    def _evict(
        self, taints: Sequence[Taint], pods: Sequence[Object], now_s: float
    ) -> tuple[list[Action], float | None]:
        """Return the deletions that are due, and when the next one will be [s from now]."""
        evicting = [t for t in taints if _evicts(t)]
        actions: list[Action] = []
        next_s: float | None = None
        for pod in pods if evicting else ():
            if pod["metadata"].get("deletionTimestamp"):
                continue
            left_s = _tolerated_s(pod, evicting, now_s)
            if left_s is None:
                continue
            if left_s > 0:
                next_s = left_s if next_s is None else min(next_s, left_s)
                continue
            metadata = pod["metadata"]
            message = f"Marking for deletion Pod {metadata['namespace']}/{metadata['name']}"
            event = Event(pod, "Normal", "TaintManagerEviction", message)
            told = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
            actions += self._write.disrupt(pod, *told, now_s)
            actions.append(Action(self._write.delete(pod), success=event, gone_is_fine=True))
        return actions, next_s


def _was_late(before: Object | None, after: Object | None, grace_s: float) -> bool:
    """Tell whether a lease came back after a pause; one that is renewed in time changes nothing."""
    if before is None or after is None:
        return True
    was, is_ = ((lease.get("spec") or {}).get("renewTime") for lease in (before, after))
    return unix_s(is_) - unix_s(was) > grace_s / 2


def _is_known(node: Object) -> bool:
    ready = condition(node, "Ready")
    return ready is None or bool(ready["status"] != "Unknown")


def _unknown(node: Object, now_s: float) -> list[dict[str, Any]]:
    """Return the conditions of a node that has fallen silent."""
    now, told = rfc3339(now_s), []
    for type_ in _REPORTED:
        known = condition(node, type_)
        if known is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
            since = node["metadata"]["creationTimestamp"]
            known = {"type": type_, "lastHeartbeatTime": since, "status": ""}
        else:
            reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        changed = {**known, "status": "Unknown", "reason": reason, "message": message}
        if known["status"] != "Unknown":
            changed["lastTransitionTime"] = now
        told.append(changed)
    others = node.get("status", {}).get("conditions") or ()
    return [*told, *(c for c in others if c["type"] not in _REPORTED)]


def _taints(node: Object, now_s: float) -> list[Taint]:
    """Return the taints a node should have; those that stand keep their times."""
    ready = condition(node, "Ready")
    status = ready["status"] if ready is not None else "False"
    wanted: list[tuple[str, str]] = []
    if node["spec"].get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    if status != "True":
        key = UNREACHABLE if status == "Unknown" else NOT_READY
        # A node that has never been ready has no pods to lose.
        wanted.append((key, "NoSchedule"))
        if ready is not None:
            wanted.append((key, "NoExecute"))
    for type_, key in _PRESSURES.items():
        pressure = condition(node, type_)
        if pressure is not None and pressure["status"] == "True":
            wanted.append((key, "NoSchedule"))
    before = [_dated(t, now_s) for t in node["spec"].get("taints") or ()]
    kept = [t for t in before if t["key"] not in _OWN or (t["key"], t["effect"]) in wanted]
    have = {(t["key"], t["effect"]) for t in kept}
    for key, effect in wanted:
        if (key, effect) not in have:
            kept.append({"key": key, "effect": effect, "timeAdded": rfc3339(now_s)})
    return kept


def _dated(taint: Taint, now_s: float) -> Taint:
    """Return a taint with the time from which on tolerationSeconds count: users tell none."""
    if not _evicts(taint) or taint.get("timeAdded"):
        return taint
    return {**taint, "timeAdded": rfc3339(now_s)}


def _evicts(taint: Mapping[str, Any]) -> bool:
    return bool(taint["effect"] == "NoExecute")


def _tolerated_s(pod: Object, taints: Sequence[Taint], now_s: float) -> float | None:
    """Return how long the pod may stay; 0 or less: it must go; None: as long as it likes."""
    tolerations = pod["spec"].get("tolerations") or ()
    left: float | None = None
    for taint in taints:
        matching = [t for t in tolerations if _tolerates(t, taint)]
        if not matching:
            return 0.0
        limits = [
            t["tolerationSeconds"] for t in matching if t.get("tolerationSeconds") is not None
        ]
        if limits:
            # A pod that came to a tainted node has its time from then on.
            since = unix_s(taint.get("timeAdded"))
            since = max(since, _arrived_s(pod))
            stay_s = since + max(0, min(limits)) - now_s
            left = stay_s if left is None else min(left, stay_s)
    return left


def _arrived_s(pod: Object) -> float:
    """Return since when a pod is on its node, however long it waited before [s since 1970]."""
    bound = condition(pod, "PodScheduled")
    if bound is not None and bound["status"] == "True" and bound.get("lastTransitionTime"):
        return unix_s(bound["lastTransitionTime"])
    return unix_s(pod["metadata"]["creationTimestamp"])


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    key = toleration.get("key")
    if key and key != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")
