"""The events a kubelet tells users: about its pods, and about its node. Pure."""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.actors.events import Recorder
from kubeloop.actors.pods.actions import Tell
from kubeloop.actors.pods.state import Pod, Role
from kubeloop.api.calls import Request

_LISTS: Final[Mapping[Role, str]] = {
    "init": "initContainers",
    "sidecar": "initContainers",
    "main": "containers",
    "ephemeral": "ephemeralContainers",
}


class NodeEvents:
    """Makes the requests that create the events of one node's kubelet."""

    def __init__(self, node: str) -> None:
        self.node = node
        self._recorder = Recorder("kubelet", node)

    def of_pod(self, pod: Pod, event: Tell, *, wall_s: float) -> Request:
        """Return the request that tells of a pod, or of one of its containers."""
        regarding = {"apiVersion": "v1", "kind": "Pod", "metadata": pod.spec["metadata"]}
        return self._recorder.record(
            regarding,
            event.type,
            event.reason,
            event.message,
            wall_s=wall_s,
            field_path=_field_path(pod, event.container),
        )

    def of_node(self, reason: str, message: str, *, wall_s: float, type_: str) -> Request:
        """Return the request that tells of the node itself."""
        # Kubernetes, too, calls a node by its name in place of its uid.
        metadata: Mapping[str, Any] = {"name": self.node, "uid": self.node}
        regarding = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
        return self._recorder.record(regarding, type_, reason, message, wall_s=wall_s)


def _field_path(pod: Pod, container: str) -> str:
    if not container:
        return ""
    return f"spec.{_LISTS[pod.containers[container].role]}{{{container}}}"
