"""The codec: every message survives the wire, and what rides inside stays packed."""

from dataclasses import fields
from typing import Any, get_type_hints

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.messages import (
    Facts,
    Listing,
    Note,
    Outcome,
    Request,
    Subscribe,
    Synced,
    decode,
)
from kubeloop.api.calls import Message
from kubeloop.store.facts import Fact, key_of

plain: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
BY_HINT: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    int: st.integers(0, 2**63 - 1),
    bytes: st.binary(),
    dict[str, Any]: st.dictionaries(st.text(), plain, max_size=3),
    list[str]: st.lists(st.text(), max_size=3),
    list[bytes]: st.lists(st.binary(), max_size=3),
}
TYPES = (Request, Outcome, Subscribe, Listing, Synced, Facts, Note)


def messages(kind: type[Message]) -> st.SearchStrategy[Message]:
    hints = get_type_hints(kind)
    return st.builds(kind, **{f.name: BY_HINT[hints[f.name]] for f in fields(kind)})


@given(st.one_of(*map(messages, TYPES)))
def test_decode_inverts_encode(message: Message) -> None:
    assert decode(message.encode()) == message


def test_types_are_distinct() -> None:
    assert len({kind.TYPE for kind in TYPES}) == len(TYPES)


@given(st.dictionaries(st.text(), plain, max_size=5))
def test_objects_inside_stay_packed(obj: dict[str, Any]) -> None:
    """The packed bytes are found in the frame as they are, and come out as they went in."""
    packed = msgpack.packb(obj)
    for message in (
        Request("create", "pods", body=packed),
        Outcome("t", 200, 1, packed, items=[packed]),
        Facts(1, [Fact(1, "/registry/pods/default/a", packed).encoded]),
    ):
        assert packed in message.encode()
    outcome = decode(Outcome("t", 200, 1, b"", items=[packed, packed]).encode())
    assert isinstance(outcome, Outcome)
    assert outcome.items == [packed, packed]


@given(st.integers(1, 2**63 - 1), st.none() | st.binary(), st.text("ab/.-", min_size=1))
def test_facts_carry_facts(revision: int, value: bytes | None, name: str) -> None:
    fact = Fact(revision, key_of("pods", "default", name), value)
    again = decode(Facts(revision, [fact.encoded]).encode())
    assert isinstance(again, Facts)
    assert again.facts() == [fact]
    assert again.facts()[0].resource == "pods"


@given(plain)
def test_a_note_carries_anything(content: Any) -> None:
    note = decode(Note.of("topic", content))
    assert isinstance(note, Note)
    assert (note.topic, note.content()) == ("topic", content)


@given(plain.filter(lambda x: not (isinstance(x, list) and x and x[0] in range(8))))
def test_what_is_no_message_is_refused(content: Any) -> None:
    with pytest.raises(ValueError, match="not a message"):
        decode(msgpack.packb(content))
