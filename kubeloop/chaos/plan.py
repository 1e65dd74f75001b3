"""A plan: all that happens in one simulated run, as a value."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from kubeloop.chaos import catalogue
from kubeloop.chaos.values import Happening, from_json, to_json

Policy = Literal["fifo", "random", "pct"]
POLICIES: Final[tuple[Policy, ...]] = ("fifo", "random", "pct")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens in a run: the same plan is the same run, byte for byte.

    seed:       decides what is not said here: latencies, ids, the order of what is ready.
    policy:     how the order of what is ready is chosen; see `sim.SimLoop`.
    nodes:      of the cluster.
    rest:       whether it has its REST endpoint, which an operator needs.
    durable:    whether the store is on a (simulated) disk.
    happenings: what users do, and what breaks.
    """

    seed: int = 0
    policy: Policy = "random"
    nodes: int = 2
    rest: bool = False
    durable: bool = False
    happenings: tuple[Happening, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, without what is as it is by default."""
        told = {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name != "happenings" and getattr(self, one.name) != one.default
        }
        return {**told, "happenings": [to_json(one) for one in self.happenings]}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | str) -> "Plan":
        """Return the plan that JSON, or its text, tells of.

        Raises: ValueError that names the field, the value and what would be right.
        """
        found = json.loads(data) if isinstance(data, str) else dict(data)
        known = {one.name for one in fields(cls)}
        for key in found:
            if key not in known:
                raise ValueError(f"{key}: a plan has no such field; it has {sorted(known)}")
        if found.get("policy", "random") not in POLICIES:
            raise ValueError(f"policy: {found['policy']!r}: must be one of {list(POLICIES)}")
        for name, least in (("seed", -math.inf), ("nodes", 0)):
            if not isinstance(found.get(name, 0), int) or found.get(name, 0) < least:
                raise ValueError(f"{name}: {found[name]!r}: must be a whole number from {least}")
        catalogue.load()
        happenings = tuple(from_json(one) for one in found.pop("happenings", ()))
        return cls(**found, happenings=happenings)

    def __str__(self) -> str:
        """Return it as Python, one happening a line."""
        told = [
            f"{one.name}={getattr(self, one.name)!r}"
            for one in fields(self)
            if one.name != "happenings" and getattr(self, one.name) != one.default
        ]
        lines = [f"Plan({', '.join(told)}"]
        if self.happenings:
            lines[0] += f"{', ' if told else ''}happenings=("
            lines += [f"    {told_of(one)}," for one in self.happenings]
            lines.append("))")
        else:
            lines[0] += ")"
        return "\n".join(lines)


def told_of(happening: Happening) -> str:
    """Return a happening as Python, without what is as it is by default."""
    told = ", ".join(
        f"{one.name}={getattr(happening, one.name)!r}"
        for one in fields(happening)
        if getattr(happening, one.name) != one.default
    )
    return f"{type(happening).__name__}({told})"
