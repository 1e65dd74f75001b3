"""The rows of Ingresses, their classes, network policies and addresses of services."""

from typing import Any, Final

from kubeloop.api import humanize
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, created, name_of, selector

_HOSTS_MAX: Final = 3


def ingress(obj: Json) -> list[Any]:
    """Return the cells of an Ingress."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    points = items(maybe(status, "loadBalancer"), "ingress")
    addresses = {str(one.get("ip") or one.get("hostname") or "") for one in points} - {""}
    return [
        name_of(obj),
        spec.get("ingressClassName") or NONE,
        _hosts(items(spec, "rules")),
        ",".join(sorted(addresses)),
        "80, 443" if spec.get("tls") else "80",
        humanize.since(created(obj)),
    ]


def ingress_class(obj: Json) -> list[Any]:
    """Return the cells of an IngressClass."""
    spec = obj.get("spec") or {}
    parameters, told = maybe(spec, "parameters"), NONE
    if parameters is not None:
        group = parameters.get("apiGroup")
        kind = f"{parameters.get('kind')}.{group}" if group else parameters.get("kind")
        told = f"{kind}/{parameters.get('name')}"
    age = humanize.since(created(obj))
    return [name_of(obj), spec.get("controller") or "", told, age]


def network_policy(obj: Json) -> list[Any]:
    """Return the cells of a NetworkPolicy."""
    told = selector((obj.get("spec") or {}).get("podSelector") or {})
    return [name_of(obj), told, humanize.since(created(obj))]


def ip_address(obj: Json) -> list[Any]:
    """Return the cells of an IPAddress."""
    parent, told = maybe(obj.get("spec") or {}, "parentRef"), NONE
    if parent is not None:
        group, plural = parent.get("group"), parent.get("resource") or ""
        resource = f"{plural}.{group}" if group else plural
        parts = [resource, parent.get("namespace"), parent.get("name")]
        told = "/".join(str(part) for part in parts if part)
    return [name_of(obj), told, humanize.since(created(obj))]


def service_cidr(obj: Json) -> list[Any]:
    """Return the cells of a ServiceCIDR."""
    told = ",".join((obj.get("spec") or {}).get("cidrs") or ())
    return [name_of(obj), told, humanize.since(created(obj))]


def _hosts(rules: list[Json]) -> str:
    """Return the hosts of the first rules, and how many more rules there are."""
    hosts, more = list[str](), False
    for rule in rules:
        more = more or len(hosts) == _HOSTS_MAX
        if rule.get("host") and not more:
            hosts.append(str(rule["host"]))
    if not hosts:
        return "*"
    told = ",".join(hosts)
    return f"{told} + {len(rules) - _HOSTS_MAX} more..." if more else told
