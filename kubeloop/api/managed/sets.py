"""Sets of fields, in the form of FieldsV1. Pure; sets are never changed.

    {"f:spec": {"f:replicas": {}, "f:ports": {".": {}, 'k:{"port":80}': {".": {}, "f:port": {}}}}}

"f:NAME" is a field, 'k:{KEYS}' an element of a list with keys, "v:VALUE" an element of a set. What
is in the set has nothing below it, or ".": above, spec is not in the set, and ports is. The empty
dict is the empty set.

Source: Kubernetes, "Server-Side Apply: Field management"; metav1.FieldsV1.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import orjson

FieldSet: TypeAlias = Mapping[str, Any]

SELF: Final = "."
EMPTY: Final[FieldSet] = {}


def has_itself(node: FieldSet) -> bool:
    """Tell whether what a node stands for is in the set, whatever is below it."""
    return not node or SELF in node


def node_of(children: Mapping[str, Any], *, itself: bool) -> FieldSet | None:
    """Return the node with these children, None if there is nothing to stand for."""
    if not children:
        return EMPTY if itself else None
    return {SELF: EMPTY, **children} if itself else children


def union(one: FieldSet, other: FieldSet) -> FieldSet:
    """Return what is in either; `one` itself if that is all."""
    merged: dict[str, FieldSet] | None = None
    for key, node in other.items():
        mine = one.get(key)
        both = node if mine is None else _union(mine, node)
        if both is not mine:
            merged = dict(one) if merged is None else merged
            merged[key] = both
    return one if merged is None else merged


def _union(one: FieldSet, other: FieldSet) -> FieldSet:
    """Return the node for what is below either."""
    merged = union(one, other)
    if SELF in merged or (one and other):
        return EMPTY if len(merged) == 1 and SELF in merged else merged
    return {SELF: EMPTY, **merged} if merged else one


def difference(one: FieldSet, other: FieldSet) -> FieldSet:
    """Return what is in `one` and not in `other`; what is below stays if it is not there, too.

    `one` itself if that is all of it.
    """
    left: dict[str, FieldSet] | None = None
    for key, less in other.items():
        node = one.get(key)
        if node is None or key == SELF:
            continue
        kept = _difference(node, less)
        if kept is not node:
            left = dict(one) if left is None else left
            if kept is None:
                del left[key]
            else:
                left[key] = kept
    return one if left is None else left


def _difference(node: FieldSet, less: FieldSet) -> FieldSet | None:
    """Return what is left of a node, None if that is nothing."""
    kept = difference(node, less)
    if not has_itself(node):
        return kept or None
    if not has_itself(less):
        return EMPTY if len(kept) == 1 and kept is not node else kept
    if SELF not in kept:
        return kept or None  # It had nothing below it.
    return {key: below for key, below in kept.items() if key != SELF} or None


def without(one: FieldSet, other: FieldSet) -> FieldSet:
    """Return what is in `one`, and neither in `other` nor below what is in it."""
    return dict(_outside(one, other))


def _outside(one: FieldSet, other: FieldSet) -> Iterator[tuple[str, FieldSet]]:
    for key, node in one.items():
        less = other.get(key)
        if less is None or key == SELF:
            yield key, node
        elif not has_itself(less):
            children = {k: n for k, n in _outside(node, less) if k != SELF}
            left = node_of(children, itself=has_itself(node))
            if left is not None:
                yield key, left


def intersection(one: FieldSet, other: FieldSet) -> FieldSet:
    """Return what is in both."""
    return dict(_shared(one, other))


def _shared(one: FieldSet, other: FieldSet) -> Iterator[tuple[str, FieldSet]]:
    for key, node in one.items():
        if key == SELF or key not in other:
            continue
        too = other[key]
        itself = has_itself(node) and has_itself(too)
        both = node_of(dict(_shared(node, too)), itself=itself)
        if both is not None:
            yield key, both


def contains(one: FieldSet, other: FieldSet) -> bool:
    """Tell whether all that is in `other` is in `one`."""
    return not difference(other, one)


def paths(one: FieldSet) -> Iterator[str]:
    """Yield what is in the set, as conflicts name it: `.spec.containers[name="c"].image`."""
    for key in sorted(one):
        if key == SELF:
            continue
        node, step = one[key], _step(key)
        if has_itself(node):
            yield step
        for path in paths(node):
            yield step + path


def _step(key: str) -> str:
    kind, _, text = key.partition(":")
    if kind == "f":
        return f".{text}"
    if kind == "k":
        keys = orjson.loads(text)
        told = (f"{name}={orjson.dumps(keys[name]).decode()}" for name in sorted(keys))
        return f"[{','.join(told)}]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


def ordered(one: FieldSet) -> dict[str, Any]:
    """Return the set with its keys in order, as it is written."""
    return {key: ordered(one[key]) for key in sorted(one)}


class BadSet(ValueError):
    """What is told as a set of fields is none."""


def check(told: Any) -> FieldSet:
    """Return what somebody told as a set of fields. Raises: BadSet."""
    if not isinstance(told, Mapping):
        raise BadSet(f"a set of fields is an object, not {told!r}")
    for key, node in told.items():
        kind, colon, text = str(key).partition(":")
        if key != SELF and (not colon or kind not in ("f", "k", "v", "i")):
            raise BadSet(f"{key!r} begins with none of f:, k:, v:, i:")
        if kind in ("k", "v", "i") and colon:
            _check_value(kind, text)
        check(node)
    return told


def _check_value(kind: str, text: str) -> None:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise BadSet(f"{kind}:{text} cannot be read: {error}") from None
    if kind == "k" and not isinstance(value, dict):
        raise BadSet(f"k:{text} does not name keys")
