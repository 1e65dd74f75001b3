"""Defaults of StatefulSets, DaemonSets and ControllerRevisions."""

from kubeloop.api.defaulting import pods, storage
from kubeloop.api.defaulting.tools import Json, child, fill, items


def controller_revision(obj: Json) -> None:
    """Fill in a ControllerRevision."""
    obj.setdefault("revision", 0)


def daemon_set(obj: Json) -> None:
    """Fill in a DaemonSet."""
    spec = child(obj, "spec")
    pods.template(child(spec, "template"))
    strategy = child(spec, "updateStrategy")
    fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        fill(child(strategy, "rollingUpdate"), {"maxUnavailable": 1, "maxSurge": 0})
    fill(spec, {"revisionHistoryLimit": 10})
    status = child(obj, "status")
    for count in (
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
    ):
        status.setdefault(count, 0)


def stateful_set(obj: Json) -> None:
    """Fill in a StatefulSet."""
    spec = child(obj, "spec")
    fill(spec, {"replicas": 1})
    pods.template(child(spec, "template"))
    for claim in items(spec, "volumeClaimTemplates"):
        claim.update({"apiVersion": "v1", "kind": "PersistentVolumeClaim"})
        storage.persistent_volume_claim(claim)
    spec.setdefault("serviceName", "")
    fill(spec, {"podManagementPolicy": "OrderedReady"})
    strategy = child(spec, "updateStrategy")
    fill(strategy, {"type": "RollingUpdate"})
    if strategy["type"] == "RollingUpdate":
        fill(child(strategy, "rollingUpdate"), {"partition": 0})
    fill(spec, {"revisionHistoryLimit": 10})
    policy = child(spec, "persistentVolumeClaimRetentionPolicy")
    fill(policy, {"whenDeleted": "Retain", "whenScaled": "Retain"})
    status = child(obj, "status")
    status.setdefault("replicas", 0)
    status.setdefault("availableReplicas", 0)
