"""The row of HorizontalPodAutoscalers, in both versions."""

from typing import Any, Final

from kubeloop.api import humanize
from kubeloop.api.autoscalers import to_v2
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, created, name_of

_SHOWN_MAX: Final = 2
_SOURCES: Final = {
    "ContainerResource": "containerResource",
    "External": "external",
    "Object": "object",
    "Pods": "pods",
    "Resource": "resource",
}


def autoscaler(obj: Json) -> list[Any]:
    """Return the cells of a HorizontalPodAutoscaler."""
    obj = to_v2(obj)
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    target, least = maybe(spec, "scaleTargetRef") or {}, spec.get("minReplicas")
    return [
        name_of(obj),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        _metrics(items(spec, "metrics"), items(status, "currentMetrics")),
        "<unset>" if least is None else str(least),
        spec.get("maxReplicas", 0),
        status.get("currentReplicas", 0),
        humanize.since(created(obj)),
    ]


def _metrics(wanted: list[Json], measured: list[Json]) -> str:
    """Return what is aimed at and what is measured: "cpu: 12%/80%"."""
    told = [
        _metric(one, measured[number] if number < len(measured) else {})
        for number, one in enumerate(wanted)
    ]
    if not told:
        return NONE
    shown = ", ".join(told[:_SHOWN_MAX])
    more = len(told) - _SHOWN_MAX
    return f"{shown} + {more} more..." if more > 0 else shown


def _metric(wanted: Json, measured: Json) -> str:
    source = _SOURCES.get(wanted.get("type") or "")
    if source is None:
        return "<unknown type>"
    spec = maybe(wanted, source) or {}
    target = maybe(spec, "target") or {}
    current = maybe(maybe(measured, source), "current") or {}
    if source in ("resource", "containerResource"):
        name = spec.get("name") or ""
        if target.get("averageValue") is not None:
            return f"{name}: {_or_unknown(current, 'averageValue')}/{target['averageValue']}"
        share, aim = current.get("averageUtilization"), target.get("averageUtilization")
        now = humanize.UNKNOWN if share is None else f"{share}%"
        return f"{name}: {now}/{'<auto>' if aim is None else f'{aim}%'}"
    if source == "pods":
        return f"{_or_unknown(current, 'averageValue')}/{target.get('averageValue')}"
    if target.get("averageValue") is not None:
        return f"{_or_unknown(current, 'averageValue')}/{target['averageValue']} (avg)"
    return f"{_or_unknown(current, 'value')}/{target.get('value')}"


def _or_unknown(current: Json, key: str) -> Any:
    found = current.get(key)
    return humanize.UNKNOWN if found is None else found
