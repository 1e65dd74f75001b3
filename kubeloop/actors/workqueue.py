"""A work queue: which keys need a look, when, and because of what. Pure: time is an argument.

As in client-go a key is looked at by one at a time, changes in between mark it once, and failures
back off (a change does not wait for that). Instead of expectations: after its writes a key waits
until the view has seen them, so nobody ever decides on a view that is older than his own doing.

With each key the queue hands out its reason: the revision of the fact that made it need the look.
Of several that is the newest. What was refused keeps its reason until it is done, for whatever
else has happened by then, this is still owed; only if the key's own object is wanted otherwise
meanwhile, that is the reason.
An alarm rings because of what it was set for, and if it is set anew for the same time, it is the
same alarm.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BACKOFF_MIN_S: Final = 0.005
BACKOFF_MAX_S: Final = 1000.0
SAME_S: Final = 0.1  # Two clocks go into an alarm's time: what they differ by is not another time.
_NEVER: Final = (float("inf"), 0)
_SLACK: Final = 64  # Outdated alarms that may lie about before they are swept out.


@dataclass(slots=True)
class _Flight:
    """Writes of one key that are on their way.

    waiting: outcomes not yet heard;  revision: what the view must have seen.
    because: the reason of a retry.
    """

    waiting: int
    because: int
    revision: int = 0
    failed: bool = False


class WorkQueue:
    """Keys that are ready, in flight, or due at some time. Reasons are revisions, 0 for none."""

    def __init__(self) -> None:
        # Key → reason, oldest first. Not a dict: taking its first key again and again is quadratic.
        self._ready: OrderedDict[str, int] = OrderedDict()
        self._again: dict[str, int] = {}  # Changed while in flight.
        self._flights: dict[str, _Flight] = {}
        self._landed: list[tuple[int, str]] = []  # A heap: what waits for the view only.
        self._failures: dict[str, int] = {}
        self._owed: dict[str, int] = {}  # Key → reason of what was refused.
        self._alarms: list[tuple[float, str]] = []  # A heap; an entry not in `_alarm_of` is void.
        self._alarm_of: dict[str, tuple[float, int]] = {}  # Key → when, reason.
        self._silenced = ("", 0.0, 0)  # The alarm of the key that was handed out last.

    def add(self, key: str, because: int = 0, *, own: bool = False) -> None:
        """Have `key` looked at as soon as may be. own: its own object is wanted otherwise now."""
        flight = self._flights.get(key)
        marked: dict[str, int] = self._ready if flight is None else self._again
        if own:
            self._owed.pop(key, None)
            if flight is not None:
                flight.because = because
        if because >= marked.get(key, 0):
            marked[key] = because

    def add_at(self, key: str, at_s: float, because: int = 0) -> None:
        """Have `key` looked at not later than `at_s`; the earliest of several wins."""
        if at_s >= self._alarm_of.get(key, _NEVER)[0]:
            return
        silenced, was_at_s, reason = self._silenced
        if silenced == key and abs(was_at_s - at_s) < SAME_S:
            because = reason
        self._alarm_of[key] = (at_s, because)
        heapq.heappush(self._alarms, (at_s, key))
        if len(self._alarms) > 2 * len(self._alarm_of) + _SLACK:
            self._alarms = [(at, name) for name, (at, _) in self._alarm_of.items()]
            heapq.heapify(self._alarms)

    def wake(self, now_s: float, revision: int) -> None:
        """Make ready what is due by the clock, and what waited for the view to get this far."""
        while self._landed and self._landed[0][0] <= revision:
            _, key = heapq.heappop(self._landed)
            del self._flights[key]
            if key in self._again:
                self._ready[key] = self._again.pop(key)
        while (at := self.next_at()) is not None and at <= now_s:
            _, key = heapq.heappop(self._alarms)
            _, because = self._alarm_of.pop(key)
            self.add(key, because)

    def pop(self) -> tuple[str, int] | None:
        """Return the key that has been ready longest, clean again, and why; None if none is ready.

        Its alarm is off: whoever looks at it says when to look again.
        """
        if not self._ready:
            return None
        key, because = self._ready.popitem(last=False)
        if self._owed:
            because = self._owed.pop(key, because)
        alarm = self._alarm_of.pop(key, None)
        self._silenced = ("", 0.0, 0) if alarm is None else (key, *alarm)
        return key, because

    def begin(self, key: str, writes: int, because: int = 0) -> None:
        """`writes` of `key` have been sent: it waits for their outcomes."""
        assert writes >= 1
        assert key not in self._flights, "a key is looked at by one at a time"
        self._flights[key] = _Flight(writes, because)
        if key in self._ready:
            self._again[key] = self._ready.pop(key)

    def heard(self, key: str, *, ok: bool, revision: int, now_s: float) -> None:
        """The outcome of one write of `key` has arrived.

        revision: of the write; 0 if there is nothing for the view to see.
        """
        flight = self._flights.get(key)
        if flight is None or not flight.waiting:
            return
        flight.waiting -= 1
        flight.failed = flight.failed or not ok
        flight.revision = max(flight.revision, revision)
        if flight.waiting:
            return
        heapq.heappush(self._landed, (flight.revision, key))
        if flight.failed:
            self.failed(key, now_s, flight.because)
        else:
            self.forget(key)

    def failed(self, key: str, now_s: float, because: int = 0) -> None:
        """Have `key` looked at again after a pause, twice as long as the last one."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        self._owed[key] = because
        pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(count, 30))
        self.add_at(key, now_s + pause_s, because)

    def forget(self, key: str) -> None:
        """All is well with `key`: its next failure is a first one."""
        self._failures.pop(key, None)

    def next_at(self) -> float | None:
        """Return when the next key is due by the clock, None if none is."""
        while (
            self._alarms
            and self._alarm_of.get(self._alarms[0][1], _NEVER)[0] != (self._alarms[0][0])
        ):
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def ready(self) -> int:
        """Return how many keys may be looked at now."""
        return len(self._ready)

    def busy(self) -> str | None:
        """Return a key that is ready, in flight, or to be tried again, and how; None if none is."""
        for key in self._ready:
            return f"looks at {key}"
        for key in self._flights:
            return f"waits for what it wrote because of {key}"
        for key, failures in self._failures.items():
            return f"has failed {failures} times at {key}, and will try again"
        return None

    def idle(self) -> bool:
        """Tell whether nothing is ready and nothing in flight; alarms may still be set."""
        return not self._ready and not self._flights
