"""The roles every cluster has from its first moment: cluster-admin, admin, edit, view, system:…

Source: Kubernetes, "Using RBAC Authorization: User-facing roles"; the bootstrap policy of 1.36.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from kubeloop.actors.requests import system_roles
from kubeloop.api.roles import rules_of

_API_VERSION: Final = "rbac.authorization.k8s.io/v1"
_GROUP: Final = "rbac.authorization.k8s.io"
_HEAD: Final = {
    "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
}
_READ: Final = "get list watch"
_WRITE: Final = "create delete deletecollection patch update"
_ALL: Final = "create delete deletecollection get list patch update watch"
_INTO_PODS: Final = "pods/attach pods/exec pods/portforward pods/proxy"
_ROLLED: Final = "deployments deployments/rollback deployments/scale"

Row = tuple[str, str, str]
"""Verbs, API group, resources; blanks between them."""

_ADMIN: Final[tuple[Row, ...]] = (
    ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    (_ALL, _GROUP, "rolebindings roles"),
)
_EDIT: Final[tuple[Row, ...]] = (
    (_READ, "", f"{_INTO_PODS} secrets services/proxy"),
    ("impersonate", "", "serviceaccounts"),
    (_WRITE, "", f"pods {_INTO_PODS}"),
    ("create", "", "pods/eviction"),
    (
        _WRITE,
        "",
        "configmaps events persistentvolumeclaims replicationcontrollers"
        " replicationcontrollers/scale secrets serviceaccounts services services/proxy",
    ),
    ("create", "", "serviceaccounts/token"),
    (
        _WRITE,
        "apps",
        f"daemonsets {_ROLLED} replicasets replicasets/scale statefulsets statefulsets/scale",
    ),
    (_WRITE, "autoscaling", "horizontalpodautoscalers"),
    (_WRITE, "batch", "cronjobs jobs"),
    (
        _WRITE,
        "extensions",
        f"daemonsets {_ROLLED} ingresses networkpolicies replicasets"
        " replicasets/scale replicationcontrollers/scale",
    ),
    (_WRITE, "policy", "poddisruptionbudgets"),
    (_WRITE, "networking.k8s.io", "ingresses networkpolicies"),
    (_ALL, "coordination.k8s.io", "leases"),
)
_VIEW: Final[tuple[Row, ...]] = (
    (
        _READ,
        "",
        "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods"
        " replicationcontrollers replicationcontrollers/scale serviceaccounts services"
        " services/status",
    ),
    (
        _READ,
        "",
        "bindings events limitranges namespaces/status pods/log pods/status"
        " replicationcontrollers/status resourcequotas resourcequotas/status",
    ),
    (_READ, "", "namespaces"),
    (_READ, "discovery.k8s.io", "endpointslices"),
    (
        _READ,
        "apps",
        "controllerrevisions daemonsets daemonsets/status deployments deployments/scale"
        " deployments/status replicasets replicasets/scale replicasets/status statefulsets"
        " statefulsets/scale statefulsets/status",
    ),
    (_READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (_READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
    (
        _READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses"
        " ingresses/status networkpolicies replicasets replicasets/scale replicasets/status"
        " replicationcontrollers/scale",
    ),
    (_READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (_READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
)


def bootstrap_roles() -> list[dict[str, Any]]:
    """Return the roles to create when a cluster starts, and who is its administrator.

    Those that are made of others have their rules already: nobody has to do it later.
    """
    parts = [
        _role(f"system:aggregate-to-{name}", [_rule(*row) for row in rows], into=name)
        for name, rows in (("admin", _ADMIN), ("edit", _EDIT), ("view", _VIEW))
    ]
    view = _made_of_others("view", parts, into="edit")
    edit = _made_of_others("edit", [*parts, view], into="admin")
    admin = _made_of_others("admin", [*parts, view, edit])
    everything = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
    everywhere = {"nonResourceURLs": ["*"], "verbs": ["*"]}
    return [
        _role("cluster-admin", [everything, everywhere]),
        *(admin, edit, view),
        *parts,
        *_system_roles(),
        _binding("cluster-admin", ("system:masters",)),
        *(_binding(name, groups) for name, groups in system_roles.BOUND.items()),
    ]


def _system_roles() -> Iterator[dict[str, Any]]:
    for name, rows in system_roles.RULES.items():
        yield _role(name, [_rule(*row) for row in rows])
    for name, urls in system_roles.URLS.items():
        yield _role(name, [{"nonResourceURLs": urls.split(), "verbs": ["get"]}])
    for name, signer in system_roles.APPROVERS.items():
        rule = _rule("approve", "certificates.k8s.io", "signers")
        yield _role(name, [{**rule, "resourceNames": [signer]}])


def _binding(name: str, groups: Sequence[str]) -> dict[str, Any]:
    """Return the binding of the role of that name to groups."""
    return {
        "apiVersion": _API_VERSION,
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name, **_HEAD},
        "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "Group", "apiGroup": _GROUP, "name": group} for group in groups],
    }


def _role(name: str, rules: list[Any], *, into: str = "") -> dict[str, Any]:
    """Return a ClusterRole. into: the role it is a part of."""
    labels: dict[str, str] = dict(_HEAD["labels"])
    if into:
        labels[f"rbac.authorization.k8s.io/aggregate-to-{into}"] = "true"
    metadata = {"name": name, **_HEAD, "labels": labels}
    return {"apiVersion": _API_VERSION, "kind": "ClusterRole", "metadata": metadata, "rules": rules}


def _made_of_others(name: str, others: list[dict[str, Any]], *, into: str = "") -> dict[str, Any]:
    label = f"rbac.authorization.k8s.io/aggregate-to-{name}"
    role = _role(name, [], into=into)
    role["aggregationRule"] = {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]}
    return {**role, "rules": rules_of(role, others)}


def _rule(verbs: str, group: str, resources: str) -> dict[str, Any]:
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
