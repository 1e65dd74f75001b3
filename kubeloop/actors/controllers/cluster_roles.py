"""Cluster roles that are made of others have the rules of all of these.

Source: clusterroleaggregation of Kubernetes' controller manager in behaviour.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.roles import CLUSTER_ROLES, rules_of, selectors_of
from kubeloop.store.facts import key_of

_MADE: Final = "made of others"


def _made_of_others(role: Object) -> list[str]:
    """Index: "yes" for roles that choose others."""
    return ["yes"] if selectors_of(role) else []


class ClusterRoleController:
    """Work items are ClusterRoles."""

    name = "clusterrole-aggregation-controller"
    resources = (CLUSTER_ROLES,)
    indexes: Mapping[tuple[str, str], Index] = {(CLUSTER_ROLES, _MADE): _made_of_others}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        # Whether one chooses another is told by labels and rules: a look at all is as cheap.
        for role in view.by(CLUSTER_ROLES, _MADE, "yes"):
            yield key_of(CLUSTER_ROLES, "", role["metadata"]["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        role = view.get(*split(key))
        if role is None or not selectors_of(role):
            return NOTHING
        wanted = rules_of(role, view.list(CLUSTER_ROLES))
        if wanted == (role.get("rules") or []):
            return NOTHING
        return Result([Action(self._write.update({**role, "rules": wanted}), gone_is_fine=True)])
