"""Shrinking: from a plan that fails to one that fails, too, and of which nothing can be left out.

First whole happenings are left out, many at a time, then fewer (Zeller's ddmin); then what is left
is made simpler, field by field; then the cluster. It begins again until nothing helps any more.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from kubeloop.chaos.plan import Plan
from kubeloop.chaos.values import Happening, simpler

Fails = Callable[[Plan], bool]
RUNS_MAX: Final = 1000  # A plan that is simple enough is better than the simplest one tomorrow.


class _Shrinker:
    """Tries plans, each once, at most so many; keeps the simplest that fails."""

    def __init__(self, plan: Plan, fails: Fails, runs: int) -> None:
        self.best, self.left = plan, runs
        self._fails = fails
        self._tried = {plan}

    def better(self, plan: Plan) -> bool:
        """Try a plan; if it fails it is the best from now on."""
        if plan in self._tried or not self.left:
            return False
        self._tried.add(plan)
        self.left -= 1
        if not self._fails(plan):
            return False
        self.best = plan
        return True

    def shrink(self) -> Plan:
        """Shrink until nothing helps."""
        before = None
        while self.best != before and self.left:
            before = self.best
            self._leave_out()
            self._simplify_each()
            self._simplify_cluster()
        return self.best

    def _leave_out(self) -> None:
        """Leave out as many happenings as can be, in pieces that become smaller."""
        size = max(1, len(self.best.happenings) // 2)
        while self.best.happenings and self.left:
            for start in range(len(self.best.happenings) - 1, -1, -size):
                rest = _without(self.best.happenings, max(0, start - size + 1), start + 1)
                self.better(replace(self.best, happenings=rest))
            if size == 1:
                return
            size //= 2

    def _simplify_each(self) -> None:
        for index in range(len(self.best.happenings)):
            while any(self.better(plan) for plan in _simpler_at(self.best, index)):
                pass

    def _simplify_cluster(self) -> None:
        best = self.best
        self.better(replace(best, policy="fifo"))
        for nodes in range(1, best.nodes):
            if self.better(replace(self.best, nodes=nodes)):
                break
        for name in ("durable", "rest", "seed"):
            if getattr(self.best, name):
                self.better(replace(self.best, **{name: type(getattr(best, name))()}))


def shrink(plan: Plan, fails: Fails, *, runs: int = RUNS_MAX) -> Plan:
    """Return a plan that fails, too, and of which no single part can be left out or made simpler.

    fails: plays a plan and tells; it must do so every time, or never.
    runs:  how often at most: what is found by then is returned.
    """
    return _Shrinker(plan, fails, runs).shrink()


def _without(happenings: Sequence[Happening], start: int, stop: int) -> tuple[Happening, ...]:
    return (*happenings[:start], *happenings[stop:])


def _simpler_at(plan: Plan, index: int) -> Iterator[Plan]:
    """Yield the plan with one happening simpler in one field."""
    happenings = plan.happenings
    for one in simpler(happenings[index]):
        changed = (*happenings[:index], one, *happenings[index + 1 :])
        yield replace(plan, happenings=changed)
