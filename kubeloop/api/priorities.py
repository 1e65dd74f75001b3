"""Priorities of pods: what the system keeps for itself. Pure.

Source: k8s.io/kubernetes/pkg/apis/scheduling; Kubernetes, "Pod Priority and Preemption".
"""

from typing import Any, Final

HIGHEST_USER: Final = 1_000_000_000
SYSTEM_PREFIX: Final = "system-"
SYSTEM_CLASSES: Final[tuple[dict[str, Any], ...]] = tuple(
    {
        "apiVersion": "scheduling.k8s.io/v1",
        "kind": "PriorityClass",
        "metadata": {"name": name},
        "value": value,
        "description": description,
    }
    for name, value, description in (
        (
            "system-node-critical",
            2 * HIGHEST_USER + 1000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2 * HIGHEST_USER,
            "Used for system critical pods that must run in the cluster, but can be moved to"
            " another node if necessary.",
        ),
    )
)


def is_system_class(name: str) -> bool:
    """Tell whether a PriorityClass is one of those every cluster has."""
    return any(one["metadata"]["name"] == name for one in SYSTEM_CLASSES)


def why_no_system_class(name: str, value: int, *, default: bool) -> str:
    """Return why a class is none of the system's, "" if it is one."""
    for one in SYSTEM_CLASSES:
        if one["metadata"]["name"] == name:
            if one["value"] != value:
                return f"value of {name} PriorityClass must be {one['value']}"
            if default:
                return f"globalDefault of {name} PriorityClass must be false"
            return ""
    return f"{name} is not a known system priority class"
