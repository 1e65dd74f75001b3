"""The view against a model: whatever facts come, every index equals a search through everything."""

from typing import Any

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.view import Object, View
from kubeloop.store.facts import Fact, key_of


def colours(obj: Object) -> list[str]:
    return list(obj["colours"])


def sizes(obj: Object) -> list[str]:
    return [str(len(obj["colours"]))]


INDEXES = {("things", "colour"): colours, ("things", "size"): sizes, ("others", "colour"): colours}
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["things", "others", "strangers"]),
        st.sampled_from("abc"),
        # A value may be told twice; None deletes, also what is not there.
        st.none() | st.lists(st.sampled_from(["red", "green", "blue"]), max_size=3),
    ),
    max_size=40,
)


def fact(revision: int, resource: str, name: str, found: list[str] | None) -> Fact:
    value = None if found is None else msgpack.packb({"name": name, "colours": found})
    return Fact(revision, key_of(resource, "default", name), value)


def by_hand(model: dict[str, Any], resource: str, index: Any, value: str) -> list[Any]:
    prefix = f"/registry/{resource}/"
    return [o for k, o in model.items() if k.startswith(prefix) and value in index(o)]


@given(changes=CHANGES, again=st.integers(0, 40))
def test_indexes_equal_a_search(changes: Any, again: int) -> None:
    view, model = View(INDEXES), dict[str, Any]()
    for number, change in enumerate(changes):
        if number == again:  # A list begins.
            view.begin()
            model.clear()
            assert not view.synced
        told = fact(number + 1, *change)
        before = model.get(told.key)
        after = told.object()
        view.fold(told)
        if after is None:
            model.pop(told.key, None)
        else:
            model[told.key] = after
        assert view.changed[-1] == (told.key, before, after, told.revision)
        assert view.revision == number + 1
    for (resource, name), index in INDEXES.items():
        for value in ("red", "green", "blue", "0", "1", "2", "3"):
            want = by_hand(model, resource, index, value)
            found = sorted(view.by(resource, name, value), key=str)
            assert found == sorted(want, key=str)
            assert view.count(resource, name, value) == len(want)
    for resource in ("things", "others", "strangers"):
        assert list(view.list(resource)) == [
            o for k, o in model.items() if k.startswith(f"/registry/{resource}/")
        ]
        for name in "abc":
            key = key_of(resource, "default", name)
            assert view.get(resource, "default", name) == model.get(key)


def test_a_list_is_whole_when_it_is_finished() -> None:
    view = View()
    view.begin()
    view.fold(fact(3, "things", "a", []))
    assert not view.synced
    view.finish(9)
    assert view.synced
    assert view.revision == 9
    assert [key for key, _, _, _ in view.take_changed()] == [key_of("things", "default", "a")]
    assert view.take_changed() == []
    view.advance(12)
    view.advance(11)
    assert view.revision == 12


def test_empty_values_are_not_kept() -> None:
    view = View(INDEXES)
    for number in range(100):
        view.fold(fact(2 * number + 1, "things", "a", [f"c{number}", f"c{number}"]))
        view.fold(fact(2 * number + 2, "things", "a", None))
    assert not any(view._found.values())


def test_a_sign_of_life_is_dated_by_who_sees_it_when_it_changes() -> None:
    view, key = (
        View(signs={"things": lambda obj: len(obj["colours"])}),
        key_of("things", "default", "a"),
    )
    assert view.signed(key) == (0.0, 0)
    told = [(10.0, ["red"], 10.0), (20.0, ["blue"], 10.0), (30.0, ["red", "blue"], 30.0)]
    for revision, (now_s, colours_, seen_s) in enumerate(told, 1):
        view.now_s = now_s
        view.fold(fact(revision, "things", "a", colours_))
        assert view.signed(key)[0] == seen_s
    assert view.signed(key) == (30.0, 3)
    view.fold(fact(4, "things", "a", None))
    assert view.signed(key) == (0.0, 0)


def test_the_same_sign_is_a_new_one_after_there_was_none() -> None:
    view = View(signs={"things": lambda obj: obj["colours"] or None})
    told = [(10.0, ["red"], 10.0), (20.0, [], 10.0), (30.0, [], 10.0), (40.0, ["red"], 40.0)]
    for revision, (now_s, colours_, seen_s) in enumerate(told, 1):
        view.now_s = now_s
        view.fold(fact(revision, "things", "a", colours_))
        assert view.signed(key_of("things", "default", "a"))[0] == seen_s
