"""HorizontalPodAutoscalers in two versions: what autoscaling/v1 cannot hold is in annotations.

    stored(v1)   →  v2: spec.targetCPUUtilizationPercentage and the annotations become fields
    served(v2)   →  v1: fields become that, and annotations in JSON

Source: k8s.io/kubernetes/pkg/apis/autoscaling/v1, conversion.go, in behaviour.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

Object = dict[str, Any]

V1: Final = "autoscaling/v1"
V2: Final = "autoscaling/v2"
_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
METRICS: Final = f"{_PREFIX}metrics"
CURRENT_METRICS: Final = f"{_PREFIX}current-metrics"
CONDITIONS: Final = f"{_PREFIX}conditions"
BEHAVIOR: Final = f"{_PREFIX}behavior"
_ALL: Final = (METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR)
CPU_PERCENT: Final = 80  # Of what is requested, if nobody says what to look at.


class Autoscalers:
    """How autoscaling/v1 differs from what is stored; as of `custom.CustomKind`."""

    api_version = V1
    storage = V2
    revision = 0

    def served(self, stored: Object, revision: int = 0) -> Object:
        """Return a stored object as autoscaling/v1 has it."""
        return stored if stored["apiVersion"] == V1 else to_v1(stored)

    def stored(self, obj: Object) -> Object:
        """Return an object of autoscaling/v1 as it is stored."""
        return to_v2(obj)


def cpu(percent: int) -> Object:
    """Return the metric that aims at a share of the processor time that is requested."""
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


def to_v2(obj: Object) -> Object:
    """Return an autoscaling/v1 object as autoscaling/v2 has it; others as they are."""
    if obj.get("apiVersion") != V1:
        return obj
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metadata = dict(obj["metadata"])
    notes = dict(metadata.pop("annotations", None) or {})
    percent = spec.pop("targetCPUUtilizationPercentage", None)
    metrics = [_metric_of_v1(one, "target") for one in _told(notes, METRICS, list)]
    if percent is not None:
        metrics.append(cpu(percent))
    spec["metrics"] = metrics or [cpu(CPU_PERCENT)]
    if behavior := _told(notes, BEHAVIOR, dict):
        spec["behavior"] = {k: _fields(v, _lower) for k, v in _fields(behavior, _lower).items()}
    status.pop("currentCPUUtilizationPercentage", None)
    current = [_metric_of_v1(one, "current") for one in _told(notes, CURRENT_METRICS, list)]
    status["currentMetrics"] = current or None
    if conditions := _told(notes, CONDITIONS, list):
        status["conditions"] = conditions
    if not status.get("currentReplicas"):
        status.pop("currentReplicas", None)
    kept = {key: text for key, text in notes.items() if key not in _ALL}
    if kept:
        metadata["annotations"] = kept
    rest = {k: v for k, v in obj.items() if k not in ("spec", "status", "metadata", "apiVersion")}
    return {**rest, "apiVersion": V2, "metadata": metadata, "spec": spec, "status": status}


def to_v1(obj: Mapping[str, Any]) -> Object:
    """Return an autoscaling/v2 object as autoscaling/v1 has it."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metadata = dict(obj["metadata"])
    notes = dict(metadata.get("annotations") or {})
    others = []
    for metric in spec.pop("metrics", None) or ():
        percent = _cpu_percent(metric, "target")
        if percent is None:
            others.append(_metric_to_v1(metric, "target"))
        else:
            spec.setdefault("targetCPUUtilizationPercentage", percent)
    if others:
        notes[METRICS] = _text(others)
    if behavior := spec.pop("behavior", None):
        notes[BEHAVIOR] = _text({_upper(k): _fields(v, _upper) for k, v in behavior.items()})
    current = status.pop("currentMetrics", None) or []
    for metric in current:
        percent = _cpu_percent(metric, "current")
        if percent is not None:
            status["currentCPUUtilizationPercentage"] = percent
    if current:
        notes[CURRENT_METRICS] = _text([_metric_to_v1(one, "current") for one in current])
    if conditions := status.pop("conditions", None):
        notes[CONDITIONS] = _text(conditions)
    status = {"currentReplicas": 0, "desiredReplicas": 0, **status}
    if notes:
        metadata["annotations"] = notes
    rest = {k: v for k, v in obj.items() if k not in ("spec", "status", "metadata", "apiVersion")}
    return {**rest, "apiVersion": V1, "metadata": metadata, "spec": spec, "status": status}


def _cpu_percent(metric: Mapping[str, Any], at: str) -> int | None:
    """Return the share of the processor time a metric is about; None for other metrics."""
    resource = metric.get("resource") or {}
    if metric.get("type") != "Resource" or resource.get("name") != "cpu":
        return None
    found = (resource.get(at) or {}).get("averageUtilization")
    return found if isinstance(found, int) else None


# Metrics: v1 has the fields of a target beside the metric, each under a name of its own.

_FIELDS: Final = {
    ("resource", "target"): (
        ("averageUtilization", "targetAverageUtilization"),
        ("averageValue", "targetAverageValue"),
    ),
    ("resource", "current"): (
        ("averageUtilization", "currentAverageUtilization"),
        ("averageValue", "currentAverageValue"),
    ),
    ("pods", "target"): (("averageValue", "targetAverageValue"),),
    ("pods", "current"): (("averageValue", "currentAverageValue"),),
    ("object", "target"): (("value", "targetValue"), ("averageValue", "averageValue")),
    ("object", "current"): (("value", "currentValue"), ("averageValue", "averageValue")),
    ("external", "target"): (("value", "targetValue"), ("averageValue", "targetAverageValue")),
    ("external", "current"): (("value", "currentValue"), ("averageValue", "currentAverageValue")),
}
_TYPES: Final = {
    "averageUtilization": "Utilization",
    "value": "Value",
    "averageValue": "AverageValue",
}


def _metric_to_v1(metric: Mapping[str, Any], at: str) -> Object:
    told: Object = {"type": metric.get("type", "")}
    for source in ("object", "pods", "resource", "containerResource", "external"):
        found = metric.get(source)
        if found is None:
            continue
        made: Object = {key: found[key] for key in ("name", "container") if key in found}
        if about := found.get("describedObject"):
            made["target"] = about
        if identifier := found.get("metric"):
            made["metricName"] = identifier.get("name", "")
            if selector := identifier.get("selector"):
                made["metricSelector" if source == "external" else "selector"] = selector
        aims = found.get(at) or {}
        for new, old in _FIELDS[_family(source), at]:
            if aims.get(new) is not None:
                made[old] = aims[new]
        told[source] = made
    return told


def _metric_of_v1(metric: Mapping[str, Any], at: str) -> Object:
    told: Object = {"type": metric.get("type", "")}
    for source in ("object", "pods", "resource", "containerResource", "external"):
        found = metric.get(source)
        if not isinstance(found, dict):
            continue
        made: Object = {key: found[key] for key in ("name", "container") if key in found}
        if about := found.get("target"):
            made["describedObject"] = about
        if "metricName" in found:
            selector = found.get("metricSelector") or found.get("selector")
            made["metric"] = {"name": found["metricName"]}
            if selector:
                made["metric"]["selector"] = selector
        fields = _FIELDS[_family(source), at]
        aims = {new: found[old] for new, old in fields if found.get(old) is not None}
        if at == "target" and aims:
            aims = {"type": _TYPES[next(iter(aims))], **aims}
        made[at] = aims
        told[source] = made
    return told


def _family(source: str) -> str:
    return "resource" if source == "containerResource" else source


# Annotations.


def _told(notes: Mapping[str, str], key: str, kind: type) -> Any:
    """Return what an annotation says in JSON; what is no JSON says nothing."""
    try:
        found = json.loads(notes.get(key) or "null")
    except ValueError:
        return kind()
    return found if isinstance(found, kind) else kind()


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _fields(value: Any, spelled: Any) -> Any:
    """Return a value with the names of its fields, all the way down, spelled anew."""
    if isinstance(value, dict):
        return {spelled(k): _fields(v, spelled) for k, v in value.items() if v is not None}
    return [_fields(one, spelled) for one in value] if isinstance(value, list) else value


def _upper(name: str) -> str:
    return name[:1].upper() + name[1:]


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
