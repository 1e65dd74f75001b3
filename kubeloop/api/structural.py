"""Structural schemas: what a CustomResourceDefinition says its objects look like.

    schema = Structural(definition["schema"]["openAPIV3Schema"])
    unknown = schema.prune(obj)      # fields nobody specified go, in place; their paths
    schema.default(obj)              # what is missing and has a default comes, in place
    problems = schema.problems(obj)  # what is wrong with the rest, in Kubernetes' words

`metadata`, `apiVersion` and `kind` of the object itself, and of those embedded in it, are another's
business: they are neither pruned nor judged here. Rules in CEL are not judged here either.

Source: Kubernetes, "Extend the Kubernetes API with CustomResourceDefinitions: Specifying a
structural schema", "Field pruning", "Defaulting"; the texts are those of its OpenAPI validator.
"""

import base64
import binascii
import copy
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.problems import Problems, show

Schema = Mapping[str, Any]

_META: Final = ("apiVersion", "kind", "metadata")
_KEEP: Final = "x-kubernetes-preserve-unknown-fields"
_EMBEDDED: Final = "x-kubernetes-embedded-resource"
_EITHER: Final = "x-kubernetes-int-or-string"
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
_GROUPS: Final = {
    "allOf": "must validate all the schemas (allOf)",
    "anyOf": "must validate at least one schema (anyOf)",
    "oneOf": "must validate one and only one schema (oneOf). Found none valid",
}
_SEVERAL: Final = "must validate one and only one schema (oneOf). Found {} valid alternatives"
_NOT: Final = "must not validate the schema (not)"


class Structural:
    """The schema of one version of a custom resource."""

    def __init__(self, schema: Schema | None) -> None:
        """schema: an openAPIV3Schema; None keeps everything and judges nothing."""
        self._schema: Schema = {_KEEP: True} if schema is None else schema

    def prune(self, obj: dict[str, Any]) -> list[str]:
        """Drop the fields that the schema does not have, in place; return their paths."""
        gone: list[str] = []
        _prune(self._schema, obj, "", gone, meta=True)
        return gone

    def default(self, obj: dict[str, Any]) -> None:
        """Fill in the defaults of what is missing, in place. Twice is the same as once."""
        _default(self._schema, obj)

    def problems(self, obj: dict[str, Any]) -> Problems:
        """Return what is wrong with an object, each field with its path."""
        problems = Problems()
        _judge(problems, self._schema, obj, "", meta=True)
        return problems


# Pruning.


def _prune(schema: Schema, value: Any, path: str, gone: list[str], *, meta: bool = False) -> None:
    if isinstance(value, list):
        items = schema.get("items")
        for number, item in enumerate(value):
            _prune(items or {}, item, f"{path}[{number}]", gone)
        return
    if not isinstance(value, dict):
        return
    properties, keeps = schema.get("properties") or {}, bool(schema.get(_KEEP))
    meta = meta or bool(schema.get(_EMBEDDED))
    additional = schema.get("additionalProperties")
    for name in list(value):
        here = f"{path}.{name}" if path else name
        if meta and name in _META:
            continue
        if name in properties:
            _prune(properties[name], value[name], here, gone)
        elif isinstance(additional, Mapping):
            _prune(additional, value[name], here, gone)
        elif not additional and not keeps:
            del value[name]
            gone.append(here)


# Defaulting.


def _default(schema: Schema, value: Any) -> None:
    if isinstance(value, list):
        items = schema.get("items") or {}
        for item in value if items else ():
            _default(items, item)
        return
    if not isinstance(value, dict):
        return
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for name, inner in properties.items():
        if "default" in inner:
            # A null that may not be there counts as nothing.
            if name in value and value[name] is None and not inner.get("nullable"):
                del value[name]
            if name not in value:
                value[name] = copy.deepcopy(inner["default"])
        if name in value:
            _default(inner, value[name])
    if isinstance(additional, Mapping):
        for name in value.keys() - properties.keys():
            _default(additional, value[name])


# Judging.


def _judge(
    problems: Problems, schema: Schema, value: Any, path: str, *, meta: bool = False
) -> None:
    """Add what is wrong with `value`."""
    if value is None and schema.get("nullable"):
        return
    if not _type(problems, schema, value, path):
        return
    if isinstance(value, str):
        _text(problems, schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _number(problems, schema, value, path)
    elif isinstance(value, list):
        _list(problems, schema, value, path)
    elif isinstance(value, dict):
        _object(problems, schema, value, path, meta=meta or bool(schema.get(_EMBEDDED)))
    choices = schema.get("enum")
    if choices is not None and not any(_same(value, choice) for choice in choices):
        problems.unsupported(path, value, [_shown(choice) for choice in choices])
    _combined(problems, schema, value, path)


def _type(problems: Problems, schema: Schema, value: Any, path: str) -> bool:
    """Tell whether a value is of the type that is wanted."""
    if schema.get(_EITHER):
        wanted, fits = "integer,string", _is_integer(value) or isinstance(value, str)
    else:
        wanted = schema.get("type") or ""
        fits = not wanted or _TYPES.get(wanted, _anything)(value)
    if not fits:
        told = _go_type(value)
        detail = f'{path} in body must be of type {wanted}: "{told}"'
        problems.wrong_type(path, told, detail)
    return fits


def _text(problems: Problems, schema: Schema, value: str, path: str) -> None:
    longest, shortest = schema.get("maxLength"), schema.get("minLength")
    if longest is not None and len(value) > longest:
        problems.too_long(path, longest)
    if shortest is not None and len(value) < shortest:
        detail = f"{path} in body should be at least {shortest} chars long"
        problems.invalid(path, value, detail)
    pattern = schema.get("pattern")
    if pattern and not _compiled(pattern).search(value):
        problems.invalid(path, value, f"{path} in body should match '{pattern}'")
    check = _FORMATS.get(schema.get("format") or "")
    if check is not None and not check(value):
        told = f"{path} in body must be of type {schema['format']}: {show(value)}"
        problems.invalid(path, value, told)


def _number(problems: Problems, schema: Schema, value: float, path: str) -> None:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most is not None:
        strict = bool(schema.get("exclusiveMaximum"))
        if value > most or (strict and value == most):
            word = "less than" if strict else "less than or equal to"
            detail = f"{path} in body should be {word} {_plain(most)}"
            problems.invalid(path, value, detail)
    if least is not None:
        strict = bool(schema.get("exclusiveMinimum"))
        if value < least or (strict and value == least):
            word = "greater than" if strict else "greater than or equal to"
            detail = f"{path} in body should be {word} {_plain(least)}"
            problems.invalid(path, value, detail)
    step = schema.get("multipleOf")
    if step and not _is_multiple(value, step):
        detail = f"{path} in body should be a multiple of {_plain(step)}"
        problems.invalid(path, value, detail)


def _list(problems: Problems, schema: Schema, value: list[Any], path: str) -> None:
    most, least = schema.get("maxItems"), schema.get("minItems")
    items = schema.get("items") or {}
    for number, item in enumerate(value if items else ()):
        _judge(problems, items, item, f"{path}[{number}]")
    if least is not None and len(value) < least:
        problems.invalid(path, len(value), f"{path} in body should have at least {least} items")
    if most is not None and len(value) > most:
        problems.too_many(path, len(value), most)
    if schema.get("uniqueItems") and _first_twice(value) is not None:
        problems.invalid(path, value, f"{path} in body shouldn't contain duplicates")
    _list_of_a_kind(problems, schema, value, path)


def _list_of_a_kind(problems: Problems, schema: Schema, value: list[Any], path: str) -> None:
    """Add the items that are there twice, in a set or under a key."""
    kind = schema.get(_LIST_TYPE)
    if kind == "set":
        for number, item in enumerate(value):
            if any(_same(item, other) for other in value[:number]):
                problems.duplicate(f"{path}[{number}]", item)
    elif kind == "map":
        fields: Sequence[str] = schema.get(_LIST_KEYS) or ()
        found = [
            {field: item[field] for field in fields if field in item}
            for item in value
            if isinstance(item, dict)
        ]
        for number, key in enumerate(found):
            if any(_same(key, other) for other in found[:number]):
                problems.duplicate(f"{path}[{number}]", key)


def _object(
    problems: Problems, schema: Schema, value: dict[str, Any], path: str, *, meta: bool
) -> None:
    most, least = schema.get("maxProperties"), schema.get("minProperties")
    if least is not None and len(value) < least:
        detail = f"{path} in body should have at least {least} properties"
        problems.invalid(path, len(value), detail)
    if most is not None and len(value) > most:
        problems.too_many(path, len(value), most)
    for name in schema.get("required") or ():
        if name not in value:
            problems.required(f"{path}.{name}" if path else name)
    properties, additional = schema.get("properties") or {}, schema.get("additionalProperties")
    for name in sorted(value):
        if meta and name in _META:
            continue
        here = f"{path}.{name}" if path else name
        if name in properties:
            _judge(problems, properties[name], value[name], here)
        elif isinstance(additional, Mapping):
            _judge(problems, additional, value[name], here)


def _combined(problems: Problems, schema: Schema, value: Any, path: str) -> None:
    where = f"{path} in body " if path else ""
    fitting = schema.get("allOf") or ()
    for part in fitting:
        _judge(problems, part, value, path)
    if any(_fails(part, value, path) for part in fitting):
        problems.invalid(path, value, f"{where}{_GROUPS['allOf']}")
    if (parts := schema.get("anyOf")) and all(_fails(part, value, path) for part in parts):
        problems.invalid(path, value, f"{where}{_GROUPS['anyOf']}")
    if parts := schema.get("oneOf"):
        count = sum(not _fails(part, value, path) for part in parts)
        if count != 1:
            text = _SEVERAL.format(count) if count else _GROUPS["oneOf"]
            problems.invalid(path, value, f"{where}{text}")
    if (part := schema.get("not")) is not None and not _fails(part, value, path):
        problems.invalid(path, value, f"{where}{_NOT}")


def _fails(schema: Schema, value: Any, path: str) -> bool:
    problems = Problems()
    _judge(problems, schema, value, path)
    return bool(problems)


# Types and values.


def _anything(value: Any) -> bool:
    return True


def _is_integer(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and value.is_integer())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_TYPES: Final[Mapping[str, Callable[[Any], bool]]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": _is_integer,
    "number": _is_number,
}


def _go_type(value: Any) -> str:
    """Return what JSON calls the type of a value, and "null" for nothing."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if _is_integer(value):
        return "integer"
    return {float: "number", str: "string", list: "array", dict: "object"}[type(value)]


def _same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same in JSON, where true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _first_twice(items: Sequence[Any]) -> Any:
    for number, item in enumerate(items):
        if any(_same(item, other) for other in items[:number]):
            return (item,)
    return None


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    ratio = value / step
    return math.isfinite(ratio) and ratio == round(ratio)


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _shown(choice: Any) -> str:
    return choice if isinstance(choice, str) else show(choice)


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Return a pattern of RE2, as nearly as Python has it. Raises: re.error."""
    return re.compile(pattern.replace(r"\z", r"\Z"))


# Formats. Kubernetes passes over those it does not know.


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            parse(text)
        except (ValueError, binascii.Error):
            return False
        return True

    return check


def _matches(pattern: str) -> Callable[[str], bool]:
    found = re.compile(pattern, re.ASCII)
    return lambda text: found.fullmatch(text) is not None


def _moment(text: str) -> datetime:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d", text, re.ASCII):
        raise ValueError(text)
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(text)
    return found


def _day(text: str) -> date:
    if len(text) != len("2006-01-02"):
        raise ValueError(text)
    return date.fromisoformat(text)


_FORMATS: Final[Mapping[str, Callable[[str], bool]]] = {
    "date-time": _parses(_moment),
    "datetime": _parses(_moment),
    "date": _parses(_day),
    "byte": _parses(lambda text: base64.b64decode(text, validate=True)),
    "uuid": _matches(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"),
    "ipv4": lambda text: not names.ipv4(text),
    "ipv6": lambda text: not names.ipv6(text),
    "cidr": lambda text: not names.cidr(text),
    "mac": _matches(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}"),
    "hostname": lambda text: not names.dns1123_subdomain(text.lower()),
    "email": _matches(r"[^@\s]+@[^@\s]+"),
    "uri": _matches(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s]+|/[^\s]*"),
    "duration": _matches(r"\d+(ns|us|µs|ms|s|m|h|d|w)|(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+"),
}


def paths(schema: Schema, path: str = "") -> Iterator[tuple[str, Schema]]:
    """Yield every path of a schema with what is said there: "spec.l[*].k"."""
    yield path, schema
    for name, inner in (schema.get("properties") or {}).items():
        yield from paths(inner, f"{path}.{name}" if path else name)
    if isinstance(items := schema.get("items"), Mapping):
        yield from paths(items, f"{path}[*]")
    if isinstance(additional := schema.get("additionalProperties"), Mapping):
        yield from paths(additional, f"{path}[*]")
