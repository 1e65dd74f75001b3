"""Links are values: what they may be, which one counts, and how they draw."""

import json
import random
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.sim.links import Link, Links, Route, sampler

chances = st.floats(0, 1)
seconds = st.tuples(st.floats(1e-6, 10), st.floats(1e-6, 10)).map(
    lambda pair: (min(pair), max(pair))
)
rates = st.none() | st.floats(1, 1e9)
links = st.builds(
    Link,
    latency=st.sampled_from(["constant", "uniform", "lognormal", "pareto"]),
    latency_s=seconds,
    bytes_per_s=rates,
    loss=chances,
    duplicate=chances,
    cut=chances,
    reset=chances,
    reset_after=st.none() | st.integers(0, 10_000),
    read_bytes_per_s=rates,
    connect=st.sampled_from(["open", "refused", "blackholed"]),
    up=st.booleans(),
)


@given(links)
def test_a_link_is_json(link: Link) -> None:
    assert Link(**json.loads(json.dumps(asdict(link)))) == link


@pytest.mark.parametrize(
    "field",
    [
        {"latency": "normal"},
        {"latency_s": (2, 1)},
        {"latency_s": (-1, 1)},
        {"latency_s": (1,)},
        {"latency": "pareto", "latency_s": (0, 1)},
        {"loss": 1.1},
        {"cut": -0.1},
        {"bytes_per_s": 0},
        {"reset_after": -1},
        {"connect": "closed"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(field: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{list(field)[-1]}=.*expected"):
        Link(**field)
    with pytest.raises(ValueError, match="expected"):
        Links().fault("a", "b", field)


def test_a_field_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\['speed'\]: expected bytes_per_s, connect"):
        Links().fault("a", "b", {"speed": 1})


def test_what_is_told_of_a_pair_counts_most() -> None:
    told = Links()
    for n, pair in enumerate([("a", "b"), ("a", "*"), ("*", "b"), ("*", "*")], start=1):
        told.declare(*pair, Link(reset_after=n))
    pairs = [("a", "b"), ("a", "c"), ("c", "b"), ("c", "d"), ("b", "a"), ("a", "a"), ("b", "b")]
    assert [told.find(*pair).reset_after for pair in pairs] == [1, 2, 3, 4, 4, 4, 4]
    for pair in [("*", "*"), ("*", "b"), ("a", "*"), ("a", "b")]:
        told.fault(*pair, {"loss": 0.5 if pair == ("a", "*") else 0.1})
    assert [told.find(*pair).loss for pair in pairs] == [0.1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert [told.find(*pair).reset_after for pair in pairs] == [1, 2, 3, 4, 4, 4, 4]


def test_faults_are_healed_and_declarations_are_not() -> None:
    told = Links()
    told.declare("a", "b", Link(reset_after=1))
    route = told.route("a", "b")

    def states() -> list[bool]:
        return [told.find(*pair).up for pair in [("a", "b"), ("b", "a"), ("a", "c"), ("c", "d")]]

    def break_all() -> None:
        for pair in [("a", "b"), ("b", "a"), ("a", "*"), ("c", "d")]:
            told.fault(*pair, {"up": False})

    break_all()
    assert states() == [False] * 4
    assert not route.link.up
    told.heal(frozenset({"c"}))
    assert states() == [False, False, False, True]
    told.heal(frozenset({"a", "b"}))
    assert states() == [False, True, False, True], "a reaches nobody still"
    break_all()
    told.heal(frozenset({"a"}))
    assert states() == [True, True, True, False]
    break_all()
    told.heal(frozenset())
    assert states() == [True] * 4
    assert route is told.route("a", "b")
    assert route.link == Link(reset_after=1)


@given(st.sampled_from(["constant", "uniform", "lognormal", "pareto"]), seconds, st.integers(0))
def test_latencies_are_drawn_between_bounds(shape: Any, pair: tuple[float, float], n: int) -> None:
    draw, chance = sampler(shape, *pair), random.Random(n)
    drawn = [draw(chance) for _ in range(20)]
    least, most = pair
    if shape in ("constant", "uniform"):
        assert all(least <= value <= most for value in drawn)
    else:
        assert all(0 <= value <= 100 * most for value in drawn)
        assert all(value >= least - 1e-9 for value in drawn if shape == "pareto")
    again = random.Random(n)
    assert drawn == [draw(again) for _ in range(20)]


@pytest.mark.parametrize(
    ("shape", "below_first"), [("constant", 0), ("uniform", 0), ("lognormal", 0.5), ("pareto", 0)]
)
def test_latencies_are_as_told(shape: Any, below_first: float) -> None:
    draw, chance = sampler(shape, 0.010, 0.100), random.Random(1)
    drawn = [draw(chance) for _ in range(20_000)]
    share = sum(value < 0.010 for value in drawn) / len(drawn)
    assert share == pytest.approx(below_first, abs=0.02)
    if shape in ("lognormal", "pareto"):
        assert sum(value > 0.100 for value in drawn) / len(drawn) == pytest.approx(0.01, abs=0.003)
    wide = sampler(shape, 1e-6, 10)
    assert max(wide(chance) for _ in range(20_000)) <= 1000


def test_what_is_lost_comes_later_and_a_narrow_link_is_shared() -> None:
    lossy = Route("a", "b", Link(latency="constant", latency_s=(0.0, 0.0), loss=0.5))
    chance = random.Random(2)
    late = {round(lossy.stream_delay(chance), 6) for _ in range(1000)}
    assert late <= {round(0.2 * (2**tries - 1), 6) for tries in range(20)}
    assert {0.0, 0.2, 0.6, 1.4} < late

    narrow = Route("a", "b", Link(bytes_per_s=100))
    assert narrow.sent(1.0, 50) == 1.5
    assert narrow.sent(1.0, 50) == 2.0
    assert narrow.sent(9.0, 1) == 9.01
