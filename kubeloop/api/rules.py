"""Rules in CEL: `x-kubernetes-validations` in the schema of a custom resource. Pure.

    rules = Rules(schema)             # raises BadRule for what does not compile
    causes = rules.broken(obj, old)   # old: what the object was before; None if it is new

Needs the library cel-expr-python (the extra `kubeloop[cel]`). Without it no definition that has
rules is accepted: a rule that nobody checks would be a lie. `self` and `oldSelf` are untyped, so a
rule that misuses a type is found when it is evaluated, where Kubernetes finds it when it compiles;
and a time is a string, which `timestamp(…)` makes one. The libraries for URLs, quantities, IPs and
semantic versions are not there: a rule that needs them does not compile.

Source: Kubernetes, "CustomResourceDefinitions: Validation rules"; "Common Expression Language in
Kubernetes: CEL libraries".
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

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


class BadRule(ValueError):
    """A rule that cannot be used; the message says why."""


@dataclass(frozen=True)
class _Rule:
    """One rule.

    changed, new: what it says of a change, and of what is new; None: nothing.
    message:      what to say if it does not hold;  told: makes a message that fits better.
    """

    changed: "Expression"
    new: "Expression | None"
    message: str
    told: "Expression | None"
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


Expression = Callable[[Mapping[str, Any]], Any]
"""From variables to a value, or a `Failure`."""


class Failure(Exception):
    """What evaluating an expression failed with."""


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
    compile_ = _environment(*_SELVES).compile
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


class _Environment:
    """The library, with the functions Kubernetes adds to it."""

    def __init__(self, names: Sequence[str]) -> None:
        """Raises: BadRule if the library is not there."""
        try:
            from cel_expr_python import cel
            from cel_expr_python.ext import ext_math, ext_optional, ext_strings
        except ImportError as error:
            raise BadRule(
                "rules in CEL need the library cel-expr-python: pip install 'kubeloop[cel]'"
            ) from error
        types = cel.Type
        variables = dict.fromkeys(names, types.DYN)
        extensions = [ext_strings.ExtStrings(), ext_optional.ExtOptional(), ext_math.ExtMath()]
        functions = [
            cel.FunctionDecl(
                name,
                [
                    cel.Overload(
                        id=f"kubernetes_{name}",
                        return_type=getattr(types, result),
                        parameters=[getattr(types, one) for one in parameters],
                        is_member=True,
                        impl=function,
                    )
                ],
            )
            for name, parameters, result, function in _FUNCTIONS
        ]
        self._env = cel.NewEnv(variables=variables, extensions=extensions, functions=functions)

    def compile(self, text: str, where: str) -> Expression:
        """Return an expression as a function of its variables. Raises: BadRule."""
        try:
            expression = self._env.compile(text)
        except RuntimeError as error:
            why = str(error).removeprefix("INVALID_ARGUMENT: ")
            raise BadRule(f"{where}: compilation failed: {why}") from error

        def evaluate(scope: Mapping[str, Any]) -> Any:
            value = expression.eval(data=scope)
            if value.type().name() == "ERROR":
                return Failure(str(value.plain_value()))
            return value.plain_value()

        return evaluate


@cache
def _environment(*names: str) -> _Environment:
    return _Environment(names)


def expression(text: str, variables: Sequence[str]) -> Expression:
    """Return an expression in CEL as a function of its variables. Raises: BadRule."""
    return _environment(*variables).compile(text, "expression")


def _index_of(items: list[Any], wanted: Any) -> int:
    return items.index(wanted) if wanted in items else -1


def _last_index_of(items: list[Any], wanted: Any) -> int:
    found = _index_of(items[::-1], wanted)
    return found if found < 0 else len(items) - 1 - found


def _find(text: str, pattern: str) -> str:
    found = re.search(pattern, text)
    return "" if found is None else found[0]


def _find_all(text: str, pattern: str) -> list[str]:
    return [found[0] for found in re.finditer(pattern, text)]


_FUNCTIONS: Final[Sequence[tuple[str, Sequence[str], str, Callable[..., Any]]]] = (
    ("isSorted", ("LIST",), "BOOL", lambda items: items == sorted(items)),
    ("sum", ("LIST",), "DYN", sum),
    ("min", ("LIST",), "DYN", min),
    ("max", ("LIST",), "DYN", max),
    ("find", ("STRING", "STRING"), "STRING", _find),
    ("findAll", ("STRING", "STRING"), "LIST", _find_all),
)
