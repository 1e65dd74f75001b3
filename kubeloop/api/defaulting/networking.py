"""Defaults of Ingresses, their classes, network policies and ranges of service addresses."""

from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe


def ingress(obj: Json) -> None:
    """Fill in an Ingress."""
    spec = child(obj, "spec")
    _backend(maybe(spec, "defaultBackend"))
    for rule in items(spec, "rules"):
        for path in items(maybe(rule, "http"), "paths"):
            _backend(child(path, "backend"))
    child(child(obj, "status"), "loadBalancer")


def ingress_class(obj: Json) -> None:
    """Fill in an IngressClass."""
    parameters = maybe(child(obj, "spec"), "parameters")
    if parameters is not None:
        fill(parameters, {"scope": "Cluster"})


def network_policy(obj: Json) -> None:
    """Fill in a NetworkPolicy: what it is about follows from what it tells."""
    spec = child(obj, "spec")
    child(spec, "podSelector")
    for direction in ("ingress", "egress"):
        for rule in items(spec, direction):
            for port in items(rule, "ports"):
                fill(port, {"protocol": "TCP"})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def ip_address(obj: Json) -> None:
    """Fill in an IPAddress."""
    child(obj, "spec")


def service_cidr(obj: Json) -> None:
    """Fill in a ServiceCIDR."""
    child(obj, "spec")
    child(obj, "status")


def _backend(backend: Json | None) -> None:
    service = maybe(backend, "service")
    if service is not None:
        child(service, "port")
