"""Drawn plans, and what is left of them when all that does not matter is gone."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.chaos import catalogue, steps
from kubeloop.chaos.generate import Profile, plan_of, plans
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.shrinking import shrink

ONLY_STEPS = Profile(faults=())


@given(st.integers())
def test_a_seed_is_a_plan(seed: int) -> None:
    plan = plan_of(seed)
    assert plan == plan_of(seed)
    assert Plan.from_json(plan.to_json()) == plan
    times = [one.at_s for one in plan.happenings]
    assert times == sorted(times)
    assert len(times) <= Profile().steps_most + Profile().faults_most
    assert all(0 <= at_s <= Profile().within_s for at_s in times)


def test_seeds_differ_in_what_they_leave_out() -> None:
    kinds = [frozenset(type(one) for one in plan_of(seed).happenings) for seed in range(200)]
    assert len(set(kinds)) > 100
    for kind in (*catalogue.steps(), *catalogue.faults()):
        often = sum(kind in seen for seen in kinds)
        assert 0 < often < 160, f"{kind.__name__} is in {often} of 200 plans"


@given(plans(ONLY_STEPS))
def test_hypothesis_draws_what_is_asked_for(plan: Plan) -> None:
    assert all(isinstance(one, steps.Step) for one in plan.happenings)
    assert len(plan.happenings) <= ONLY_STEPS.steps_most


def scaled_up_after_cordon(plan: Plan) -> bool:
    """Tell of a planted bug: it needs two steps, in their order, and a certain value."""
    cordoned = False
    for one in plan.happenings:
        if isinstance(one, steps.Cordon) and one.off:
            cordoned = True
        if isinstance(one, steps.Scale) and one.replicas >= 3 and cordoned:
            return True
    return False


@pytest.mark.parametrize("runs", [1000])
def test_a_plan_is_shrunk_to_what_matters(runs: int) -> None:
    found = 0
    for seed in range(600):
        plan = plan_of(seed, ONLY_STEPS)
        if scaled_up_after_cordon(plan):
            found += 1
            least = shrink(plan, scaled_up_after_cordon, runs=runs)
            cordon, scale = steps.Cordon(off=True), steps.Scale(replicas=3)
            assert least == Plan(policy="fifo", nodes=1, happenings=(cordon, scale))
    assert found > 3


def test_shrinking_is_bounded_and_keeps_what_fails() -> None:
    tried: list[Plan] = []

    def fails(plan: Plan) -> bool:
        tried.append(plan)
        return len(plan.happenings) > 2

    least = shrink(plan_of(3, ONLY_STEPS), fails, runs=7)
    assert len(tried) == 7 == len(set(tried))
    assert len(least.happenings) > 2


@given(st.integers(0, 2**32))
def test_what_is_left_fails_and_no_part_of_it_can_go(seed: int) -> None:
    chance = Random(seed)
    plan = plan_of(seed, ONLY_STEPS)
    needed = {type(one) for one in plan.happenings if chance.random() < 0.4}

    def fails(plan: Plan) -> bool:
        return needed <= {type(one) for one in plan.happenings}

    least = shrink(plan, fails)
    assert sorted(type(one).__name__ for one in least.happenings) == sorted(
        kind.__name__ for kind in needed
    )
