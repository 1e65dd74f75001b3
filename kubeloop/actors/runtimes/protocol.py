"""What a kubelet needs of a container runtime: the seam to processes.

All times are seconds. Methods that must wait are coroutines; what happens by itself (a container
exits) arrives through `listen`. A runtime knows nothing of probes, restarts or the API.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from kubeloop.actors.pods.pressure import Usage
from kubeloop.api.streams import Connection, Session


class RuntimeFailure(Exception):
    """The runtime could not do it. reason: Kubernetes' waiting reason, "RunContainerError"…"""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """A pod's sandbox: the namespaces its containers share."""

    pod_uid: str
    namespace: str
    name: str
    ip: str  # The pod's IP, chosen by the kubelet from the node's pod CIDR.
    hostname: str
    service_cidr: str = "10.96.0.0/12"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Something of the node, or of the pod, that appears in a container.

    target:   where;  volume: what it is called when it fails.
    empty:    the emptyDir it is, or
    host:     the path of the node it is; with
    remote:   what it is instead, if it is not the node's: "nfs", "csi DRIVER"; host names it.
    kind:     what must be at the path: a type of hostPath, or "Local"; see `pods.host_paths`.
    sub_path: only what is there below it, made if it is missing.
    """

    target: str
    volume: str = ""
    empty: str = ""
    host: str = ""
    remote: str = ""
    kind: str = ""
    sub_path: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """A container to start. command and args as in the pod; empty: those of the image."""

    pod_uid: str
    name: str
    attempt: int  # restartCount
    image: str
    command: Sequence[str] = ()
    args: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    stdin: bool = False  # Whether standard input is open, for who attaches;
    stdin_once: bool = False  # and whether it ends with the first who does.
    tty: bool = False
    annotations: Mapping[str, str] = field(default_factory=dict)  # The pod's.
    files: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict)
    """Mounted volumes: mount path → file name → content (configMap, secret, downward API).
    The file name "" says that the mount path itself is the file (a subPath)."""
    shared: Mapping[str, str] = field(default_factory=dict)
    """Mounted emptyDirs: mount path → volume name; shared by the pod, gone with its sandbox."""
    mounts: Sequence[Mount] = ()
    """What else is mounted: what outlives the pod, and parts of emptyDirs."""


@dataclass(frozen=True, slots=True)
class Exited:
    """A container's process ended. code: exit status, 128 + signal when killed."""

    pod_uid: str
    container: str
    attempt: int
    code: int
    reason: str  # "Completed", "Error", "OOMKilled"
    message: str = ""  # What the process left in its terminationMessagePath.


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerRecord:
    """One run of a container that the runtime knows: still running, or dead and not removed."""

    name: str
    attempt: int
    id: str  # As `start_container` returned it.
    image: str
    running: bool
    started_s: float  # Unix time.
    finished_s: float = 0.0
    code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxRecord:
    """A sandbox that exists, and every run of a container in it that was not removed."""

    pod_uid: str
    namespace: str
    name: str
    ip: str  # "" after `stop_sandbox`.
    containers: tuple[ContainerRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecResult:
    """How a command inside a container ended."""

    code: int
    output: bytes


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """An image on the node. names: every reference it is known by."""

    digest: str
    names: tuple[str, ...]
    size_bytes: int


class Runtime(Protocol):
    """Containers of one node.

    It outlives its kubelet: a kubelet that was restarted learns from `sandboxes` what is there, and
    goes on. So a coroutine that is cancelled leaves either nothing behind, or what `sandboxes`
    tells of and what a second call (`stop_container`, `remove_sandbox`) ends.
    """

    name: str  # "simulated", "process": shown as containerRuntimeVersion.

    def listen(self, on_exit: Callable[[Exited], None]) -> None:
        """Have `on_exit` called, from the loop, whenever a container's process ends.

        A second call replaces the first.
        """

    def watch_usage(self, on_usage: Callable[[Usage], None]) -> None:
        """Have `on_usage` called, from the loop, whenever what is used of the node has changed.

        A second call replaces the first. A runtime that cannot tell never calls.
        """

    def sandboxes(self) -> Sequence[SandboxRecord]:
        """Return what is there: every sandbox that was not removed, with its containers."""

    def unsupported(self, pod: Mapping[str, Any]) -> str:
        """Return why this runtime cannot run a Pod as its spec says; "" if it can.

        "hostPath volumes are not supported: …": shown to the user in an event, the pod waits.
        Volumes come with `ContainerSpec`.
        """

    async def start_sandbox(self, spec: SandboxSpec) -> str:
        """Make the sandbox; return the pod's IP (spec.ip unless the runtime must differ).

        Raises: RuntimeFailure.
        """

    async def start_container(self, spec: ContainerSpec) -> str:
        """Start a container in its pod's sandbox; return its id.

        Raises: RuntimeFailure, "FailedMount" if one of its mounts cannot be.
        """

    async def stop_container(self, pod_uid: str, container: str, *, grace_s: float) -> None:
        """Send TERM, after `grace_s` KILL; return when it is gone. `Exited` is reported too.

        Harmless if it is gone already. A second call while one waits may shorten the grace.
        """

    async def stop_sandbox(self, pod_uid: str) -> None:
        """Kill whatever runs in it and free its address; logs stay until `remove_sandbox`."""

    async def remove_container(self, pod_uid: str, container: str, attempt: int) -> None:
        """Forget a dead run of a container, its log included; harmless if it is not known."""

    async def remove_sandbox(self, pod_uid: str) -> None:
        """Kill whatever is left of the pod and free what it used, logs included."""

    async def remove_volume(self, path: str) -> None:
        """Delete what is at a path of the node, with all in it; harmless if nothing is.

        Raises: RuntimeFailure.
        """

    async def exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, timeout_s: float
    ) -> ExecResult:
        """Run a command inside a container. Raises: RuntimeFailure, TimeoutError."""

    async def open_exec(
        self, pod_uid: str, container: str, command: Sequence[str], *, stdin: bool, tty: bool
    ) -> Session:
        """Start a command inside a container. Raises: RuntimeFailure."""

    async def attach(self, pod_uid: str, container: str, *, stdin: bool) -> Session:
        """Join the streams of a container that runs, from now on. Raises: RuntimeFailure."""

    async def connect(self, pod_uid: str, port: int, *, local: bool) -> Connection:
        """Connect to a port of a pod: on its loopback if `local`, else on its IP.

        Raises: OSError.
        """

    def logs(
        self,
        pod_uid: str,
        container: str,
        *,
        attempt: int,
        follow: bool = False,
    ) -> AsyncIterator[tuple[float, bytes]]:
        """Yield (unix time, line with its newline) of one run of a container, oldest first.

        With `follow`, go on until that run ends. Raises: RuntimeFailure if it is not known.
        """

    async def pull(self, image: str) -> ImageRecord:
        """Fetch an image onto the node. Raises: RuntimeFailure("ErrImagePull", why)."""

    def images(self) -> Sequence[ImageRecord]:
        """Return the images on the node."""

    async def remove_image(self, digest: str) -> None:
        """Delete an image from the node."""

    async def close(self) -> None:
        """Kill everything and free everything: no process, socket or namespace is left."""
