"""The process runtime: pods are real processes of one user, in namespaces that need no root.

A pod's init process (see `sandbox`) holds its namespaces and starts its containers. Sockets cross
the boundary, not packets: to dial or listen, the init makes a socket inside the pod and hands it
out (`network`). So every pod may bind 0.0.0.0:8080, and nobody needs veth, iptables or privileges.

Where the host forbids user namespaces, which is tried once and said once, pods are plain
processes that share the host's network and files: see docs/rootless.md for what that means.
"""

import asyncio
import errno
import fcntl
import itertools
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from kubeloop.actors.pods.pressure import Usage
from kubeloop.actors.runtimes import process_launch as launch
from kubeloop.actors.runtimes import process_volumes
from kubeloop.actors.runtimes.connections import SocketConnection
from kubeloop.actors.runtimes.process_containers import Containers
from kubeloop.actors.runtimes.process_images import ImageSource, NodeImages
from kubeloop.actors.runtimes.process_layers import remove_tree
from kubeloop.actors.runtimes.process_network import ProcessNetwork
from kubeloop.actors.runtimes.process_runs import Pod, Run
from kubeloop.actors.runtimes.process_sessions import CommandSession
from kubeloop.actors.runtimes.process_zygote import Abilities, Zygote
from kubeloop.actors.runtimes.protocol import (
    ContainerSpec,
    ExecResult,
    Exited,
    ImageRecord,
    RuntimeFailure,
    SandboxRecord,
    SandboxSpec,
)
from kubeloop.actors.runtimes.sessions import AttachedSession
from kubeloop.actors.world import World

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}")  # So not a skeleton's either.

logger = logging.getLogger("kubeloop.runtime")


class ProcessRuntime:
    """Implements `Runtime` for one node; `network` is the network of its pods.

    state:      a directory of the node's own: images and volumes stay in it, pods are gone after a
                restart.
    source:     where images are pulled from.
    namespaces: False does without them; None finds out whether the host allows them.
    """

    name = "process"

    def __init__(
        self, world: World, state: Path, source: ImageSource, *, namespaces: bool | None = None
    ) -> None:
        self.world, self.state = world, state.resolve()
        self.abilities: Abilities | None = None  # Known once the first pod was asked for.
        self._wanted = namespaces
        self._pods: dict[str, Pod] = {}
        self._images = NodeImages(self.state / "images", source)
        self._containers = Containers(self.state, self._images, world.wall)
        self._keys = itertools.count(1)
        self._on_exit: Callable[[Exited], None] = lambda _: None
        self.network = ProcessNetwork(self._pods)
        self._zygote: Zygote | None = None
        self._starting = asyncio.Lock()
        self._lock_file = -1
        self._chores: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> Abilities:
        """Make ready: what the first pod would otherwise wait for. Raises: OSError."""
        async with self._starting:
            if self._closed:
                raise OSError(errno.ESHUTDOWN, "the runtime of this node is closed")
            if self._lock_file < 0:
                self._take_state()
            if self._zygote is None or not self._zygote.alive:
                self._zygote = Zygote(self._lost)
            if self.abilities is None:
                self.abilities = await self._find_out(self._zygote)
                self.network.isolated = self.abilities.namespaces
            return self.abilities

    async def close(self) -> None:
        self._closed = True
        self.listen(lambda _: None)
        zygote, self._zygote = self._zygote, None
        if zygote is not None:
            await zygote.close()
        for pod in self._pods.values():
            if pod.channel is not None:
                pod.channel.close()
        self._pods.clear()
        if self._chores:
            await asyncio.wait(self._chores)
        if self._lock_file >= 0:
            await asyncio.to_thread(remove_tree, self.state / "pods")
            os.close(self._lock_file)
            self._lock_file = -1

    # Pods.

    def listen(self, on_exit: Callable[[Exited], None]) -> None:
        self._on_exit = on_exit

    def watch_usage(self, on_usage: Callable[[Usage], None]) -> None:
        """Never call: what a developer's machine is short of must not cost him his pods."""

    def sandboxes(self) -> Sequence[SandboxRecord]:
        return [pod.record() for pod in self._pods.values()]

    def unsupported(self, pod: Mapping[str, Any]) -> str:
        return launch.why_unsupported(pod)

    async def start_sandbox(self, spec: SandboxSpec) -> str:
        if not _SAFE_NAME.fullmatch(spec.pod_uid):
            raise RuntimeFailure("CreatePodSandboxError", f"{spec.pod_uid!r} is no uid of a pod")
        pod = self._pods.get(spec.pod_uid)
        if pod is None:
            pod = Pod(spec, self.state / "pods" / spec.pod_uid, "")
            pod.on_exit, pod.on_gone = self._ended, self._changed
            self._pods[spec.pod_uid] = pod
        try:
            async with pod.lock:
                if not pod.alive:
                    await self._spawn(pod, spec)
        except RuntimeFailure:  # If cancelled, there may be something that must be removed.
            if not pod.ip and not pod.runs:
                self._pods.pop(spec.pod_uid, None)
            raise
        return pod.ip

    async def stop_sandbox(self, pod_uid: str) -> None:
        pod = self._pods.get(pod_uid)
        if pod is not None:
            await self._end(pod)
            pod.ip = ""

    async def remove_sandbox(self, pod_uid: str) -> None:
        pod = self._pods.get(pod_uid)
        if pod is not None:
            await self._end(pod)
            self._pods.pop(pod_uid, None)
            await asyncio.to_thread(remove_tree, pod.directory)

    async def start_container(self, spec: ContainerSpec) -> str:
        pod = self._pods.get(spec.pod_uid)
        if pod is None or not pod.ip:
            raise RuntimeFailure("CreateContainerError", f"pod {spec.pod_uid} has no sandbox")
        async with pod.lock:
            if not pod.alive:  # Its init was killed: its namespaces are made anew.
                await self._spawn(pod, pod.spec)
        assert self.abilities is not None
        return await self._containers.start(pod, spec, self.abilities)

    async def stop_container(self, pod_uid: str, container: str, *, grace_s: float) -> None:
        pod = self._pods.get(pod_uid)
        run = pod.running(container) if pod is not None else None
        if pod is not None and run is not None:
            await self._containers.stop(pod, run, grace_s)

    async def remove_container(self, pod_uid: str, container: str, attempt: int) -> None:
        pod = self._pods.get(pod_uid)
        run = pod.find(container, attempt) if pod is not None else None
        if pod is not None and run is not None and not run.running:
            pod.runs[container].remove(run)
            await asyncio.to_thread(remove_tree, run.directory)

    async def remove_volume(self, path: str) -> None:
        try:
            await asyncio.to_thread(process_volumes.remove, self.state / "host", path)
        except OSError as error:
            raise RuntimeFailure("VolumeFailedDelete", str(error)) from error

    def signal(self, pod_uid: str, container: str, number: int) -> None:
        """Send a signal to a running container's first process; harmless if there is none."""
        pod = self._pods.get(pod_uid)
        run = pod.running(container) if pod is not None else None
        if pod is not None and pod.channel is not None and run is not None:
            pod.channel.tell({"op": "kill", "key": run.key, "signal": number})

    async def exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, timeout_s: float
    ) -> ExecResult:
        pod, run = self._inside(pod_uid, container)
        assert self.abilities is not None
        return await self._containers.execute(
            pod, run, command, timeout_s=timeout_s, abilities=self.abilities
        )

    async def open_exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> CommandSession:
        pod, run = self._inside(pod_uid, container)
        assert self.abilities is not None
        return await self._containers.open(
            pod, run, command, stdin=stdin, tty=tty, abilities=self.abilities
        )

    async def attach(self, pod_uid: str, container: str, *, stdin: bool) -> AttachedSession:
        _, run = self._inside(pod_uid, container)
        return run.attach(stdin=stdin)

    async def connect(self, pod_uid: str, port: int, *, local: bool) -> SocketConnection:
        return await SocketConnection.of(await self.network.reach(pod_uid, port, local=local))

    def _inside(self, pod_uid: str, container: str) -> tuple[Pod, Run]:
        pod = self._pods.get(pod_uid)
        run = pod.running(container) if pod is not None else None
        if pod is None or run is None:
            raise RuntimeFailure("ContainerNotRunning", f"container {container} does not run")
        return pod, run

    async def logs(
        self, pod_uid: str, container: str, *, attempt: int, follow: bool = False
    ) -> AsyncIterator[tuple[float, bytes]]:
        pod = self._pods.get(pod_uid)
        run = pod.find(container, attempt) if pod is not None else None
        if run is None:
            raise RuntimeFailure("NotFound", f"container {container} has no run {attempt}")
        async with aclosing(run.log.read(follow=follow)) as lines:
            async for line in lines:
                yield line

    # Images.

    async def pull(self, image: str) -> ImageRecord:
        if self._lock_file < 0:
            self._take_state()
        return await self._images.pull(image)

    def images(self) -> Sequence[ImageRecord]:
        return self._images.records()

    async def remove_image(self, digest: str) -> None:
        for pod in self._pods.values():
            for run in pod.all_runs():
                if run.running and run.image.record.digest == digest:
                    why = f"image {digest} is used by container {run.spec.name} of {pod.spec.name}"
                    raise RuntimeFailure("ImageInUse", why)
        self._images.remove(digest)

    # What happens by itself.

    def _ended(self, run: Run, code: int) -> None:
        told = run.finish(code, self.world.wall())
        if not self._closed:
            self._chore(self._containers.tidy(run), f"tidy {run.spec.name}")
            self._on_exit(told)

    def _changed(self) -> None:
        if not self._closed:
            self.network.changed()

    def _lost(self) -> None:
        """The zygote died, and every pod with it; their channels tell the rest."""

    def _chore(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = self.world.spawn(work, name)
        self._chores.add(task)
        task.add_done_callback(self._chores.discard)

    # Steps.

    def _take_state(self) -> None:
        """Make the state directory ours, and clear away what an earlier run left."""
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            why = f"{self.state} is in use by another process: give this cluster its own directory"
            raise OSError(error.errno, why) from error
        self._lock_file = fd
        remove_tree(self.state / "pods")
        for name in ("pods", "mount"):
            (self.state / name).mkdir(mode=0o700, exist_ok=True)
        self._images.load()

    async def _find_out(self, zygote: Zygote) -> Abilities:
        """Learn what the host allows, and say what that costs."""
        if self._wanted is False:
            return Abilities(namespaces=False, overlay=False, why="they are switched off")
        abilities = await zygote.probe(self.state)
        if not abilities.namespaces:
            if self._wanted:
                raise OSError(errno.EPERM, f"no user namespaces: {abilities.why}")
            logger.warning(
                "this host forbids user namespaces (%s): pods share its network and files, and"
                " only one of them can bind a port on 0.0.0.0; docs/rootless.md tells what to do",
                abilities.why,
            )
        elif not abilities.overlay:
            logger.info("images are copied for every container: %s", abilities.why)
        return abilities

    async def _spawn(self, pod: Pod, spec: SandboxSpec) -> None:
        """Start a pod's init. Raises: RuntimeFailure."""
        try:
            abilities = await self.start()
            zygote = self._zygote
            if zygote is None:
                raise OSError(errno.ESHUTDOWN, "the runtime of this node is closed")
            ip = spec.ip if abilities.namespaces else launch.plain_ip(spec.ip)
            order = {
                "namespaces": abilities.namespaces,
                "ip": ip,
                "hostname": spec.hostname,
                "service_cidr": spec.service_cidr,
            }
            (pod.directory / "etc").mkdir(mode=0o700, exist_ok=True, parents=True)
            for name, content in launch.etc_files(spec.hostname, ip).items():
                (pod.directory / "etc" / name).write_text(content)
            pod.key = str(next(self._keys))
            pod.channel = await zygote.spawn(pod.key, order, on_event=pod.event, on_close=pod.gone)
        except OSError as error:
            why = f"failed to create pod sandbox: {error.strerror or error}"
            raise RuntimeFailure("CreatePodSandboxError", why) from error
        pod.spec, pod.ip = spec, ip
        self._changed()

    async def _end(self, pod: Pod) -> None:
        async with pod.lock:
            if self._zygote is not None:
                await self._zygote.kill(pod.key)
            if pod.channel is not None:
                pod.channel.close()
