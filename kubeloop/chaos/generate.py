"""Drawing plans, from a seed or by hypothesis.

From a seed it is swarm testing (Groce et al., ISSTA '12): each plan leaves out about half of the
kinds there are. A plan in which everything happens at once hides what needs one thing often, and
another one not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kubeloop.chaos import catalogue
from kubeloop.chaos.faults.base import Fault
from kubeloop.chaos.plan import POLICIES, Plan
from kubeloop.chaos.values import Happening, Real, draw, strategy

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

_DURABLE: Final = 0.3
_BEGINNING_S: Final = 5.0  # Half of all steps come by then: else there is nothing to break.


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What plans may hold.

    steps, faults: the kinds; None: all there are.
    steps_most, faults_most: how many of them a plan has at most.
    nodes_least, nodes_most: of a cluster.
    first:         what every plan begins with, beside what is drawn.
    within_s:      when the last of them happens, in seconds after the cluster is ready.
    rest:          whether the cluster has its REST endpoint, which an operator needs.
    durable:       whether the store is on a disk; None: of some, and wherever its disk may fail.
    """

    steps: Sequence[type[Happening]] | None = None
    faults: Sequence[type[Happening]] | None = None
    steps_most: int = 12
    faults_most: int = 6
    nodes_least: int = 1
    nodes_most: int = 3
    first: Sequence[Happening] = ()
    within_s: float = 60.0
    rest: bool = False
    durable: bool | None = None

    def step_kinds(self) -> Sequence[type[Happening]]:
        """Return the kinds of steps."""
        return catalogue.steps() if self.steps is None else self.steps

    def fault_kinds(self) -> Sequence[type[Happening]]:
        """Return the kinds of faults."""
        return catalogue.faults() if self.faults is None else self.faults


DEFAULT: Final = Profile()


def plan_of(seed: int, profile: Profile = DEFAULT) -> Plan:
    """Return the plan of a seed: the same for ever, as long as the kinds are the same."""
    chance = Random(f"plan {seed}")
    steps = _swarm(chance, profile.step_kinds(), profile.steps_most, profile.within_s)
    faults = _swarm(chance, profile.fault_kinds(), profile.faults_most, profile.within_s)
    happenings = sorted((*profile.first, *steps, *faults), key=lambda one: one.at_s)
    return Plan(
        seed=seed,
        policy=chance.choice(POLICIES),
        nodes=chance.randint(profile.nodes_least, profile.nodes_most),
        rest=profile.rest,
        durable=_durable(profile, happenings, by_chance=chance.random() < _DURABLE),
        happenings=tuple(happenings),
    )


def plans(profile: Profile = DEFAULT) -> "SearchStrategy[Plan]":
    """Return hypothesis' strategy for plans, which shrinks to few and early happenings."""
    from hypothesis import strategies as st

    def of(kinds: Sequence[type[Happening]], most: int) -> "SearchStrategy[list[Happening]]":
        if not kinds:
            return st.just([])
        return st.lists(st.sampled_from(kinds).flatmap(strategy), max_size=most)

    def join(steps: list[Happening], faults: list[Happening], **rest: Any) -> Plan:
        happenings = sorted((*profile.first, *steps, *faults), key=lambda one: one.at_s)
        rest["durable"] = _durable(profile, happenings, by_chance=rest["durable"])
        return Plan(rest=profile.rest, happenings=tuple(happenings), **rest)

    return st.builds(
        join,
        of(profile.step_kinds(), profile.steps_most),
        of(profile.fault_kinds(), profile.faults_most),
        seed=st.integers(0, 2**32),
        policy=st.sampled_from(POLICIES),
        nodes=st.integers(profile.nodes_least, profile.nodes_most),
        durable=st.booleans(),
    )


def _durable(profile: Profile, happenings: Sequence[Happening], *, by_chance: bool) -> bool:
    """Tell whether the store is on a disk: a fault of a disk that is not there would be none."""
    if profile.durable is not None:
        return profile.durable
    return by_chance or any(isinstance(one, Fault) and one.on_disk for one in happenings)


def _swarm(
    chance: Random, kinds: Sequence[type[Happening]], most: int, within_s: float
) -> list[Happening]:
    """Return some happenings of some of the kinds."""
    if not kinds or not most:
        return []
    chosen = [one for one in kinds if chance.random() < 0.5] or [chance.choice(kinds)]
    founding = [one for one in kinds if one.founds]
    first = [chance.choice(founding)] if founding else []
    found = []
    for cls in (*first, *chance.choices(chosen, k=chance.randint(1, most) - len(first))):
        early = cls.founds or chance.random() < 0.5
        at_s = Real(0.0, min(_BEGINNING_S, within_s) if early else within_s).draw(chance)
        found.append(replace(draw(cls, chance), at_s=at_s))
    return found
