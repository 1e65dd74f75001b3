"""Finding what breaks: seed after seed until one fails; its plan is shrunk, and told as a test.

found = chaos.find(range(1000))
print(found)  # A test that fails, ready to be pasted.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kubeloop.chaos.generate import DEFAULT, Profile, plan_of
from kubeloop.chaos.invariants import standard
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import Operator, Violation, play
from kubeloop.chaos.shrinking import RUNS_MAX, shrink
from kubeloop.chaos.watching import Monitor


@dataclass(frozen=True, slots=True)
class Found:
    """A plan that fails.

    seed:     that found it;  tried: how many seeds it took.
    plan:     as it was drawn;  violation: of the shrunk one, whose plan is `violation.plan`.
    operator: that ran beside the cluster.
    """

    seed: int
    tried: int
    plan: Plan
    violation: Violation
    operator: Operator | None = None

    def __str__(self) -> str:
        """Return the shrunk plan as a test."""
        return as_test(self.violation, self.operator)


def find(
    seeds: Iterable[int],
    *,
    profile: Profile = DEFAULT,
    monitors: Callable[[], Sequence[Monitor]] = standard,
    operator: Operator | None = None,
    runs: int = RUNS_MAX,
    **options: Any,
) -> Found | None:
    """Play the plans of some seeds; return the first that fails, shrunk; None if none does.

    runs:    to be spent on shrinking.
    options: for `Cluster`.
    """

    def failure(plan: Plan) -> Violation | None:
        try:
            play(plan, monitors=monitors, operator=operator, **options)
        except Violation as violation:
            return violation
        return None

    for tried, seed in enumerate(seeds, start=1):
        plan = plan_of(seed, profile)
        first = failure(plan)
        if first is not None:
            return Found(seed, tried, plan, _shrunk(first, failure, runs), operator)
    return None


def _shrunk(first: Violation, failure: Callable[[Plan], Violation | None], runs: int) -> Violation:
    """Return the same violation of a plan as simple as can be."""
    seen = {first.plan: first}

    def fails(plan: Plan) -> bool:
        violation = failure(plan)
        # Another monitor's complaint is another bug: it will be found by itself.
        if violation is None or violation.monitor != first.monitor:
            return False
        seen[plan] = violation
        return True

    return seen[shrink(first.plan, fails, runs=runs)]


def as_test(violation: Violation, operator: Operator | None = None) -> str:
    """Return a test that plays the plan of a violation, and fails as long as it does."""
    names = {"Plan", "play", "standard"}
    names |= {type(one).__name__ for one in violation.plan.happenings}
    imports, arguments = [f"from kubeloop.chaos import {', '.join(sorted(names))}"], ""
    if operator is not None:
        imports.append(f"from {operator.__module__} import {operator.__qualname__}")
        arguments = f", operator={operator.__qualname__}"
    told = f"{violation.monitor}: {violation.text}".split("\n")
    body = [*(f"# {line}" for line in told), *f"plan = {violation.plan}".split("\n")]
    name = re.sub(r"\W+", "_", violation.monitor).strip("_").lower()
    lines = [*imports, "", "", f"def test_{name}() -> None:", *(f"    {line}" for line in body)]
    return "\n".join([*lines, f"    play(plan, monitors=standard{arguments})", ""])
