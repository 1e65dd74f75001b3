"""Rules of Services, Endpoints and EndpointSlices."""

import ipaddress
from collections.abc import Callable
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import metadata, probes
from kubeloop.api.validation.containers import PROTOCOLS

KUBELET_PORT: Final = 10250
AFFINITY_SECONDS_MAX: Final = 86400

_TYPES: Final = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_EXPOSED: Final = ("NodePort", "LoadBalancer")
_POLICIES: Final = ("Cluster", "Local")
_ENDPOINTS_MAX: Final = 1000
_ADDRESSES_MAX: Final = 100
_PORTS_MAX: Final = 100


def service(problems: Problems, obj: Json) -> None:
    """Check the spec of a Service."""
    spec = obj.get("spec") or {}
    kind, ports = spec.get("type") or "", items(spec, "ports")
    headless = spec.get("clusterIP") == "None"
    if not ports and not headless and kind != "ExternalName":
        problems.required("spec.ports")
    _type_rules(problems, spec, kind, headless)
    seen: set[str] = set()
    for number, port in enumerate(ports):
        _service_port(problems, f"spec.ports[{number}]", port, len(ports) > 1, seen)
    metadata.labels(problems, "spec.selector", spec.get("selector"))
    _affinity(problems, spec)
    if kind != "ExternalName":
        _addresses(problems, spec)
    for number, address in enumerate(spec.get("externalIPs") or ()):
        _unspecial(problems, f"spec.externalIPs[{number}]", address, names.ip)
    if kind:
        problems.one_of("spec.type", kind, _TYPES)
    else:
        problems.required("spec.type")
    _port_clashes(problems, kind, ports)
    if spec.get("loadBalancerSourceRanges"):
        _source_ranges(problems, kind, spec["loadBalancerSourceRanges"])
    if spec.get("allocateLoadBalancerNodePorts") is not None and kind != "LoadBalancer":
        detail = "may only be used when `type` is 'LoadBalancer'"
        problems.forbidden("spec.allocateLoadBalancerNodePorts", detail)
    _traffic(problems, spec, kind)


def service_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a Service keeps the addresses it has."""
    spec, was = obj.get("spec") or {}, old.get("spec") or {}
    if "ExternalName" in (spec.get("type"), was.get("type")):
        return
    new, had = spec.get("clusterIPs") or [], was.get("clusterIPs") or []
    if had and not new:
        problems.invalid("spec.clusterIPs[0]", None, "primary clusterIP can not be unset")
    for number, (after, before) in enumerate(zip(new, had, strict=False)):
        if after != before:
            problems.invalid(f"spec.clusterIPs[{number}]", new, "may not change once set")


def service_status(problems: Problems, obj: Json) -> None:
    """Check where a load balancer says it can be reached."""
    balancer = maybe(obj.get("status"), "loadBalancer")
    for number, ingress in enumerate(items(balancer, "ingress")):
        at = f"status.loadBalancer.ingress[{number}]"
        if address := ingress.get("ip"):
            problems.invalid_each(f"{at}.ip", address, names.ip(address))
        if name := ingress.get("hostname"):
            problems.invalid_each(f"{at}.hostname", name, names.dns1123_subdomain(name))
            if not names.ip(name):
                problems.invalid(f"{at}.hostname", name, "must be a DNS name, not an IP address")


def endpoints(problems: Problems, obj: Json) -> None:
    """Check Endpoints."""
    for number, subset in enumerate(items(obj, "subsets")):
        at, ports = f"subsets[{number}]", items(subset, "ports")
        ready, waiting = items(subset, "addresses"), items(subset, "notReadyAddresses")
        if not ready and not waiting:
            problems.required(at, "must specify `addresses` or `notReadyAddresses`")
        for key, addresses in (("addresses", ready), ("notReadyAddresses", waiting)):
            for index, address in enumerate(addresses):
                _endpoint_address(problems, f"{at}.{key}[{index}]", address)
        for index, port in enumerate(ports):
            _endpoint_port(problems, f"{at}.ports[{index}]", port, len(ports) > 1)


def endpoint_slice(problems: Problems, obj: Json) -> None:
    """Check an EndpointSlice."""
    kind = obj.get("addressType") or ""
    if kind:
        problems.one_of("addressType", kind, ("FQDN", "IPv4", "IPv6"))
    else:
        problems.required("addressType")
    given = items(obj, "endpoints")
    if len(given) > _ENDPOINTS_MAX:
        problems.too_many("endpoints", len(given), _ENDPOINTS_MAX)
        return
    for number, endpoint in enumerate(given):
        _slice_endpoint(problems, f"endpoints[{number}]", endpoint, kind)
    _slice_ports(problems, items(obj, "ports"))


def endpoint_slice_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that an EndpointSlice keeps its type of addresses."""
    problems.immutable("addressType", obj.get("addressType"), old.get("addressType"))


def _type_rules(problems: Problems, spec: Json, kind: str, headless: bool) -> None:
    """Check what depends on the type of a Service."""
    if kind == "LoadBalancer":
        for number, port in enumerate(items(spec, "ports")):
            if port.get("port") == KUBELET_PORT:
                detail = (
                    f"may not expose port {KUBELET_PORT} externally since it is used by kubelet"
                )
                problems.invalid(f"spec.ports[{number}]", KUBELET_PORT, detail)
    if kind in _EXPOSED and headless:
        detail = f"may not be set to 'None' for {kind} services"
        problems.invalid("spec.clusterIPs[0]", "None", detail)
    if kind != "ExternalName":
        return
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            problems.forbidden(f"spec.{key}", "may not be set for ExternalName services")
    name = (spec.get("externalName") or "").removesuffix(".")
    if name:
        problems.invalid_each("spec.externalName", name, names.dns1123_subdomain(name))
    else:
        problems.required("spec.externalName")


def _service_port(
    problems: Problems, field: str, port: Json, several: bool, seen: set[str]
) -> None:
    name, protocol = port.get("name") or "", port.get("protocol") or ""
    if name:
        problems.invalid_each(f"{field}.name", name, names.dns1123_label(name))
        if name in seen:
            problems.duplicate(f"{field}.name", name)
        seen.add(name)
    elif several:
        problems.required(f"{field}.name")
    number = port.get("port") or 0
    problems.invalid_each(f"{field}.port", number, names.port_number(number))
    _protocol(problems, field, protocol)
    probes.port(problems, f"{field}.targetPort", port.get("targetPort", 0))
    if application := port.get("appProtocol"):
        wrong = names.qualified_name(application)
        problems.invalid_each(f"{field}.appProtocol", application, wrong)


def _protocol(problems: Problems, field: str, protocol: str) -> None:
    if protocol:
        problems.one_of(f"{field}.protocol", protocol, PROTOCOLS)
    else:
        problems.required(f"{field}.protocol")


def _affinity(problems: Problems, spec: Json) -> None:
    affinity, config = spec.get("sessionAffinity") or "", maybe(spec, "sessionAffinityConfig")
    if not affinity:
        problems.required("spec.sessionAffinity")
        return
    problems.one_of("spec.sessionAffinity", affinity, ("ClientIP", "None"))
    at = "spec.sessionAffinityConfig"
    if affinity == "None" and config is not None:
        problems.forbidden(at, "must not be set when session affinity is None")
    if affinity != "ClientIP":
        return
    seconds = (maybe(config, "clientIP") or {}).get("timeoutSeconds")
    if seconds is None:
        problems.required(f"{at}.clientIP.timeoutSeconds", "when session affinity type is ClientIP")
    elif not 0 < seconds <= AFFINITY_SECONDS_MAX:
        detail = f"must be greater than 0 and less than {AFFINITY_SECONDS_MAX}"
        problems.invalid(f"{at}.clientIP.timeoutSeconds", seconds, detail)


def _addresses(problems: Problems, spec: Json) -> None:
    """Check the cluster addresses: IPv4 is all this cluster has."""
    addresses, first = spec.get("clusterIPs") or [], spec.get("clusterIP") or ""
    if addresses and not first:
        problems.invalid(
            "spec.clusterIPs", addresses, "must be empty when `clusterIP` is not specified"
        )
    elif addresses and addresses[0] != first:
        problems.invalid("spec.clusterIPs", addresses, "first value must match `clusterIP`")
    if addresses and addresses[0] == "None":
        if len(addresses) > 1:
            detail = "'None' must be the first and only value"
            problems.invalid("spec.clusterIPs", addresses, detail)
        return
    for number, address in enumerate(addresses):
        at = f"spec.clusterIPs[{number}]"
        problems.invalid_each(at, address, names.ip(address))
    if spec.get("ipFamilyPolicy") == "RequireDualStack":
        detail = "this cluster is not configured for dual-stack services"
        problems.invalid("spec.ipFamilyPolicy", "RequireDualStack", detail)
    for number, family in enumerate(spec.get("ipFamilies") or ()):
        if family not in ("IPv4", "IPv6"):
            problems.unsupported(f"spec.ipFamilies[{number}]", family, ("IPv4", "IPv6"))
        elif family == "IPv6":
            at = f"spec.ipFamilies[{number}]"
            problems.invalid(at, family, "not configured on this cluster")


def _port_clashes(problems: Problems, kind: str, ports: list[Json]) -> None:
    """Check that node ports fit the type and that no two ports are the same."""
    nodes: set[tuple[Any, Any]] = set()
    numbers: set[tuple[Any, Any]] = set()
    if kind == "ClusterIP":
        for number, port in enumerate(ports):
            if port.get("nodePort"):
                detail = "may not be used when `type` is 'ClusterIP'"
                problems.forbidden(f"spec.ports[{number}].nodePort", detail)
    for number, port in enumerate(ports):
        key = (port.get("protocol"), port.get("nodePort"))
        if port.get("nodePort") and key in nodes:
            problems.duplicate(f"spec.ports[{number}].nodePort", port["nodePort"])
        nodes.add(key)
    for number, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in numbers:
            shown = {"Name": "", "Protocol": key[0], "AppProtocol": None, "Port": key[1]}
            problems.duplicate(f"spec.ports[{number}]", {**shown, "TargetPort": 0, "NodePort": 0})
        numbers.add(key)


def _source_ranges(problems: Problems, kind: str, ranges: list[str]) -> None:
    field = "spec.loadBalancerSourceRanges"
    if kind != "LoadBalancer":
        problems.forbidden(field, "may only be used when `type` is 'LoadBalancer'")
    for number, text in enumerate(ranges):
        problems.invalid_each(f"{field}[{number}]", text, names.cidr(text.strip()))


def _traffic(problems: Problems, spec: Json, kind: str) -> None:
    outside, inside = spec.get("externalTrafficPolicy"), spec.get("internalTrafficPolicy")
    exposed = kind in _EXPOSED or (kind == "ClusterIP" and bool(spec.get("externalIPs")))
    at = "spec.externalTrafficPolicy"
    if not exposed:
        if outside:
            detail = "may only be set for externally-accessible services"
            problems.invalid(at, outside, detail)
    elif outside:
        problems.one_of(at, outside, _POLICIES)
    else:
        problems.required(at)
    check = spec.get("healthCheckNodePort")
    if check and not (kind == "LoadBalancer" and outside == "Local"):
        detail = (
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        )
        problems.invalid("spec.healthCheckNodePort", check, detail)
    if inside:
        problems.one_of("spec.internalTrafficPolicy", inside, _POLICIES)


def _endpoint_address(problems: Problems, field: str, address: Json) -> None:
    _unspecial(problems, f"{field}.ip", address.get("ip") or "", names.ip)
    if hostname := address.get("hostname"):
        problems.invalid_each(f"{field}.hostname", hostname, names.dns1123_label(hostname))
    if node := address.get("nodeName"):
        problems.invalid_each(f"{field}.nodeName", node, names.dns1123_subdomain(node))


def _endpoint_port(problems: Problems, field: str, port: Json, several: bool) -> None:
    if name := port.get("name") or "":
        problems.invalid_each(f"{field}.name", name, names.dns1123_label(name))
    elif several:
        problems.required(f"{field}.name")
    number = port.get("port") or 0
    problems.invalid_each(f"{field}.port", number, names.port_number(number))
    _protocol(problems, field, port.get("protocol") or "")


def _slice_endpoint(problems: Problems, field: str, endpoint: Json, kind: str) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        problems.required(f"{field}.addresses", "must contain at least 1 address")
    elif len(addresses) > _ADDRESSES_MAX:
        problems.too_many(f"{field}.addresses", len(addresses), _ADDRESSES_MAX)
    for number, address in enumerate(addresses):
        at = f"{field}.addresses[{number}]"
        if kind == "FQDN":
            problems.invalid_each(at, address, names.dns1123_subdomain(address))
        elif kind in ("IPv4", "IPv6"):
            _unspecial(problems, at, address, names.ipv4 if kind == "IPv4" else names.ipv6)
    if node := endpoint.get("nodeName"):
        problems.invalid_each(f"{field}.nodeName", node, names.dns1123_subdomain(node))
    if hostname := endpoint.get("hostname"):
        problems.invalid_each(f"{field}.hostname", hostname, names.dns1123_label(hostname))


def _slice_ports(problems: Problems, ports: list[Json]) -> None:
    if len(ports) > _PORTS_MAX:
        problems.too_many("ports", len(ports), _PORTS_MAX)
        return
    seen: set[str] = set()
    for number, port in enumerate(ports):
        at, name = f"ports[{number}]", port.get("name") or ""
        if name:
            problems.invalid_each(f"{at}.name", name, names.dns1123_label(name))
        if name in seen:
            problems.duplicate(f"{at}.name", name)
        seen.add(name)
        _protocol(problems, at, port.get("protocol") or "")


def _unspecial(
    problems: Problems, field: str, text: str, check: Callable[[str], list[str]]
) -> None:
    """Check an address that packets are sent to: not of this machine, not of everybody."""
    if wrong := check(text):
        problems.invalid_each(field, text, wrong)
        return
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        problems.invalid(field, text, "may not be unspecified (0.0.0.0 or ::)")
    if address.is_loopback:
        detail = "may not be in the loopback range (127.0.0.0/8, ::1/128)"
        problems.invalid(field, text, detail)
    if address.is_link_local:
        detail = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        problems.invalid(field, text, detail)
    if address in _MULTICAST[address.version]:
        detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        problems.invalid(field, text, detail)


_MULTICAST: Final = {
    4: ipaddress.ip_network("224.0.0.0/24"),
    6: ipaddress.ip_network("ff02::/16"),
}
