"""The indexes of an Indexed Job: sets of numbers, and the texts a status has for them. Pure.

Source: Kubernetes, "Jobs: Completion mode", "Backoff limit per index".
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.view import Object

INDEX: Final = "batch.kubernetes.io/job-completion-index"
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"


def parse(text: str, completions: int) -> set[int]:
    """Return the indexes below `completions` of "1,3-5"; what is no number is passed over."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        low, _, high = part.partition("-")
        if low.isdecimal() and (high or low).isdecimal():
            found.update(range(int(low), min(int(high or low), completions - 1) + 1))
    return {index for index in found if index < completions}


def told(indexes: Iterable[int]) -> str:
    """Return "1,3-5": numbers in order, three and more in a row as a range, as are two."""
    runs: list[list[int]] = []
    for index in sorted(indexes):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(_run(low, high) for low, high in runs)


def _run(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low},{high}" if high == low + 1 else f"{low}-{high}"


def index_of(pod: Object) -> int | None:
    """Return a Pod's index, None if it has none."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isdecimal() else None


def failures_of(pod: Object) -> int:
    """Return how often Pods of this one's index had failed before it was made."""
    text = (pod["metadata"].get("annotations") or {}).get(FAILURES, "")
    return int(text) if text.isdecimal() else 0


def met(policy: Mapping[str, object], succeeded: set[int], completions: int) -> bool:
    """Tell whether a successPolicy is met by the indexes that have succeeded."""
    rules = policy.get("rules")
    for rule in rules if isinstance(rules, list) else ():
        wanted = rule.get("succeededIndexes")
        among = succeeded if wanted is None else succeeded & parse(wanted, completions)
        count = rule.get("succeededCount")
        if count is None:
            count = len(parse(wanted or "", completions))
        if len(among) >= count:
            return True
    return False
