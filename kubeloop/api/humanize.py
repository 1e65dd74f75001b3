"""How long ago: the AGE that `kubectl get` shows, and the like.

Two units at most, and fewer as time goes by: nobody asks for the seconds of yesterday.

Source: k8s.io/apimachinery/pkg/util/duration.
"""

from typing import Any, Final, NamedTuple

from kubeloop.api import times

UNKNOWN: Final = "<unknown>"

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_YEAR: Final = 365 * _DAY


def duration(seconds: float) -> str:
    """Return "5s", "2m10s", "3h5m", "45d", "2y30d"; "<invalid>" for two seconds in the future."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(whole, 0)}s"
    if whole < 10 * _MINUTE:
        return _two(whole, _MINUTE, "m", 1, "s")
    if whole < 3 * _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < 8 * _HOUR:
        return _two(whole, _HOUR, "h", _MINUTE, "m")
    if whole < 2 * _DAY:
        return f"{whole // _HOUR}h"
    if whole < 8 * _DAY:
        return _two(whole, _DAY, "d", _HOUR, "h")
    if whole < 2 * _YEAR:
        return f"{whole // _DAY}d"
    if whole < 8 * _YEAR:
        return _two(whole, _YEAR, "y", _DAY, "d")
    return f"{whole // _YEAR}y"


class Ago(NamedTuple):
    """A text that changes as time goes by. at: seconds since 1970;  before, after: around it."""

    at: float
    before: str = ""
    after: str = ""

    def text(self, now_unix: float) -> str:
        """Return what it is now."""
        return f"{self.before}{duration(now_unix - self.at)}{self.after}"


def since(time: Any) -> Ago | str:
    """Return how long ago the RFC 3339 `time` was; "<unknown>" if there is none."""
    if not isinstance(time, str) or not time:
        return UNKNOWN
    try:
        return Ago(times.parse(time))
    except ValueError:
        return UNKNOWN


def _two(seconds: int, big: int, big_name: str, small: int, small_name: str) -> str:
    rest = seconds % big // small
    return (
        f"{seconds // big}{big_name}{rest}{small_name}" if rest else f"{seconds // big}{big_name}"
    )
