"""The kinds of networking.k8s.io."""

from typing import Final

from kubeloop.api.kinds.row import STATUS, Resource

_GROUP: Final = "networking.k8s.io"

ROWS: Final = (
    Resource(_GROUP, "v1", "IngressClass", "ingressclasses", "ingressclass", namespaced=False),
    Resource(
        _GROUP,
        "v1",
        "Ingress",
        "ingresses",
        "ingress",
        short_names=("ing",),
        subresources=(STATUS,),
    ),
    Resource(
        _GROUP,
        "v1",
        "IPAddress",
        "ipaddresses",
        "ipaddress",
        namespaced=False,
        short_names=("ip",),
    ),
    Resource(
        _GROUP, "v1", "NetworkPolicy", "networkpolicies", "networkpolicy", short_names=("netpol",)
    ),
    Resource(
        _GROUP,
        "v1",
        "ServiceCIDR",
        "servicecidrs",
        "servicecidr",
        namespaced=False,
        subresources=(STATUS,),
    ),
)
