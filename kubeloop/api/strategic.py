"""Strategic merge patch: Kubernetes' own patch, which knows how the lists of a type merge.

Objects merge field by field and null removes, as in a JSON merge patch. Lists do what their type
says: lists of objects with a merge key merge element by element, lists of scalars with the strategy
"merge" are united, all others are replaced. What a merge cannot say, a patch says by directives:

    $patch: replace | delete                in an object, or in an element of a merging list
    $retainKeys: [key, …]                   all other fields of this object go
    $setElementOrder/LIST: [element, …]     the order of the elements of LIST afterwards
    $deleteFromPrimitiveList/LIST: [value]  these scalars go

The merge works on copies; what comes in is never changed.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from kubeloop.api.errors import BadRequest
from kubeloop.api.patch import PatchRejected, check_depth, clone
from kubeloop.api.typetable import Spec, schema

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_ORDER: Final = "$setElementOrder/"
_DELETE: Final = "$deleteFromPrimitiveList/"

Object: TypeAlias = dict[str, Any]
_Key: TypeAlias = Callable[[Any], Any]  # What makes two list elements the same one.


def strategic_merge_patch(obj: Object, patch: Any, api_version: str, kind: str) -> Object:
    """Return `obj`, an object of `kind`, after a strategic merge patch.

    Raises: BadRequest if the patch makes no sense or the kind has no schema; PatchRejected if its
    content contradicts itself.
    """
    if patch is None:
        return dict(clone(obj))
    if not isinstance(patch, dict):
        raise BadRequest("invalid JSON document")
    name = schema().kinds.get((api_version, kind))
    if name is None:
        raise BadRequest("strategic merge patch format is not supported")
    check_depth(patch)
    return _merged_object(clone(obj), clone(patch), name)


def _merged_object(original: Object, patch: Object, type_name: str) -> Object:
    """Merge `patch` into `original` and return it. type_name: "" for a map without a type."""
    if _DIRECTIVE in patch:
        return _directed(patch)
    _retain_keys(original, patch)
    _merge_ordered_lists(original, patch, type_name)
    for key, value in patch.items():
        name = key.removeprefix(_DELETE)
        deletes = name != key
        if value is None:
            original.pop(name, None)
        elif name not in original or not _mergeable(original[name], value):
            if not deletes:
                _take(original, name, value)
        elif isinstance(value, dict):
            spec = _spec(type_name, name)
            original[name] = _merged_field(original[name], value, spec)
        elif deletes:
            gone = value
            original[name] = [v for v in original[name] if v not in gone]
        else:
            spec = _spec(type_name, name)
            original[name] = _merged_list(original[name], value, spec)
    return original


def _directed(patch: Object) -> Object:
    """Return what an object becomes whose patch carries a `$patch`."""
    match patch[_DIRECTIVE]:
        case "replace":
            del patch[_DIRECTIVE]
            return patch
        case "delete":
            return {}
        case unknown:
            raise BadRequest(f"unknown patch type: {unknown} in map: {_go_text(patch)}")


def _mergeable(original: Any, value: Any) -> bool:
    return any(isinstance(original, t) and isinstance(value, t) for t in (dict, list))


def _take(original: Object, name: str, value: Any) -> None:
    """Set a field that is new, or becomes something else."""
    _discard_nulls(value)
    keep, value = _without_directives(value)
    if keep:
        original[name] = value
    else:
        original.pop(name, None)


def _merged_field(original: Object, patch: Object, spec: Spec | None) -> Object:
    if spec is not None and "replace" in spec.strategies:
        return patch
    return _merged_object(original, patch, spec.type if spec is not None else "")


def _discard_nulls(value: Any) -> None:
    """Remove the null members of all objects in `value`."""
    if isinstance(value, dict):
        for key in [k for k, v in value.items() if v is None]:
            del value[key]
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            _discard_nulls(member)


def _without_directives(value: Any) -> tuple[bool, Any]:
    """Return whether to keep a new value, and what is left of it without directed objects."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return False, None
        judged = {k: _without_directives(v) for k, v in value.items()}
        return True, {k: v for k, (keep, v) in judged.items() if keep}
    if isinstance(value, list):
        return True, [v for keep, v in map(_without_directives, value) if keep]
    return True, value


def _retain_keys(original: Object, patch: Object) -> None:
    """Obey `$retainKeys`: fields of `original` that it does not name go."""
    keys = patch.pop(_RETAIN, None)
    if keys is None:
        return
    if not isinstance(keys, list):
        raise BadRequest("invalid patch format of retainKeys")
    for key, value in patch.items():
        if value is not None and key not in keys and not key.startswith((_DELETE, _ORDER)):
            raise BadRequest("invalid patch format of retainKeys")
    for key in [k for k in original if k not in keys]:
        del original[key]


def _spec(type_name: str, field: str) -> Spec | None:
    """Return what the type says of a field; None for a map's, or an unknown field."""
    return schema().type(type_name).fields.get(field) if type_name else None


def _merged_list(original: list[Any], patch: list[Any], spec: Spec | None) -> list[Any]:
    """Merge a list as its type says."""
    if spec is None or "merge" not in spec.strategies:
        return patch
    if not original and not patch:
        return original
    key = _element_key(spec, original, patch)
    if key is None:
        merged = [*original]
        merged += [v for i, v in enumerate(patch) if v not in original and v not in patch[:i]]
        return _ordered(merged, patch, original, _itself)
    patch, original = _obey_elements(original, patch, spec.merge_key)
    assert spec.element is not None
    merged = [*original]
    places = {_hashable(key(element)): i for i, element in reversed([*enumerate(original)])}
    for element in patch:
        identity = _hashable(key(element))
        place = places.get(identity)
        if place is None:
            places[identity] = len(merged)
            merged.append(element)
        else:
            merged[place] = _merged_object(merged[place], element, spec.element.type)
    return _ordered(merged, patch, original, key)


def _element_key(spec: Spec, *lists: Sequence[Any]) -> _Key | None:
    """Return what identifies elements, None if they are scalars. Raises: ApiError if mixed."""
    elements = [element for each in lists for element in each]
    kinds = {_kind(element) for element in elements}
    if list in kinds:
        raise PatchRejected("lists of lists are not supported")
    if len(kinds) > 1:
        raise BadRequest("list element types are not identical")
    if kinds != {dict}:
        return None
    if not spec.merge_key:
        raise BadRequest(f"cannot merge lists without merge key for {spec.go}")
    return _member(spec.merge_key)


def _kind(value: Any) -> type:
    return int if isinstance(value, float) else type(value)


def _itself(value: Any) -> Any:
    return value


def _member(merge_key: str) -> _Key:
    """Return the function that reads the merge key of an element."""

    def key(element: Any) -> Any:
        if not isinstance(element, dict) or merge_key not in element:
            text = _go_text(element)
            raise BadRequest(f"map: {text} does not contain declared merge key: {merge_key}")
        return element[merge_key]

    return key


def _hashable(value: Any) -> Any:
    """Return a dict key for a JSON value: 1 and true differ."""
    return (type(value).__name__, repr(value)) if not isinstance(value, str) else value


def _obey_elements(
    original: list[Any], patch: list[Any], merge_key: str
) -> tuple[list[Any], list[Any]]:
    """Obey `$patch` in elements of a patch: return what is left of the patch and the original."""
    plain = [element for element in patch if _DIRECTIVE not in element]
    key = _member(merge_key)
    replaces = False
    for element in patch:
        match element.get(_DIRECTIVE, "none"):
            case "delete":
                gone = key(element)
                original = [e for e in original if e.get(merge_key) != gone]
            case "replace":
                replaces = True
            case "merge":
                raise BadRequest("merging lists cannot yet be specified in the patch")
            case unknown if _DIRECTIVE in element:
                raise BadRequest(f"unknown patch type: {unknown} in map: {_go_text(element)}")
    return ([], plain) if replaces else (plain, original)


def _merge_ordered_lists(original: Object, patch: Object, type_name: str) -> None:
    """Merge the lists whose order the patch gives; what is done is taken out of the patch."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        name = directive.removeprefix(_ORDER)
        if not isinstance(order, list):
            raise BadRequest(_wrong_argument(order))
        spec = _spec(type_name, name)
        merge_key = spec.merge_key if spec is not None else ""
        key = _member(merge_key) if merge_key else _itself
        old, change = original.get(name), patch.pop(name, None)
        for told in (old, change):
            if not isinstance(told, list | None):
                raise BadRequest(_wrong_argument(told))
        _check_order(change or [], order, key)
        if old is None and change is None:
            continue
        if old is None:
            merged = _without_directives(change)[1]
        else:
            merged = [*old] if change is None else _merged_list(old, change, spec)
        before = _reference(old or [], change or [], merge_key)
        original[name] = _ordered(merged, order, before, key)


def _reference(old: list[Any], change: list[Any], merge_key: str) -> list[Any]:
    """Return the list by which elements that the patch does not order find their place.

    It is the old list as the server's edits leave it behind: new elements move into the room that
    deleted ones left.
    """
    if not any(isinstance(e, dict) and e.get(_DIRECTIVE) == "delete" for e in change):
        return old
    added, left = _obey_elements(old, change, merge_key)
    known = [element[merge_key] for element in left]
    return (left + [e for e in added if e.get(merge_key) not in known])[: len(old)]


def _check_order(patch: list[Any], order: list[Any], key: _Key) -> None:
    """Raise BadRequest if the elements of `patch` are not in `order`, in that order."""
    remaining = iter([key(element) for element in order])
    for element in patch if order else ():
        if isinstance(element, dict) and _DIRECTIVE in element:
            continue
        if key(element) not in remaining:  # Consumes `remaining` up to the element.
            raise BadRequest(
                f"The order in patch list:\n{_go_text(patch)}\n doesn't match {_ORDER[:-1]} list:\n"
                f"{_go_text(order)}\n"
            )


def _ordered(merged: list[Any], order: list[Any], before: list[Any], key: _Key) -> list[Any]:
    """Return `merged` in the order of the patch, the rest woven in by the order it had before.

    The elements that `order` names stand in that order. Each of the others is put in front of the
    first of them that it used to precede.
    """
    wanted = _places(order, key)
    was = _places(before, key)
    named = sorted(
        (e for e in merged if _hashable(key(e)) in wanted),
        key=lambda e: wanted[_hashable(key(e))],
    )
    others = sorted(
        (e for e in merged if _hashable(key(e)) not in wanted),
        key=lambda e: was.get(_hashable(key(e)), len(was)),
    )
    result: list[Any] = []
    for element in named:
        place = was.get(_hashable(key(element)), -1)
        while others and was.get(_hashable(key(others[0])), place) < place:
            result.append(others.pop(0))
        result.append(element)
    return result + others


def _places(elements: list[Any], key: _Key) -> dict[Any, int]:
    """Return the first place of every element."""
    return {_hashable(key(e)): i for i, e in reversed([*enumerate(elements)])}


def _wrong_argument(value: Any) -> str:
    """Return the error for something that is no list."""
    kinds: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "float64"}
    told = "map[string]interface {}" if isinstance(value, dict) else kinds.get(type(value), "<nil>")
    return f"expected a []interface {{}}, but received a {told}"


def _go_text(value: Any) -> str:
    """Return a JSON value as Go's %v prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{_go_text(v)}' for k, v in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go_text, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)
