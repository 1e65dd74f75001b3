"""Times to come back to things: the earliest is found at once, and each may be moved. Pure."""

import heapq
from typing import Final

NEVER: Final = float("inf")


class Alarms:
    """At most one time per name."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._at: dict[str, float] = {}

    def set(self, name: str, at: float) -> None:
        """Ring for `name` at that time, and at no other; NEVER forgets it."""
        if at == NEVER:
            self._at.pop(name, None)
        elif self._at.get(name) != at:
            self._at[name] = at
            heapq.heappush(self._heap, (at, name))

    def due(self, now: float) -> list[str]:
        """Return and forget the names whose time has come, earliest first."""
        names = []
        while self.next() <= now:
            _, name = heapq.heappop(self._heap)
            del self._at[name]
            names.append(name)
        return names

    def next(self) -> float:
        """Return the earliest time, NEVER if there is none."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)  # Moved or forgotten since.
        return self._heap[0][0] if self._heap else NEVER
