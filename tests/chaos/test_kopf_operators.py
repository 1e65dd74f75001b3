"""Bugs of operators written with kopf are seen; without them nobody objects to the same plans.

kopf_operators.json: for each operator the seed that found its bug, who objected and what he said,
and the plan as it was shrunk. `tools/hunt_planted_bugs.py` looks for them anew.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("kopf", reason="no kopf: pip install kopf")

from kopf_operators import CASES, Case

from kubeloop.chaos import Plan, Violation, plan_of, play

HERE = Path(__file__).parent
ROWS = {row["operator"]: row for row in json.loads((HERE / "kopf_operators.json").read_text())}
PAGE = (HERE.parents[1] / "docs" / "planted-bugs.md").read_text()
# A task of kopf that is cancelled before it has begun never awaits what it was made to guard.
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
EACH = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """kopf and asyncio tell of each failure, and there are many."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@EACH
def test_its_bug_is_seen_and_without_it_nobody_objects(case: Case) -> None:
    row = ROWS[case.name]
    plan = Plan.from_json(row["plan"])
    with pytest.raises(Violation) as seen:
        play(plan, operator=case.operator(careful=False), monitors=case.monitors)
    assert (seen.value.monitor, seen.value.text) == (row["monitor"], row["told"])
    assert row["monitor"] == case.monitors()[0].name
    play(plan, operator=case.operator(careful=True), monitors=case.monitors)


@EACH
def test_its_seed_finds_it(case: Case) -> None:
    plan = plan_of(ROWS[case.name]["seed"], case.profile)
    with pytest.raises(Violation) as seen:
        play(plan, operator=case.operator(careful=False), monitors=case.monitors)
    assert seen.value.monitor == ROWS[case.name]["monitor"]
    play(plan, operator=case.operator(careful=True), monitors=case.monitors)


@EACH
def test_without_the_bug_it_passes_other_seeds(case: Case) -> None:
    for seed in range(10):
        plan = plan_of(seed, case.profile)
        play(plan, operator=case.operator(careful=True), monitors=case.monitors)


@EACH
def test_the_page_tells_of_the_operator(case: Case) -> None:
    row = ROWS[case.name]
    found = f"{row['seed'] + 1} | {row['told']} | {row['happenings']}"
    assert f"| {case.name} | {found} | {case.is_like} |" in PAGE
