"""Structural schemas: what is pruned, defaulted and refused, in Kubernetes' words."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.cel import BadRule
from kubeloop.api.rules import Rules
from kubeloop.api.structural import Structural

SPEC: dict[str, Any] = {
    "type": "object",
    "properties": {
        "spec": {
            "type": "object",
            "required": ["a"],
            "properties": {
                "a": {"type": "string", "maxLength": 5, "minLength": 1, "pattern": "^[a-z]*$"},
                "n": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
                "kind": {"type": "string", "enum": ["one", "two"]},
                "either": {"x-kubernetes-int-or-string": True},
                "map": {"type": "object", "additionalProperties": {"type": "integer"}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "set": {
                    "type": "array",
                    "items": {"type": "string"},
                    "x-kubernetes-list-type": "set",
                    "maxItems": 3,
                },
                "list": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {
                        "type": "object",
                        "required": ["k"],
                        "properties": {
                            "k": {"type": "string"},
                            "v": {"type": "string", "default": "of the list"},
                        },
                    },
                },
                "pod": {
                    "type": "object",
                    "x-kubernetes-embedded-resource": True,
                    "x-kubernetes-preserve-unknown-fields": True,
                },
            },
        },
    },
}
STRUCTURAL = Structural(SPEC)


def told(spec: Any) -> list[str]:
    return [f"{c.field}: {c.message}" for c in STRUCTURAL.problems({"spec": spec})]


def typed(field: str, wanted: str, found: str) -> str:
    """Return what is said of a value of another type."""
    detail = f'{field} in body must be of type {wanted}: "{found}"'
    return f'{field}: Invalid value: "{found}": {detail}'


def limited(field: str, value: int, limit: str) -> str:
    return f"{field}: Invalid value: {value}: {field} in body should be {limit}"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"a": "ok"}, []),
        ({}, ["spec.a: Required value"]),
        ({"a": 1}, [typed("spec.a", "string", "integer")]),
        ({"a": "toolong"}, ["spec.a: Too long: may not be more than 5 bytes"]),
        ({"a": "UP"}, ["spec.a: Invalid value: \"UP\": spec.a in body should match '^[a-z]*$'"]),
        ({"a": ""}, ['spec.a: Invalid value: "": spec.a in body should be at least 1 chars long']),
        ({"a": "x", "n": 0}, [limited("spec.n", 0, "greater than or equal to 1")]),
        ({"a": "x", "n": 10}, [limited("spec.n", 10, "less than or equal to 9")]),
        ({"a": "x", "n": 1.5}, [typed("spec.n", "integer", "number")]),
        ({"a": "x", "n": True}, [typed("spec.n", "integer", "boolean")]),
        ({"a": "x", "kind": "three"},
         ['spec.kind: Unsupported value: "three": supported values: "one", "two"']),
        ({"a": "x", "either": 3}, []),
        ({"a": "x", "either": "30%"}, []),
        ({"a": "x", "either": 1.5}, [typed("spec.either", "integer,string", "number")]),
        ({"a": "x", "map": {"b": "c"}}, [typed("spec.map.b", "integer", "string")]),
        ({"a": "x", "set": ["p", "q", "p"]}, ['spec.set[2]: Duplicate value: "p"']),
        ({"a": "x", "set": ["p", "q", "r", "s"]},
         ["spec.set: Too many: 4: must have at most 3 items"]),
        ({"a": "x", "list": [{"k": "1"}, {"k": "1"}]},
         ['spec.list[1]: Duplicate value: {"k":"1"}']),
        ({"a": "x", "list": [{}]}, ["spec.list[0].k: Required value"]),
        (None, [typed("spec", "object", "null")]),
    ],
)  # fmt: skip
def test_what_is_wrong(spec: Any, says: list[str]) -> None:
    assert told(spec) == says


def test_unknown_fields_go_and_free_ones_stay() -> None:
    obj = {
        "apiVersion": "v1", "kind": "Foo", "metadata": {"name": "x"}, "more": 1,
        "spec": {
            "a": "x", "b": 1, "map": {"any": 1}, "free": {"b": {"c": 1}},
            "list": [{"k": "1", "z": 1}],
            "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
        },
    }  # fmt: skip
    assert sorted(STRUCTURAL.prune(obj)) == ["more", "spec.b", "spec.list[0].z"]
    assert obj["spec"] == {
        "a": "x", "map": {"any": 1}, "free": {"b": {"c": 1}}, "list": [{"k": "1"}],
        "pod": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {}},
    }  # fmt: skip


def test_defaults_come_where_something_is_missing() -> None:
    obj: dict[str, Any] = {"spec": {"n": None, "list": [{"k": "1"}, {"k": "2", "v": "own"}]}}
    STRUCTURAL.default(obj)
    assert obj == {
        "spec": {"n": 3, "list": [{"k": "1", "v": "of the list"}, {"k": "2", "v": "own"}]}
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 20) | st.text("abUP1", max_size=7),
    lambda x: (
        st.lists(x, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "n", "k", "v", "z", "list", "set", "free"]), x)
    ),
    max_leaves=12,
)
specs = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("a", "n", "kind", "either", "map", "free", "set", "list", "z"), json_values
    ),
)


@given(specs)
def test_pruning_and_defaulting_once_is_enough_and_judging_changes_nothing(spec: Any) -> None:
    obj = {"spec": spec}
    STRUCTURAL.prune(obj)
    STRUCTURAL.default(obj)
    after = copy.deepcopy(obj)
    assert STRUCTURAL.prune(obj) == []
    STRUCTURAL.default(obj)
    STRUCTURAL.problems(obj)
    assert obj == after


SORTED = "!has(self.l) || (self.l.isSorted() && self.l.sum() < 10)"
FAILED = "spec: Invalid value: rule evaluation failed"
RULES = Rules(
    {
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "a": {"type": "string"},
                    "n": {"type": "number"},
                    "l": {"type": "array", "items": {"type": "integer"}},
                    "when": {"type": "string", "format": "date-time"},
                    "items": {
                        "type": "array",
                        "x-kubernetes-list-type": "map",
                        "x-kubernetes-list-map-keys": ["k"],
                        "items": {
                            "type": "object",
                            "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                            "x-kubernetes-validations": [
                                {"rule": "self.v >= oldSelf.v", "message": "v may not shrink"}
                            ],
                        },
                    },
                },
                "x-kubernetes-validations": [
                    {"rule": "self.a != 'bad'"},
                    {"rule": "self.a == oldSelf.a", "message": "a is fixed",
                     "reason": "FieldValueForbidden", "fieldPath": ".a"},
                    {"rule": "!has(self.n) || self.n > 1.5",
                     "messageExpression": "'n is ' + string(self.n)"},
                    {"rule": SORTED},
                    {"rule": "!has(self.when) || timestamp(self.when).getFullYear() > 2025",
                     "message": "too early"},
                    {"rule": "!oldSelf.hasValue() || has(self.n)", "optionalOldSelf": True,
                     "message": "n is needed by now"},
                ],
            }
        },
    }
)  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "old", "says"),
    [
        ({"a": "x"}, None, []),
        ({"a": "bad"}, None, ["spec: Invalid value: failed rule: self.a != 'bad'"]),
        ({"a": "x", "n": 1}, None, ["spec: Invalid value: n is 1"]),
        ({"a": "x", "n": 2}, {"a": "y"}, ["spec.a: Forbidden: a is fixed"]),
        ({"a": "x"}, {"a": "x"}, ["spec: Invalid value: n is needed by now"]),
        ({"a": "x", "l": [2, 1]}, None,
         [f"spec: Invalid value: failed rule: {SORTED}"]),
        ({"a": "x", "when": "2025-06-01T00:00:00Z"}, None, ["spec: Invalid value: too early"]),
        ({"a": "x", "when": "2026-06-01T00:00:00Z"}, None, []),
        ({}, None, [f'{FAILED}: no such key: a']),
        ({"a": "x", "n": 2, "items": [{"k": "1", "v": 1}, {"k": "2", "v": 0}]},
         {"a": "x", "items": [{"k": "1", "v": 2}]},
         ["spec.items[0]: Invalid value: v may not shrink"]),
    ],
)  # fmt: skip
def test_rules(spec: Any, old: Any, says: list[str]) -> None:
    before = None if old is None else {"spec": old}
    assert [f"{c.field}: {c.message}" for c in RULES.broken({"spec": spec}, before)] == says


def test_a_rule_that_is_none_is_refused() -> None:
    with pytest.raises(
        BadRule, match=r"properties\[a\].x-kubernetes-validations\[0\].rule: compil"
    ):
        Rules({"properties": {"a": {"x-kubernetes-validations": [{"rule": "self.nothing("}]}}})
