"""JSON patch and merge patch: their laws, their limits, and Kubernetes' ways with bad input."""

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import ApiError, BadRequest, TooLarge
from kubeloop.api.patch import (
    DEPTH_MAX,
    OPERATIONS_MAX,
    PatchRejected,
    json_patch,
    merge_patch,
)

KUBECTL = Path(__file__).parents[2] / ".venv" / "bin" / "kubectl"

names = st.sampled_from(["a", "b", "c", "a/b", "a~1", "~", "", "-", "0"])
scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(0, 1) | st.text(max_size=2)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=4)


def same(a: Any, b: Any) -> bool:
    """Return whether two JSON values are equal, types included."""
    return repr(_sorted(a)) == repr(_sorted(b))


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _sorted(value[k]) for k in sorted(value)}
    return [_sorted(v) for v in value] if isinstance(value, list) else value


def difference(old: Any, new: Any, path: str = "") -> list[dict[str, Any]]:
    """Return a JSON patch that makes `new` of `old`."""
    if isinstance(old, dict) and isinstance(new, dict):
        operations = []
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
            if key not in new:
                operations.append({"op": "remove", "path": inner})
            elif key not in old:
                operations.append({"op": "add", "path": inner, "value": new[key]})
            else:
                operations += difference(old[key], new[key], inner)
        return operations
    if isinstance(old, list) and isinstance(new, list):
        shared = min(len(old), len(new))
        operations = []
        for index in range(shared):
            operations += difference(old[index], new[index], f"{path}/{index}")
        operations += [{"op": "remove", "path": f"{path}/{shared}"}] * (len(old) - shared)
        operations += [{"op": "add", "path": f"{path}/-", "value": v} for v in new[shared:]]
        return operations
    return [] if same(old, new) else [{"op": "replace", "path": path, "value": new}]


def merge_difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes `new` of `old`; `new` has no nulls."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for key, value in new.items():
        if key in old and isinstance(old[key], dict) and isinstance(value, dict):
            patch[key] = merge_difference(old[key], value)
        elif key not in old or not same(old[key], value):
            patch[key] = value
    return patch


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return [without_nulls(v) for v in value] if isinstance(value, list) else value


@given(objects, objects)
def test_a_difference_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    assert same(json_patch(old, difference(old, new)), new)


@given(objects, objects)
def test_inputs_are_never_changed(old: Any, new: Any) -> None:
    before, operations = copy.deepcopy(old), difference(old, new)
    told = copy.deepcopy(operations)
    made = json_patch(old, operations)
    merged = merge_patch(old, new)
    _scribble(made)
    _scribble(merged)
    assert same(old, before) and same(operations, told)


def _scribble(value: Any) -> None:
    """Change a value everywhere, to see who shares it."""
    for member in list(value.values() if isinstance(value, dict) else value):
        if isinstance(member, dict | list):
            _scribble(member)
    if isinstance(value, dict):
        value["scribble"] = 1
    else:
        value.append("scribble")


@given(objects)
def test_tests_see_types(obj: Any) -> None:
    for key, value in obj.items():
        path = f"/{key.replace('~', '~0').replace('/', '~1')}"
        assert same(json_patch(obj, [{"op": "test", "path": path, "value": value}]), obj)
        with pytest.raises(PatchRejected):
            json_patch(obj, [{"op": "test", "path": path, "value": [value]}])
    for wrong in (1.0, True, "1"):
        with pytest.raises(PatchRejected):
            json_patch({"n": 1}, [{"op": "test", "path": "/n", "value": wrong}])


@given(objects, objects)
def test_a_merge_difference_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    old, new = without_nulls(old), without_nulls(new)
    assert same(merge_patch(old, merge_difference(old, new)), new)


@given(objects, objects)
def test_merging_twice_is_merging_once(obj: Any, patch: Any) -> None:
    once = merge_patch(obj, patch)
    assert same(merge_patch(once, patch), once)


@given(objects)
def test_an_empty_patch_changes_nothing(obj: Any) -> None:
    assert same(merge_patch(obj, {}), obj)
    assert same(json_patch(obj, []), obj)


@given(objects, objects)
def test_a_merge_follows_the_rfc(obj: Any, patch: Any) -> None:
    """RFC 7386 in its own words, for patches without null inside lists."""

    def rfc(target: Any, told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        target = dict(target) if isinstance(target, dict) else {}
        for name, value in told.items():
            if value is None:
                target.pop(name, None)
            else:
                target[name] = rfc(target.get(name), value)
        return target

    def plain(value: Any, inside: bool = False) -> bool:
        if isinstance(value, dict):
            return all((v is not None or not inside) and plain(v, inside) for v in value.values())
        return not isinstance(value, list) or all(plain(v, True) for v in value)

    if plain(patch):
        assert same(merge_patch(obj, patch), rfc(obj, patch))


BASE = {"a": {"b": 1}, "l": [1, 2], "n": None}


APPLIES: list[tuple[Any, Any]] = [
    ({"op": "replace", "path": "/new", "value": 1}, BASE | {"new": 1}),
    ({"op": "copy", "from": "/nope", "path": "/x"}, BASE | {"x": None}),
    ({"op": "add", "path": "/x"}, BASE | {"x": None}),
    ({"op": "add", "path": "/l/-1", "value": 3}, BASE | {"l": [1, 2, 3]}),
    ({"op": "add", "path": "/l/0", "value": 3}, BASE | {"l": [3, 1, 2]}),
    ({"op": "remove", "path": "/l/-1"}, BASE | {"l": [1]}),
    ({"op": "replace", "path": "/l/1", "value": 3}, BASE | {"l": [1, 3]}),
    ({"op": "move", "from": "/a/b", "path": "/b"}, BASE | {"a": {}, "b": 1}),
    ({"op": "copy", "from": "/a", "path": "/l/-"}, BASE | {"l": [1, 2, {"b": 1}]}),
    ({"op": "replace", "path": "", "value": {"z": 1}}, {"z": 1}),
    ({"op": "test", "path": "/nope", "value": None}, BASE),
    ({"op": "test", "path": "", "value": BASE}, BASE),
]


@pytest.mark.parametrize(("operation", "result"), APPLIES)
def test_an_operation(operation: Any, result: Any) -> None:
    assert same(json_patch(BASE, [operation]), result)


REJECTED: list[Any] = [
    {"op": "nope", "path": "/a"},
    {"path": "/a"},
    {"op": "add", "value": 1},
    {"op": "add", "path": 5, "value": 1},
    {"op": "add", "path": "", "value": {}},
    {"op": "add", "path": "a", "value": 1},
    {"op": "add", "path": "/x/y", "value": 1},
    {"op": "add", "path": "/a/b/c", "value": 1},
    {"op": "add", "path": "/l/3", "value": 1},
    {"op": "add", "path": "/l/-4", "value": 1},
    {"op": "add", "path": "/l/x", "value": 1},
    {"op": "add", "path": "/l/99999999999999999999", "value": 1},
    {"op": "remove", "path": "/nope"},
    {"op": "remove", "path": "/l/2"},
    {"op": "remove", "path": ""},
    {"op": "replace", "path": "/l/2", "value": 1},
    {"op": "replace", "path": "", "value": 1},
    {"op": "replace", "path": "", "value": []},
    {"op": "move", "from": "/nope", "path": "/x"},
    {"op": "move", "from": "/a", "path": "/a/b/c"},
    {"op": "copy", "path": "/x"},
    {"op": "test", "path": "/a/b", "value": 2},
    {"op": "test", "path": "/a/b"},
]


@pytest.mark.parametrize("operation", REJECTED)
def test_what_does_not_apply_is_refused_with_kubernetes_only_word(operation: Any) -> None:
    with pytest.raises(PatchRejected) as caught:
        json_patch(BASE, [operation])
    assert caught.value.status() == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": "the server rejected our request due to an error in our request",
        "reason": "Invalid",
        "details": {},
        "code": 422,
    }


@pytest.mark.kubectl
@pytest.mark.skipif(not KUBECTL.exists(), reason="the kubectl wheel is not installed")
@pytest.mark.parametrize(
    "operation", [o for o, _ in APPLIES if o["path"]] + [o for o in REJECTED if o.get("path")]
)
def test_kubectl_applies_the_same_operations(operation: Any, tmp_path: Path) -> None:
    obj = BASE | {"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": "x"}}
    file = tmp_path / "object.json"
    file.write_text(json.dumps(obj))
    told = [KUBECTL, "patch", "--local", "--type=json", "-f", file, "-o", "json"]
    oracle = subprocess.run([*told, "-p", json.dumps([operation])], capture_output=True, text=True)
    if oracle.returncode == 0:
        assert same(json_patch(obj, [operation]), json.loads(oracle.stdout))
    else:
        with pytest.raises(PatchRejected):
            json_patch(obj, [operation])


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({}, "json: cannot unmarshal object into Go value of type jsonpatch.Patch"),
        ("x", "json: cannot unmarshal string into Go value of type jsonpatch.Patch"),
        ([1], "json: cannot unmarshal number into Go value of type jsonpatch.Operation"),
    ],
)
def test_what_is_no_json_patch(patch: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        json_patch({}, patch)
    assert caught.value.message == message


@pytest.mark.parametrize("patch", [None, "x", 1, []])
def test_what_is_no_merge_patch(patch: Any) -> None:
    with pytest.raises(BadRequest):
        merge_patch({}, patch)


def test_a_patch_has_a_bounded_number_of_operations() -> None:
    noop = {"op": "test", "path": "/a", "value": 1}
    assert json_patch({"a": 1}, [noop] * OPERATIONS_MAX) == {"a": 1}
    with pytest.raises(TooLarge) as caught:
        json_patch({"a": 1}, [noop] * (OPERATIONS_MAX + 1))
    assert caught.value.message == (
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000,"
        " got 10001"
    )


def test_copies_of_copies_do_not_fill_the_memory() -> None:
    grow = [{"op": "copy", "from": "/a", "path": "/a/-"}] * 40
    with pytest.raises(PatchRejected) as caught:
        json_patch({"a": ["x" * 1000]}, grow)
    assert "accumulated size" in caught.value.why


def test_objects_do_not_grow_too_deep() -> None:
    nest = [{"op": "add", "path": "/x", "value": {}}, {"op": "move", "from": "/a", "path": "/x/a"}]
    back = [{"op": "move", "from": "/x", "path": "/a"}]
    with pytest.raises(ApiError):
        json_patch({"a": {}}, (nest + back) * 3000)
    deep: Any = 1
    for _ in range(100_000):
        deep = {"a": deep}
    for patch in (deep, {"l": [deep]}):
        with pytest.raises(ApiError):
            merge_patch({}, patch)
        with pytest.raises(ApiError):
            json_patch({}, [{"op": "add", "path": "/a", "value": patch}])
    fine: Any = 1
    for _ in range(DEPTH_MAX - 1):
        fine = {"a": fine}
    assert merge_patch({}, fine) == fine
