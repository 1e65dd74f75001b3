"""LoadBalancer Services get an address of a pool, as a cloud's controller would give them one.

One work item stands for all Services, so that no two are ever given one address: what one look has
given is seen by the next. A Service with a `loadBalancerClass` is another controller's.
Source: Kubernetes, "Service: type LoadBalancer"; k8s.io/cloud-provider's service controller.
"""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kubeloop.actors.controllers.base import Action, Event, Result, Writer, split
from kubeloop.actors.controllers.settings import Settings
from kubeloop.actors.view import Index, Object, View

_SERVICES: Final = "services"
_ALL: Final = "load-balancers"
FINALIZER: Final = "service.kubernetes.io/load-balancer-cleanup"


class LoadBalancerController:
    """The only work item stands for all Services."""

    name = "service-controller"
    resources = (_SERVICES,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self, settings: Settings) -> None:
        self._write = Writer(self.name)
        self._pool = settings.load_balancer_cidr

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        if not self._pool or split(key)[0] != _SERVICES:
            return
        if any(obj is not None and (wants(obj) or has(obj)) for obj in (before, after)):
            yield _ALL

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        services = sorted(
            view.list(_SERVICES), key=lambda s: (s["metadata"]["creationTimestamp"], _name(s))
        )
        given = {ip: _name(s) for s in services if wants(s) for ip in addresses(s)}
        actions: list[Action] = []
        events: list[Event] = []
        for service in services:
            if not wants(service):
                if has(service):
                    actions += self._take(service)
                continue
            if given.get(next(iter(addresses(service)), ""), "") == _name(service):
                if FINALIZER not in _finalizers(service):
                    actions.append(self._finalize(service, [*_finalizers(service), FINALIZER]))
                continue
            ip, why = choose(service, self._pool, given)
            if ip:
                given[ip] = _name(service)
                actions += self._give(service, ip)
            else:
                message = f"Error syncing load balancer: failed to ensure load balancer: {why}"
                events.append(Event(service, "Warning", "SyncLoadBalancerFailed", message))
        return Result(actions, events)

    def _give(self, service: Object, ip: str) -> Iterator[Action]:
        if FINALIZER not in _finalizers(service):
            started = Event(service, "Normal", "EnsuringLoadBalancer", "Ensuring load balancer")
            yield self._finalize(service, [*_finalizers(service), FINALIZER], started)
        status = {"loadBalancer": {"ingress": [{"ip": ip, "ipMode": "VIP"}]}}
        done = Event(service, "Normal", "EnsuredLoadBalancer", "Ensured load balancer")
        patch = self._write.patch(service, {"status": status}, subresource="status")
        yield Action(patch, success=done, gone_is_fine=True)

    def _take(self, service: Object) -> Iterator[Action]:
        if addresses(service):
            patch = {"status": {"loadBalancer": {"ingress": None}}}
            request = self._write.patch(service, patch, subresource="status")
            yield Action(request, gone_is_fine=True)
        else:  # Last: without it nobody knows any more that the addresses are ours.
            left = [name for name in _finalizers(service) if name != FINALIZER]
            done = Event(service, "Normal", "DeletedLoadBalancer", "Deleted load balancer")
            yield self._finalize(service, left, done)

    def _finalize(self, service: Object, names: list[str], event: Event | None = None) -> Action:
        """Return the write of the finalizers, at the version they were read of."""
        version = service["metadata"]["resourceVersion"]
        patch = {"metadata": {"finalizers": names or None, "resourceVersion": version}}
        return Action(self._write.patch(service, patch), success=event, gone_is_fine=True)


def wants(service: Object) -> bool:
    """Tell whether a Service is to have an address of ours."""
    spec = service.get("spec") or {}
    return (
        spec.get("type") == "LoadBalancer"
        and not spec.get("loadBalancerClass")
        and not service["metadata"].get("deletionTimestamp")
    )


def has(service: Object) -> bool:
    """Tell whether a Service has what we once gave it."""
    return FINALIZER in _finalizers(service)


def addresses(service: Object) -> list[str]:
    """Return the addresses of a Service's load balancer."""
    balancer = (service.get("status") or {}).get("loadBalancer") or {}
    return [i["ip"] for i in balancer.get("ingress") or () if i.get("ip")]


def choose(service: Object, pool: str, given: Mapping[str, str]) -> tuple[str, str]:
    """Return (an address, ""), or ("", why there is none).

    pool: CIDR, whose first and last addresses are never given;  given: those that are, to whom.
    """
    network = ipaddress.ip_network(pool)
    asked: Any = (service.get("spec") or {}).get("loadBalancerIP")
    if asked:
        try:
            inside = ipaddress.ip_address(asked) in network
        except ValueError:
            inside = False
        if not inside:
            return "", f"the address {asked} that spec.loadBalancerIP wants is not of {pool}"
        if given.get(asked, _name(service)) != _name(service):
            return "", f"the address {asked} is that of the Service {given[asked]}"
        return asked, ""
    for address in network.hosts():
        if str(address) not in given:
            return str(address), ""
    return "", f"every address of {pool} is given"


def _name(service: Object) -> str:
    return f"{service['metadata']['namespace']}/{service['metadata']['name']}"


def _finalizers(service: Object) -> list[str]:
    return list(service["metadata"].get("finalizers") or ())
