"""Objects in JSON: Kubernetes' order, one encoding for all, bounded room."""

import json
from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.rest.encodings import Encodings, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.fixed_dictionaries(
    {"metadata": st.dictionaries(st.text(), VALUES, max_size=3)},
    optional={
        "kind": st.text(),
        "apiVersion": st.text(),
        "spec": VALUES,
        "data": VALUES,
        "a": VALUES,
    },
).flatmap(lambda obj: st.permutations(list(obj.items())).map(dict))


@given(OBJECTS)
def test_an_object_is_what_it_was_in_kubernetes_order(obj: dict[str, Any]) -> None:
    told = encode(dict(obj))
    assert json.loads(told.whole) == obj
    first = [name for name in ("kind", "apiVersion", "metadata") if name in obj]
    assert list(json.loads(told.whole))[: len(first)] == first
    bare = {name: value for name, value in obj.items() if name not in ("kind", "apiVersion")}
    assert json.loads(told.bare) == bare


@given(st.lists(OBJECTS, max_size=20), st.integers(100, 2000))
def test_what_is_forgotten_is_encoded_anew(objects: list[dict[str, Any]], room: int) -> None:
    encodings = Encodings(room)
    for obj in [*objects, *objects]:
        assert encodings.text(msgpack.packb(obj)) == encode(dict(obj))


def test_an_object_is_encoded_once_while_there_is_room() -> None:
    encodings = Encodings(1000)
    value, others = (
        msgpack.packb({"metadata": {"name": "n" * 100}}),
        [msgpack.packb({"metadata": {"name": f"{n:0100}"}}) for n in range(30)],
    )
    first = encodings.text(value)
    for other in others[:3]:
        encodings.text(other)
        assert encodings.text(value) is first, "it is asked for, so it is remembered"
    for other in others:
        encodings.text(other)
    assert encodings.text(value) is not first
    assert encodings.text(value) == first
