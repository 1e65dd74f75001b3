"""Manifests of custom kinds, drawn from the structural schema of a definition."""

import string
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from kubeloop.api.custom import CustomKind
from kubeloop.api.rules import Rules
from kubeloop.chaos.manifests.tools import NAMES, headed, labels, object_of

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Schema = Mapping[str, Any]

_MOST: Final = 3  # Items of a list, fields of a map, where the schema sets no limit.
_INT32: Final = (-(2**31), 2**31 - 1)
_INT64: Final = (-(2**63), 2**63 - 1)
_TEXT: Final = string.ascii_letters + string.digits + " -_.é"
_FORMATS: Final = {
    "date-time": ["2026-01-01T00:00:00Z", "1999-12-31T23:59:59Z"],
    "date": ["2026-01-01", "1999-12-31"],
    "duration": ["0s", "1h30m", "250ms"],
    "byte": ["", "Yg==", "aGVsbG8="],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "ipv4": ["127.0.0.1", "10.0.0.1"],
    "ipv6": ["::1", "2001:db8::1"],
    "cidr": ["10.0.0.0/8", "2001:db8::/32"],
    "hostname": ["localhost", "a.example"],
    "email": ["a@b.example"],
    "uri": ["http://a.example/b", "/c"],
    "mac": ["01:23:45:67:89:ab"],
}


def of_definition(
    definition: Mapping[str, Any], *, name: str, namespace: str
) -> "SearchStrategy[dict[str, Any]]":
    """Return manifests of the version that a definition stores. What its rules refuse is left out.

    Raises: ValueError for a definition that stores no version with a schema.
    """
    spec = definition["spec"]
    stored = next((one for one in spec["versions"] if one.get("storage")), None)
    schema = ((stored or {}).get("schema") or {}).get("openAPIV3Schema")
    if stored is None or not schema:
        whose = definition["metadata"].get("name")
        raise ValueError(
            f"{whose}: a definition needs a version that is stored and has a schema, "
            "spec.versions[*].schema.openAPIV3Schema: else nobody knows its objects"
        )
    custom, rules = CustomKind(definition, stored), Rules(schema)
    head = headed(custom.api_version, spec["names"]["kind"], name=name, namespace=namespace)
    told = {k: v for k, v in (schema.get("properties") or {}).items() if k not in head}
    if custom.has_status:
        told.pop("status", None)  # A creator's status is dropped.
    wanted = [field for field in schema.get("required") or () if field in told]
    body = object_of({field: _value(one) for field, one in told.items()}, wanted)

    def holds(obj: dict[str, Any]) -> bool:
        whole = {**obj}
        custom.default(whole)
        return not custom.structural.problems(whole) and not rules.broken(whole)

    return body.flatmap(lambda fields: head["metadata"].map(
        lambda metadata: {"apiVersion": head["apiVersion"], "kind": head["kind"],
                          "metadata": metadata, **fields}
    )).filter(holds)  # fmt: skip


def _value(schema: Schema) -> "SearchStrategy[Any]":
    """Return values of a part of a schema."""
    from hypothesis import strategies as st

    if "enum" in schema:
        return st.sampled_from(list(schema["enum"]))
    if schema.get("x-kubernetes-int-or-string"):
        return st.integers(0, 100) | st.sampled_from(["10%", "http", ""])
    match schema.get("type"):
        case "string":
            return _text(schema)
        case "integer":
            return _integer(schema)
        case "number":
            least, most = schema.get("minimum", -1e9), schema.get("maximum", 1e9)
            return st.floats(least, most, allow_nan=False, width=32 if least == -1e9 else 64)
        case "boolean":
            return st.booleans()
        case "array":
            return _list(schema)
        case "object":
            return _object(schema)
    return st.none() | st.booleans() | st.integers(-9, 9) | st.text(_TEXT, max_size=8)


def _text(schema: Schema) -> "SearchStrategy[str]":
    from hypothesis import strategies as st

    least, most = schema.get("minLength", 0), schema.get("maxLength", 20)
    if known := _FORMATS.get(schema.get("format") or ""):
        return st.sampled_from(known)
    if pattern := schema.get("pattern"):
        found = st.from_regex(pattern.replace(r"\z", r"\Z"))
        return found.filter(lambda text: least <= len(text) <= most and "\n" not in text)
    return st.text(_TEXT, min_size=least, max_size=most)


def _integer(schema: Schema) -> "SearchStrategy[int]":
    from hypothesis import strategies as st

    low, high = _INT32 if schema.get("format") == "int32" else _INT64
    low, high = (
        max(low, int(schema.get("minimum", low))),
        min(high, int(schema.get("maximum", high))),
    )
    low += bool(schema.get("exclusiveMinimum"))
    high -= bool(schema.get("exclusiveMaximum"))
    step = int(schema.get("multipleOf", 1))
    return st.integers(-(-low // step), high // step).map(lambda number: number * step)


def _list(schema: Schema) -> "SearchStrategy[list[Any]]":
    from hypothesis import strategies as st

    least = schema.get("minItems", 0)
    most = min(schema.get("maxItems", least + _MOST), least + _MOST)
    items = _value(schema.get("items") or {})
    unique: Any = None
    if schema.get("x-kubernetes-list-type") == "set":
        unique = repr
    elif schema.get("x-kubernetes-list-type") == "map":
        keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())

        def unique(item: Any) -> Any:
            return repr([item.get(key) for key in keys])

    return st.lists(items, min_size=least, max_size=most, unique_by=unique)


def _object(schema: Schema) -> "SearchStrategy[dict[str, Any]]":
    from hypothesis import strategies as st

    if schema.get("x-kubernetes-embedded-resource"):
        return st.just({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "inner"}})
    properties = schema.get("properties") or {}
    if properties:
        wanted = [field for field in schema.get("required") or () if field in properties]
        return object_of({field: _value(one) for field, one in properties.items()}, wanted)
    inner = schema.get("additionalProperties")
    if isinstance(inner, Mapping):
        least = schema.get("minProperties", 0)
        most = min(schema.get("maxProperties", least + _MOST), least + _MOST)
        return st.dictionaries(st.sampled_from(NAMES), _value(inner), min_size=least, max_size=most)
    return labels() if schema.get("x-kubernetes-preserve-unknown-fields") else st.just({})
