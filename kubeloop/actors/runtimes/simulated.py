"""A runtime whose containers are scripts: no process is started, and time is the world's.

For tests and for scale. It is a prober, too, since nobody listens in its pods. A `Ledger` that all
nodes of a cluster share tells who runs what, and remembers if a pod ever ran on two nodes.

What may go wrong there: a process is killed, hangs, cannot be killed, or its probes fail; starts
take longer; the runtime itself answers nothing; the machine loses its power.
"""

import asyncio
import errno
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final

from kubeloop.actors.pods.pressure import Usage
from kubeloop.actors.runtimes import simulated_commands as commands
from kubeloop.actors.runtimes.connections import ScriptedConnection, SocketConnection
from kubeloop.actors.runtimes.ledger import Ledger
from kubeloop.actors.runtimes.protocol import (
    ContainerSpec,
    ExecResult,
    Exited,
    ImageRecord,
    RuntimeFailure,
    SandboxRecord,
    SandboxSpec,
)
from kubeloop.actors.runtimes.scripts import DEFAULT, Script, annotated
from kubeloop.actors.runtimes.sessions import AttachedSession
from kubeloop.actors.runtimes.simulated_process import Process, Sandbox
from kubeloop.actors.runtimes.simulated_registry import SimulatedRegistry
from kubeloop.actors.runtimes.simulated_volumes import Disk, Inside
from kubeloop.actors.world import World
from kubeloop.api.streams import Connection
from kubeloop.api.times import parse

__all__ = ["Ledger", "Script", "SimulatedRegistry", "SimulatedRuntime"]

Undo = Callable[[], None]

_KILLED: Final = 128 + 9
_TERMINATED: Final = 128 + 15


class SimulatedRuntime:
    """Implements `Runtime` and `Prober` in virtual time.

    images:   the script of each image, by the name pods use; others do as `Script()` says.
    node:     how the ledger calls this node.
    registry: where it pulls from; others may do so, too.
    remote:   the disk of volumes that are not the node's own; others may mount them, too.
    """

    name = "simulated"

    def __init__(
        self,
        world: World,
        *,
        images: Mapping[str, Script] | None = None,
        node: str = "",
        ledger: Ledger | None = None,
        registry: SimulatedRegistry | None = None,
        remote: Disk | None = None,
    ) -> None:
        self.world, self.scripts, self.node = world, dict(images or {}), node
        self.ledger = ledger or Ledger()
        self.registry = registry or SimulatedRegistry(self.scripts)
        self.disk, self.remote = Disk(), remote or Disk()
        self._lags: list[list[float]] = []
        self._stalls: list[asyncio.Event] = []
        self._on_exit: Callable[[Exited], None] = lambda _: None
        self._on_usage: Callable[[Usage], None] = lambda _: None
        self._hogs: list[Mapping[str, int]] = []
        self._sandboxes: dict[str, Sandbox] = {}
        self._images: dict[str, ImageRecord] = {}
        self._born = 0

    # Pods.

    def listen(self, on_exit: Callable[[Exited], None]) -> None:
        self._on_exit = on_exit

    def watch_usage(self, on_usage: Callable[[Usage], None]) -> None:
        self._on_usage = on_usage
        usage = self._usage()
        if usage != Usage():
            on_usage(usage)

    def hog(self, **amounts: int) -> Undo:
        """Have something that is no pod use so much memory, disk, pids; return what ends that."""
        names = {"memory": "memory", "disk": "ephemeral-storage", "pids": "pids"}
        hog = {names[name]: amount for name, amount in amounts.items()}
        self._hogs.append(hog)
        self._on_usage(self._usage())

        def end() -> None:
            self._hogs = [one for one in self._hogs if one is not hog]
            self._on_usage(self._usage())

        return end

    def _usage(self) -> Usage:
        pods: dict[str, dict[str, Mapping[str, int]]] = {}
        for uid, sandbox in self._sandboxes.items():
            for process in sandbox.processes():
                if process.running and (amounts := process.script.uses()):
                    pods.setdefault(uid, {})[process.spec.name] = amounts
        others: dict[str, int] = {}
        for hog in self._hogs:
            for name, amount in hog.items():
                others[name] = others.get(name, 0) + amount
        return Usage(others, pods)

    def sandboxes(self) -> Sequence[SandboxRecord]:
        return [sandbox.record() for sandbox in self._sandboxes.values()]

    def unsupported(self, pod: Mapping[str, Any]) -> str:
        """Nothing is: what is only simulated can be anything."""
        return ""

    async def start_sandbox(self, spec: SandboxSpec) -> str:
        await self._awake()
        sandbox = self._sandboxes.setdefault(spec.pod_uid, Sandbox(spec, spec.ip))
        sandbox.ip = spec.ip
        return sandbox.ip

    def adopt(self, pod: Mapping[str, Any]) -> None:
        """Have those containers of a pod run on that its status says are running."""
        metadata, status = pod["metadata"], pod.get("status") or {}
        uid, ip = str(metadata["uid"]), str(status.get("podIP") or "")
        if not ip:
            return
        spec = SandboxSpec(
            pod_uid=uid, namespace=metadata["namespace"], name=metadata["name"], ip=ip,
            hostname=metadata["name"],
        )  # fmt: skip
        sandbox = self._sandboxes[uid] = Sandbox(spec, ip)
        annotations = metadata.get("annotations") or {}
        images = {one["name"]: one["image"] for one in pod["spec"]["containers"]}
        for told in status.get("containerStatuses") or ():
            running = (told.get("state") or {}).get("running")
            if running is not None:
                container = ContainerSpec(
                    pod_uid=uid, name=told["name"], attempt=told["restartCount"],
                    image=images[told["name"]], annotations=annotations,
                )  # fmt: skip
                script = self.scripts.get(container.image, DEFAULT)
                process = self._begin(container, annotated(script, told["name"], annotations))
                process.id = told["containerID"].partition("://")[2]
                process.started_s = parse(running["startedAt"])
                process.began -= max(0.0, self.world.wall() - process.started_s)
                sandbox.runs[told["name"]] = [process]
                self._set_ending(process)

    async def stop_sandbox(self, pod_uid: str) -> None:
        await self._awake()
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is not None:
            self._kill_all(sandbox)
            sandbox.ip = ""

    async def remove_sandbox(self, pod_uid: str) -> None:
        await self._awake()
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is not None:
            self._kill_all(sandbox)
            del self._sandboxes[pod_uid]

    async def start_container(self, spec: ContainerSpec) -> str:
        await self._awake()
        try:
            script = annotated(self.scripts.get(spec.image, DEFAULT), spec.name, spec.annotations)
        except ValueError as error:
            raise RuntimeFailure("CreateContainerConfigError", str(error)) from error
        start_s = script.start_s + sum(lag_s for (lag_s,) in self._lags)
        if start_s:
            await asyncio.sleep(start_s)
        sandbox = self._sandboxes.get(spec.pod_uid)
        if sandbox is None or not sandbox.ip:
            raise RuntimeFailure("CreateContainerError", f"pod {spec.pod_uid} has no sandbox")
        if script.start_error:
            raise RuntimeFailure("RunContainerError", script.start_error)
        runs = sandbox.runs.setdefault(spec.name, [])
        if any(process.running for process in runs):
            raise RuntimeFailure("CreateContainerError", f"container {spec.name} runs already")
        inside = Inside(spec, node=self.disk, remote=self.remote, own=sandbox.disk)
        process = self._begin(spec, script)
        process.inside = inside
        for path, line in script.writes:
            inside.write(path, f"{line}\n".encode(), append=True)
        runs.append(process)
        self._set_ending(process)
        return process.id

    def _begin(self, spec: ContainerSpec, script: Script) -> Process:
        self._born += 1
        text = f"{self.node}/{spec.pod_uid}/{spec.name}/{spec.attempt}/{self._born}"
        process = Process(
            spec,
            script,
            id=hashlib.sha256(text.encode()).hexdigest(),
            started_s=self.world.wall(),
            began=self.world.now(),
        )
        process.lines = [(process.started_s, f"{line}\n".encode()) for line in script.log]
        self.ledger.began(self.node, spec.pod_uid)
        if script.uses():
            self.world.soon(lambda: self._on_usage(self._usage()))
        return process

    def _set_ending(self, process: Process) -> None:
        ending = process.script.ending(process.spec.attempt)
        if ending is None:
            return
        after_s, code = ending
        if after_s:
            process.timer = self.world.later(after_s, lambda: self._told_to_end(process, code))
        else:  # Over before the kubelet hears that it began, as real processes may be.
            self._end(process, code)

    async def stop_container(self, pod_uid: str, container: str, *, grace_s: float) -> None:
        await self._awake()
        process = self._running(pod_uid, container)
        if process is None:
            return
        kill_at = self.world.now() + grace_s
        if kill_at < process.kill_at:
            first, process.kill_at = process.kill_at == float("inf"), kill_at
            if process.killer is not None:
                process.killer.cancel()
            process.killer = self.world.later(grace_s, lambda: self._told_to_end(process, _KILLED))
            term_s = process.script.term_s
            if first and term_s is not None and term_s <= grace_s:
                if process.timer is not None:
                    process.timer.cancel()
                process.timer = self.world.later(
                    term_s, lambda: self._told_to_end(process, _TERMINATED)
                )
        await process.ended.wait()

    async def remove_container(self, pod_uid: str, container: str, attempt: int) -> None:
        await self._awake()
        sandbox = self._sandboxes.get(pod_uid)
        if sandbox is not None and container in sandbox.runs:
            sandbox.runs[container] = [
                process
                for process in sandbox.runs[container]
                if process.running or process.spec.attempt != attempt
            ]

    async def remove_volume(self, path: str) -> None:
        await self._awake()
        self.disk.remove(path)

    def kill(self, pod_uid: str, container: str, *, code: int = _KILLED, reason: str = "") -> None:
        """Have a running container's process end now, as if something had killed it.

        reason: "OOMKilled"; "": "Completed" or "Error", as the code says.
        """
        process = self._running(pod_uid, container)
        if process is not None:
            self._end(process, code, reason)

    def sicken(self, pod_uid: str, container: str) -> Undo:
        """Have the probes of a container that runs fail; return what ends that."""
        process = self._running(pod_uid, container)
        if process is None:
            return _nothing
        process.ill += 1

        def end() -> None:
            process.ill -= 1

        return end

    def hang(self, pod_uid: str, container: str, *, deaf: bool = False) -> Undo:
        """Have a container's process stand still; return what has it go on.

        It answers nothing, and heeds TERM when it goes on; a deaf one KILL, too, as one does that
        waits for a device. While there is such a one its sandbox cannot be removed.
        """
        process = self._running(pod_uid, container)
        if process is None:
            return _nothing
        process.hung += 1
        process.deaf += deaf

        def end() -> None:
            process.hung -= 1
            process.deaf -= deaf
            fate, process.fate = process.fate, None
            if fate is not None:
                self._told_to_end(process, fate)

        return end

    def stall(self) -> Undo:
        """Have the runtime answer nothing it is asked from now on; return what ends that."""
        over = asyncio.Event()
        self._stalls.append(over)

        def end() -> None:
            if over in self._stalls:
                self._stalls.remove(over)
                over.set()

        return end

    def slow(self, lag_s: float) -> Undo:
        """Have every start of a container take so much longer; return what ends that."""
        lag = [lag_s]
        self._lags.append(lag)

        def end() -> None:
            self._lags = [one for one in self._lags if one is not lag]

        return end

    async def _awake(self) -> None:
        while self._stalls:
            await self._stalls[0].wait()

    def lose(self) -> None:
        """Lose every pod without a word, as a machine does that is switched off and on."""
        for sandbox in self._sandboxes.values():
            for process in sandbox.processes():
                self._finish(process, _KILLED)
        self._sandboxes.clear()

    def _kill_all(self, sandbox: Sandbox) -> None:
        """Kill all of a sandbox. Raises: RuntimeFailure if one cannot be killed."""
        for process in sandbox.processes():
            self._told_to_end(process, _KILLED)
        for process in sandbox.processes():
            if process.running:
                text = f"an error occurs during waiting for container {process.id} to be killed"
                raise RuntimeFailure("KillContainerError", text)

    def _told_to_end(self, process: Process, code: int) -> None:
        """End a process for a reason it may not heed now: then it does when it goes on."""
        if process.deaf or (process.hung and code != _KILLED):
            if process.fate is None or code == _KILLED:
                process.fate = code
        else:
            self._end(process, code)

    def _end(self, process: Process, code: int, reason: str = "") -> None:
        if self._finish(process, code, reason):
            spec = process.spec
            told = Exited(spec.pod_uid, spec.name, spec.attempt, code, process.reason)
            self._on_exit(told)

    def _finish(self, process: Process, code: int, reason: str = "") -> bool:
        if not process.running:
            return False
        for timer in (process.timer, process.killer):
            if timer is not None:
                timer.cancel()
        process.running, process.code = False, code
        process.finished_s = self.world.wall()
        process.reason = reason or ("Completed" if code == 0 else "Error")
        self.ledger.ended(self.node, process.spec.pod_uid)
        process.ended.set()
        process.hang_up()
        if process.script.uses():
            self._on_usage(self._usage())
        return True

    def _running(self, pod_uid: str, container: str) -> Process | None:
        sandbox = self._sandboxes.get(pod_uid)
        runs = sandbox.runs.get(container, []) if sandbox is not None else []
        return next((process for process in runs if process.running), None)

    # What runs inside.

    async def exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, timeout_s: float
    ) -> ExecResult:
        process = await self._found(pod_uid, container)
        if process.hung:
            await asyncio.sleep(timeout_s)
            raise TimeoutError
        ok = self._probe(process)
        return ExecResult(0, b"") if ok else ExecResult(1, b"the simulated command failed")

    async def open_exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> commands.SimulatedSession:
        process = await self._found(pod_uid, container)
        session = commands.start(
            self.world, process.script, command, stdin=stdin, inside=process.inside
        )
        process.run(session)
        return session

    async def attach(self, pod_uid: str, container: str, *, stdin: bool) -> AttachedSession:
        return (await self._found(pod_uid, container)).attach()

    async def connect(self, pod_uid: str, port: int, *, local: bool) -> Connection:
        await self._awake()
        sandbox = self._sandboxes.get(pod_uid)
        process = self._listening(sandbox.ip, port) if sandbox is not None else None
        if sandbox is None or process is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "connection refused")
        if process.script.http is None:  # Somebody may serve there, in a simulation.
            return await SocketConnection.to(sandbox.ip, port)
        return ScriptedConnection(commands.web_server(process.script.http))

    async def _found(self, pod_uid: str, container: str) -> Process:
        await self._awake()
        process = self._running(pod_uid, container)
        if process is None:
            raise RuntimeFailure("ContainerNotRunning", f"container {container} does not run")
        return process

    async def logs(
        self, pod_uid: str, container: str, *, attempt: int, follow: bool = False
    ) -> AsyncIterator[tuple[float, bytes]]:
        sandbox = self._sandboxes.get(pod_uid)
        runs = sandbox.runs.get(container, []) if sandbox is not None else []
        process = next((p for p in runs if p.spec.attempt == attempt), None)
        if process is None:
            raise RuntimeFailure("NotFound", f"container {container} has no run {attempt}")
        for line in process.lines:
            yield line
        if follow:
            await process.ended.wait()

    async def http(
        self,
        ip: str,
        port: int,
        *,
        scheme: str,
        path: str,
        headers: Mapping[str, str],
        timeout_s: float,
    ) -> tuple[bool, str]:
        url = f"{scheme.lower()}://{ip}:{port}{path}"
        process = self._listening(ip, port)
        if process is None:
            refused = f"dial tcp {ip}:{port}: connect: connection refused"
            return False, f'Get "{url}": {refused}'
        if process.hung:
            await asyncio.sleep(timeout_s)
            why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return False, f'Get "{url}": {why}'
        if self._probe(process):
            return True, ""
        return False, "HTTP probe failed with statuscode: 503"

    async def tcp(self, ip: str, port: int, *, timeout_s: float) -> tuple[bool, str]:
        process = self._listening(ip, port)
        if process is not None and (process.hung or self._probe(process)):
            return True, ""  # Of one that stands still the system takes the connection.
        return False, f"dial tcp {ip}:{port}: connect: connection refused"

    def listens(self, ip: str, port: int) -> bool:
        """Tell whether a process would take a connection now."""
        return self._listening(ip, port) is not None

    def _listening(self, ip: str, port: int) -> Process | None:
        for sandbox in self._sandboxes.values():
            if sandbox.ip == ip:
                for process in sandbox.processes():
                    if process.running and process.script.port in (None, port):
                        return process
        return None

    def _probe(self, process: Process) -> bool:
        process.probes += 1
        if process.ill:
            return False
        return process.script.healthy(self.world.now() - process.began, process.probes - 1)

    # Images.

    async def pull(self, image: str) -> ImageRecord:
        await self._awake()
        record = await self.registry.pull(image)
        self._images[record.digest] = record
        return record

    def images(self) -> Sequence[ImageRecord]:
        return list(self._images.values())

    async def remove_image(self, digest: str) -> None:
        self._images.pop(digest, None)

    async def close(self) -> None:
        self.listen(lambda _: None)
        self.lose()


def _nothing() -> None:
    """End what had no effect."""
