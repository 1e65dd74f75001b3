"""Nodes whose pods are real processes: runtimes, probes, proxies and the embedded registry.

Everything is on loopback: each node has an address of its own in 127.0.0.0/8, where its node ports
answer; those of the first node answer on localhost too.
"""

import errno
import ipaddress
import itertools
import resource
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
from kubeloop.net.proxy import UserspaceProxy
from kubeloop.net.registry import ImageStore, RegistryClient, RegistryServer
from kubeloop.net.userspace.nested import NestedForwarder
from kubeloop.net.userspace.workers import WorkerForwarder
from kubeloop.nodes import Node, pod_cidr_of
from kubeloop.stores import StartFailed

LOCALHOST: Final = "127.0.0.1"
_OTHER_FILES: Final = 512  # Descriptors for everything but connections to Services.


class ProcessNodes:
    """Nodes of one cluster on this machine.

    directory: where images and pods are kept; None for a temporary one.
    image_dir: the image store that the embedded registry serves.
    registry:  the URL of another registry, instead of the embedded one.
    load_balancer_cidr: addresses for LoadBalancer Services; "auto": some of loopback, "": none.
    proxy_workers: how many processes carry the connections to Services; 0: this one does.
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
        proxy_workers: int,
        load_balancer_cidr: str,
    ) -> None:
        self._world, self._registry_url, self._workers = world, registry, proxy_workers
        self._directory, self._image_dir = directory, image_dir
        self._temporary: Path | None = None
        # Two clusters should not want the same addresses; node ports on localhost they share.
        self._block = 20 + zlib.crc32(cluster.encode()) % 200
        loopback = f"127.{self._block}.255.0/24"
        self.load_balancer_cidr = loopback if load_balancer_cidr == "auto" else load_balancer_cidr
        self._network = ipaddress.IPv4Network(self.pod_cidr)
        self._server: RegistryServer | None = None
        self._source: RegistryClient | None = None
        self._runtimes: dict[str, ProcessRuntime] = {}
        self._proxies: dict[str, UserspaceProxy] = {}
        self._forwarder: NestedForwarder | WorkerForwarder | None = None
        self._rules = itertools.count(1)

    async def start(self) -> None:
        if self.load_balancer_cidr:
            _must_be_ours(self.load_balancer_cidr)
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
        begin = self.pod_cidr.removesuffix("0.0/16")
        if self._workers:
            self._forwarder = WorkerForwarder(self._workers, lend=self._lend, pod_network=begin)
        else:
            self._forwarder = NestedForwarder(
                draw=self._world.rng.random, lend=self._lend, pod_network=begin,
                connections_max=_connections_max(),
            )  # fmt: skip

    def make(self, name: str, index: int) -> Node:
        assert self._source is not None and self._directory is not None, "start() comes first"
        assert self._forwarder is not None
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
            forwarder=self._forwarder,
            numbers=self._rules,
            sockets=runtime.network,
        )
        runtime.network.on_change(self._tell_pods)
        self._runtimes[name], self._proxies[name] = runtime, proxy
        return Node(config, runtime, SocketProber(self.dial), proxy, self._world)

    async def remove(self, node: Node) -> None:
        await self._proxies.pop(node.config.name).close()
        await self._runtimes.pop(node.config.name).close()
        self._tell_pods()

    async def close(self) -> None:
        for proxy in self._proxies.values():
            await proxy.close()
        if self._forwarder is not None:
            await self._forwarder.close()
            self._forwarder = None
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

    def _tell_pods(self) -> None:
        """Tell the forwarder which addresses are reached from inside pods."""
        if self._forwarder is None:
            return
        networks = [runtime.network for runtime in self._runtimes.values()]
        ips = {ip for network in networks if network.isolated for _, ip in network.pods()}
        self._forwarder.pods(ips)

    async def _lend(self, ip: str, count: int, udp: bool) -> list[socket.socket]:
        """Return sockets made inside the pod with that address. Raises: OSError."""
        for runtime in self._runtimes.values():
            if any(ip == address for _, address in runtime.network.pods()):
                return await runtime.network.lend(ip, count, udp=udp)
        raise OSError(errno.EHOSTUNREACH, f"no pod has the address {ip}")

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


def _connections_max() -> int:
    """Return how many connections this process may carry, with the descriptors it has."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, (soft - _OTHER_FILES) // 2)


def _must_be_ours(cidr: str) -> None:
    """Refuse addresses for Services that are not this host's. Raises: StartFailed."""
    address = next(ipaddress.ip_network(cidr).hosts())
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError as error:
            raise StartFailed(
                f"load_balancer_cidr={cidr!r}: nothing can listen on {address} here "
                f"({error.strerror}); give addresses of this host, of 127.0.0.0/8 for example"
            ) from error
