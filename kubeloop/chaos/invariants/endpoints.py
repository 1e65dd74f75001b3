"""EndpointSlices and Endpoints name the pods behind a Service: all that are ready, no others.

Source: Kubernetes, "Service: EndpointSlices, Endpoints"; "EndpointSlices: Conditions".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from kubeloop.chaos.invariants.tale import (
    DONE,
    ENDPOINTS,
    PODS,
    SERVICES,
    SLICES,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    full_name,
    is_ending,
    is_true,
    uid_of,
)
from kubeloop.chaos.watching import Broken

_MANAGED: Final = "endpointslice.kubernetes.io/managed-by"
_MANAGER: Final = "endpointslice-controller.k8s.io"


class Backend(NamedTuple):
    """A pod behind a Service, as slices tell of it."""

    uid: str
    ip: str
    ports: tuple[tuple[str, int, str], ...]
    ready: bool
    serving: bool
    terminating: bool


class Endpoints(Watcher):
    """What is written of a Service's pods is true, after a while.

    - No slice tells that a pod is ready which is not, or is being deleted, or is gone, for long;
      see `Tale.is_late`. Unless the Service publishes such addresses.
    - At rest the slices of each Service with a selector name just the pods it selects that have
      an address and have not finished, each once, with the conditions they have and the ports the
      Service names; and Endpoints name the same, those being deleted left out.
    """

    name = "endpoints"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._ready: dict[str, dict[str, str]] = {}  # Key of a slice → uid → pod: told to be ready.
        self._able: set[str] = set()  # Uids of the pods that are.
        self._wrong: dict[tuple[str, str], float] = {}  # (slice, uid) → since when that is untrue.

    def see(self, change: Change) -> None:
        if change.resource == PODS:
            pod = change.either
            if change.after is not None and is_true(pod, "Ready") and not is_ending(pod):
                self._able.add(uid_of(pod))
            else:
                self._able.discard(uid_of(pod))
        elif change.resource == SLICES:
            self._ready.pop(change.fact.key, None)
            if change.after is not None:
                told = dict(_told_ready(change.after))
                if told and not self._publishes(change.after):
                    self._ready[change.fact.key] = told

    def look(self) -> None:
        now_s, wrong = self.tale.now_s, self._wrong
        self._wrong = {}
        for key, told in self._ready.items():
            for uid in told.keys() - self._able:
                since = self._wrong[key, uid] = wrong.get((key, uid), now_s)
                if self.tale.is_late(since):
                    raise Broken(
                        f"{called(key)} tells that pod {told[uid]} (uid {uid}) is ready, which "
                        f"has not been so for {now_s - since:.0f} s"
                    )

    def rest(self) -> None:
        for service in self.tale.view.list(SERVICES):
            if service["spec"].get("selector") and service["spec"].get("type") != "ExternalName":
                wanted = sorted(backends_of(service, self.tale))
                self._check_slices(service, wanted)
                self._check_endpoints(service, wanted)

    def _check_slices(self, service: Object, wanted: Sequence[Backend]) -> None:
        slices = [
            s
            for s in self.tale.view.by(SLICES, "service", full_name(service))
            if (s["metadata"].get("labels") or {}).get(_MANAGED) == _MANAGER
        ]
        _compare(service, "EndpointSlices", sorted(b for s in slices for b in _of_slice(s)), wanted)

    def _check_endpoints(self, service: Object, wanted: Sequence[Backend]) -> None:
        name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
        obj = self.tale.view.get(ENDPOINTS, namespace, name)
        told = sorted(_of_endpoints(obj)) if obj is not None else []
        there = sorted(
            (b.uid, b.ip, b.ports, b.ready) for b in wanted if b.ready or not b.terminating
        )
        _compare(service, "Endpoints", told, there)

    def _publishes(self, slice_: Object) -> bool:
        """Tell whether a slice's Service wants also those told that are not ready."""
        metadata = slice_["metadata"]
        name = (metadata.get("labels") or {}).get("kubernetes.io/service-name", "")
        service = self.tale.view.get(SERVICES, metadata["namespace"], name)
        return service is not None and bool(service["spec"].get("publishNotReadyAddresses"))


def backends_of(service: Object, tale: Tale) -> Iterator[Backend]:
    """Yield the pods behind a Service: its selector's, with an address, that have not finished."""
    spec = service["spec"]
    always, wanted = bool(spec.get("publishNotReadyAddresses")), spec["selector"].items()
    for pod in tale.view.list(PODS):
        status = pod.get("status") or {}
        same = pod["metadata"].get("namespace") == service["metadata"]["namespace"]
        if not same or not status.get("podIP") or status.get("phase") in DONE:
            continue
        if not wanted <= (pod["metadata"].get("labels") or {}).items():
            continue
        ports = tuple(_ports(spec, pod))
        if ports or not spec.get("ports"):
            serving, ending = is_true(pod, "Ready"), is_ending(pod)
            ready = always or (serving and not ending)
            yield Backend(uid_of(pod), status["podIP"], ports, ready, serving, ending)


def _ports(spec: Mapping[str, Any], pod: Object) -> Iterator[tuple[str, int, str]]:
    for port in spec.get("ports") or ():
        target, protocol = port.get("targetPort") or port["port"], port.get("protocol", "TCP")
        if not isinstance(target, int):
            named = [
                p["containerPort"]
                for c in (*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ()))
                for p in c.get("ports") or ()
                if p.get("name") == target and p.get("protocol", "TCP") == protocol
            ]
            if not named:
                continue
            target = named[0]
        yield port.get("name") or "", target, protocol


def _of_slice(slice_: Object) -> Iterator[Backend]:
    ports = _told_ports(slice_)
    for endpoint in slice_.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        yield Backend(
            (endpoint.get("targetRef") or {}).get("uid", ""),
            ",".join(endpoint.get("addresses") or ()),
            ports,
            bool(conditions.get("ready")),
            bool(conditions.get("serving")),
            bool(conditions.get("terminating")),
        )


def _of_endpoints(obj: Object) -> Iterator[tuple[Any, ...]]:
    for subset in obj.get("subsets") or ():
        for field in ("addresses", "notReadyAddresses"):
            for address in subset.get(field) or ():
                uid = (address.get("targetRef") or {}).get("uid", "")
                yield uid, address["ip"], _told_ports(subset), field == "addresses"


def _told_ports(told: Mapping[str, Any]) -> tuple[tuple[str, int, str], ...]:
    ports = told.get("ports") or ()
    return tuple((p.get("name") or "", p["port"], p.get("protocol", "TCP")) for p in ports)


def _told_ready(slice_: Object) -> Iterator[tuple[str, str]]:
    """Yield (uid, name) of the pods a slice says are ready."""
    for endpoint in slice_.get("endpoints") or ():
        target = endpoint.get("targetRef") or {}
        if target.get("kind") == "Pod" and (endpoint.get("conditions") or {}).get("ready"):
            yield target["uid"], target["name"]


def _compare(service: Object, what: str, told: Sequence[Any], wanted: Sequence[Any]) -> None:
    if list(told) != list(wanted):
        raise Broken(
            f"Service {full_name(service)}: at rest its {what} name {list(told)}, and there are "
            f"{list(wanted)}"
        )
