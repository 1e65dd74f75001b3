"""JSON patch (RFC 6902) and JSON merge patch (RFC 7386), as the API server applies them.

Both are functions from object and patch to a new object: nothing that comes in is changed, and
nothing that goes out is shared with it. Where Kubernetes is laxer than the RFC, so is this:
`replace` and `copy` take members that are absent, and a negative index counts from the end. What a
patch may cost is bounded: operations, bytes made by `copy`, depth of the result.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from kubeloop.api.errors import ApiError, BadRequest, TooLarge

OPERATIONS_MAX: Final = 10_000
COPY_BYTES_MAX: Final = 3 * 1024 * 1024  # All `copy` operations of one patch together.
DEPTH_MAX: Final = 400  # Of an object: what the codecs nest without running out of stack.

_INDEX: Final = re.compile(r"[+-]?[0-9]{1,18}")


class PatchRejected(ApiError):
    """A JSON patch that does not apply; Kubernetes tells the client no more than this."""

    code, reason = 422, "Invalid"

    def __init__(self, why: str) -> None:
        super().__init__(
            "the server rejected our request due to an error in our request", details={}
        )
        self.why = why


def json_patch(obj: dict[str, Any], operations: Any) -> dict[str, Any]:
    """Return `obj` after the operations of an RFC 6902 patch.

    Raises: BadRequest if the patch is no list of operations, TooLarge if there are too many,
    PatchRejected if one of them does not apply (its `why` says which and why).
    """
    if not isinstance(operations, list):
        raise BadRequest(_wrong_type(operations, "jsonpatch.Patch"))
    for operation in operations:
        if not isinstance(operation, dict):
            raise BadRequest(_wrong_type(operation, "jsonpatch.Operation"))
    if len(operations) > OPERATIONS_MAX:
        raise TooLarge(
            "Request entity too large: The allowed maximum operations in a JSON patch is"
            f" {OPERATIONS_MAX}, got {len(operations)}"
        )
    document = _Document(clone(obj))
    for operation in operations:
        document.apply(operation)
    if not isinstance(document.root, dict):
        raise PatchRejected("the patch makes something else than an object of it")
    check_depth(document.root)
    return document.root


def merge_patch(obj: dict[str, Any], patch: Any) -> dict[str, Any]:
    """Return `obj` after an RFC 7386 patch: null removes, objects merge, all else replaces.

    Raises: BadRequest if the patch is not an object.
    """
    if isinstance(patch, list):
        raise BadRequest(
            "json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if not isinstance(patch, dict):
        raise BadRequest("Invalid JSON Patch")
    check_depth(patch)
    merged: dict[str, Any] = _merged(obj, patch)
    return merged


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return _without_nulls(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merged(merged.get(name), value)
    for name in merged.keys() - patch.keys():
        merged[name] = clone(merged[name])
    return merged


def _without_nulls(value: Any) -> Any:
    """Return a copy without null members of objects; Kubernetes prunes those in lists, too."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(v) for v in value]
    return value


class _Document:
    """A JSON document that operations change in place."""

    def __init__(self, root: Any) -> None:
        self.root = root
        self.copied_bytes = 0

    def apply(self, operation: Mapping[str, Any]) -> None:
        """Apply one operation. Raises: PatchRejected."""
        match operation.get("op"):
            case "add":
                self.add(_pointer(operation, "path"), clone(operation.get("value")))
            case "remove":
                self.remove(_pointer(operation, "path"))
            case "replace":
                self.replace(_pointer(operation, "path"), clone(operation.get("value")))
            case "move":
                source = _pointer(operation, "from")
                value = self.get(source)
                self.remove(source)
                self.add(_pointer(operation, "path"), value)
            case "copy":
                value = self.get(_pointer(operation, "from"))
                self.charge(value)
                self.add(_pointer(operation, "path"), clone(value))
            case "test":
                self.test(_pointer(operation, "path"), operation.get("value"))
            case unknown:
                raise PatchRejected(f"Unexpected kind: {unknown}")

    def holder(self, path: str) -> tuple[Any, str]:
        """Return the object or list that holds what `path` points to, and the key in it."""
        steps = [s.replace("~1", "/").replace("~0", "~") for s in path.split("/")]
        if len(steps) < 2:
            raise PatchRejected(f'doc is missing path: "{path}": missing value')
        at = self.root
        for step in steps[1:-1]:
            at = _member(at, step, path)
        if not isinstance(at, dict | list):
            raise PatchRejected(f'doc is missing path: "{path}": missing value')
        return at, steps[-1]

    def get(self, path: str) -> Any:
        at, key = self.holder(path)
        return _member(at, key, path)

    def add(self, path: str, value: Any) -> None:
        at, key = self.holder(path)
        if isinstance(at, dict):
            at[key] = value
        elif key == "-":
            at.append(value)
        else:
            at.insert(_position(key, len(at) + 1, path), value)

    def remove(self, path: str) -> None:
        at, key = self.holder(path)
        if isinstance(at, list):
            del at[_position(key, len(at), path)]
        elif key in at:
            del at[key]
        else:
            raise PatchRejected(f"Unable to remove nonexistent key: {key}: missing value")

    def replace(self, path: str, value: Any) -> None:
        if path == "":
            if not isinstance(value, dict | list):
                raise PatchRejected("replace operation value must be object or array")
            self.root = value
            return
        at, key = self.holder(path)
        at[_position(key, len(at), path) if isinstance(at, list) else key] = value

    def test(self, path: str, value: Any) -> None:
        found = self.root if path == "" else self.get(path)
        if not _same(found, value):
            raise PatchRejected(f"testing value {path} failed: test failed")

    def charge(self, value: Any) -> None:
        """Count the bytes a copy makes, so that copies of copies cannot fill the memory."""
        self.copied_bytes += _size_bytes(value)
        if self.copied_bytes > COPY_BYTES_MAX:
            raise PatchRejected(
                "Unable to complete the copy, the accumulated size increase of copy is"
                f" {self.copied_bytes}, exceeding the limit {COPY_BYTES_MAX}"
            )


def _pointer(operation: Mapping[str, Any], name: str) -> str:
    path = operation.get(name)
    if not isinstance(path, str):
        raise PatchRejected(f"operation missing {name} field: missing value")
    return path


def _member(at: Any, key: str, path: str) -> Any:
    """Return a member of an object, None if absent; or an element of a list."""
    if isinstance(at, dict):
        return at.get(key)
    if isinstance(at, list):
        return at[_position(key, len(at), path)]
    raise PatchRejected(f'doc is missing path: "{path}": missing value')


def _position(key: str, length: int, path: str) -> int:
    """Return the index `key` means in a list of `length`; a negative one counts from the end."""
    if not _INDEX.fullmatch(key):
        raise PatchRejected(f"value was not a proper array index: '{key}' in '{path}'")
    index = int(key)
    if not -length <= index < length:
        raise PatchRejected(f"Unable to access invalid index: {index}: invalid index referenced")
    return index if index >= 0 else index + length


def _same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal; unlike Python, 1, 1.0 and true are three."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(value, b[key]) for key, value in a.items())
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)


def clone(value: Any, depth: int = 0) -> Any:
    """Return a deep copy of a JSON value. Raises: PatchRejected if it nests too deeply."""
    if depth > DEPTH_MAX:
        raise PatchRejected(f"the object is nested deeper than {DEPTH_MAX}")
    if isinstance(value, dict):
        copy = {}
        for key, member in value.items():
            kind = type(member)
            copy[key] = clone(member, depth + 1) if kind is dict or kind is list else member
        return copy
    if isinstance(value, list):
        elements = []
        for element in value:
            kind = type(element)
            elements.append(clone(element, depth + 1) if kind is dict or kind is list else element)
        return elements
    return value


def check_depth(value: Any) -> None:
    """Raise BadRequest if a JSON value nests deeper than DEPTH_MAX."""
    level: Sequence[Any] = [value]
    for _ in range(DEPTH_MAX):
        below: list[Any] = []
        for container in level:
            members = container.values() if type(container) is dict else container
            for member in members:
                kind = type(member)
                if kind is dict or kind is list:
                    below.append(member)
        if not below:
            return
        level = below
    raise BadRequest(f"the object is nested deeper than {DEPTH_MAX}")


def _size_bytes(value: Any) -> int:
    """Return about how long `value` is as JSON."""
    if isinstance(value, dict):
        return 2 + sum(len(k) + 4 + _size_bytes(v) for k, v in value.items())
    if isinstance(value, list):
        return 2 + sum(1 + _size_bytes(v) for v in value)
    return len(value) + 2 if isinstance(value, str) else 8


def _wrong_type(value: Any, wanted: str) -> str:
    """Return what Go's decoder says of a value of the wrong type."""
    kinds = {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}
    told = kinds.get(type(value), "number")
    return f"json: cannot unmarshal {told} into Go value of type {wanted}"
