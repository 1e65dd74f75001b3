"""What a MutatingAdmissionPolicy makes of an object: configurations to apply, JSON patches. Pure.

Source: Kubernetes, "Mutating Admission Policy: Patch types"; k8s.io/apiserver's patchers in
behaviour.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from kubeloop.api.admission.language import Run
from kubeloop.api.admission.literals import OBJECT, PATCH, TYPE, Mismatch, plain, type_of
from kubeloop.api.admission.policies import Mutation, failed
from kubeloop.api.cel import Failure
from kubeloop.api.errors import ApiError
from kubeloop.api.managed.comparing import problems
from kubeloop.api.managed.merging import merge
from kubeloop.api.managed.shapes import FREE, KEYED, LEAF, MAP, SET, Shape
from kubeloop.api.patch import json_patch

_ATOMIC: Final = "may not mutate atomic arrays, maps or structs"
_FIXED: Final = ("apiVersion", "kind")

Object = dict[str, Any]


def mutated(mutation: Mutation, obj: Object, run: Run, shape: Shape) -> Object:
    """Return an object as a mutation wants it. Raises: Failure."""
    value = run.value(mutation.made)
    if isinstance(value, Failure):
        raise Failure(failed(mutation.made, value))
    _check_plain(value)
    try:
        if mutation.type == "JSONPatch":
            return _patched(obj, value)
        return _applied(obj, value, shape)
    except Mismatch as error:
        raise Failure(f"type mismatch: {error}") from None


def _applied(obj: Object, value: Any, shape: Shape) -> Object:
    """Return an object with a configuration merged into it. Raises: Failure, Mismatch."""
    if not isinstance(value, dict) or type_of(value) not in ("", OBJECT):
        raise Failure(f"must evaluate to Object but got {type_of(value) or type(value).__name__}")
    config = plain(value, OBJECT)
    found = list(problems(shape, config))
    if found:
        raise Failure(
            f"error applying patch: failed to convert patch object to typed object: {found[0]}"
        )
    atomic = list(_atomic(shape, config, ""))
    if atomic:
        raise Failure(
            f"error applying patch: invalid ApplyConfiguration: {_ATOMIC}: {', '.join(atomic)}"
        )
    return merge(shape, obj, {**{name: obj[name] for name in _FIXED if name in obj}, **config})


def _atomic(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """Yield the paths of what could only be replaced as a whole."""
    if shape.form == FREE:
        return
    if shape.form == LEAF:
        if isinstance(value, dict | list):
            yield path
    elif shape.form == MAP and isinstance(value, dict):
        for name, one in value.items():
            inner = shape.at(name)
            if inner is not None:
                yield from _atomic(inner, one, f"{path}.{name}")
    elif shape.form == KEYED and isinstance(value, list) and shape.element is not None:
        for number, one in enumerate(value):
            yield from _atomic(shape.element, one, f"{path}[{number}]")
    else:
        assert shape.form in (SET, MAP, KEYED)


def _patched(obj: Object, value: Any) -> Object:
    """Return an object with a JSON patch applied. Raises: Failure, Mismatch."""
    operations = []
    for one in value if isinstance(value, list) else [None]:
        if not isinstance(one, dict) or type_of(one) != PATCH:
            told = type_of(one) or type(one).__name__
            raise Failure(f"type mismatch: JSONPatchType.op: expected JSONPatch but got {told}")
        operation = {name: plain(told) for name, told in one.items() if name != TYPE}
        operations.append(operation)
    try:
        patched = json_patch(obj, operations)
    except ApiError as error:
        raise Failure(f"JSON Patch: {error}") from None
    if not isinstance(patched, dict):
        raise Failure("JSON Patch: the patch must leave an object")
    return patched


def _check_plain(value: Any) -> None:
    """Raises: Failure if a value holds what no object can."""
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise Failure("only strings can be keys of an object")
        for one in value.values():
            _check_plain(one)
    elif isinstance(value, list):
        for one in value:
            _check_plain(one)
    elif isinstance(value, datetime | timedelta | bytes | bytearray):
        raise Failure(f"a {type(value).__name__} cannot be put into an object: use string(…)")
