"""A work queue: which keys need a look, and when. Pure: time and revision are arguments.

As in client-go a key is looked at by one at a time, changes in between mark it once, and failures
back off. Instead of expectations: after its writes a key waits until the view has seen them, so a
controller never decides on a view that is older than its own doing.
"""

import heapq
from dataclasses import dataclass
from typing import Final

BACKOFF_MIN_S: Final = 0.005
BACKOFF_MAX_S: Final = 1000.0


@dataclass(slots=True)
class _Flight:
    """Writes of one key that are on their way.

    waiting: outcomes not yet heard;  revision: what the view must have seen.
    """

    waiting: int
    revision: int = 0
    failed: bool = False


class WorkQueue:
    """Keys that are dirty, in flight, backing off, or due at some time."""

    def __init__(self) -> None:
        self._dirty: dict[str, None] = {}
        self._flights: dict[str, _Flight] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._alarms: list[tuple[float, str]] = []
        self._alarm_of: dict[str, float] = {}

    def add(self, key: str) -> None:
        """Have `key` looked at as soon as may be."""
        self._dirty[key] = None

    def add_at(self, key: str, at_s: float) -> None:
        """Have `key` looked at not later than `at_s`; the earliest of several wins."""
        known = self._alarm_of.get(key)
        if known is None or at_s < known:
            self._alarm_of[key] = at_s
            heapq.heappush(self._alarms, (at_s, key))

    def begin(self, key: str, writes: int) -> None:
        """`writes` of `key` have been sent: it waits for their outcomes."""
        assert writes >= 1
        assert key not in self._flights, "a key is looked at by one at a time"
        self._flights[key] = _Flight(writes)

    def heard(self, key: str, *, ok: bool, revision: int, now_s: float) -> None:
        """The outcome of one write of `key` has arrived."""
        flight = self._flights.get(key)
        if flight is None:
            return
        flight.waiting -= 1
        flight.failed = flight.failed or not ok
        if ok:
            flight.revision = max(flight.revision, revision)
        if flight.waiting == 0:
            if flight.failed:
                count = self._failures.get(key, 0)
                self._failures[key] = count + 1
                pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2.0 ** min(count, 30))
                self._not_before[key] = now_s + pause_s
                self.add_at(key, now_s + pause_s)
            else:
                self._failures.pop(key, None)

    def take(self, now_s: float, revision: int, limit: int) -> list[str]:
        """Return at most `limit` keys to look at now, oldest first; they are clean again.

        revision: what the view has seen.
        """
        self._ring(now_s)
        for key in [
            k for k, f in self._flights.items() if not f.waiting and f.revision <= revision
        ]:
            del self._flights[key]
        taken: list[str] = []
        for key in self._dirty:
            if len(taken) == limit:
                break
            if key not in self._flights and self._not_before.get(key, 0.0) <= now_s:
                taken.append(key)
        for key in taken:
            del self._dirty[key]
            self._not_before.pop(key, None)
        return taken

    def next_at(self) -> float | None:
        """Return when the next key is due by the clock, None if none is."""
        while self._alarms and self._alarm_of.get(self._alarms[0][1]) != self._alarms[0][0]:
            heapq.heappop(self._alarms)
        return self._alarms[0][0] if self._alarms else None

    def idle(self) -> bool:
        """Tell whether nothing is dirty and nothing in flight; alarms may still be set."""
        return not self._dirty and not self._flights

    def _ring(self, now_s: float) -> None:
        while (at := self.next_at()) is not None and at <= now_s:
            _, key = heapq.heappop(self._alarms)
            del self._alarm_of[key]
            self._dirty[key] = None
