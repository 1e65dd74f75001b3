"""Look for the bugs of tests/chaos/mutants.py; write what is found, and the page that tells of it.

    python tools/hunt_planted_bugs.py --seeds 1000 --seconds 300          those not found yet
    python tools/hunt_planted_bugs.py --seeds 1000 "stale cache"          these, anew

tests/chaos/planted_bugs.json has a row for each that was found, docs/planted-bugs.md all.
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

from mutants import MUTANTS
from planting import PROFILES, Mutant

ROOT: Final = Path(__file__).parents[1]
ROWS: Final = ROOT / "tests" / "chaos" / "planted_bugs.json"
PAGE: Final = ROOT / "docs" / "planted-bugs.md"
HEAD: Final = (
    "| bug | where | seeds | seen by | happenings left | is like |\n|---|---|---|---|---|---|\n"
)


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


def write(rows: dict[str, dict[str, Any]]) -> None:
    """Write the rows, and the table of the page."""
    lines = [f" {json.dumps(rows[m.name])}" for m in MUTANTS if m.name in rows]
    ROWS.write_text("[\n" + ",\n".join(lines) + "\n]\n")
    before = PAGE.read_text().partition(HEAD)[0]
    PAGE.write_text(before + HEAD + "".join(told(m, rows.get(m.name)) for m in MUTANTS))


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
    known = {row["bug"]: row for row in json.loads(ROWS.read_text())}
    for mutant in MUTANTS:
        if mutant.name in chosen.bugs or (not chosen.bugs and mutant.name not in known):
            row = hunt(mutant, seeds=chosen.seeds, seconds=chosen.seconds, runs=chosen.runs)
            if row is not None:  # Another hunter may have written meanwhile.
                known = {one["bug"]: one for one in json.loads(ROWS.read_text())}
                write({**known, mutant.name: row})
    write({row["bug"]: row for row in json.loads(ROWS.read_text())})


if __name__ == "__main__":
    main()
