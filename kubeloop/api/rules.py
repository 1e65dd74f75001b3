"""Rules in CEL: `x-kubernetes-validations` in the schema of a custom resource. Pure.

    rules = Rules(schema)             # raises BadRule for what does not compile
    causes = rules.broken(obj, old)   # old: what the object was before; None if it is new

Needs the extra `kubeloop[cel]`, see `cel`. Without it no definition that has rules is accepted: a
rule that nobody checks would be a lie. `self` and `oldSelf` are untyped, so a rule that misuses a
type is found when it is evaluated, where Kubernetes finds it when it compiles.

Source: Kubernetes, "CustomResourceDefinitions: Validation rules".
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.api.cel import Expression, Failure, environment
from kubeloop.api.errors import Cause

Schema = Mapping[str, Any]

VALIDATIONS: Final = "x-kubernetes-validations"
_SELVES: Final = ("self", "oldSelf")
_OLD: Final = re.compile(r"\boldSelf\b")
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
_MAP: Final = ("x-kubernetes-list-type", "map")
REASONS: Final = (
    "FieldValueInvalid",
    "FieldValueForbidden",
    "FieldValueRequired",
    "FieldValueDuplicate",
)
_TEXTS: Final = {
    "FieldValueInvalid": "Invalid value: ",
    "FieldValueForbidden": "Forbidden: ",
    "FieldValueRequired": "Required value: ",
    "FieldValueDuplicate": "Duplicate value: ",
}


@dataclass(frozen=True)
class _Rule:
    """One rule.

    changed, new: what it says of a change, and of what is new; None: nothing.
    message:      what to say if it does not hold;  told: makes a message that fits better.
    """

    changed: Expression
    new: Expression | None
    message: str
    told: Expression | None
    reason: str
    field: str

    def broken(self, path: str, value: Any, old: Any, *, had: bool) -> Cause | None:
        """Return the cause if the rule does not hold."""
        evaluate = self.changed if had else self.new
        if evaluate is None:
            return None
        scope = {"self": value, "oldSelf": old}
        result = evaluate(scope)
        if result is True:
            return None
        message = self.message
        if isinstance(result, Failure):
            message = f"rule evaluation failed: {result}"
        elif self.told is not None:
            told = self.told(scope)
            message = told if isinstance(told, str) and told.strip() else message
        field = f"{path}{self.field}" if path else self.field.lstrip(".")
        return Cause(self.reason, f"{_TEXTS[self.reason]}{message}", field or "<nil>")


class Rules:
    """The rules of one schema, compiled."""

    def __init__(self, schema: Schema | None) -> None:
        """Raises: BadRule."""
        self._schema: Schema = schema or {}
        self._compiled: dict[int, list[_Rule]] = {}
        for path, node in nodes(self._schema):
            for number, told in enumerate(node.get(VALIDATIONS) or ()):
                rule = _compile(told, f"{path}.{VALIDATIONS}[{number}]")
                self._compiled.setdefault(id(node), []).append(rule)

    def __bool__(self) -> bool:
        return bool(self._compiled)

    def broken(self, obj: Any, old: Any = None) -> list[Cause]:
        """Return what the rules have against an object, or a change of one."""
        return list(self._walk(self._schema, obj, old, "", had=old is not None))

    def _walk(
        self, schema: Schema, value: Any, old: Any, path: str, *, had: bool
    ) -> Iterator[Cause]:
        for rule in self._compiled.get(id(schema), ()):
            made, before = _typed(schema, value), _typed(schema, old) if had else None
            cause = rule.broken(path, made, before, had=had)
            if cause is not None:
                yield cause
        if isinstance(value, dict):
            for name, inner in _fields(schema, value):
                was = isinstance(old, dict) and name in old
                there = f"{path}.{name}" if path else name
                yield from self._walk(
                    inner, value[name], old[name] if was else None, there, had=was
                )
        elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
            items = schema["items"]
            for number, one in enumerate(value):
                was, before = _counterpart(schema, one, old)
                yield from self._walk(items, one, before, f"{path}[{number}]", had=was)


def nodes(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every part of a schema, with its path in it: "properties[spec].items"."""
    yield path, schema
    dot = f"{path}." if path else ""
    for name, inner in (schema.get("properties") or {}).items():
        yield from nodes(inner, f"{dot}properties[{name}]")
    for name in ("items", "additionalProperties", "not"):
        if isinstance(schema.get(name), Mapping):
            yield from nodes(schema[name], f"{dot}{name}")
    for name in ("allOf", "anyOf", "oneOf"):
        for number, inner in enumerate(schema.get(name) or ()):
            yield from nodes(inner, f"{dot}{name}[{number}]")


def has_rules(schema: Schema | None) -> bool:
    """Tell whether there is a rule anywhere in a schema."""
    return any(node.get(VALIDATIONS) for _, node in nodes(schema or {}))


def _fields(schema: Schema, value: Mapping[str, Any]) -> Iterator[tuple[str, Schema]]:
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in value:
        if name in properties:
            yield name, properties[name]
        elif isinstance(additional, Mapping):
            yield name, additional


def _counterpart(schema: Schema, item: Any, old: Any) -> tuple[bool, Any]:
    """Return whether an item of a list had a forerunner, and that: only those with keys have."""
    if (_MAP[0], schema.get(_MAP[0])) != _MAP or not isinstance(old, list):
        return False, None
    keys: Sequence[str] = schema.get(_LIST_KEYS) or ()
    for other in old:
        if isinstance(other, dict) and all(other.get(key) == item.get(key) for key in keys):
            return True, other
    return False, None


def _typed(schema: Schema, value: Any) -> Any:
    """Return a value as CEL is to see it: what is a number by its schema is a double."""
    if isinstance(value, dict):
        known = dict(_fields(schema, value))
        return {name: _typed(known.get(name, {}), one) for name, one in value.items()}
    if isinstance(value, list):
        return [_typed(schema.get("items") or {}, one) for one in value]
    if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _compile(told: Mapping[str, Any], where: str) -> _Rule:
    """Return a rule. Raises: BadRule."""
    text = str(told.get("rule") or "").strip()
    compile_ = environment(*_SELVES).compile
    message = str(told.get("message") or "").strip()
    expression = told.get("messageExpression")
    at = f"{where}.rule"
    new: Expression | None
    if told.get("optionalOldSelf"):
        changed = compile_(_OLD.sub("(optional.of(oldSelf))", text), at)
        new = compile_(_OLD.sub("(optional.none())", text), at)
    else:
        changed = compile_(text, at)
        new = None if _OLD.search(text) else changed
    return _Rule(
        changed,
        new,
        message or f"failed rule: {' '.join(text.split())}",
        compile_(expression, f"{where}.messageExpression") if expression else None,
        told.get("reason") or REASONS[0],
        told.get("fieldPath") or "",
    )
