"""What a kubelet does for its pods that takes time: coroutines over the runtime and the prober.

Each returns a Note that tells the kubelet how it went; none of them decides anything.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from kubeloop.actors.messages import Note
from kubeloop.actors.probes import FIELDS, Prober
from kubeloop.actors.runtimes.protocol import (
    ContainerSpec,
    Runtime,
    RuntimeFailure,
    SandboxSpec,
)

Object = Mapping[str, Any]

REQUEST_S: Final = 120.0  # As the kubelet's --runtime-request-timeout.
HOOK_GRACE_MIN_S: Final = 2.0  # What a container still gets after a preStop hook used all.
WIPE_AGAIN_S: Final = 10.0
OUTPUT_MAX: Final = 10 * 1024  # How much of a probe's output is told.
_TIMED_OUT: Final = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"


class PodWork:
    """Work on the pods of one node. clock: seconds; wall: Unix time."""

    def __init__(
        self,
        runtime: Runtime,
        prober: Prober,
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self.runtime, self.prober, self.clock, self.wall = runtime, prober, clock, wall

    async def start_sandbox(self, spec: SandboxSpec) -> bytes:
        """Note "sandbox": uid, ip, why not."""
        ip, problem = "", ""
        try:
            async with asyncio.timeout(REQUEST_S):
                ip = await self.runtime.start_sandbox(spec)
        except RuntimeFailure as failure:
            problem = failure.message
        except TimeoutError:
            problem = _TIMED_OUT
        return Note.of("sandbox", [spec.pod_uid, ip, problem])

    async def stop_sandbox(self, uid: str) -> None:
        """Note nothing: what could not be freed now is freed when the pod is deleted."""
        with suppress(RuntimeFailure, TimeoutError):
            async with asyncio.timeout(REQUEST_S):
                await self.runtime.stop_sandbox(uid)

    async def remove_sandbox(self, uid: str) -> bytes:
        """Note "removed": uid, why not."""
        problem = ""
        try:
            async with asyncio.timeout(REQUEST_S):
                await self.runtime.remove_sandbox(uid)
        except RuntimeFailure as failure:
            problem = failure.message
        except TimeoutError:
            problem = _TIMED_OUT
        return Note.of("removed", [uid, problem])

    async def start_container(self, spec: ContainerSpec, image_id: str, container: Object) -> bytes:
        """Note "started": uid, name, attempt, id, image, image id, since when, reason and message
        why not, what is wrong with the postStart hook.
        """
        identity = [spec.pod_uid, spec.name, spec.attempt]
        try:
            async with asyncio.timeout(REQUEST_S):
                container_id = await self.runtime.start_container(spec)
        except RuntimeFailure as failure:
            return self._not_started(identity, failure.reason, failure.message)
        except TimeoutError:
            return self._not_started(identity, "CreateContainerError", _TIMED_OUT)
        since = self.wall()
        hook = (container.get("lifecycle") or {}).get("postStart")
        problem = await self._hook(spec.pod_uid, container, hook, REQUEST_S) if hook else ""
        told = [*identity, container_id, spec.image, image_id, since, "", "", problem]
        return Note.of("started", told)

    @staticmethod
    def _not_started(identity: list[Any], reason: str, message: str) -> bytes:
        return Note.of("started", [*identity, "", "", "", 0.0, reason, message, ""])

    async def stop_container(
        self, uid: str, container: Object, attempt: int, *, grace_s: float, hook: bool
    ) -> bytes:
        """Note "stopped": uid, name, attempt, what is wrong with the preStop hook."""
        name, problem = container["name"], ""
        action = (container.get("lifecycle") or {}).get("preStop") if hook else None
        if action:
            began = self.clock()
            problem = await self._hook(uid, container, action, grace_s)
            grace_s = max(HOOK_GRACE_MIN_S, grace_s - (self.clock() - began))
        try:
            async with asyncio.timeout(grace_s + REQUEST_S):
                await self.runtime.stop_container(uid, name, grace_s=grace_s)
        except (RuntimeFailure, TimeoutError) as failure:
            problem = problem or str(failure)
        return Note.of("stopped", [uid, name, attempt, problem])

    async def forget(self, uid: str, name: str, attempt: int) -> None:
        """Remove a dead run, note nothing: what could not be removed goes with the sandbox."""
        with suppress(RuntimeFailure, TimeoutError):
            async with asyncio.timeout(REQUEST_S):
                await self.runtime.remove_container(uid, name, attempt)

    async def wipe(self, name: str, path: str, *, after_s: float = 0.0) -> bytes:
        """Note "wiped": the volume. What cannot be wiped is tried again until it can.

        path: "" if it was, and only that is to be told;  after_s: how long to wait first.
        """
        await asyncio.sleep(after_s)
        while path:
            with suppress(RuntimeFailure):
                await self.runtime.remove_volume(path)
                break
            await asyncio.sleep(WIPE_AGAIN_S)
        return Note.of("wiped", name)

    async def pull(self, image: str) -> bytes:
        """Note "pulled": image, seconds, [digest, names, size] or None, reason and why not."""
        began = self.clock()
        try:
            record = await self.runtime.pull(image)
        except RuntimeFailure as failure:
            return Note.of("pulled", [image, 0.0, None, failure.reason, failure.message])
        found = [record.digest, list(record.names), record.size_bytes]
        return Note.of("pulled", [image, self.clock() - began, found, "", ""])

    async def remove_images(self, digests: list[str]) -> bytes:
        """Note "collected": why some could not be removed."""
        problems = []
        for digest in digests:
            try:
                await self.runtime.remove_image(digest)
            except RuntimeFailure as failure:
                problems.append(failure.message)
        return Note.of("collected", problems)

    async def probe(self, uid: str, container: Object, attempt: int, kind: str, ip: str) -> bytes:
        """Note "probed": uid, name, attempt, kind, whether it succeeded, what it said."""
        probe = container[FIELDS[kind]]
        timeout_s = float(probe.get("timeoutSeconds") or 1)
        ok, text = await self._handler(uid, container, probe, ip, timeout_s)
        told = text[:OUTPUT_MAX]
        return Note.of("probed", [uid, container["name"], attempt, kind, ok, told])

    async def _hook(self, uid: str, container: Object, hook: Object, limit_s: float) -> str:
        """Run a life cycle hook; return what is wrong, "" if nothing."""
        if hook.get("sleep"):
            await asyncio.sleep(min(float(hook["sleep"]["seconds"]), limit_s))
            return ""
        ip = next((s.ip for s in self.runtime.sandboxes() if s.pod_uid == uid), "")
        ok, text = await self._handler(uid, container, hook, ip, limit_s)
        return "" if ok else text or "failed"

    async def _handler(
        self, uid: str, container: Object, handler: Object, ip: str, timeout_s: float
    ) -> tuple[bool, str]:
        """Carry out an exec, httpGet or tcpSocket; return (whether it succeeded, what it said)."""
        try:
            if handler.get("exec"):
                command = handler["exec"].get("command") or []
                return await self._exec(uid, container["name"], command, timeout_s)
            if handler.get("httpGet"):
                http = handler["httpGet"]
                return await self.prober.http(
                    http.get("host") or ip,
                    _port(container, http["port"]),
                    scheme=http.get("scheme") or "HTTP",
                    path=http.get("path") or "/",
                    headers={h["name"]: h["value"] for h in http.get("httpHeaders") or ()},
                    timeout_s=timeout_s,
                )
            if handler.get("tcpSocket"):
                tcp = handler["tcpSocket"]
                host = tcp.get("host") or ip
                return await self.prober.tcp(
                    host, _port(container, tcp["port"]), timeout_s=timeout_s
                )
        except _NoPort as error:
            return False, str(error)
        asked = next((key for key in ("grpc",) if handler.get(key)), "this")
        return False, f"{asked} is not supported by this kubelet: use httpGet, tcpSocket or exec"

    async def _exec(
        self, uid: str, name: str, command: list[str], timeout_s: float
    ) -> tuple[bool, str]:
        try:
            result = await self.runtime.exec(uid, name, command, timeout_s=timeout_s)
        except RuntimeFailure as failure:
            return False, failure.message
        except TimeoutError:
            text = " ".join(command)
            return False, f'command timed out: "{text}" timed out after {timeout_s:g}s'
        return result.code == 0, result.output.decode(errors="replace")


class _NoPort(Exception):
    """A handler names a port its container does not have."""


def _port(container: Object, port: int | str) -> int:
    if isinstance(port, int):
        return port
    if port.isdigit():
        return int(port)
    for declared in container.get("ports") or ():
        if declared.get("name") == port:
            return int(declared["containerPort"])
    raise _NoPort(f"couldn't find port: {port} in container {container['name']}")
