"""The values that make sense in the fields of the kinds that say who may do what."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeloop.chaos.manifests.rows import Row, list_of, made_of, one_of, several

Json = dict[str, Any]

_verbs: Final = one_of(["get"], ["get", "list", "watch"], ["*"])
_resources: Final = made_of(
    "apiGroups",
    "resources",
    "verbs",
    apiGroups=one_of([""], ["apps", "batch"], ["*"]),
    resources=one_of(["pods"], ["deployments", "deployments/scale"], ["*"]),
    resourceNames=one_of(["web"]),
    verbs=_verbs,
)
_urls: Final = made_of(
    "nonResourceURLs", "verbs", nonResourceURLs=one_of(["/healthz"], ["*"]), verbs=_verbs
)


def _any_rule() -> Any:
    from hypothesis import strategies as st

    return st.one_of(_resources(), _urls())


FIELDS: Final[Mapping[str, Mapping[str, Row]]] = {
    "AggregationRule": {
        "clusterRoleSelectors": one_of(
            [{"matchLabels": {"rbac.example.com/a": "true"}}],
            [{"matchExpressions": [{"key": "app", "operator": "Exists"}]}, {}],
        ),
    },
    "ClusterRole": {"rules": list_of(_any_rule)},
    "ClusterRoleBinding": {
        "roleRef": one_of({"kind": "ClusterRole", "name": "view"}),
        "subjects": several("rbac.v1.Subject", "kind", "name"),
    },
    "Role": {"rules": list_of(_resources)},
    "RoleBinding": {
        "roleRef": one_of(
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
            {"kind": "ClusterRole", "name": "view"},
        ),
        "subjects": several("rbac.v1.Subject", "kind", "name"),
    },
    "rbac.v1.Subject": {
        "kind": one_of("User", "Group", "ServiceAccount"),
        "name": one_of("me", "a.b"),
        "namespace": one_of("default"),
    },
}
"""As of `tables.FIELDS`."""

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "AggregationRule": ("clusterRoleSelectors",),
}


def _subject(one: Json) -> Json:
    """Have just service accounts be in a namespace."""
    if one["kind"] == "ServiceAccount":
        one.setdefault("namespace", "default")
    else:
        one.pop("namespace", None)
    return one


FITTED: Final[Mapping[str, Callable[[Json], Json]]] = {"rbac.v1.Subject": _subject}
