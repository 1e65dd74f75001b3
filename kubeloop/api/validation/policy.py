"""Rules of PodDisruptionBudgets."""

from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.validation import selectors
from kubeloop.api.validation.problems import Problems

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
        _amount(problems, f"spec.{field}", spec.get(field))
    selectors.label_selector(problems, "spec.selector", maybe(spec, "selector"))
    eviction = spec.get("unhealthyPodEvictionPolicy")
    if eviction is not None:
        problems.one_of("spec.unhealthyPodEvictionPolicy", eviction, _EVICTION_POLICIES)


def budget_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a PodDisruptionBudget's status."""
    status = obj.get("status") or {}
    for field in ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"):
        problems.not_negative(f"status.{field}", status.get(field))


def _amount(problems: Problems, field: str, value: Any) -> None:
    """Check a count of pods, or a part of all."""
    if isinstance(value, str):
        wrong = names.percent(value)
        problems.invalid_each(field, value, wrong)
        if not wrong and int(value[:-1]) > 100:
            problems.invalid(field, value, "must not be greater than 100%")
    else:
        problems.not_negative(field, value)
