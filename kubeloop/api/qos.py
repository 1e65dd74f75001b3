"""Quality of service classes. Source: Kubernetes, "Pod Quality of Service Classes"."""

from collections.abc import Mapping
from typing import Any, Final, Literal

from kubeloop.api.quantities import parse

_COUNTED: Final = ("cpu", "memory")


def qos_class(pod: Mapping[str, Any]) -> Literal["Guaranteed", "Burstable", "BestEffort"]:
    """Return the class of a pod whose quantities are valid or have not been checked yet."""
    spec = pod.get("spec", {})
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    asks, guaranteed = False, bool(containers)
    for container in containers:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in _COUNTED:
            limit, request = _positive(limits.get(name)), _positive(requests.get(name))
            asks = asks or limit or request
            if not limit or (request and _differ(limits[name], requests[name])):
                guaranteed = False
    if not asks:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(quantity: Any) -> bool:
    if quantity is None:
        return False
    try:
        return parse(quantity) > 0
    except ValueError:
        return False  # Validation will say so.


def _differ(one: Any, other: Any) -> bool:
    return parse(one) != parse(other)
