"""A configuration merged into an object, and fields taken out of one. Pure.

Neither changes what it is given; the results share what did not change.

Source: structured-merge-diff's Merge and RemoveItems, in behaviour.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from kubeloop.api.managed.comparing import named
from kubeloop.api.managed.sets import (
    EMPTY,
    SELF,
    FieldSet,
    difference,
    has_itself,
    intersection,
    node_of,
    union,
)
from kubeloop.api.managed.shapes import (
    FREE,
    LEAF,
    LEAF_SHAPE,
    MAP,
    Shape,
    element_of,
)

_NONE: Final = object()

Object = Mapping[str, Any]


def merge(shape: Shape, live: Object, config: Object) -> dict[str, Any]:
    """Return `live` with all that `config` names: what it does not name stays."""
    merged: dict[str, Any] = _merge(shape, live, config)
    return merged


def _merge(shape: Shape, live: Any, config: Any) -> Any:
    form = shape.form
    if form == FREE:
        form = MAP if isinstance(live, dict) and isinstance(config, dict) else LEAF
    if form == LEAF or not (live or config):
        return config
    if form == MAP:
        if isinstance(live, dict) and isinstance(config, dict):
            return _merge_maps(shape, live, config)
        return live if config is None else config
    if isinstance(live, list) and isinstance(config, list):
        return _merge_lists(shape, live, config)
    return live if config is None else config


def _merge_maps(shape: Shape, live: Object, config: Object) -> dict[str, Any]:
    merged = dict(live)
    for name, value in config.items():
        was = live.get(name, _NONE)
        part = shape if shape.form == FREE else shape.at(name) or LEAF_SHAPE
        merged[name] = value if was is _NONE else _merge(part, was, value)
    return merged


def _merge_lists(shape: Shape, live: Sequence[Any], config: Sequence[Any]) -> list[Any]:
    """Merge elements by name. What both have comes in the configuration's order."""
    names = [element_of(shape, item) for item in live]
    wanted = [element_of(shape, item) for item in config]
    if None in names or None in wanted:
        return list(config)
    here = {name: item for name, item in zip(names, live, strict=True) if names.count(name) == 1}
    element = shape.element or LEAF_SHAPE
    shared = [name for name in wanted if name in names]
    merged: list[Any] = []
    done: set[str | None] = set()
    left = right = 0

    def take() -> None:
        nonlocal right
        name, item = wanted[right], config[right]
        done.add(name)
        merged.append(_merge(element, here[name], item) if name in here else item)
        right += 1
        if shared and shared[0] == name:
            shared.pop(0)

    while left < len(live) or right < len(config):
        if left < len(live) and right < len(config):
            if names[left] == wanted[right]:
                left += 1
                take()
                continue
            if names[left] in wanted and shared and shared[0] != names[left]:
                left += 1  # It is wanted elsewhere.
                continue
        if left < len(live):
            if names[left] not in wanted:
                merged.append(live[left])
                left += 1
                continue
            if names[left] in done:
                left += 1
        if right < len(config):
            take()
    return merged


def remove(shape: Shape, value: Any, gone: FieldSet, kept: FieldSet | None = None) -> Any:
    """Return a value without the fields in a set; None if nothing is left of it.

    kept: what is to stay itself if nothing is left of it, empty; None for everything.
    """
    if not gone or not value or shape.form == LEAF:
        return value
    if shape.form == MAP or (shape.form == FREE and isinstance(value, dict)):
        return dict(_fields_left(shape, value, gone, kept)) or None
    return list(_elements_left(shape, value, gone, kept)) or None


def _fields_left(
    shape: Shape, value: Object, gone: FieldSet, kept: FieldSet | None
) -> Iterator[tuple[str, Any]]:
    for name, inner in value.items():
        key = f"f:{name}"
        below = gone.get(key)
        if below is None:
            yield name, inner
        elif not has_itself(below):
            part = shape if shape.form == FREE else shape.at(name) or LEAF_SHAPE
            stays = None if kept is None else kept.get(key)
            left = remove(part, inner, below, _below(kept, key))
            if left is not None or inner is None:
                yield name, left
            elif kept is None or (stays is not None and has_itself(stays)):
                yield name, type(inner)()


def _elements_left(
    shape: Shape, items: Sequence[Any], gone: FieldSet, kept: FieldSet | None
) -> Iterator[Any]:
    for item in items:
        key = element_of(shape, item) or ""
        below = gone.get(key)
        if below is None:
            yield item
        elif not has_itself(below):
            left = remove(shape.element or LEAF_SHAPE, item, below, _below(kept, key))
            if left is not None:
                yield left


def _below(kept: FieldSet | None, key: str) -> FieldSet | None:
    return None if kept is None else kept.get(key, EMPTY)


def with_parents(shape: Shape, fields: FieldSet) -> FieldSet:
    """Return a set that has every declared field itself which it has something below."""
    return dict(_with_parents(shape, fields))


def _with_parents(shape: Shape, fields: FieldSet) -> Iterator[tuple[str, FieldSet]]:
    for key, node in fields.items():
        if key == SELF:
            continue
        itself = has_itself(node)
        part = LEAF_SHAPE
        if key.startswith("f:"):
            name = key[2:]
            if shape.form == FREE:
                part = shape
            elif shape.form == MAP:
                part = shape.at(name) or LEAF_SHAPE
                itself = itself or name in shape.fields
        elif shape.element is not None:
            part = shape.element
        found = node_of(dict(_with_parents(part, node)), itself=itself)
        if found is not None:
            yield key, found


def prune(shape: Shape, merged: Object, last: FieldSet, managed: FieldSet) -> dict[str, Any]:
    """Return an object without what an applier gave up.

    merged:  the object, with the new configuration in it.
    last:    what he named last time;  managed: what anybody manages now, he included.
    """

    def full(fields: FieldSet) -> FieldSet:
        return with_parents(shape, fields)

    all_of = full(named(shape, merged))
    pruned = remove(shape, merged, full(last)) or {}
    owned = union(full(named(shape, pruned)), full(managed))
    pruned = remove(shape, merged, difference(all_of, owned)) or {}
    dangling = difference(all_of, full(named(shape, pruned)))
    pruned = remove(shape, merged, intersection(dangling, full(last)), managed) or {}
    return dict(pruned)
