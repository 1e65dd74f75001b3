"""Counterfactual replay: the same plan with one change, and what that changes.

    chaos.counterfactual(plan, happenings=plan.happenings[1:])  # What if not for the first?

Both are played from the same seed. Under the policy "fifo" what differs is what the change has led
to, and nothing before; under others the order of what is ready differs from the beginning, and so
do names that are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgpack

from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import play
from kubeloop.store.facts import Fact

_VOLATILE = ("resourceVersion", "uid", "creationTimestamp", "managedFields", "generation")


@dataclass(frozen=True, slots=True)
class Difference:
    """How two runs differ.

    same:   how many facts they have in common, before the first that differs.
    first:  that fact in the one and in the other; None where a run has no more.
    only_before, only_after: keys that exist at the end of one run only.
    fields: of the objects that both have at the end, by key, the paths at which they differ with
            what is there in the one and in the other; times, versions and uids are not compared.
    """

    same: int
    first: tuple[Fact | None, Fact | None]
    only_before: Sequence[str]
    only_after: Sequence[str]
    fields: dict[str, dict[str, tuple[Any, Any]]]

    def __bool__(self) -> bool:
        """Tell whether the ends differ."""
        return bool(self.only_before or self.only_after or self.fields)

    def __str__(self) -> str:
        """Return it as lines for people."""
        lines = [f"the first {self.same} facts are the same"]
        lines += [f"- {key}" for key in self.only_before]
        lines += [f"+ {key}" for key in self.only_after]
        for key, paths in self.fields.items():
            lines += [f"~ {key} {path}: {a!r} → {b!r}" for path, (a, b) in paths.items()]
        return "\n".join(lines)


def counterfactual(
    plan: Plan, *, options: dict[str, Any] | None = None, **change: Any
) -> Difference:
    """Play a plan as it is and with some fields changed; return how the runs differ.

    options: for `play`.
    Raises: Violation, if either run has one.
    """
    given = {**(options or {}), "keep": True}
    before = play(plan, **given).history
    return difference(before, play(replace(plan, **change), **given).history)


def difference(before: Sequence[Fact], after: Sequence[Fact]) -> Difference:
    """Return how two runs differ, each told by all its facts, oldest first."""
    same = 0
    for one, other in zip(before, after, strict=False):
        if (one.revision, one.key, one.value) != (other.revision, other.key, other.value):
            break
        same += 1
    first = (
        (before[same] if same < len(before) else None),
        (after[same] if same < len(after) else None),
    )
    ends = _end(before), _end(after)
    fields: dict[str, dict[str, tuple[Any, Any]]] = {}
    for key in sorted(ends[0].keys() & ends[1].keys()):
        found = dict(_paths("", ends[0][key], ends[1][key]))
        if found:
            fields[key] = found
    return Difference(
        same,
        first,
        sorted(ends[0].keys() - ends[1].keys()),
        sorted(ends[1].keys() - ends[0].keys()),
        fields,
    )


def _end(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return the objects there are after all facts."""
    values: dict[str, bytes] = {}
    for fact in facts:
        if fact.value is None:
            values.pop(fact.key, None)
        else:
            values[fact.key] = fact.value
    return {key: _comparable(msgpack.unpackb(value)) for key, value in values.items()}


def _comparable(node: Any) -> Any:
    """Return an object without what two runs never have in common."""
    if isinstance(node, dict):
        kept = ((k, v) for k, v in node.items() if k not in _VOLATILE and not k.endswith("Time"))
        return {key: _comparable(value) for key, value in kept}
    if isinstance(node, list):
        return [_comparable(one) for one in node]
    return node


def _paths(path: str, one: Any, other: Any) -> "list[tuple[str, tuple[Any, Any]]]":
    """Return where two values differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        found = []
        for key in sorted(one.keys() | other.keys()):
            found += _paths(f"{path}.{key}", one.get(key), other.get(key))
        return found
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        found = []
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            found += _paths(f"{path}[{index}]", a, b)
        return found
    return [] if one == other else [(path, (one, other))]
