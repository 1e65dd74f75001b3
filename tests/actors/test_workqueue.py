"""The work queue against a model that says only what must hold, not how.

So with its memory: the model knows of each key what has happened since it was looked at last, and
says from that which fact is the reason for the next look.
"""

from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubeloop.actors.workqueue import BACKOFF_MAX_S, BACKOFF_MIN_S, SAME_S, WorkQueue

KEYS = st.sampled_from("abc")


class Machine(RuleBasedStateMachine):
    """A controller manager with three keys, an API server that answers when it likes, a clock."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.now, self.seen, self.written = WorkQueue(), 0.0, 0, 0
        self.dirty: set[str] = set()
        self.alarms: dict[str, float] = {}
        self.flights: dict[str, list[int]] = {}  # key → [outcomes missing, revision to see]
        self.failed: dict[str, bool] = {}
        self.failures: dict[str, int] = {}
        self.fact = 0  # The newest revision.
        self.marks: dict[str, int] = {}  # key → the newest reason since the last look
        self.owed: dict[str, int] = {}  # key → why what was refused had been tried
        self.tried: dict[str, int] = {}  # key → why what is in flight is tried
        self.ring: dict[str, int] = {}  # key → the reason of its alarm
        self.silenced: tuple[str, float, int] | None = None  # The alarm of the last look's key.

    @rule(key=KEYS, own=st.booleans())
    def add(self, key: str, own: bool) -> None:
        self.fact += 1
        self.queue.add(key, self.fact, own=own)
        self.dirty.add(key)
        self.marks[key] = self.fact
        if own:
            self.owed.pop(key, None)
            if self.flights.get(key, [0])[0]:
                self.tried[key] = self.fact

    @rule(key=KEYS, delay_s=st.sampled_from([0.0, 0.004, 0.005, 1.0, 1.05, 2.0, 700.0]))
    def add_later(self, key: str, delay_s: float) -> None:
        self.fact += 1
        self.queue.add_at(key, self.now + delay_s, self.fact)
        self.alarm(key, self.now + delay_s, self.fact)

    @rule(writes=st.lists(st.integers(0, 2), min_size=1, max_size=4), again=st.booleans())
    def work(self, writes: list[int], again: bool) -> None:
        """Look at some of what is due; each look writes so often."""
        due = self.due()
        self.queue.wake(self.now, self.seen)
        assert self.queue.ready() == len(due)
        for count in writes:
            popped = self.queue.pop()
            if popped is None:
                assert not due, "something that is due was forgotten"
                return
            key, because = popped
            assert key in due, "taken too early, or twice"
            assert because == self.owed.get(key, self.marks[key])
            self.marks.pop(key)
            self.owed.pop(key, None)
            due.discard(key)
            self.dirty.discard(key)
            at_s = self.alarms.pop(key, None)
            self.silenced = None if at_s is None else (key, at_s, self.ring.pop(key))
            self.flights.pop(key, None)
            if again:
                self.add(key, own=False)  # Its own reconcile may mark it at once.
                due.add(key)
            if count:
                self.queue.begin(key, count, because)
                self.flights[key], self.failed[key] = [count, 0], False
                self.tried[key] = because
                due.discard(key)
            else:
                self.queue.forget(key)
                self.failures.pop(key, None)

    @precondition(lambda self: any(f[0] for f in self.flights.values()))
    @rule(data=st.data(), ok=st.booleans())
    def hear(self, data: st.DataObject, ok: bool) -> None:
        key = data.draw(st.sampled_from(sorted(k for k, f in self.flights.items() if f[0])))
        flight = self.flights[key]
        flight[0] -= 1
        if ok:
            self.written += 1
            flight[1] = self.written
        self.failed[key] |= not ok
        self.queue.heard(key, ok=ok, revision=self.written if ok else 0, now_s=self.now)
        if not flight[0]:
            if self.failed[key]:
                self.fail(key)
            else:
                self.failures.pop(key, None)

    @rule(key=KEYS)
    def hear_what_nobody_waits_for(self, key: str) -> None:
        if not self.flights.get(key, [0])[0]:
            self.queue.heard(key, ok=False, revision=0, now_s=self.now)

    @rule()
    def see(self) -> None:
        self.seen = self.written

    @rule(to=st.sampled_from(["next", 0.005, 2.0, 2000.0]))
    def wait(self, to: str | float) -> None:
        if isinstance(to, float):
            self.now += to
        else:
            at = self.queue.next_at()
            self.now = self.now if at is None else max(self.now, at)

    def alarm(self, key: str, at_s: float, because: int) -> None:
        if at_s >= self.alarms.get(key, float("inf")):
            return
        if self.silenced is not None and self.silenced[0] == key:
            _, was_at_s, reason = self.silenced
            because = reason if abs(was_at_s - at_s) < SAME_S else because
        self.alarms[key], self.ring[key] = at_s, because

    def fail(self, key: str) -> None:
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        self.owed[key] = self.tried[key]
        pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2**count)
        self.alarm(key, self.now + pause_s, self.tried[key])

    def due(self) -> set[str]:
        rung = {k for k, at in self.alarms.items() if at <= self.now}
        for key in rung:
            del self.alarms[key]
            self.marks[key] = max(self.marks.get(key, 0), self.ring.pop(key))
        self.dirty |= rung
        flying = {k for k, (missing, need) in self.flights.items() if missing or need > self.seen}
        return self.dirty - flying

    @invariant()
    def the_clock_will_wake_it(self) -> None:
        """Nothing waits for a turn that no message and no timer will cause."""
        assert self.queue.next_at() == min(self.alarms.values(), default=None)

    @invariant()
    def idle_means_nothing_is_left(self) -> None:
        if self.queue.idle():
            assert not self.dirty
            assert not any(f[0] for f in self.flights.values())


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestWorkQueue = Machine.TestCase


def take(queue: WorkQueue, now_s: float, revision: int = 0) -> list[str]:
    queue.wake(now_s, revision)
    return [key for key, _ in iter(queue.pop, None)]


def fail(queue: WorkQueue, key: str, times: int) -> Iterable[float]:
    """Yield the pauses after each of `times` failures."""
    now = 0.0
    queue.add(key)
    for _ in range(times):
        assert take(queue, now) == [key]
        queue.begin(key, 1)
        queue.heard(key, ok=False, revision=0, now_s=now)
        at = queue.next_at()
        assert at is not None
        assert take(queue, at - 1e-6) == []
        yield at - now
        now = at


def test_pauses_double_up_to_a_limit() -> None:
    pauses = list(fail(WorkQueue(), "a", 60))
    assert pauses[:4] == pytest.approx([0.005, 0.01, 0.02, 0.04])
    assert pauses[-1] == pytest.approx(1000)


@pytest.mark.parametrize("how", ["a write that works", "nothing to write"])
def test_success_resets_the_pause(how: str) -> None:
    queue = WorkQueue()
    now = sum(fail(queue, "a", 5))
    assert take(queue, now) == ["a"]
    if how == "nothing to write":
        queue.forget("a")
    else:
        queue.begin("a", 1)
        queue.heard("a", ok=True, revision=0, now_s=now)
    queue.add("a")
    assert take(queue, now) == ["a"]
    queue.begin("a", 1)
    queue.heard("a", ok=False, revision=0, now_s=now)
    assert queue.next_at() == pytest.approx(now + BACKOFF_MIN_S)


def test_a_key_waits_until_the_view_has_seen_its_writes() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert take(queue, 0) == ["a"]
    queue.begin("a", 2)
    queue.add("a")
    queue.heard("a", ok=True, revision=7, now_s=0)
    assert take(queue, 0, 7) == [], "one outcome is missing"
    queue.heard("a", ok=True, revision=9, now_s=0)
    assert take(queue, 0, 8) == []
    assert take(queue, 0, 9) == ["a"]


def test_alarms_that_are_moved_do_not_pile_up() -> None:
    queue = WorkQueue()
    for n in range(10_000):
        queue.add_at("a", 10_000 - n)
    assert queue.next_at() == 1
    assert len(queue._alarms) < 1000


def reasons(queue: WorkQueue, now_s: float, revision: int = 0) -> list[tuple[str, int]]:
    queue.wake(now_s, revision)
    return list(iter(queue.pop, None))


def test_the_newest_of_several_facts_is_the_reason() -> None:
    queue = WorkQueue()
    for key, revision in (("a", 5), ("b", 6), ("a", 7), ("a", 3)):
        queue.add(key, revision)
    assert reasons(queue, 0) == [("a", 7), ("b", 6)]
    queue.add("a", 8)
    assert reasons(queue, 0) == [("a", 8)]


def refused(queue: WorkQueue, key: str, because: int) -> None:
    queue.add(key, because)
    assert reasons(queue, 0) == [(key, because)]
    queue.begin(key, 1, because)


@pytest.mark.parametrize("when", ["on its way", "refused", "seen"])
@pytest.mark.parametrize("own", [False, True])
def test_what_was_refused_keeps_its_reason_unless_its_own_object_changes(
    when: str, own: bool
) -> None:
    """The user's scaling is refused, for a pod's readiness came in between: it is still why."""
    queue = WorkQueue()
    refused(queue, "a", 5)
    if when == "on its way":
        queue.add("a", 9, own=own)
    queue.heard("a", ok=False, revision=0, now_s=0)
    if when == "refused":
        queue.add("a", 9, own=own)
    queue.wake(0, 9)
    if when == "seen":
        queue.add("a", 9, own=own)
    assert reasons(queue, 0, 9) == [("a", 9 if own else 5)]


def test_a_retry_by_the_clock_keeps_the_reason() -> None:
    queue = WorkQueue()
    refused(queue, "a", 5)
    queue.heard("a", ok=False, revision=0, now_s=0)
    assert reasons(queue, 0) == []
    assert reasons(queue, 1) == [("a", 5)]
    queue.begin("a", 1, 5)
    queue.heard("a", ok=True, revision=6, now_s=1)
    queue.add("a", 6)
    assert reasons(queue, 1, 6) == [("a", 6)], "nothing is owed any more"


def test_an_alarm_rings_because_of_what_set_it() -> None:
    queue = WorkQueue()
    queue.add("a", 5)
    assert reasons(queue, 0) == [("a", 5)]
    queue.add_at("a", 300, 5)
    queue.add("a", 8)
    assert reasons(queue, 10) == [("a", 8)]
    queue.add_at("a", 300.0001, 8)  # As before: it was not this fact that set the clock going.
    assert reasons(queue, 301) == [("a", 5)]
    queue.add_at("a", 600, 5)
    queue.add("a", 9)
    assert reasons(queue, 310) == [("a", 9)]
    queue.add_at("a", 500, 9)
    assert reasons(queue, 501) == [("a", 9)], "another time is another alarm"


def test_what_marks_a_key_while_it_is_looked_at_is_the_next_reason() -> None:
    queue = WorkQueue()
    queue.add("a", 5)
    assert reasons(queue, 0) == [("a", 5)]
    queue.add("a", 6)
    queue.begin("a", 1, 5)
    queue.heard("a", ok=True, revision=7, now_s=0)
    assert reasons(queue, 0, 7) == [("a", 6)]
