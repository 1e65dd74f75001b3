"""Namespaces: a terminating one is emptied, then let go. Source: Kubernetes, "Namespaces"."""

from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    own_namespace,
    split,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.resources import RESOURCES
from kubeloop.store.facts import key_of

_NAMESPACES: Final = "namespaces"
_INSIDE: Final = tuple(r.id for r in RESOURCES.values() if r.namespaced)
_BATCH_MAX: Final = 500  # Objects deleted in one pass.


class NamespaceController:
    """Work items are namespaces."""

    name = "namespace-controller"
    resources = (_NAMESPACES, *_INSIDE)
    indexes: Mapping[tuple[str, str], Index] = {
        (resource, "namespace"): own_namespace for resource in _INSIDE
    }

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == _NAMESPACES:
            yield key
        elif _is_terminating(view.get(_NAMESPACES, "", namespace)):
            yield key_of(_NAMESPACES, "", namespace)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, _, name = split(key)
        namespace = view.get(_NAMESPACES, "", name)
        if namespace is None or not _is_terminating(namespace):
            return NOTHING
        left = [o for resource in _INSIDE for o in view.by(resource, "namespace", name)]
        doomed = [o for o in left if not o["metadata"].get("deletionTimestamp")]
        if doomed:
            options = {"propagationPolicy": "Background"}
            deletions = [self._write.delete(o, **options) for o in doomed[:_BATCH_MAX]]
            return Result([Action(request, gone_is_fine=True) for request in deletions])
        if left or not (namespace.get("spec") or {}).get("finalizers"):
            return NOTHING
        emptied = {**namespace, "spec": {"finalizers": []}}
        finalized = self._write.update(emptied, subresource="finalize")
        return Result([Action(finalized, gone_is_fine=True)])


def _is_terminating(namespace: Object | None) -> bool:
    return namespace is not None and bool(namespace["metadata"].get("deletionTimestamp"))
