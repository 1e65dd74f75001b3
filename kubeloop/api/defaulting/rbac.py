"""Defaults of roles and their bindings."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, child, fill, items

_GROUP: Final = "rbac.authorization.k8s.io"


def role(obj: Json) -> None:
    """Fill in a Role or ClusterRole: rules are always told, none as null."""
    obj.setdefault("rules", None)


def binding(obj: Json) -> None:
    """Fill in a RoleBinding or ClusterRoleBinding."""
    fill(child(obj, "roleRef"), {"apiGroup": _GROUP})
    for subject in items(obj, "subjects"):
        if subject.get("kind") in ("User", "Group"):
            fill(subject, {"apiGroup": _GROUP})
