"""Finding what breaks: seed after seed until one fails; its plan is shrunk, and told as a test.

found = chaos.find(range(1000))
print(found)  # A test that fails, ready to be pasted.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubeloop.chaos.generate import DEFAULT, Profile, plan_of
from kubeloop.chaos.invariants import standard
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import Operator, Violation, play
from kubeloop.chaos.shrinking import RUNS_MAX, shrink
from kubeloop.chaos.source import Source
from kubeloop.chaos.watching import Monitor


@dataclass(frozen=True, slots=True)
class Found:
    """A plan that fails.

    seed:     that found it;  tried: how many seeds it took.
    plan:     as it was drawn;  violation: of the shrunk one, whose plan is `violation.plan`.
    monitors, operator, options: what it was played with, as for `play`.
    """

    seed: int
    tried: int
    plan: Plan
    violation: Violation
    monitors: Callable[[], Sequence[Monitor]] = standard
    operator: Operator | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the shrunk plan as a test."""
        return as_test(
            self.violation, monitors=self.monitors, operator=self.operator, **self.options
        )


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
        if operator is not None and plan.rest != profile.rest:
            return None  # An operator that needs the endpoint cannot do without to be simpler.
        try:
            play(plan, monitors=monitors, operator=operator, **options)
        except Violation as violation:
            return _told(violation)
        return None

    for tried, seed in enumerate(seeds, start=1):
        plan = plan_of(seed, profile)
        first = failure(plan)
        if first is not None:
            least = _shrunk(first, failure, runs)
            return Found(seed, tried, plan, least, monitors, operator, options)
    return None


def _told(violation: Violation) -> Violation:
    """Return a violation that keeps nothing of its run alive: many are kept while one shrinks."""
    error: BaseException | None = violation
    while error is not None:
        before = error.__cause__ or error.__context__
        error.__traceback__ = error.__context__ = None
        error = before
    return violation


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


def as_test(
    violation: Violation,
    *,
    monitors: Callable[[], Sequence[Monitor]] = standard,
    operator: Operator | None = None,
    **options: Any,
) -> str:
    """Return a test that plays the plan of a violation, and fails as long as it does.

    monitors, operator, options: what it was played with. What no module defines, as a function
    within another, cannot be imported by a test: then the text says what to do about it.
    """
    source = Source()
    source.need("kubeloop.chaos", "Plan", "play")
    for one in violation.plan.happenings:
        source.of(type(one))
    given: dict[str, Any] = {"monitors": monitors, "operator": operator, **options}
    played = {key: value for key, value in given.items() if value is not None}
    arguments = "".join(f", {key}={source.of(value)}" for key, value in played.items())
    told = f"{violation.monitor}: {violation.text}".split("\n")
    body = [*(f"# {line}" for line in told), *f"plan = {violation.plan}".split("\n")]
    name = re.sub(r"\W+", "_", violation.monitor).strip("_").lower()
    lines = [*source.imports(), *source.unknown, "", "", f"def test_{name}() -> None:"]
    return "\n".join([*lines, *(f"    {line}" for line in body), f"    play(plan{arguments})", ""])
