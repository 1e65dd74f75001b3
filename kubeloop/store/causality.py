"""Causality: from any fact back to the request it stems from, and forward to all it led to. Pure.

Every fact names its parent: the very fact that made its writer write, as the writer says; see
docs/store.md for what that is where several facts, a refusal or a clock had to do with it. So what
`why` returns is a chain of steps each of which led to the next; it begins with what no fact made: a
user's request, or an actor's clock. Whatever else happened in the meantime is not in it.
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
            parent -= 1  # Without facts it made nobody do anything: what did came before.
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
        at, parent = fact.revision, fact.cause.revision
        if parent >= at:
            parent = at - 1
        while parent > revision and parent not in known:
            parent -= 1
        known.add(at)
        if parent in reached:
            reached.add(at)
            found.append(fact)
    return found


def story(history: History, key: str) -> list[str]:
    """Return the life of a key as lines for people: each change, when, by whom, and why."""
    return [told(fact) for fact in history.versions(key)]


def told(fact: Fact) -> str:
    """Return a fact as a line for people."""
    what = "deleted" if fact.value is None else "changed" if fact.prev_revision else "created"
    cause = fact.cause
    request = f"request {cause.message}" if cause.message else "a request"
    who = f"{cause.actor or request} as {cause.user}" if cause.user else "nobody known"
    because = f", because of {cause.revision}" if cause.revision else ""
    if cause.actor and not because:
        because = ", by its clock"
    name = fact.key.removeprefix("/registry/")
    return f"{fact.revision} at {fact.at:.3f}: {name} {what} by {who}{because}"
