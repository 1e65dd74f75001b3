"""The language of admission policies: a variable is what it stands for, a literal what it says."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.admission.language import Language, Run
from kubeloop.api.admission.literals import (
    Mismatch,
    plain,
    untyped,
    variables_in,
    whole,
    with_variables,
)
from kubeloop.api.cel import Failure, environment

pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

NAMES = "abc"
leaves = st.sampled_from(["1", "2", "0", "object.n", "object.gone"])


def terms(names: str) -> st.SearchStrategy[str]:
    """Return arithmetic that may fail, over variables."""
    known = leaves | st.sampled_from([f"variables.{name}" for name in names] or ["3"])
    return st.recursive(
        known,
        lambda inner: (
            st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(
                lambda told: f"({told[0]} {told[1]} {told[2]})"
            )
            | st.tuples(inner, inner, inner).map(
                lambda told: f"({told[0]} == {told[1]} ? {told[1]} : {told[2]})"
            )
        ),
        max_leaves=4,
    )


@given(terms(""), terms("a"), terms("ab"), terms("abc"))
def test_a_variable_is_what_it_stands_for(a: str, b: str, c: str, text: str) -> None:
    language, inlined = Language(params=False), dict[str, str]()
    for name, told in zip(NAMES, (a, b, c), strict=True):
        language.declare(name, f"dyn({told})")
        inlined[name] = f"dyn({with_variables(told, inlined)})"
    scope = {"object": {"n": 5}}
    ours = Run(language.variables, scope).value(language.program(f"dyn({text})"))
    whole_ = environment("object").typed(f"dyn({with_variables(text, inlined)})").evaluate(scope)
    assert isinstance(ours, Failure) == isinstance(whole_, Failure)
    if not isinstance(ours, Failure):
        assert ours == whole_


RESERVED = {"in", "as", "if", "for", "let", "var", "true", "null", "loop", "void", "else"}
fields = st.from_regex(r"[a-z][A-Za-z0-9]{0,4}", fullmatch=True).filter(
    lambda name: name not in RESERVED
)
values: st.SearchStrategy[Any] = st.recursive(
    st.integers(-9, 9) | st.text("ab{}'\"\\/,: \n", max_size=5) | st.booleans() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.from_regex(r"[a-z][A-Za-z0-9]{0,4}", fullmatch=True), inner, max_size=3
        )
    ),
    max_leaves=8,
)


def literal(value: Any, path: str) -> str:
    """Return what makes a value, of types."""
    if isinstance(value, dict):
        fields = (f"{key}: {literal(one, f'{path}.{key}')}" for key, one in value.items())
        return f"{path} {{{', '.join(fields)}}}"
    if isinstance(value, list):
        return f"[{', '.join(literal(one, path) for one in value)}]"
    return json.dumps(value)


@given(st.dictionaries(st.sampled_from(["a", "op", "spec"]), values))
def test_a_literal_is_what_it_says(value: dict[str, Any]) -> None:
    text = literal(value, "Object")
    assert whole(text) == "Object"
    made = environment("object").typed(untyped(text)).evaluate({"object": None})
    assert plain(made, "Object") == value


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("variables.a + variables . b", ("a", "b")),
        ("object.variables.a", ()),
        ('\'variables.a\' + r\'variables.b\' + """variables.c"""', ()),
        ("1 // variables.a\n + variables.b", ("b",)),
    ],
)
def test_which_variables_are_spoken_of(text: str, names: tuple[str, ...]) -> None:
    assert variables_in(text) == names


@pytest.mark.parametrize("value", [2**70, {"n": -(2**64)}, "\ud800", ["\udfff"]])
def test_what_the_language_has_no_values_for_is_a_failure(value: Any) -> None:
    compiled = environment("object").typed("object.x == object.x")
    assert isinstance(compiled.evaluate({"object": {"x": value}}), Failure)


def test_types_stand_where_they_belong() -> None:
    env = environment("object")
    wrong = env.typed(untyped("Object{a: [Object.b{}]}")).evaluate({"object": None})
    with pytest.raises(Mismatch, match=r'type name "Object\.b", expected "Object\.a"'):
        plain(wrong, "Object")
    assert untyped("a.Object{x: 1}") == "a.Object{x: 1}"
    assert whole("Object.a{} == Object.a{}") == ""
