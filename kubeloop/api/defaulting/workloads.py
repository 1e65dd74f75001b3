"""Defaults of ReplicationControllers, ReplicaSets and Deployments."""

from kubeloop.api.defaulting import pods
from kubeloop.api.defaulting.tools import Json, child, fill, maybe


def replication_controller(obj: Json) -> None:
    """Fill in a ReplicationController: selector and labels come from its template."""
    spec = child(obj, "spec")
    template = maybe(spec, "template")
    labels = maybe(maybe(template, "metadata"), "labels")
    if labels:
        metadata = child(obj, "metadata")
        if not spec.get("selector"):
            spec["selector"] = dict(labels)
        if not metadata.get("labels"):
            metadata["labels"] = dict(labels)
    _replicas(spec)
    pods.template(template)
    child(obj, "status").setdefault("replicas", 0)


def replica_set(obj: Json) -> None:
    """Fill in a ReplicaSet."""
    spec = child(obj, "spec")
    _replicas(spec)
    pods.template(child(spec, "template"))
    child(obj, "status").setdefault("replicas", 0)


def deployment(obj: Json) -> None:
    """Fill in a Deployment."""
    spec = child(obj, "spec")
    _replicas(spec)
    strategy = child(spec, "strategy")
    fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        rolling = child(strategy, "rollingUpdate")
        fill(rolling, {"maxUnavailable": "25%", "maxSurge": "25%"})
    fill(spec, {"revisionHistoryLimit": 10, "progressDeadlineSeconds": 600})
    pods.template(child(spec, "template"))
    child(obj, "status")


def _replicas(spec: Json) -> None:
    if spec.get("replicas") is None:
        spec["replicas"] = 1
