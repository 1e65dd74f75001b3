"""Causality: from any fact back to the request it stems from, and forward to all it led to. Pure.

Every fact names its parent: the newest fact its writer knew of when it wrote. So what `why` returns
is a chain in time in which everything that made an actor write has happened before, whoever told
it; it ends with what nobody's knowledge led to: a user's request, or an actor's clock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from kubeloop.store.facts import Fact
from kubeloop.store.history import History


@dataclass(frozen=True, slots=True)
class Chain:
    """How a fact came to be.

    facts:    of each revision on the way, the newest revision first.
    complete: whether it goes back to the beginning; else that has been forgotten.
    """

    facts: tuple[tuple[Fact, ...], ...]
    complete: bool


def why(history: History, revision: int) -> Chain:
    """Return what led to a revision, itself first.

    Raises: Expired, if it has been forgotten. Cost: O(length of the chain).
    """
    chain: list[tuple[Fact, ...]] = []
    facts = history.facts_at(revision)
    while facts:
        chain.append(facts)
        parent = min(facts[0].cause.revision, facts[0].revision - 1)  # Nothing causes itself.
        while parent > history.floor and not history.facts_at(parent):
            parent -= 1  # An actor may know of a revision without facts.
        if parent <= 0:
            return Chain(tuple(chain), complete=True)
        if parent <= history.floor:
            break
        facts = history.facts_at(parent)
    return Chain(tuple(chain), complete=False)


def effects(history: History, revision: int) -> Sequence[Fact]:
    """Return every fact whose chain leads through a revision, itself not, oldest first.

    Raises: Expired. Cost: O(facts after it).
    """
    history.facts_at(revision)
    known, reached, found = {revision}, {revision}, list[Fact]()
    for fact in history.since(revision):
        parent = min(fact.cause.revision, fact.revision - 1)
        while parent > revision and parent not in known:
            parent -= 1
        known.add(fact.revision)
        if parent in reached:
            reached.add(fact.revision)
            found.append(fact)
    return found


def story(history: History, key: str) -> list[str]:
    """Return the life of a key as lines for people: each change, when, by whom, and why."""
    return [told(fact) for fact in history.versions(key)]


def told(fact: Fact) -> str:
    """Return a fact as a line for people."""
    what = "deleted" if fact.value is None else "changed" if fact.prev_revision else "created"
    cause = fact.cause
    who = f"{cause.actor or 'a request'} as {cause.user}" if cause.user else "nobody known"
    because = f", knowing {cause.revision}" if cause.revision else ""
    name = fact.key.removeprefix("/registry/")
    return f"{fact.revision} at {fact.at:.3f}: {name} {what} by {who}{because}"
