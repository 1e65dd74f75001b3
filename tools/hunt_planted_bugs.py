"""Look for planted bugs; write what is found, and the page that tells of it.

The bugs are those of tests/chaos/mutants.py, in our own code, and those of
tests/chaos/kopf_operators.py, in operators.

    python tools/hunt_planted_bugs.py --seeds 1000 --seconds 300          those not found yet
    python tools/hunt_planted_bugs.py --seeds 1000 "stale cache"          these, anew

tests/chaos/planted_bugs.json and kopf_operators.json have a row for each that was found,
docs/planted-bugs.md has all.
"""

import argparse
import json
import logging
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from kubeloop.chaos import Plan, Violation, plan_of, play
from kubeloop.chaos.finding import find

sys.path.append(str(Path(__file__).parents[1] / "tests" / "chaos"))

from kopf_operators import CASES, Case
from mutants import MUTANTS
from planting import PROFILES, Mutant

ROOT: Final = Path(__file__).parents[1]
ROWS: Final = ROOT / "tests" / "chaos" / "planted_bugs.json"
OPERATOR_ROWS: Final = ROWS.with_name("kopf_operators.json")
PAGE: Final = ROOT / "docs" / "planted-bugs.md"
HEAD: Final = (
    "| bug | where | seeds | seen by | happenings left | is like |\n|---|---|---|---|---|---|\n"
)
OPERATORS: Final = """
## Operators

Five operators written with kopf (`tests/chaos/kopf_operators.py`), nothing of which is ours: each
has a bug that is often made, three of them those that Sieve (OSDI '22) looks for. A user gives
orders, takes them back and reopens them, while the API server fails, forgets to answer and lags,
and the operator is killed. Each operator has an invariant, which says what its user would. The same
operator without the bug passes the plan that was found.

| operator | seeds | seen by | happenings left | is like |
|---|---|---|---|---|
"""


def hunt(mutant: Mutant, *, seeds: int, seconds: float, runs: int) -> dict[str, Any] | None:
    """Return the row of a bug; None if no seed finds it within that many seconds."""
    begun = time.monotonic()
    for seed in range(seeds):
        if time.monotonic() - begun > seconds:
            click.echo(f"{mutant.name}: not within {seed} seeds")
            return None
        plan = plan_of(seed, PROFILES[mutant.profile])
        try:
            with mutant.planted():
                play(plan)
        except Violation:
            if not sound(plan):
                click.echo(f"seed {seed} finds another bug:\n{plan}")
                continue
            with mutant.planted():
                found = find([seed], profile=PROFILES[mutant.profile], runs=runs)
            assert found is not None
            least = found.violation
            assert sound(least.plan), f"this finds another bug:\n{least}"
            left = len(least.plan.happenings)
            click.echo(f"{mutant.name}: {seed + 1} seeds, {least.monitor}, {left} left")
            return {
                "bug": mutant.name,
                "seed": seed,
                "monitor": least.monitor,
                "happenings": left,
                "plan": least.plan.to_json(),
            }
    click.echo(f"{mutant.name}: not within {seeds} seeds")
    return None


def sound(plan: Plan) -> bool:
    """Tell whether nobody objects to a plan."""
    try:
        play(plan)
    except Violation:
        return False
    return True


def hunt_operator(case: Case, *, seeds: int, seconds: float, runs: int) -> dict[str, Any] | None:
    """Return the row of an operator; None if no seed finds its bug within that many seconds."""
    begun = time.monotonic()
    for seed in range(seeds):
        if time.monotonic() - begun > seconds:
            click.echo(f"{case.name}: not within {seed} seeds")
            return None
        plan = plan_of(seed, case.profile)
        try:
            play(plan, monitors=case.monitors, operator=case.operator(careful=False))
        except Violation as first:
            if first.monitor != case.monitors()[0].name:
                click.echo(f"seed {seed} finds another bug:\n{first}")
                continue
        else:
            continue
        found = find(
            [seed],
            profile=case.profile,
            monitors=case.monitors,
            operator=case.operator(careful=False),
            runs=runs,
        )
        assert found is not None
        least = found.violation
        try:
            play(least.plan, monitors=case.monitors, operator=case.operator(careful=True))
        except Violation as other:
            click.echo(f"seed {seed} finds another bug:\n{other}")
            continue
        left = len(least.plan.happenings)
        click.echo(f"{case.name}: {seed + 1} seeds, {left} left: {least.text}\n{least.plan}")
        return {
            "operator": case.name,
            "seed": seed,
            "monitor": least.monitor,
            "happenings": left,
            "told": least.text,
            "plan": least.plan.to_json(),
        }
    click.echo(f"{case.name}: not within {seeds} seeds")
    return None


def known_rows() -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return what is known of bugs of our own, and of operators."""
    return (
        {row["bug"]: row for row in json.loads(ROWS.read_text())},
        {row["operator"]: row for row in json.loads(OPERATOR_ROWS.read_text())},
    )


def write(rows: dict[str, dict[str, Any]], operators: dict[str, dict[str, Any]]) -> None:
    """Write the rows, and the tables of the page."""
    ROWS.write_text(listed([rows[m.name] for m in MUTANTS if m.name in rows]))
    OPERATOR_ROWS.write_text(listed([operators[c.name] for c in CASES if c.name in operators]))
    before = PAGE.read_text().partition(HEAD)[0]
    mutants = "".join(told(m, rows.get(m.name)) for m in MUTANTS)
    cases = "".join(told_of_operator(c, operators.get(c.name)) for c in CASES)
    PAGE.write_text(before + HEAD + mutants + OPERATORS + cases)


def listed(rows: list[dict[str, Any]]) -> str:
    """Return rows as JSON, one a line."""
    return "[\n" + ",\n".join(f" {json.dumps(row)}" for row in rows) + "\n]\n"


def told_of_operator(case: Case, row: dict[str, Any] | None) -> str:
    """Return an operator's line of its table."""
    found = "– | – | –"
    if row is not None:
        found = f"{row['seed'] + 1} | {row['told']} | {row['happenings']}"
    return f"| {case.name} | {found} | {case.is_like} |\n"


def told(mutant: Mutant, row: dict[str, Any] | None) -> str:
    """Return a bug's line of the table."""
    found = "– | – | –"
    if row is not None:
        found = f"{row['seed'] + 1} | {row['monitor']} | {row['happenings']}"
    return f"| {mutant.name} | {mutant.component} | {found} | {mutant.is_like} |\n"


def main() -> None:
    """Hunt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bugs", nargs="*", help="their names; none: those not found yet")
    parser.add_argument("--seeds", type=int, default=1000, help="how many, for each")
    parser.add_argument("--seconds", type=float, default=3600, help="for each")
    parser.add_argument("--runs", type=int, default=300, help="to shrink with")
    chosen = parser.parse_args()
    logging.disable(logging.CRITICAL)
    known, operators = known_rows()
    limits = {"seeds": chosen.seeds, "seconds": chosen.seconds, "runs": chosen.runs}
    for mutant in MUTANTS:
        if mutant.name in chosen.bugs or (not chosen.bugs and mutant.name not in known):
            row = hunt(mutant, **limits)
            if row is not None:  # Another hunter may have written meanwhile.
                rows, others = known_rows()
                write({**rows, mutant.name: row}, others)
    for case in CASES:
        if case.name in chosen.bugs or (not chosen.bugs and case.name not in operators):
            row = hunt_operator(case, **limits)
            if row is not None:
                rows, others = known_rows()
                write(rows, {**others, case.name: row})
    write(*known_rows())


if __name__ == "__main__":
    main()
