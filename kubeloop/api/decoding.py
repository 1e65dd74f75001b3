"""Decoders: for every type of the schema a function that checks and prunes a value of it.

They are compiled on first use, from the leaves up: a pod costs one walk over what it has, not over
what it could have. A decoder takes the value and a list for the paths of unknown fields. The path
to a fault is not carried along; it is put together on the way out, where it is needed.

What is accepted, and how a refusal is worded, follows Go's JSON decoder and the `UnmarshalJSON` of
Quantity, Time, MicroTime and IntOrString.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any, Final

from kubeloop.api.gotimes import canonical_micro_time, canonical_time
from kubeloop.api.quantities import canonical
from kubeloop.api.typetable import Spec, Type, schema

Decoder = Callable[[Any, list[str]], Any]

_INT32: Final = range(-(2**31), 2**31)
_INT64: Final = range(-(2**63), 2**63)
_BASE64: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
_QUANTITY_REGEX: Final = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


class Malformed(Exception):
    """A value that cannot be decoded; gathers on its way out where it stands.

    reason: a whole sentence, or what it is ("string") if `go` says what it should be.
    owner:  the Go type of the object it stands in.
    """

    def __init__(self, reason: str, go: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.go = go
        self.owner = ""
        self.path: list[str] = []

    def within(self, owner: str, key: str) -> None:
        """Note that it stands in field `key` of an object of type `owner`."""
        self.owner = self.owner or owner
        self.path.append(key)

    def text(self) -> str:
        """Return what Go's decoder says."""
        if not self.go:
            return self.reason
        if not self.owner:
            return f"json: cannot unmarshal {self.reason} into Go value of type {self.go}"
        path = ".".join(reversed(self.path))
        place = f"{self.owner.rpartition('.')[2]}.{path}"
        return (
            f"json: cannot unmarshal {self.reason} into Go struct field {place} of type {self.go}"
        )


def _wrong(value: Any, go: str) -> Malformed:
    """Return the error for a value of the wrong type."""
    if isinstance(value, bool):
        return Malformed("bool", go)
    if isinstance(value, int | float):
        integral = go in ("int32", "int64")  # Only there Go shows the number: it may be too large.
        return Malformed(f"number {value}" if integral else "number", go)
    kinds: dict[type, str] = {dict: "object", list: "array", str: "string"}
    return Malformed(kinds.get(type(value), "value"), go)


@cache
def decoder(name: str) -> Decoder:
    """Return the decoder of a type by its name."""
    told = schema().type(name)
    if told.form == "object":
        return _object(told)
    return _SPECIAL[told.form]


def _field(spec: Spec) -> tuple[type | None, Decoder, Any]:
    """Return (Python type that passes as it is, decoder of all else, zero value)."""
    if spec.form == "object":
        return None, _late(spec.type), _zero(spec)
    if spec.element is not None:
        make = _list if spec.form == "list" else _map
        return None, make(spec.go, *_field(spec.element)), None
    passes = _PASSES.get(spec.form)
    return passes, _SCALARS[spec.form](spec.go), _zero(spec)


def _zero(spec: Spec) -> Any:
    """Return what null in a list or a map becomes: the zero value of its type."""
    if spec.form == "object":
        form = schema().type(spec.type).form
        return {"object": {}, "quantity": "0", "intOrString": 0}.get(form)
    return {"string": "", "boolean": False, "int32": 0, "int64": 0, "number": 0}.get(spec.form)


def _late(name: str) -> Decoder:
    """Return a decoder that is compiled when it is first called: most types never are."""

    made: Decoder | None = None

    def decode(value: Any, unknown: list[str]) -> Any:
        nonlocal made
        if made is None:
            made = decoder(name)
        return made(value, unknown)

    return decode


def _object(told: Type) -> Decoder:
    fields = {key: _field(spec)[:2] for key, spec in told.fields.items()}
    go = told.go

    def decode(value: Any, unknown: list[str]) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, go)
        decoded = {}
        key = ""
        try:
            for key, member in value.items():
                field = fields.get(key)
                if field is None:
                    unknown.append(key)
                elif type(member) is field[0]:
                    decoded[key] = member
                elif member is not None:
                    known = len(unknown)
                    decoded[key] = field[1](member, unknown)
                    if len(unknown) > known:
                        _prefix(key, unknown, known)
        except Malformed as error:
            error.within(go, key)
            raise
        return decoded

    return decode


def _list(go: str, passes: type | None, element: Decoder, zero: Any) -> Decoder:
    def decode(value: Any, unknown: list[str]) -> Any:
        if not isinstance(value, list):
            raise _wrong(value, go)
        decoded = []
        for index, member in enumerate(value):
            if type(member) is passes:
                decoded.append(member)
            elif member is None:
                decoded.append({} if zero == {} else zero)
            else:
                known = len(unknown)
                decoded.append(element(member, unknown))
                if len(unknown) > known:
                    _prefix(f"[{index}]", unknown, known)
        return decoded

    return decode


def _map(go: str, passes: type | None, element: Decoder, zero: Any) -> Decoder:
    def decode(value: Any, unknown: list[str]) -> Any:
        if not isinstance(value, dict):
            raise _wrong(value, go)
        decoded = {}
        for key, member in value.items():
            if type(member) is passes:
                decoded[key] = member
            elif member is None:
                decoded[key] = {} if zero == {} else zero
            else:
                known = len(unknown)
                decoded[key] = element(member, unknown)
                if len(unknown) > known:
                    _prefix(key, unknown, known)
        return decoded

    return decode


def _prefix(step: str, unknown: list[str], known: int) -> None:
    """Put `step` in front of the paths found since there were `known`."""
    for index in range(known, len(unknown)):
        path = unknown[index]
        unknown[index] = step + path if path.startswith("[") else f"{step}.{path}"


def _refuse(go: str) -> Decoder:
    """Return the decoder of a scalar whose right type has passed already."""

    def decode(value: Any, _: list[str]) -> Any:
        raise _wrong(value, go)

    return decode


def _integer(numbers: range, go: str) -> Decoder:
    def decode(value: Any, _: list[str]) -> Any:
        if type(value) is int and value in numbers:
            return value
        raise _wrong(value, go)

    return decode


def _number(go: str) -> Decoder:
    def decode(value: Any, _: list[str]) -> Any:
        if type(value) in (int, float):
            return value
        raise _wrong(value, go)

    return decode


def _bytes(go: str) -> Decoder:
    def decode(value: Any, _: list[str]) -> Any:
        if not isinstance(value, str):
            raise _wrong(value, go)
        fault = _base64_fault(value)
        if fault is not None:
            raise Malformed(f"illegal base64 data at input byte {fault}")
        return value

    return decode


def _base64_fault(text: str) -> int | None:
    """Return where `text` stops being base64, as Go counts; None if it is fine."""
    text = re.sub(r"[\r\n]", "", text)
    body = text.rstrip("=")
    for index, char in enumerate(body):
        if char not in _BASE64:
            return index
    padding = len(text) - len(body)
    if padding == -len(body) % 4 and padding < 3:
        return None
    if padding == 0 or len(body) % 4 == 1:
        return len(text) - len(text) % 4 if padding == 0 else len(body)
    return len(text) if padding < -len(body) % 4 else len(body) + -len(body) % 4


def _quantity(value: Any, _: list[str]) -> Any:
    if type(value) not in (str, int, float):
        raise Malformed(f"quantities must match the regular expression '{_QUANTITY_REGEX}'")
    try:
        return _canonical(value)
    except ValueError as error:
        raise Malformed(str(error)) from None


@lru_cache(maxsize=4096)
def _canonical(value: str | int | float) -> str:
    return canonical(value.strip(" \t\r\n") if isinstance(value, str) else value)


def _int_or_string(value: Any, unknown: list[str]) -> Any:
    return value if isinstance(value, str) else _INT32_DECODER(value, unknown)


def _time(value: Any, _: list[str]) -> Any:
    return _moment(value, canonical_time)


def _micro_time(value: Any, _: list[str]) -> Any:
    return _moment(value, canonical_micro_time)


def _moment(value: Any, parse: Callable[[str], str]) -> str:
    if not isinstance(value, str):
        raise _wrong(value, "string")
    try:
        return parse(value)
    except ValueError as error:
        raise Malformed(str(error)) from None


def _any(value: Any, _: list[str]) -> Any:
    return value


_PASSES: Final[Mapping[str, type]] = {"string": str, "boolean": bool}
_INT32_DECODER: Final = _integer(_INT32, "int32")
_SCALARS: Final[Mapping[str, Callable[[str], Decoder]]] = {
    "string": _refuse,
    "boolean": _refuse,
    "bytes": _bytes,
    "int32": lambda go: _integer(_INT32, go),
    "int64": lambda go: _integer(_INT64, go),
    "number": _number,
}
_SPECIAL: Final[Mapping[str, Decoder]] = {
    "any": _any,
    "quantity": _quantity,
    "intOrString": _int_or_string,
    "time": _time,
    "microTime": _micro_time,
}
