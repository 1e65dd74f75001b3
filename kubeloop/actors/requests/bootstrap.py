"""What every cluster has from its first moment: namespaces, and the Service of its API."""

import ipaddress
from typing import Any, Final

from kubeloop.actors.requests.state import Settings

_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_LABELS: Final = {"component": "apiserver", "provider": "kubernetes"}


def bootstrap_objects(settings: Settings, host: str, port: int) -> list[dict[str, Any]]:
    """Return the objects to create when a cluster starts, in that order.

    host, port: where the REST endpoint answers; port 0 if there is none, and then the `kubernetes`
    Service has no endpoints.
    """
    address = str(ipaddress.IPv4Network(settings.service_cidr)[1])
    objects: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        for name in _NAMESPACES
    ]
    objects.append(
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": _LABELS},
            "spec": {
                "clusterIP": address,
                "ports": [
                    {"name": "https", "port": 443, "protocol": "TCP", "targetPort": port or 6443}
                ],
            },
        }
    )
    if port:
        objects.append(kubernetes_endpoint_slice(host, port))
    return objects


def kubernetes_endpoint_slice(host: str, port: int) -> dict[str, Any]:
    """Return the EndpointSlice of the `kubernetes` Service, which the API server keeps itself."""
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [host], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }
