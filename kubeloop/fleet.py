"""The nodes of a cluster that have power: the parts of each, its kubelet and its kube-proxy."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from kubeloop.actors.kube_proxy import KubeProxy
from kubeloop.actors.kubelet import Kubelet
from kubeloop.actors.pods.logs import attempt_of, container_id
from kubeloop.actors.runtimes.protocol import Runtime, RuntimeFailure
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import World
from kubeloop.api.errors import InternalError
from kubeloop.api.streams import Connection, Session
from kubeloop.net.client import KubeObject
from kubeloop.net.streaming.seams import Wishes
from kubeloop.nodes import Node, Nodes, SimulatedNodes


class Fleet:
    """Starts and stops nodes.

    indexes: of all nodes there ever were, by name;  running: those that have power.
    """

    def __init__(self, supervisor: Supervisor, nodes: Nodes) -> None:
        self.indexes: dict[str, int] = {}
        self.running: dict[str, Node] = {}
        self._supervisor, self._nodes = supervisor, nodes

    def start(self, name: str, index: int, pods: Sequence[Mapping[str, Any]] = ()) -> None:
        """Start a node; harmless if it runs. pods: of another cluster, that run on there."""
        if name in self.running:
            return
        node = self._nodes.make(name, index)
        if pods:
            assert isinstance(self._nodes, SimulatedNodes)
            self._nodes.adopt(node, pods)
        self.indexes[name], self.running[name] = index, node

        self._supervisor.start(
            kubelet_of(name),
            lambda scene, actor: Kubelet(
                scene, actor, node=node.config, runtime=node.runtime, prober=node.prober
            ),
            world=node.world,
        )
        self._supervisor.start(
            proxy_of(name),
            lambda scene, actor: KubeProxy(scene, actor, node=name, data_path=node.data_path),
            world=node.world,
        )

    async def stop(self, name: str) -> None:
        """Stop a node with all that runs on it; harmless if it does not run."""
        node = self.running.pop(name, None)
        if node is not None:
            self._supervisor.stop(proxy_of(name))
            self._supervisor.stop(kubelet_of(name))
            await self._nodes.remove(node)

    async def logs(
        self, pod: KubeObject, container: str, *, previous: bool, follow: bool, world: World
    ) -> AsyncIterator[tuple[float, bytes]]:
        """Yield (seconds since 1970, line) of a container's log. Raises: ApiError."""
        name = pod.spec.get("nodeName", "")
        if not name:
            return  # As Kubernetes has it: nothing has been written yet.
        attempt = attempt_of(pod, container, previous=previous)
        node = self.running.get(name)
        if node is None:
            raise InternalError(f"node {name} does not answer: its logs cannot be read")
        lines = node.runtime.logs(pod.uid, container, attempt=attempt, follow=follow)
        try:
            async for told in lines:
                yield told
        except RuntimeFailure:
            id_ = container_id(pod, container)
            yield world.wall(), f"unable to retrieve container logs for {id_}\n".encode()

    async def session(self, pod: Mapping[str, Any], wishes: Wishes) -> Session:
        """Start a command in a container, or attach to it. Raises: ApiError."""
        metadata = pod["metadata"]
        runtime = self._runtime_of(pod)
        where = metadata["uid"], wishes.container
        try:
            if wishes.command:
                return await runtime.open_exec(
                    *where, wishes.command, stdin=wishes.stdin, tty=wishes.tty
                )
            return await runtime.attach(*where, stdin=wishes.stdin)
        except RuntimeFailure as error:
            if error.reason != "ContainerNotRunning":
                why = f"error executing command in container: {error.message}"
            elif wishes.command:
                why = f'unable to upgrade connection: container not found ("{wishes.container}")'
            else:
                name = f"{metadata['name']}_{metadata['namespace']}"
                told = f"container {wishes.container} not found in pod {name}"
                why = f"unable to upgrade connection: {told}"
            raise InternalError(why) from error

    async def connect(self, pod: Mapping[str, Any], port: int, *, local: bool) -> Connection:
        """Connect to a port of a pod. Raises: OSError; ApiError if its node does not answer."""
        return await self._runtime_of(pod).connect(pod["metadata"]["uid"], port, local=local)

    def _runtime_of(self, pod: Mapping[str, Any]) -> Runtime:
        name = pod["spec"].get("nodeName", "")
        node = self.running.get(name)
        if node is None:
            raise InternalError(f"error dialing backend: node {name} does not answer")
        return node.runtime


def kubelet_of(node: str) -> str:
    """Return the name of a node's kubelet."""
    return f"kubelet/{node}"


def proxy_of(node: str) -> str:
    """Return the name of a node's kube-proxy."""
    return f"kube-proxy/{node}"
