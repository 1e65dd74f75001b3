"""Cron schedules: the times of another implementation, Kubernetes' errors, changed clocks."""

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.cron import Schedule


def field(least: int, most: int) -> st.SearchStrategy[str]:
    number = st.integers(least, most)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    step = st.tuples(st.one_of(st.just("*"), span), st.integers(2, 20))
    part = st.one_of(number.map(str), span, step.map(lambda told: f"{told[0]}/{told[1]}"))
    return st.one_of(st.just("*"), part, st.lists(part, min_size=2, max_size=3).map(",".join))


schedules = st.tuples(field(0, 59), field(0, 23), field(1, 28), field(1, 12), field(0, 6))
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1))


@given(schedules.map(" ".join), moments)
def test_the_times_are_those_of_another_implementation(text: str, begin: datetime) -> None:
    days, weekdays = text.split()[2], text.split()[4]
    if days.startswith("*/") or weekdays.startswith("*/"):
        return  # A star with a step restricts its field here, as Kubernetes has it; there not.
    moment, schedule = begin.replace(tzinfo=UTC), Schedule.parse(text)
    for expected in islice(CronSim(text, moment), 5):
        found = schedule.after(moment)
        assert found == expected
        moment = expected


@given(schedules.map(" ".join), moments)
def test_in_utc_and_in_a_zone_like_it_the_times_are_the_same(text: str, begin: datetime) -> None:
    schedule, zone = Schedule.parse(text), ZoneInfo("Etc/UTC")
    assert schedule.after(begin.replace(tzinfo=UTC)) == schedule.after(begin.replace(tzinfo=zone))


def times(text: str, zone: str, begin: str, count: int) -> list[str]:
    moment = datetime.fromisoformat(begin).replace(tzinfo=ZoneInfo(zone))
    found = []
    for _ in range(count):
        later = Schedule.parse(text).after(moment)
        assert later is not None
        moment = later
        found.append(moment.strftime("%d %H:%M %z"))
    return found


def test_when_the_clocks_change() -> None:
    spring = times("30 * * * *", "Europe/Berlin", "2026-03-29T00:45", 3)
    assert spring == ["29 01:30 +0100", "29 03:30 +0200", "29 04:30 +0200"]
    autumn = times("30 * * * *", "Europe/Berlin", "2026-10-25T01:45", 3)
    assert autumn == ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]
    skipped = times("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 1)
    assert skipped == ["30 02:30 +0200"], "that night the clocks never showed 02:30"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * ?"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 jan *"),
        ("@annually", "00 00 01 01 *"),
        ("5/20 * * * *", "5,25,45 * * * *"),
        ("0 0 * * mon-Fri", "0 0 * * 1-5"),
    ],
)
def test_two_ways_to_say_it(text: str, same: str) -> None:
    assert Schedule.parse(text) == Schedule.parse(same)


def test_every_so_long() -> None:
    moment = datetime(2026, 1, 1, 0, 0, 7, 500, tzinfo=UTC)
    assert Schedule.parse("@every 1h30m").after(moment) == datetime(
        2026, 1, 1, 1, 30, 7, tzinfo=UTC
    )
    assert Schedule.parse("@every 1.5s").every == timedelta(seconds=1)
    assert Schedule.parse("@every 10ms").every == timedelta(seconds=1), "not more often"


def test_either_day_if_both_are_restricted() -> None:
    moment = datetime(2026, 1, 1, 12, tzinfo=UTC)  # A Thursday.
    assert Schedule.parse("0 0 13 * FRI").after(moment) == datetime(2026, 1, 2, tzinfo=UTC)
    assert Schedule.parse("0 0 13 * *").after(moment) == datetime(2026, 1, 13, tzinfo=UTC)
    assert Schedule.parse("0 0 */31 * FRI").after(moment) == datetime(2026, 1, 2, tzinfo=UTC)
    assert Schedule.parse("0 0 30 2 *").after(moment) is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "empty spec string"),
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
        ("* * * * 7", "end of range (7) above maximum (6): 7"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
        ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
        ("*/2/3 * * * *", "too many slashes: */2/3"),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        (
            "x * * * *",
            'failed to parse int from x: strconv.Atoi: parsing "x": invalid syntax',
        ),
        ("@noon", "unrecognized descriptor: @noon"),
        ("@every x", 'failed to parse duration @every x: time: invalid duration "x"'),
    ],
)
def test_what_is_wrong_is_told(text: str, error: str) -> None:
    with pytest.raises(ValueError) as told:
        Schedule.parse(text)
    assert str(told.value) == error


@given(st.text(alphabet="*/,-?@0123456789 abjan", max_size=14))
def test_no_text_is_too_strange(text: str) -> None:
    try:
        Schedule.parse(text)
    except ValueError as error:
        assert str(error)
