"""Claims: keys that only one object can have, written with the object in one transaction. Pure.

A Service claims its ClusterIPs and node ports. However many API servers share a store, an address
belongs to one Service, for its key can be created only once; it is free again with the very
revision that takes the Service away. Kubernetes keeps its allocations under the same prefix.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgpack

from kubeloop.store.facts import CLAIMED
from kubeloop.store.history import Write

RANGES: Final = CLAIMED.rstrip("/")
ADDRESSES: Final = "serviceips"
PORTS: Final = "servicenodeports"

Object = Mapping[str, Any]


def claims(before: Object | None, after: Object | None, revision: int) -> list[Write]:
    """Return the writes by which a Service gives up what it had, and takes what it has now.

    revision: of the transaction.
    """
    had, has = _claimed(before), _claimed(after)
    writes = [Write(key, None) for key in had if key not in has]
    for key, owner in has.items():
        if key not in had:
            metadata = {"name": key.rpartition("/")[2], "resourceVersion": str(revision)}
            writes.append(Write(key, msgpack.packb({"metadata": metadata, "owner": owner}), 0))
    return writes


def claim_key(kind: str, name: str) -> str:
    """Return the key of a claim. kind: ADDRESSES, PORTS."""
    return f"{RANGES}/{kind}/{name}"


def port_name(protocol: str, number: int) -> str:
    """Return how the claim of a node port is called: "TCP-30007"."""
    return f"{protocol}-{number}"


def claimant(value: bytes) -> str:
    """Return who made a claim: "namespace/name" of a Service."""
    owner: str = msgpack.unpackb(value)["owner"]
    return owner


def addresses(service: Object) -> list[str]:
    """Return the ClusterIPs of a Service; none of a headless one."""
    return [a for a in (service.get("spec") or {}).get("clusterIPs") or () if a != "None"]


def node_ports(service: Object) -> list[tuple[str, int]]:
    """Return (protocol, number) of each node port of a Service, that of its health check, too."""
    spec = service.get("spec") or {}
    ports = spec.get("ports") or ()
    check = spec.get("healthCheckNodePort")
    return [
        *((p.get("protocol", "TCP"), p["nodePort"]) for p in ports if p.get("nodePort")),
        *([("TCP", check)] if check else []),
    ]


def owner_of(service: Object) -> str:
    """Return "namespace/name" of a Service."""
    return f"{service['metadata'].get('namespace', '')}/{service['metadata']['name']}"


def _claimed(service: Object | None) -> dict[str, str]:
    """Return the keys a Service claims, and who it is."""
    if service is None:
        return {}
    ips = [claim_key(ADDRESSES, address) for address in addresses(service)]
    ports = [claim_key(PORTS, port_name(*port)) for port in node_ports(service)]
    return dict.fromkeys([*ips, *ports], owner_of(service))
