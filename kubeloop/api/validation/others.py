"""Rules of the kinds that have few: ConfigMap, Secret, Namespace, Node, Lease, Event."""

import base64
import binascii
import json
from typing import Any, Final

from kubeloop.api import events, names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import metadata, resources, selectors

DATA_BYTES_MAX: Final = 1024 * 1024

_SEALED: Final = "field is immutable when `immutable` is set"
_REDACTED: Final = "<secret contents redacted>"
_ACCOUNT: Final = "kubernetes.io/service-account.name"
_SECRET_KEYS: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_EVENT_FIXED: Final = (
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
)
_EVENT_TEXTS: Final = (("action", 128), ("reason", 128))


def config_map(problems: Problems, obj: Json) -> None:
    """Check a ConfigMap: its keys become names of files."""
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    size = 0
    for key, text in sorted(data.items()):
        problems.invalid_each(f"data[{key}]", key, names.config_map_key(key))
        if key in binary:
            problems.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
        size += len(str(text).encode("utf-8", "surrogatepass"))
    for key, text in sorted(binary.items()):
        problems.invalid_each(f"binaryData[{key}]", key, names.config_map_key(key))
        size += _decoded_size(text)
    if size > DATA_BYTES_MAX:
        problems.too_long("[]", DATA_BYTES_MAX)


def config_map_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that an immutable ConfigMap stays as it is."""
    _sealed(problems, obj, old, ("data", "binaryData"))


def secret(problems: Problems, obj: Json) -> None:
    """Check a Secret: its keys, its size, and what its type demands."""
    data, kind = obj.get("data") or {}, obj.get("type") or ""
    size = 0
    for key, text in sorted(data.items()):
        problems.invalid_each(f"data[{key}]", key, names.config_map_key(key))
        size += _decoded_size(text)
    if size > DATA_BYTES_MAX:
        problems.too_long("data", DATA_BYTES_MAX)
    if kind == "kubernetes.io/service-account-token":
        notes = (obj.get("metadata") or {}).get("annotations") or {}
        if not notes.get(_ACCOUNT):
            problems.required(f"metadata.annotations[{_ACCOUNT}]")
    if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
        problems.required("data[username]")
        problems.required("data[password]")
    for key in _SECRET_KEYS.get(kind, ()):
        if key not in data:
            problems.required(f"data[{key}]")
        elif key.startswith(".docker") and (wrong := _not_json(data[key])):
            problems.invalid(f"data[{key}]", _REDACTED, wrong)


def secret_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a Secret keeps its type, and an immutable one everything."""
    problems.immutable("type", obj.get("type"), old.get("type"))
    _sealed(problems, obj, old, ("data",))


def namespace(problems: Problems, obj: Json) -> None:
    """Check the finalizers of a Namespace."""
    for name in (obj.get("spec") or {}).get("finalizers") or ():
        problems.invalid_each("spec.finalizers", name, names.qualified_name(name))
        if "/" not in name and name not in metadata.STANDARD_FINALIZERS:
            problems.invalid("spec.finalizers", name, metadata.NOT_A_FINALIZER)


def namespace_status(problems: Problems, obj: Json) -> None:
    """Check that a Namespace is terminating just when it is being deleted."""
    deleted = bool((obj.get("metadata") or {}).get("deletionTimestamp"))
    phase = (obj.get("status") or {}).get("phase") or ""
    if deleted and phase != "Terminating":
        detail = "may only be 'Terminating' if `deletionTimestamp` is not empty"
        problems.invalid("status.Phase", phase, detail)
    if not deleted and phase != "Active":
        detail = "may only be 'Active' if `deletionTimestamp` is empty"
        problems.invalid("status.Phase", phase, detail)


def node(problems: Problems, obj: Json) -> None:
    """Check a Node: taints, pod networks, amounts."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    # Taints stand in the spec; Kubernetes has always reported them below the metadata.
    selectors.taints(problems, "metadata.taints", items(spec, "taints"))
    for key in ("capacity", "allocatable"):
        resources.amounts(problems, f"status.{key}", maybe(status, key))
    for number, text in enumerate(spec.get("podCIDRs") or ()):
        problems.invalid_each(f"spec.podCIDRs[{number}]", text, names.cidr(text))


def node_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a Node keeps the pod network and the provider it was given."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    had = was.get("podCIDRs") or []
    if had and (spec.get("podCIDRs") or []) != had:
        detail = 'node updates may not change podCIDR except from "" to valid'
        problems.forbidden("spec.podCIDRs", detail)
    if was.get("providerID") and spec.get("providerID") != was["providerID"]:
        detail = 'node updates may not change providerID except from "" to valid'
        problems.forbidden("spec.providerID", detail)


def lease(problems: Problems, obj: Json) -> None:
    """Check a Lease."""
    spec = obj.get("spec") or {}
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        problems.invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0")
    problems.not_negative("spec.leaseTransitions", spec.get("leaseTransitions"))


def event(problems: Problems, obj: Json, controller_field: str = "reportingComponent") -> None:
    """Check an Event: it lives beside what it is about."""
    here = (obj.get("metadata") or {}).get("namespace") or ""
    there = (maybe(obj, "involvedObject") or {}).get("namespace") or ""
    if there != here and (there or here != "default"):
        problems.invalid("involvedObject.namespace", there, "does not match event.namespace")
    if not obj.get("eventTime"):
        return
    controller = obj.get("reportingComponent") or ""
    if not controller:
        problems.required(controller_field)
    problems.invalid_each(controller_field, controller, names.qualified_name(controller))
    if not obj.get("reportingInstance"):
        problems.required("reportingInstance")
    for key, length_max in _EVENT_TEXTS:
        text = obj.get(key) or ""
        if not text:
            problems.required(key)
        elif len(text) > length_max:
            problems.invalid(key, "", f"can have at most {length_max} characters")
    if len(obj.get("message") or "") > 1024:
        problems.invalid("message", "", "can have at most 1024 characters")


def modern_event(problems: Problems, obj: Json) -> None:
    """Check an Event of events.k8s.io: of its fields the names in storage are told."""
    event(problems, events.stored(obj), "reportingController")


def modern_event_new(problems: Problems, obj: Json) -> None:
    """Check a new Event of events.k8s.io: it has a time, and none of what is deprecated."""
    name, told = (obj.get("metadata") or {}).get("name") or "", events.stored(obj)
    problems.invalid_each("metadata.name", name, names.dns1123_subdomain(name))
    _series(problems, told)
    if not told["eventTime"]:
        problems.required("eventTime")
    if told.get("type") not in ("Normal", "Warning"):
        problems.invalid("type", "", f"has invalid value: {told.get('type') or ''}")
    for field in ("firstTimestamp", "lastTimestamp", "count", "source"):
        if told.get(field):
            problems.invalid(field, "", "needs to be unset")


def modern_event_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that of an Event of events.k8s.io only the series goes on."""
    told, was = events.stored(obj), events.stored(old)
    if told.get("series") != was.get("series"):
        _series(problems, told)
    for field in _EVENT_FIXED:
        shown = "reportingController" if field == "reportingComponent" else field
        problems.immutable(shown, told.get(field), was.get(field))


def _series(problems: Problems, told: Json) -> None:
    series = maybe(told, "series")
    if series is None:
        return
    if (series.get("count") or 0) < 2:
        problems.invalid("series.count", "", "should be at least 2")
    if not series.get("lastObservedTime"):
        problems.required("series.lastObservedTime")


def _sealed(problems: Problems, obj: Json, old: Json, keys: tuple[str, ...]) -> None:
    if not old.get("immutable"):
        return
    if not obj.get("immutable"):
        problems.forbidden("immutable", _SEALED)
    for key in keys:
        if (obj.get(key) or {}) != (old.get(key) or {}):
            problems.forbidden(key, _SEALED)


def _decoded_size(text: Any) -> int:
    """Return how many bytes a base64 text stands for."""
    stripped = str(text or "").rstrip("=")
    return len(stripped) * 3 // 4


def _not_json(text: Any) -> str:
    """Return what is wrong with a base64 text that should hold JSON, "" if nothing is."""
    try:
        json.loads(base64.b64decode(str(text)))
    except (ValueError, binascii.Error) as error:
        return str(error)
    return ""
