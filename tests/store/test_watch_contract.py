"""The contract of a watch: a list, plus the facts since that list, equals a list now.

Clients of all kinds beside a list of all facts there ever were. A client is told what it asked for
after the revision it gave: in order, once, whole revisions, nothing that is not durable; and
Expired if, and only if, some of that is forgotten.
"""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgpack
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from kubeloop.api.errors import Expired
from kubeloop.sim.disk import MemoryDisk
from kubeloop.store import watch
from kubeloop.store.facts import NO_CAUSE, Fact, key_of, prefix_of
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Done, Store, StoreFull
from kubeloop.store.watch import Cursor
from kubeloop.store.writer import Job

ALL = 10**6  # More than there ever is to take.
PODS = [("pods", namespace, name) for namespace in "ab" for name in ("x", "n1")]
KEYS = [*PODS, ("services", "a", "x"), ("nodes", "", "n1"), ("nodes", "", "n2")]
FULL = OSError(errno.ENOSPC, "the disk is full")
State = dict[str, bytes]
Changes = dict[tuple[str, str, str], dict[str, str] | None]
MOSTLY = st.sampled_from((True, True, True, False))


class Ask(NamedTuple):
    """What a client asks for. labels: a label, and its possible values; none: any."""

    resources: tuple[str, ...]
    namespace: str = ""
    name: str = ""
    node: str = ""
    labels: tuple[str, tuple[str, ...]] | None = None

    def concerns(self, key: str, value: bytes | None) -> bool:
        """Whether it means an object: told from the whole of it, and without any route."""
        _, _, resource, *place = key.split("/")
        name, namespace = place[-1], "".join(place[:-1])
        if resource not in self.resources or value is None:
            return False
        obj = msgpack.unpackb(value)
        if self.node and resource == "pods":
            return bool(obj["spec"].get("nodeName") == self.node)
        if self.namespace not in ("", namespace):
            return False
        if self.node and resource == "nodes":
            return name == self.node
        if self.name or self.labels is None:
            return self.name in ("", name)
        label, values = self.labels
        found = obj["metadata"].get("labels", {}).get(label)
        return found is not None and (not values or found in values)

    def hears(self, fact: Fact) -> bool:
        """Whether it is told of a fact: of what it means, or meant until now."""
        if fact.value is None and fact.prev is None:  # Nothing was deleted: that has a key only.
            named = not self.labels or bool(self.name)
            by_key = self._replace(labels=None, node="")
            by_node = self.node and fact.resource == "pods"
            if self.node and fact.resource == "nodes":
                by_key = by_key._replace(name=self.node)
            nothing = msgpack.packb({"metadata": {}, "spec": {}})
            return named and not by_node and by_key.concerns(fact.key, nothing)
        return self.concerns(fact.key, fact.value) or self.concerns(fact.key, fact.prev)


LABELS = [("app", ("a",)), ("app", ("a", "b")), ("app", ("c", "a", "b")), ("tier", ())]
ASKS = [
    Ask(("pods",)),
    Ask(("nodes",)),
    Ask(("pods", "nodes", "services")),
    Ask(("pods", "services"), "a"),
    Ask(("pods",), "a"),
    Ask(("pods",), "b", "x"),
    Ask(("pods", "services"), "", "x"),
    Ask(("pods",), node="n1"),
    Ask(("pods", "nodes"), node="n1"),
    Ask(("pods", "services"), node="n2"),
    *(Ask(("pods",), labels=labels) for labels in LABELS),
    *(Ask(("pods",), "a", labels=labels) for labels in LABELS[1:3]),
    Ask(("pods", "services"), labels=LABELS[0]),
    Ask(("pods",), "a", "x", labels=LABELS[0]),
]

values = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "app": st.sampled_from("abd"),
        "tier": st.sampled_from("xy"),
        "node": st.sampled_from(("n1", "n2")),
    },
)


changes = st.dictionaries(st.sampled_from(KEYS), values, min_size=1, max_size=3)


def packed(number: int, app: str = "", tier: str = "", node: str = "") -> bytes:
    labels = {key: value for key, value in (("app", app), ("tier", tier)) if value}
    obj: dict[str, Any] = {"spec": {"nodeName": node} if node else {}, "number": number}
    obj["metadata"] = {"labels": labels} if labels else {}
    data: bytes = msgpack.packb(obj)
    return data


@dataclass
class Watcher:
    """A client, and what it was told since revision `start`."""

    ask: Ask
    start: int
    cursor: Cursor = field(init=False)
    taken: list[Fact] = field(default_factory=list)
    asleep: bool = True
    wakes: int = 0
    told: int = 0  # How many facts it had been told when it last looked.


class WatchContract(RuleBasedStateMachine):
    @initialize(
        kept=st.sampled_from((4, 12, None)), sweep=st.sampled_from((1, 7)), eager=st.booleans()
    )
    def begin(self, kept: int | None, sweep: int, eager: bool) -> None:
        """eager: clients take in the middle of being woken."""
        self.sweep, watch._SWEEP_MIN = watch._SWEEP_MIN, sweep  # type: ignore[misc]
        self.retention = Retention(revisions=kept)
        self.eager = eager
        self.disk = MemoryDisk()
        self.facts: list[Fact] = []
        self.jobs: list[tuple[Job, Done]] = []
        self.alive: list[Watcher] = []
        self.seen: list[tuple[Ask, int]] = []  # Revisions that were done, and to whom.
        self.count = 0
        self.open()

    def teardown(self) -> None:
        if hasattr(self, "sweep"):
            watch._SWEEP_MIN = self.sweep  # type: ignore[misc]

    def open(self) -> None:
        self.store = Store.open(
            self.disk, "d", threadsafe=None, fresh_id=bytes(16), retention=self.retention
        )
        self.begun = self.store.durable
        assert self.store._writer is not None
        self.write: Callable[[Job, Done], None] = self.store._writer.write
        self.store._writer.write = lambda job, done: self.jobs.append((job, done))  # type: ignore[method-assign]

    # Writing.

    @rule(batch=st.lists(changes, min_size=1, max_size=4), durable=MOSTLY)
    def commit(self, batch: list[Changes], durable: bool) -> None:
        for transaction in batch:
            self.transact(transaction)
        if durable:
            self.flush()
            while self.jobs:
                self.written(full=False)

    def transact(self, changes: Changes) -> None:
        now = self.state(self.store.revision)
        writes: list[Write] = []
        for key, labels in changes.items():
            self.count += 1
            value = None if labels is None else packed(self.count, **labels)
            writes.append(Write(key_of(*key), value))
        revision = self.store.commit(writes, NO_CAUSE)
        self.facts += [Fact(revision, w.key, w.value, now.get(w.key)) for w in writes]

    @rule()
    def flush(self) -> None:
        """Ask for what was committed to be made durable: that takes a while."""
        revision = self.store.revision

        def done(error: Exception | None) -> None:
            if error is None:
                assert self.store.durable >= revision
            else:
                assert isinstance(error, StoreFull)

        self.store.flush(done)

    @precondition(lambda self: self.jobs)
    @rule(full=st.booleans())
    def written(self, full: bool) -> None:
        """Hear from the disk: it is done, or the disk is full and all is taken back."""
        if full:
            self.disk.fault = lambda operation, path: FULL if operation == "write" else None
        before = self.store.durable
        job, done = self.jobs.pop(0)
        self.write(job, done)
        self.disk.fault = lambda operation, path: None
        if full:
            assert self.store.revision == self.store.durable == before
            self.facts = [fact for fact in self.facts if fact.revision <= before]
        self.check_wakes(before)

    @rule(back=st.integers(0, 5))
    def compact(self, back: int) -> None:
        self.store.compact(self.store.durable - back)

    @precondition(lambda self: self.store.durable >= self.begun + 8)
    @rule(killed=st.booleans())
    def reopen(self, killed: bool) -> None:
        """Begin again, after a close, or a crash that loses what nobody was told is durable."""
        while self.jobs:
            self.written(full=False)
        before = self.store.durable
        if killed:
            self.disk = self.disk.copy()
            self.facts = [fact for fact in self.facts if fact.revision <= before]
        else:
            self.store._writer.write = self.write  # type: ignore[method-assign, union-attr]
            self.store.close()
        self.alive.clear()
        self.open()
        assert self.store.durable == (self.facts[-1].revision if self.facts else 0)

    # Watching.

    @rule(asks=st.lists(st.sampled_from(ASKS), min_size=1, max_size=4), ago=st.integers(-3, 6))
    def watch(self, asks: list[Ask], ago: int) -> None:
        """Watch from now, from the past, from the future."""
        for ask in asks:
            self.begin_at(ask, max(0, self.store.durable - ago))

    @precondition(lambda self: self.seen)
    @rule(which=st.integers(0, 1000))
    def resume(self, which: int) -> None:
        """Watch what another has watched, from a revision it has seen."""
        self.begin_at(*self.seen[-1 - which % len(self.seen)])

    def begin_at(self, ask: Ask, start: int) -> None:
        watcher = Watcher(ask, start)

        def wake() -> None:
            assert self.store.hub.revision == self.store.durable, "everything is there by now"
            watcher.wakes += 1
            if self.eager:
                self.take(watcher, ALL)

        def open_() -> Cursor:
            return self.store.hub.open(**ask._asdict(), revision=start, wake=wake)

        if start < self.store.history.floor:
            with pytest.raises(Expired):
                open_()
            return
        for resource in ask.resources if start <= self.store.durable else ():
            page = self.store.list(prefix_of(resource), revision=start)
            listed = {item.key: item.value for item in page.items}
            assert listed == {
                k: v for k, v in self.state(start).items() if k.startswith(prefix_of(resource))
            }
        watcher.cursor = open_()
        self.alive.append(watcher)

    @precondition(lambda self: self.alive)
    @rule(which=st.sets(st.integers(0, 5), min_size=1), limit=st.integers(1, 4) | st.just(ALL))
    def take_some(self, which: set[int], limit: int) -> None:
        for number in which:
            if self.alive:
                self.take(self.alive[number % len(self.alive)], limit)

    def take(self, watcher: Watcher, limit: int) -> None:
        expected = self.expected(watcher)[len(watcher.taken) :]
        floor = self.store.history.floor
        forgotten = [fact for fact in expected if fact.revision <= floor]
        watcher.asleep = True
        before = watcher.cursor.revision
        try:
            facts = watcher.cursor.take(limit)
        except Expired:
            assert before < floor, "it could have gone on"
            assert forgotten or watcher.start > before, "nothing of what it asked for is forgotten"
            self.alive.remove(watcher)
            watcher.cursor.close()
            return
        assert not forgotten, "it has missed something"
        assert list(map(told, facts)) == list(map(told, expected[:limit]))
        watcher.taken += facts
        self.check_revision(watcher, before)

    def check_revision(self, watcher: Watcher, before: int) -> None:
        cursor, expected = watcher.cursor, self.expected(watcher)
        assert cursor.behind == (len(watcher.taken) < len(expected))
        assert cursor.revision >= before
        done = [fact for fact in expected if fact.revision <= cursor.revision]
        assert len(done) <= len(watcher.taken), "who resumes from there would miss something"
        if not cursor.behind:
            assert cursor.revision == max(watcher.start, self.store.durable)
        self.seen.append((watcher.ask, cursor.revision))

    @precondition(lambda self: len(self.alive) > 3)
    @rule(which=st.integers(0, 9))
    def leave(self, which: int) -> None:
        self.alive.pop(which % len(self.alive)).cursor.close()

    # What must hold.

    def check_wakes(self, before: int) -> None:
        """Whoever slept and was concerned by what has become durable was woken, once."""
        news = [fact for fact in self.facts if before < fact.revision <= self.store.durable]
        for watcher in self.alive:
            if any(map(watcher.ask.hears, news)):
                assert watcher.wakes == watcher.told + watcher.asleep
                watcher.asleep = self.eager
            else:
                assert watcher.wakes == watcher.told, "that was none of its business"
            watcher.told = watcher.wakes

    @invariant()
    def nothing_is_seen_before_it_is_durable(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.hub.revision == self.store.durable
        kept = {route for watcher in self.alive for route in watcher.cursor.routes}
        assert set(self.store.hub._trails) == kept
        for watcher in self.alive:
            assert watcher.cursor.revision <= max(watcher.start, self.store.durable)

    def expected(self, watcher: Watcher) -> list[Fact]:
        """Return what a client is to be told, by what is durable now."""
        return [
            fact
            for fact in self.facts
            if watcher.start < fact.revision <= self.store.durable and watcher.ask.hears(fact)
        ]

    def state(self, revision: int) -> State:
        state: State = {}
        for fact in self.facts:
            if fact.revision <= revision:
                state.pop(fact.key, None)
                if fact.value is not None:
                    state[fact.key] = fact.value
        return state


def told(fact: Fact) -> tuple[int, str, bytes | None, bytes | None]:
    return fact.revision, fact.key, fact.value, fact.prev


TestWatchContract = WatchContract.TestCase
TestWatchContract.settings = settings(max_examples=300, stateful_step_count=60)
