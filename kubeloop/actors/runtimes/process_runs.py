"""The pods of a node as the runtime sees them: a sandbox each, and the runs of its containers."""

import asyncio
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from kubeloop.actors.runtimes.process_channel import Channel
from kubeloop.actors.runtimes.process_images import NodeImage
from kubeloop.actors.runtimes.process_logs import Log, Output
from kubeloop.actors.runtimes.process_sessions import Outlet, set_size
from kubeloop.actors.runtimes.protocol import (
    ContainerRecord,
    ContainerSpec,
    Exited,
    RuntimeFailure,
    SandboxRecord,
    SandboxSpec,
)
from kubeloop.actors.runtimes.sessions import STDERR, STDOUT, AttachedSession

KILLED: Final = 128 + 9
MESSAGE_BYTES_MAX: Final = 4096  # Of a termination message, as in Kubernetes.


@dataclass(slots=True, eq=False)
class Run:
    """One run of a container. key: what its init calls it."""

    spec: ContainerSpec
    key: str
    directory: Path
    image: NodeImage
    log: Log
    started_s: float
    outputs: list[Output] = field(default_factory=list)
    stdin: Outlet | None = None
    attached: list[AttachedSession] = field(default_factory=list)
    running: bool = True
    told_to_stop: bool = False
    finished_s: float = 0.0
    code: int = 0
    reason: str = ""
    message: str = ""
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """The container's id: 64 hexadecimal digits, like an engine's."""
        text = f"{self.spec.pod_uid}/{self.key}/{self.started_s}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def termination_log(self) -> Path:
        """The file that is /dev/termination-log inside."""
        return self.directory / "termination-log"

    def write(self, stream: str, data: bytes) -> None:
        """Take what it has written: into the log, and to who is attached."""
        self.log.write(stream, data)
        for session in self.attached:
            session.put(STDERR if stream == "stderr" else STDOUT, data)

    def attach(self, *, stdin: bool) -> AttachedSession:
        """Let somebody join its streams."""
        session = AttachedSession(
            self.stdin if stdin else None,
            once=self.spec.stdin_once,
            size=self._resize,
            leave=self._leave,
        )
        self.attached.append(session)
        return session

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
            message=self.message,
        )

    def finish(self, code: int, now: float) -> Exited:
        """Take note that it ended: all it wrote is in the log now."""
        assert self.running
        for output in self.outputs:
            output.finish()
        self.log.end()
        self._hang_up(code)
        self.running, self.code, self.finished_s = False, code, now
        self.reason = "Completed" if code == 0 else "Error"
        self.message = self._last_words()
        self.ended.set()
        spec = self.spec
        return Exited(spec.pod_uid, spec.name, spec.attempt, code, self.reason, self.message)

    def discard(self) -> None:
        """It never began: close everything."""
        for output in self.outputs:
            output.close()
        self.log.end()
        self._hang_up(KILLED)
        self.running = False
        self.ended.set()

    def _hang_up(self, code: int) -> None:
        if self.stdin is not None:
            self.stdin.close()
        for session in self.attached:
            session.ended(code)

    def _resize(self, width: int, height: int) -> None:
        if self.spec.tty and self.outputs:
            set_size(self.outputs[0].fd, width, height)

    def _leave(self, session: AttachedSession) -> None:
        if session in self.attached:
            self.attached.remove(session)

    def _last_words(self) -> str:
        try:
            fd = os.open(self.termination_log, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return ""
        with open(fd, "rb") as file:
            return file.read(MESSAGE_BYTES_MAX).decode(errors="replace")


@dataclass(slots=True, eq=False)
class Pod:
    """A sandbox. key: what the zygote calls its present init; ip: "" once it was stopped."""

    spec: SandboxSpec
    directory: Path
    ip: str
    key: str = ""
    channel: Channel | None = None
    runs: dict[str, list[Run]] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    commands: dict[str, "asyncio.Future[int]"] = field(default_factory=dict)
    on_exit: Callable[[Run, int], None] = lambda run, code: None
    on_gone: Callable[[], None] = lambda: None

    @property
    def alive(self) -> bool:
        """Whether its init runs."""
        return self.channel is not None and not self.channel.closed

    def need(self) -> Channel:
        """Return the channel to its init. Raises: RuntimeFailure if there is none."""
        if self.channel is None or self.channel.closed:
            raise RuntimeFailure("CreateContainerError", f"pod {self.spec.name} has no sandbox")
        return self.channel

    def all_runs(self) -> list[Run]:
        """Return every run that was not removed."""
        return [run for runs in self.runs.values() for run in runs]

    def running(self, container: str) -> Run | None:
        """Return the run of a container that goes on."""
        return next((run for run in self.runs.get(container, ()) if run.running), None)

    def find(self, container: str, attempt: int) -> Run | None:
        """Return a certain run."""
        runs = self.runs.get(container, ())
        return next((run for run in runs if run.spec.attempt == attempt), None)

    def record(self) -> SandboxRecord:
        """Return what the kubelet may know of it."""
        return SandboxRecord(
            pod_uid=self.spec.pod_uid,
            namespace=self.spec.namespace,
            name=self.spec.name,
            ip=self.ip,
            containers=tuple(run.record() for run in self.all_runs()),
        )

    def event(self, message: Mapping[str, Any]) -> None:
        """Hear from the init: something it started has ended."""
        assert message["event"] == "ended"
        command = self.commands.pop(message["key"], None)
        if command is not None and not command.done():
            command.set_result(message["code"])
        for run in self.all_runs():
            if run.key == message["key"] and run.running:
                self.on_exit(run, message["code"])

    def gone(self) -> None:
        """The init is gone, and with it everything in the pod."""
        for command in self.commands.values():
            if not command.done():
                command.set_result(KILLED)
        self.commands.clear()
        for run in self.all_runs():
            if run.running:
                self.on_exit(run, KILLED)
        self.on_gone()
