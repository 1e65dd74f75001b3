"""OpenAPI of custom resources: the schemas of their definitions, as this API publishes them.

Source: k8s.io/apiextensions-apiserver, pkg/controller/openapi/builder, in behaviour.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.api.openapi_schemas import META, reference
from kubeloop.api.resources import Resource

_DROPPED_V2: Final = (
    *("allOf", "anyOf", "oneOf", "not", "nullable", "default", "x-kubernetes-validations"),
)
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_EITHER: Final = "x-kubernetes-int-or-string"
_API_VERSION: Final = {
    "type": "string",
    "description": "APIVersion defines the versioned schema of this representation of an object.",
}
_KIND: Final = {
    "type": "string",
    "description": "Kind is a string value representing the REST resource this object represents.",
}


def custom_name(resource: Resource, kind: str) -> str:
    """Return the name of a kind's schema: "io.rec.v1.Foo"."""
    group = ".".join(reversed(resource.group.split(".")))
    return f"{group}.{resource.version}.{kind}"


def custom_schemas(resources: Iterable[Resource], *, v3: bool) -> dict[str, Any]:
    """Return the schemas of the custom kinds among some resources, and of their lists, by name."""
    found: dict[str, Any] = {}
    for resource in resources:
        if resource.custom is None:
            continue
        own, listed = custom_name(resource, resource.kind), resource.list_kind
        found[own] = _kind(resource, v3=v3)
        found[custom_name(resource, listed)] = _list(resource, own, v3=v3)
    return found


def _kind(resource: Resource, *, v3: bool) -> dict[str, Any]:
    assert resource.custom is not None
    told = (resource.custom.version.get("schema") or {}).get("openAPIV3Schema") or {}
    made = dict(told) if v3 else _swagger(told)
    if not (made.get("properties") or v3):
        made.pop("properties", None)
    if v3 or not told.get(_KEEP):
        made["properties"] = {
            **(made.get("properties") or {}),
            "apiVersion": _API_VERSION,
            "kind": _KIND,
            "metadata": _metadata(v3=v3),
        }
    return {**made, "type": "object", **_group_version_kind(resource, resource.kind)}


def _list(resource: Resource, item: str, *, v3: bool) -> dict[str, Any]:
    target = reference(f"{META}ListMeta", v3=v3)
    return {
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": _API_VERSION,
            "items": {"type": "array", "items": reference(item, v3=v3)},
            "kind": _KIND,
            "metadata": {"allOf": [target]} if v3 else target,
        },
        **_group_version_kind(resource, resource.list_kind),
    }


def _metadata(*, v3: bool) -> dict[str, Any]:
    target: dict[str, Any] = reference(f"{META}ObjectMeta", v3=v3)
    return {"allOf": [target]} if v3 else target


def _group_version_kind(resource: Resource, kind: str) -> dict[str, Any]:
    told = {"group": resource.group, "kind": kind, "version": resource.version}
    return {"x-kubernetes-group-version-kind": [told]}


def _swagger(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a schema without what OpenAPI v2 cannot say."""
    made = {key: value for key, value in told.items() if key not in _DROPPED_V2}
    if told.get(_KEEP):
        for key in ("properties", "items", "type"):
            made.pop(key, None)
        return {**made, "type": "object"} if told.get("type") == "object" else made
    if told.get(_EITHER):
        made.pop("type", None)
    if told.get("nullable"):
        for key in ("type", "items", "properties"):
            made.pop(key, None)
        return made
    if told.get("properties"):
        made["properties"] = {name: _swagger(one) for name, one in told["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(told.get(key), Mapping):
            made[key] = _swagger(told[key])
    return made
