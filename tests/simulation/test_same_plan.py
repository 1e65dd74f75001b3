"""The same plan is the same run: whatever kinds of steps and faults it has, and after JSON, too."""

import json

import pytest

from kubeloop.chaos import catalogue, plan_of, play
from kubeloop.chaos.generate import Profile
from kubeloop.chaos.plan import Plan

PROFILE = Profile(nodes_most=2, steps_most=4, faults_most=4, within_s=30.0)
SEEDS = 40


@pytest.mark.parametrize("part", range(4))
def test_a_plan_plays_to_the_same_log(part: int) -> None:
    for seed in range(part, SEEDS, 4):
        plan = plan_of(seed, PROFILE)
        again = Plan.from_json(json.dumps(plan.to_json()))
        assert play(plan).hash == play(again).hash, plan


def test_these_plans_have_most_kinds() -> None:
    drawn = {type(one) for seed in range(SEEDS) for one in plan_of(seed, PROFILE).happenings}
    kinds = {*catalogue.steps(), *catalogue.faults()}
    assert len(kinds - drawn) <= 5, kinds - drawn
