"""Services and EndpointSlices → a table of rules. Pure, and incremental.

A rule says where a node must listen for one port of one Service and which endpoints may answer.
What changed touches the rules of its own Service only, so the cost of a change does not grow with
the number of Services. Source: Kubernetes, "Virtual IPs and Service Proxies".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

Object = Mapping[str, Any]

SERVICE_NAME: Final = "kubernetes.io/service-name"
_NODE_PORT_TYPES: Final = ("NodePort", "LoadBalancer")
_AFFINITY_DEFAULT_S: Final = 10_800
BALANCING: Final = "kubeloop.dev/balancing"  # An annotation of Services.
RANDOM: Final = "random"  # As Kubernetes does it.
BALANCINGS: Final = (RANDOM, "round-robin", "least-connections", "maglev")


class Place(NamedTuple):
    """Where a rule listens. ip: the Service's own address; "" for a port of the node."""

    ip: str
    port: int
    protocol: str


Kind = Literal["ClusterIP", "NodePort", "LoadBalancer", "ExternalIP", "HealthCheck"]


class Endpoint(NamedTuple):
    """Where a connection may go."""

    ip: str
    port: int


@dataclass(frozen=True, slots=True)
class Rule:
    """One port of one Service on one node.

    service:    "default/web";  port_name: "http", "" if the only port has no name.
    kind:       where that is: ClusterIPs are inside pods, all else is on hosts. A HealthCheck tells
                balancers how many `endpoints` there are on this node, and carries nothing.
    endpoints:  sorted; empty: connections are refused.
    affinity_s: how long a client stays with its endpoint [s]; 0: not at all.
    balancing:  how an endpoint is chosen: one of BALANCINGS.
    """

    service: str
    port_name: str
    place: Place
    kind: Kind
    endpoints: tuple[Endpoint, ...]
    affinity_s: int = 0
    balancing: str = RANDOM


def rules_of(service: Object, slices: Iterable[Object], node: str, zone: str = "") -> list[Rule]:
    """Return the rules of one Service as `node` must apply them. zone: the node's, if known."""
    spec, metadata = service.get("spec", {}), service["metadata"]
    address = spec.get("clusterIP")
    if spec.get("type") == "ExternalName" or address in (None, "", "None"):
        return []
    name = f"{metadata['namespace']}/{metadata['name']}"
    slices, affinity_s, balancing = list(slices), _affinity_s(spec), balancing_of(service)
    balancing = balancing if balancing in BALANCINGS else RANDOM
    inside = node if spec.get("internalTrafficPolicy") == "Local" else ""
    outside = node if spec.get("externalTrafficPolicy") == "Local" else ""
    check = outside and spec.get("type") == "LoadBalancer" and spec.get("healthCheckNodePort")
    rules, here = [], set[str]()
    for port in spec.get("ports") or ():
        port_name, protocol = port.get("name", ""), port.get("protocol", "TCP")
        found = _candidates(slices, port_name, protocol)
        near = _near(found, node, zone)
        from_inside = _choose(found if inside else near, inside)
        from_outside = (
            from_inside if inside == outside else _choose(found if outside else near, outside)
        )
        if check:
            here |= {c.endpoint.ip for c in found if c.ready and c.node == node}
        for kind, ip, number in _places(service, port):
            endpoints = from_inside if kind == "ClusterIP" else from_outside
            if kind == "LoadBalancer" and outside and not endpoints:
                continue  # Its balancer leaves a node alone that has none.
            place = Place(ip, number, protocol)
            rules.append(Rule(name, port_name, place, kind, endpoints, affinity_s, balancing))
    if check:
        there = tuple(Endpoint(ip, 0) for ip in sorted(here))
        rules.append(Rule(name, "", Place("", check, "TCP"), "HealthCheck", there))
    return rules


def balancing_of(service: Object) -> str:
    """Return how a Service wants its endpoints chosen, whether there is such a way or not."""
    annotations = service["metadata"].get("annotations") or {}
    return str(annotations.get(BALANCING, RANDOM))


def _places(service: Object, port: Mapping[str, Any]) -> Iterator[tuple[Kind, str, int]]:
    """Yield (kind, address, port) of all where one port of a Service is to be had."""
    spec = service["spec"]
    yield "ClusterIP", spec["clusterIP"], port["port"]
    if spec.get("type") in _NODE_PORT_TYPES and port.get("nodePort"):
        yield "NodePort", "", port["nodePort"]
    for ip in spec.get("externalIPs") or ():
        yield "ExternalIP", ip, port["port"]
    if spec.get("type") == "LoadBalancer":
        balancer = (service.get("status") or {}).get("loadBalancer") or {}
        for ingress in balancer.get("ingress") or ():
            if ingress.get("ip") and ingress.get("ipMode", "VIP") == "VIP":
                yield "LoadBalancer", ingress["ip"], port["port"]


class _Candidate(NamedTuple):
    """An endpoint, ready or not.

    fallback: it serves still while it terminates.
    hints:    for which nodes and zones it is best, as its slice has it.
    """

    endpoint: Endpoint
    node: str
    ready: bool
    fallback: bool
    hints: Mapping[str, Any]


def _candidates(slices: Sequence[Object], port_name: str, protocol: str) -> list[_Candidate]:
    """Return the endpoints behind one port, ready or not."""
    found = []
    for slice_ in slices:
        numbers = [
            p["port"]
            for p in slice_.get("ports") or ()
            if (p.get("name") or "") == port_name
            and (p.get("protocol") or "TCP") == protocol
            and p.get("port")
        ]
        for endpoint in slice_.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            # An absent condition means unknown, and unknown is to be taken for ready.
            ready = conditions.get("ready") is not False
            serving = conditions.get("serving", ready) is not False
            fallback = serving and conditions.get("terminating") is True
            node, hints = endpoint.get("nodeName") or "", endpoint.get("hints") or {}
            found += [
                _Candidate(Endpoint(ip, number), node, ready, fallback, hints)
                for number in numbers
                for ip in endpoint.get("addresses") or ()
            ]
    return found


def _near(found: Sequence[_Candidate], node: str, zone: str) -> Sequence[_Candidate]:
    """Return the ready endpoints that are best for a node, if their hints leave it any; else all.

    Hints count only if every ready endpoint has them, so that none is left without traffic.
    Source: Kubernetes, "Topology aware routing", "Safeguards"; KEP-3015.
    """
    if not any(c.hints for c in found):
        return found
    for field, here in (("forNodes", node), ("forZones", zone)):
        ready = [c for c in found if c.ready] if here else []
        if ready and all(c.hints.get(field) for c in ready):
            best = [c for c in ready if any(h.get("name") == here for h in c.hints[field])]
            if best:
                return best
    return found


def _choose(found: Sequence[_Candidate], local_to: str) -> tuple[Endpoint, ...]:
    """Return the ready endpoints; if there are none, those that still serve while terminating."""
    mine = [c for c in found if c.node == local_to] if local_to else found
    ready = {c.endpoint for c in mine if c.ready} or {c.endpoint for c in mine if c.fallback}
    return tuple(sorted(ready))


def _affinity_s(spec: Object) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    config = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(config.get("timeoutSeconds") or _AFFINITY_DEFAULT_S)


class RuleTable:
    """The rules of one node, by place.

    When two Services want one place, the one that came first has it, and the next gets it after
    (the API server does not let that happen by itself).
    """

    def __init__(self, node: str, zone: str = "") -> None:
        self.node, self.zone = node, zone
        self.rules: dict[Place, Rule] = {}
        self._claims: dict[Place, dict[str, Rule]] = {}
        self._places: dict[str, frozenset[Place]] = {}

    def replace(
        self, name: str, service: Object | None, slices: Iterable[Object]
    ) -> dict[Place, Rule | None]:
        """Recompute one Service, None if it is gone; return what changed, None where to stop.

        name: "default/web".
        """
        rules = rules_of(service, slices, self.node, self.zone) if service is not None else []
        wanted = {rule.place: rule for rule in rules}
        touched = self._places.pop(name, frozenset()) | wanted.keys()
        if wanted:
            self._places[name] = frozenset(wanted)
        changes: dict[Place, Rule | None] = {}
        for place in sorted(touched):
            claims = self._claims.setdefault(place, {})
            if place in wanted:
                claims[name] = wanted[place]
            else:
                claims.pop(name, None)
            winner = next(iter(claims.values()), None)
            if winner != self.rules.get(place):
                changes[place] = winner
            if winner is None:
                del self._claims[place]
                self.rules.pop(place, None)
            else:
                self.rules[place] = winner
        return changes
