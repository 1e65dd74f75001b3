"""Back-off of things that keep failing: crash loops, image pulls. Pure: time is an argument.

As client-go's flowcontrol.Backoff: the first failure sets the pause, every further one doubles it,
and an entry that has rested for twice the longest pause starts over.
"""

from dataclasses import dataclass
from typing import Final

INITIAL_S: Final = 10.0
LONGEST_S: Final = 300.0


@dataclass(slots=True)
class Backoff:
    """The back-off of one thing. pause_s is 0 until the first failure."""

    pause_s: float = 0.0
    updated_at: float = 0.0

    def next(self, at: float, now: float) -> None:
        """Count one more failure, that happened `at`."""
        if not self.pause_s or self._rested(at):
            self.pause_s = INITIAL_S
        else:
            self.pause_s = min(LONGEST_S, self.pause_s * 2)
        self.updated_at = now

    def until(self, at: float) -> float:
        """Return when it may be tried again after what happened `at`; in the past: at once."""
        if not self.pause_s or self._rested(at):
            return at
        return at + self.pause_s

    def _rested(self, at: float) -> bool:
        return at - self.updated_at > 2 * LONGEST_S


def go_duration(seconds: float) -> str:
    """Return a duration as Go writes it, to the millisecond: "1m20s", "5m0s", "12ms", "1.5s"."""
    milliseconds = round(seconds * 1000)
    if milliseconds < 1000:
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
