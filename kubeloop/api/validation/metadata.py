"""Rules of ObjectMeta, which every object has.

Source: k8s.io/apimachinery/pkg/api/validation/objectmeta.go.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json
from kubeloop.api.problems import Problems, quote
from kubeloop.api.resources import Resource

ANNOTATIONS_BYTES_MAX: Final = 256 * 1024

_NAME_CHECKS: Final[Mapping[str, names.Check]] = {
    "CSIDriver": names.path_segment,  # A rule of its own looks at the name.
    "APIService": names.path_segment,  # A rule of its own looks at the name.
    "CertificateSigningRequest": names.path_segment,
    "ClusterRole": names.path_segment,
    "ClusterRoleBinding": names.path_segment,
    "Event": names.path_segment,
    "IPAddress": names.path_segment,  # A rule of its own looks at the name.
    "Namespace": names.dns1123_label,
    "Role": names.path_segment,
    "RoleBinding": names.path_segment,
    "Service": names.dns1123_label,
    "StatefulSet": names.dns1123_label,  # Its pods' hostnames begin with it.
}
_OWNER_KEYS: Final = ("apiVersion", "kind", "name", "uid", "controller", "blockOwnerDeletion")
_EXTENSIONS: Final = "apiextensions.k8s.io"
_ORPHAN: Final = "orphan"
_FOREGROUND: Final = "foregroundDeletion"
STANDARD_FINALIZERS: Final = ("kubernetes", _ORPHAN, _FOREGROUND)
NOT_A_FINALIZER: Final = "name is neither a standard finalizer name nor is it fully qualified"


def name_check(kind: str) -> names.Check:
    """Return the rule for names of objects of `kind`."""
    return _NAME_CHECKS.get(kind, names.dns1123_subdomain)


def on_create(problems: Problems, resource: Resource, meta: Json) -> None:
    """Check the metadata of a new object whose name, if generated, has been generated."""
    check = names.dns1123_subdomain if resource.custom else name_check(resource.kind)
    name, prefix = meta.get("name") or "", meta.get("generateName") or ""
    if prefix:
        problems.invalid_each("metadata.generateName", prefix, names.generated(check)(prefix))
    if name:
        problems.invalid_each("metadata.name", name, check(name))
    else:
        problems.required("metadata.name", "name or generateName is required")
    _namespace(problems, resource, meta.get("namespace") or "")
    problems.not_negative("metadata.generation", meta.get("generation"))
    _common(problems, meta)
    finalizers(problems, "metadata.finalizers", meta.get("finalizers") or ())
    _standard_finalizers(problems, resource, meta)


def on_update(problems: Problems, resource: Resource, meta: Json, old: Json) -> None:
    """Check changed metadata. What only the server sets may be left out: it stays as it was."""
    had, has = set(old.get("finalizers") or ()), set(meta.get("finalizers") or ())
    if old.get("deletionTimestamp") and (more := sorted(has - had)):
        found = ", ".join(quote(name) for name in more)
        problems.forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers"
            f" []string{{{found}}}",
        )
    if "generation" in meta and meta["generation"] < old.get("generation", 0):
        problems.invalid("metadata.generation", meta["generation"], "must not be decremented")
    for key in ("name", "namespace"):
        problems.immutable(f"metadata.{key}", meta.get(key) or "", old.get(key) or "")
    for key in ("uid", "creationTimestamp"):
        problems.immutable(f"metadata.{key}", meta.get(key) or old.get(key), old.get(key))
    for key in ("deletionTimestamp", "deletionGracePeriodSeconds"):
        problems.immutable(f"metadata.{key}", meta.get(key), old.get(key))
    _common(problems, meta)
    _standard_finalizers(problems, resource, meta)


def sorted_labels(values: Mapping[str, Any] | None) -> Json | None:
    """Return labels as Go prints a map: in the order of their keys; None stays None."""
    return None if values is None else dict(sorted(values.items()))


def labels(problems: Problems, field: str, values: Mapping[str, Any] | None) -> None:
    """Check labels: keys are qualified names, values label values."""
    for key, value in sorted((values or {}).items()):
        problems.invalid_each(field, key, names.qualified_name(key))
        if isinstance(value, str):
            problems.invalid_each(field, value, names.label_value(value))


def annotations(problems: Problems, field: str, values: Mapping[str, Any] | None) -> None:
    """Check annotations: keys are qualified names in any case; all together are not too large."""
    size = 0
    for key, value in sorted((values or {}).items()):
        problems.invalid_each(field, key, names.qualified_name(key.lower()))
        size += len(key.encode()) + len(str(value).encode())
    if size > ANNOTATIONS_BYTES_MAX:
        problems.too_long(field, ANNOTATIONS_BYTES_MAX)


def finalizers(problems: Problems, field: str, values: Sequence[str]) -> None:
    """Check the names of finalizers; dependents are either orphaned or waited for."""
    for name in values:
        problems.invalid_each(field, name, names.qualified_name(name))
    if _ORPHAN in values and _FOREGROUND in values:
        detail = f"finalizer {_ORPHAN} and {_FOREGROUND} cannot be both set"
        problems.invalid(field, list(values), detail)


def _standard_finalizers(problems: Problems, resource: Resource, meta: Json) -> None:
    if resource.custom is not None or resource.group == _EXTENSIONS:
        return  # Their registry has no such rule: names that are not qualified are in use.
    for number, name in enumerate(meta.get("finalizers") or ()):
        if "/" not in name and name not in STANDARD_FINALIZERS:
            problems.invalid(f"metadata.finalizers[{number}]", name, NOT_A_FINALIZER)


def _namespace(problems: Problems, resource: Resource, namespace: str) -> None:
    field = "metadata.namespace"
    if not resource.namespaced:
        if namespace:
            problems.forbidden(field, "not allowed on this type")
    elif namespace:
        problems.invalid_each(field, namespace, names.dns1123_label(namespace))
    else:
        problems.required(field)


def _common(problems: Problems, meta: Json) -> None:
    labels(problems, "metadata.labels", meta.get("labels"))
    annotations(problems, "metadata.annotations", meta.get("annotations"))
    _owners(problems, "metadata.ownerReferences", meta.get("ownerReferences") or [])


def _owners(problems: Problems, field: str, owners: Sequence[Json]) -> None:
    shown = [{key: owner[key] for key in _OWNER_KEYS if key in owner} for owner in owners]
    controller = ""
    for number, owner in enumerate(owners):
        api_version, kind = owner.get("apiVersion") or "", owner.get("kind") or ""
        if not api_version.rpartition("/")[2]:
            problems.invalid(f"{field}.apiVersion", api_version, "version must not be empty")
        for key in ("kind", "name", "uid"):
            if not owner.get(key):
                problems.invalid(f"{field}.{key}", owner.get(key) or "", "must not be empty")
        if (api_version, kind) == ("v1", "Event"):
            detail = "/v1, Kind=Event is disallowed from being an owner"
            problems.invalid(field, shown[number], detail)
        if owner.get("controller"):
            this = f"{kind}/{owner.get('name') or ''}"
            if controller:
                detail = (
                    'Only one reference can have Controller set to true. Found "true" in'
                    f" references for {controller} and {this}"
                )
                problems.invalid(field, shown, detail)
            controller = controller or this
