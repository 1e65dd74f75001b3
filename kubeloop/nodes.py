"""What nodes are made of: a runtime for their pods, a prober, and a data path for their Services.

Two kinds: `SimulatedNodes`, whose pods are scripts and take no time, and `ProcessNodes`, whose pods
are real processes behind real sockets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kubeloop.actors.kube_proxy import DataPath, TableOnly
from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.probes import Prober
from kubeloop.actors.runtimes.protocol import Runtime
from kubeloop.actors.runtimes.simulated import Ledger, Script, SimulatedRuntime
from kubeloop.actors.world import World

SIMULATED_POD_CIDR: Final = "127.244.0.0/16"  # A simulated pod may be dialled: that leads nowhere.


@dataclass(frozen=True, slots=True)
class Node:
    """One node's parts. The kubelet uses runtime and prober, kube-proxy the data path."""

    config: NodeConfig
    runtime: Runtime
    prober: Prober
    data_path: DataPath


class Nodes(Protocol):
    """Makes nodes of one kind, and cleans up after all of them."""

    runtime_name: str
    proxy_mode: str
    pod_cidr: str

    async def start(self) -> None:
        """Make what nodes share. Raises: OSError."""

    def make(self, name: str, index: int) -> Node:
        """Return the parts of a new node; index from 1."""

    async def remove(self, node: Node) -> None:
        """Take a node away, with all that runs on it."""

    async def close(self) -> None:
        """Stop all that runs on the nodes, and what they share."""


class SimulatedNodes:
    """Nodes whose pods are scripts of behaviour; see `runtimes.simulated`.

    ledger: what runs where, of all of them;  made: those there are.
    """

    runtime_name = "simulated"
    proxy_mode = TableOnly.name
    pod_cidr = SIMULATED_POD_CIDR

    def __init__(self, world: World, images: Mapping[str, Script] | None = None) -> None:
        self.world, self.images = world, images
        self.ledger = Ledger()
        self.made: list[Node] = []
        self.runtimes: dict[str, SimulatedRuntime] = {}  # By the name of their node.

    async def start(self) -> None:
        """Nothing is shared."""

    def make(self, name: str, index: int) -> Node:
        config = NodeConfig(
            name=name, index=index, address=f"127.1.{index // 250}.{index % 250 + 1}",
            pod_cidr=pod_cidr_of(self.pod_cidr, index),
        )  # fmt: skip
        runtime = SimulatedRuntime(self.world, images=self.images, node=name, ledger=self.ledger)
        self.runtimes[name] = runtime
        node = Node(config, runtime, runtime, TableOnly())
        self.made.append(node)
        return node

    def adopt(self, node: Node, pods: Sequence[Mapping[str, Any]]) -> None:
        """Have pods run on a new node that run by their status: those of another cluster's."""
        for pod in pods:
            self.runtimes[node.config.name].adopt(pod)

    async def remove(self, node: Node) -> None:
        self.made.remove(node)
        del self.runtimes[node.config.name]
        await node.runtime.close()

    async def close(self) -> None:
        for node in tuple(self.made):
            await self.remove(node)


def pod_cidr_of(cluster_cidr: str, index: int) -> str:
    """Return the /24 of node number `index` (1 to 255) in the cluster's /16.

    Raises: ValueError for an index outside of it.
    """
    if not 1 <= index <= 255:
        raise ValueError(f"node {index}: a pod network of {cluster_cidr} has room for 255 nodes")
    first, second, *_ = cluster_cidr.split(".")
    return f"{first}.{second}.{index}.0/24"
