"""What every cluster has from its first moment: namespaces, classes, and the Service of its API."""

import ipaddress
from typing import Any, Final

from kubeloop.actors.requests.state import Settings
from kubeloop.api.admission.volumes import DEFAULT_CLASS
from kubeloop.api.pod_claims import LOCAL_PATH, WAITS
from kubeloop.api.priorities import SYSTEM_CLASSES

_NAMESPACES: Final = ("default", "kube-system", "kube-public", "kube-node-lease")
_LABELS: Final = {"component": "apiserver", "provider": "kubernetes"}


def bootstrap_objects(settings: Settings) -> list[dict[str, Any]]:
    """Return the objects to create when a cluster starts, in that order."""
    port = {"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}
    return [
        *(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            for name in _NAMESPACES
        ),
        *SYSTEM_CLASSES,
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": _LABELS},
            "spec": {"clusterIP": service_address(settings), "ports": [port]},
        },
        *([_storage_class(settings.storage_class)] if settings.storage_class else ()),
    ]


def service_address(settings: Settings) -> str:
    """Return the address of the Service `kubernetes`: the first there is."""
    return str(ipaddress.IPv4Network(settings.service_cidr)[1])


def _storage_class(name: str) -> dict[str, Any]:
    """Return the default class: directories of the node where a claim's first pod goes."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name, "annotations": {DEFAULT_CLASS: "true"}},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": WAITS,
        "allowVolumeExpansion": True,
    }


def kubernetes_endpoint_slice(host: str, port: int) -> dict[str, Any]:
    """Return the slice of the `kubernetes` Service, which has no selector to find it by.

    host, port: where the REST endpoint answers.
    """
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
