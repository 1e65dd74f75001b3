"""How a node is set up: what its kubelet is told by whoever runs the cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_CAPACITY: Final = MappingProxyType(
    {"cpu": "8", "ephemeral-storage": "100Gi", "memory": "32Gi", "pods": "110"}
)
_EVICTION_HARD: Final = MappingProxyType({"memory.available": "100Mi", "nodefs.available": "10%"})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """One node. The intervals and thresholds are Kubernetes' defaults.

    address:    the node's InternalIP;  pod_cidr: where its pods' addresses come from.
    capacity:   quantities by resource; allocatable is the same.
    lease_s:    how long a lease holds;  heartbeat_s: how often it is renewed.
    status_s:   how often the Node's status is refreshed though nothing changed.
    settle_s:   how long the status of a pod that is being started may wait for its outcome.
    eviction_hard: signal → the least that must be available, else pods are evicted;
                a runtime that cannot tell what is used is never short of anything.
    eviction_calm_s: for so long a pressure is told of after it is over.
    image_disk_bytes: what images may take; percentages below are of it.
    """

    name: str
    index: int
    address: str
    pod_cidr: str
    capacity: Mapping[str, str] = field(default_factory=lambda: _CAPACITY)
    labels: Mapping[str, str] = field(default_factory=dict)
    kubelet_version: str = "v1.37.0+kubeloop"
    os: str = "linux"
    arch: str = "amd64"
    os_image: str = "kubeloop"
    kernel_version: str = ""
    lease_s: int = 40
    heartbeat_s: float = 10.0
    status_s: float = 300.0
    settle_s: float = 0.1
    eviction_hard: Mapping[str, str] = field(default_factory=lambda: _EVICTION_HARD)
    eviction_calm_s: float = 300.0
    image_disk_bytes: int = 100 * 2**30
    image_gc_s: float = 300.0
    image_gc_high_percent: int = 85
    image_gc_low_percent: int = 80
    image_minimum_age_s: float = 120.0
