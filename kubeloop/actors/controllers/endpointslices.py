"""EndpointSlices: the pods behind each Service, a hundred to a slice.

A slice keeps its endpoints as long as they stand, so that a change touches few slices.
Source: Kubernetes, "EndpointSlices".
"""

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
from kubeloop.actors.controllers.base import NOTHING, Action, Result, Writer, reference_to, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.store.facts import key_of

SLICES: Final = "endpointslices.discovery.k8s.io"
SERVICE_NAME: Final = "kubernetes.io/service-name"
MANAGED_BY: Final = "endpointslice.kubernetes.io/managed-by"
MANAGER: Final = "endpointslice-controller.k8s.io"
TRIGGER: Final = "endpoints.kubernetes.io/last-change-trigger-time"
HEADLESS: Final = "service.kubernetes.io/headless"
NODES: Final = "nodes"
ZONE: Final = "topology.kubernetes.io/zone"
SAME_NODE: Final = "PreferSameNode"
SAME_ZONE: Final = ("PreferClose", "PreferSameZone")  # The first is the second's old name.
ENDPOINTS_MAX: Final = 100  # In a slice; kube-controller-manager's default.


def _service_of(slice_: Object) -> list[str]:
    metadata = slice_["metadata"]
    labels = metadata.get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or SERVICE_NAME not in labels:
        return []
    return [f"{metadata['namespace']}/{labels[SERVICE_NAME]}"]


class EndpointSliceController:
    """Work items are Services."""

    name = "endpointslice-controller"
    resources = (SERVICES, PODS, SLICES, NODES)
    indexes: Mapping[tuple[str, str], Index] = {**INDEXES, (SLICES, "service"): _service_of}

    def __init__(self) -> None:
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        resource, _, _ = split(key)
        if resource == SERVICES:
            yield key
        elif resource == PODS:
            yield from services_of(key, before, after, view)
        elif resource == NODES:
            if zone_of(before) != zone_of(after):  # Rare: nodes do not move.
                for service in view.list(SERVICES):
                    metadata = service["metadata"]
                    yield key_of(SERVICES, metadata["namespace"], metadata["name"])
        else:
            for slice_ in (before, after):
                for name in _service_of(slice_) if slice_ is not None else ():
                    yield f"/registry/{SERVICES}/{name}"

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        _, namespace, name = split(key)
        service = view.get(SERVICES, namespace, name)
        slices = list(view.by(SLICES, "service", f"{namespace}/{name}"))
        if service is None or not has_selector(service):
            return NOTHING  # What a Service leaves behind is the garbage collector's.
        groups: dict[tuple[Port, ...], list[Backend]] = {}
        for backend in backends(service, view):
            groups.setdefault(backend.ports, []).append(backend)
        if not groups:
            groups[()] = []  # A Service nobody stands behind has one empty slice.
        owned = {ports: [s for s in slices if _ports_of(s) == ports] for ports in groups}
        left = [s for s in slices if _ports_of(s) not in owned]
        actions = []
        for ports, found in groups.items():
            if not owned[ports] and left:
                owned[ports].append(left.pop(0))  # One write, where a new one would make two.
            actions += self._pack(service, ports, found, owned[ports], view)
        actions += [Action(self._write.delete(s), gone_is_fine=True) for s in left]
        return Result(actions)

    def _pack(
        self,
        service: Object,
        ports: tuple[Port, ...],
        found: Sequence[Backend],
        slices: list[Object],
        view: View,
    ) -> list[Action]:
        """Return the writes that make `slices` hold exactly these backends."""
        wanted = {b.pod["metadata"]["uid"]: b for b in found}
        kept: list[list[Backend]] = []
        for slice_ in slices:
            uids = [(e.get("targetRef") or {}).get("uid") for e in slice_.get("endpoints") or ()]
            kept.append([wanted.pop(uid) for uid in uids if uid in wanted])
        fresh = list(wanted.values())
        for share in kept:
            room = max(0, ENDPOINTS_MAX - len(share))
            share += fresh[:room]
            fresh = fresh[room:]
        actions = []
        nonempty = any(kept) or bool(fresh)
        for index, (slice_, share) in enumerate(zip(slices, kept, strict=True)):
            if not share and (nonempty or index):
                actions.append(Action(self._write.delete(slice_), gone_is_fine=True))
                continue
            changed = {**slice_, **self._content(service, ports, share, view)}
            changed["metadata"] = self._metadata(service, share, slice_)
            if _told(changed) != _told(slice_):
                actions.append(Action(self._write.update(changed)))
        rest = [fresh[n : n + ENDPOINTS_MAX] for n in range(0, len(fresh), ENDPOINTS_MAX)]
        if not slices and not rest:
            rest = [[]]
        for share in rest:
            made = {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": self._metadata(service, share, None),
                **self._content(service, ports, share, view),
            }
            actions.append(Action(self._write.create(made)))
        return actions

    def _content(
        self, service: Object, ports: tuple[Port, ...], share: Sequence[Backend], view: View
    ) -> dict[str, Any]:
        # Port names are told here even when they are empty.
        told = [{"name": p.name, **p.document()} for p in ports]
        content: dict[str, Any] = {
            "addressType": "IPv4",
            "endpoints": [_endpoint(service, backend, view) for backend in share],
        }
        if told or share:
            content["ports"] = told
        return content

    def _metadata(
        self, service: Object, share: Sequence[Backend], known: Object | None
    ) -> dict[str, Any]:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        labels = {**(service["metadata"].get("labels") or {})}
        if service["spec"].get("clusterIP") == "None":
            labels[HEADLESS] = ""
        labels |= {MANAGED_BY: MANAGER, SERVICE_NAME: name}
        before = (known["metadata"].get("annotations") or {}) if known is not None else {}
        told = {
            "labels": labels,
            "annotations": {**before, TRIGGER: trigger_time(service, share)},
            "ownerReferences": [reference_to(service)],
        }
        if known is not None:
            return {**known["metadata"], **told}
        return {"generateName": f"{name}-", "namespace": namespace, **told}


def zone_of(node: Object | None) -> str:
    """Return the zone a node is in; "" if nothing says."""
    labels = (node or {}).get("metadata", {}).get("labels") or {}
    return str(labels.get(ZONE, ""))


def hints(wish: str, node: str, zone: str) -> dict[str, Any]:
    """Return for whom an endpoint is best, as a Service's `trafficDistribution` has it; {}: anyone.

    Source: Kubernetes, "Service: traffic distribution"; KEP-4444, KEP-3015.
    """
    told: dict[str, Any] = {}
    if zone and wish in (SAME_NODE, *SAME_ZONE):
        told["forZones"] = [{"name": zone}]
    if node and wish == SAME_NODE:
        told["forNodes"] = [{"name": node}]
    return told


def _endpoint(service: Object, backend: Backend, view: View) -> dict[str, Any]:
    pod = backend.pod
    told: dict[str, Any] = {
        "addresses": [backend.ip],
        "conditions": {
            "ready": backend.ready,
            "serving": backend.serving,
            "terminating": backend.terminating,
        },
        "targetRef": target_of(pod),
    }
    if node := pod["spec"].get("nodeName"):
        told["nodeName"] = node
        zone = zone_of(view.get(NODES, "", node))
        if zone:
            told["zone"] = zone
        wish = service["spec"].get("trafficDistribution") or ""
        if backend.ready and (best := hints(wish, node, zone)):
            told["hints"] = best
    if pod["spec"].get("hostname") and pod["spec"].get("subdomain") == service["metadata"]["name"]:
        told["hostname"] = pod["spec"]["hostname"]
    return told


def _ports_of(slice_: Object) -> tuple[Port, ...]:
    return tuple(
        Port(p.get("name") or "", p["port"], p.get("protocol", "TCP"), p.get("appProtocol") or "")
        for p in slice_.get("ports") or ()
    )


def _told(slice_: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what must be right; the trigger time alone is no reason to write."""
    metadata = slice_["metadata"]
    return (
        slice_.get("endpoints") or [],
        _ports_of(slice_),
        metadata.get("labels"),
        metadata.get("ownerReferences"),
    )
