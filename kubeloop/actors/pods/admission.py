"""Whether a pod fits the node it was bound to. Pure.

The scheduler sees to that; who is bound by hand, or by a scheduler that knew too little, is refused
here, as by Kubernetes' kubelet, before anything is started.
"""

from collections.abc import Mapping
from typing import Any

from kubeloop.actors.pods.state import Verdict
from kubeloop.actors.scheduling.demand import amounts, requests_of


class Admission:
    """Keeps count of what the pods of one node ask for. allocatable: quantities by resource."""

    def __init__(self, allocatable: Mapping[str, str]) -> None:
        self._allocatable = amounts(allocatable)
        self._requests: dict[str, Mapping[str, int]] = {}
        self._used = dict.fromkeys(self._allocatable, 0)

    def admit(self, uid: str, pod: Mapping[str, Any]) -> Verdict | None:
        """Count a pod in; if it does not fit return why, and do not count it."""
        if uid in self._requests:
            return None
        requests = {**requests_of(pod["spec"]), "pods": 1}
        for resource, requested in requests.items():
            capacity, used = self._allocatable.get(resource, 0), self._used.get(resource, 0)
            if requested and used + requested > capacity:
                text = (
                    f"Node didn't have enough resource: {resource}, requested: {requested}, "
                    f"used: {used}, capacity: {capacity}"
                )
                return Verdict(f"OutOf{resource}", text)
        self.count(uid, pod)
        return None

    def count(self, uid: str, pod: Mapping[str, Any]) -> None:
        """Count a pod in, whether it fits or not: it is there already."""
        if uid not in self._requests:
            self._requests[uid] = {**requests_of(pod["spec"]), "pods": 1}
            for resource, amount in self._requests[uid].items():
                self._used[resource] = self._used.get(resource, 0) + amount

    def release(self, uid: str) -> None:
        """Count a pod out; harmless if it is out."""
        for resource, amount in self._requests.pop(uid, {}).items():
            self._used[resource] -= amount
