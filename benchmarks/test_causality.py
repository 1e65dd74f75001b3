"""What it costs that every fact knows why it is, and what it costs to ask.

Sketch. A cause is a tuple of four (88 B), an id (about 65 B) and a revision (32 B); the names in it
are those of a few actors and users, of which one copy will do: some 180 B a fact, where names
copied from each message would add 170 B. A commit takes about 3 µs, and a tuple 0.2 µs. `why` is
two look-ups a step: 1 µs. `effects` walks over what came after: 0.3 µs a fact. To name the exact
parent a work queue keeps an integer with each key (0.1 µs a look), and the manager hands it on:
next to nothing beside a look itself (100 µs), of which signing by `dataclasses.replace` took 4 µs.
"""

import random
import tracemalloc
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from sys import intern
from typing import Any

import msgpack
import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture
from test_controllers import pod, replica_set, service

from kubeloop.actors.actor import Inbox
from kubeloop.actors.controller_manager import ControllerManager, Settings
from kubeloop.actors.messages import (
    API_SERVER,
    Facts,
    Listing,
    Outcome,
    Request,
    Synced,
    decode,
)
from kubeloop.actors.signing import Signer
from kubeloop.actors.workqueue import WorkQueue
from kubeloop.api.resources import BY_KIND
from kubeloop.store.causality import effects, why
from kubeloop.store.facts import NO_CAUSE, Cause, Fact, key_of
from kubeloop.store.history import History, Retention, Write
from kubeloop.store.store import Store

FACTS = 10_000
ACTOR, USER = "controller-manager", "system:serviceaccount:kube-system:replicaset-controller"
EVERYTHING = Retention(revisions=None, age_s=None, bytes=None)

CauseOf = Callable[[int], Cause]


def no_cause(number: int) -> Cause:
    return NO_CAUSE


def copied(number: int) -> Cause:
    """As a message brings it: every name is a string of its own."""
    frame = msgpack.packb([ACTOR, f"3f8a90c1d2e4-{number}", number, USER])
    return Cause(*msgpack.unpackb(frame))


def shared(number: int) -> Cause:
    """As the API server keeps it."""
    actor, message, revision, user = copied(number)
    return Cause(intern(actor), message, revision, intern(user))


CAUSES: dict[str, CauseOf] = {"without": no_cause, "with": shared, "with, names copied": copied}


def bytes_per_fact(cause_of: CauseOf) -> float:
    store = Store(History(retention=EVERYTHING))
    write = [Write(key_of("pods", "default", "web-0"), b"x")]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(FACTS):
            store.commit(write, cause_of(number))
            store.flush(lambda _: None)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return (after - before) / FACTS


@pytest.mark.parametrize("cause", CAUSES)
def test_commit(benchmark: BenchmarkFixture, beside: Beside, cause: str) -> None:
    """The same commits, with causes that were made before."""
    made = [CAUSES[cause](number) for number in range(FACTS)]
    write = [Write(key_of("pods", "default", "web-0"), b"x" * 3000)]

    def begin() -> tuple[tuple[Store], dict[str, Any]]:
        return (Store.memory(),), {}

    def commit(store: Store) -> None:
        for one in made:
            store.commit(write, one)

    with beside("commits", cause, FACTS):
        benchmark.pedantic(commit, setup=begin, rounds=30)
    benchmark.extra_info["bytes_per_fact"] = round(bytes_per_fact(CAUSES[cause]))


def tree(facts: int, parent_of: Callable[[int], int]) -> History:
    """Return a history in which fact n is because of `parent_of(n)`."""
    history, write = History(retention=EVERYTHING), Write(key_of("pods", "a", "x"), b"x")
    for revision in range(1, facts + 1):
        history.commit([write], Cause(ACTOR, "m", parent_of(revision), USER))
    history.settled = history.revision
    return history


@pytest.mark.parametrize("length", [10, 1000])
def test_why(benchmark: BenchmarkFixture, length: int) -> None:
    step = FACTS // length
    history = tree(FACTS, lambda revision: max(0, revision - step))
    chain = benchmark(lambda: why(history, FACTS))
    assert (len(chain.facts), chain.complete) == (length, True)


@pytest.mark.parametrize("led_to", ["everything", "a hundredth"])
def test_effects(benchmark: BenchmarkFixture, led_to: str) -> None:
    """Of the first of 10,000 facts; a hundred requests led to as many each, or one to all."""
    roots = 1 if led_to == "everything" else 100
    history = tree(FACTS, lambda revision: max(0, revision - roots))
    found = benchmark(lambda: effects(history, 1))
    assert len(found) == FACTS // roots - 1


def test_a_queues_look(benchmark: BenchmarkFixture) -> None:
    """A hundred keys, each marked twice, looked at, written, heard of and done with."""
    keys, revisions = [f"/registry/replicasets.apps/default/s{n}" for n in range(100)], count(1)
    queue = WorkQueue()

    def looks() -> None:
        for key in keys:
            queue.add(key, next(revisions), own=True)
            queue.add(key, next(revisions))
        while due := queue.pop():
            key, because = due
            queue.add_at(key, 1e9, because)
            queue.begin(key, 1, because)
            queue.heard(key, ok=True, revision=because, now_s=0.0)
        queue.wake(0.0, next(revisions))

    benchmark(looks)


@pytest.mark.parametrize("how", ["dataclasses.replace", "signer"])
def test_sign(benchmark: BenchmarkFixture, beside: Beside, how: str) -> None:
    """Sign a hundred requests: who, because of what, under which id."""
    request = Request("create", "pods", "default", body=b"x" * 600, user=USER)
    signer, numbers = Signer(ACTOR, USER, 0x3F8A90C1D2E4), count(1)

    def replaced() -> None:
        for _ in range(100):
            tag = f"3f8a90c1d2e4-{next(numbers)}"
            replace(request, sender=ACTOR, tag=tag, because=7, id=tag)

    def signed() -> None:
        for _ in range(100):
            tag = signer.next_id()
            signer.sign(request, 7, id=tag, tag=tag, user=request.user)

    with beside("signatures", how, 100):
        benchmark(signed if how == "signer" else replaced)


class Timer:
    def cancel(self) -> None:
        """It never rings."""


class Desk:
    """A controller manager whose every write is answered at once; a world without time."""

    def __init__(self) -> None:
        self.rng, self.world = random.Random(1), self
        self.turns: deque[Callable[[], None]] = deque()
        self.mail, self.to_server = Inbox(), Inbox()
        self.revisions = count(1)
        self.manager = ControllerManager(self, "controller-manager", settings=Settings())  # type: ignore[arg-type]
        self.manager.actor_inbox = self.manager.actor_ref.actor_inbox = self.mail
        self.manager._start_actor_loop()

    def now(self) -> float:
        return 0.0

    def wall(self) -> float:
        return 1_795_413_600.0

    def soon(self, call: Callable[[], None]) -> None:
        self.turns.append(call)

    def later(self, delay_s: float, call: Callable[[], None]) -> Timer:
        return Timer()

    def inbox(self, name: str) -> Inbox:
        assert name == API_SERVER
        return self.to_server

    def crashed(self, actor: Any, error: Exception) -> None:
        raise error

    def list(self, *objects: dict[str, Any]) -> None:
        frames = [self.frame(obj) for obj in objects]
        revision = next(self.revisions)
        for message in (Listing(revision), Facts(revision, frames), Synced(revision)):
            self.mail.put_answer(message.encode())
        self.settle()

    def frame(self, obj: dict[str, Any]) -> bytes:
        resource = BY_KIND[obj["apiVersion"], obj["kind"]]
        key = key_of(resource.id, "default" if resource.namespaced else "", obj["metadata"]["name"])
        return Fact(next(self.revisions), key, msgpack.packb(obj)).encoded

    def settle(self) -> int:
        """Run until nothing is left to do; return how many writes there were."""
        writes = 0
        while self.turns:
            self.turns.popleft()()
            while not self.to_server.empty():
                request = decode(self.to_server.get().message)
                if isinstance(request, Request) and request.tag:
                    writes += 1
                    self.mail.put_answer(Outcome(request.tag, 200, 0, b"\x80").encode())
        return writes


def test_one_change_through_the_manager(benchmark: BenchmarkFixture) -> None:
    """A pod becomes ready, or ceases to be: heard, folded, reconciled, signed, sent, answered."""
    desk = Desk()
    objects = []
    for number in range(100):
        name = f"s{number}"
        objects += [replica_set(name, 3), service(name)]
        objects += [pod(f"{name}-{i}", name, f"10.244.{number}.{i}", ready=True) for i in range(3)]
    desk.list(*objects)
    flips = count()

    def change() -> int:
        frames = [desk.frame(pod("s7-1", "s7", "10.244.7.1", ready=next(flips) % 2 == 1))]
        desk.mail.put_answer(Facts(next(desk.revisions), frames).encode())
        return desk.settle()

    assert benchmark(change) >= 2
