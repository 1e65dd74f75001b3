"""How many seeds it takes to find planted bugs, of our own and of operators.

See docs/planted-bugs.md.
"""

import sys
from itertools import islice
from pathlib import Path

import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.chaos import Violation, plan_of, play

sys.path.append(str(Path(__file__).parents[1] / "tests" / "chaos"))

from kopf_operators import CASES, Case
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_seeds_to_find_what_an_operator_does_wrong(
    benchmark: BenchmarkFixture, beside: Beside, request: pytest.FixtureRequest, case: Case
) -> None:
    """As above; a violation is counted if the operator's own invariant tells of it."""
    most: int = request.config.getoption("--planted-seeds")
    found: list[int] = []
    operator = case.operator(careful=False)

    def seek() -> None:
        for seed in range(most):
            try:
                play(plan_of(seed, case.profile), operator=operator, monitors=case.monitors)
            except Violation as violation:
                if violation.monitor == case.monitors()[0].name:
                    found.append(seed)
                    return

    with beside("planted bugs: searches", case.name, 1):
        benchmark.pedantic(seek, rounds=1)
    for seed in islice(found, 1):
        benchmark.extra_info["seeds"] = seed + 1
