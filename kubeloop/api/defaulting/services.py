"""Defaults of Services and of what they route to."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

AFFINITY_SECONDS: Final = 10800


def service(obj: Json) -> None:
    """Fill in a Service; its addresses and node ports are allocated elsewhere."""
    spec = child(obj, "spec")
    fill(spec, {"sessionAffinity": "None", "type": "ClusterIP"})
    _affinity(spec)
    for port in items(spec, "ports"):
        fill(port, {"protocol": "TCP"})
        if port.get("targetPort") in (None, "", 0):
            port["targetPort"] = port.get("port", 0)
    kind = spec["type"]
    if kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and spec.get("externalIPs")):
        fill(spec, {"externalTrafficPolicy": "Cluster"})
    if kind in ("NodePort", "LoadBalancer", "ClusterIP"):
        fill(spec, {"internalTrafficPolicy": "Cluster"})
        _families(spec)
    if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    balancer = child(child(obj, "status"), "loadBalancer")
    for ingress in items(balancer, "ingress"):
        if ingress.get("ip"):
            fill(ingress, {"ipMode": "VIP"})


def endpoints(obj: Json) -> None:
    """Fill in Endpoints."""
    for subset in items(obj, "subsets"):
        for port in items(subset, "ports"):
            fill(port, {"protocol": "TCP"})


def endpoint_slice(obj: Json) -> None:
    """Fill in an EndpointSlice."""
    for endpoint in items(obj, "endpoints"):
        child(endpoint, "conditions")
    for port in items(obj, "ports"):
        fill(port, {"name": "", "protocol": "TCP"})


def _affinity(spec: Json) -> None:
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        client = child(child(spec, "sessionAffinityConfig"), "clientIP")
        fill(client, {"timeoutSeconds": AFFINITY_SECONDS})


def _families(spec: Json) -> None:
    """Choose the address families as a cluster does that has only IPv4.

    A headless service without a selector lists addresses that somebody else writes: any family.
    """
    policy, families = spec.get("ipFamilyPolicy"), spec.get("ipFamilies")
    anything = spec.get("clusterIP") == "None" and not maybe(spec, "selector")
    if not policy:
        several = len(families or ()) > 1 or (anything and not families)
        spec["ipFamilyPolicy"] = "RequireDualStack" if several else "SingleStack"
    if not families:
        dual = anything and spec["ipFamilyPolicy"] != "SingleStack"
        spec["ipFamilies"] = ["IPv4", "IPv6"] if dual else ["IPv4"]
