"""The contract of the store: a list, plus the facts since that list, equals a list now.

Watchers lag arbitrarily far behind a history that forgets; none may ever be wrong.
"""

from dataclasses import dataclass, field
from typing import Any

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from kubeloop.api.errors import Expired
from kubeloop.store import watch
from kubeloop.store.facts import NO_CAUSE, Fact, key_of, prefix_of
from kubeloop.store.history import _STEP, CompareFailed, History, Retention, Write
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor

NAMESPACES = ("a", "b")
NAMES = ("x", "y", "z")
NODES = ("", "n1", "n2")
LABELS = (None, ("parity", ("odd",)), ("parity", ("odd", "even")), ("n3", ("y",)), ("n3", ()))
# What a watcher asks for beside a namespace: a name, a node, labels.
NARROWED = [
    ("", "", None),
    *(("", node, None) for node in NODES[1:]),
    *((name, "", None) for name in NAMES),
    *(("", "", labels) for labels in LABELS[1:]),
    ("x", "", LABELS[1]),
]
keys = st.tuples(st.sampled_from(NAMESPACES), st.sampled_from(NAMES))


def pod(node: str, number: int) -> bytes:
    spec = {"nodeName": node} if node else {}
    labels = {"parity": "odd" if number % 2 else "even", **({"n3": "y"} if number % 3 else {})}
    packed: bytes = msgpack.packb({"metadata": {"labels": labels}, "spec": spec, "n": number})
    return packed


@dataclass
class Watcher:
    """A client: what it asked for, what it believes, and its cursor."""

    cursor: Cursor
    namespace: str
    name: str
    node: str
    labels: Any
    view: dict[str, bytes]
    woken: int = 0
    revisions: list[int] = field(default_factory=list)
    heard: set[tuple[int, str]] = field(default_factory=set)

    def wants(self, key: str, value: bytes) -> bool:
        _, _, _, namespace, name = key.split("/")
        obj = msgpack.unpackb(value)
        if self.node:
            return bool(obj["spec"].get("nodeName") == self.node)
        if self.labels and not self.name:
            label, wanted = self.labels
            has = obj["metadata"]["labels"].get(label)
            if has is None or (wanted and has not in wanted):
                return False
        return self.namespace in ("", namespace) and self.name in ("", name)


class ListThenWatch(RuleBasedStateMachine):
    watchers = Bundle("watchers")

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

    @rule(
        target=watchers,
        namespace=st.sampled_from(("", *NAMESPACES)),
        narrowed=st.sampled_from(NARROWED),
        back=st.integers(0, 4),
    )
    def watch(self, namespace: str, narrowed: tuple[str, str, Any], back: int) -> Watcher:
        name, node, labels = narrowed
        revision = max(self.store.history.floor, self.store.durable - back)
        watcher: Watcher

        def wake() -> None:
            watcher.woken += 1

        cursor = self.store.hub.open(
            resources=["pods"], revision=revision, namespace=namespace, name=name, node=node,
            labels=labels, wake=wake,
        )  # fmt: skip
        watcher = Watcher(cursor, namespace, name, node, labels, {})
        page = self.store.list(prefix_of("pods"), revision=revision)
        past = self.past[revision]
        assert {i.key: i.value for i in page.items} == past
        watcher.view = {k: v for k, v in past.items() if watcher.wants(k, v)}
        return watcher

    @rule(watcher=watchers, limit=st.integers(1, 5))
    def catch_up(self, watcher: Watcher, limit: int) -> None:
        woken = watcher.woken
        try:
            while facts := watcher.cursor.take(limit):
                assert facts[0].revision > self.store.history.floor, "that is forgotten"
                self.fold(watcher, facts)
        except Expired:
            return  # It was cut off, and must list again; the next `watch` does.
        assert not watcher.cursor.behind
        assert watcher.cursor.revision == self.store.durable
        assert watcher.woken == woken, "taking wakes nobody"
        assert watcher.revisions == sorted(watcher.revisions), "in order"
        wanted = {k: v for k, v in self.durable.items() if watcher.wants(k, v)}
        assert watcher.view == wanted

    def fold(self, watcher: Watcher, facts: list[Fact]) -> None:
        for fact in facts:
            assert (fact.revision, fact.key) not in watcher.heard, "once"
            watcher.heard.add((fact.revision, fact.key))
            watcher.revisions.append(fact.revision)
            if fact.value is None or not watcher.wants(fact.key, fact.value):
                watcher.view.pop(fact.key, None)
            else:
                watcher.view[fact.key] = fact.value

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


TestListThenWatch = ListThenWatch.TestCase
TestListThenWatch.settings = settings(max_examples=300, stateful_step_count=60)


def test_an_idle_watcher_is_woken_once() -> None:
    store = Store.memory()
    woken = []
    store.hub.open(resources=["pods"], revision=0, wake=lambda: woken.append(1))
    for number in range(5):
        store.commit([Write(key_of("pods", "a", "x"), pod("", number))], NO_CAUSE)
        store.flush(lambda _: None)
    assert woken == [1]


def test_a_watcher_that_never_takes_is_cut_off_and_costs_no_more() -> None:
    store = Store.memory(retention=Retention(revisions=10))
    cursor = store.hub.open(resources=["pods"], revision=0, wake=lambda: None)
    for number in range(1000):
        store.commit([Write(key_of("pods", "a", "x"), pod("", number))], NO_CAUSE)
        store.flush(lambda _: None)
    (trail,) = cursor._trails
    assert len(trail.facts) <= 10 + watch._SWEEP_MIN
    with pytest.raises(Expired, match="too old resource version"):
        cursor.take()
    with pytest.raises(Expired):
        store.hub.open(resources=["pods"], revision=1, wake=lambda: None)


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


def test_a_watcher_of_many_resources_hears_them_in_order() -> None:
    store = Store.memory()
    resources = ["pods", "nodes", "services"]
    cursor = store.hub.open(resources=resources, revision=0, wake=lambda: None)
    keys = [key_of(resources[n % 3], "", f"x{n}") for n in range(30)]
    for key in keys:
        commit(store, key, key_of("secrets", "a", "x"))
    heard: list[str] = []
    while facts := cursor.take(4):
        heard += [fact.key for fact in facts]
        assert cursor.behind == (len(heard) < len(keys))
    assert heard == keys
    assert cursor.revision == 30


def test_a_revision_is_not_done_before_all_its_facts_are_taken() -> None:
    store = Store.memory()
    cursor = store.hub.open(resources=["pods"], revision=0, wake=lambda: None)
    commit(store, *(key_of("pods", "a", name) for name in NAMES))
    assert len(cursor.take(2)) == 2
    assert cursor.revision == 0, "who resumes from here hears the third"
    assert len(cursor.take(2)) == 1
    assert cursor.revision == 1


def test_cursors_open_later_or_earlier_share_what_was_told() -> None:
    store = Store.memory()
    keys = [key_of("pods", "a", f"p{n}") for n in range(10)]
    for key in keys:
        commit(store, key)
    hub = store.hub
    cursors = [
        hub.open(resources=["pods"], revision=r, wake=lambda: None) for r in (7, 10, 2, 0, 5)
    ]
    commit(store, keys[0])
    assert [len(c.take(2)) for c in cursors] == [2, 1, 2, 2, 2]
    assert [len(c.take()) for c in cursors] == [2, 0, 7, 9, 4]
    for cursor in cursors:
        cursor.close()
        cursor.close()
    assert not hub._trails


def test_a_watch_may_begin_in_the_future() -> None:
    store = Store.memory()
    cursor = store.hub.open(resources=["pods"], revision=2, wake=lambda: None)
    for name in NAMES:
        commit(store, key_of("pods", "a", name))
    assert [fact.revision for fact in cursor.take()] == [3]


def test_a_pod_is_told_to_the_node_it_leaves() -> None:
    store = Store.memory()
    key, heard = key_of("pods", "a", "x"), list[str]()
    watchers = {
        node: store.hub.open(
            resources=["pods"], revision=0, node=node, wake=lambda node=node: heard.append(node)
        )
        for node in ("n1", "n2")
    }
    for number, node in enumerate(("", "n1", "n1", "n2")):
        store.commit([Write(key, pod(node, number))], NO_CAUSE)
        store.flush(lambda _: None)
    store.commit([Write(key, None)], NO_CAUSE)
    store.flush(lambda _: None)
    assert [f.revision for f in watchers["n1"].take()] == [2, 3, 4]
    assert [f.revision for f in watchers["n2"].take()] == [4, 5]
    assert heard == ["n1", "n2"], "each woken once"
    assert not store.hub._nodes, "nothing is remembered of pods that are gone"


def test_whoever_is_woken_may_close_another() -> None:
    store = Store.memory()
    woken: list[int] = []
    cursors: list[Cursor] = []

    def wake(number: int) -> None:
        woken.append(number)
        for cursor in cursors:
            cursor.close()

    cursors += [
        store.hub.open(resources=["pods"], revision=0, wake=lambda n=number: wake(n))
        for number in range(3)
    ]
    commit(store, key_of("pods", "a", "x"))
    assert woken == [0]


def test_a_label_called_node_name_is_no_node() -> None:
    store = Store.memory()
    cursor = store.hub.open(resources=["pods"], revision=0, node="n1", wake=lambda: None)
    labels = {"metadata": {"labels": {"nodeName": "n1"}}, "spec": {"nodeName": "n2"}}
    store.commit([Write(key_of("pods", "a", "x"), msgpack.packb(labels))], NO_CAUSE)
    store.flush(lambda _: None)
    assert cursor.take() == []


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


def test_labels_route_only_what_concerns_a_watcher() -> None:
    store, woken = Store.memory(), list[int]()
    for number in range(100):
        store.hub.open(
            resources=["pods"],
            revision=0,
            labels=("app", (f"a{number}",)),
            wake=lambda number=number: woken.append(number),
        )
    key = key_of("pods", "a", "x")
    for app in ("a7", "a7", "a9", None):
        labels = {"metadata": {"labels": {"app": app}}} if app else {"metadata": {}}
        store.commit([Write(key, msgpack.packb(labels))], NO_CAUSE)
        store.flush(lambda _: None)
    assert woken == [7, 9], "each once, until it takes"


def test_a_label_somewhere_else_in_an_object_is_none_of_its_labels() -> None:
    store = Store.memory()
    cursor = store.hub.open(
        resources=["pods"], revision=0, labels=("app", ("web",)), wake=lambda: None
    )
    template = {"metadata": {"labels": {"app": "web"}}}
    for number, obj in enumerate(
        (
            {"spec": {"template": template, "selector": {"labels": {"app": "web"}}}},
            {"metadata": {"name": "labels"}, "spec": template},
            {"metadata": {"annotations": {"labels": "app=web"}, "labels": None}},
            {"metadata": None, "labels": {"app": "web"}},
        )
    ):
        store.commit([Write(key_of("pods", "a", f"x{number}"), msgpack.packb(obj))], NO_CAUSE)
    store.flush(lambda _: None)
    assert cursor.take() == []
