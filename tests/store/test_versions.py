"""The history at every revision: reads, forks, the life of a key, leases, and what is forgotten."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import Expired
from kubeloop.store.facts import NO_CAUSE, Fact, key_of
from kubeloop.store.history import _STEP, CompareFailed, History, Retention, Write
from kubeloop.store.store import Store

A, B, C = (key_of("pods", "default", name) for name in "abc")
EVERYTHING = Retention(revisions=None, bytes=None)


def commit(history: History, *writes: Write, at: float = 0.0) -> int:
    facts = history.commit(writes, NO_CAUSE, at=at)
    history.settled = history.revision
    return facts[0].revision


def values(history: History, revision: int | None = None) -> dict[str, bytes]:
    page = history.list("/registry/", revision=revision)
    return dict(zip(page.keys, page.values, strict=True))


@given(st.integers(0, 2**32), st.booleans())
def test_every_revision_is_as_it_was_and_may_be_gone_on_from(seed: int, gaps: bool) -> None:
    chance, history = random.Random(seed), History(retention=EVERYTHING)
    past: dict[int, dict[str, bytes]] = {0: {}}
    facts: list[Fact] = []
    for _ in range(60):
        state = dict(past[history.revision])
        writes = []
        for key in chance.sample([A, B, C], chance.randint(1, 3)):
            value = None if chance.random() < 0.4 else chance.randbytes(chance.randrange(9))
            writes.append(Write(key, value))
            state.pop(key, None)
            if value is not None:
                state[key] = value
        revision = history.revision + (chance.randint(1, 5) if gaps else 1)
        facts += history.apply(revision, writes, NO_CAUSE)
        past[revision] = state
    assert history.since(0) == facts
    for key in (A, B, C):
        assert history.versions(key) == [fact for fact in facts if fact.key == key]
    assert history.value_bytes == sum(map(len, past[history.revision].values()))
    known = 0
    for revision in range(1, history.revision + 1):
        known = revision if revision in past else known
        assert values(history, revision) == past[known]
        assert list(history.facts_at(revision)) == [f for f in facts if f.revision == revision]

    begin = chance.choice(sorted(past))
    fork = history.fork(begin)
    commit(fork, Write(A, b"another way"))
    assert values(fork) == {**past[begin], A: b"another way"}
    assert (fork.floor, fork.revision) == (begin, begin + 1)
    assert values(history) == past[history.revision], "the fork is a world of its own"


def test_a_key_must_be_as_expected_or_nothing_is_done() -> None:
    history = History()
    first = commit(history, Write(A, b"1", 0))
    for write, checks in (
        (Write(A, b"2", 0), {}),
        (Write(A, None, first + 1), {}),
        (Write(B, b"2"), {A: 0}),
        (Write(B, b"2"), {C: 1}),
    ):
        with pytest.raises(CompareFailed):
            history.commit([Write(C, b"not this"), write], NO_CAUSE, checks=checks)
    assert (values(history), history.revision) == ({A: b"1"}, first)
    history.commit([Write(B, b"2")], NO_CAUSE, checks={A: first, C: 0})


@pytest.mark.parametrize(
    "retention, kept",
    [
        (Retention(revisions=10), 10),
        (Retention(revisions=None, bytes=500), 5),
        (Retention(revisions=None, bytes=None, age_s=3), 4),
        (Retention(revisions=9, bytes=500, age_s=3), 4),
        (EVERYTHING, 50),
    ],
)
def test_what_is_beyond_a_limit_is_forgotten(retention: Retention, kept: int) -> None:
    history = History(retention=retention)
    for number in range(50):
        commit(history, Write(A, bytes(100)), at=float(number))
    assert history.revision - history.floor == kept
    assert len(history.since(history.floor)) == kept
    with pytest.raises(Expired):
        history.since(history.floor - 1)
    assert len(history.versions(A)) == kept


@pytest.mark.parametrize("wrong", [{"revisions": 0}, {"age_s": -1}, {"bytes": -5}])
def test_limits_that_are_none_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="a history keeps at least"):
        Retention(**wrong)


def test_a_compaction_asked_for_holds_at_once_and_costs_a_bounded_time() -> None:
    history = History(retention=EVERYTHING)
    for _ in range(2000):
        commit(history, Write(A, b"x"))
    history.compact(1900)
    assert history.floor == 1900
    assert len(history._versions) > 1500, "they go with the next commits"
    with pytest.raises(Expired):
        history.get(A, 1899)
    assert len(history.versions(A)) == 100
    for _ in range(1000):
        commit(history, Write(A, b"x"))
    assert history.floor == 1900
    assert 1101 <= len(history._versions) < 1101 + _STEP


def test_what_may_still_be_taken_back_is_not_forgotten() -> None:
    history = History(retention=Retention(revisions=2))
    settled = commit(history, Write(A, b"kept"))
    for number in range(20):
        history.commit([Write(A, b"%d" % number)], NO_CAUSE)
    history.compact(history.revision)
    assert history.floor <= settled
    history.rollback(settled)
    assert values(history) == {A: b"kept"}
    assert history.value_bytes == 4


def due(history: History, now: float) -> Sequence[str]:
    return sorted(history.due(now))


def test_a_lease_holds_until_it_runs_out_or_its_key_is_written_again() -> None:
    history = History()
    commit(history, Write(A, b"1", expires=10.0), Write(B, b"1", expires=20.5))
    commit(history, Write(C, b"1", expires=5.0))
    assert history.next_expiry() == 5.0
    assert due(history, 4.9) == []
    assert due(history, 10.0) == [A, C]
    commit(history, Write(A, b"2", expires=30.0))
    commit(history, Write(C, b"2"))
    assert due(history, 10.0) == [], "one was prolonged, one was made to stay"
    assert history.next_expiry() == 20.5
    assert due(history, 25) == [B]
    assert due(history, 25) == [B], "until it is deleted"
    commit(history, Write(B, None))
    assert due(history, 25) == []
    assert [(k, e) for k, _, e in history.leases()] == [(A, 30.0)]
    assert [(k, e) for k, _, e in history.leases(1)] == [(A, 10.0), (B, 20.5)]


def test_a_lease_comes_back_with_a_write_that_is_taken_back() -> None:
    history = History()
    commit(history, Write(A, b"1", expires=10.0))
    history.commit([Write(A, b"2")], NO_CAUSE)
    assert due(history, 11) == []
    history.rollback(1)
    assert due(history, 11) == [A]
    fork = history.fork()
    assert due(fork, 11) == [A]


def test_leases_survive_in_snapshots_and_in_the_log() -> None:
    history = History.restored(7, [(A, b"1", 3), (B, b"1", 7)], [(A, 3, 10.0), (B, 7, 20.0)])
    assert [history.get(key) for key in (A, B)] == [(A, b"1", 3), (B, b"1", 7)]
    assert (history.floor, history.revision, history.value_bytes) == (7, 7, 2)
    assert due(history, 15) == [A]


def test_a_fork_of_a_store_goes_its_own_way() -> None:
    store = Store.memory()
    for number in range(5):
        store.commit([Write(A, b"%d" % number)], NO_CAUSE)
        store.flush(lambda _: None)
    fork = store.fork(3)
    heard: list[int] = []
    cursor = fork.hub.open(resources=["pods"], revision=3, wake=lambda: heard.append(1))
    fork.commit([Write(B, b"new")], NO_CAUSE)
    fork.flush(lambda _: None)
    assert [(f.key, f.revision) for f in cursor.take()] == [(B, 4)]
    assert fork.get(A) == (A, b"2", 3)
    assert store.get(B) is None
    with pytest.raises(Expired):
        fork.get(A, 2)


@given(st.integers(0, 2**32))
def test_a_transaction_that_fails_leaves_no_trace(seed: int) -> None:
    chance, history = random.Random(seed), History()
    keys = [key_of("pods", "default", f"p{n:02}") for n in range(40)]
    for _ in range(chance.randrange(80)):
        commit(history, Write(chance.choice(keys), chance.choice((None, b"x", b"longer"))))
    before = values(history)
    writes = [
        Write(key, chance.choice((None, b"new")), expires=chance.choice((None, 5.0)))
        for key in chance.sample(keys, chance.randint(1, 20))
    ]
    with pytest.raises(CompareFailed):
        history.commit([*writes, Write("/registry/pods/default/q", b"", 999)], NO_CAUSE)
    assert values(history) == before
    assert history.value_bytes == sum(map(len, before.values()))
    assert history.next_expiry() is None
    revision = commit(history, Write(keys[0], b"after"))
    assert values(history, revision - 1) == before


def test_revisions_without_facts_may_be_looked_at_and_gone_back_to() -> None:
    history = History(retention=Retention(revisions=3))
    commit(history, Write(A, b"1"))
    history.advance(40)
    history.settled = 40
    assert values(history.fork()) == {A: b"1"}
    history.apply(50, [Write(A, b"50")], NO_CAUSE)
    history.rollback(45)
    assert (history.revision, values(history, 45)) == (45, {A: b"1"})
    for number in range(100):
        commit(history, Write(B, b"%d" % number))
        assert values(history, max(1, history.floor)).get(A) == b"1"
    assert history.revision == 145
