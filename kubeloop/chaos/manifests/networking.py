"""The values that make sense in the fields of Ingresses, network policies and autoscalers."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeloop.chaos.manifests.rows import Row, either, list_of, made_of, one_of, whole

Json = dict[str, Any]

_hosts: Final = one_of("a.example", "*.b.example", "c")
_services: Final = made_of(
    "name", "port", name=one_of("web", "db"), port=one_of({"number": 80}, {"name": "http"})
)
_reference: Final = made_of(
    "kind", "name", apiGroup=one_of("a.example"), kind=one_of("Bucket"), name=one_of("b")
)
_backend: Final = either(service=_services, resource=_reference)
_paths: Final = made_of(
    "path",
    "pathType",
    "backend",
    path=one_of("/", "/a", "/a/b.c"),
    pathType=one_of("Prefix", "Exact", "ImplementationSpecific"),
    backend=_backend,
)
_ports: Final = list_of(
    one_of(
        {"port": 80},
        {"port": "http", "protocol": "TCP"},
        {"protocol": "UDP"},
        {"port": 8000, "endPort": 8100, "protocol": "SCTP"},
        {},
    )
)
_peers: Final = list_of(
    one_of(
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"a": "b"}}, "podSelector": {}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
        {"ipBlock": {"cidr": "2001:db8::/64"}},
    )
)
_target: Final = one_of(
    {"type": "Utilization", "averageUtilization": 50},
    {"type": "AverageValue", "averageValue": "500m"},
)
_total: Final = one_of(
    {"type": "Value", "value": "3"}, {"type": "AverageValue", "averageValue": "1k"}
)
_measure: Final = one_of({"name": "rate"}, {"name": "r", "selector": {"matchLabels": {"a": "b"}}})
_what: Final = one_of(
    {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
    {"kind": "ReplicationController", "name": "old"},
)


def _metric() -> Any:
    from hypothesis import strategies as st

    made = {
        "Resource": made_of("name", "target", name=one_of("cpu", "memory"), target=_target),
        "ContainerResource": made_of(
            "name", "container", "target", name=one_of("cpu"), container=one_of("c"), target=_target
        ),
        "Pods": made_of(
            "metric",
            "target",
            metric=_measure,
            target=one_of({"type": "AverageValue", "averageValue": "9"}),
        ),
        "Object": made_of(
            "metric", "describedObject", "target", metric=_measure, describedObject=_what,
            target=_total,
        ),
        "External": made_of("metric", "target", metric=_measure, target=_total),
    }  # fmt: skip
    return st.one_of(
        [
            st.fixed_dictionaries({"type": st.just(type_), type_[0].lower() + type_[1:]: row()})
            for type_, row in made.items()
        ]
    )


_scaling: Final = made_of(
    stabilizationWindowSeconds=whole(0, 3600),
    selectPolicy=one_of("Max", "Min", "Disabled"),
    policies=one_of(
        [{"type": "Pods", "value": 2, "periodSeconds": 60}],
        [{"type": "Percent", "value": 50, "periodSeconds": 1800}],
    ),
)

FIELDS: Final[Mapping[str, Mapping[str, Row]]] = {
    "HorizontalPodAutoscaler": {},
    "HorizontalPodAutoscalerSpec": {
        "scaleTargetRef": _what,
        "minReplicas": whole(1, 3),
        "maxReplicas": whole(3, 9),
        "metrics": list_of(_metric),
        "behavior": made_of(scaleUp=_scaling, scaleDown=_scaling),
    },
    "IPAddress": {},
    "IPAddressSpec": {
        "parentRef": one_of({"resource": "services", "namespace": "default", "name": "web"}),
    },
    "Ingress": {},
    "IngressSpec": {
        "ingressClassName": one_of("nginx"),
        "defaultBackend": _backend,
        "rules": list_of(
            made_of(host=_hosts, http=made_of("paths", paths=lambda: _some(list_of(_paths))))
        ),
        "tls": list_of(made_of(hosts=list_of(_hosts), secretName=one_of("cert"))),
    },
    "IngressClass": {},
    "IngressClassSpec": {
        "controller": one_of("a.example/ingress", "k8s.io/nginx"),
        "parameters": one_of(
            {"kind": "Settings", "name": "s"},
            {"apiGroup": "a.example", "kind": "Settings", "name": "s", "scope": "Namespace",
             "namespace": "default"},
        ),
    },
    "NetworkPolicy": {},
    "NetworkPolicySpec": {
        "ingress": list_of(made_of(ports=_ports, **{"from": _peers})),
        "egress": list_of(made_of(ports=_ports, to=_peers)),
        "policyTypes": one_of(["Ingress"], ["Egress"], ["Ingress", "Egress"]),
    },
    "ServiceCIDR": {},
    "ServiceCIDRSpec": {
        "cidrs": one_of(["10.96.0.0/16"], ["10.97.0.0/16", "2001:db8:1::/112"]),
    },
}  # fmt: skip
"""As of `tables.FIELDS`."""

NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    "HorizontalPodAutoscaler": ("spec",),
    "IPAddress": ("spec",),
    "Ingress": ("spec",),
    "IngressClass": ("spec",),
    "IngressClassSpec": ("controller",),
    "NetworkPolicy": ("spec",),
    "ServiceCIDR": ("spec",),
    "ServiceCIDRSpec": ("cidrs",),
    "IPAddressSpec": ("parentRef",),
}


def _some(row: Row) -> Any:
    return row().filter(bool)


def _ingress(spec: Json) -> Json:
    """Have an Ingress lead somewhere."""
    if not spec.get("rules"):
        spec.setdefault("defaultBackend", {"service": {"name": "web", "port": {"number": 80}}})
    return spec


FITTED: Final[Mapping[str, Callable[[Json], Json]]] = {"IngressSpec": _ingress}
