"""What happens to containers that run, each as its process or its kernel would have it."""

from dataclasses import dataclass
from typing import Final

from kubeloop.actors.runtimes.simulated import SimulatedRuntime
from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.faults.nodes import OfNode
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.values import FLAG, Real, Whole, drawn, kind

OOM: Final = 137  # 128 + SIGKILL


@dataclass(frozen=True, kw_only=True)
class OfContainer(Fault):
    """A fault of one: of all that run, by the names of their pods, the one of this number."""

    number: int = drawn(Whole(0, 9))

    def begin(self, stage: Stage) -> Heal | None:
        found = running(stage)
        if not found:
            stage.note(f"{self}: no container runs")
            return None
        return self.strike(*found[self.number % len(found)])

    def strike(self, runtime: SimulatedRuntime, pod_uid: str, container: str) -> Heal | None:
        """Break it; override."""
        raise NotImplementedError


@kind("container-exits")
@dataclass(frozen=True, kw_only=True)
class ContainerExits(OfContainer):
    """A container's process ends by itself, with a code."""

    code: int = drawn(Whole(0, 255))

    def strike(self, runtime: SimulatedRuntime, pod_uid: str, container: str) -> None:
        runtime.kill(pod_uid, container, code=self.code)


@kind("container-oom")
@dataclass(frozen=True, kw_only=True)
class ContainerOom(OfContainer):
    """The kernel kills a container's process, as it has taken too much memory."""

    def strike(self, runtime: SimulatedRuntime, pod_uid: str, container: str) -> None:
        runtime.kill(pod_uid, container, code=OOM, reason="OOMKilled")


@kind("container-hangs")
@dataclass(frozen=True, kw_only=True)
class ContainerHangs(OfContainer):
    """A container's process stands still: it answers no probe, and hears no TERM.

    deaf: nor KILL, as one that waits for a device does not.
    """

    deaf: bool = drawn(FLAG)

    def strike(self, runtime: SimulatedRuntime, pod_uid: str, container: str) -> Heal:
        return runtime.hang(pod_uid, container, deaf=self.deaf)


@kind("probes-fail")
@dataclass(frozen=True, kw_only=True)
class ProbesFail(OfContainer):
    """A container fails its probes, and does not know of it."""

    def strike(self, runtime: SimulatedRuntime, pod_uid: str, container: str) -> Heal:
        return runtime.sicken(pod_uid, container)


@kind("slow-starts")
@dataclass(frozen=True, kw_only=True)
class SlowStarts(OfNode):
    """Containers on a node take longer to start."""

    delay_s: float = drawn(Real(0.0, 60.0))

    def strike(self, stage: Stage) -> Heal:
        return stage.nodes.runtimes[self.name].slow(self.delay_s)


def running(stage: Stage) -> list[tuple[SimulatedRuntime, str, str]]:
    """Return the containers that run: the runtime of each, its pod's uid and its name."""
    found = [
        ((sandbox.namespace, sandbox.name, one.name), (runtime, sandbox.pod_uid, one.name))
        for runtime in stage.nodes.runtimes.values()
        for sandbox in runtime.sandboxes()
        for one in sandbox.containers
        if one.running
    ]
    return [what for _, what in sorted(found, key=lambda each: each[0])]
