"""The rows of roles and their bindings."""

from typing import Any

from kubeloop.api import humanize
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import created, name_of


def role(obj: Json) -> list[Any]:
    """Return the cells of a Role or ClusterRole."""
    return [name_of(obj), created(obj)]


def binding(obj: Json) -> list[Any]:
    """Return the cells of a RoleBinding or ClusterRoleBinding."""
    reference = maybe(obj, "roleRef") or {}
    found: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in items(obj, "subjects"):
        kind, name = str(subject.get("kind")), str(subject.get("name") or "")
        if kind == "ServiceAccount":
            name = f"{subject.get('namespace') or ''}/{name}"
        found.setdefault(kind, []).append(name)
    return [
        name_of(obj),
        f"{reference.get('kind') or ''}/{reference.get('name') or ''}",
        humanize.since(created(obj)),
        *(", ".join(found[kind]) for kind in ("User", "Group", "ServiceAccount")),
    ]
