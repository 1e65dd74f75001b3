"""Roles that are made of others: their rules are those of all roles they choose. Pure.

Source: Kubernetes, "Using RBAC Authorization: Aggregated ClusterRoles".
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.api.selectors import label_selector

CLUSTER_ROLES: Final = "clusterroles.rbac.authorization.k8s.io"

Role = Mapping[str, Any]


def selectors_of(role: Role) -> Sequence[Mapping[str, Any]]:
    """Return what a ClusterRole chooses others by; [] if it has rules of its own."""
    return (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ()


def rules_of(role: Role, others: Iterable[Role]) -> list[Any]:
    """Return the rules of all roles that `role` chooses, each rule once.

    In the order of the selectors, and for each of these of the roles' names.
    """
    name, rules = role["metadata"]["name"], list[Any]()
    sorted_ = sorted(others, key=lambda one: str(one["metadata"]["name"]))
    for selector in map(label_selector, selectors_of(role)):
        for other in sorted_:
            metadata = other["metadata"]
            if metadata["name"] != name and selector.matches(metadata.get("labels")):
                rules += [rule for rule in other.get("rules") or () if rule not in rules]
    return rules
