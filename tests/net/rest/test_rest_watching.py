"""What a watcher with a selector is told, against a model that lists before and after."""

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import BadRequest
from kubeloop.api.resources import RESOURCES
from kubeloop.net.choice import Choice, transition
from kubeloop.net.rest import watching
from kubeloop.net.rest.encodings import Encodings
from kubeloop.net.rest.negotiation import JSON, Media
from kubeloop.net.rest.watching import (
    JsonCache,
    Teller,
    everything_type,
)
from kubeloop.store.facts import Fact

PODS = RESOURCES["pods"]
CHOICES = ["", "a=1", "a", "!a", "a notin (1)"]
FIELDS = ["", "metadata.name=x", "status.phase!=Running", "spec.nodeName=n1"]

states = st.none() | st.fixed_dictionaries(
    {
        "labels": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2),
        "phase": st.sampled_from(["Running", "Pending"]),
        "node": st.sampled_from(["", "n1", "n2"]),
    }
)
steps = st.lists(st.tuples(st.sampled_from(["x", "y", "z"]), states), max_size=12)


def pod(name: str, state: dict[str, Any], revision: int) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(revision)}
    return {
        "metadata": {**metadata, "labels": state["labels"]},
        "spec": {"nodeName": state["node"]},
        "status": {"phase": state["phase"]},
        "apiVersion": "v1",
        "kind": "Pod",
    }


def history(moves: list[tuple[str, dict[str, Any] | None]]) -> list[Fact]:
    """Return the facts of a history in which `moves` happen, as far as they change something."""
    now: dict[str, bytes] = {}
    facts = []
    for name, state in moves:
        prev = now.get(name)
        if state is None and prev is None:
            continue
        revision = len(facts) + 1
        value = None if state is None else msgpack.packb(pod(name, state, revision))
        facts.append(Fact(revision, f"/registry/pods/default/{name}", value, prev))
        if value is None:
            del now[name]
        else:
            now[name] = value
    return facts


@given(steps, st.sampled_from(CHOICES), st.sampled_from(FIELDS), st.integers(0, 12))
def test_list_then_watch_is_the_list_afterwards(
    moves: list[tuple[str, dict[str, Any] | None]], labels: str, fields: str, start: int
) -> None:
    choice = Choice.parse(PODS, labels, fields)
    facts = history(moves)

    def listed(revision: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for fact in facts[:revision]:
            found.pop(fact.key, None)
            obj = fact.object()
            if obj is not None and choice.matches(obj):
                found[fact.key] = obj
        return found

    seen = listed(start)
    last = start
    for fact in facts[start:]:
        change = transition(fact, choice)
        if change is None:
            continue
        type_, obj = change
        assert (fact.key in seen) == (type_ != "ADDED"), "added once, changed while there"
        assert int(obj["metadata"]["resourceVersion"]) == fact.revision > last
        last = fact.revision
        if type_ == "DELETED":
            gone = seen.pop(fact.key)
            gone["metadata"]["resourceVersion"] = str(fact.revision)
            assert obj == gone, "as it was when it was last seen"
        else:
            seen[fact.key] = obj
        assert seen == listed(fact.revision)
    assert seen == listed(len(facts))


@given(steps)
def test_lines_from_the_cache_are_the_same_lines(
    moves: list[tuple[str, dict[str, Any] | None]],
) -> None:
    facts, cache = history(moves), JsonCache(Encodings())

    def teller(labels: str) -> Teller:
        choice = Choice.parse(PODS, labels, "")
        return Teller(PODS, choice, Media(JSON), include="", cache=cache, now=lambda: 0.0)

    everything, again = teller(""), teller("")
    list(teller("a=1").facts(facts))
    lines = list(everything.facts(facts))
    assert list(again.facts(facts)) == lines
    events = [json.loads(line) for line in lines]
    assert [e["type"] for e in events] == [everything_type(fact) for fact in facts]
    for event in events:
        assert list(event["object"])[:3] == ["kind", "apiVersion", "metadata"]


def test_a_table_tells_its_columns_once() -> None:
    media = Media(JSON, "Table", "v1")
    choice = Choice.parse(PODS, "", "")
    teller = Teller(PODS, choice, media, include="", cache=JsonCache(Encodings()), now=lambda: 0.0)
    state = {"labels": {}, "phase": "Running", "node": "n1"}
    facts = history([("x", state), ("y", state), ("x", None)])
    events = [json.loads(line) for line in teller.facts(facts)]
    assert [event["type"] for event in events] == ["ADDED", "ADDED", "DELETED"]
    tables = [event["object"] for event in events]
    assert {table["kind"] for table in tables} == {"Table"}
    assert [table["columnDefinitions"] is None for table in tables] == [False, True, True]
    assert [table["rows"][0]["object"]["metadata"]["name"] for table in tables] == ["x", "y", "x"]
    assert [table["metadata"]["resourceVersion"] for table in tables] == ["1", "2", "3"]


def test_bookmarks() -> None:
    teller = Teller(
        PODS, Choice(), Media(JSON), include="", cache=JsonCache(Encodings()), now=lambda: 0.0
    )
    assert json.loads(teller.bookmark(7)) == {
        "type": "BOOKMARK",
        "object": {"kind": "Pod", "apiVersion": "v1", "metadata": {"resourceVersion": "7"}},
    }
    end = json.loads(teller.bookmark(7, initial_end=True))
    annotations = end["object"]["metadata"]["annotations"]
    assert annotations == {"k8s.io/initial-events-end": "true"}


def test_a_choice_knows_what_it_requires() -> None:
    choice = Choice.parse(PODS, "a=1", "metadata.name=x,spec.nodeName!=n")
    assert choice.requires("metadata.name") == "x"
    assert choice.requires("spec.nodeName") == ""
    assert Choice().everything and not choice.everything


def test_wrong_selectors_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"field label not supported: spec\.foo"):
        Choice.parse(PODS, "", "spec.foo=x")


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_CACHE_MAX", 1000)
    cache = JsonCache(Encodings())
    state = {"labels": {}, "phase": "Running", "node": "n1"}
    facts = history([(f"p{number}", state) for number in range(100)])
    for fact in facts:
        change = transition(fact, Choice())
        assert change is not None
        assert cache.line(fact, change) == cache.line(fact, change) == cache.known(fact)
    assert sum(cache.known(fact) is not None for fact in facts) < 10
