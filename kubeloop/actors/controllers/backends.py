"""Which pods stand behind a Service, and on which ports. Pure; for both endpoint controllers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.actors.controllers.base import DONE_PHASES, is_ready, own_namespace, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.selectors import set_selector
from kubeloop.store.facts import key_of

SERVICES: Final = "services"
PODS: Final = "pods"
INDEXES: Final[Mapping[tuple[str, str], Index]] = {
    (SERVICES, "namespace"): own_namespace,
    (PODS, "namespace"): own_namespace,
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port of an endpoint, resolved to a number."""

    name: str
    port: int
    protocol: str
    app_protocol: str = ""

    def document(self) -> dict[str, Any]:
        """Return it as EndpointSlices and Endpoints write it."""
        told: dict[str, Any] = {"name": self.name} if self.name else {}
        told |= {"port": self.port, "protocol": self.protocol}
        if self.app_protocol:
            told["appProtocol"] = self.app_protocol
        return told


@dataclass(frozen=True, slots=True)
class Backend:
    """A pod behind a Service."""

    pod: Object
    ip: str
    ports: tuple[Port, ...]
    ready: bool
    serving: bool
    terminating: bool


def backends(service: Object, view: View) -> list[Backend]:
    """Return the pods a Service's selector chooses that have an address, in the order of their
    addresses."""
    metadata, spec = service["metadata"], service["spec"]
    selector = set_selector(spec["selector"])
    always = bool(spec.get("publishNotReadyAddresses"))
    found = []
    for pod in view.by(PODS, "namespace", metadata["namespace"]):
        status = pod.get("status") or {}
        if not status.get("podIP") or status.get("phase") in DONE_PHASES:
            continue
        if not selector.matches(pod["metadata"].get("labels") or {}):
            continue
        serving, ending = is_ready(pod), bool(pod["metadata"].get("deletionTimestamp"))
        ready = always or (serving and not ending)
        ports = tuple(_ports(spec, pod))
        found.append(Backend(pod, status["podIP"], ports, ready, serving, ending))
    return sorted(found, key=lambda b: tuple(int(part) for part in b.ip.split(".")))


def services_of(key: str, before: Object | None, after: Object | None, view: View) -> Iterator[str]:
    """Yield the keys of the Services that the change of a pod touches."""
    _, namespace, _ = split(key)
    if before is not None and after is not None and not _matters(before, after):
        return
    labels = [p["metadata"].get("labels") or {} for p in (before, after) if p is not None]
    for service in view.by(SERVICES, "namespace", namespace):
        selector = (service.get("spec") or {}).get("selector")
        if selector and any(set_selector(selector).matches(told) for told in labels):
            yield key_of(SERVICES, namespace, service["metadata"]["name"])


def has_selector(service: Object | None) -> bool:
    """Tell whether a Service's endpoints are ours to keep."""
    if service is None or service["metadata"].get("deletionTimestamp"):
        return False
    spec = service.get("spec") or {}
    return bool(spec.get("selector")) and spec.get("type") != "ExternalName"


def target_of(pod: Object) -> dict[str, Any]:
    """Return the reference to a pod that endpoints carry."""
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def trigger_time(service: Object, found: Iterable[Backend]) -> str:
    """Return when what led to these endpoints happened: the newest change we can date."""
    times = [service["metadata"]["creationTimestamp"]]
    conditions = [c for b in found for c in (b.pod.get("status") or {}).get("conditions") or ()]
    times += [c["lastTransitionTime"] for c in conditions if c["type"] == "Ready"]
    return str(max(times))


def _matters(before: Object, after: Object) -> bool:
    """Tell whether two versions of a pod differ in what endpoints show of it."""
    return _shown(before) != _shown(after)


def _shown(pod: Object) -> tuple[Any, ...]:
    status, metadata = pod.get("status") or {}, pod["metadata"]
    return (
        metadata.get("labels"),
        metadata.get("deletionTimestamp") is None,
        status.get("podIP"),
        status.get("phase") in DONE_PHASES,
        is_ready(pod),
        pod["spec"].get("nodeName"),
    )


def _ports(spec: Mapping[str, Any], pod: Object) -> Iterator[Port]:
    for port in spec.get("ports") or ():
        number = _number(port, pod)
        if number is not None:
            protocol = port.get("protocol", "TCP")
            yield Port(port.get("name", ""), number, protocol, port.get("appProtocol", ""))


def _number(port: Mapping[str, Any], pod: Object) -> int | None:
    """Return the number of a target port; None if the pod has no port of that name."""
    target = port.get("targetPort") or port["port"]
    if isinstance(target, int):
        return target
    spec, protocol = pod["spec"], port.get("protocol", "TCP")
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        for known in container.get("ports") or ():
            if known.get("name") == target and known.get("protocol", "TCP") == protocol:
                return int(known["containerPort"])
    return None
