"""What happens to whole nodes: power, clocks, the runtime, the way to the API server."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pykka._envelope import Envelope

from kubeloop.actors.interception import Deliver, Interceptor
from kubeloop.actors.messages import Listing, Subscribe, decode
from kubeloop.api import quantities
from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import NODES
from kubeloop.chaos.values import OneOf, Real, drawn, kind
from kubeloop.fleet import kubelet_of, proxy_of

_LEFT: Final = 50 * 2**20  # Bytes: less than any kubelet is content with.


@dataclass(frozen=True, kw_only=True)
class OfNode(Fault):
    """A fault of one node."""

    node: int = drawn(NODES)

    @property
    def name(self) -> str:
        """The node's name."""
        return f"node-{self.node}"

    def begin(self, stage: Stage) -> Heal | None:
        if not stage.alive or self.name not in stage.cluster.fleet.running:
            stage.note(f"{self}: there is no {self.name}")
            return None
        return self.strike(stage)

    def strike(self, stage: Stage) -> Heal | None:
        """Break the node, which has power; override."""
        raise NotImplementedError


@kind("node-off")
@dataclass(frozen=True, kw_only=True)
class NodeOff(OfNode):
    """A node has no power: its kubelet and its pods are gone; later it is started, as it was.

    If that is soon enough nobody takes note, and it has been rebooted.
    """

    for_s: float = drawn(Real(0.0, 600.0))

    def strike(self, stage: Stage) -> Heal:
        off = stage.spawn(stage.cluster.stop_node(self.name))

        async def on() -> None:
            await off
            if stage.alive:  # Else all nodes are started with the next cluster.
                stage.cluster.start_node(self.name)

        def heal() -> None:
            stage.spawn(on())

        return heal


@kind("node-clock")
@dataclass(frozen=True, kw_only=True)
class NodeClock(OfNode):
    """A node's clock jumps, and then goes wrong.

    ahead_s: how far it jumps;  rate: seconds it counts in one; 0.0: it stands still.
    """

    ahead_s: float = drawn(OneOf(0.0, 1.0, -1.0, 60.0, -60.0, 86400.0, -86400.0))
    rate: float = drawn(OneOf(1.0, 0.0, 0.5, 1.001, 2.0))

    def strike(self, stage: Stage) -> Heal:
        clock, now = stage.nodes.clocks[self.name], stage.loop.time()
        return clock.go_wrong(now, ahead_s=self.ahead_s, rate=self.rate)


@kind("runtime-stalls")
@dataclass(frozen=True, kw_only=True)
class RuntimeStalls(OfNode):
    """A node's container runtime answers nothing; what runs runs on."""

    def strike(self, stage: Stage) -> Heal:
        return stage.nodes.runtimes[self.name].stall()


@kind("node-pressure")
@dataclass(frozen=True, kw_only=True)
class NodePressure(OfNode):
    """Something that is no pod takes nearly all of a node's memory, or of its disk.

    Its kubelet evicts a pod every ten seconds, takes no new ones, and says so for five minutes
    more.
    """

    for_s: float = drawn(Real(0.0, 300.0))
    what: str = drawn(OneOf("memory", "disk"))

    def strike(self, stage: Stage) -> Heal:
        node = next(node for node in stage.nodes.made if node.config.name == self.name)
        resource = "memory" if self.what == "memory" else "ephemeral-storage"
        taken = quantities.value(node.config.capacity[resource]) - _LEFT
        return stage.nodes.runtimes[self.name].hog(**{self.what: taken})


@kind("node-cut")
@dataclass(frozen=True, kw_only=True)
class NodeCut(OfNode):
    """Nothing passes between a node and the API server; what runs there runs on.

    how: "held": what is sent arrives in the end, as by connections that live through it;
         "severed": it is lost, connections break, and all is listed again.
    """

    for_s: float = drawn(Real(0.0, 600.0))
    how: str = drawn(OneOf("held", "severed"))

    def strike(self, stage: Stage) -> Heal:
        cluster, names = stage.cluster, (kubelet_of(self.name), proxy_of(self.name))
        supervisor = cluster.supervisor
        if self.how == "held":
            ends = [supervisor.intercept(name, _Holds()) for name in names]
        else:
            ends = [_sever(cluster, name) for name in names]

        def heal() -> None:
            for end in ends:
                end()

        return heal


def _sever(cluster: Any, name: str) -> Heal:
    """Lose what an actor sends and is sent, until it has been healed and has listed again."""
    severed = _Severed()
    end = cluster.supervisor.intercept(name, severed)

    def heal() -> None:
        severed.mended, severed.end = True, end
        if severed.wish is None:
            cluster.watch_anew(name)
        else:
            severed.wish()
        if cluster.supervisor.inbox(name) is None:
            end()  # It will list when it is started.

    return heal


class _Holds(Interceptor):
    def __init__(self) -> None:
        self._held: list[tuple[Envelope[Any], Deliver]] = []

    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        self._held.append((envelope, deliver))

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        self._held.append((envelope, deliver))

    def ended(self) -> None:
        for envelope, deliver in self._held:
            deliver(envelope)


class _Severed(Interceptor):
    """mended: what is said passes, and what is heard from the next list on; then it `end`s.

    wish: says again what is to be watched, if that was lost: of an actor that was started meanwhile
          nobody else knows. A client would try until it is heard.
    """

    wish: Heal | None = None

    def __init__(self) -> None:
        self.mended = self._listed = False
        self.end: Heal = lambda: None

    def heard(self, envelope: Envelope[Any], deliver: Deliver) -> None:
        if self.mended and isinstance(decode(envelope.message), Listing):
            self._listed = True
            self.end()
        if self._listed:  # Whoever tells the list still does so by way of this one.
            deliver(envelope)

    def said(self, to: str, envelope: Envelope[Any], deliver: Deliver) -> None:
        if self.mended:
            deliver(envelope)
        elif isinstance(decode(envelope.message), Subscribe):
            self.wish = partial(deliver, envelope)
