"""Which lines `kubectl logs` gets."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.errors import ApiError
from kubeloop.net.rest.logs import (
    Limit,
    LogOptions,
    Tail,
    container_of,
    parse_log_options,
    timestamp,
)
from kubeloop.net.rest.options import parse_query

NOW = 1_000_000.0


def parsed(query: str) -> LogOptions:
    return parse_log_options(parse_query(query), "p1", NOW)


def test_options() -> None:
    query = "container=c&follow=true&tailLines=5&timestamps=1&previous=false&limitBytes=9"
    assert parsed(query + "&sinceSeconds=60") == LogOptions(
        container="c",
        follow=True,
        tail_lines=5,
        timestamps=True,
        limit_bytes=9,
        since=NOW - 60,
    )
    assert parsed("sinceTime=1970-01-02T00:00:00Z").since == 86400.0


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=1&sinceTime=x", "at most one of `sinceTime` or `sinceSeconds`"),
        ("tailLines=x", 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("sinceTime=yesterday", 'parsing time "yesterday"'),
    ],
)
def test_wrong_options(query: str, message: str) -> None:
    with pytest.raises(ApiError) as refused:
        parsed(query)
    assert message in refused.value.message
    assert refused.value.code in (400, 422)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.binary(max_size=4)), max_size=9),
    st.none() | st.integers(0, 10),
    st.integers(0, 9),
    st.none() | st.integers(1, 30),
)
def test_the_tail_is_the_end_of_what_is_wanted(
    lines: list[tuple[int, bytes]], count: int | None, since: int, limit: int | None
) -> None:
    tail = Tail(LogOptions(tail_lines=count, since=since))
    for written, line in lines:
        tail.add(written, line)
    wanted = [line for written, line in lines if written >= since]
    kept = wanted if count is None else wanted[len(wanted) - min(count, len(wanted)) :]
    assert tail.text == b"".join(kept)
    assert tail.count == len(lines)
    cut = Limit(limit)
    assert cut.cut(tail.text) == tail.text[: limit if limit is not None else None]
    assert cut.reached == (limit is not None and len(tail.text) >= limit)


def test_timestamps() -> None:
    assert timestamp(1.25) == "1970-01-01T00:00:01.250000000Z"
    line = LogOptions(timestamps=True).render(1.25, b"x\n")
    assert line == b"1970-01-01T00:00:01.250000000Z x\n"


def pod(*names: str, init: tuple[str, ...] = ()) -> dict[str, Any]:
    spec = {
        "containers": [{"name": name} for name in names],
        "initContainers": [{"name": name} for name in init],
    }
    return {"metadata": {"name": "p1"}, "spec": spec}


def test_the_container() -> None:
    assert container_of(pod("a"), "") == "a"
    assert container_of(pod("a", "b"), "b") == "b"
    assert container_of(pod("a", init=("i",)), "i") == "i"


@pytest.mark.parametrize(
    ("asked", "obj", "message"),
    [
        (
            "",
            pod("a", "b"),
            "a container name must be specified for pod p1, choose one of: [a b]",
        ),
        (
            "",
            pod("a", init=("i",)),
            "a container name must be specified for pod p1, choose one of: [a] or one of the "
            "init containers: [i]",
        ),
        ("x", pod("a"), "container x is not valid for pod p1"),
    ],
)
def test_no_such_container(asked: str, obj: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as refused:
        container_of(obj, asked)
    assert (refused.value.code, refused.value.message) == (400, message)
