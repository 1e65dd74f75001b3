"""Runs of a store of which every moment is kept, and everything a loss of power may make of each.

A run is decided by a seed: who commits, when the thread that writes has its turn, when the loop
hears of it, when the interval is over. So groups wait for each other, go in between the pieces of a
snapshot, and segments are begun and lengthened meanwhile.
"""

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pykka

from kubeloop.sim.disk import MemoryDisk
from kubeloop.sim.remains import SECTOR, Remains
from kubeloop.store import writer as writer_module
from kubeloop.store.facts import Cause, Fact
from kubeloop.store.frames import END, HEAD_SIZE, HEADER_SIZE, MARK
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Store, Sync
from tests.store.faults import DIRECTORY, ID, KEYS, State

REVISIONS = 3  # So many a store looks back at.
_WAITING_MAX = 4


@dataclass(frozen=True, slots=True)
class Moment:
    """The disk before a call, and what was promised then.

    number:    of the call in its run.
    safe:      the revision that a loss of power must not take;  seen: that a death must not.
    committed: nothing newer can be there.
    write:     (path, place, data), if the call is one.
    """

    number: int
    disk: MemoryDisk
    safe: int
    seen: int
    committed: int
    write: tuple[str, int, bytes] | None = None

    def outcomes(self, chance: random.Random, most: int) -> Iterator[tuple[Remains, int]]:
        """Yield files that may be left, and the revision that must be in them.

        most: of a loss of power at this moment; a write under way, cut anywhere, has some of its
              own.
        """
        yield _files(self.disk), self.seen
        for files in self.disk.fates().some(chance, most):
            yield files, self.safe
        if self.write is None:
            return
        path, at, data = self.write
        cuts = cuts_of(at, data)
        for cut in sorted(chance.sample(cuts, min(2 + most // 2, len(cuts)))):
            torn = self.disk.copy()
            torn.change(path, at, data[:cut])
            yield _files(torn), self.seen
            for files in torn.fates().some(chance, 2):
                yield files, self.safe


def cuts_of(at: int, data: bytes) -> list[int]:
    """Return where a write may be cut: around heads, ends and sectors, and in payloads."""
    cuts, place = {0, 1, len(data) // 2, len(data) - 1}, 0
    if not data.startswith(MARK):
        place = HEADER_SIZE
        cuts |= {HEADER_SIZE - 1, HEADER_SIZE}
    while data[place : place + len(MARK)] == MARK:
        head = place + HEAD_SIZE
        stop = head + int.from_bytes(data[place + 4 : place + 8], "little")
        cuts |= {place + n for n in (1, len(MARK), 7, 8, 12, 16, HEAD_SIZE - 1, HEAD_SIZE)}
        cuts |= {head + 1, (head + stop) // 2, stop - 1, *range(stop, stop + len(END) + 1)}
        place = stop + len(END)
    for sector in range(-at % SECTOR, len(data), SECTOR):
        cuts |= {sector - 1, sector, sector + 1}
    return sorted(cut for cut in cuts if 0 <= cut < len(data))


class Recorder(MemoryDisk):
    """Remembers every moment at which something may change."""

    def __init__(self, run: "Run", files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self._run = run
        self.files = {path: bytearray(data) for path, data in (files or {}).items()}
        self.settle()
        self.moments: list[Moment] = []

    def touch(self, operation: str, path: str) -> None:
        super().touch(operation, path)
        if operation not in ("write", "truncate", "read", "names"):
            self._note(None)

    def change(self, path: str, at: int, data: bytes | None) -> None:
        self._note(None if data is None else (path, at, data))
        super().change(path, at, data)

    def _note(self, write: tuple[str, int, bytes] | None) -> None:
        run = self._run
        self.moments.append(
            Moment(len(self.moments), self.copy(), run.safe, run.seen, len(run.states) - 1, write)
        )


@dataclass
class Run:
    """What was done in a run.

    states, facts, leases: by revision.
    safe: what a loss of power must not take;  seen: what a death must not.
    """

    sync: Sync
    seed: int
    states: list[State] = field(default_factory=lambda: [{}])
    facts: list[tuple[Fact, ...]] = field(default_factory=lambda: [()])
    leases: list[list[tuple[str, int, float]]] = field(default_factory=lambda: [[]])
    safe: int = 0
    seen: int = 0
    moments: list[Moment] = field(default_factory=list)

    def until(self, revision: int) -> "Run":
        """Return a run that goes on from a revision, which was promised."""
        end = revision + 1
        states, facts, leases = self.states[:end], self.facts[:end], self.leases[:end]
        return Run("always", self.seed, states, facts, leases, revision, revision)

    def commit(self, store: Store, chance: random.Random, sizes: tuple[int, ...]) -> None:
        """Commit a transaction, and note what it did."""
        state = dict(self.states[-1])
        writes = []
        for key in chance.sample(KEYS, chance.randint(1, 2)):
            gone = key in state and chance.random() < 0.3
            value = None if gone else chance.randbytes(chance.choice(sizes))
            expires = None if gone or chance.random() < 0.8 else float(chance.randrange(99))
            writes.append(Write(key, value, None, expires))
            state.pop(key, None)
            if value is not None:
                state[key] = value
        at, why = chance.random(), Cause("tester", f"m{len(self.states)}", store.durable, "me")
        revision = store.commit(writes, why, at=at)
        assert revision == len(self.states)
        self.states.append(state)
        self.facts.append(store.history.facts_at(revision))
        self.leases.append(list(store.history.leases(revision)))


class Stepper:
    """A store whose thread and whose loop do one thing at a time, when the seed says so.

    errors: what was told instead of an acknowledgement.
    """

    def __init__(self, run: Run, sizes: tuple[int, ...], disk: MemoryDisk) -> None:
        self.run, self.sizes, self.chance, self.disk = run, sizes, random.Random(run.seed), disk
        self.errors: list[Exception] = []
        self.alarms: list[Callable[[], None]] = []
        self.calls: list[Callable[[], None]] = []
        self.waiting = 0
        self._due: int | None = None  # What will be safe, once the thread has nothing to do.
        with _no_thread() as actors:
            self.store = Store.open(
                self.disk,
                DIRECTORY,
                threadsafe=self.calls.append,
                fresh_id=ID,
                retention=Retention(revisions=REVISIONS),
                sync=run.sync,
                later=lambda delay_s, call: self.alarms.append(call),
            )
        (self.actor,) = actors

    def commit(self) -> None:
        """Commit a few transactions, and ask to be told."""
        for _ in range(self.chance.randint(1, 3)):
            self.run.commit(self.store, self.chance, self.sizes)
        self.waiting += 1
        self.store.flush(self._told)

    def think(self) -> None:
        """Have the thread handle a message."""
        self.actor._handle_receive(self.actor.actor_inbox.get().message)
        if self._due is not None and self.actor.actor_inbox.empty():
            if self.actor._log._broken is None:
                self.run.safe = self._due
            self._due = None

    def step(self) -> None:
        """Do something."""
        steps: list[Callable[[], None]] = []
        if self.waiting < _WAITING_MAX:
            steps.append(self.commit)
        if not self.actor.actor_inbox.empty():
            steps += [self.think] * 3
        if self.calls:
            steps += [self.calls[0]] * 2
        if self.alarms and self._due is None:
            steps.append(self.alarms[0])
        step = self.chance.choice(steps)
        if step in self.calls:
            self.calls.pop(0)
        if step in self.alarms:
            self._due = self.store.durable
            self.alarms.pop()
        step()
        if self.chance.random() < 0.03:
            self.store.compact(self.store.durable - 1)
        self._note()

    def rest(self) -> None:
        """Have everything come to its end."""
        while self.calls or not self.actor.actor_inbox.empty():
            while self.calls:
                self.calls.pop(0)()
            if not self.actor.actor_inbox.empty():
                self.think()
        self._note()

    def end(self) -> None:
        """Close the store once everything has come to its end: there is nothing to wait for."""
        self.rest()
        self.store._writer._actor = None  # type: ignore[union-attr]
        self.store.close()

    def close(self) -> None:
        """Close the store in order, whatever is under way."""
        pykka.ThreadingActor._start_actor_loop(self.actor)  # It is waited for.
        self.store.close()
        self._note()
        if self.run.sync != "never":
            self.run.safe = self.run.seen
        self.disk.sync_directory(DIRECTORY)

    def _note(self) -> None:
        self.run.seen = self.store.durable
        if self.run.sync == "always":
            self.run.safe = self.store.durable

    def _told(self, error: Exception | None) -> None:
        self.waiting -= 1
        if error is not None:
            self.errors.append(error)
            end = self.store.durable + 1  # It was taken back.
            del self.run.states[end:], self.run.facts[end:], self.run.leases[end:]


@contextmanager
def _no_thread() -> Iterator[list[Any]]:
    """Have the thread's actor made without its thread; yield those that are."""
    actor: Any = writer_module._SyncActor
    made: list[Any] = []
    actor._start_actor_loop = lambda self: made.append(self)
    try:
        yield made
    finally:
        del actor._start_actor_loop


def record(sync: Sync, seed: int, sizes: tuple[int, ...], *, steps: int = 36) -> Run:
    """Run a store; return the run with all its moments."""
    run = Run(sync, seed)
    disk = Recorder(run)
    stepper = Stepper(run, sizes, disk)
    for _ in range(steps):
        stepper.step()
    stepper.close()
    assert not stepper.errors
    run.moments = disk.moments
    return run


def _files(disk: MemoryDisk) -> Remains:
    return {path: bytes(data) for path, data in disk.files.items()}
