"""Times in bodies: read as Go's time.Parse reads them, written back in Kubernetes' form.

metav1.Time is RFC 3339 and keeps whole seconds; metav1.MicroTime demands six decimals. What does
not parse is refused in Go's words, which name the first part of the layout that does not fit.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

# Each step of a layout: its name in Go's layout language, and what it takes.
_DATE: Final = (
    ("2006", r"(?P<year>[0-9]{4})"),
    ("-", "-"),
    ("01", r"(?P<month>[0-9]{2})"),
    ("-", "-"),
    ("02", r"(?P<day>[0-9]{2})"),
    ("T", "T"),
    ("15", r"(?P<hour>[0-9]{1,2})"),
    (":", ":"),
    ("04", r"(?P<minute>[0-9]{2})"),
    (":", ":"),
)
_ZONE: Final = ("Z07:00", r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})")
_SECONDS: Final = (*_DATE, ("05", r"(?P<second>[0-9]{2})(?:[.,][0-9]+)?"), _ZONE)
_MICROS: Final = (
    *_DATE,
    ("05", r"(?P<second>[0-9]{2})"),
    (".000000", r"[.,](?P<micros>[0-9]{6})"),
    _ZONE,
)
_LIMITS: Final = {"month": (1, 12), "hour": (0, 23), "minute": (0, 59), "second": (0, 59)}


@lru_cache(maxsize=4096)
def canonical_time(text: str) -> str:
    """Return metav1.Time's form of an RFC 3339 time: UTC, whole seconds. Raises: ValueError."""
    return _moment(text, _SECONDS).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")


@lru_cache(maxsize=4096)
def canonical_micro_time(text: str) -> str:
    """Return metav1.MicroTime's form of a time with six decimals: UTC. Raises: ValueError."""
    return _moment(text, _MICROS).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _moment(text: str, layout: tuple[tuple[str, str], ...]) -> datetime:
    found: dict[str, str] = {}
    rest = text
    for element, pattern in layout:
        match = re.match(pattern, rest)
        if match is None:
            whole = "".join(name for name, _ in layout)
            raise ValueError(
                f"parsing time {_quoted(text)} as {_quoted(whole)}:"
                f" cannot parse {_quoted(rest)} as {_quoted(element)}"
            )
        found |= match.groupdict()
        _check_range(text, match.groupdict())
        rest = rest[match.end() :]
    if rest:
        raise ValueError(f"parsing time {_quoted(text)}: extra text: {_quoted(rest)}")
    numbers = {k: int(v) for k, v in found.items() if k not in ("zone", "micros")}
    micros = int(found.get("micros", 0))
    try:
        zone = _zone(found["zone"])
        return datetime(**numbers, microsecond=micros, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"parsing time {_quoted(text)}: day out of range") from None


def _check_range(text: str, found: Mapping[str, str]) -> None:
    for name, told in found.items():
        low, high = _LIMITS.get(name, (0, 9999))
        if name in _LIMITS and not low <= int(told) <= high:
            raise ValueError(f"parsing time {_quoted(text)}: {name} out of range")


def _zone(told: str) -> timezone:
    if told == "Z":
        return UTC
    offset = timedelta(hours=int(told[1:3]), minutes=int(told[4:6]))
    return timezone(-offset if told[0] == "-" else offset)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
