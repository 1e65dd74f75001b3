"""OpenAPI v2 in protobuf: the form kubectl fetches it in when OpenAPI v3 does not know a kind.

The messages are those of gnostic's OpenAPIv2.proto, as far as kubectl reads them: the definitions,
and of the operations their parameters and what kind they are for.

Every encoder takes a piece of the JSON document and returns a message.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson

from kubeloop.net.rest.protobuf import bytes_field, encode_varint

_OPERATIONS: Final = {
    "get": 2,
    "put": 3,
    "post": 4,
    "delete": 5,
    "options": 6,
    "head": 7,
    "patch": 8,
}
_EXTENSION: Final = "x-"

Json = Mapping[str, Any]


def encode(document: Json) -> bytes:
    """Return a Swagger 2.0 document as an openapi.v2.Document."""
    info = _text(1, document["info"]["title"]) + _text(2, document["info"]["version"])
    return b"".join(
        [
            _text(1, document["swagger"]),
            bytes_field(2, info),
            bytes_field(8, _named(2, document["paths"], _path)),
            bytes_field(9, _named(1, document["definitions"], _schema)),
        ]
    )


def _path(item: Json) -> bytes:
    """Return a PathItem."""
    parts = [
        bytes_field(number, _operation(item[method]))
        for method, number in _OPERATIONS.items()
        if method in item
    ]
    return b"".join(parts) + _parameters(9, item) + _extensions(10, item)


def _operation(operation: Json) -> bytes:
    return b"".join(
        [
            *(_text(1, tag) for tag in operation.get("tags", ())),
            _text(3, operation.get("description", "")),
            _text(5, operation.get("operationId", "")),
            *(_text(6, type_) for type_ in operation.get("produces", ())),
            *(_text(7, type_) for type_ in operation.get("consumes", ())),
            _parameters(8, operation),
            _extensions(13, operation),
        ]
    )


def _parameters(number: int, owner: Json) -> bytes:
    """Return the fields of ParametersItems, each a Parameter of its place."""
    items = (bytes_field(1, _parameter(p)) for p in owner.get("parameters", ()))
    return b"".join(bytes_field(number, item) for item in items)


def _parameter(parameter: Json) -> bytes:
    name, where = parameter["name"], parameter["in"]
    description, required = parameter.get("description", ""), parameter.get("required", False)
    if where == "body":
        told = _text(1, description) + _text(2, name) + _text(3, where) + _true(4, required)
        return bytes_field(1, told + bytes_field(5, _schema(parameter["schema"])))
    told = _true(1, required) + _text(2, where) + _text(3, description) + _text(4, name)
    type_ = parameter.get("type", "")
    if where == "path":
        return bytes_field(2, bytes_field(4, told + _text(5, type_)))
    return bytes_field(2, bytes_field(3, told + _text(6, type_)))


def _schema(schema: Json) -> bytes:
    parts = [
        _text(1, schema.get("$ref", "")),
        _text(2, schema.get("format", "")),
        _text(4, schema.get("description", "")),
    ]
    if "default" in schema:
        parts.append(bytes_field(5, _any(schema["default"])))
    parts += [_text(19, name) for name in schema.get("required", ())]
    more = schema.get("additionalProperties")
    if isinstance(more, Mapping):
        parts.append(bytes_field(21, bytes_field(1, _schema(more))))
    elif more:
        parts.append(bytes_field(21, _true(2, more)))
    if "type" in schema:
        parts.append(bytes_field(22, _text(1, schema["type"])))
    if "items" in schema:
        parts.append(bytes_field(23, bytes_field(1, _schema(schema["items"]))))
    if "properties" in schema:
        parts.append(bytes_field(25, _named(1, schema["properties"], _schema)))
    return b"".join(parts) + _extensions(31, schema)


def _extensions(number: int, owner: Json) -> bytes:
    """Return the fields of NamedAnys for everything called x-…"""
    named = (
        _text(1, name) + bytes_field(2, _any(value))
        for name, value in owner.items()
        if name.startswith(_EXTENSION)
    )
    return b"".join(bytes_field(number, item) for item in named)


def _any(value: Any) -> bytes:
    """Return an Any, whose text is YAML; JSON is YAML."""
    return bytes_field(2, orjson.dumps(value))


def _named(number: int, items: Json, encoder: Callable[[Json], bytes]) -> bytes:
    """Return the fields of (name, message) pairs."""
    pairs = (_text(1, name) + bytes_field(2, encoder(item)) for name, item in items.items())
    return b"".join(bytes_field(number, pair) for pair in pairs)


def _text(number: int, text: str) -> bytes:
    return bytes_field(number, text.encode()) if text else b""


def _true(number: int, value: bool) -> bytes:
    return encode_varint(number << 3) + b"\x01" if value else b""
