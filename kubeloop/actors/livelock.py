"""Livelocks: who writes what again and again, told to people from the facts alone. Pure.

Of every key, and of all keys with one generated name, the writes are counted, and compared with
the ones before: a field whose values come back is what the writers disagree about. What is wanted
comes first, before what is only reported; and what clients want before what follows from it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgpack

from kubeloop.store.facts import Fact

GROUPS_MAX: Final = 3  # So many are told.
_WRITES_MIN: Final = 3  # Of one key: what is written less goes nowhere round.
_VALUES_MAX: Final = 6  # Of a field are shown.
_TEXT_MAX: Final = 60  # Characters of a value.
_BOOKKEEPING: Final = frozenset({
    "metadata.resourceVersion", "metadata.generation", "metadata.managedFields",
    "status.observedGeneration",
})  # fmt: skip
_HEARTBEATS: Final = ("leases.coordination.k8s.io", "events")


def writer_of(actor: str, user: str) -> str:
    """Return who writes, for people: "replicaset-controller", "kubelet/node-1", "client 'ann'".

    actor, user: as of a `Cause`.
    """
    if user.startswith("system:serviceaccount:kube-system:"):
        return user.rpartition(":")[2]
    return actor or (f"client {user!r}" if user else "somebody")


def is_heartbeat(fact: Fact) -> bool:
    """Tell whether a fact only says that somebody is alive, or repeats what other facts say.

    Leases, Events, and Nodes of which nothing has changed but lastHeartbeatTime and the images they
    have, which a kubelet tells with its heartbeats.
    """
    resource = fact.resource
    if resource in _HEARTBEATS:
        return True
    if resource != "nodes" or fact.value is None or fact.prev is None:
        return False
    changed = _changed(msgpack.unpackb(fact.prev), msgpack.unpackb(fact.value))
    return all(
        path.endswith("].lastHeartbeatTime") or path.startswith("status.images")
        for path, _, _ in changed
    )


@dataclass(slots=True)
class _Field:
    """The values one field had in turn, and who set them."""

    path: str
    values: list[Any] = field(default_factory=list)
    writers: dict[str, None] = field(default_factory=dict)
    by_clients: bool = False

    def set(self, was: Any, is_: Any, fact: Fact) -> None:
        """Take one change."""
        if not self.values:
            self.values.append(was)
        self.values.append(is_)
        self.writers[_writer(fact)] = None
        self.by_clients |= not fact.cause.actor

    @property
    def rank(self) -> tuple[int, int]:
        """How much it says of who disagrees; the least says most."""
        if self.path.startswith("status") or not self.turns:
            return 4, -self.turns
        several = len(self.writers) > 1
        return (0 if several else 1 if self.by_clients else 2), -self.turns

    @property
    def turns(self) -> int:
        """How often it got a value that it had had before."""
        return len(self.values) - len({repr(value) for value in self.values})


@dataclass(slots=True)
class _Group:
    """What happened to one key, or to all keys of one generated name."""

    name: str
    writes: int = 0
    keys: set[str] = field(default_factory=set)
    fields: dict[tuple[str, str], _Field] = field(default_factory=dict)  # By key and path.
    creators: Counter[str] = field(default_factory=Counter)
    removers: Counter[str] = field(default_factory=Counter)

    def add(self, fact: Fact) -> None:
        """Take one fact of it."""
        self.writes += 1
        self.keys.add(fact.key)
        writer = _writer(fact)
        before = None if fact.prev is None else msgpack.unpackb(fact.prev)
        after = fact.object()
        if before is None:
            self.creators[writer] += 1
        elif after is None or _ends(before, after):
            self.removers[writer] += 1
        else:
            for path, was, is_ in _changed(before, after):
                self.fields.setdefault((fact.key, path), _Field(path)).set(was, is_, fact)

    @property
    def is_remade(self) -> bool:
        """Whether such objects come and go."""
        return bool(self.creators and self.removers)

    @property
    def rank(self) -> tuple[int, int]:
        """How much it says of who disagrees; the least says most."""
        best = min((one.rank[0] for one in self.fields.values()), default=4)
        return min(best, 3 if self.is_remade else 4), -self.writes

    def told(self) -> str:
        """Return what happened, as a line."""
        if self.is_remade and self.rank[0] == 3:
            creators, removers = _names(self.creators), _names(self.removers)
            made, ended = sum(self.creators.values()), sum(self.removers.values())
            return (
                f"{creators} {_verb('create', self.creators)} {self.name} and {removers} "
                f"{_verb('delete', self.removers)} them, in turns: {made} created, {ended} deleted"
            )
        if not self.fields:
            return f"{_names(self.creators | self.removers)} writes {self.name}"
        one = min(self.fields.values(), key=lambda one: one.rank)
        shown = " → ".join(_short(value) for value in one.values[:_VALUES_MAX])
        more = " → …" if len(one.values) > _VALUES_MAX else ""
        turns = "in turns" if len(one.writers) > 1 else "again and again"
        writes = _verb("write", one.writers)
        return f"{_names(one.writers)} {writes} {self.name} {turns}: {one.path} {shown}{more}"


def cycles(facts: Iterable[Fact]) -> list[str]:
    """Return what is written again and again, and by whom, as lines: what says most first.

    Of all facts that are no heartbeats. Cost: O(size of the objects).
    """
    groups: dict[str, _Group] = {}
    for fact in facts:
        name = _group_of(fact)
        groups.setdefault(name, _Group(name)).add(fact)
    busy = [group for group in groups.values() if group.writes >= _WRITES_MIN]
    busy.sort(key=lambda group: group.rank)
    return [f"{group.told()} ({group.writes} writes)" for group in busy[:GROUPS_MAX]]


def _writer(fact: Fact) -> str:
    return writer_of(fact.cause.actor, fact.cause.user)


def _group_of(fact: Fact) -> str:
    """Return how people call a key; all of one generated name are called alike."""
    resource, _, name = fact.key.removeprefix("/registry/").partition("/")
    kind = resource.partition(".")[0]
    value = fact.value or fact.prev
    metadata = {} if value is None else msgpack.unpackb(value).get("metadata") or {}
    if metadata.get("generateName"):
        return f"{kind} {metadata.get('namespace', '')}/{metadata['generateName']}*"
    return f"{kind} {name}"


def _ends(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether a deletion begins."""
    was, is_ = (obj["metadata"].get("deletionTimestamp") for obj in (before, after))
    return is_ is not None and was is None


def _changed(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, before, after) of every field that differs, but for what is bookkeeping."""
    if before == after or path in _BOOKKEEPING:
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in {**before, **after}:
            inner = f"{path}.{key}" if path else str(key)
            yield from _changed(before.get(key), after.get(key), inner)
    elif _listed(before) and _listed(after) and len(before) == len(after):
        for index, (was, is_) in enumerate(zip(before, after, strict=True)):
            yield from _changed(was, is_, f"{path}[{index}]")
    else:
        yield path, before, after


def _listed(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _names(writers: Iterable[str]) -> str:
    names = list(writers)
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verb(verb: str, writers: Iterable[str]) -> str:
    return f"{verb}s" if len(list(writers)) == 1 else verb


def _short(value: Any) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= _TEXT_MAX else f"{text[:_TEXT_MAX]}…"
