"""Bodies: what they say, and what is said of broken ones."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import ApiError, BadRequest, UnsupportedMediaType
from kubeloop.net.rest import protobuf
from kubeloop.net.rest.bodies import (
    Broken,
    duplicate_fields,
    pack,
    parse_json,
    read_object,
    read_patch,
)
from kubeloop.net.rest.yamls import YamlError, parse_yaml

JSON, YAML = "application/json", "application/yaml"
keys = st.sampled_from(["a", "b", "c"])
trees = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["x", "y: z", "010", "yes"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"kind":', "unexpected end of JSON input"),
        ("", "unexpected end of JSON input"),
        ('{"a', "unexpected end of JSON input"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1 2}', "invalid character '2' after object key:value pair"),
        ('{"a":[{"b":"]"} 2]}', "invalid character '2' after array element"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a":}', "invalid character '}' looking for beginning of value"),
        ('{"a":1}x', "invalid character 'x' after top-level value"),
        ("x", "invalid character 'x' looking for beginning of value"),
        ("NaN", "invalid character 'N' looking for beginning of value"),
        ("[" * 100_000, "exceeded max depth"),
    ],
)
def test_broken_json_is_told_in_the_words_of_go(text: str, message: str) -> None:
    with pytest.raises(Broken) as broken:
        parse_json(text.encode())
    assert str(broken.value) == message


def test_a_broken_body_tells_what_was_wanted() -> None:
    with pytest.raises(BadRequest) as refused:
        read_object(b'{"kind":', JSON, "Pod", strict=False)
    assert refused.value.message == (
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; "
        'json parse error: unexpected end of JSON input ({"kind":)'
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b"null", b'"x"', b"\xff", b"{" * 2000])
@pytest.mark.parametrize("type_", [JSON, YAML, protobuf.MAGIC.decode(), ""])
def test_what_is_no_object_is_refused(body: bytes, type_: str) -> None:
    media = "application/vnd.kubernetes.protobuf" if type_.startswith("k8s") else type_
    with pytest.raises(BadRequest):
        read_object(body, media, "Pod", strict=True)


def test_unknown_types_are_refused() -> None:
    with pytest.raises(UnsupportedMediaType):
        read_object(b"{}", "text/plain", "Pod", strict=False)
    with pytest.raises(UnsupportedMediaType) as refused:
        read_patch(b"{}", "application/json")
    assert refused.value.message == (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, "
        "application/strategic-merge-patch+json, application/apply-patch+yaml"
    )


@pytest.mark.parametrize(
    ("type_", "body", "patch"),
    [
        ("application/json-patch+json", b"[]", ("json", [])),
        ("application/merge-patch+json; charset=utf-8", b'{"a":null}', ("merge", {"a": None})),
        ("application/strategic-merge-patch+json", b"{}", ("strategic", {})),
        ("application/apply-patch+yaml", b"a: b", ("apply", {"a": "b"})),
    ],
)
def test_patches(type_: str, body: bytes, patch: tuple[str, Any]) -> None:
    assert read_patch(body, type_) == patch


@pytest.mark.parametrize(
    ("type_", "body"),
    [("json-patch", b"{}"), ("merge-patch", b"[]"), ("merge-patch", b"{"), ("json-patch", b"x")],
)
def test_patches_of_a_wrong_shape(type_: str, body: bytes) -> None:
    with pytest.raises(BadRequest, match="error decoding patch"):
        read_patch(body, f"application/{type_}+json")


def test_what_cannot_be_packed_is_refused() -> None:
    deep: Any = {}
    for _ in range(2000):
        deep = {"a": deep}
    with pytest.raises(BadRequest):
        pack(deep)


def test_fields_named_twice_are_found_with_their_path() -> None:
    text = b'{"metadata":{"name":"a","name":"b"},"spec":{"c":[{"x":1},{"x":1,"x":2,"x":3}]}}'
    assert duplicate_fields(text) == ["metadata.name", "spec.c[1].x"]
    assert read_object(text, JSON, "Pod", strict=True).duplicates == [
        "metadata.name",
        "spec.c[1].x",
    ]
    assert read_object(text, JSON, "Pod", strict=False).duplicates == []


@given(trees)
def test_json_without_duplicates_has_none(tree: Any) -> None:
    assert duplicate_fields(json.dumps(tree).encode()) == []


# YAML.


@given(trees)
def test_yaml_says_what_json_says(tree: Any) -> None:
    """JSON is YAML, as far as these values go."""
    assert parse_yaml(json.dumps(tree).encode()) == (tree, [])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: 12:30:45", {"a": "12:30:45"}),
        ("a: 0777", {"a": 511}),
        ("a: 0x1F", {"a": 31}),
        ("a: 1_000", {"a": 1000}),
        ("a: on", {"a": True}),
        ("1: x", {"1": "x"}),
        ("true: x", {"true": "x"}),
        ("a: ~", {"a": None}),
        ("a: 1e3", {"a": "1e3"}),
        ("a: 1.5e+3", {"a": 1500.0}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("a: 123456789012345678901", {"a": 123456789012345678901.0}),
        ("", None),
        ("a: b\n---\nc: d", {"a": "b"}),
        ("a: !!str 1", {"a": "1"}),
        ("a: '1'", {"a": "1"}),
        ("x: &x [1]\ny: [*x, *x]", {"x": [1], "y": [[1], [1]]}),
    ],
)
def test_yaml_is_read_as_kubernetes_reads_it(text: str, value: Any) -> None:
    assert parse_yaml(text.encode()) == (value, [])


def test_yaml_fields_named_twice() -> None:
    assert parse_yaml(b"a: {b: 1, b: 2}\nc: [{d: 1, d: 1}]\n")[1] == ["a.b", "c[0].d"]


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "a: .nan",
        "? [1]\n: x",
        "a: &a [*a]",
        "<<: 1",
        "\tx",
        "a0: &a0 [x,x]\n"
        + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "- " * 2000,
        "[" * 1_000_000,
        "{a: " * 500_000,
    ],
)
def test_bad_and_hostile_yaml(text: str) -> None:
    with pytest.raises(YamlError):
        parse_yaml(text.encode())


@given(st.text(max_size=50))
def test_no_text_breaks_the_yaml_reader(text: str) -> None:
    try:
        read_object(text.encode(), YAML, "Pod", strict=True)
    except ApiError as error:
        assert error.code == 400
