"""The rows of services and of what they route to."""

from typing import Any

from kubeloop.api import humanize
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, created, first_of, labels, name_of


def service(obj: Json) -> list[Any]:
    """Return the cells of a Service."""
    spec = obj.get("spec") or {}
    addresses = spec.get("clusterIPs") or ([spec["clusterIP"]] if spec.get("clusterIP") else [])
    return [
        name_of(obj),
        spec.get("type") or "",
        addresses[0] if addresses else NONE,
        _external(spec, obj.get("status") or {}),
        ",".join(_port(port) for port in items(spec, "ports")) or NONE,
        humanize.since(created(obj)),
        labels(spec.get("selector")),
    ]


def endpoints(obj: Json) -> list[Any]:
    """Return the cells of Endpoints."""
    found: list[str] = []
    for subset in items(obj, "subsets"):
        ips = [str(address.get("ip")) for address in items(subset, "addresses")]
        ports = [port.get("port", 0) for port in items(subset, "ports")]
        found += [_host_port(ip, port) for port in ports for ip in ips] if ports else ips
    shown = first_of(found, empty=NONE)
    return [name_of(obj), shown, humanize.since(created(obj))]


def endpoint_slice(obj: Json) -> list[Any]:
    """Return the cells of an EndpointSlice."""
    ports = [str(p.get("port") or p.get("name") or "*") for p in items(obj, "ports")]
    addresses = [a for e in items(obj, "endpoints") for a in e.get("addresses") or ()]
    return [
        name_of(obj),
        obj.get("addressType") or "",
        first_of(ports, empty="<unset>"),
        first_of(addresses, empty="<unset>"),
        humanize.since(created(obj)),
    ]


def _external(spec: Json, status: Json) -> str:
    given = ",".join(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return given or NONE
        case "ExternalName":
            return str(spec.get("externalName") or "")
        case "LoadBalancer":
            ingress = items(maybe(status, "loadBalancer"), "ingress")
            found = sorted({str(i.get("ip") or i.get("hostname") or "") for i in ingress} - {""})
            return ",".join([*found, *([given] if given else [])]) or "<pending>"
    return humanize.UNKNOWN


def _port(port: Json) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port', 0)}{node}/{port.get('protocol', 'TCP')}"


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"
