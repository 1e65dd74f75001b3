"""Lists: as things are, and exactly as they were, until that is forgotten."""

from typing import Any

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubeloop.api.errors import Expired
from kubeloop.store.facts import NO_CAUSE, key_of, prefix_of
from kubeloop.store.history import _STEP, CompareFailed, History, Retention, Write
from kubeloop.store.store import Store

NAMESPACES = ("a", "b")
NAMES = ("x", "y", "z")
NODES = ("", "n1", "n2")
keys = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES))


def pod(node: str, number: int) -> bytes:
    spec = {"nodeName": node} if node else {}
    packed: bytes = msgpack.packb({"spec": spec, "n": number})
    return packed


class Lists(RuleBasedStateMachine):
    """A history that forgets, beside dictionaries that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store.memory(retention=Retention(revisions=4))
        self.model: dict[str, tuple[bytes, int]] = {}
        self.past: dict[int, dict[str, bytes]] = {0: {}}
        self.durable: dict[str, bytes] = {}
        self.count = 0

    @rule(key=keys, node=st.none() | st.sampled_from(NODES), other=st.none() | keys)
    def commit(self, key: tuple[str, str], node: str | None, other: Any) -> None:
        self.count += 1
        writes = [Write(key_of("pods", *key), None if node is None else pod(node, self.count))]
        if other is not None and other != key:
            writes.append(Write(key_of("pods", *other), pod("", -self.count)))
        revision = self.store.commit(writes, NO_CAUSE)
        for write in writes:
            self.model.pop(write.key, None)
            if write.value is not None:
                self.model[write.key] = (write.value, revision)
        self.past[revision] = {k: v for k, (v, _) in self.model.items()}

    @rule(key=keys, offset=st.integers(-1, 1))
    def compare(self, key: tuple[str, str], offset: int) -> None:
        name = key_of("pods", *key)
        found = self.model.get(name, (b"", 0))[1]
        expect = max(0, found + offset)
        write = Write(name, pod("", self.count), expect)
        if expect == found:
            self.model[name] = (pod("", self.count), self.store.commit([write], NO_CAUSE))
            self.past[self.store.revision] = {k: v for k, (v, _) in self.model.items()}
        else:
            with pytest.raises(CompareFailed):
                self.store.commit([write], NO_CAUSE)

    @rule()
    def flush(self) -> None:
        told: list[Exception | None] = []
        self.store.flush(told.append)
        assert told == [None]
        self.durable = {k: v for k, (v, _) in self.model.items()}

    @rule(back=st.integers(0, 20), start=st.sampled_from(("", "x", "y")), limit=st.integers(0, 3))
    def look_back(self, back: int, start: str, limit: int) -> None:
        revision = max(0, self.store.revision - back)
        prefix = prefix_of("pods", "a")
        start_after = prefix + start if start else ""
        if revision < self.store.history.floor:
            with pytest.raises(Expired):
                self.store.list(prefix, revision=revision)
            return
        page = self.store.list(prefix, revision=revision, start_after=start_after, limit=limit)
        past = self.past[revision]
        wanted = sorted(k for k in past if k.startswith(prefix) and k > start_after)
        shown = wanted[:limit] if limit else wanted
        assert [(i.key, i.value) for i in page.items] == [(k, past[k]) for k in shown]
        assert page.remaining == len(wanted) - len(shown)
        for key in (key_of("pods", "a", name) for name in NAMES):
            found = self.store.get(key, revision)
            assert (found and found.value) == past.get(key)

    @precondition(lambda self: self.store.revision > self.store.durable)
    @rule()
    def take_back(self) -> None:
        self.store.history.rollback(self.store.durable)
        self.store._facts.clear()
        self.model = {
            k: (v, found.revision)
            for k, v in self.past[self.store.durable].items()
            if (found := self.store.get(k))
        }
        assert {k: v for k, (v, _) in self.model.items()} == self.durable

    @invariant()
    def latest_is_the_model(self) -> None:
        page = self.store.list("/registry/pods/")
        assert {i.key: (i.value, i.revision) for i in page.items} == self.model


TestLists = Lists.TestCase
TestLists.settings = settings(max_examples=100, stateful_step_count=60)


def test_history_forgets_in_time() -> None:
    history = History(retention=Retention(revisions=10))
    for number in range(1000):
        history.commit([Write(key_of("pods", "a", f"p{number % 7}"), pod("", number))], NO_CAUSE)
        history.settled = history.revision
        assert len(history.since(history.floor)) <= 10
    assert len(history._versions) <= 11 + _STEP


def commit(store: Store, *keys: str) -> int:
    revision = store.commit([Write(key, pod("", 1)) for key in keys], NO_CAUSE)
    store.flush(lambda _: None)
    return revision


def test_the_past_is_exact_when_keys_came_and_went_since() -> None:
    store = Store.memory()
    keys = [key_of("pods", "a", f"p{n}") for n in range(6)]
    then = commit(store, *keys[:4])
    store.commit([Write(keys[1], None), Write(keys[3], None)], NO_CAUSE)
    commit(store, keys[4], keys[5], key_of("pods", "b", "x"), key_of("nodes", "", "x"))
    page = store.list(prefix_of("pods", "a"), revision=then, limit=1)
    assert ([i.key for i in page.items], page.remaining) == (keys[:1], 3)
    rest = store.list(prefix_of("pods", "a"), revision=then, start_after=keys[0], limit=2)
    assert ([i.key for i in rest.items], rest.remaining) == (keys[1:3], 1)


def test_taking_back_a_key_that_had_come_again() -> None:
    store = Store.memory()
    key = key_of("pods", "a", "x")
    then = commit(store, key)
    store.commit([Write(key, None)], NO_CAUSE)
    store.flush(lambda _: None)
    store.commit([Write(key, b"again")], NO_CAUSE)
    store.history.rollback(store.durable)
    assert store.get(key) is None
    assert [i.key for i in store.list(prefix_of("pods"), revision=then).items] == [key]
