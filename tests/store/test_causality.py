"""From every fact back to what began it, and forward again."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import Expired
from kubeloop.store.causality import effects, story, why
from kubeloop.store.facts import NO_CAUSE, Cause, key_of
from kubeloop.store.history import History, Retention, Write

KEYS = [key_of("pods", "a", name) for name in "xyz"]


def grown(seed: int, *, gaps: bool, kept: int | None = None) -> History:
    """Return a history in which everything is because of something before, or of nothing."""
    chance, history = random.Random(seed), History(retention=Retention(revisions=kept))
    for _ in range(60):
        parent = chance.choice((0, *range(max(0, history.revision - 5), history.revision + 1)))
        writes = [Write(key, b"x") for key in chance.sample(KEYS, chance.randint(1, 2))]
        revision = history.revision + (chance.randint(1, 4) if gaps else 1)
        history.apply(revision, writes, Cause("actor", "", parent, "user"), at=float(revision))
        history.settled = revision
    return history


@given(st.integers(0, 2**32), st.booleans())
def test_effects_are_what_leads_back(seed: int, gaps: bool) -> None:
    history = grown(seed, gaps=gaps)
    revisions = sorted({fact.revision for fact in history.since(0)})
    chains = {r: [facts[0].revision for facts in why(history, r).facts] for r in revisions}
    for revision, chain in chains.items():
        assert chain[0] == revision
        assert chain == sorted(chain, reverse=True)
        assert why(history, revision).complete
        leads_here = {r for r, other in chains.items() if revision in other} - {revision}
        assert {fact.revision for fact in effects(history, revision)} == leads_here


def test_what_has_been_forgotten_is_told() -> None:
    history = grown(1, gaps=False, kept=10)
    with pytest.raises(Expired):
        why(history, history.floor)
    with pytest.raises(Expired):
        effects(history, history.floor - 3)
    chains = [why(history, r) for r in range(history.floor + 1, history.revision + 1)]
    for chain in chains:
        parent = chain.facts[-1][0].cause.revision
        assert chain.complete == (parent == 0)
        assert chain.complete or parent <= history.floor


def test_the_life_of_an_object() -> None:
    history = History()
    causes = [
        Cause("", "f00d-1", 0, "system:admin"),
        Cause("scheduler", "beef-1", 1, "system:kube-scheduler"),
        Cause("kubelet/n1", "cafe-7", 0, "system:node:n1"),
        Cause("", "", 0, "system:admin"),
        NO_CAUSE,
    ]
    for value, cause in zip((b"1", b"2", b"3", None, b"5"), causes, strict=True):
        history.commit([Write(KEYS[0], value)], cause, at=1.5)
        history.settled = history.revision
    assert story(history, KEYS[0]) == [
        "1 at 1.500: pods/a/x created by request f00d-1 as system:admin",
        "2 at 1.500: pods/a/x changed by scheduler as system:kube-scheduler, because of 1",
        "3 at 1.500: pods/a/x changed by kubelet/n1 as system:node:n1, by its clock",
        "4 at 1.500: pods/a/x deleted by a request as system:admin",
        "5 at 1.500: pods/a/x created by nobody known",
    ]
