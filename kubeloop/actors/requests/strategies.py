"""What differs between kinds when they are written: data, one row a kind."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Strategy:
    """How one kind is created, changed and deleted.

    generation:       metadata.generation counts the changes of everything but metadata and status.
    status:           the status a new object starts with, whatever its creator wrote; None if the
                      kind has no status of its own.
    create_on_update: a PUT to a name that is free creates the object.
    orphans:          deleting without a propagationPolicy leaves the dependents.
    status_metadata:  labels and annotations may be changed through the status subresource.
    """

    generation: bool = False
    status: Mapping[str, Any] | None = None
    create_on_update: bool = False
    orphans: bool = False
    status_metadata: bool = False


_PLAIN: Final = Strategy()
_BLANK_NODE_INFO: Final = dict.fromkeys(
    (
        "machineID",
        "systemUUID",
        "bootID",
        "kernelVersion",
        "osImage",
        "containerRuntimeVersion",
        "kubeletVersion",
        "kubeProxyVersion",
        "operatingSystem",
        "architecture",
    ),
    "",
)

_STRATEGIES: Final[Mapping[str, Strategy]] = {
    "pods": Strategy(generation=True, status={"phase": "Pending"}, status_metadata=True),
    "nodes": Strategy(
        status={
            "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
            "nodeInfo": _BLANK_NODE_INFO,
        },
        status_metadata=True,
    ),
    "namespaces": Strategy(status={"phase": "Active"}),
    "services": Strategy(status={"loadBalancer": {}}, create_on_update=True),
    "replicationcontrollers": Strategy(generation=True, status={"replicas": 0}, orphans=True),
    "replicasets.apps": Strategy(generation=True, status={"replicas": 0}),
    "deployments.apps": Strategy(generation=True, status={}),
    "endpointslices.discovery.k8s.io": Strategy(generation=True),
    "endpoints": Strategy(create_on_update=True),
    "events": Strategy(create_on_update=True),
    "leases.coordination.k8s.io": Strategy(create_on_update=True),
}


def strategy(resource_id: str) -> Strategy:
    """Return the row of a resource."""
    return _STRATEGIES.get(resource_id, _PLAIN)
