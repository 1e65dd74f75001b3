"""OpenAPI schemas: the types of schema.msgpack in the dialects of OpenAPI v2 and v3.

Descriptions are what `kubectl explain` is for, and too large to ship: they are read from the
`kubernetes-validate` package where it is installed (the `explain` extra), and left out otherwise.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from kubeloop.api.typetable import Spec, Type, schema

META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
PATCH: Final = f"{META}Patch"  # Any JSON; no kind of its own, so no row of the table.

_EXTENSIONS: Final = {
    "mergeKey": "x-kubernetes-patch-merge-key",
    "strategy": "x-kubernetes-patch-strategy",
    "listType": "x-kubernetes-list-type",
    "listKeys": "x-kubernetes-list-map-keys",
    "mapType": "x-kubernetes-map-type",
}
_SCALARS: Final[Mapping[str, Mapping[str, Any]]] = {
    "string": {"type": "string"},
    "bytes": {"type": "string", "format": "byte"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "boolean": {"type": "boolean"},
    "number": {"type": "number", "format": "double"},
}
_TIME: Final = {"type": "string", "format": "date-time"}
_FORMS: Final[Mapping[str, Mapping[str, Any]]] = {
    "any": {"type": "object"},
    "time": _TIME,
    "microTime": _TIME,
    "quantity": {"oneOf": [{"type": "string"}, {"type": "number"}]},
    "intOrString": {
        "format": "int-or-string",
        "oneOf": [{"type": "integer"}, {"type": "string"}],
    },
}
_FORMS_V2: Final[Mapping[str, Mapping[str, Any]]] = {
    "quantity": {"type": "string"},
    "intOrString": {"type": "string", "format": "int-or-string"},
}


def schemas(roots: Iterable[str], *, v3: bool) -> dict[str, Any]:
    """Return the schemas of the types `roots`, and of all they can reach, by name."""
    described = _descriptions()
    found: dict[str, Any] = {}
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name in found:
            continue
        if name == PATCH:
            found[name] = {"type": "object"}
            continue
        told = schema().type(name)
        found[name] = _schema(told, described.get(name, {}), v3=v3)
        pending += [_named(spec) for spec in told.fields.values() if _named(spec)]
    return dict(sorted(found.items()))


def reference(name: str, *, v3: bool) -> dict[str, str]:
    """Return the reference to a type."""
    return {"$ref": f"#/{'components/schemas' if v3 else 'definitions'}/{name}"}


def _named(spec: Spec) -> str:
    """Return the type that a field, or its elements, are of; "" for scalars."""
    while spec.element is not None:
        spec = spec.element
    return spec.type


def _schema(told: Type, described: Mapping[str, Any], *, v3: bool) -> dict[str, Any]:
    made: dict[str, Any] = {}
    if "description" in described:
        made["description"] = described["description"]
    if told.form != "object":
        special = _FORMS if v3 or told.form not in _FORMS_V2 else _FORMS_V2
        return made | dict(special[told.form])
    made["type"] = "object"
    if told.required:
        made["required"] = list(told.required)
    texts = described.get("properties", {})
    made["properties"] = {
        field: _property(spec, texts.get(field, {}).get("description", ""), v3=v3)
        for field, spec in told.fields.items()
    }
    made |= _extensions(told.facts)
    kinds = _kinds_of().get(told.name)
    if kinds:
        made["x-kubernetes-group-version-kind"] = kinds
    return made


def _property(spec: Spec, description: str, *, v3: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"description": description} if description else {}
    if spec.type:
        target = reference(spec.type, v3=v3)
        # OpenAPI 3.0 ignores what stands beside a reference.
        made |= {"allOf": [target]} if v3 else target
    elif spec.element is None:
        made |= _SCALARS[spec.form]
    else:
        inner = "items" if spec.form == "list" else "additionalProperties"
        made["type"] = "array" if spec.form == "list" else "object"
        made[inner] = _property(spec.element, "", v3=v3)
    return made | _extensions(spec.facts)


def _extensions(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {_EXTENSIONS[fact]: value for fact, value in facts.items() if fact in _EXTENSIONS}


@cache
def _kinds_of() -> Mapping[str, list[dict[str, str]]]:
    """Return the kinds each type is the type of."""
    found: dict[str, list[dict[str, str]]] = {}
    for (api_version, kind), name in schema().kinds.items():
        group, _, version = api_version.rpartition("/")
        found.setdefault(name, []).append({"group": group, "kind": kind, "version": version})
    return found


@cache
def _descriptions() -> Mapping[str, Any]:
    """Return Kubernetes' published schemas; none if the package is not installed."""
    package = find_spec("kubernetes_validate")  # Finds it without the cost of importing it.
    if package is None or not package.submodule_search_locations:
        return {}
    folder = Path(package.submodule_search_locations[0]) / "kubernetes-json-schema"
    file = folder / f"v{schema().version}-local" / "_definitions.json"
    found: Mapping[str, Any] = json.loads(file.read_bytes())["$defs"] if file.exists() else {}
    return found
