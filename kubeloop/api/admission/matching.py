"""What a request is about to do, and who wants to have a say in it: rules and selectors. Pure.

Source: Kubernetes, "Dynamic Admission Control: Matching requests"; "Validating Admission Policy".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.identity import groups_of
from kubeloop.api.resources import Resource
from kubeloop.api.selectors import label_selector

GROUP: Final = "admissionregistration.k8s.io"
_BY_SUBRESOURCE: Final = {"scale": ("autoscaling", "v1", "Scale")}

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a request is about to do.

    operation: CREATE, UPDATE, DELETE.
    obj, old:  the object as it is to be, None if it goes; as it is, None if it comes.
    asked:     the resource the request speaks of, if a rule matched it as another one.
    """

    operation: str
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Object | None
    old: Object | None
    user: str
    options: Mapping[str, Any]
    dry_run: bool = False
    asked: Resource | None = None
    groups: Sequence[str] = ()

    @property
    def qualified(self) -> str:
        """What it is about, as errors tell it: `pods "x"`."""
        metadata = (self.obj or {}).get("metadata") or {}
        name = self.name or metadata.get("name") or metadata.get("generateName") or "Unknown"
        return f'{(self.asked or self.resource).id} "{name}"'


def fits(rule: Mapping[str, Any], about: Attributes) -> bool:
    """Tell whether a request is one that a rule is about."""
    resource = about.resource
    scope = rule.get("scope") or "*"
    return (
        _has(rule.get("operations"), about.operation)
        and _has(rule.get("apiGroups"), resource.group)
        and _has(rule.get("apiVersions"), resource.version)
        and (scope == "*" or (scope == "Namespaced") == resource.namespaced)
        and any(_names(one, about) for one in rule.get("resources") or ())
    )


def _has(told: Iterable[str] | None, wanted: str) -> bool:
    return any(one in ("*", wanted) for one in told or ())


def _names(told: str, about: Attributes) -> bool:
    """Tell whether "pods", "pods/status", "*/scale", "pods/*", "*" or "*/*" is what is meant."""
    resource, slash, sub = told.partition("/")
    if resource not in ("*", about.resource.plural):
        return False
    return (sub in ("*", about.subresource)) if slash else not about.subresource


def selected(
    told: Mapping[str, Any], about: Attributes, namespace: Mapping[str, Any] | None
) -> bool:
    """Tell whether namespaceSelector and objectSelector choose what a request is about.

    namespace: the one of the request, None if none is.
    """
    if not _in_namespace(told.get("namespaceSelector"), about, namespace):
        return False
    chosen = label_selector(told.get("objectSelector") or {})
    labels = [_labels(obj) for obj in (about.obj, about.old) if obj is not None]
    return any(chosen.matches(one) for one in labels or [{}])


def _in_namespace(
    selector: Mapping[str, Any] | None, about: Attributes, namespace: Mapping[str, Any] | None
) -> bool:
    if not selector:
        return True
    if about.resource.id == "namespaces":
        namespace = about.obj if about.obj is not None else about.old
    elif not about.resource.namespaced:
        return True
    return label_selector(selector).matches(_labels(namespace or {}))


def _labels(obj: Mapping[str, Any]) -> Mapping[str, str]:
    return (obj.get("metadata") or {}).get("labels") or {}


def request_of(about: Attributes, uid: str) -> dict[str, Any]:
    """Return the AdmissionRequest of a review."""
    resource, original = about.resource, about.asked or about.resource
    of_resource, of_original = _resource_of(resource), _resource_of(original)
    asked: dict[str, Any] = {
        "uid": uid,
        "kind": _kind_of(resource, about.subresource),
        "resource": of_resource,
        "requestKind": _kind_of(original, about.subresource),
        "requestResource": of_original,
        "operation": about.operation,
        "userInfo": {"username": about.user, "groups": groups_of(about.user, about.groups)},
        "object": about.obj,
        "oldObject": about.old,
        "dryRun": about.dry_run,
        "options": dict(about.options),
    }
    if about.name:
        asked["name"] = about.name
    if about.namespace:
        asked["namespace"] = about.namespace
    elif resource.id == "namespaces":
        asked["namespace"] = about.name
    if about.subresource:
        asked["subResource"] = asked["requestSubResource"] = about.subresource
    return asked


def _kind_of(resource: Resource, subresource: str) -> dict[str, str]:
    known = resource.subresource(subresource) if subresource else None
    group, version, kind = _BY_SUBRESOURCE.get(
        subresource, (resource.group, resource.version, resource.kind)
    )
    if known is not None and known.kind:
        group, version, kind = known.group, known.version or resource.version, known.kind
    return {"group": group, "version": version, "kind": kind}


def _resource_of(resource: Resource) -> dict[str, str]:
    return {"group": resource.group, "version": resource.version, "resource": resource.plural}
