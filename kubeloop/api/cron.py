"""Cron schedules, as CronJobs write them: when is the next time? Pure.

    Schedule.parse("*/5 9-17 * * MON-FRI").after(moment)

Five fields (minute, hour, day of month, month, day of week), or @hourly, @daily, @midnight,
@weekly, @monthly, @yearly, @annually, or "@every 1h30m". If both days are restricted either may
match. A schedule lives in the time zone of the moment it is asked about: times that a change of the
clocks leaves out are left out, and those that come twice count twice.

Source: Kubernetes, "CronJob: Schedule syntax"; the library it uses, robfig/cron v3, in behaviour.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY: Final = "@every "
_UNITS_S: Final = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
_SHIFT_MAX: Final = 3
_YEARS_MAX: Final = 5  # The 29th of February may be eight years away; the library gives up, too.


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is due.

    every: that much time after the last, in whole seconds;  None: at the times of the fields.
    stars: whether the days of the month, and those of the week, are not restricted.
    """

    minutes: frozenset[int] = frozenset()
    hours: frozenset[int] = frozenset()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    stars: tuple[bool, bool] = (True, True)
    every: timedelta | None = None

    @classmethod
    def parse(cls, text: str) -> "Schedule":
        """Return the schedule a text tells of. Raises: ValueError, in the words of Kubernetes."""
        if not text:
            raise ValueError("empty spec string")
        if text.startswith("@"):
            return _described(text)
        parts = text.split()
        if len(parts) != len(_FIELDS):
            shown = " ".join(parts)
            raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{shown}]")
        found = [_field(part, *rule[1:]) for part, rule in zip(parts, _FIELDS, strict=True)]
        (minutes, _), (hours, _), (days, any_day), (months, _), (weekdays, any_weekday) = found
        return cls(minutes, hours, days, months, weekdays, (any_day, any_weekday))

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in its time zone.

        None if there is none in the next years: the 30th of February.
        """
        if self.every is not None:
            return moment.replace(microsecond=0) + self.every
        last, today = moment.year + _YEARS_MAX, moment.replace(tzinfo=None).date()
        day = today
        while day.year <= last:
            if self._is_day(day):
                # The clocks are never changed by more hours than that.
                first = moment.hour - _SHIFT_MAX if day == today else 0
                for hour in sorted(hour for hour in self.hours if hour >= first):
                    found = self._in_hour(moment, datetime.combine(day, time(hour)))
                    if found is not None:
                        return found
            day += timedelta(days=1)
            if day.month not in self.months:
                day = _next_month(day)
        return None

    def _in_hour(self, moment: datetime, hour: datetime) -> datetime | None:
        """Return the first time within an hour of the clocks that is after a moment."""
        if moment.tzinfo is UTC:
            least = moment.minute + 1 if hour.hour == moment.hour and hour <= _naive(moment) else 0
            if hour.hour < moment.hour and hour.date() == moment.date():
                return None
            minutes = [minute for minute in self.minutes if minute >= least]
            return hour.replace(minute=min(minutes), tzinfo=UTC) if minutes else None
        found = [
            shown.astimezone(UTC)
            for minute in self.minutes
            for fold in (0, 1)
            if _exists(shown := hour.replace(minute=minute, fold=fold, tzinfo=moment.tzinfo))
        ]
        later = [one for one in found if one > moment.astimezone(UTC)]
        return min(later).astimezone(moment.tzinfo) if later else None

    def _is_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month and in_week if any(self.stars) else in_month or in_week


def _naive(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


def _exists(moment: datetime) -> bool:
    """Tell whether the clocks ever show a local time."""
    return _naive(moment.astimezone(UTC).astimezone(moment.tzinfo)) == _naive(moment)


def _next_month(day: date) -> date:
    """Return the first day of the next month, the day itself if it is one."""
    if day.day == 1:
        return day
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _described(text: str) -> Schedule:
    named = _NAMED.get(text)
    if named is not None:
        return Schedule.parse(named)
    if not text.startswith(_EVERY):
        raise ValueError(f"unrecognized descriptor: {text}")
    told = text.removeprefix(_EVERY)
    parts = _DURATION.findall(told)
    if not parts or "".join(number + unit for number, unit in parts) != told.lstrip("+"):
        raise ValueError(f'failed to parse duration {text}: time: invalid duration "{told}"')
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    return Schedule(every=timedelta(seconds=max(1, int(seconds))))


def _field(text: str, least: int, most: int, names: dict[str, int]) -> tuple[frozenset[int], bool]:
    """Return the numbers a field means, and whether it is a bare star."""
    found: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        numbers, is_star = _range(part, least, most, names)
        found.update(numbers)
        star = star or is_star
    if not found:
        raise ValueError(f"failed to parse int from : strconv.Atoi: parsing {text!r}")
    return frozenset(found), star


def _range(text: str, least: int, most: int, names: dict[str, int]) -> tuple[range, bool]:
    """Return what NUMBER | NUMBER-NUMBER | * [ /NUMBER ] means, and whether it is a bare star."""
    span, *steps = text.split("/")
    low, *high = span.split("-")
    star = low in ("*", "?")
    if star:
        start, end = least, most
    else:
        start = _number(low, names)
        if len(high) > 1:
            raise ValueError(f"too many hyphens: {text}")
        end = _number(high[0], names) if high else start
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = 1
    if steps:
        step = _number(steps[0], {})
        if not star and not high:
            end = most  # N/5 means N-most/5.
    if start < least:
        raise ValueError(f"beginning of range ({start}) below minimum ({least}): {text}")
    if end > most:
        raise ValueError(f"end of range ({end}) above maximum ({most}): {text}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return range(start, end + 1, step), star and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    named = names.get(text.lower())
    if named is not None:
        return named
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        quoted = f'strconv.Atoi: parsing "{text}": invalid syntax'
        raise ValueError(f"failed to parse int from {text}: {quoted}")
    number = int(text)
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number
