"""Types: what the fields of every kind are called, of what type they are, how their lists merge.

The table `schema.msgpack` is made by tools/generate_schema.py from Kubernetes' published schemas:

    version: "1.37.0"
    kinds:   [[group, version, kind, type], …]          `type` is an index into `types`
    types:   [[name, form, required, {field: spec}, facts?], …]
    spec:    type index | scalar | [type index | scalar | "list" | "map", element spec, facts?]

It is read on first use, and a type's entry is unfolded on first use of the type.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import msgpack

_NO_FACTS: Final[Mapping[str, Any]] = {}
_GO_SCALARS: Final = {
    "string": "string",
    "bytes": "[]uint8",
    "int32": "int32",
    "int64": "int64",
    "boolean": "bool",
    "number": "float64",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What one field, list element or map value is.

    form:    "object" (see `type`), "list", "map" (see `element`), or a scalar: "string", "bytes",
             "int32", "int64", "boolean", "number".
    type:    the name of its type, for an object.
    go:      what Go calls it, as errors show it: "[]v1.Container".
    """

    form: str
    go: str
    type: str = ""
    element: "Spec | None" = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def merge_key(self) -> str:
        """The field by which a strategic merge patch finds the elements of this list, or ""."""
        return str(self.facts.get("mergeKey", ""))

    @property
    def strategies(self) -> tuple[str, ...]:
        """Of a strategic merge patch: "merge", "replace", "retainKeys"; usually none."""
        told = self.facts.get("strategy", "")
        return tuple(told.split(",")) if told else ()


@dataclass(frozen=True, slots=True)
class Type:
    """A named type. form: "object", "any" (free JSON), "quantity", "intOrString", "time", …"""

    name: str
    form: str
    required: tuple[str, ...]
    fields: Mapping[str, Spec]
    facts: Mapping[str, Any]

    @property
    def go(self) -> str:
        """Return what Go calls it: "v1.Container"."""
        return _go(self.name)


@dataclass(frozen=True)
class Schema:
    """All types, by name ("io.k8s.api.core.v1.Pod"), and the name of every kind's type."""

    version: str
    kinds: Mapping[tuple[str, str], str]
    raw: Mapping[str, Sequence[Any]]
    names: Sequence[str]
    types: dict[str, Type] = field(default_factory=dict)

    def type(self, name: str) -> Type:
        """Return a type by its name, made on first use. Raises: KeyError."""
        found = self.types.get(name)
        if found is None:
            found = self.types[name] = self._made(*self.raw[name])
        return found

    def kind(self, api_version: str, kind: str) -> Type:
        """Return the type of a kind. Raises: KeyError if the table does not have it."""
        return self.type(self.kinds[api_version, kind])

    def _made(
        self,
        name: str,
        form: str,
        required: Sequence[str],
        fields: Mapping[str, Any],
        facts: Mapping[str, Any] = _NO_FACTS,
    ) -> Type:
        specs = {key: self._spec(told) for key, told in fields.items()}
        return Type(name, form, tuple(required), specs, facts)

    def _spec(self, told: Any) -> Spec:
        form, inner, facts = _padded(told)
        if isinstance(form, int):
            name = self.names[form]
            return Spec("object", _go(name), type=name, facts=facts)
        if form not in ("list", "map"):
            return Spec(form, facts.get("go") or _GO_SCALARS[form], facts=facts)
        element = self._spec(inner)
        go = f"[]{element.go}" if form == "list" else f"map[string]{element.go}"
        return Spec(form, facts.get("go") or go, element=element, facts=facts)


def _padded(told: Any) -> tuple[Any, Any, Mapping[str, Any]]:
    """Return a spec in its long form."""
    if not isinstance(told, list):
        return told, None, _NO_FACTS
    form, inner, *facts = told
    return form, inner, facts[0] if facts else _NO_FACTS


def _go(name: str) -> str:
    """Return Go's name of a type: its package, which for an API is the version, and its own."""
    return ".".join(name.rsplit(".", 2)[1:])


@cache
def schema() -> Schema:
    """Return the table; it is read once."""
    raw = msgpack.unpackb((files("kubeloop.api") / "schema.msgpack").read_bytes())
    names = [told[0] for told in raw["types"]]
    kinds = {
        (f"{group}/{version}" if group else version, kind): names[index]
        for group, version, kind, index in raw["kinds"]
    }
    return Schema(raw["version"], kinds, {told[0]: told for told in raw["types"]}, names)
