"""Service accounts: every active namespace has one called `default`."""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

_NAMESPACES: Final = "namespaces"
_ACCOUNTS: Final = "serviceaccounts"
DEFAULT: Final = "default"


class ServiceAccountController:
    """Work items are namespaces."""

    name = "service-account-controller"
    resources = (_NAMESPACES, _ACCOUNTS)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == _NAMESPACES:
            yield key
        elif name == DEFAULT:
            yield key_of(_NAMESPACES, "", namespace)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, _, name = split(key)
        namespace = view.get(_NAMESPACES, "", name)
        if namespace is None or namespace["metadata"].get("deletionTimestamp"):
            return NOTHING
        if view.get(_ACCOUNTS, name, DEFAULT) is not None:
            return NOTHING
        metadata = {"name": DEFAULT, "namespace": name}
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}
        return Result([Action(self._write.create(account))])
