"""Patches: what one makes of an object, and how one that leaves no such object is refused.

Source: k8s.io/apiserver's patch handler and apimachinery's FromUnstructured, in behaviour.
"""

import re
from typing import Any, Final

import msgpack
import orjson

from kubeloop.actors.requests.state import Object
from kubeloop.api.calls import Request
from kubeloop.api.errors import BadRequest, Cause, Invalid, UnsupportedMediaType
from kubeloop.api.patch import json_patch, merge_patch
from kubeloop.api.problems import quote
from kubeloop.api.resources import Resource
from kubeloop.api.schema import Undecodable, decode_custom, decode_strict
from kubeloop.api.strategic import strategic_merge_patch

_UNMARSHAL: Final = re.compile(r"json: cannot unmarshal (\w+)(?: (\S+))? into Go .* of type (\S+)$")
SCALE_VERSION: Final = "autoscaling/v1"
_CUSTOM_PATCHES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
)
_GO_KINDS: Final = {"object": "map", "array": "slice", "string": "string", "bool": "bool"}


class StrictProblem(BadRequest):
    """The body has fields it should not have, and the client asked for strictness."""

    def __init__(self, resource: Resource, problems: list[str]) -> None:
        self.text = f"strict decoding error: {', '.join(problems)}"
        super().__init__(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: {self.text}"
        )


def decoded(resource: Resource, body: Object, request: Request) -> tuple[Object, list[str]]:
    """Return the body as an object of its kind, and warnings. Raises: BadRequest."""
    duplicates = request.options.get("duplicates") or ()
    if resource.custom is None:
        obj, problems = decode_strict(resource.api_version, resource.kind, body, duplicates)
    else:
        obj, problems = decode_custom(resource.custom, body, duplicates)
    mode = request.options.get("fieldValidation") or "Warn"
    if problems and mode == "Strict":
        raise StrictProblem(resource, problems)
    return obj, problems if mode == "Warn" else []


def decoded_patch(resource: Resource, raw: Object, request: Request) -> tuple[Object, list[str]]:
    """Return a patched body as an object of its kind, and warnings. Raises: Invalid."""
    try:
        return decoded(resource, raw, request)
    except (StrictProblem, Undecodable) as problem:
        text = problem.text
    if request.options.get("patchType") == "strategic":
        shown, text = go_value(msgpack.unpackb(request.body)), go_conversion(text)
    else:
        shown = orjson.dumps(raw, option=orjson.OPT_SORT_KEYS).decode()
    message = f"Invalid value: {quote(shown)}: {text}"
    raise Invalid("", "", [Cause("FieldValueInvalid", message, "patch")])


def apply_patch(request: Request, old: Any, resource: Resource, kind: str = "") -> Any:
    """Return `old` with the request's patch applied; `old` is not changed.

    kind: of `old`, if that is not the resource's own: "Scale".
    Raises: UnsupportedMediaType for a strategic patch of a custom resource, which has no types.
    """
    content = msgpack.unpackb(request.body)
    match request.options.get("patchType"):
        case "json":
            return json_patch(old, content)
        case "merge":
            return merge_patch(old, content)
        case "strategic" if kind:
            return strategic_merge_patch(old, content, SCALE_VERSION, kind)
        case "strategic" if resource.custom is not None:
            raise UnsupportedMediaType(_CUSTOM_PATCHES)
        case "strategic":
            return strategic_merge_patch(old, content, resource.api_version, resource.kind)
        case other:
            raise BadRequest(f"patches of type {other!r} cannot be applied here")


def go_value(value: Any) -> str:
    """Return a JSON value as Go's %+v prints it: map[replicas:two], [a b], <nil>."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{go_value(value[k])}' for k in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(go_value, value))}]"
    return str(value)


def go_conversion(text: str) -> str:
    """Return what the converter of strategic patches says where a JSON decoder says `text`."""
    found = _UNMARSHAL.match(text)
    if found is None:
        return text
    told, number, wanted = found.groups()
    kind = _GO_KINDS.get(told) or ("float64" if "." in (number or "") else "int64")
    if wanted.startswith("map["):
        return f"cannot restore map from {kind}"
    if wanted.startswith("[]"):
        return f"cannot restore slice from {kind}"
    if "." in wanted:
        return f"cannot restore struct from: {kind}"
    convertible = told == "number" and wanted != "bool"
    return f"cannot convert {kind} to {wanted}" if convertible else f"unrecognized type: {wanted}"
