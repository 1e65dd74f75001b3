"""Pods nobody will ever end: those of nodes that are gone, and too many that have finished.

Source: Kubernetes, "Pod Lifecycle: Garbage collection of Pods".
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.controllers.base import (
    DONE_PHASES,
    NOTHING,
    Action,
    Result,
    Writer,
    split,
    unix_s,
)
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

_PODS: Final = "pods"
_NODES: Final = "nodes"
_CENSUS: Final = "/registry/pods"  # The work item that counts the finished pods.
_BATCH_MAX: Final = 500
QUARANTINE_S: Final = 40.0  # A pod may be told its node before the node has registered.


def _node_of(pod: Object) -> list[str]:
    return [pod["spec"]["nodeName"]] if pod["spec"].get("nodeName") else []


def _finished(pod: Object) -> list[str]:
    """Index: the pods that have finished and that nobody deletes yet."""
    done = (pod.get("status") or {}).get("phase") in DONE_PHASES
    return ["yes"] if done and not pod["metadata"].get("deletionTimestamp") else []


class PodGarbageCollector:
    """Work items are pods on nodes, and the census of finished ones."""

    name = "pod-garbage-collector"
    resources = (_PODS, _NODES)
    indexes: Mapping[tuple[str, str], Index] = {
        (_PODS, "node"): _node_of,
        (_PODS, "finished"): _finished,
    }

    def __init__(self, settings: Settings) -> None:
        self._finished_max = settings.terminated_pods_max
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, _, name = split(key)
        if resource == _NODES:
            if after is None:
                for pod in view.by(_PODS, "node", name):
                    metadata = pod["metadata"]
                    yield key_of(_PODS, metadata["namespace"], metadata["name"])
        else:
            if after is not None and self._is_lost(after, view):
                yield key
            if view.count(_PODS, "finished", "yes") > self._finished_max:
                yield _CENSUS

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        if key == _CENSUS:
            return self._count(view)
        pod = view.get(*split(key))
        if pod is None or not self._is_lost(pod, view):
            return NOTHING
        actions: list[Action] = []
        if pod["spec"].get("nodeName"):
            young_s = unix_s(pod["metadata"]["creationTimestamp"]) + QUARANTINE_S - now_s
            if young_s > 0:
                return Result(again_s=young_s, owes=True)
            told = ("DeletionByPodGC", "PodGC: node no longer exists")
            actions = self._write.disrupt(pod, *told, now_s, failed=True)
        return Result([*actions, self._delete(pod)])

    def _is_lost(self, pod: Object, view: View) -> bool:
        """Tell whether nobody is there who would end the pod."""
        node = pod["spec"].get("nodeName")
        if node:
            gone = view.get(_NODES, "", node) is None
            return gone and not _is_ended(pod)
        return bool(pod["metadata"].get("deletionTimestamp")) and not _is_ended(pod)

    def _count(self, view: View) -> Result:
        surplus = view.count(_PODS, "finished", "yes") - self._finished_max
        if surplus <= 0:
            return NOTHING
        finished = sorted(
            view.by(_PODS, "finished", "yes"),
            key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]),
        )
        return Result([self._delete(pod) for pod in finished[: min(surplus, _BATCH_MAX)]])

    def _delete(self, pod: Object) -> Action:
        return Action(self._write.delete(pod, gracePeriodSeconds=0), gone_is_fine=True)


def _is_ended(pod: Object) -> bool:
    """Tell whether only finalizers hold a pod: no deletion would do more."""
    metadata = pod["metadata"]
    return bool(
        metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds") == 0
    )
