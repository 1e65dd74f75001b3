"""Selectors: against a naive model, through their text, and with Kubernetes' own errors."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import BadRequest
from kubeloop.api.resources import RESOURCES
from kubeloop.api.selectors import (
    EVERYTHING,
    NOTHING,
    LabelSelector,
    Requirement,
    label_selector,
    parse_fields,
    parse_labels,
    set_selector,
)

PODS = RESOURCES["pods"]

keys = st.sampled_from(["a", "b", "app", "in", "notin", "x.io/a-b", "A_1"])
values = st.sampled_from(["", "a", "b", "in", "notin", "5", "12", "1.2", "v-1_x"])
labels = st.dictionaries(keys, values)
numbers = st.integers(0, 20).map(str)


@st.composite
def requirements(draw: st.DrawFn) -> Requirement:
    operator = draw(st.sampled_from(["in", "notin", "=", "==", "!=", ">", "<", "exists", "!"]))
    match operator:
        case "exists" | "!":
            told: tuple[str, ...] = ()
        case "in" | "notin":
            told = tuple(sorted(draw(st.sets(values, min_size=1))))
        case ">" | "<":
            told = (draw(numbers),)
        case _:
            told = (draw(values),)
    return Requirement(draw(keys), operator, told)


@st.composite
def selectors(draw: st.DrawFn) -> LabelSelector:
    told = draw(st.lists(requirements(), max_size=4))
    return LabelSelector(tuple(sorted(told, key=lambda r: r.key)))


def naive(requirement: Requirement, have: dict[str, str]) -> bool:
    """What the documentation says, word for word."""
    key, told = requirement.key, requirement.values
    if requirement.operator == "exists":
        return key in have
    if requirement.operator == "!":
        return key not in have
    if requirement.operator in ("=", "==", "in"):
        return key in have and have[key] in told
    if requirement.operator in ("!=", "notin"):
        return not (key in have and have[key] in told)
    try:
        number = int(have[key])
    except (KeyError, ValueError):
        return False
    return number > int(told[0]) if requirement.operator == ">" else number < int(told[0])


@given(selectors(), labels)
def test_it_matches_as_the_model_does(selector: LabelSelector, have: dict[str, str]) -> None:
    assert selector.matches(have) == all(naive(r, have) for r in selector.requirements)


@pytest.mark.parametrize(
    ("text", "absent", "empty", "five", "word"),
    [
        ("a", False, True, True, True),
        ("!a", True, False, False, False),
        ("a=5", False, False, True, False),
        ("a==", False, True, False, False),
        ("a!=5", True, True, False, True),
        ("a in (5,)", False, True, True, False),
        ("a notin (5,)", True, False, False, True),
        ("a>4", False, False, True, False),
        ("a>5", False, False, False, False),
        ("a<6", False, False, True, False),
        ("a<5", False, False, False, False),
    ],
)
def test_each_operator(text: str, absent: bool, empty: bool, five: bool, word: bool) -> None:
    selector = parse_labels(text)
    haves: list[dict[str, str]] = [{"b": "5"}, {"a": ""}, {"a": "5"}, {"a": "x"}]
    assert [selector.matches(have) for have in haves] == [absent, empty, five, word]


@given(selectors())
def test_text_and_value_invert_each_other(selector: LabelSelector) -> None:
    assert parse_labels(str(selector)) == selector


@given(labels, labels)
def test_a_set_selects_its_supersets(wanted: dict[str, str], have: dict[str, str]) -> None:
    assert set_selector(wanted).matches(have) == (wanted.items() <= have.items())
    assert label_selector({"matchLabels": wanted}) == set_selector(wanted)


@given(st.text(alphabet="ab,!=<>() \tin'\"-_./\0é", max_size=20))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        selector = parse_labels(text)
    except BadRequest:
        return
    assert parse_labels(str(selector)) == selector


LABEL_ERRORS = {
    "a===b": "unable to parse requirement: found '=', expected: identifier",
    "a b": "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    "a in b": "unable to parse requirement: found 'b' expected: '('",
    "a in (b c)": "unable to parse requirement: found 'c', expected: ',' or ')'",
    "a in (=": "unable to parse requirement: found '=', expected: ',', ')' or identifier",
    "a in (b,=": "unable to parse requirement: found '=', expected: ',', or identifier",
    "=a": "found '=', expected: !, identifier, or 'end of string'",
    "a,": "found '', expected: identifier after ','",
    "!": "unable to parse requirement: found '', expected: identifier",
    "a=b!": "found '!', expected: ',' or 'end of string'",
    "!a=b": "found '=', expected: ',' or 'end of string'",
    "a>x": "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators,"
    " the value must be an integer",
    "_x": 'unable to parse requirement: <nil>: Invalid value: "_x": name part must consist of'
    " alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric"
    " character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is"
    " '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
    "a=-b": 'unable to parse requirement: values[0][a]: Invalid value: "-b": a valid label must be'
    " an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used"
    " for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
}


@pytest.mark.parametrize("text", LABEL_ERRORS)
def test_bad_label_selectors_are_refused_as_kubernetes_does(text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_labels(text)
    assert caught.value.message == LABEL_ERRORS[text]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("", ""),
        (" app = d1 ", "app=d1"),
        ("app in (p1,p2),!x", "app in (p1,p2),!x"),
        ("x in (foo,,baz),y,z notin ()", "x in (,baz,foo),y,z notin ()"),
        ("b,a", "a,b"),
        ("in in (in,notin)", "in in (in,notin)"),
        ("a=", "a="),
        ("a!=b,c==d", "a!=b,c==d"),
    ],
)
def test_selectors_have_a_canonical_text(text: str, canonical: str) -> None:
    assert str(parse_labels(text)) == canonical


def test_selectors_inside_objects() -> None:
    assert label_selector(None) == NOTHING
    assert label_selector({}) == EVERYTHING
    assert not NOTHING.matches({}) and EVERYTHING.matches(None)
    told = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "canary", "operator": "DoesNotExist"},
            {"key": "zone", "operator": "Exists"},
            {"key": "old", "operator": "NotIn", "values": ["x"]},
        ],
    }
    assert str(label_selector(told)) == "app=web,!canary,old notin (x),tier in (a,b),zone"


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ({"key": "a", "operator": "Is"}, '"Is" is not a valid label selector operator'),
        (
            {"key": "a", "operator": "In"},
            "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
        ),
        (
            {"key": "a", "operator": "Exists", "values": ["b"]},
            'values: Invalid value: ["b"]: values set must be empty for exists and does not exist',
        ),
    ],
)
def test_bad_selectors_inside_objects(expression: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        label_selector({"matchExpressions": [expression]})
    assert caught.value.message == message


POD = {
    "metadata": {"name": "p", "namespace": "ns"},
    "spec": {"nodeName": "n1", "hostNetwork": True},
    "status": {"phase": "Running"},
}


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("metadata.name=p", True),
        ("metadata.name==p,metadata.namespace=ns", True),
        ("metadata.name=q", False),
        ("spec.nodeName=", False),
        ("spec.nodeName!=", True),
        ("spec.host=n1", True),
        ("spec.hostNetwork=true", True),
        ("spec.schedulerName=", True),
        ("status.phase!=Running", False),
        ("status.phase!=Failed,,spec.nodeName=n1", True),
    ],
)
def test_fields_of_a_pod(text: str, matches: bool) -> None:
    assert parse_fields(text, PODS).matches(POD) is matches


@pytest.mark.parametrize(
    ("resource", "obj", "text"),
    [
        ("pods", {}, "spec.nodeName=,spec.hostNetwork=false,metadata.name="),
        ("nodes", {"spec": {}}, "spec.unschedulable=false"),
        ("nodes", {"spec": {"unschedulable": True}}, "spec.unschedulable=true"),
        ("replicationcontrollers", {}, "status.replicas=0"),
        ("replicationcontrollers", {"status": {"replicas": 3}}, "status.replicas=3"),
        ("events", {"source": {"component": "kubelet"}}, "source=kubelet"),
        ("events", {"source": {}, "reportingComponent": "kubelet"}, "source=kubelet"),
        ("events", {"involvedObject": {"kind": "Pod"}}, "involvedObject.kind=Pod"),
        ("secrets", {"type": "Opaque"}, "type=Opaque"),
        ("configmaps", {"metadata": {"namespace": "x"}}, "metadata.namespace=x"),
    ],
)
def test_fields_of_other_kinds(resource: str, obj: dict[str, Any], text: str) -> None:
    assert parse_fields(text, RESOURCES[resource]).matches(obj)


FIELD_ERRORS = [
    ("pods", "spec.foo=x", "field label not supported: spec.foo"),
    ("nodes", "metadata.namespace=x", "field label not supported: metadata.namespace"),
    (
        "configmaps",
        "data=x",
        '"data" is not a known field selector: only "metadata.name", "metadata.namespace"',
    ),
    ("pods", "x", "invalid selector: 'x'; can't understand 'x'"),
    (
        "pods",
        "metadata.name=a=b",
        "invalid field selector: unescaped character in value: 61",
    ),
    ("pods", r"metadata.name=\x", r"invalid field selector: invalid escape sequence: \x"),
    ("pods", "metadata.name=\\", "invalid field selector: invalid escape sequence: \\"),
]


@pytest.mark.parametrize(("resource", "text", "message"), FIELD_ERRORS)
def test_bad_field_selectors(resource: str, text: str, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_fields(text, RESOURCES[resource])
    assert caught.value.message == message


@given(st.dictionaries(st.sampled_from(["metadata.name", *PODS.fields]), st.text("a\\,=!é")))
def test_field_selectors_survive_their_text(told: dict[str, str]) -> None:
    escape = str.maketrans({c: f"\\{c}" for c in "\\,="})
    text = ",".join(f"{field}={value.translate(escape)}" for field, value in told.items())
    selector = parse_fields(text, PODS)
    assert {term.field: term.value for term in selector.terms} == told
    assert parse_fields(str(selector), PODS) == selector
    for field, value in told.items():
        assert selector.requires(field) == value


def test_what_a_field_selector_requires() -> None:
    selector = parse_fields("metadata.name=p,status.phase!=Failed", PODS)
    assert selector.requires("metadata.name") == "p"
    assert selector.requires("status.phase") is None
