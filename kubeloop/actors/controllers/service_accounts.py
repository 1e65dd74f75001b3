"""Service accounts: every active namespace has one called `default`, and the cluster's CA."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

_NAMESPACES: Final = "namespaces"
_ACCOUNTS: Final = "serviceaccounts"
_CONFIG_MAPS: Final = "configmaps"
DEFAULT: Final = "default"
ROOT_CA: Final = "kube-root-ca.crt"
_DESCRIBED: Final = {
    "kubernetes.io/description": "Contains a CA bundle that can be used to verify the "
    "kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
}


class ServiceAccountController:
    """Work items are namespaces."""

    name = "service-account-controller"
    resources = (_NAMESPACES, _ACCOUNTS, _CONFIG_MAPS)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self, settings: Settings) -> None:
        self._authority = settings.authority
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == _NAMESPACES:
            yield key
        elif (resource, name) in ((_ACCOUNTS, DEFAULT), (_CONFIG_MAPS, ROOT_CA)):
            yield key_of(_NAMESPACES, "", namespace)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, _, name = split(key)
        namespace = view.get(_NAMESPACES, "", name)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return NOTHING
        actions = []
        if view.get(_ACCOUNTS, name, DEFAULT) is None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount"}
            metadata = {"name": DEFAULT, "namespace": name}
            actions.append(Action(self._write.create({**account, "metadata": metadata})))
        if self._authority:
            actions += self._publish(name, view)
        return Result(actions)

    def _publish(self, namespace: str, view: View) -> list[Action]:
        wanted = {"ca.crt": self._authority}
        found = view.get(_CONFIG_MAPS, namespace, ROOT_CA)
        if found is None:
            obj: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "namespace": namespace, "annotations": _DESCRIBED},
                "data": wanted,
            }
            return [Action(self._write.create(obj))]
        if found.get("data") != wanted:
            return [Action(self._write.update({**found, "data": wanted}))]
        return []
