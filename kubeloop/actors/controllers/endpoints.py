"""Endpoints: the older form of EndpointSlices, one object a Service, for clients that read it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.controllers.backends import (
    INDEXES,
    PODS,
    SERVICES,
    Backend,
    Port,
    backends,
    has_selector,
    services_of,
    target_of,
    trigger_time,
)
from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

ENDPOINTS: Final = "endpoints"
MANAGED_BY: Final = "endpoints.kubernetes.io/managed-by"
MANAGER: Final = "endpoint-controller"
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS: Final = "service.kubernetes.io/headless"
ADDRESSES_MAX: Final = 1000  # As Kubernetes cuts them.
OVER_CAPACITY: Final = "endpoints.kubernetes.io/over-capacity"


class EndpointsController:
    """Work items are Services."""

    name = "endpoint-controller"
    resources = (SERVICES, PODS, ENDPOINTS)
    indexes: Mapping[tuple[str, str], Index] = INDEXES

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, namespace, name = split(key)
        if resource == PODS:
            yield from services_of(key, before, after, view)
        else:
            yield key_of(SERVICES, namespace, name)

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, namespace, name = split(key)
        service, known = view.get(SERVICES, namespace, name), view.get(ENDPOINTS, namespace, name)
        if service is None:
            ours = known is not None and MANAGED_BY in (known["metadata"].get("labels") or {})
            if known is None or not ours:
                return NOTHING
            return Result([Action(self._write.delete(known), gone_is_fine=True)])
        if not has_selector(service):
            return NOTHING
        found = backends(service, view)
        wanted = self._wanted(service, found, known)
        if known is None:
            return Result([Action(self._write.create(wanted))])
        same = (known.get("subsets") or []) == (wanted.get("subsets") or [])
        if same and known["metadata"].get("labels") == wanted["metadata"]["labels"]:
            return NOTHING
        return Result([Action(self._write.update(wanted))])

    def _wanted(
        self, service: Object, found: Sequence[Backend], known: Object | None
    ) -> dict[str, Any]:
        metadata = service["metadata"]
        labels = {**(metadata.get("labels") or {}), MANAGED_BY: MANAGER}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        base = known["metadata"] if known is not None else {}
        annotations = {**(base.get("annotations") or {}), TRIGGER: trigger_time(service, found)}
        annotations.pop(OVER_CAPACITY, None)
        if len(found) > ADDRESSES_MAX:
            annotations[OVER_CAPACITY] = "truncated"
        told = {"name": metadata["name"], "namespace": metadata["namespace"], "labels": labels}
        obj: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {**base, **told, "annotations": annotations},
        }
        subsets = _subsets(found[:ADDRESSES_MAX])
        if subsets:
            obj["subsets"] = subsets
        return obj


def _subsets(found: Sequence[Backend]) -> list[dict[str, Any]]:
    """Return the backends, those with the same ports together; ready and not ready apart."""
    groups: dict[tuple[Port, ...], list[Backend]] = {}
    for backend in found:
        if not backend.terminating or backend.ready:
            groups.setdefault(backend.ports, []).append(backend)
    subsets = []
    for ports in sorted(groups, key=lambda ports: [(p.name, p.port) for p in ports]):
        subset: dict[str, Any] = {}
        ready = [_address(b) for b in groups[ports] if b.ready]
        others = [_address(b) for b in groups[ports] if not b.ready]
        if ready:
            subset["addresses"] = ready
        if others:
            subset["notReadyAddresses"] = others
        if ports:
            subset["ports"] = [port.document() for port in ports]
        subsets.append(subset)
    return subsets


def _address(backend: Backend) -> dict[str, Any]:
    told: dict[str, Any] = {"ip": backend.ip}
    if backend.pod["spec"].get("nodeName"):
        told["nodeName"] = backend.pod["spec"]["nodeName"]
    told["targetRef"] = target_of(backend.pod)
    return told
