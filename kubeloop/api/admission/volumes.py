"""Admission of claims and volumes: the default class, protection while in use, growing.

Source: Kubernetes, "Admission Control in Kubernetes": DefaultStorageClass,
StorageObjectInUseProtection, PersistentVolumeClaimResize.
"""

from collections.abc import Iterable
from typing import Final

from kubeloop.api import quantities
from kubeloop.api.defaulting.tools import Json, child, maybe
from kubeloop.api.errors import Forbidden

CLAIMS: Final = "persistentvolumeclaims"
VOLUMES: Final = "persistentvolumes"
CLASSES: Final = "storageclasses.storage.k8s.io"
PROTECTION: Final = {
    CLAIMS: "kubernetes.io/pvc-protection",
    VOLUMES: "kubernetes.io/pv-protection",
}
BETA_CLASS: Final = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS: Final = "storageclass.kubernetes.io/is-default-class"
_DEFAULTS: Final = (
    DEFAULT_CLASS,
    "storageclass.beta.kubernetes.io/is-default-class",
)

_SETTINGS: Final = (
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
)
"""What a PersistentVolume's spec has beside its source."""


def source_of(spec: Json) -> Json:
    """Return the source in a PersistentVolume's spec: {"hostPath": …}."""
    return {k: v for k, v in spec.items() if k not in _SETTINGS and v is not None}


def default_class(classes: Iterable[Json]) -> Json | None:
    """Return the class of claims that name none; the newest, if there are several."""
    found = [one for one in classes if _is_default(one)]
    found.sort(key=lambda one: one["metadata"]["name"])
    return max(found, key=lambda one: str(one["metadata"]["creationTimestamp"]), default=None)


def choose_class(claim: Json, classes: Iterable[Json]) -> None:
    """Give a claim, in place, the default class if it names none."""
    spec = child(claim, "spec")
    notes = (claim.get("metadata") or {}).get("annotations") or {}
    if spec.get("storageClassName") is None and BETA_CLASS not in notes:
        found = default_class(classes)
        if found is not None:
            spec["storageClassName"] = found["metadata"]["name"]


def protect(resource_id: str, obj: Json) -> None:
    """Have a new claim or volume, in place, stay while it is used."""
    finalizers = child(obj, "metadata").get("finalizers") or []
    if PROTECTION[resource_id] not in finalizers:
        obj["metadata"]["finalizers"] = [*finalizers, PROTECTION[resource_id]]


def may_grow(claim: Json, old: Json, told: Json | None) -> None:
    """Refuse to let a claim grow that cannot. told: its class. Raises: Forbidden."""
    size, was = _size(claim), _size(old)
    if quantities.parse(size) <= quantities.parse(was):
        return
    name = old["metadata"]["name"]
    if (old.get("status") or {}).get("phase") != "Bound":
        raise Forbidden(CLAIMS, name, "only bound persistent volume claims can be expanded")
    if told is None or not told.get("allowVolumeExpansion"):
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions"
            " the pvc must support resize"
        )
        raise Forbidden(CLAIMS, name, why)


def class_of(obj: Json) -> str:
    """Return the class a claim or a volume names, "" if it names none."""
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    return str(notes.get(BETA_CLASS) or (obj.get("spec") or {}).get("storageClassName") or "")


def _is_default(one: Json) -> bool:
    notes = (one.get("metadata") or {}).get("annotations") or {}
    return any(notes.get(key) == "true" for key in _DEFAULTS)


def _size(claim: Json) -> str:
    requests = maybe(maybe(claim.get("spec"), "resources"), "requests") or {}
    return str(requests.get("storage") or "0")
