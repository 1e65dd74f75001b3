"""Every address is of one, and in its range.

Source: Kubernetes, "Service: Choosing your own IP address, type: NodePort"; KEP-3070; "Cluster
Networking" (every Pod has its own IP).
"""

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

from kubeloop.chaos.invariants.tale import (
    DONE,
    PODS,
    SERVICES,
    Change,
    Object,
    Tale,
    Watcher,
    called,
    is_ending,
)
from kubeloop.chaos.watching import Broken
from kubeloop.store.facts import prefix_of

_RANGES: Final = "ranges"
_PORT_TYPES: Final = ("NodePort", "LoadBalancer")


class Addresses(Watcher):
    """No address is given twice.

    - A ClusterIP, and a node port of a protocol, is of one Service, and inside the range that the
      API server was given. At rest what is set aside for Services is what they have: an address is
      free again when its Service is gone.
    - No two pods that have neither finished nor are being deleted have one IP, but those that use
      their node's. A node that lost its power gives addresses anew, before the API has heard that
      those who had them are gone: while things are broken that is as it must be.
    """

    name = "addresses"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self._taken: dict[str, dict[str, None]] = {}  # What → keys of the objects that have it.
        self._has: dict[str, list[str]] = {}  # The key of an object → what it has.

    def see(self, change: Change) -> None:
        if change.resource == SERVICES:
            has = [] if change.after is None else list(self._of_service(change.after))
        elif change.resource == PODS:
            has = [] if change.after is None else list(_of_pod(change.after))
        else:
            return
        key = change.fact.key
        for what in self._has.pop(key, ()):
            del self._taken[what][key]
            if not self._taken[what]:
                del self._taken[what]
        for what in has:
            owners = self._taken.setdefault(what, {})
            if owners and (change.resource == SERVICES or self.tale.is_calm):
                raise Broken(
                    f"revision {change.fact.revision}: {called(key)} has {what}, which "
                    f"{called(next(iter(owners)))} has already"
                )
            owners[key] = None
        if has:
            self._has[key] = has

    def rest(self) -> None:
        for what, owners in self._taken.items():
            if len(owners) > 1:
                names = " and ".join(map(called, owners))
                raise Broken(f"{names} have {what} at rest")
        store = self.tale.cluster.store
        items = store.list(prefix_of(_RANGES), revision=store.durable).items
        claimed = {item.key.rpartition("/")[2] for item in items}
        services = self.tale.view.list(SERVICES)
        used = {name for service in services for name in _claims(service)}
        for name in sorted(claimed ^ used):
            if name in claimed:
                raise Broken(f"{name} is set aside at rest, and no Service has it")
            raise Broken(
                f"{name} is a Service's at rest, and is not set aside: it may be given again"
            )

    def _of_service(self, service: Object) -> Iterator[str]:
        settings = self.tale.cluster.api_settings
        first, last = settings.node_ports
        for address in _ips(service):
            if ip_address(address) not in ip_network(settings.service_cidr):
                raise Broken(
                    f"Service {service['metadata']['name']} has clusterIP {address}, which is not "
                    f"in {settings.service_cidr}"
                )
            yield f"clusterIP {address}"
        for protocol, port in _ports(service):
            if not first <= port <= last:
                raise Broken(
                    f"Service {service['metadata']['name']} has nodePort {port}, which is not in "
                    f"{first}-{last}"
                )
            yield f"nodePort {protocol} {port}"


def _of_pod(pod: Object) -> Iterator[str]:
    status = pod.get("status") or {}
    shared = pod["spec"].get("hostNetwork") or is_ending(pod) or status.get("phase") in DONE
    if status.get("podIP") and not shared:
        yield f"pod IP {status['podIP']}"


def _claims(service: Object) -> Iterator[str]:
    yield from _ips(service)
    for protocol, port in _ports(service):
        yield f"{protocol}-{port}"


def _ips(service: Object) -> list[str]:
    return [ip for ip in (service["spec"].get("clusterIPs") or ()) if ip != "None"]


def _ports(service: Object) -> Iterator[tuple[str, int]]:
    if service["spec"].get("type") in _PORT_TYPES:
        for port in service["spec"].get("ports") or ():
            if port.get("nodePort"):
                yield port.get("protocol", "TCP"), port["nodePort"]
