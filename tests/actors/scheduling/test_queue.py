"""The queue against a model that is nothing but a table."""

from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from making import container, pod

from kubeloop.actors.scheduling.demand import Demand, Demands
from kubeloop.actors.scheduling.queue import BACKOFF_MAX_S, PARKED_MAX_S, Queue, backoff_s

KEYS = st.sampled_from(["default/a", "default/b", "default/c"])
SIZES = st.sampled_from(["100m", "200m"])


@dataclass
class Row:
    """What the model knows of one pod."""

    uid: int
    size: str
    priority: int
    age: int
    state: str = "active"  # active, parked, resting, out.
    due: float = 0.0
    failures: int = 0


class Waiting(RuleBasedStateMachine):
    """Whatever happens in whatever order: the right pods are tried, in the right order, in time."""

    def __init__(self) -> None:
        super().__init__()
        self.queue, self.demands = Queue(), Demands()
        self.rows: dict[str, Row] = {}
        self.out: dict[str, Any] = {}
        self.now = 0.0
        self.ages = 0

    def demand(self, size: str) -> Demand:
        return self.demands.of(pod("x", container({"cpu": size})))

    @rule(key=KEYS, uid=st.integers(0, 1), size=SIZES, priority=st.integers(0, 1))
    def put(self, key: str, uid: int, size: str, priority: int) -> None:
        if key in self.out:
            return  # The scheduler puts no pod whose binding is on its way.
        obj = pod(key, container({"cpu": size}), priority=priority)
        obj["metadata"]["uid"] = str(uid)
        self.queue.put(key, obj, self.demand(size))
        row = self.rows.get(key)
        if row is None or row.uid != uid:
            self.ages += 1
            self.rows[key] = Row(uid, size, priority, self.ages)
        elif (row.size, row.priority) != (size, priority):
            row.size, row.priority, row.state = size, priority, "active"

    @rule(key=KEYS)
    def remove(self, key: str) -> None:
        self.queue.remove(key)
        self.rows.pop(key, None)
        self.out.pop(key, None)

    @rule(limit=st.integers(1, 3))
    def pop(self, limit: int) -> None:
        ready = [(-row.priority, row.age, key) for key, row in self.rows.items()
                 if row.state == "active"]  # fmt: skip
        expected = [key for _, _, key in sorted(ready)[:limit]]
        popped = self.queue.pop(limit)
        assert [pending.key for pending in popped] == expected
        for pending in popped:
            self.rows[pending.key].state = "out"
            self.out[pending.key] = pending

    @rule(data=st.data(), how=st.sampled_from(["park", "rest"]))
    def put_off(self, data: Any, how: str) -> None:
        if not self.out:
            return
        key = data.draw(st.sampled_from(sorted(self.out)))
        pending, row = self.out.pop(key), self.rows[key]
        if how == "park":
            self.queue.park(pending, self.now)
            row.state, row.due = "parked", self.now + PARKED_MAX_S
        else:
            self.queue.rest(pending, self.now)
            row.failures += 1
            row.state, row.due = "resting", self.now + backoff_s(row.failures)

    @rule(size=SIZES)
    def wake(self, size: str) -> None:
        self.queue.wake(self.demand(size))
        for row in self.rows.values():
            if row.state == "parked" and row.size == size:
                row.state = "active"

    @rule(delay=st.sampled_from([0.0, 0.5, 1.0, 10.0, 300.0]))
    def advance(self, delay: float) -> None:
        self.now += delay
        due = self.queue.advance(self.now)
        for row in self.rows.values():
            if row.state in ("parked", "resting") and row.due <= self.now:
                row.state = "active"
        later = [row.due for row in self.rows.values() if row.state in ("parked", "resting")]
        assert due == min(later, default=None)

    @invariant()
    def what_is_told_is_so(self) -> None:
        rows = self.rows.values()
        assert len(self.queue) == len(rows)
        assert self.queue.active() == any(row.state == "active" for row in rows)
        parked = {self.demand(row.size).signature for row in rows if row.state == "parked"}
        assert {demand.signature for demand in self.queue.parked()} == parked


TestWaiting = Waiting.TestCase
TestWaiting.settings = settings(max_examples=300, stateful_step_count=40)


@given(st.integers(1, 10**6))
def test_the_pause_doubles_and_is_bounded(failures: int) -> None:
    assert backoff_s(1) == 1.0
    assert backoff_s(failures + 1) in (2 * backoff_s(failures), BACKOFF_MAX_S)
