"""The row of a pod: one word for all that its phase, conditions and containers say together."""

from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.api import humanize, times
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.humanize import Ago
from kubeloop.api.printing.text import NONE, created, name_of

_FINISHED: Final = ("Succeeded", "Failed")
_CONDITIONS: Final = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


@dataclass(slots=True)
class _Tally:
    """What has been read of a pod's containers so far."""

    reason: str
    ready: int = 0
    restarts: int = 0
    restarted_at: float = 0.0
    sidecar_restarts: int = 0
    sidecar_restarted_at: float = 0.0
    initializing: bool = False
    running: bool = field(default=False)


def row(pod: Json) -> list[Any]:
    """Return the cells of a pod."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    sidecars = {c.get("name") for c in items(spec, "initContainers") if _is_sidecar(c)}
    tally = _Tally(_first_reason(status))
    _read_init(tally, spec, status, sidecars)
    if not tally.initializing or _condition(status, "Initialized"):
        _read_containers(tally, status)
    total = len(items(spec, "containers")) + len(sidecars)
    restarts: str | Ago = str(tally.restarts)
    if tally.restarts and tally.restarted_at:
        restarts = Ago(tally.restarted_at, f"{tally.restarts} (", " ago)")
    addresses = items(status, "podIPs")
    return [
        name_of(pod),
        f"{tally.ready}/{total}",
        _last_word(pod, status, tally.reason),
        restarts,
        humanize.since(created(pod)),
        (addresses[0].get("ip") if addresses else "") or NONE,
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def conditions(pod: Json) -> list[Json]:
    """Return the conditions of a pod's row: whether it is over, and how it went."""
    phase = (pod.get("status") or {}).get("phase")
    if phase not in _CONDITIONS:
        return []
    message = _CONDITIONS[phase]
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


def _first_reason(status: Json) -> str:
    for condition in items(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            return "SchedulingGated"
    return str(status.get("reason") or status.get("phase") or "")


def _last_word(pod: Json, status: Json, reason: str) -> str:
    """Let deletion overrule what the containers say."""
    if not (pod.get("metadata") or {}).get("deletionTimestamp"):
        return reason
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if status.get("phase") in _FINISHED else "Terminating"


def _read_init(tally: _Tally, spec: Json, status: Json, sidecars: set[Any]) -> None:
    """Read the init containers up to the first that is not done."""
    total = len(items(spec, "initContainers"))
    for index, container in enumerate(items(status, "initContainerStatuses")):
        sidecar = container.get("name") in sidecars
        restarts, ended = _restarts(container)
        tally.restarts += restarts
        tally.restarted_at = max(tally.restarted_at, ended)
        if sidecar:
            tally.sidecar_restarts += restarts
            tally.sidecar_restarted_at = max(tally.sidecar_restarted_at, ended)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            tally.ready += bool(container.get("ready"))
            continue
        tally.initializing = True
        if terminated is not None:
            tally.reason = f"Init:{_ended(terminated)}"
        elif waiting.get("reason") not in (None, "", "PodInitializing"):
            tally.reason = f"Init:{waiting['reason']}"
        else:
            tally.reason = f"Init:{index}/{total}"
        return


def _read_containers(tally: _Tally, status: Json) -> None:
    """Read the containers, last first, so that the first has the last word."""
    tally.restarts, tally.restarted_at = tally.sidecar_restarts, tally.sidecar_restarted_at
    for container in reversed(items(status, "containerStatuses")):
        restarts, ended = _restarts(container)
        tally.restarts += restarts
        tally.restarted_at = max(tally.restarted_at, ended)
        state = container.get("state") or {}
        terminated, waiting = state.get("terminated"), state.get("waiting") or {}
        if waiting.get("reason"):
            tally.reason = waiting["reason"]
        elif terminated is not None:
            tally.reason = _ended(terminated)
        elif container.get("ready") and state.get("running") is not None:
            tally.running = True
            tally.ready += 1
    if tally.reason == "Completed" and tally.running:
        tally.reason = "Running" if _condition(status, "Ready") else "NotReady"


def _ended(terminated: Json) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _restarts(container: Json) -> tuple[int, float]:
    """Return how often a container was restarted, and when it last ended (0: never)."""
    last = maybe(maybe(container, "lastState"), "terminated") or {}
    try:
        ended = times.parse(last.get("finishedAt") or "")
    except ValueError:
        ended = 0.0
    return int(container.get("restartCount") or 0), ended


def _gates(spec: Json, status: Json) -> str:
    gates = [gate.get("conditionType") for gate in items(spec, "readinessGates")]
    if not gates:
        return NONE
    return f"{sum(_condition(status, str(gate)) for gate in gates)}/{len(gates)}"


def _condition(status: Json, name: str) -> bool:
    found = (c for c in items(status, "conditions") if c.get("type") == name)
    return next(found, {}).get("status") == "True"


def _is_sidecar(container: Json) -> bool:
    return container.get("restartPolicy") == "Always"
