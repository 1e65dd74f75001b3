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
from kubeloop.actors.runtimes.simulated import Ledger, Script, SimulatedRegistry, SimulatedRuntime
from kubeloop.actors.runtimes.simulated_volumes import Disk
from kubeloop.actors.world import Clock, OwnClock, World

SIMULATED_POD_CIDR: Final = "127.244.0.0/16"  # A simulated pod may be dialled: that leads nowhere.


@dataclass(frozen=True, slots=True)
class Node:
    """One node's parts. The kubelet uses runtime and prober, kube-proxy the data path.

    world: time as it is there: a node has a clock of its own.
    """

    config: NodeConfig
    runtime: Runtime
    prober: Prober
    data_path: DataPath
    world: World


class Nodes(Protocol):
    """Makes nodes of one kind, and cleans up after all of them."""

    runtime_name: str
    proxy_mode: str
    pod_cidr: str
    load_balancer_cidr: str  # Addresses of this host that Services may be given; "" for none.

    async def start(self) -> None:
        """Make what nodes share. Raises: OSError."""

    def make(self, name: str, index: int) -> Node:
        """Return the parts of a node, index from 1; what it has kept if it was removed before."""

    async def remove(self, node: Node) -> None:
        """Take a node away, with all that runs on it."""

    async def close(self) -> None:
        """Stop all that runs on the nodes, and what they share."""


class SimulatedNodes:
    """Nodes whose pods are scripts of behaviour; see `runtimes.simulated`.

    before:   those of an earlier cluster, that are started again: what their disks hold is kept.
    ledger:   what runs where, of all of them, and of those before.
    registry: where all of them have their images from.
    remote:   where volumes are that are no node's own.
    runtimes: of those nodes there are, by name;  clocks: on the wall of each.
    """

    runtime_name = "simulated"
    proxy_mode = TableOnly.name
    pod_cidr = SIMULATED_POD_CIDR
    load_balancer_cidr = ""  # Nothing would answer there.

    def __init__(
        self,
        world: World,
        images: Mapping[str, Script] | None = None,
        before: "SimulatedNodes | None" = None,
    ) -> None:
        self.world, self.images = world, images
        self.made: list[Node] = []
        self.runtimes: dict[str, SimulatedRuntime] = {}
        self.ledger: Ledger = Ledger() if before is None else before.ledger
        self.registry: SimulatedRegistry = (
            SimulatedRegistry(images) if before is None else before.registry
        )
        self.clocks: dict[str, Clock] = {} if before is None else before.clocks
        self.remote: Disk = Disk() if before is None else before.remote
        self._machines: dict[str, SimulatedRuntime] = {} if before is None else before._machines

    async def start(self) -> None:
        """Nothing is shared that must be started."""

    def make(self, name: str, index: int) -> Node:
        config = NodeConfig(
            name=name, index=index, address=f"127.1.{index // 250}.{index % 250 + 1}",
            pod_cidr=pod_cidr_of(self.pod_cidr, index),
        )  # fmt: skip
        world = OwnClock(self.world, self.clocks.setdefault(name, Clock()))
        runtime = self._machines.get(name)
        if runtime is None:
            runtime = self._machines[name] = SimulatedRuntime(
                world,
                images=self.images,
                node=name,
                ledger=self.ledger,
                registry=self.registry,
                remote=self.remote,
            )
        runtime.world = world
        self.runtimes[name] = runtime
        node = Node(config, runtime, runtime, TableOnly(), world)
        self.made.append(node)
        return node

    def adopt(self, node: Node, pods: Sequence[Mapping[str, Any]]) -> None:
        """Have pods run on a new node that run by their status: those of another cluster's."""
        for pod in pods:
            self.runtimes[node.config.name].adopt(pod)

    def lose(self) -> None:
        """Lose all pods without a word, as machines do whose power goes."""
        for runtime in self.runtimes.values():
            runtime.lose()

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
