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
)
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

_PODS: Final = "pods"
_NODES: Final = "nodes"
_CENSUS: Final = "/registry/pods"  # The work item that counts the finished pods.
_BATCH_MAX: Final = 500


def _node_of(pod: Object) -> list[str]:
    return [pod["spec"]["nodeName"]] if pod["spec"].get("nodeName") else []


def _finished(pod: Object) -> list[str]:
    return ["yes"] if (pod.get("status") or {}).get("phase") in DONE_PHASES else []


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
        elif after is not None and after["spec"].get("nodeName"):
            if view.get(_NODES, "", after["spec"]["nodeName"]) is None:
                yield key
            if _finished(after):
                yield _CENSUS

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        if key == _CENSUS:
            return self._count(view)
        pod = view.get(*split(key))
        if pod is None or view.get(_NODES, "", pod["spec"].get("nodeName", "")) is not None:
            return NOTHING
        return Result([self._delete(pod)])

    def _count(self, view: View) -> Result:
        finished = list(view.by(_PODS, "finished", "yes"))
        surplus = len(finished) - self._finished_max
        if surplus <= 0:
            return NOTHING
        finished.sort(key=lambda p: (p["metadata"]["creationTimestamp"], p["metadata"]["name"]))
        return Result([self._delete(pod) for pod in finished[: min(surplus, _BATCH_MAX)]])

    def _delete(self, pod: Object) -> Action:
        return Action(self._write.delete(pod, gracePeriodSeconds=0), gone_is_fine=True)
