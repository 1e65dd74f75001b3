"""Rules of PodDisruptionBudgets."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import amounts, selectors

_EVICTION_POLICIES: Final = ("AlwaysAllow", "IfHealthyBudget")


def budget(problems: Problems, obj: Json) -> None:
    """Check the spec of a PodDisruptionBudget."""
    spec = obj.get("spec") or {}
    fields = ("minAvailable", "maxUnavailable")
    if all(spec.get(field) is not None for field in fields):
        detail = "minAvailable and maxUnavailable cannot be both set"
        problems.invalid(
            "spec",
            {k: spec[k] for k in ("minAvailable", "selector", "maxUnavailable") if k in spec},
            detail,
        )
    for field in fields:
        amounts.check(problems, f"spec.{field}", spec.get(field))
        amounts.at_most_all(problems, f"spec.{field}", spec.get(field))
    selectors.label_selector(problems, "spec.selector", maybe(spec, "selector"))
    eviction = spec.get("unhealthyPodEvictionPolicy")
    if eviction is not None:
        problems.one_of("spec.unhealthyPodEvictionPolicy", eviction, _EVICTION_POLICIES)


def budget_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a PodDisruptionBudget's status."""
    status = obj.get("status") or {}
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        problems.not_negative(f"status.{field}", status.get(field))
