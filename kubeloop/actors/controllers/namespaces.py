"""Namespaces: a terminating one is emptied, then let go. Source: Kubernetes, "Namespaces"."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    condition,
    own_namespace,
    split,
)
from kubeloop.actors.view import CUSTOM, Index, Object, View
from kubeloop.api.resources import RESOURCES, Resource
from kubeloop.api.times import rfc3339
from kubeloop.store.facts import key_of

_NAMESPACES: Final = "namespaces"
_INSIDE: Final = tuple(r.id for r in RESOURCES.values() if r.namespaced)
_Left = Sequence[tuple[Resource, Object]]
"""What a namespace still holds, with the resource each is of."""
_BATCH_MAX: Final = 500  # Objects deleted in one pass.
_KUBERNETES: Final = "kubernetes"  # The finalizer that is ours to remove.
_NUMBER: Final = re.compile(r"\d+")
_DISCOVERED: Final = "All resources successfully discovered"
_PARSED: Final = "All legacy kube types successfully parsed"
_DELETED: Final = "All content successfully deleted, may be waiting on finalization"
_REMAINING: Final = "Some resources are remaining"
_HELD: Final = "Some content in the namespace has finalizers remaining"


class NamespaceController:
    """Work items are namespaces."""

    name = "namespace-controller"
    resources = (_NAMESPACES, *_INSIDE, CUSTOM)
    indexes: Mapping[tuple[str, str], Index] = {
        (resource, "namespace"): own_namespace for resource in (*_INSIDE, CUSTOM)
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
        inside = [one for one in view.catalogue.by_id.values() if one.namespaced]
        left = [(one, o) for one in inside for o in view.by(one.id, "namespace", name)]
        doomed = [(one, o) for one, o in left if not o["metadata"].get("deletionTimestamp")]
        actions = [
            Action(
                self._write.delete(o, resource=one.id, propagationPolicy="Background"),
                gone_is_fine=True,
            )
            for one, o in doomed[:_BATCH_MAX]
        ]
        if left:
            return Result([*actions, *self._report(namespace, left, now_s)])
        finalizers = (namespace.get("spec") or {}).get("finalizers") or []
        if _KUBERNETES not in finalizers:
            return NOTHING
        spec = {"finalizers": [f for f in finalizers if f != _KUBERNETES]}
        finalized = self._write.update({**namespace, "spec": spec}, subresource="finalize")
        return Result([Action(finalized, gone_is_fine=True)])

    def _report(self, namespace: Object, left: _Left, now_s: float) -> list[Action]:
        """Return the write that tells what a namespace still waits for, if that is news."""
        told = conditions_of(namespace, left, now_s)
        status = namespace.get("status") or {}
        if told == (status.get("conditions") or []):
            return []
        changed = {**namespace, "status": {**status, "conditions": told}}
        return [Action(self._write.update(changed, subresource="status"), gone_is_fine=True)]


def conditions_of(namespace: Object, left: _Left, now_s: float) -> list[dict[str, Any]]:
    """Return the conditions of a terminating namespace that still holds these objects.

    A condition stands until what it tells of changes; how many there are of each is no news.
    """
    kinds = Counter(f"{one.plural}.{one.group}" for one, _ in left)  # "pods.", as Kubernetes.
    holders = Counter(f for _, o in left for f in o["metadata"].get("finalizers") or ())
    remaining = ", ".join(f"{kind} has {n} resource instances" for kind, n in sorted(kinds.items()))
    held = ", ".join(f"{name} in {n} resource instances" for name, n in sorted(holders.items()))
    finalizers = (
        ("True", "SomeFinalizersRemain", f"{_HELD}: {held}")
        if held
        else ("False", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
    )
    rows = (
        ("NamespaceDeletionDiscoveryFailure", "False", "ResourcesDiscovered", _DISCOVERED),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "ParsedGroupVersions", _PARSED),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", _DELETED),
        ("NamespaceContentRemaining", "True", "SomeResourcesRemain", f"{_REMAINING}: {remaining}"),
        ("NamespaceFinalizersRemaining", *finalizers),
    )
    return [_condition(namespace, row, now_s) for row in rows]


def _condition(namespace: Object, row: tuple[str, str, str, str], now_s: float) -> dict[str, Any]:
    type_, status, reason, message = row
    known = condition(namespace, type_)
    if known is not None and (known["status"], known["reason"]) == (status, reason):
        if _NUMBER.sub("", known["message"]) == _NUMBER.sub("", message):
            return dict(known)
        since = known["lastTransitionTime"]
    else:
        since = rfc3339(now_s)
    told = {"type": type_, "status": status, "lastTransitionTime": since}
    return {**told, "reason": reason, "message": message}


def _is_terminating(namespace: Object | None) -> bool:
    return namespace is not None and bool(namespace["metadata"].get("deletionTimestamp"))
