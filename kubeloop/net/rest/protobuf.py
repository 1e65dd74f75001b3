"""Kubernetes' protobuf: what kubectl sends for typed creates, as the objects JSON would give.

A body is 4 magic bytes and a `runtime.Unknown`, which tells the kind and holds the message. The
messages are data (protobuf.msgpack, made by tools/generate_protobuf.py); this is an interpreter of
that table. What the wire says differently than JSON is told by a few special messages: a Quantity
is its string, a Time is seconds and nanoseconds, IntOrString is one of two fields, an ExtraValue is
the list it holds, FieldsV1 and RawExtension are JSON in bytes.

Every loop consumes input, and every length is checked against what is there: hostile bytes end in
a ProtobufError.
"""

import base64
import functools
import re
from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import Any, Final, NamedTuple

import msgpack
import orjson

from kubeloop.api.times import parse, rfc3339

MAGIC: Final = b"k8s\0"
_DEPTH_MAX: Final = 100
_SINGLE, _REPEATED, _MAP, _INLINE, _KEEP = range(5)
_STRING, _BYTES, _BOOL, _INT32, _INT64 = -1, -2, -3, -4, -5
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NOTHING: Final = object()


class ProtobufError(ValueError):
    """The bytes are not the message they claim to be."""


class Field(NamedTuple):
    """One field: its number on the wire, its name in JSON, its form, its type.

    type: -1 … -5 for string, bytes, bool, int32, int64; else the index of a message.
    """

    number: int
    name: str
    form: int
    type: int


class Message(NamedTuple):
    """A message: its full name, its fields by number and by name in JSON."""

    name: str
    by_number: Mapping[int, Field]


class Table(NamedTuple):
    """Every message, the index of those that may be a body ("apps/v1 Deployment" → 17), and of
    the envelope they come in."""

    kinds: Mapping[str, int]
    messages: list[Message]
    envelope: int


@functools.cache
def table() -> Table:
    """Return the table of messages, read at its first use."""
    raw = msgpack.unpackb(files(__package__).joinpath("protobuf.msgpack").read_bytes())
    messages = [
        Message(name, {row[0]: Field(*row) for row in rows}) for name, rows in raw["messages"]
    ]
    envelope = next(n for n, m in enumerate(messages) if m.name == "runtime.Unknown")
    return Table(raw["kinds"], messages, envelope)


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in a protobuf body, with kind and apiVersion.

    Raises: ProtobufError, also for a kind that is not known here.
    """
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message")
    known = table()
    envelope = _decode_message(known, known.envelope, memoryview(body)[len(MAGIC) :], 0)
    api_version, kind = envelope.get("apiVersion", ""), envelope.get("kind", "")
    index = known.kinds.get(f"{api_version} {kind}")
    if index is None and kind == "DeleteOptions":
        index = known.kinds["v1 DeleteOptions"]  # Every group speaks the same one.
    if index is None:
        raise ProtobufError(f'no kind "{kind}" is registered for version "{api_version}"')
    raw = base64.b64decode(envelope.get("raw", ""))
    message = _decode_message(known, index, memoryview(raw), 0)
    return {"kind": kind, "apiVersion": api_version, **message}


def encode(obj: Mapping[str, Any]) -> bytes | None:
    """Return the protobuf body for an object, None if its kind has none here.

    Raises: ProtobufError if a value does not fit its field.
    """
    known = table()
    index = known.kinds.get(f"{obj.get('apiVersion')} {obj.get('kind')}")
    if index is None:
        return None
    try:
        raw = _encode_message(known, index, obj)
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProtobufError(f"{obj.get('kind')} does not fit its message: {error}") from error
    type_meta = bytes_field(1, str(obj["apiVersion"]).encode())
    type_meta += bytes_field(2, str(obj["kind"]).encode())
    envelope = bytes_field(1, type_meta) + bytes_field(2, raw)
    return MAGIC + envelope + bytes_field(3, b"") + bytes_field(4, b"")


# Reading.


def _decode_message(known: Table, index: int, data: memoryview, depth: int) -> dict[str, Any]:
    if depth > _DEPTH_MAX:
        raise ProtobufError("proto: message nested too deeply")
    fields, out = known.messages[index].by_number, dict[str, Any]()
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        value, at = _wire_value(data, at, tag & 7)
        field = fields.get(tag >> 3)
        if field is not None:
            _fold(known, out, field, value, depth)
    return out


def _fold(known: Table, out: dict[str, Any], field: Field, value: Any, depth: int) -> None:
    """Put the value of one occurrence of a field into the object."""
    form, name = field.form, field.name
    if form == _MAP:
        key, item = _decode_entry(known, field.type, value, depth)
        # A zero time is no field of an object, but a map keeps the key: Go writes null for it.
        out.setdefault(name, {})[key] = None if item is _NOTHING else item
    elif form == _REPEATED:
        if field.type <= _BOOL and isinstance(value, memoryview):  # Packed.
            at = 0
            while at < len(value):
                number, at = _varint(value, at)
                out.setdefault(name, []).append(_value(known, field.type, number, depth))
        else:
            out.setdefault(name, []).append(_value(known, field.type, value, depth))
    elif form == _INLINE:
        out.update(_value(known, field.type, value, depth))
    else:
        item = _value(known, field.type, value, depth)
        if item is not _NOTHING and (form == _KEEP or item or field.type >= 0):
            out[name] = item
        else:
            out.pop(name, None)


def _value(known: Table, type_: int, value: Any, depth: int) -> Any:
    if type_ >= 0:
        if not isinstance(value, memoryview):
            raise ProtobufError("proto: wrong wireType for a message")
        name = known.messages[type_].name
        special = _DECODERS.get(name)
        if special is not None:
            return special(_plain(value))
        message = _decode_message(known, type_, value, depth + 1)
        return message.get("items", []) if name in _LISTS else message
    if type_ in (_STRING, _BYTES):
        if not isinstance(value, memoryview):
            raise ProtobufError("proto: wrong wireType for a string")
        return _text(value) if type_ == _STRING else base64.b64encode(value).decode()
    if isinstance(value, memoryview):
        raise ProtobufError("proto: wrong wireType for a number")
    if type_ == _BOOL:
        return bool(value)
    bits = 32 if type_ == _INT32 else 64
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def _decode_entry(known: Table, type_: int, data: Any, depth: int) -> tuple[str, Any]:
    if not isinstance(data, memoryview):
        raise ProtobufError("proto: wrong wireType for a map")
    key, value = "", None
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        item, at = _wire_value(data, at, tag & 7)
        if tag >> 3 == 1:
            key = str(_value(known, _STRING, item, depth))
        elif tag >> 3 == 2:
            value = _value(known, type_, item, depth)
    if value is None:
        value = "" if type_ < 0 else {}
    return key, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """Return a base-128 number and where it ends."""
    result = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise ProtobufError("proto: integer overflow")


def _wire_value(data: memoryview, at: int, wire: int) -> tuple[Any, int]:
    """Return the value of a field, an int or its bytes, and where it ends."""
    if wire == _VARINT:
        return _varint(data, at)
    if wire == _LENGTH:
        length, at = _varint(data, at)
    elif wire in (_FIXED64, _FIXED32):
        length = 8 if wire == _FIXED64 else 4
    else:
        raise ProtobufError(f"proto: illegal wireType {wire}")
    if length > len(data) - at:
        raise ProtobufError("unexpected EOF")
    return data[at : at + length], at + length


def _plain(data: memoryview) -> dict[int, Any]:
    """Return the last value of each field of a small message, by number."""
    out, at = dict[int, Any](), 0
    while at < len(data):
        tag, at = _varint(data, at)
        out[tag >> 3], at = _wire_value(data, at, tag & 7)
    return out


def _text(value: Any) -> str:
    if not isinstance(value, memoryview):
        raise ProtobufError("proto: wrong wireType for a string")
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError as error:
        raise ProtobufError(f"proto: invalid UTF-8: {error}") from None


def _signed(value: Any) -> int:
    if not isinstance(value, int):
        raise ProtobufError("proto: wrong wireType for a number")
    return value - (1 << 64) if value >> 63 else value


def _decode_time(fields: dict[int, Any], *, micro: bool) -> Any:
    """Return RFC 3339; nothing for the zero time, which Go sends for what is not set."""
    if not fields:
        return _NOTHING
    seconds, nanos = _signed(fields.get(1, 0)), _signed(fields.get(2, 0))
    try:
        if micro:  # In integers: a float has no room for the microseconds of the year 9999.
            return rfc3339(seconds)[:-1] + f".{nanos // 1000 % 1_000_000:06d}Z"
        return rfc3339(seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise ProtobufError(f"a time is out of range: {error}") from None


def _decode_int_or_string(fields: dict[int, Any]) -> Any:
    if fields.get(1):
        return _text(fields.get(3, memoryview(b"")))
    return _signed(fields.get(2, 0))


def _decode_quantity(fields: dict[int, Any]) -> Any:
    text = _text(fields.get(1, memoryview(b"")))
    return text or "0"


def _decode_raw(fields: dict[int, Any]) -> Any:
    raw = fields.get(1, memoryview(b""))
    if not isinstance(raw, memoryview):
        raise ProtobufError("proto: wrong wireType for a string")
    if not raw:
        return _NOTHING
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ProtobufError(f"embedded JSON: {error}") from None


_DECODERS: Final[Mapping[str, Callable[[dict[int, Any]], Any]]] = {
    "apis.meta.v1.Time": functools.partial(_decode_time, micro=False),
    "apis.meta.v1.MicroTime": functools.partial(_decode_time, micro=True),
    "util.intstr.IntOrString": _decode_int_or_string,
    "api.resource.Quantity": _decode_quantity,
    "apis.meta.v1.FieldsV1": _decode_raw,
    "runtime.RawExtension": _decode_raw,
}
_LISTS: Final = frozenset(
    f"{group}.v1.ExtraValue" for group in ("authentication", "authorization", "certificates")
)


# Writing.


def _encode_message(known: Table, index: int, obj: Mapping[str, Any]) -> bytes:
    name = known.messages[index].name
    special = _ENCODERS.get(name)
    if special is not None:
        return special(obj)
    if name in _LISTS:
        obj = {"items": obj}
    parts: list[bytes] = []
    for field in known.messages[index].by_number.values():
        if field.form == _INLINE:
            parts.append(bytes_field(field.number, _encode_message(known, field.type, obj)))
            continue
        value = obj.get(field.name)
        if value is None:
            continue
        if field.form == _MAP:
            for key in sorted(value):
                entry = bytes_field(1, key.encode())
                entry += _encode_field(known, 2, field.type, value[key])
                parts.append(bytes_field(field.number, entry))
        elif field.form == _REPEATED:
            parts += [_encode_field(known, field.number, field.type, item) for item in value]
        else:
            parts.append(_encode_field(known, field.number, field.type, value))
    return b"".join(parts)


def _encode_field(known: Table, number: int, type_: int, value: Any) -> bytes:
    if type_ >= 0:
        return bytes_field(number, _encode_message(known, type_, value))
    if type_ == _STRING:
        return bytes_field(number, value.encode())
    if type_ == _BYTES:
        return bytes_field(number, base64.b64decode(value))
    return encode_varint(number << 3) + encode_varint(int(value))


def bytes_field(number: int, data: bytes) -> bytes:
    """Return a field that holds bytes: a string, a message."""
    return encode_varint(number << 3 | _LENGTH) + encode_varint(len(data)) + data


def encode_varint(value: int) -> bytes:
    """Return a number in base 128, the lowest digits first; negative ones as 64 bits."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _encode_time(value: Any) -> bytes:
    if value is None:
        return b""  # The zero time.
    text = str(value)
    seconds = int(parse(text) // 1)
    found = re.search(r"\.(\d+)", text)
    micros = int(found[1].ljust(6, "0")[:6]) if found else 0
    return b"\x08" + encode_varint(seconds) + b"\x10" + encode_varint(micros * 1000)


def _encode_int_or_string(value: Any) -> bytes:
    if isinstance(value, str):
        return b"\x08\x01\x10\x00" + bytes_field(3, value.encode())
    return b"\x08\x00\x10" + encode_varint(int(value)) + bytes_field(3, b"")


_ENCODERS: Final[Mapping[str, Callable[[Any], bytes]]] = {
    "apis.meta.v1.Time": _encode_time,
    "apis.meta.v1.MicroTime": _encode_time,
    "util.intstr.IntOrString": _encode_int_or_string,
    "api.resource.Quantity": lambda value: bytes_field(1, str(value).encode()),
    "apis.meta.v1.FieldsV1": lambda value: bytes_field(1, orjson.dumps(value)),
    "runtime.RawExtension": lambda value: bytes_field(1, orjson.dumps(value)),
}
