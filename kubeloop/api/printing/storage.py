"""The rows of volumes, of claims to them, and of the kinds of storage.k8s.io."""

from typing import Any, Final

from kubeloop.api import humanize
from kubeloop.api.admission.volumes import BETA_CLASS
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, created, name_of

_MODES: Final = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_UNSET: Final = "<unset>"
_DEFAULTS: Final = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)


def volume(obj: Json) -> list[Any]:
    """Return the cells of a PersistentVolume."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    claim = maybe(spec, "claimRef")
    return [
        name_of(obj),
        (maybe(spec, "capacity") or {}).get("storage") or "0",
        _modes(spec),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        status.get("reason") or "",
        humanize.since(created(obj)),
        spec.get("volumeMode") or _UNSET,
    ]


def claim(obj: Json) -> list[Any]:
    """Return the cells of a PersistentVolumeClaim."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    bound = spec.get("volumeName") or ""
    return [
        name_of(obj),
        _phase(obj),
        bound,
        ((maybe(status, "capacity") or {}).get("storage") or "0") if bound else "",
        _modes(status) if bound else "",
        _class(obj),
        spec.get("volumeAttributesClassName") or _UNSET,
        humanize.since(created(obj)),
        spec.get("volumeMode") or _UNSET,
    ]


def storage_class(obj: Json) -> list[Any]:
    """Return the cells of a StorageClass."""
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    default = " (default)" if any(notes.get(key) == "true" for key in _DEFAULTS) else ""
    return [
        name_of(obj) + default,
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        humanize.since(created(obj)),
    ]


def driver(obj: Json) -> list[Any]:
    """Return the cells of a CSIDriver."""
    spec = obj.get("spec") or {}
    requests, attaches = spec.get("tokenRequests"), spec.get("attachRequired")
    audiences = ",".join(str(r.get("audience") or "") for r in items(spec, "tokenRequests"))
    return [
        name_of(obj),
        True if attaches is None else attaches,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        _UNSET if requests is None else audiences,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        humanize.since(created(obj)),
    ]


def node(obj: Json) -> list[Any]:
    """Return the cells of a CSINode."""
    count = len(items(obj.get("spec"), "drivers"))
    return [name_of(obj), count, humanize.since(created(obj))]


def capacity(obj: Json) -> list[Any]:
    """Return the cells of a CSIStorageCapacity."""
    amount = obj.get("capacity")
    return [name_of(obj), obj.get("storageClassName") or "", _UNSET if amount is None else amount]


def attachment(obj: Json) -> list[Any]:
    """Return the cells of a VolumeAttachment."""
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        spec.get("attacher") or "",
        (maybe(spec, "source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool((obj.get("status") or {}).get("attached")),
        humanize.since(created(obj)),
    ]


def attributes_class(obj: Json) -> list[Any]:
    """Return the cells of a VolumeAttributesClass."""
    return [name_of(obj), obj.get("driverName") or "", humanize.since(created(obj))]


def _modes(told: Json) -> str:
    given = told.get("accessModes") or ()
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def _phase(obj: Json) -> str:
    if (obj.get("metadata") or {}).get("deletionTimestamp"):
        return "Terminating"
    return (obj.get("status") or {}).get("phase") or ""


def _class(obj: Json) -> str:
    notes = (obj.get("metadata") or {}).get("annotations") or {}
    if BETA_CLASS in notes:
        return str(notes[BETA_CLASS])
    return (obj.get("spec") or {}).get("storageClassName") or ""
