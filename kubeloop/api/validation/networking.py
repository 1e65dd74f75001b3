"""Rules of network policies, and of addresses of services.

Source: k8s.io/kubernetes/pkg/apis/networking/validation.
"""

import ipaddress
from typing import Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import selectors

_DIRECTIONS: Final = ("Egress", "Ingress")
_PROTOCOLS: Final = ("TCP", "UDP", "SCTP")
_FAMILIES_MAX: Final = 2
_ONE_EACH: Final = (
    "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"
)


def network_policy(problems: Problems, obj: Json) -> None:
    """Check the spec of a NetworkPolicy."""
    spec = obj.get("spec") or {}
    selectors.label_selector(problems, "spec.podSelector", maybe(spec, "podSelector"))
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        for number, rule in enumerate(items(spec, direction)):
            at = f"spec.{direction}[{number}]"
            for index, port in enumerate(items(rule, "ports")):
                _port(problems, f"{at}.ports[{index}]", port)
            for index, peer in enumerate(items(rule, peers)):
                _peer(problems, f"{at}.{peers}[{index}]", peer)
    types = spec.get("policyTypes") or []
    if len(types) > len(_DIRECTIONS):
        problems.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for number, told in enumerate(types):
        problems.one_of(f"spec.policyTypes[{number}]", told, _DIRECTIONS)


def ip_address(problems: Problems, obj: Json) -> None:
    """Check an IPAddress: its name is the address, and it says whose it is."""
    name = (obj.get("metadata") or {}).get("name") or ""
    try:
        if str(ipaddress.ip_address(name)) != name:
            problems.invalid("metadata.name", name, "must be a canonical format IP address")
    except ValueError:
        problems.invalid("metadata.name", name, f'ParseAddr("{name}"): unable to parse IP')
    parent, field = maybe(obj.get("spec") or {}, "parentRef"), "spec.parentRef"
    if parent is None:
        problems.required(field)
        return
    if group := parent.get("group"):
        problems.invalid_each(f"{field}.group", group, names.dns1123_subdomain(group))
    for key in ("resource", "name"):
        if value := parent.get(key):
            problems.invalid_each(f"{field}.{key}", value, names.path_segment(value))
        else:
            problems.required(f"{field}.{key}")
    if namespace := parent.get("namespace"):
        problems.invalid_each(f"{field}.namespace", namespace, names.path_segment(namespace))


def ip_address_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that an address stays with whom it was given to."""
    new, was = ((one.get("spec") or {}).get("parentRef") for one in (obj, old))
    problems.immutable("spec.parentRef", new, was)


def service_cidr(problems: Problems, obj: Json) -> None:
    """Check a ServiceCIDR: one network, or one of each family."""
    spec = obj.get("spec") or {}
    networks, field = spec.get("cidrs") or [], "spec.cidrs"
    if not networks:
        problems.required(field, "at least one CIDR required")
        return
    if len(networks) > _FAMILIES_MAX:
        problems.invalid(field, {"CIDRs": networks}, "may only hold up to 2 values")
        return
    if len(networks) == _FAMILIES_MAX and len({":" in one for one in networks}) == 1:
        problems.invalid(field, {"CIDRs": networks}, _ONE_EACH)
    for number, told in enumerate(networks):
        problems.invalid_each(f"{field}[{number}]", told, names.cidr(told))


def service_cidr_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a network stays; another family's may be added."""
    new, was = ((one.get("spec") or {}).get("cidrs") or [] for one in (obj, old))
    if len(was) == 1 and len(new) == _FAMILIES_MAX:
        problems.immutable("spec.cidrs[0]", new[0], was[0])
    else:
        problems.immutable("spec.cidrs", new, was)


def _port(problems: Problems, field: str, told: Json) -> None:
    protocol, port, end = told.get("protocol"), told.get("port"), told.get("endPort")
    if protocol is not None:
        problems.one_of(f"{field}.protocol", protocol, _PROTOCOLS)
    if port is None:
        if end is not None:
            detail = "may not be specified when `port` is not specified"
            problems.invalid(f"{field}.endPort", end, detail)
    elif isinstance(port, int):
        problems.invalid_each(f"{field}.port", port, names.port_number(port))
        if end is not None:
            if end < port:
                detail = "must be greater than or equal to `port`"
                problems.invalid(f"{field}.endPort", port, detail)
            problems.invalid_each(f"{field}.endPort", end, names.port_number(end))
    else:
        if end is not None:
            detail = "may not be specified when `port` is non-numeric"
            problems.invalid(f"{field}.endPort", end, detail)
        problems.invalid_each(f"{field}.port", port, names.port_name(port))


def _peer(problems: Problems, field: str, peer: Json) -> None:
    count = 0
    for key in ("podSelector", "namespaceSelector"):
        if (chosen := maybe(peer, key)) is not None:
            count += 1
            selectors.label_selector(problems, f"{field}.{key}", chosen)
    block = maybe(peer, "ipBlock")
    if block is not None:
        _block(problems, f"{field}.ipBlock", block)
    if not count and block is None:
        problems.required(field, "must specify a peer")
    elif count and block is not None:
        problems.forbidden(field, "may not specify both ipBlock and another peer")


def _block(problems: Problems, field: str, block: Json) -> None:
    told = block.get("cidr") or ""
    if not told:
        problems.required(f"{field}.cidr")
        return
    wrong = names.cidr(told)
    problems.invalid_each(f"{field}.cidr", told, wrong)
    for number, part in enumerate(block.get("except") or ()):
        at = f"{field}.except[{number}]"
        bad = names.cidr(part)
        problems.invalid_each(at, part, bad)
        if not wrong and not bad and not _is_strict_part(part, told):
            problems.invalid(at, part, "must be a strict subset of `cidr`")


def _is_strict_part(part: str, whole: str) -> bool:
    inner, outer = ipaddress.ip_network(part), ipaddress.ip_network(whole)
    return (
        inner.version == outer.version
        and inner.network_address in outer
        and inner.prefixlen > outer.prefixlen
    )
