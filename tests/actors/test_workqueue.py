"""The work queue against a model that says only what must hold, not how."""

from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kubeloop.actors.workqueue import BACKOFF_MAX_S, BACKOFF_MIN_S, WorkQueue

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

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.queue.add(key)
        self.dirty.add(key)

    @rule(key=KEYS, delay_s=st.sampled_from([0.0, 0.004, 0.005, 1.0, 700.0]))
    def add_later(self, key: str, delay_s: float) -> None:
        self.queue.add_at(key, self.now + delay_s)
        self.alarm(key, self.now + delay_s)

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
            key, _ = popped
            assert key in due, "taken too early, or twice"
            due.discard(key)
            self.dirty.discard(key)
            self.alarms.pop(key, None)
            self.flights.pop(key, None)
            if again:
                self.add(key)  # Its own reconcile may mark it at once.
                due.add(key)
            if count:
                self.queue.begin(key, count)
                self.flights[key], self.failed[key] = [count, 0], False
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

    def alarm(self, key: str, at_s: float) -> None:
        self.alarms[key] = min(at_s, self.alarms.get(key, at_s))

    def fail(self, key: str) -> None:
        count = self.failures.get(key, 0)
        self.failures[key] = count + 1
        self.alarm(key, self.now + min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2**count))

    def due(self) -> set[str]:
        rung = {k for k, at in self.alarms.items() if at <= self.now}
        for key in rung:
            del self.alarms[key]
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
