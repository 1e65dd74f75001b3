"""The root CA publisher: every active namespace has a config map with the cluster's authority.

Source: kube-controller-manager's root-ca-certificate-publisher-controller in behaviour.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.admission.service_accounts import ROOT_CA
from kubeloop.store.facts import key_of

_NAMESPACES: Final = "namespaces"
_CONFIG_MAPS: Final = "configmaps"
_DESCRIPTION: Final = "kubernetes.io/description"
_DESCRIBED: Final = {
    _DESCRIPTION: "Contains a CA bundle that can be used to verify the "
    "kube-apiserver when using internal endpoints such as the internal service IP or "
    "kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
}


class RootCaPublisher:
    """Work items are namespaces; there are none if the cluster has no authority."""

    name = "root-ca-cert-publisher"
    resources = (_NAMESPACES, _CONFIG_MAPS)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self, settings: Settings) -> None:
        self._authority = settings.authority
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if not self._authority:
            return
        resource, namespace, name = split(key)
        if resource == _NAMESPACES:
            yield key
        elif name == ROOT_CA:
            yield key_of(_NAMESPACES, "", namespace)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, _, name = split(key)
        namespace = view.get(_NAMESPACES, "", name)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return NOTHING
        wanted = {"ca.crt": self._authority}
        found = view.get(_CONFIG_MAPS, name, ROOT_CA)
        if found is None:
            obj: dict[str, Any] = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": ROOT_CA, "namespace": name, "annotations": _DESCRIBED},
                "data": wanted,
            }
            return Result([Action(self._write.create(obj))])
        annotations = found["metadata"].get("annotations") or {}
        if found.get("data") == wanted and annotations.get(_DESCRIPTION):
            return NOTHING
        metadata = {**found["metadata"], "annotations": {**annotations, **_DESCRIBED}}
        return Result([Action(self._write.update({**found, "metadata": metadata, "data": wanted}))])
