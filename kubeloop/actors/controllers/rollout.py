"""How many replicas each ReplicaSet of a Deployment should have next. Numbers only, pure.

Source: Kubernetes, "Deployments": max surge, max unavailable, proportional scaling.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Set:
    """One ReplicaSet. wanted: spec.replicas; available: as its status says.

    limit: the max-replicas annotation, the size the whole Deployment might have had when this set
    was last scaled; 0 if it is not known.
    """

    name: str
    wanted: int
    available: int
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a rollout must keep: no more pods than replicas + surge, and available ones no fewer
    than replicas - unavailable."""

    replicas: int
    surge: int
    unavailable: int

    @property
    def most(self) -> int:
        """The most pods there may be; none are left over while nothing is wanted."""
        return self.replicas + self.surge if self.replicas else 0

    @property
    def least_available(self) -> int:
        """The fewest available pods there may be."""
        return self.replicas - self.unavailable


def bounds(replicas: int, surge: int | str, unavailable: int | str) -> Bounds:
    """Resolve percentages: surge is rounded up, unavailable down, and not both can be nothing."""
    up = _resolve(surge, replicas, up=True)
    down = _resolve(unavailable, replicas, up=False)
    if up == 0 and down == 0:
        down = 1
    return Bounds(replicas, up, min(down, replicas))


def new_size(bounds: Bounds, new: int, total: int) -> int:
    """Return the size of the new set: as far up as surge allows, down if it is too large.

    new: its size now;  total: pods wanted in all sets now.
    """
    if new >= bounds.replicas:
        return bounds.replicas
    room = bounds.replicas + bounds.surge - total
    return new + max(0, min(room, bounds.replicas - new))


def old_sizes(bounds: Bounds, new: Set, old: Sequence[Set]) -> dict[str, int]:
    """Return the sizes of the old sets, those that change; oldest first.

    First what is not available anyway, then as much as may become unavailable.
    """
    total = new.wanted + sum(s.wanted for s in old)
    budget = total - bounds.least_available - (new.wanted - new.available)
    if budget <= 0:
        return {}
    sizes = {s.name: s.wanted for s in old}
    for s in old:
        broken = min(budget, max(0, s.wanted - s.available))
        sizes[s.name] -= broken
        budget -= broken
    spare = new.available + sum(s.available for s in old) - bounds.least_available
    spare = min(spare, budget)
    for s in old:
        cut = max(0, min(spare, sizes[s.name]))
        sizes[s.name] -= cut
        spare -= cut
    return {s.name: sizes[s.name] for s in old if sizes[s.name] != s.wanted}


def proportional_sizes(bounds: Bounds, sets: Sequence[Set], had: int) -> dict[str, int]:
    """Share a change of `replicas` in the middle of a rollout among the sets, by their size.

    sets: those with replicas, oldest first. What rounding leaves goes to the largest: of equals to
    the newest when there is something to add, to the oldest when there is something to take.
    had:  the pods of the whole Deployment, for sets that do not know their limit.
    """
    total = sum(s.wanted for s in sets)
    to_add = bounds.most - total
    ordered = sorted(reversed(sets) if to_add > 0 else sets, key=lambda s: -s.wanted)
    sizes, added = {}, 0
    for s in ordered:
        share = _share(s, bounds, to_add - added, had)
        sizes[s.name] = s.wanted + share
        added += share
    if ordered:
        first = ordered[0].name
        sizes[first] = max(0, sizes[first] + to_add - added)
    return sizes


def _share(s: Set, bounds: Bounds, left: int, had: int) -> int:
    if not bounds.replicas:
        return -s.wanted
    limit = s.limit or had
    if not s.wanted or not left or not limit:
        return 0
    fraction = _round(s.wanted * bounds.most / limit) - s.wanted
    return min(fraction, left) if left > 0 else max(fraction, left)


def _round(number: float) -> int:
    """Round half away from zero, as Go's math.Round does."""
    return int(number + 0.5)


def _resolve(value: int | str, replicas: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    percent = int(value.removesuffix("%"))
    return -(-replicas * percent // 100) if up else replicas * percent // 100
