"""Sets of fields: the laws of sets, whatever is in them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.managed import sets
from kubeloop.api.managed.sets import FieldSet

Path = tuple[str, ...]

STEPS = st.sampled_from(["f:a", "f:b", 'k:{"n":1}', 'v:"x"'])
PATHS = st.sets(st.lists(STEPS, min_size=1, max_size=4).map(tuple), max_size=8)


def made(paths: set[Path]) -> FieldSet:
    """Return the set of some paths."""
    found: FieldSet = {}
    for path in paths:
        node: dict[str, Any] = {}
        for step in reversed(path):
            node = {step: node}
        found = sets.union(found, node)
    return found


def members(of: FieldSet, above: Path = ()) -> set[Path]:
    """Return what is in a set."""
    found: set[Path] = set()
    for key, node in of.items():
        if key != sets.SELF:
            here = (*above, key)
            found |= {here} if sets.has_itself(node) else set()
            found |= members(node, here)
    return found


@given(PATHS, PATHS)
def test_operations_are_those_of_sets(one: set[Path], other: set[Path]) -> None:
    a, b = made(one), made(other)
    assert members(a) == one
    results = {
        "union": (sets.union(a, b), one | other),
        "difference": (sets.difference(a, b), one - other),
        "intersection": (sets.intersection(a, b), one & other),
        "without": (
            sets.without(a, b),
            {p for p in one if not any(p[: n + 1] in other for n in range(len(p)))},
        ),
    }
    for found, wanted in results.values():
        assert members(found) == wanted
        assert found == made(wanted)  # There is one way to write a set.
    assert sets.contains(a, b) == (other <= one)


@given(PATHS, PATHS)
def test_what_does_not_change_is_the_same_object(one: set[Path], other: set[Path]) -> None:
    a = made(one)
    assert sets.difference(a, made(other - one)) is a
    assert sets.union(a, made(one & other)) is a


@given(PATHS)
def test_what_is_written_is_read(one: set[Path]) -> None:
    a = made(one)
    assert sets.check(sets.ordered(a)) == a
    assert len(set(sets.paths(a))) == len(one)


@pytest.mark.parametrize(
    "told",
    [[], "f:a", {"a": {}}, {"f": {}}, {"k:[1]": {}}, {"k:{": {}}, {"v:": {}}, {"f:a": {"b": {}}}],
)
def test_what_is_no_set_is_refused(told: Any) -> None:
    with pytest.raises(sets.BadSet):
        sets.check(told)
