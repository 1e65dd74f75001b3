"""Defaults of LimitRanges and ResourceQuotas, of priority and runtime classes."""

from typing import Final

from kubeloop.api.defaulting import pods
from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

_AMOUNTS: Final = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


def limit_range(obj: Json) -> None:
    """Fill in a LimitRange: of containers what is not told follows from what is."""
    for limit in items(child(obj, "spec"), "limits"):
        for field in _AMOUNTS:
            pods.resource_list(maybe(limit, field))
        if limit.get("type") == "Container":
            most, least = maybe(limit, "max") or {}, maybe(limit, "min") or {}
            default = {**most, **(maybe(limit, "default") or {})}
            request = {**least, **default, **(maybe(limit, "defaultRequest") or {})}
            for field, told in (("default", default), ("defaultRequest", request)):
                if told:
                    limit[field] = told
                else:
                    limit.pop(field, None)


def resource_quota(obj: Json) -> None:
    """Fill in a ResourceQuota."""
    pods.resource_list(maybe(child(obj, "spec"), "hard"))
    status = child(obj, "status")
    for field in ("hard", "used"):
        pods.resource_list(maybe(status, field))


def priority_class(obj: Json) -> None:
    """Fill in a PriorityClass."""
    obj.setdefault("value", 0)
    fill(obj, {"preemptionPolicy": "PreemptLowerPriority"})


def runtime_class(obj: Json) -> None:
    """Fill in a RuntimeClass."""
    obj.setdefault("handler", "")
    pods.resource_list(maybe(maybe(obj, "overhead"), "podFixed"))


def pod_template(obj: Json) -> None:
    """Fill in a PodTemplate."""
    pods.template(child(obj, "template"))
