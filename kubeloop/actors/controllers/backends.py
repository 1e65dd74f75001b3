"""Which pods stand behind a Service, and on which ports. Pure; for both endpoint controllers."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeloop.actors.controllers.base import DONE_PHASES, is_ready, split
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.selectors import set_selector
from kubeloop.store.facts import key_of

SERVICES: Final = "services"
PODS: Final = "pods"


def _labels_of_pod(pod: Object) -> list[str]:
    """Index: the labels of a pod, each within its namespace."""
    metadata = pod["metadata"]
    namespace = metadata.get("namespace", "")
    return [f"{namespace}/{k}={v}" for k, v in (metadata.get("labels") or {}).items()]


def _label_of_service(service: Object) -> list[str]:
    """Index: one label that every pod behind a Service has."""
    selector = (service.get("spec") or {}).get("selector")
    if not selector:
        return []
    key, value = min(selector.items())
    return [f"{service['metadata'].get('namespace', '')}/{key}={value}"]


INDEXES: Final[Mapping[tuple[str, str], Index]] = {
    (SERVICES, "label"): _label_of_service,
    (PODS, "label"): _labels_of_pod,
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
    """Return the pods a Service's selector chooses that have an address, ordered by it as text.

    That is the order in which Kubernetes lists them.
    """
    spec = service["spec"]
    selector = set_selector(spec["selector"])
    always = bool(spec.get("publishNotReadyAddresses"))
    found = []
    for pod in _candidates(service, view):
        status = pod.get("status") or {}
        if not status.get("podIP") or status.get("phase") in DONE_PHASES:
            continue
        if not selector.matches(pod["metadata"].get("labels") or {}):
            continue
        serving, ending = is_ready(pod), bool(pod["metadata"].get("deletionTimestamp"))
        ready = always or (serving and not ending)
        ports = tuple(_ports(spec, pod))
        if spec.get("ports") and not ports:
            continue  # It has none of the named ports.
        found.append(Backend(pod, status["podIP"], ports, ready, serving, ending))
    return sorted(found, key=lambda b: (b.ip, b.pod["metadata"]["uid"]))


def _candidates(service: Object, view: View) -> Iterator[Object]:
    """Yield the pods that have that label of the selector which the fewest have."""
    namespace = service["metadata"]["namespace"]
    wanted = [f"{namespace}/{k}={v}" for k, v in service["spec"]["selector"].items()]
    return view.by(PODS, "label", min(wanted, key=lambda pair: view.count(PODS, "label", pair)))


def services_of(key: str, before: Object | None, after: Object | None, view: View) -> Iterator[str]:
    """Yield the keys of the Services that the change of a pod touches."""
    _, namespace, _ = split(key)
    if before is not None and after is not None and not _matters(before, after):
        return
    for pod in (before, after):
        if pod is None:
            continue
        labels = pod["metadata"].get("labels") or {}
        for label in _labels_of_pod(pod):
            for service in view.by(SERVICES, "label", label):
                if set_selector(service["spec"]["selector"]).matches(labels):
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
    times += [c.get("lastTransitionTime") or "" for c in conditions if c["type"] == "Ready"]
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
