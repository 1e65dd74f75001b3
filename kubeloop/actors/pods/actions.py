"""What the life of a pod asks of the world: values that the kubelet carries out.

Each action that takes time is answered by one call on the `Pod` that asked for it (see `life`), so
that an action is never asked for twice.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StartSandbox:
    """Make the sandbox: answered by `life.sandbox_started` or `life.sandbox_failed`."""


@dataclass(frozen=True, slots=True)
class StopSandbox:
    """Free what a finished pod no longer needs; its logs stay. Not answered."""


@dataclass(frozen=True, slots=True)
class RemoveSandbox:
    """Remove everything of the pod: answered by `life.sandbox_removed`."""


@dataclass(frozen=True, slots=True)
class Start:
    """See to the image, then start a run: answered by `life.started` or `life.not_started`."""

    container: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Stop:
    """End a run within `grace_s`; `life.exited` follows. hook: run the preStop hook first."""

    container: str
    attempt: int
    grace_s: float
    hook: bool = True


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove a dead run, its log included. Not answered."""

    container: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Probe:
    """Probe a running container: answered by `life.probed`. kind: "readiness", …"""

    container: str
    attempt: int
    kind: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell the user by an Event. container: "" if it is about the pod as a whole."""

    type: str
    reason: str
    message: str
    container: str = ""


Action = StartSandbox | StopSandbox | RemoveSandbox | Start | Stop | Forget | Probe | Tell
