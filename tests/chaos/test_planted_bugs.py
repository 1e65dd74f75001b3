"""Bugs planted in our own code are seen; without them nobody objects to the same plans.

planted_bugs.json: for each bug that has been found the seed that did, who objected, and the plan as
it was shrunk. `benchmarks/test_planted_bugs.py` looks for them anew.
"""

import json
from pathlib import Path

import pytest
from mutants import MUTANTS
from planting import Mutant

from kubeloop.chaos import Plan, Violation, play

ROWS = json.loads((Path(__file__).parent / "planted_bugs.json").read_text())
FOUND = {row["bug"]: row for row in ROWS}
PAGE = (Path(__file__).parents[2] / "docs" / "planted-bugs.md").read_text()
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_each_can_be_planted(mutant: Mutant) -> None:
    with mutant.planted():
        pass


def test_what_was_found_is_one_of_them() -> None:
    assert set(FOUND) <= set(BY_NAME)
    assert len(BY_NAME) == len(MUTANTS), "each has a name of its own"


@pytest.mark.parametrize("bug", FOUND)
def test_it_is_seen(bug: str) -> None:
    row = FOUND[bug]
    plan = Plan.from_json(row["plan"])
    with BY_NAME[bug].planted(), pytest.raises(Violation) as seen:
        play(plan)
    assert seen.value.monitor == row["monitor"]
    play(plan)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_page_tells_of_it(mutant: Mutant) -> None:
    row, found = FOUND.get(mutant.name), "– | – | –"
    if row is not None:
        found = f"{row['seed'] + 1} | {row['monitor']} | {row['happenings']}"
    assert f"| {mutant.name} | {mutant.component} | {found} |" in PAGE
