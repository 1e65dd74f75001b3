"""The words of quotas: scopes, and which of them fit which resources. Pure.

Source: k8s.io/kubernetes/pkg/apis/core/helper, "Resource Quotas" of the documentation.
"""

from typing import Final

SCOPES: Final = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
)
PLAIN_SCOPES: Final = (
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
)
"""Scopes that are there or not: they have no values."""

CONFLICTING: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
POD_COUNTS: Final = frozenset({"pods"})
POD_COMPUTE: Final = frozenset(
    {"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"}
)
_CLAIMS: Final = frozenset({"persistentvolumeclaims", "requests.storage"})


def scope_fits(scope: str, name: str) -> bool:
    """Tell whether a quota of a scope can count a resource."""
    if scope == "BestEffort":
        return name in POD_COUNTS
    if scope == "VolumeAttributesClass":
        return name in _CLAIMS
    return scope not in SCOPES or name in POD_COUNTS or name in POD_COMPUTE
