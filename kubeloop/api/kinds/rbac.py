"""The kinds of rbac.authorization.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import Resource

GROUP: Final = "rbac.authorization.k8s.io"

ROWS: Final = (
    Resource(
        GROUP,
        "v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        "clusterrolebinding",
        namespaced=False,
    ),
    Resource(GROUP, "v1", "ClusterRole", "clusterroles", "clusterrole", namespaced=False),
    Resource(GROUP, "v1", "RoleBinding", "rolebindings", "rolebinding"),
    Resource(GROUP, "v1", "Role", "roles", "role"),
)
