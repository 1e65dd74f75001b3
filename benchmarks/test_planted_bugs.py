"""How many seeds it takes to find bugs planted in our own code; see docs/planted-bugs.md."""

import sys
from itertools import islice
from pathlib import Path

import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.chaos import Violation, plan_of, play

sys.path.append(str(Path(__file__).parents[1] / "tests" / "chaos"))

from mutants import MUTANTS
from planting import PROFILES, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_seeds_to_find(
    benchmark: BenchmarkFixture, beside: Beside, request: pytest.FixtureRequest, mutant: Mutant
) -> None:
    """The seeds it took are in extra_info; none if it was not found."""
    most: int = request.config.getoption("--planted-seeds")
    found: list[int] = []

    def seek() -> None:
        for seed in range(most):
            try:
                play(plan_of(seed, PROFILES[mutant.profile]))
            except Violation:
                found.append(seed)
                return

    with mutant.planted(), beside("planted bugs: searches", mutant.name, 1):
        benchmark.pedantic(seek, rounds=1)
    for seed in islice(found, 1):
        benchmark.extra_info["seeds"] = seed + 1
