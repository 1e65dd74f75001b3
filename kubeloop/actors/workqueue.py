"""A work queue: which keys need a look, and when. Pure: time and revision are arguments.

As in client-go a key is looked at by one at a time, changes in between mark it once, and failures
back off (a change does not wait for that). Instead of expectations: after its writes a key waits
until the view has seen them, so nobody ever decides on a view that is older than his own doing.
"""

import heapq
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

BACKOFF_MIN_S: Final = 0.005
BACKOFF_MAX_S: Final = 1000.0
_NEVER: Final = float("inf")
_SLACK: Final = 64  # Outdated alarms that may lie about before they are swept out.


@dataclass(slots=True)
class _Flight:
    """Writes of one key that are on their way.

    waiting: outcomes not yet heard;  revision: what the view must have seen.
    """

    waiting: int
    revision: int = 0
    failed: bool = False


class WorkQueue:
    """Keys that are ready, in flight, or due at some time."""

    def __init__(self) -> None:
        # Oldest first. Not a dict: taking its first key again and again is quadratic.
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._again: set[str] = set()  # Changed while in flight.
        self._flights: dict[str, _Flight] = {}
        self._landed: list[tuple[int, str]] = []  # A heap: what waits for the view only.
        self._failures: dict[str, int] = {}
        self._alarms: list[tuple[float, str]] = []  # A heap; an entry not in `_alarm_of` is void.
        self._alarm_of: dict[str, float] = {}

    def add(self, key: str) -> None:
        """Have `key` looked at as soon as may be."""
        if key in self._flights:
            self._again.add(key)
        else:
            self._ready[key] = None

    def add_at(self, key: str, at_s: float) -> None:
        """Have `key` looked at not later than `at_s`; the earliest of several wins."""
        if at_s >= self._alarm_of.get(key, _NEVER):
            return
        self._alarm_of[key] = at_s
        heapq.heappush(self._alarms, (at_s, key))
        if len(self._alarms) > 2 * len(self._alarm_of) + _SLACK:
            self._alarms = [(at, name) for name, at in self._alarm_of.items()]
            heapq.heapify(self._alarms)

    def wake(self, now_s: float, revision: int) -> None:
        """Make ready what is due by the clock, and what waited for the view to get this far."""
        while self._landed and self._landed[0][0] <= revision:
            _, key = heapq.heappop(self._landed)
            del self._flights[key]
            if key in self._again:
                self._again.discard(key)
                self._ready[key] = None
        while (at := self.next_at()) is not None and at <= now_s:
            _, key = heapq.heappop(self._alarms)
            del self._alarm_of[key]
            self.add(key)

    def pop(self) -> str | None:
        """Return the key that has been ready longest, clean again; None if none is ready.

        Its alarm is off: whoever looks at it says when to look again.
        """
        if not self._ready:
            return None
        key, _ = self._ready.popitem(last=False)
        self._alarm_of.pop(key, None)
        return key

    def begin(self, key: str, writes: int) -> None:
        """`writes` of `key` have been sent: it waits for their outcomes."""
        assert writes >= 1
        assert key not in self._flights, "a key is looked at by one at a time"
        self._flights[key] = _Flight(writes)
        if key in self._ready:
            del self._ready[key]
            self._again.add(key)

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
            self.failed(key, now_s)
        else:
            self.forget(key)

    def failed(self, key: str, now_s: float) -> None:
        """Have `key` looked at again after a pause, twice as long as the last one."""
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        self.add_at(key, now_s + min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(count, 30)))

    def forget(self, key: str) -> None:
        """All is well with `key`: its next failure is a first one."""
        self._failures.pop(key, None)

    def next_at(self) -> float | None:
        """Return when the next key is due by the clock, None if none is."""
        while self._alarms and self._alarm_of.get(self._alarms[0][1]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def ready(self) -> int:
        """Return how many keys may be looked at now."""
        return len(self._ready)

    def idle(self) -> bool:
        """Tell whether nothing is ready and nothing in flight; alarms may still be set."""
        return not self._ready and not self._flights
