"""What a simulated node runs: sandboxes, and runs of containers in them."""

import asyncio
from dataclasses import dataclass, field

from kubeloop.actors.runtimes.protocol import (
    ContainerRecord,
    ContainerSpec,
    SandboxRecord,
    SandboxSpec,
)
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.actors.runtimes.sessions import AttachedSession
from kubeloop.actors.runtimes.simulated_commands import SimulatedSession
from kubeloop.actors.runtimes.simulated_volumes import Disk, Inside
from kubeloop.actors.world import Timer


@dataclass(slots=True)
class Process:
    """One run of a container.

    ill, hung, deaf: how many things make its probes fail, have it stand still, and hold off KILL.
    fate: the code it will end with when it goes on; None if nothing has told it to end.
    inside: its files, None if they are not known: it began elsewhere.
    """

    spec: ContainerSpec
    script: Script
    id: str
    started_s: float
    began: float
    running: bool = True
    finished_s: float = 0.0
    code: int = 0
    reason: str = ""
    probes: int = 0
    ill: int = 0
    hung: int = 0
    deaf: int = 0
    fate: int | None = None
    kill_at: float = float("inf")
    timer: Timer | None = None
    killer: Timer | None = None
    ended: "asyncio.Event" = field(default_factory=asyncio.Event)
    inside: Inside | None = None
    lines: list[tuple[float, bytes]] = field(default_factory=list)
    attached: list[AttachedSession] = field(default_factory=list)
    commands: list[SimulatedSession] = field(default_factory=list)

    def hang_up(self) -> None:
        """It has ended: so have the commands inside, and who is attached is told."""
        for session in self.attached:
            session.ended(self.code)
        for command in self.commands:
            command.killed()

    def attach(self) -> AttachedSession:
        """Let somebody join its streams."""
        session = AttachedSession(leave=self._leave)
        self.attached.append(session)
        return session

    def run(self, session: SimulatedSession) -> None:
        """Take note of a command inside."""
        self.commands = [one for one in self.commands if one.running]
        self.commands.append(session)

    def _leave(self, session: AttachedSession) -> None:
        if session in self.attached:
            self.attached.remove(session)

    def record(self) -> ContainerRecord:
        """Return what the kubelet may know of it."""
        return ContainerRecord(
            name=self.spec.name,
            attempt=self.spec.attempt,
            id=self.id,
            image=self.spec.image,
            running=self.running,
            started_s=self.started_s,
            finished_s=self.finished_s,
            code=self.code,
            reason=self.reason,
        )


@dataclass(slots=True)
class Sandbox:
    """A pod's sandbox. ip: "" once it was stopped;  disk: its emptyDirs."""

    spec: SandboxSpec
    ip: str
    runs: dict[str, list[Process]] = field(default_factory=dict)
    disk: Disk = field(default_factory=Disk)

    def record(self) -> SandboxRecord:
        """Return what the kubelet may know of it."""
        return SandboxRecord(
            pod_uid=self.spec.pod_uid,
            namespace=self.spec.namespace,
            name=self.spec.name,
            ip=self.ip,
            containers=tuple(process.record() for process in self.processes()),
        )

    def processes(self) -> list[Process]:
        """Return every run that was not removed."""
        return [process for runs in self.runs.values() for process in runs]
