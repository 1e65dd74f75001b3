"""What a kubelet knows of one pod beyond the API: its sandbox, and the runs of its containers.

container:  idle ─▶ pulling ─▶ starting ─▶ running ─▶ idle (its run is over) ─▶ pulling …
sandbox:    none ─▶ starting ─▶ ready ─▶ (stopped ─▶) removing ─▶ removed
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from kubeloop.actors.pods.backoff import Backoff
from kubeloop.actors.probes import ProbeState

Object = Mapping[str, Any]
Role = Literal["init", "sidecar", "main", "ephemeral"]
Stage = Literal["idle", "pulling", "starting", "running"]
Sandbox = Literal["none", "starting", "ready", "stopped", "removing", "removed"]

NEVER = float("inf")


@dataclass(slots=True)
class Run:
    """One run of a container. Times are Unix times; finished_s is 0 while it goes on."""

    attempt: int
    id: str = ""
    image: str = ""
    image_id: str = ""
    started_s: float = 0.0
    finished_s: float = 0.0
    code: int = 0
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Exit:
    """How a run ended, at the Unix time at_s."""

    attempt: int
    code: int
    reason: str
    message: str
    at_s: float


@dataclass(slots=True)
class Container:
    """One container of a pod.

    run:      the newest run: going on if the stage is "running", else over.
    last:     the run before it.
    over_at:  when the newest run ended, on the clock that never goes back.
    waiting:  reason and message why no run goes on; ("", "") for the usual one.
    retry_at: no start before this time.
    redo:     it must run again whatever the policy says: its image changed, its sandbox is gone.
    halt_s:   it must end within so many seconds, for its probe failed or its image changed.
    stop_by:  by when its running process must be gone; NEVER if it was not told to stop.
    early:    its run ended before the runtime had said that it began.
    """

    name: str
    role: Role
    stage: Stage = "idle"
    run: Run | None = None
    last: Run | None = None
    over_at: float = 0.0
    attempt: int = 0
    waiting: tuple[str, str] = ("", "")
    retry_at: float = 0.0
    redo: bool = False
    halt_s: float | None = None
    stop_by: float = NEVER
    early: "Exit | None" = None
    started: bool = False
    ready: bool = False
    crashes: Backoff = field(default_factory=Backoff)
    backing_off: bool = False
    probes: dict[str, ProbeState] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether it has run, and runs no more."""
        return self.stage != "running" and self.run is not None

    @property
    def succeeded(self) -> bool:
        """Whether its newest run is over and was a success."""
        return self.over and self.run is not None and self.run.code == 0 and not self.redo

    @property
    def next_attempt(self) -> int:
        """The number of the run that begins next."""
        return self.attempt if self.run is None else self.attempt + 1


@dataclass(slots=True)
class Verdict:
    """Why the kubelet itself ended a pod: it becomes Failed."""

    reason: str
    message: str


@dataclass(slots=True)
class Pod:
    """One pod on this node.

    spec:       the newest Pod object; the last one known if the API has it no more.
    because:    the revision of the fact that was acted on last: what is done now stems from it.
    gone:       the API has it no more (or never had): everything must go.
    ending:     its containers must end and none may start again.
    deleting:   its deletion was asked for.
    awaits_token: a token for its volumes has been asked for.
    grace_s:    how long its containers have from being told to stop to being killed.
    deadline_at: when activeDeadlineSeconds are over.
    wake_at:    when `life.advance` wants to be called again.
    phase:      Succeeded or Failed once the API has it so, which nothing can undo; else "".
    """

    uid: str
    namespace: str
    name: str
    spec: Object
    containers: dict[str, Container]
    because: int = 0
    sandbox: Sandbox = "none"
    ip: str = ""
    sandbox_retry_at: float = 0.0
    sandbox_backoff: Backoff = field(default_factory=Backoff)
    initialized: bool = False
    ending: bool = False
    gone: bool = False
    recovered: bool = False
    deleting: bool = False
    awaits_token: bool = False
    grace_s: float = 30.0
    verdict: Verdict | None = None
    phase: str = ""
    started_s: float = 0.0
    deadline_at: float = NEVER
    wake_at: float = NEVER

    def of(self, *roles: Role) -> Iterator[Container]:
        """Yield the containers of these roles, in the order of the spec, init containers first."""
        return (c for c in self.containers.values() if c.role in roles)

    @property
    def busy(self) -> bool:
        """Whether something is about to change by itself: a start is under way."""
        return (
            self.sandbox == "starting"
            or self.awaits_token
            or any(
                c.stage in ("pulling", "starting") and not c.waiting[0]
                for c in self.containers.values()
            )
        )

    @property
    def idle(self) -> bool:
        """Whether no process of it runs, and none is being started."""
        return self.sandbox != "starting" and all(
            c.stage == "idle" for c in self.containers.values()
        )

    def wake(self, at: float) -> None:
        """Ask for a call of `life.advance` at that time."""
        self.wake_at = min(self.wake_at, at)

    def container_spec(self, name: str) -> Object:
        """Return a container as the spec has it; only its name if the spec is not known."""
        return next((c for c in specs_of(self.spec) if c["name"] == name), {"name": name})


def specs_of(pod: Object) -> Iterator[Object]:
    """Yield the containers of a Pod object: init containers first, ephemeral ones last."""
    yield from pod["spec"].get("initContainers") or ()
    yield from pod["spec"]["containers"]
    yield from pod["spec"].get("ephemeralContainers") or ()


def add_ephemeral(containers: dict[str, Container], pod: Object) -> None:
    """Add the ephemeral containers of a Pod object that are not known yet."""
    for spec in pod["spec"].get("ephemeralContainers") or ():
        if spec["name"] not in containers:
            containers[spec["name"]] = Container(spec["name"], "ephemeral")


def new_pod(pod: Object, *, wall_s: float, now: float) -> Pod:
    """Return the state of a pod of which nothing has been done yet."""
    containers: dict[str, Container] = {}
    for spec in pod["spec"].get("initContainers") or ():
        role: Role = "sidecar" if spec.get("restartPolicy") == "Always" else "init"
        containers[spec["name"]] = Container(spec["name"], role)
    for spec in pod["spec"]["containers"]:
        containers[spec["name"]] = Container(spec["name"], "main")
    add_ephemeral(containers, pod)
    metadata = pod["metadata"]
    state = Pod(metadata["uid"], metadata["namespace"], metadata["name"], pod, containers)
    state.because = int(metadata.get("resourceVersion") or 0)
    state.started_s = float(int(wall_s))
    limit_s = pod["spec"].get("activeDeadlineSeconds")
    if limit_s is not None:
        state.deadline_at = now + float(limit_s)
    return state
