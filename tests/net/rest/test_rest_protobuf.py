"""Kubernetes' protobuf, against objects its own encoder wrote and against itself."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.rest import protobuf
from kubeloop.net.rest.protobuf import Field, ProtobufError, table

GOLDEN = Path(__file__).parents[4] / "shared" / "facts" / "golden"
SPECIAL = {
    "apis.meta.v1.Time": st.integers(0, 4_000_000_000).map(
        lambda s: protobuf.rfc3339(s)  # Whole seconds.
    ),
    "apis.meta.v1.MicroTime": st.integers(0, 999_999).map(
        lambda micros: f"2026-11-23T05:58:18.{micros:06d}Z"
    ),
    "util.intstr.IntOrString": st.integers(-(1 << 31), (1 << 31) - 1) | st.text(max_size=5),
    "api.resource.Quantity": st.sampled_from(["1", "100m", "1Gi", "0"]),
    "apis.meta.v1.FieldsV1": st.just({"f:metadata": {"f:labels": {}}}),
    "runtime.RawExtension": st.just({"a": [1, "x"]}),
    **{
        f"{group}.v1.ExtraValue": st.lists(st.text(max_size=3), max_size=2)  # In JSON, a list.
        for group in ("authentication", "authorization", "certificates")
    },
}
SCALARS = {
    -1: st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
    -2: st.sampled_from(["AAE=", "/w=="]),
    -3: st.just(True),
    -4: st.integers(-(1 << 31), (1 << 31) - 1).filter(bool),
    -5: st.integers(-(1 << 63), (1 << 63) - 1).filter(bool),
}


def golden() -> list[Path]:
    if not GOLDEN.is_dir():
        return []
    kinds = {tuple(kind.split(" ")) for kind in table().kinds}
    found = []
    for path in sorted(GOLDEN.glob("*.json")):
        obj = json.loads(path.read_text())
        if (obj.get("apiVersion"), obj.get("kind")) in kinds:
            found.append(path)
    return found


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="the recorded objects are not at hand")
def test_there_are_golden_objects() -> None:
    assert len(golden()) >= 8


@pytest.mark.parametrize("path", golden(), ids=lambda path: path.stem)
def test_golden_objects_both_ways(path: Path) -> None:
    obj, body = json.loads(path.read_text()), path.with_suffix(".pb").read_bytes()
    assert protobuf.decode(body) == obj
    assert protobuf.encode(obj) == body


def messages(index: int, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    """Return objects of a message, with whatever fields."""
    message = table().messages[index]
    fields = {}
    for field in message.by_number.values():
        strategy = values(field, depth)
        if strategy is not None and field.form != 3:
            fields[field.name] = strategy
    return st.fixed_dictionaries({}, optional=fields)


def values(field: Field, depth: int) -> st.SearchStrategy[Any] | None:
    if field.type < 0:
        one: st.SearchStrategy[Any] = SCALARS[field.type]
        if field.form == 4:
            one = one | st.just(zero(field.type))
    else:
        name = table().messages[field.type].name
        if name in SPECIAL:
            one = SPECIAL[name]
        elif depth == 0:
            return None
        else:
            one = st.deferred(lambda: messages(field.type, depth - 1))
    if field.form == 1:
        return st.lists(one, min_size=1, max_size=2)
    if field.form == 2:
        return st.dictionaries(st.text(max_size=3), one, min_size=1, max_size=2)
    return one


def zero(type_: int) -> Any:
    return {-1: "", -2: "", -3: False}.get(type_, 0)


@given(st.data())
def test_what_is_encoded_is_decoded(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(table().kinds)))
    message = data.draw(messages(table().kinds[kind], depth=2))
    api_version, _, name = kind.partition(" ")
    # What a body's envelope says of its kind is not in the message itself.
    obj = {**message, "kind": name, "apiVersion": api_version}
    body = protobuf.encode(obj)
    assert body is not None
    assert protobuf.decode(body) == obj


@given(st.binary(max_size=200), st.booleans())
def test_hostile_bytes_end_in_an_error(noise: bytes, enveloped: bool) -> None:
    body = protobuf.MAGIC + noise
    if enveloped:
        head = b"\x0a\x09\x0a\x02v1\x12\x03Pod\x12"
        body = protobuf.MAGIC + head + bytes([len(noise) & 0x7F]) + noise
    with contextlib.suppress(ProtobufError):
        protobuf.decode(body)


@given(st.integers(0, 200))
def test_a_truncated_body_is_an_error_or_smaller(cut: int) -> None:
    pod = {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "x", "labels": {"a": "b"}}}
    body = protobuf.encode(pod)
    assert body is not None
    with contextlib.suppress(ProtobufError):
        assert protobuf.decode(body[:cut]) != pod or cut >= len(body) - 4


def test_a_zero_is_kept_only_where_it_says_something() -> None:
    """`kubectl create deployment --replicas=0` means none; other zeros are what Go did not set."""
    deployment = {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web", "namespace": ""},
        "spec": {
            "replicas": 0,
            "minReadySeconds": 0,
            "paused": False,
            "template": {"spec": {"hostNetwork": False, "enableServiceLinks": False}},
        },
    }
    body = protobuf.encode(deployment)
    assert body is not None
    assert protobuf.decode(body) == {
        "kind": "Deployment",
        "apiVersion": "apps/v1",
        "metadata": {"name": "web"},
        "spec": {"replicas": 0, "template": {"spec": {"enableServiceLinks": False}}},
    }


def test_what_kubectl_sends() -> None:
    """The body of `kubectl create ns foo`, as recorded."""
    body = (
        b'k8s\x00\n\x0f\n\x02v1\x12\tNamespace\x12\x1b\n\x13\n\x03foo\x12\x00\x1a\x00"\x00*\x002\x00'
        b'8\x00B\x00\x12\x00\x1a\x02\n\x00\x1a\x00"\x00'
    )
    assert protobuf.decode(body) == {
        "kind": "Namespace",
        "apiVersion": "v1",
        "metadata": {"name": "foo"},
        "spec": {},
        "status": {},
    }


def test_an_unknown_kind_is_named() -> None:
    body = protobuf.MAGIC + b"\x0a\x0a\x0a\x02v1\x12\x04Nope\x12\x00"
    with pytest.raises(ProtobufError, match='no kind "Nope" is registered for version "v1"'):
        protobuf.decode(body)
