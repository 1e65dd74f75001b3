"""Bodies in: JSON, YAML, protobuf → plain objects, with Kubernetes' words when they are broken.

Everything is bounded: the size before it is read, the depth, and for YAML the size of what
aliases would unfold to.

Source: apimachinery, runtime/serializer/json; apiserver, transformDecodeError.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack
import orjson

from kubeloop.api.errors import BadRequest, UnsupportedMediaType
from kubeloop.net.rest import protobuf
from kubeloop.net.rest.negotiation import JSON, MSGPACK, OFFERED, PROTOBUF, SPOKEN, YAML

BODY_MAX: Final = 3 << 20
PATCH_TYPES: Final = {
    "application/json-patch+json": "json",
    "application/merge-patch+json": "merge",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_SUMMARY_MAX: Final = 30
_NOT_AN_OBJECT: Final = (
    "json: cannot unmarshal {} into Go value of type struct "
    '{{ APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string '
    '"json:\\"kind,omitempty\\"" }}'
)


class Broken(ValueError):
    """A body that cannot be read; its text is Go's."""


@dataclass(slots=True)
class Body:
    """What a body said. duplicates: dotted paths of the fields it named twice."""

    content: Any
    duplicates: list[str] = field(default_factory=list)


def media_type(header: str) -> str:
    """Return a Content-Type without its parameters; JSON if there is none."""
    return header.partition(";")[0].strip().lower() or JSON


def read_object(data: bytes, content_type: str, kind: str, *, strict: bool) -> Body:
    """Return the object in a request's body.

    kind:   what the resource takes, for the message.
    strict: look for fields named twice, too.
    Raises: BadRequest, UnsupportedMediaType.
    """
    type_ = media_type(content_type)
    if type_ not in SPOKEN:
        raise UnsupportedMediaType(OFFERED)
    try:
        return _read(data, type_, strict=strict)
    except (Broken, protobuf.ProtobufError) as error:
        raise BadRequest(
            f"the object provided is unrecognized (must be of type {kind}): "
            f"{error} ({_summary(data)})"
        ) from None


def read_patch(data: bytes, content_type: str) -> tuple[str, Any]:
    """Return the type of a patch ("json", "merge", "strategic", "apply") and its content.

    Raises: BadRequest, UnsupportedMediaType.
    """
    patch_type = PATCH_TYPES.get(media_type(content_type))
    if patch_type is None:
        raise UnsupportedMediaType(tuple(PATCH_TYPES))
    try:
        content = _read_yaml(data).content if patch_type == "apply" else parse_json(data)
    except Broken as error:
        raise BadRequest(f"error decoding patch: {error}") from None
    wanted = list if patch_type == "json" else dict
    if not isinstance(content, wanted):
        into = "jsonpatch.Patch" if wanted is list else "map[string]interface {}"
        raise BadRequest(
            f"error decoding patch: json: cannot unmarshal {_go_kind(content)} "
            f"into Go value of type {into}"
        )
    return patch_type, content


def pack(content: Any) -> bytes:
    """Return `content` in msgpack. Raises: BadRequest if it is nested too deeply."""
    try:
        packed: bytes = msgpack.packb(content)
    except (ValueError, OverflowError, TypeError) as error:
        raise BadRequest(f"the body cannot be represented: {error}") from None
    return packed


def _read_yaml(data: bytes) -> Body:
    from kubeloop.net.rest.yamls import YamlError, parse_yaml  # Heavy, and needed by few.

    try:
        return Body(*parse_yaml(data))
    except YamlError as error:
        raise Broken(f"error converting YAML to JSON: {error}") from None


def _read_msgpack(data: bytes) -> Any:
    """Return what JSON could say, too."""
    try:
        return orjson.loads(orjson.dumps(msgpack.unpackb(data)))
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        why = str(error) or type(error).__name__
        raise Broken(f"couldn't get version/kind; msgpack error: {why}") from None


def _read(data: bytes, type_: str, *, strict: bool) -> Body:
    if type_ == PROTOBUF:
        return Body(protobuf.decode(data))
    if type_ == YAML:
        body = _read_yaml(data)
    elif type_ == MSGPACK:
        body = Body(_read_msgpack(data))
    else:
        try:
            body = Body(parse_json(data))
        except Broken as error:
            raise Broken(f"couldn't get version/kind; json parse error: {error}") from None
        if strict:
            body.duplicates = duplicate_fields(data)
    if not isinstance(body.content, dict):
        told = _NOT_AN_OBJECT.format(_go_kind(body.content))
        raise Broken(f"couldn't get version/kind; json parse error: {told}")
    return body


# JSON.


def parse_json(data: bytes) -> Any:
    """Return a JSON value. Raises: Broken, with the text of Go's encoding/json."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise Broken(_go_json_error(data, error)) from None


def duplicate_fields(data: bytes) -> list[str]:
    """Return the dotted paths of the fields that valid JSON names twice: "metadata.name"."""
    twice: dict[int, tuple[dict[str, Any], list[str]]] = {}

    def fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        obj = dict(pairs)
        if len(obj) < len(pairs):
            counts = Counter(name for name, _ in pairs)
            twice[id(obj)] = (obj, [name for name, count in counts.items() if count > 1])
        return obj

    try:
        root = json.loads(data, object_pairs_hook=fold)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    if not twice:
        return []
    return sorted(_paths_of(root, {key: names for key, (_, names) in twice.items()}))


def _paths_of(root: Any, twice: dict[int, list[str]]) -> list[str]:
    found, todo = list[str](), [("", root)]
    while todo:
        path, value = todo.pop()
        if isinstance(value, dict):
            dot = f"{path}." if path else ""
            found += [dot + name for name in twice.get(id(value), ())]
            todo += [(dot + name, inner) for name, inner in value.items()]
        elif isinstance(value, list):
            todo += [(f"{path}[{n}]", inner) for n, inner in enumerate(value)]
    return found


_GO_JSON: Final = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Illegal trailing comma before end of object", "looking for beginning of object key string"),
    ("Illegal trailing comma", "looking for beginning of value"),
    ("Expecting value", "looking for beginning of value"),
    ("Expecting ':'", "after object key"),
    ("Extra data", "after top-level value"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\", "in string escape code"),
)


def _go_json_error(data: bytes, error: orjson.JSONDecodeError) -> str:
    """Return what encoding/json says of broken JSON; Python's parser finds the place."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "invalid UTF-8 in string"
    try:
        json.loads(text, parse_constant=_refuse)
    except RecursionError:
        return "exceeded max depth"
    except _NotJson as constant:
        return f"invalid character {_quoted(str(constant)[0])} looking for beginning of value"
    except json.JSONDecodeError as found:
        at = found.pos
        if found.msg.startswith("Unterminated string") or not text[at:].strip():
            return "unexpected end of JSON input"
        if found.msg.startswith("Invalid \\"):
            at += 1
        told = next((go for start, go in _GO_JSON if found.msg.startswith(start)), None)
        told = told or f"after {_container(text[:at])}"
        return f"invalid character {_quoted(text[at : at + 1])} {told}"
    return str(error).partition(":")[0]  # Only orjson minds: depth, NaN, lone surrogates.


class _NotJson(ValueError):
    """NaN or Infinity, which Python's parser would take."""


def _refuse(constant: str) -> Any:
    raise _NotJson(constant)


def _container(text: str) -> str:
    """Return what Go calls the last complete thing in `text`: an element or a pair."""
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', "", text)
    stack: list[str] = []
    for char in plain:
        if char in "{[":
            stack.append(char)
        elif char in "}]" and stack:
            stack.pop()
    return "array element" if stack[-1:] == ["["] else "object key:value pair"


def _quoted(char: str) -> str:
    return "'\\''" if char == "'" else "'\"'" if char == '"' else f"'{char}'"


def _go_kind(value: Any) -> str:
    kinds = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    return kinds.get(type(value), "number")


def _summary(data: bytes) -> str:
    if not data:
        return "<empty>"
    cut = data[:_SUMMARY_MAX]
    text = cut.decode(errors="replace") if data[:1] == b"{" else cut.hex()
    return f"{text} ..." if len(data) > _SUMMARY_MAX else text
