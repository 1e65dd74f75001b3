"""The watch hub: what it costs, what it forgets, and where an object belongs.

What it promises is tested beside a model in `test_watch_contract.py`.
"""

from typing import Any

import msgpack
import pytest

from kubeloop.api.errors import Expired
from kubeloop.store import watch
from kubeloop.store.facts import NO_CAUSE, Fact, key_of
from kubeloop.store.history import History, Retention, Write
from kubeloop.store.routes import Routing, routes_of
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor, Hub

NAMES = ("x", "y", "z")
FOREVER = Retention(revisions=None, bytes=None)
KEY = key_of("pods", "a", "x")


def pod(number: int, node: str = "") -> bytes:
    spec = {"nodeName": node} if node else {}
    packed: bytes = msgpack.packb({"metadata": {}, "spec": spec, "n": number})
    return packed


def commit(store: Store, *keys: str) -> int:
    revision = store.commit([Write(key, pod(1)) for key in keys], NO_CAUSE)
    store.flush(lambda _: None)
    return revision


def open_all(store: Store, revision: int, **asked: Any) -> Cursor:
    """Return a cursor over pods that wakes nobody."""
    return store.hub.open(resources=["pods"], revision=revision, wake=lambda: None, **asked)


def kept(store: Store) -> int:
    """Return how many facts the longest trail has."""
    return max(len(trail.facts) for trail in store.hub._trails.values())


# Who does not take.


def test_who_never_takes_is_cut_off_once_the_history_has_forgotten() -> None:
    store = Store.memory(retention=Retention(revisions=10))
    cursor = open_all(store, 0)
    for _ in range(1000):
        commit(store, KEY)
        assert kept(store) <= 10 + watch._SWEEP_MIN
    with pytest.raises(Expired, match=r"too old resource version: 0 \(\d+\)"):
        cursor.take()
    with pytest.raises(Expired):
        open_all(store, 1)


def test_who_never_takes_is_cut_off_though_the_history_keeps_everything() -> None:
    store = Store.memory(retention=FOREVER)
    store.hub.behind_max = 20
    slow, merged, quick = open_all(store, 0), open_two(store, 0), open_all(store, 0)
    for revision in range(1, 1001):
        commit(store, KEY)
        assert [fact.revision for fact in quick.take()] == [revision]
        assert kept(store) <= 20 + watch._SWEEP_MIN
    for cursor in (slow, merged):
        with pytest.raises(Expired, match="too old resource version: 0 "):
            cursor.take()
    again = open_all(store, slow.revision)
    assert [fact.revision for fact in again.take(2000)] == list(range(1, 1001)), "nothing is lost"


def test_what_is_too_much_goes_by_whole_revisions() -> None:
    store = Store.memory(retention=FOREVER)
    store.hub.behind_max = 20
    slow = open_all(store, 0)
    keys = [key_of("pods", "a", f"p{n}") for n in range(8)]
    for _ in range(watch._SWEEP_MIN // 8):
        last = commit(store, *keys)
    assert kept(store) == 16
    with pytest.raises(Expired):
        slow.take()
    assert [fact.revision for fact in open_all(store, last - 4).take()] == [
        revision for revision in range(last - 3, last + 1) for _ in keys
    ]


def test_an_old_history_may_be_read_at_ones_own_pace() -> None:
    store = Store.memory(retention=FOREVER)
    store.hub.behind_max = 20
    for _ in range(500):
        commit(store, KEY)
    reader, heard = open_all(store, 0), list[int]()
    while facts := reader.take(3):
        heard += [fact.revision for fact in facts]
        if len(heard) % 2:
            commit(store, KEY)
    assert heard == list(range(1, store.revision + 1))
    assert len(heard) > 500 + 2 * watch._SWEEP_MIN // 10, "trails were looked at meanwhile"


def test_the_limit_is_of_the_hub() -> None:
    assert Hub(History()).behind_max == watch.BEHIND_MAX
    assert Hub(History(), behind_max=7).behind_max == 7


def open_two(store: Store, revision: int) -> Cursor:
    """Return a cursor over pods and services."""
    return store.hub.open(resources=["pods", "services"], revision=revision, wake=lambda: None)


# Taking.


@pytest.mark.parametrize("resources", [["services"], ["services", "nodes"]])
def test_who_hears_nothing_gets_on_nevertheless(resources: list[str]) -> None:
    store = Store.memory(retention=Retention(revisions=3))
    cursor = store.hub.open(resources=resources, revision=0, wake=lambda: None)
    for revision in range(1, 9):
        commit(store, KEY)
        assert (cursor.take(), cursor.revision) == ([], revision)


@pytest.mark.parametrize("opened", [open_all, open_two])
def test_a_watch_from_the_future_is_not_told_of_the_past_in_pieces(opened: Any) -> None:
    store = Store.memory(retention=Retention(revisions=3))
    future = opened(store, 8)
    assert [commit(store, KEY) for _ in range(9)][-1] == 9
    assert [fact.revision for fact in future.take(1)] == [9], "[] would mean that there is nothing"
    early = opened(store, 607)
    for _ in range(600):
        commit(store, KEY)
    assert [fact.revision for fact in early.take(1)] == [608], "none that it wants is forgotten"


@pytest.mark.parametrize("revision", [3, 4])
def test_facts_from_before_the_hub_are_told_in_order(revision: int) -> None:
    """As after a restart: they were published by another."""
    store = Store.memory()
    for key in (KEY, key_of("services", "a", "x"), KEY, key_of("services", "a", "x"), KEY):
        commit(store, key)
    store.hub = Hub(store.history)
    store.hub.revision = store.durable
    cursor = open_two(store, revision)
    commit(store, key_of("services", "a", "y"))
    assert [fact.revision for fact in cursor.take()] == list(range(revision + 1, 7))


def test_who_begins_farther_back_does_not_disturb_who_is_in_the_middle() -> None:
    store = Store.memory()
    for _ in range(3):
        commit(store, KEY)
    middle = open_all(store, 3)
    keys = [key_of("pods", "a", name) for name in NAMES]
    commit(store, *keys)
    heard = [fact.key for fact in middle.take(1)]
    assert len(open_all(store, 0).take()) == 6
    assert heard + [fact.key for fact in middle.take()] == keys


def test_what_is_not_published_yet_does_not_disturb_the_order() -> None:
    store, service = Store.memory(), key_of("services", "a", "x")
    early = open_all(store, 0)  # So the facts of pods have their numbers already.
    for key in (KEY, service, KEY, service):
        commit(store, key)
    for key in (KEY, service):
        store.commit([Write(key, pod(2))], NO_CAUSE)
    cursor = open_two(store, 0)
    assert [fact.revision for fact in cursor.take()] == [1, 2, 3, 4]
    store.flush(lambda _: None)
    assert [fact.revision for fact in cursor.take()] == [5, 6]
    assert len(early.take()) == 3


@pytest.mark.parametrize("opened", [open_all, open_two])
def test_who_has_left_is_told_nothing_and_is_not_kept(opened: Any) -> None:
    store = Store.memory()
    leaver, other = opened(store, 0), opened(store, 0)
    commit(store, KEY)
    leaver.close()
    assert (leaver.take(), leaver.behind) == ([], False)
    assert all(leaver not in trail.idle for trail in store.hub._trails.values())
    assert len(other.take()) == 1
    other.close()
    assert not store.hub._trails


def test_one_who_is_woken_may_take_for_others() -> None:
    store, woken = Store.memory(), list[int]()
    cursors: list[Cursor] = []

    def wake(number: int) -> None:
        woken.append(number)
        assert [len(cursor.take()) for cursor in cursors] == ([1, 1] if len(woken) == 1 else [0, 0])

    cursors += [
        store.hub.open(resources=["pods"], revision=0, wake=lambda number=number: wake(number))
        for number in range(2)
    ]
    commit(store, KEY)
    assert woken == [0, 1]


def test_an_idle_watcher_is_woken_once() -> None:
    store = Store.memory()
    woken = []
    store.hub.open(resources=["pods"], revision=0, wake=lambda: woken.append(1))
    for number in range(5):
        store.commit([Write(key_of("pods", "a", "x"), pod(number))], NO_CAUSE)
        store.flush(lambda _: None)
    assert woken == [1]


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
        store.commit([Write(key, pod(number, node))], NO_CAUSE)
        store.flush(lambda _: None)
    store.commit([Write(key, None)], NO_CAUSE)
    store.flush(lambda _: None)
    assert [f.revision for f in watchers["n1"].take()] == [2, 3, 4]
    assert [f.revision for f in watchers["n2"].take()] == [4, 5]
    assert heard == ["n1", "n2"], "each woken once"
    assert not store.hub._routing._nodes, "nothing is remembered of pods that are gone"


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


def test_a_node_that_was_not_heard_of_is_read_again() -> None:
    """If facts were missed, what is remembered of a pod may be older than what it was."""
    routing = Routing()
    (route,) = routes_of("pods", "", "", "n1", None)
    routing.follow(route)
    one, two, three = (pod(number, f"n{number}") for number in (1, 2, 3))
    assert route in routing.of(Fact(5, KEY, one))
    after = Fact(7, KEY, three, two, prev_revision=6)
    assert {r[1] for r in routing.of(after) if r[0] == route[0]} == {"n2", "n3"}


def test_a_watch_from_the_future_is_not_told_that_what_it_never_wanted_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "_SWEEP_MIN", 1)
    store = Store.memory(retention=Retention(revisions=4))
    cursor = store.hub.open(resources=["pods"], revision=1, wake=lambda: None)
    for resource in ("pods", "services", "pods", "pods", "pods", "pods"):
        store.commit([Write(key_of(resource, "a", "x"), b"\x80")], NO_CAUSE)
        if store.revision >= 5:  # So the floor rises over two revisions at once.
            store.flush(lambda _: None)
    assert store.history.floor == 2
    assert [fact.revision for fact in cursor.take()] == [3, 4, 5, 6]
