"""Happenings as values: JSON and back, drawn, made simpler until nothing is left to simplify."""

from random import Random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import chaos
from kubeloop.chaos import steps, values
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.values import KINDS, Happening

assert steps.Deploy.kind == "deploy", "they are known once their module is loaded"
ANY = st.sampled_from(sorted(KINDS)).flatmap(lambda name: values.strategy(KINDS[name]))


@given(ANY)
def test_a_happening_survives_json(happening: Happening) -> None:
    assert values.from_json(values.to_json(happening)) == happening


@given(st.sampled_from(sorted(KINDS)), st.integers())
def test_what_is_drawn_is_what_may_be(name: str, seed: int) -> None:
    drawn = values.draw(KINDS[name], Random(seed))
    for field, domain in values.domains(KINDS[name]).items():
        assert domain.check(getattr(drawn, field)) == ""
    assert drawn == values.draw(KINDS[name], Random(seed))


@given(ANY)
def test_simpler_and_simpler_ends_at_the_simplest(happening: Happening) -> None:
    for _ in range(500):
        found = values.simpler(happening)
        if not found:
            break
        assert all(one != happening for one in found)
        happening = found[len(found) // 2]  # Not the boldest way, nor one by one.
    assert happening == type(happening)(), "and that is what one gets who says nothing"


@given(st.lists(ANY, max_size=4), st.integers(0, 2**64), st.booleans())
def test_a_plan_is_json_and_python(happenings: list[Happening], seed: int, rest: bool) -> None:
    plan = Plan(seed=seed, rest=rest, nodes=3, happenings=tuple(happenings))
    assert Plan.from_json(plan.to_json()) == plan
    names: dict[str, Any] = {type(one).__name__: type(one) for one in happenings}
    assert eval(str(plan), {"Plan": Plan, **names}) == plan


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"happenings": [{"kind": "nope"}]}, r"kind: 'nope': must be one of \[.*'deploy'"),
        ({"happenings": [{"kind": "deploy", "replicas": 99}]}, "deploy.replicas: 99: must be a"),
        ({"happenings": [{"kind": "deploy", "image": "x"}]}, "deploy.image: 'x': must be one of"),
        ({"happenings": [{"kind": "deploy", "colour": 1}]}, "deploy.colour: there is no such"),
        ({"happenings": [{"kind": "deploy", "at_s": -1}]}, "deploy.at_s: -1: must be a number"),
        ({"policy": "lifo"}, "policy: 'lifo': must be one of"),
        ({"nodes": "two"}, "nodes: 'two': must be a whole number"),
        ({"node": 2}, "node: a plan has no such field"),
    ],
)
def test_bad_json_is_named(data: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Plan.from_json(data)


def test_the_door_offers_what_it_says() -> None:
    for name in chaos.__all__:
        value = getattr(chaos, name)
        assert value is not None and not isinstance(value, ModuleType), f"{name} is a module"
    ours = [kind for kind in KINDS.values() if kind.__module__.startswith("kubeloop.")]
    for kind in ours:
        assert getattr(chaos, kind.__name__) is kind, "what plans are printed with is there"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = chaos.nothing  # type: ignore[attr-defined]
