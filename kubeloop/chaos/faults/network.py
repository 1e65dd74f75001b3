"""What happens between an operator and the API server; see `sim.links` and `sim.network`.

Of a run without an operator none has an effect: the cluster's own parts do not use the network.
"""

from dataclasses import dataclass
from typing import Any

from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.program import PROGRAM
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.succession import HOST
from kubeloop.chaos.values import OneOf, Real, Whole, drawn, kind


@dataclass(frozen=True, kw_only=True)
class OfNetwork(Fault):
    """A fault of what lies between the operator and the API server."""

    def begin(self, stage: Stage) -> Heal | None:
        if stage.program is None:
            stage.note(f"{self}: there is no operator")
            return None
        return self.strike(stage)

    def strike(self, stage: Stage) -> Heal | None:
        """Break it; override."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class OfLink(OfNetwork):
    """A fault of a link. way: of what the operator sends ("to" the API server), hears, or both."""

    way: str = drawn(OneOf("both", "to", "from"))

    def strike(self, stage: Stage) -> Heal:
        one, other = (HOST, PROGRAM) if self.way == "from" else (PROGRAM, HOST)
        return stage.network.fault(one, other, both=self.way == "both", **self.changes())

    def changes(self) -> dict[str, Any]:
        """Return what the fields of the link are; override."""
        raise NotImplementedError


@kind("net-slow")
@dataclass(frozen=True, kw_only=True)
class NetSlow(OfLink):
    """Whatever is sent takes longer, now more and now less."""

    delay_s: float = drawn(Real(0.0, 10.0))

    def changes(self) -> dict[str, Any]:
        return {"latency": "uniform", "latency_s": (self.delay_s / 2, self.delay_s)}


@kind("net-narrow")
@dataclass(frozen=True, kw_only=True)
class NetNarrow(OfLink):
    """Only so many bytes pass in a second."""

    bytes_per_s: int = drawn(Whole(100, 1_000_000))

    def changes(self) -> dict[str, Any]:
        return {"bytes_per_s": float(self.bytes_per_s)}


@kind("net-lossy")
@dataclass(frozen=True, kw_only=True)
class NetLossy(OfLink):
    """Packets are lost and sent again; and what is sent at once arrives in pieces."""

    loss: float = drawn(Real(0.0, 0.5))

    def changes(self) -> dict[str, Any]:
        return {"loss": self.loss, "cut": self.loss}


@kind("net-cut")
@dataclass(frozen=True, kw_only=True)
class NetCut(OfLink):
    """Nothing passes, at most one way; nobody is told. In the end what was sent arrives."""

    def changes(self) -> dict[str, Any]:
        return {"up": False}


@kind("net-refuses")
@dataclass(frozen=True, kw_only=True)
class NetRefuses(OfNetwork):
    """Connections there are live on; new ones are refused, or get no answer."""

    how: str = drawn(OneOf("refused", "blackholed"))

    def strike(self, stage: Stage) -> Heal:
        return stage.network.fault(PROGRAM, HOST, both=False, connect=self.how)


@kind("net-reset")
@dataclass(frozen=True, kw_only=True)
class NetReset(OfNetwork):
    """Every connection of the operator is reset, once."""

    def strike(self, stage: Stage) -> None:
        stage.network.reset(PROGRAM)


@kind("net-half-open")
@dataclass(frozen=True, kw_only=True)
class NetHalfOpen(OfNetwork):
    """Something on the way forgets all connections: they carry nothing, and nobody is told.

    New ones are well. In the end all are reset: without that who only listens would do so for ever.
    """

    def strike(self, stage: Stage) -> Heal:
        stage.network.half_open(PROGRAM)

        def heal() -> None:
            stage.network.reset(PROGRAM)

        return heal
