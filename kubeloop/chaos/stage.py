"""The stage: a running simulated cluster, and all that happenings may do to it."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.chaos.gatekeeper import Gatekeeper
from kubeloop.net.client import Client
from kubeloop.net.gate import Feed, Wake, Wanted
from kubeloop.nodes import SimulatedNodes

if TYPE_CHECKING:
    from kubeloop.chaos.program import Program
    from kubeloop.cluster import Cluster
    from kubeloop.sim.disk import MemoryDisk
    from kubeloop.sim.loop import SimLoop
    from kubeloop.sim.network import Network


USER: Final = "user"  # How what users do is known to the API server.


@dataclass(frozen=True, slots=True)
class Mark:
    """Something to be seen on the timeline. at_s: virtual seconds since the loop began."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that was acknowledged to a user. at_s: when it was."""

    at_s: float
    request: Request
    revision: int


class Stage:
    """What happenings act on.

    cluster:      the one that runs.
    disk:         of the store, None if it is in memory.
    chance:       of its own, decided by the seed.
    gate:         what all clients of the cluster come by.
    api:          a client for what users do: all it is told to write is remembered.
    program:      what runs beside the cluster, None if nothing does.
    marks:        what happened, in order.
    acknowledged: the writes that users were told are done.
    alive:        whether the cluster runs; it does not from its death until another has started.
    followers:    are called when another cluster has taken its place, before it starts.
    lags, rooms:  of those faults that slow the disk down or fill it.
    """

    def __init__(
        self, loop: "SimLoop", cluster: "Cluster", *, disk: "MemoryDisk | None" = None
    ) -> None:
        self.loop, self.disk, self.alive = loop, disk, True
        self.followers: list[Callable[[], None]] = []
        self.gate = Gatekeeper(self)
        self.cluster = cluster
        self.program: Program | None = None
        self.chance: Random = loop.chance("chaos")
        self.api = Client(self, agent=USER)
        self.marks: list[Mark] = []
        self.acknowledged: list[Acknowledged] = []
        self.lags: list[float] = []
        self.rooms: list[int] = []
        self._heals: dict[Callable[[], None], str] = {}
        self._works: list[asyncio.Future[None]] = []
        self._ill_until = 0.0
        self._ill_at = loop.time()  # When something was last broken, or not yet well.

    @property
    def cluster(self) -> "Cluster":
        """The cluster that runs; one that takes its place gets its gate."""
        return self._cluster

    @cluster.setter
    def cluster(self, cluster: "Cluster") -> None:
        self._cluster = cluster
        cluster.gate = self.gate
        self.gate.renew()
        for follow in self.followers:
            follow()

    def client(self, agent: str) -> Client:
        """Return a client, of whom faults may be, as of those over REST, by how it calls itself."""
        return Client(_Now(self), agent=agent)

    @property
    def network(self) -> "Network":
        """What connects the hosts."""
        return self.loop.network

    @property
    def nodes(self) -> SimulatedNodes:
        """What nodes are made of."""
        nodes = self.cluster.nodes
        assert isinstance(nodes, SimulatedNodes), "only simulated nodes may fail"
        return nodes

    def note(self, text: str) -> None:
        """Put a mark on the timeline."""
        self.marks.append(Mark(self.loop.time(), text))

    @property
    def calm_since(self) -> float:
        """Since when nothing is broken, in seconds of the loop; now if something is."""
        return self.loop.time() if self._heals else self._ill_at

    def disturb(self) -> None:
        """Hear that something breaks now."""
        self._ill_at = self.loop.time()

    def heal_later(self, delay_s: float, heal: Callable[[], None], what: str) -> None:
        """Have something made well again after some seconds, or at the end of the run."""
        self._heals[heal] = what
        self._ill_until = max(self._ill_until, self.loop.time() + delay_s)
        self.loop.call_later(delay_s, self._heal_in_time, heal)

    def _heal_in_time(self, heal: Callable[[], None]) -> None:
        try:
            self._heal(heal)
        except Exception as error:  # noqa: BLE001 - of a timer nobody would hear; `healed` tells it.
            failed: asyncio.Future[None] = self.loop.create_future()
            failed.set_exception(error)
            self._works.append(failed)

    def spawn(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do what must await; `healed` waits for it, and raises what it raises."""
        task = self.loop.create_task(work, name=f"chaos:{len(self._works)}")
        self._works.append(task)
        return task

    async def healed(self) -> None:
        """Wait until everything has been made well in its time. Raises: what `spawn` did."""
        while True:
            works = [work for work in self._works if not work.done()]
            if self._ill_until > self.loop.time():
                await self.sleep_until(self._ill_until)
            elif works:
                await asyncio.wait(works, return_when=asyncio.FIRST_EXCEPTION)
            else:
                break
            self._look()
        self._look()

    async def close(self) -> None:
        """End what `spawn` has begun, and the cluster."""
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)
        await self.cluster.stop()

    def _look(self) -> None:
        for work in self._works:
            if work.done():
                work.result()

    def heal_all(self) -> None:
        """Make everything well that is not yet."""
        for heal in tuple(self._heals):
            self._heal(heal)

    def _heal(self, heal: Callable[[], None]) -> None:
        what = self._heals.pop(heal, None)
        if what is not None:
            self.note(f"healed: {what}")
            self.disturb()  # What it was good for is only now about to begin again.
            heal()

    # What `Client` needs.

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        """Return what a watch reads."""
        return await self.cluster.open(wanted, wake)

    def catalogue(self) -> Catalogue:
        """Return the kinds there are."""
        return self.cluster.catalogue()

    async def ask(self, request: Request) -> Outcome:
        """Have the API server handle a user's request, and remember what it acknowledges."""
        outcome = await self.cluster.ask(request)
        if request.verb not in ("get", "list") and 200 <= outcome.code < 300:
            done = Acknowledged(self.loop.time(), request, outcome.revision)
            self.acknowledged.append(done)
        return outcome

    async def sleep_until(self, time_s: float) -> None:
        """Wait until the loop's clock shows a time."""
        await asyncio.sleep(max(0.0, time_s - self.loop.time()))


class _Now:
    """The cluster that runs at the time, for clients that outlive one."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    async def ask(self, request: Request) -> Outcome:
        return await self._stage.cluster.ask(request)

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        return await self._stage.cluster.open(wanted, wake)

    def catalogue(self) -> Catalogue:
        return self._stage.cluster.catalogue()
