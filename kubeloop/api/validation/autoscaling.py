"""Rules of HorizontalPodAutoscalers: they see both versions as autoscaling/v2 has them.

Source: k8s.io/kubernetes/pkg/apis/autoscaling/validation.
"""

from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.autoscalers import to_v2
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.quantities import parse

_SOURCES: Final = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}
_ORDER: Final = ("object", "external", "pods", "resource", "containerResource")
_TARGETS: Final = ("Utilization", "Value", "AverageValue")
_SELECTED: Final = ("Disabled", "Max", "Min")
_POLICIES: Final = ("Percent", "Pods")
_WINDOW_MAX_S: Final = 3600
_PERIOD_MAX_S: Final = 1800
_NONE_OF_RESOURCE: Final = "must set either a target raw value or a target utilization"
_BOTH_OF_RESOURCE: Final = "may not set both a target raw value and a target utilization"
_NONE_OF_EXTERNAL: Final = "must set either a target value for metric or a per-pod target"
_BOTH_OF_EXTERNAL: Final = "may not set both a target value for metric and a per-pod target"


def autoscaler(problems: Problems, obj: Json) -> None:
    """Check the spec of a HorizontalPodAutoscaler."""
    spec = to_v2(obj).get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if least is not None and least < 1:
        problems.invalid("spec.minReplicas", least, "must be greater than or equal to 1")
    if most < 1:
        problems.invalid("spec.maxReplicas", most, "must be greater than 0")
    if least is not None and most < least:
        detail = "must be greater than or equal to `minReplicas`"
        problems.invalid("spec.maxReplicas", most, detail)
    _reference(problems, "spec.scaleTargetRef", maybe(spec, "scaleTargetRef") or {})
    for number, metric in enumerate(items(spec, "metrics")):
        _metric(problems, f"spec.metrics[{number}]", metric)
    behavior = maybe(spec, "behavior")
    for key in ("scaleUp", "scaleDown"):
        if (rules := maybe(behavior, key)) is not None:
            _rules(problems, f"spec.behavior.{key}", rules)


def autoscaler_status(problems: Problems, obj: Json) -> None:
    """Check the counts of a HorizontalPodAutoscaler's status."""
    status = obj.get("status") or {}
    for key in ("currentReplicas", "desiredReplicas"):
        problems.not_negative(f"status.{key}", status.get(key))


def _reference(problems: Problems, field: str, told: Json) -> None:
    for key in ("kind", "name"):
        if value := told.get(key):
            problems.invalid_each(f"{field}.{key}", value, names.path_segment(value))
        else:
            problems.required(f"{field}.{key}")


def _metric(problems: Problems, field: str, metric: Json) -> None:
    type_ = metric.get("type") or ""
    if not type_:
        problems.required(f"{field}.type", "must specify a metric source type")
    problems.one_of(f"{field}.type", type_, tuple(_SOURCES))
    present = [source for source in _ORDER if maybe(metric, source) is not None]
    if present:
        _CHECKS[present[0]](problems, f"{field}.{present[0]}", metric[present[0]])
    expected = _SOURCES.get(type_)
    if expected is not None and expected not in present:
        detail = "must populate information for the given metric source"
        problems.required(f"{field}.{expected}", detail)
    if len(present) != 1:
        for source in sorted(present):
            if source != expected:
                detail = "must populate the given metric source only"
                problems.forbidden(f"{field}.{source}", detail)


def _resource(problems: Problems, field: str, source: Json) -> None:
    if not source.get("name"):
        problems.required(f"{field}.name", "must specify a resource name")
    _resource_target(problems, field, source)


def _container(problems: Problems, field: str, source: Json) -> None:
    if not source.get("name"):
        problems.required(f"{field}.name", "must specify a resource name")
    if not source.get("container"):
        problems.required(f"{field}.container", "must specify a container")
    _resource_target(problems, field, source)


def _resource_target(problems: Problems, field: str, source: Json) -> None:
    target = _target(problems, f"{field}.target", source)
    share, value = target.get("averageUtilization"), target.get("averageValue")
    if share is None and value is None:
        problems.required(f"{field}.target.averageUtilization", _NONE_OF_RESOURCE)
    if share is not None and value is not None:
        problems.forbidden(f"{field}.target.averageValue", _BOTH_OF_RESOURCE)


def _pods(problems: Problems, field: str, source: Json) -> None:
    _identifier(problems, f"{field}.metric", source)
    target = _target(problems, f"{field}.target", source)
    if not _positive(target.get("averageValue")):
        detail = "must specify a positive target averageValue"
        problems.required(f"{field}.target.averageValue", detail)


def _object(problems: Problems, field: str, source: Json) -> None:
    _reference(problems, f"{field}.describedObject", maybe(source, "describedObject") or {})
    _identifier(problems, f"{field}.metric", source)
    target = _target(problems, f"{field}.target", source)
    if target.get("value") is None and target.get("averageValue") is None:
        detail = "must set either a target value or averageValue"
        problems.required(f"{field}.target.averageValue", detail)


def _external(problems: Problems, field: str, source: Json) -> None:
    _identifier(problems, f"{field}.metric", source)
    target = _target(problems, f"{field}.target", source)
    whole, share = target.get("value"), target.get("averageValue")
    if whole is None and share is None:
        problems.required(f"{field}.target.averageValue", _NONE_OF_EXTERNAL)
    if whole is not None and share is not None:
        problems.forbidden(f"{field}.target.value", _BOTH_OF_EXTERNAL)


_CHECKS: Final = {
    "containerResource": _container,
    "external": _external,
    "object": _object,
    "pods": _pods,
    "resource": _resource,
}


def _identifier(problems: Problems, field: str, source: Json) -> None:
    if name := (maybe(source, "metric") or {}).get("name"):
        problems.invalid_each(f"{field}.name", name, names.path_segment(name))
    else:
        problems.required(f"{field}.name", "must specify a metric name")


def _target(problems: Problems, field: str, source: Json) -> Json:
    """Check what a metric aims at, and return it."""
    target = maybe(source, "target") or {}
    type_, share = target.get("type") or "", target.get("averageUtilization")
    if not type_:
        problems.required(f"{field}.type", "must specify a metric target type")
    if type_ not in _TARGETS:
        detail = "must be either Utilization, Value, or AverageValue"
        problems.invalid(f"{field}.type", type_, detail)
    for key in ("value", "averageValue"):
        if (value := target.get(key)) is not None and not _positive(value):
            problems.invalid(f"{field}.{key}", value, "must be positive")
    if share is not None and share < 1:
        problems.invalid(f"{field}.averageUtilization", share, "must be greater than 0")
    return target


def _positive(value: Any) -> bool:
    return value is not None and parse(value) > 0


def _rules(problems: Problems, field: str, rules: Json) -> None:
    window = rules.get("stabilizationWindowSeconds")
    at = f"{field}.stabilizationWindowSeconds"
    if window is not None and window < 0:
        problems.invalid(at, window, "must be greater than or equal to zero")
    if window is not None and window > _WINDOW_MAX_S:
        problems.invalid(at, window, f"must be less than or equal to {_WINDOW_MAX_S}")
    if (selected := rules.get("selectPolicy")) is not None:
        problems.one_of(f"{field}.selectPolicy", selected, _SELECTED)
    policies = items(rules, "policies")
    if not policies:
        problems.required(f"{field}.policies", "must specify at least one Policy")
    for number, policy in enumerate(policies):
        at = f"{field}.policies[{number}]"
        problems.one_of(f"{at}.type", policy.get("type") or "", _POLICIES)
        for key in ("value", "periodSeconds"):
            if policy.get(key, 0) <= 0:
                problems.invalid(f"{at}.{key}", policy.get(key, 0), "must be greater than zero")
        if policy.get("periodSeconds", 0) > _PERIOD_MAX_S:
            detail = f"must be less than or equal to {_PERIOD_MAX_S}"
            problems.invalid(f"{at}.periodSeconds", policy["periodSeconds"], detail)
