"""A cluster: builds the actors, introduces them to store and net, starts and stops them.

    async with Cluster(nodes=3) as c:
        await c.api.apply("deployment.yaml")
        await c.api.wait("deployment/web", "condition=Available")

It is the only module that knows all rooms; none of them knows it.
"""

import asyncio
import ipaddress
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from kubeloop import travel
from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.controller_manager import Settings as ControllerSettings
from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.bootstrap import (
    bootstrap_objects,
    kubernetes_endpoint_slice,
    service_address,
)
from kubeloop.actors.requests.state import Settings
from kubeloop.actors.requests.writing import API_SERVER_USER
from kubeloop.actors.runtimes.simulated import Script
from kubeloop.actors.settling import QUIET_S, WITHIN_S, settled, unnoticed
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld, World
from kubeloop.api.errors import ApiError, NotFound
from kubeloop.fleet import Fleet
from kubeloop.inside import Inside
from kubeloop.leaders import start_leaders
from kubeloop.net.client import Client
from kubeloop.net.gate import Gate
from kubeloop.nodes import Nodes, SimulatedNodes
from kubeloop.recordings import Recordable
from kubeloop.serving import Served
from kubeloop.store.disk import Disk
from kubeloop.store.history import Retention
from kubeloop.store.store import Store, Sync
from kubeloop.stores import EtcdAccess, StartFailed, connect_etcd, open_directory
from kubeloop.webhooks import Webhooks

if TYPE_CHECKING:
    from kubeloop.endpoint import Endpoint

READY_S: Final = 30.0  # A cluster that is not ready by then will not be.


class Cluster(Served, travel.TimeTravel, Recordable):
    """One Kubernetes cluster inside the running asyncio loop.

    nodes:     how many nodes, named node-1, node-2, …
    name:      shown in the kubeconfig as context kubeloop-NAME.
    rest:      whether to open the REST endpoint, on `port` of loopback (0: a free one); with `tls`
               it speaks HTTPS.
    data_dir:  keep every object here, over restarts; None keeps everything in memory.
    runtime:   "simulated": pods are scripts of behaviour; "process": real processes.
    images:    the scripts of the simulated runtime by image name.
    image_dir: the image store the embedded registry serves to real processes.
    registry:  the URL of another registry to pull from.
    load_balancer_cidr: the addresses of this host that LoadBalancer Services are given; "" for
               none, "auto" for some on loopback, if pods are real processes.
    proxy_workers: processes that carry the connections to Services of real processes; 0: this one.
    disk:      where data_dir is, if not on this machine's disk: `sim.MemoryDisk`.
    sync:      when what is acknowledged has been synced: "always", "interval", "never"; see
               docs/store.md.
    etcd:      keep every object in an etcd cluster, which others may share: then of all their
               controllers and schedulers one leads.
    retention: how far one can look back; the newest 10,000 revisions if not told.
    seed:      makes every choice repeatable; None draws it from the operating system.
    storage_class: a default StorageClass of that name, whose volumes are directories of nodes.
    settings:  of the API server;  controllers: of the controller manager.
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        name: str = "kubeloop",
        rest: bool = False,
        tls: bool = False,
        port: int = 0,
        data_dir: Path | str | None = None,
        runtime: Literal["simulated", "process"] = "simulated",
        images: Mapping[str, Script] | None = None,
        image_dir: Path | str | None = None,
        registry: str = "",
        load_balancer_cidr: str = "",
        proxy_workers: int = 0,
        disk: Disk | None = None,
        sync: Sync = "always",
        retention: Retention | None = None,
        etcd: EtcdAccess | None = None,
        seed: int | None = None,
        storage_class: str = "",
        settings: Settings | None = None,
        controllers: ControllerSettings | None = None,
    ) -> None:
        if nodes < 0:
            raise ValueError(f"nodes={nodes}: a cluster has 0 nodes or more")
        if load_balancer_cidr not in ("", "auto"):
            ipaddress.ip_network(
                load_balancer_cidr
            )  # Raises: ValueError, which says what is wrong.
        if proxy_workers < 0:
            raise ValueError(f"proxy_workers={proxy_workers}: a cluster has 0 workers or more")
        if tls and not rest:
            raise ValueError("tls=True needs rest=True: there is no endpoint to protect")
        if etcd is not None and disk is not None:
            raise ValueError("etcd and disk: a store is in the one or on the other")
        self.name, self.node_count, self.seed = name, nodes, seed
        self.data_dir = None if data_dir is None else Path(data_dir)
        self._rest, self._tls, self._port, self._storage_class = rest, tls, port, storage_class
        self._runtime, self._images, self._registry = runtime, images, registry
        self._disk, self._sync, self._retention, self._etcd = disk, sync, retention, etcd
        self._image_dir = None if image_dir is None else Path(image_dir)
        self._proxy_workers, self._load_balancers = proxy_workers, load_balancer_cidr
        self._settings, self._controllers = settings, controllers or ControllerSettings()
        self._origin: Store | None = None
        self._before: Cluster | None = None
        self._prepared = False
        self._endpoint: Endpoint | None = None
        self._endpoint_before: Endpoint | None = None
        self.gate: Gate | None = None  # See `net.gate`: None but in a simulation.
        self.supervisor: Supervisor
        self.store: Store
        self.nodes: Nodes
        self.fleet: Fleet
        self.api: Client

    # Life.

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start everything; return when every node is Ready. Raises: StartFailed."""
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def prepare(self) -> None:
        """Open the store, and have what nodes are made of; `start` does so if nobody has.

        Raises: StartFailed, and it must be stopped.
        """
        loop = asyncio.get_running_loop()
        # A loop that keeps its own wall clock (a virtual one) is asked for the time.
        self.world = LoopWorld(loop, seed=self.seed, wall=getattr(loop, "wall", time.time))
        self.nodes = self._make_nodes(self.world)
        await self.nodes.start()
        self.store = await self._open_store(loop)
        self.hub = self.store.hub
        self.supervisor = Supervisor(self.world)
        self.fleet = Fleet(self.supervisor, self.nodes)
        self._serve(alone=self._etcd is None)
        inside = Inside(lambda asked: self._ask(self._signed(asked)), self._watch, self.catalogue)
        self.api, self._own = Client(self), Client(inside, user=API_SERVER_USER)
        self._subscriptions = Subscriptions({})
        self._webhooks = Webhooks(self.store)
        self._prepared = True

    async def _start(self) -> None:
        if not self._prepared:
            await self.prepare()
        settings, subscriptions = self.api_settings, self._subscriptions
        self.supervisor.start(
            API_SERVER,
            lambda scene, name: ApiServer(
                scene, name, self.store, subscriptions, settings, caller=self._webhooks
            ),
        )
        if self._rest:
            await self._start_endpoint()
        for obj in bootstrap_objects(settings):
            await self._ensure(obj)
        await self._announce()
        self._furnished = True
        told, identity = self._controller_settings(), self._identity if self._etcd else None
        start_leaders(self.supervisor, told, identity)
        for name, index in self._first_nodes():
            pods = travel.pods_on(self._origin, name) if self._origin is not None else ()
            self.fleet.start(name, index, pods)
        await self._ready()
        self._before = self._endpoint_before = None  # All that is needed of it was taken over.

    async def stop(self) -> None:
        """Stop everything that was started; harmless if nothing was."""
        if self._endpoint is not None:
            await self._endpoint.stop()
            self._endpoint_before, self._endpoint = self._endpoint, None
        if hasattr(self, "supervisor"):
            self.supervisor.stop_all()
            await self._webhooks.close()
        if hasattr(self, "nodes"):
            await self.nodes.close()
        if hasattr(self, "store"):
            await self.store.aclose()

    def kill(self) -> None:
        """End at once, as a process does that is killed: nothing more is done, nobody is told.

        All pods are lost, as their machine is. `stop` must follow.
        Raises: ValueError if pods are real processes.
        """
        nodes = self._simulated("be lost")
        self.store.abandon()
        self.supervisor.stop_all()
        self.fleet.running.clear()
        nodes.lose()

    # What the wire needs.

    async def settled(self, *, within_s: float = WITHIN_S, quiet_s: float = QUIET_S) -> None:
        """Return when nothing is left to be done; see `actors.settling`. Raises: NotSettled."""
        await settled(self.hub, self._busy, within_s=within_s, quiet_s=quiet_s)

    def _busy(self) -> str | None:
        what = self.supervisor.busy()
        if what is None and self._etcd is None:  # Else the nodes of others are not known here.
            what = unnoticed(self.store, self.supervisor.names())
        return what

    async def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool, follow: bool
    ) -> AsyncIterator[tuple[float, bytes]]:
        """Yield (seconds since 1970, line) of a container's log. Raises: ApiError."""
        found = await self.api.get("pods", pod, namespace=namespace)
        asked = {"previous": previous, "follow": follow}
        async for told in self.fleet.logs(found, container, world=self.world, **asked):
            yield told

    # What users of the endpoint need.

    @property
    def url(self) -> str:
        """Where the REST endpoint answers. Raises: RuntimeError if there is none."""
        return self._opened().url

    @property
    def context(self) -> str:
        """The cluster's context in its kubeconfig."""
        return f"kubeloop-{self.name}"

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """A self-contained kubeconfig: address, authority and token."""
        return self._opened().kubeconfig()

    def config_yaml(self) -> str:
        """Return the kubeconfig as the text of its file."""
        import yaml

        text: str = yaml.safe_dump(self.kubeconfig, sort_keys=False)
        return text

    @property
    def runtime_name(self) -> str:
        """What pods are made of: "simulated", "process"."""
        return self.nodes.runtime_name

    @property
    def proxy_mode(self) -> str:
        """What carries the connections to Services: "userspace", "none"."""
        return self.nodes.proxy_mode

    # Time travel: more of it in `travel.TimeTravel`.

    def fork(self, revision: int | None = None, *, seed: int | None = None) -> "Cluster":
        """Return a cluster in memory that goes on by itself from a revision, now if not told.

        It is not started yet. The containers that ran there go on running, those of this cluster
        as well. Cost: O(1) in the number of objects; what it costs to start is what it costs all
        its actors to list them.
        Raises: Expired; ValueError if pods are real processes: these cannot be copied.
        """
        self._simulated("be copied")
        fork = self._like(name=f"{self.name}-fork", seed=self.seed if seed is None else seed)
        fork._origin = self.store.fork(revision)
        return fork

    def successor(self, *, seed: int, disk: Disk | None = None) -> "Cluster":
        """Return a cluster that goes on with what this one leaves, once it has ended.

        It is not started yet. It has the same data directory, on `disk` if that is told; the same
        nodes, with the images they have; and it is reached the same way.
        seed: another one, or it would draw the same ids again.
        Raises: ValueError if pods are real processes.
        """
        self._simulated("go over to a successor")
        endpoint = self._endpoint or self._endpoint_before
        new = self._like(
            name=self.name,
            seed=seed,
            data_dir=self.data_dir,
            disk=disk or self._disk,
            sync=self._sync,
            etcd=self._etcd,
            rest=self._rest,
            tls=self._tls,
            port=self._port if endpoint is None else endpoint.port,
        )
        new._before, new._endpoint_before = self, endpoint
        return new

    def _simulated(self, what: str) -> SimulatedNodes:
        if not isinstance(self.nodes, SimulatedNodes):
            raise ValueError(f"runtime={self._runtime!r}: only simulated pods can {what}")
        return self.nodes

    def _like(self, **options: Any) -> "Cluster":
        return Cluster(
            nodes=self.node_count,
            images=self._images,
            retention=self._retention,
            settings=self._settings,
            controllers=self._controllers,
            **options,
        )

    # Nodes.

    async def add_node(self, name: str) -> None:
        """Start one more node; return when it is Ready."""
        self.node_count += 1
        self.fleet.start(name, self.node_count)
        await self.api.wait(f"node/{name}", "condition=Ready", timeout_s=READY_S)

    async def stop_node(self, name: str) -> None:
        """Take a node's power away: its kubelet, its proxy and its pods are gone at once.

        The Node object stays, and becomes NotReady when its lease runs out.
        """
        await self.fleet.stop(name)

    def start_node(self, name: str) -> None:
        """Give a node its power back: it has its name, its address and its images, and no pods.

        Raises: KeyError if there never was such a node.
        """
        self.fleet.start(name, self.fleet.indexes[name])

    def watch_anew(self, actor: str) -> None:
        """Have an actor list and watch again, as when its connection to the API server broke.

        An API server that is yet to come lists for everybody when it begins.
        """
        wish = self._subscriptions.by_name.get(actor)
        if wish is not None and self.supervisor.inbox(API_SERVER) is not None:
            self.supervisor.tell(API_SERVER, wish.encode())

    # Parts.

    def _make_nodes(self, world: World) -> Nodes:
        if self._runtime == "simulated":
            before = None if self._before is None else self._before._simulated("go on")
            return SimulatedNodes(world, self._images, before)
        from kubeloop.process_nodes import ProcessNodes

        directory = None if self.data_dir is None else self.data_dir / "nodes"
        return ProcessNodes(
            world,
            cluster=self.name,
            directory=directory,
            image_dir=self._image_dir,
            registry=self._registry,
            proxy_workers=self._proxy_workers,
            load_balancer_cidr=self._load_balancers,
        )

    @property
    def api_settings(self) -> Settings:
        """What the API server was told."""
        told = self._settings or Settings(pod_cidr=self.nodes.pod_cidr)
        return replace(
            told,
            storage_class=self._storage_class or told.storage_class,
            mounts_tokens=self._tls or told.mounts_tokens,
            plants=True,
        )

    def _controller_settings(self) -> ControllerSettings:
        """Return what the controller manager is told; an endpoint with TLS has an authority."""
        told, cidr = self._controllers, self._load_balancers
        pool = self.nodes.load_balancer_cidr if cidr == "auto" else cidr
        told = replace(told, load_balancer_cidr=pool or told.load_balancer_cidr)
        if self._endpoint is None or told.authority:
            return told
        authority, key = self._endpoint.authority
        return replace(told, authority=authority, authority_key=key)

    def _first_nodes(self) -> Sequence[tuple[str, int]]:
        """Return the name and the index of each node to begin with."""
        if self._before is not None:
            return list(self._before.fleet.indexes.items())
        if self._origin is None:
            return [(f"node-{index}", index) for index in range(1, self.node_count + 1)]
        found = travel.nodes_at(self._origin)
        self.node_count = max([0, *(index for _, index in found)])
        return found

    async def _open_store(self, loop: asyncio.AbstractEventLoop) -> Store:
        if self._origin is not None:
            return self._origin
        if self._etcd is not None:
            return await connect_etcd(self._etcd, self._retention)
        if self.data_dir is None:
            return Store.memory(retention=self._retention)
        return open_directory(
            self.data_dir / "store",
            self._disk,
            loop=loop,
            fresh_id=self.world.rng.randbytes(16),
            retention=self._retention,
            sync=self._sync,
        )

    async def _start_endpoint(self) -> None:
        from kubeloop.endpoint import Endpoint  # aiohttp is heavy, and many tests need no REST.

        endpoint = Endpoint(
            self,
            name=self.name,
            port=self._port,
            tls=self._tls,
            service=service_address(self.api_settings),
            shares=self._etcd is not None,
            directory=None if self._disk or not self.data_dir else self.data_dir / "endpoint",
            world=self.world,
            before=self._endpoint_before,
        )
        try:
            await endpoint.start()
        except OSError as error:
            raise StartFailed(
                f"the endpoint cannot listen on 127.0.0.1:{self._port}: {error.strerror}; "
                "choose another port, or 0 for a free one"
            ) from error
        self._endpoint = endpoint

    def _opened(self) -> "Endpoint":
        if self._endpoint is None:
            raise RuntimeError("this cluster has no REST endpoint: use Cluster(rest=True)")
        return self._endpoint

    async def _announce(self) -> None:
        """Let the `kubernetes` Service lead to this process's endpoint, if it has one."""
        if self._endpoint is None:
            return
        wanted = kubernetes_endpoint_slice("127.0.0.1", self._endpoint.port)
        await self._ensure(wanted)
        change = {"endpoints": wanted["endpoints"], "ports": wanted["ports"]}
        await self._own.patch("endpointslices", "kubernetes", change, type_="merge")

    def _identity(self) -> str:
        return f"{self.name}-{random.SystemRandom().getrandbits(64):016x}"

    async def _ensure(self, obj: dict[str, Any]) -> None:
        """Create an object unless it is there. Raises: ApiError."""
        try:
            await self._own.create(obj)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise

    async def _ready(self) -> None:
        try:
            for name in self.fleet.running:
                await self._own.wait(f"node/{name}", "condition=Ready", timeout_s=READY_S)
        except (TimeoutError, NotFound) as error:
            raise StartFailed(f"the cluster did not become ready: {error}") from error
