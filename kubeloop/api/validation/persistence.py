"""Rules of PersistentVolumes and of the claims to them."""

import posixpath
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.admission.volumes import BETA_CLASS, source_of
from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.problems import Problems, diff
from kubeloop.api.validation import resources, selectors, volumes
from kubeloop.api.validation.resources import number

MODES: Final = ("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod")
_VOLUME_MODES: Final = ("Block", "Filesystem")
_RECLAIM: Final = ("Delete", "Recycle", "Retain")
_FIXED: Final = (
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for"
    " bound claims"
)


def volume(problems: Problems, obj: Json) -> None:
    """Check the spec of a PersistentVolume."""
    spec = obj.get("spec") or {}
    _access_modes(problems, spec, "")
    capacity = maybe(spec, "capacity") or {}
    if not capacity:
        problems.required("spec.capacity")
    if "storage" not in capacity or len(capacity) > 1:
        problems.unsupported("spec.capacity", capacity or None, ("storage",))
    for name, text in sorted(capacity.items()):
        resources.amount(problems, f"spec.capacity[{name}]", "storage", text)
        resources.positive(problems, f"spec.capacity[{name}]", text)
    policy = spec.get("persistentVolumeReclaimPolicy") or ""
    if policy:
        problems.one_of("spec.persistentVolumeReclaimPolicy", policy, _RECLAIM)
    required = maybe(maybe(spec, "nodeAffinity"), "required")
    if maybe(spec, "nodeAffinity") is not None:
        if required is None:
            detail = "must specify required node constraints"
            problems.required("spec.nodeAffinity.required", detail)
        else:
            selectors.node_selector(problems, "spec.nodeAffinity.required", required)
    _source(problems, spec, has_affinity=required is not None)
    path = (maybe(spec, "hostPath") or {}).get("path") or ""
    if path and posixpath.normpath(path) == "/" and policy == "Recycle":
        detail = "may not be 'recycle' for a hostPath mount of '/'"
        problems.forbidden("spec.persistentVolumeReclaimPolicy", detail)
    _class_and_mode(problems, spec)


def volume_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a PersistentVolume stays where it is."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    if source_of(spec) != source_of(was):
        detail = f"spec.persistentvolumesource is immutable after creation\n{_changed(spec, was)}"
        problems.forbidden("spec.persistentvolumesource", detail)
    problems.immutable("volumeMode", spec.get("volumeMode"), was.get("volumeMode"))
    if was.get("nodeAffinity") is not None:
        problems.immutable("nodeAffinity", spec.get("nodeAffinity"), was["nodeAffinity"])


def claim(problems: Problems, obj: Json) -> None:
    """Check the spec of a PersistentVolumeClaim."""
    spec = obj.get("spec") or {}
    _access_modes(problems, spec, "at least 1 access mode is required")
    selectors.label_selector(problems, "spec.selector", maybe(spec, "selector"))
    asked = (maybe(maybe(spec, "resources"), "requests") or {}).get("storage")
    if asked is None:
        problems.required("spec.resources[storage]")
    elif (number(asked) or 0) <= 0:
        resources.positive(problems, "spec.resources[storage]", asked)
    else:
        resources.amount(problems, "spec.resources[storage]", "storage", asked)
    _class_and_mode(problems, spec)
    for key in ("dataSource", "dataSourceRef"):
        if (source := maybe(spec, key)) is not None:
            _data_source(problems, f"spec.{key}", source)


def claim_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a claim stays what it is, but for its size and its attributes."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    before = dict(was)
    if not was.get("volumeName"):  # It may be bound, once.
        before = _with(before, "volumeName", spec.get("volumeName"))
    after = _with(spec, "volumeAttributesClassName", was.get("volumeAttributesClassName"))
    notes = (old.get("metadata") or {}).get("annotations") or {}
    if was.get("storageClassName") is None and BETA_CLASS not in notes:  # Nor had it any class.
        after = _with(after, "storageClassName", None)
    size, had = _size(spec), _size(was)
    if (obj.get("status") or {}).get("phase") == "Bound" and size is not None:
        requests = {**after["resources"]["requests"], "storage": had}
        after = {**after, "resources": {**after["resources"], "requests": requests}}
    if after != before:
        problems.forbidden("spec", f"{_FIXED}\n{diff(after, before)}")
    status_size = number(((old.get("status") or {}).get("capacity") or {}).get("storage")) or 0
    asked = number(size) or 0
    if asked < (number(had) or 0) and asked <= status_size:
        detail = "field can not be less than status.capacity"
        problems.forbidden("spec.resources.requests.storage", detail)
    problems.immutable("spec.volumeMode", spec.get("volumeMode"), was.get("volumeMode"))
    if was.get("volumeAttributesClassName") is not None:
        told = spec.get("volumeAttributesClassName")
        if not told:
            what = "nil" if told is None else "an empty string"
            detail = f"update from non-nil value to {what} is forbidden"
            problems.forbidden("spec.volumeAttributesClassName", detail)


def claim_status(problems: Problems, obj: Json) -> None:
    """Check the amounts in the status of a claim."""
    status = obj.get("status") or {}
    for name, text in sorted((maybe(status, "capacity") or {}).items()):
        resources.amount(problems, f"status.capacity[{name}]", "storage", text)


def class_name(problems: Problems, field: str, name: str) -> None:
    """Check the name of a class, if there is one."""
    if name:
        problems.invalid_each(field, name, names.dns1123_subdomain(name))


def driver_name(problems: Problems, field: str, name: str) -> None:
    """Check the name of a CSI driver."""
    if not name:
        problems.required(field)
    if len(name) > names.LABEL_MAX:
        problems.too_long(field, names.LABEL_MAX)
    problems.invalid_each(field, name, names.dns1123_subdomain(name.lower()))


def _access_modes(problems: Problems, spec: Json, missing: str) -> None:
    modes = spec.get("accessModes") or []
    if not modes:
        problems.required("spec.accessModes", missing)
    for mode in modes:
        problems.one_of("spec.accessModes", mode, MODES)
    if "ReadWriteOncePod" in modes and {*modes} & {*MODES} != {"ReadWriteOncePod"}:
        detail = "may not use ReadWriteOncePod with other access modes"
        problems.forbidden("spec.accessModes", detail)


def _class_and_mode(problems: Problems, spec: Json) -> None:
    class_name(problems, "spec.storageClassName", spec.get("storageClassName") or "")
    if (mode := spec.get("volumeMode")) is not None:
        problems.one_of("spec.volumeMode", mode, _VOLUME_MODES)
    attributes = spec.get("volumeAttributesClassName")
    class_name(problems, "spec.volumeAttributesClassName", attributes or "")


def _source(problems: Problems, spec: Json, *, has_affinity: bool) -> None:
    volumes.source(problems, "spec", source_of(spec))
    path = (maybe(spec, "nfs") or {}).get("path") or "/"
    if not path.startswith("/"):
        problems.invalid("spec.nfs.path", path, "must be an absolute path")
    if (csi := maybe(spec, "csi")) is not None:
        driver_name(problems, "spec.csi.driver", csi.get("driver") or "")
        if not csi.get("volumeHandle"):
            problems.required("spec.csi.volumeHandle")
    if (local := maybe(spec, "local")) is not None:
        if not local.get("path"):
            problems.required("spec.local.path")
        else:
            volumes.no_backsteps(problems, "spec.local.path", local["path"])
        if not has_affinity:
            problems.required("spec.nodeAffinity", "Local volume requires node affinity")


def _changed(spec: Json, was: Json) -> str:
    return diff(source_of(spec), source_of(was))


def _with(spec: Json, key: str, value: Any) -> Json:
    """Return a spec with one field as told; None: without it."""
    kept = {k: v for k, v in spec.items() if k != key}
    return kept if value is None else {**kept, key: value}


def _size(spec: Json) -> Any:
    return (maybe(maybe(spec, "resources"), "requests") or {}).get("storage")


def _data_source(problems: Problems, field: str, source: Json) -> None:
    for key in ("name", "kind"):
        if not source.get(key):
            problems.required(f"{field}.{key}")
    group = source.get("apiGroup") or ""
    if not group and source.get("kind") not in ("PersistentVolumeClaim", "", None):
        detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup"
        problems.invalid(field, source["kind"], detail)
    if group:
        problems.invalid_each(f"{field}.apiGroup", group, names.dns1123_subdomain(group))
