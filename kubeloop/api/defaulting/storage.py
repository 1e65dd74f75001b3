"""Defaults of volumes, of claims to them, and of the kinds of storage.k8s.io."""

from typing import Any, Final

from kubeloop.api.defaulting import pods
from kubeloop.api.defaulting.tools import Json, child, fill, maybe

_DRIVER: Final[dict[str, Any]] = {
    "attachRequired": True,
    "podInfoOnMount": False,
    "fsGroupPolicy": "ReadWriteOnceWithFSType",
    "storageCapacity": False,
    "requiresRepublish": False,
    "seLinuxMount": False,
}


def persistent_volume(obj: Json) -> None:
    """Fill in a PersistentVolume."""
    spec = child(obj, "spec")
    pods.resource_list(maybe(spec, "capacity"))
    pods.volume_source(spec)
    fill(spec, {"persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem"})
    fill(child(obj, "status"), {"phase": "Pending"})


def persistent_volume_claim(obj: Json) -> None:
    """Fill in a PersistentVolumeClaim."""
    claim_spec(child(obj, "spec"))
    status = child(obj, "status")
    pods.resource_list(maybe(status, "capacity"))
    pods.resource_list(maybe(status, "allocatedResources"))
    fill(status, {"phase": "Pending"})


def claim_spec(spec: Json) -> None:
    """Fill in what claims and their templates share; the two ways to tell a source agree."""
    fill(spec, {"volumeMode": "Filesystem"})
    resources = child(spec, "resources")
    for kind in ("limits", "requests"):
        pods.resource_list(maybe(resources, kind))
    source, reference = maybe(spec, "dataSource"), maybe(spec, "dataSourceRef")
    if source and not reference:
        spec["dataSourceRef"] = dict(source)
    elif reference and not source and not reference.get("namespace"):
        spec["dataSource"] = {k: v for k, v in reference.items() if k != "namespace"}


def storage_class(obj: Json) -> None:
    """Fill in a StorageClass."""
    obj.setdefault("provisioner", "")
    fill(obj, {"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"})


def csi_driver(obj: Json) -> None:
    """Fill in a CSIDriver."""
    spec = child(obj, "spec")
    fill(spec, _DRIVER)
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


def csi_node(obj: Json) -> None:
    """Fill in a CSINode."""
    child(obj, "spec").setdefault("drivers", None)


def capacity(obj: Json) -> None:
    """Fill in a CSIStorageCapacity."""
    obj.setdefault("storageClassName", "")


def attachment(obj: Json) -> None:
    """Fill in a VolumeAttachment."""
    spec = child(obj, "spec")
    child(spec, "source")
    for key in ("attacher", "nodeName"):
        spec.setdefault(key, "")
    child(obj, "status").setdefault("attached", False)


def attributes_class(obj: Json) -> None:
    """Fill in a VolumeAttributesClass."""
    obj.setdefault("driverName", "")
