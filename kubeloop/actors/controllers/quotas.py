"""ResourceQuotas: their status tells what is limited, and how much of it is used.

Admission adds to `used` what each new object takes, in the transaction that makes the object. Here
all is counted anew whenever something changes, so that what goes is given back. The count is
written at the version of the quota it was made of: whoever was admitted meanwhile has changed the
quota, the write is refused, and what is there by then is counted.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    own_namespace,
    split,
)
from kubeloop.actors.view import CUSTOM, Index, Object, View
from kubeloop.api.pod_resources import read
from kubeloop.api.resources import RESOURCES
from kubeloop.api.usage import QUOTAS, counted_by, used
from kubeloop.store.facts import key_of

_UNCOUNTED: Final = ("events", "events.events.k8s.io", "leases.coordination.k8s.io")
"""Kinds of which there is always something new, and which no quota is ever about."""


class ResourceQuotaController:
    """Work items are ResourceQuotas."""

    name = "resourcequota-controller"

    def __init__(self) -> None:
        built_in = (row.id for row in RESOURCES.values() if row.namespaced)
        self.resources = (*(id_ for id_ in built_in if id_ not in _UNCOUNTED), CUSTOM)
        self.indexes: Mapping[tuple[str, str], Index] = {
            (id_, "namespace"): own_namespace for id_ in self.resources
        }
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, _ = split(key)
        if resource == QUOTAS:
            yield key
        for quota in view.by(QUOTAS, "namespace", namespace):
            hard = (quota.get("spec") or {}).get("hard") or {}
            if any(counted_by(name) == resource for name in hard):
                yield key_of(QUOTAS, namespace, quota["metadata"]["name"])

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        quota = view.get(*split(key))
        if quota is None or quota["metadata"].get("deletionTimestamp"):
            return NOTHING
        hard = (quota.get("spec") or {}).get("hard") or {}
        told = used(dict(quota), hard, self._objects(quota, hard, view))
        status: dict[str, Any] = {"hard": dict(hard), "used": {k: str(v) for k, v in told.items()}}
        was = quota.get("status") or {}
        if was.get("hard") == status["hard"] and _same(was.get("used"), status["used"]):
            return NOTHING
        status = {field: given for field, given in status.items() if given}
        if status == was:
            return NOTHING
        request = self._write.update({**quota, "status": status}, subresource="status")
        return Result([Action(request, gone_is_fine=True)])

    def _objects(
        self, quota: Object, hard: Iterable[str], view: View
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what takes of a quota, by kind."""
        namespace = quota["metadata"]["namespace"]
        for id_ in dict.fromkeys(map(counted_by, hard)):
            if id_ in self.resources or id_ not in RESOURCES:
                for obj in view.by(id_, "namespace", namespace):
                    yield id_, dict(obj)


def _same(one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> bool:
    """Tell whether two amounts are equal, however they are written."""
    had, has = read(one), read(other)
    return had.keys() == has.keys() and all(had[k].number == has[k].number for k in had)
