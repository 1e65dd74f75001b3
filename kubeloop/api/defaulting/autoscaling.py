"""Defaults of HorizontalPodAutoscalers."""

from typing import Final

from kubeloop.api.autoscalers import CPU_PERCENT, METRICS, cpu
from kubeloop.api.defaulting.tools import Json, child, fill, maybe

_PERIOD_S: Final = 15


def autoscaler_v1(obj: Json) -> None:
    """Fill in a HorizontalPodAutoscaler of autoscaling/v1."""
    spec, status = child(obj, "spec"), child(obj, "status")
    fill(spec, {"minReplicas": 1})
    spec.setdefault("maxReplicas", 0)
    child(spec, "scaleTargetRef")
    if METRICS not in (maybe(child(obj, "metadata"), "annotations") or {}):
        fill(spec, {"targetCPUUtilizationPercentage": CPU_PERCENT})
    for count in ("currentReplicas", "desiredReplicas"):
        status.setdefault(count, 0)


def autoscaler(obj: Json) -> None:
    """Fill in a HorizontalPodAutoscaler of autoscaling/v2."""
    spec, status = child(obj, "spec"), child(obj, "status")
    fill(spec, {"minReplicas": 1})
    spec.setdefault("maxReplicas", 0)
    child(spec, "scaleTargetRef")
    if not spec.get("metrics"):
        spec["metrics"] = [cpu(CPU_PERCENT)]
    behavior = maybe(spec, "behavior")
    if behavior is not None:
        _rules(child(behavior, "scaleUp"), up=True)
        _rules(child(behavior, "scaleDown"), up=False)
    status.setdefault("desiredReplicas", 0)
    status.setdefault("currentMetrics", None)


def _rules(rules: Json, *, up: bool) -> None:
    pods = {"type": "Pods", "value": 4, "periodSeconds": _PERIOD_S}
    percent = {"type": "Percent", "value": 100, "periodSeconds": _PERIOD_S}
    if up:
        fill(rules, {"stabilizationWindowSeconds": 0})
    fill(rules, {"selectPolicy": "Max"})
    if "policies" not in rules:
        rules["policies"] = [pods, percent] if up else [percent]
