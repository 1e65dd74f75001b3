"""Server-side apply: what holds after any sequence of applies and updates.

Random writers apply random configurations of a custom object with lists, sets and maps. The model
is a dict from each writer to what he applied last.
"""

from typing import Any

from apply_cases import Step
from hypothesis import given
from hypothesis import strategies as st
from test_apply import do, server_for

from kubeloop.api.managed import sets
from kubeloop.api.managed.comparing import named
from kubeloop.api.managed.shapes import shape_of

NAMES = st.sampled_from(["a", "b", "c"])
TEXT = st.sampled_from(["1", "2", "3"])
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "a": TEXT,
        "size": st.integers(1, 3),
        "keyed": st.lists(
            st.fixed_dictionaries({"k": NAMES}, optional={"v": TEXT}),
            max_size=3,
            unique_by=lambda one: one["k"],
        ),
        "set": st.lists(NAMES, max_size=3, unique=True),
        "plain": st.lists(NAMES, max_size=2),
        "atomic": st.dictionaries(NAMES, TEXT, max_size=2),
        "free": st.dictionaries(NAMES, st.dictionaries(NAMES, TEXT, max_size=2), max_size=2),
    },
)
WRITES = st.tuples(
    st.sampled_from(["apply", "force", "force", "merge"]),
    st.sampled_from(["m1", "m2", "m3"]),
    SPECS,
)


def leaves(obj: Any, only: sets.FieldSet) -> dict[str, Any]:
    """Return the values of an object's fields that are in a set, by path."""
    return dict(_leaves(obj, "", only)) if only else {}


def _leaves(value: Any, path: str, node: sets.FieldSet) -> Any:
    if not node:
        yield path, value
    for key, below in node.items():
        if key == sets.SELF:
            continue
        step = next(sets.paths({key: {}}))
        yield from _leaves(_child(value, key), path + step, below)


def _child(value: Any, key: str) -> Any:
    """Return what a step leads to; None if there is nothing."""
    if key.startswith("f:"):
        return value.get(key[2:]) if isinstance(value, dict) else None
    if key.startswith("v:"):
        return next((one for one in value or () if f'v:"{one}"' == key), None)
    return next((one for one in value or () if f'k:{{"k":"{one["k"]}"}}' == key), None)


def fields_of(obj: Any, manager: str) -> sets.FieldSet:
    entries = obj["metadata"].get("managedFields", ())
    wanted = (manager, "Apply")
    return next(
        (e["fieldsV1"] for e in entries if (e["manager"], e["operation"]) == wanted), sets.EMPTY
    )


@given(st.lists(WRITES, min_size=1, max_size=8))
def test_every_applier_has_what_he_manages(writes: list[tuple[str, str, Any]]) -> None:
    """Nobody loses a field he still manages; what he applied last he manages, or another took."""
    server = server_for("Thing")
    shape = shape_of(server.core.state.catalogue().find("things.x.io", "v1"))
    last: dict[str, Any] = {}
    for how, manager, spec in writes:
        code, obj = do(server, "Thing", Step(how, manager, {"spec": spec}))
        if code >= 300:
            assert (how, code) in (("apply", 409), ("merge", 404)), obj
            continue
        if how != "merge":
            last[manager] = {"spec": spec}
            wanted = sets.difference(named(shape, last[manager]), {"f:spec": {}})
            assert sets.contains(fields_of(obj, manager), wanted)
        for applier, config in last.items():
            mine = fields_of(obj, applier)
            has, wants = leaves(obj, mine), leaves(config, mine)
            for path, value in wants.items():  # Of a map he may keep only that it is there.
                assert has[path] == value or (isinstance(value, dict) and path != ".spec.atomic")
            assert sets.contains(named(shape, config), mine)


@given(st.lists(WRITES, max_size=4), SPECS)
def test_applying_twice_is_applying_once(writes: list[tuple[str, str, Any]], spec: Any) -> None:
    server, spec = server_for("Thing"), {"a": "1", **spec}  # Who names nothing manages nothing.
    for how, manager, told in writes:
        do(server, "Thing", Step(how, manager, {"spec": told}))
    once = do(server, "Thing", Step("force", "m1", {"spec": spec}))[1]
    revision = server.store.revision
    assert do(server, "Thing", Step("apply", "m1", {"spec": spec})) == (200, once)
    assert server.store.revision == revision


@given(SPECS, SPECS)
def test_the_only_applier_leaves_what_he_applied(first: Any, second: Any) -> None:
    """What one applier wrote first has no effect on what is there after he applies another."""
    direct = _after(second)
    assert _after(first, second) == direct


def _after(*specs: Any) -> Any:
    server = server_for("Thing")
    for spec in specs:
        code, obj = do(server, "Thing", Step("apply", "m1", {"spec": {"a": "1", **spec}}))
        assert code < 300, obj
    return {k: v for k, v in (obj.get("spec") or {}).items() if v not in ([], {})}
