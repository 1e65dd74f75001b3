"""Times as Kubernetes writes them: RFC 3339 in UTC."""

from datetime import UTC, datetime
from functools import lru_cache
from math import modf


def rfc3339(unix_s: float) -> str:
    """Return metav1.Time: whole seconds, "2026-11-23T05:58:18Z"."""
    return _second(int(unix_s))


@lru_cache(maxsize=1024)  # Everybody writes the same few seconds over and over.
def _second(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def rfc3339_micro(unix_s: float) -> str:
    """Return metav1.MicroTime: six decimals, "2026-11-23T05:58:18.123456Z"."""
    fraction, whole = modf(unix_s)
    second, micros = divmod(round(fraction * 1e6), 1_000_000)
    return f"{_second(int(whole) + second)[:-1]}.{micros:06}Z"


def parse(text: str) -> float:
    """Return seconds since 1970 for an RFC 3339 time. Raises: ValueError."""
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone: write it as 2006-01-02T15:04:05Z")
    return parsed.timestamp()
