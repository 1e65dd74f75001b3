"""Nodes whose pods are real processes: runtimes, probes, proxies and the embedded registry.

Everything is on loopback: each node has an address of its own in 127.0.0.0/8, where its node ports
answer; those of the first node answer on localhost too.
"""

import errno
import ipaddress
import shutil
import socket
import tempfile
import zlib
from pathlib import Path
from typing import Final

from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.runtimes.process import ProcessRuntime
from kubeloop.actors.world import World
from kubeloop.net.prober import SocketProber
from kubeloop.net.proxy import UserspaceProxy, connect_by_dial
from kubeloop.net.registry import ImageStore, RegistryClient, RegistryServer
from kubeloop.nodes import Node, pod_cidr_of

LOCALHOST: Final = "127.0.0.1"


class ProcessNodes:
    """Nodes of one cluster on this machine.

    directory: where images and pods are kept; None for a temporary one.
    image_dir: the image store that the embedded registry serves.
    registry:  the URL of another registry, instead of the embedded one.
    """

    runtime_name = ProcessRuntime.name
    proxy_mode = UserspaceProxy.name
    pod_cidr = "10.244.0.0/16"

    def __init__(
        self,
        world: World,
        *,
        cluster: str,
        directory: Path | None,
        image_dir: Path | None,
        registry: str,
    ) -> None:
        self._world, self._registry_url = world, registry
        self._directory, self._image_dir = directory, image_dir
        self._temporary: Path | None = None
        # Two clusters should not want the same addresses; node ports on localhost they share.
        self._block = 20 + zlib.crc32(cluster.encode()) % 200
        self._network = ipaddress.IPv4Network(self.pod_cidr)
        self._server: RegistryServer | None = None
        self._source: RegistryClient | None = None
        self._runtimes: dict[str, ProcessRuntime] = {}
        self._proxies: dict[str, UserspaceProxy] = {}

    async def start(self) -> None:
        if self._directory is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="kubeloop-nodes-"))
            self._directory = self._temporary
        url = self._registry_url
        if not url:
            images = self._image_dir or self._directory / "images"
            self._server = RegistryServer(ImageStore(images))
            await self._server.start()
            url = self._server.url
        self._source = RegistryClient(url)

    def make(self, name: str, index: int) -> Node:
        assert self._source is not None and self._directory is not None, "start() comes first"
        config = NodeConfig(
            name=name,
            index=index,
            address=f"127.{self._block}.0.{index}",
            pod_cidr=pod_cidr_of(self.pod_cidr, index),
        )
        runtime = ProcessRuntime(self._world, self._directory / name, self._source)
        addresses = [config.address, *([LOCALHOST] if index == 1 else [])]
        proxy = UserspaceProxy(
            addresses=addresses,
            connect=connect_by_dial(self.dial),
            draw=self._world.rng.random,
            sockets=runtime.network,
        )
        self._runtimes[name], self._proxies[name] = runtime, proxy
        return Node(config, runtime, SocketProber(self.dial), proxy, self._world)

    async def remove(self, node: Node) -> None:
        await self._proxies.pop(node.config.name).close()
        await self._runtimes.pop(node.config.name).close()

    async def close(self) -> None:
        for proxy in self._proxies.values():
            await proxy.close()
        for runtime in self._runtimes.values():
            await runtime.close()
        self._proxies.clear()
        self._runtimes.clear()
        if self._source is not None:
            await self._source.close()
        if self._server is not None:
            await self._server.stop()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    async def dial(self, ip: str, port: int) -> socket.socket | None:
        """Return a socket connected inside the pod with that address, whatever its node.

        None if the address is none of a pod's. Raises: OSError, also for a pod that has gone.
        """
        for runtime in self._runtimes.values():
            network = runtime.network
            if any(ip == address for _, address in network.pods()):
                return await network.dial(ip, port)
        if ipaddress.IPv4Address(ip) in self._network:
            raise OSError(errno.EHOSTUNREACH, f"no pod has the address {ip}")
        return None
