"""The status of a pod, as its kubelet reports it. Pure.

Times of transitions are taken over from the status the API has, as long as what they tell of has
not changed; so reporting an unchanged pod twice gives the same status, and nothing is written.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.pods.pressure import EVICTED
from kubeloop.actors.pods.state import Container, Object, Pod, Run, specs_of
from kubeloop.api.times import rfc3339

TERMINAL: Final = ("Succeeded", "Failed")
_OPTIONAL: Final = (
    "reason",
    "message",
    "initContainerStatuses",
    "ephemeralContainerStatuses",
    "podIP",
    "podIPs",
)
LOST_CODE: Final = 137
LOST_REASON: Final = "ContainerStatusUnknown"
LOST_MESSAGE: Final = "The container could not be located when the pod was terminated"
_LOST: Final = {
    "exitCode": LOST_CODE,
    "reason": LOST_REASON,
    "message": LOST_MESSAGE,
}


def render(pod: Pod, *, host_ip: str, runtime: str, wall_s: float) -> dict[str, Any]:
    """Return the kubelet's part of the status of `pod`.

    runtime: the runtime's name, the scheme of container ids.
    """
    old: Object = pod.spec.get("status") or {}
    phase = phase_of(pod)
    done = phase in TERMINAL
    inits = list(pod.of("init", "sidecar"))
    mains = list(pod.of("main"))
    added = list(pod.of("ephemeral"))
    status: dict[str, Any] = {
        "observedGeneration": pod.spec["metadata"].get("generation", 0),
        "phase": phase,
        "conditions": _conditions(pod, phase, old, wall_s),
        "hostIP": host_ip,
        "hostIPs": [{"ip": host_ip}],
        "startTime": rfc3339(pod.started_s),
    }
    if pod.verdict is not None:
        status |= {"reason": pod.verdict.reason, "message": pod.verdict.message}
    elif pod.phase:
        status |= {key: old[key] for key in ("reason", "message") if key in old}
    if pod.ip:
        status |= {"podIP": pod.ip, "podIPs": [{"ip": pod.ip}]}
    specs = {spec["name"]: spec for spec in specs_of(pod.spec)}
    if inits:
        status["initContainerStatuses"] = [
            _container(pod, c, specs[c.name], runtime, lost=False) for c in inits
        ]
    lost = done and pod.ending and pod.initialized
    status["containerStatuses"] = [
        _container(pod, c, specs[c.name], runtime, lost=lost) for c in mains
    ]
    if added:
        status["ephemeralContainerStatuses"] = [
            _container(pod, c, specs[c.name], runtime, lost=lost) for c in added
        ]
    return status


def changes(pod: Pod, status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch of the status that the API lacks; {} if it has all of it."""
    old: Object = pod.spec.get("status") or {}
    changed = {key: value for key, value in status.items() if old.get(key) != value}
    removed = {key: None for key in _OPTIONAL if key in old and key not in status}
    return changed | removed


def phase_of(pod: Pod) -> str:
    """Return the phase of a pod, from what its containers do."""
    if pod.phase:
        return pod.phase
    mains = list(pod.of("main"))
    if pod.ending and pod.idle:
        if pod.verdict is not None or not pod.initialized:
            return "Failed"
        return "Succeeded" if all(c.succeeded for c in mains) else "Failed"
    if not pod.initialized or any(c.stage != "running" and c.run is None for c in mains):
        return "Pending"
    return "Running"


# Conditions.

_Condition = tuple[bool, str, str]  # Whether it holds, the reason and the message.
_HOLDS: Final[_Condition] = (True, "", "")


def _conditions(pod: Pod, phase: str, old: Object, wall_s: float) -> list[dict[str, Any]]:
    before = {c["type"]: c for c in old.get("conditions") or ()}
    containers_ready = _containers_ready(pod, phase)
    found = {
        "PodReadyToStartContainers": (pod.sandbox == "ready", "", ""),
        "Initialized": _initialized(pod, phase),
        "Ready": _ready(pod, containers_ready, before),
        "ContainersReady": containers_ready,
        "PodScheduled": _HOLDS,
    }
    if pod.verdict is not None and pod.verdict.reason == EVICTED:
        found["DisruptionTarget"] = (True, "TerminationByKubelet", pod.verdict.message)
    generation, now = pod.spec["metadata"].get("generation", 0), rfc3339(wall_s)
    conditions = []
    for kind, (holds, reason, message) in found.items():
        status, was, since = "True" if holds else "False", before.get(kind), now
        if was is not None and was.get("status") == status:
            since = was.get("lastTransitionTime") or now
        condition = {
            "type": kind,
            "observedGeneration": generation,
            "status": status,
            "lastProbeTime": None,
            "lastTransitionTime": since,
        }
        if reason:
            condition["reason"] = reason
        if message:
            condition["message"] = message
        conditions.append(condition)
    return conditions + [c for c in before.values() if c["type"] not in found]


def _initialized(pod: Pod, phase: str) -> _Condition:
    if phase == "Succeeded":
        return (True, "PodCompleted", "")
    if pod.initialized:
        return _HOLDS
    missing = [c.name for c in pod.of("init", "sidecar") if not (c.succeeded or _serves(c))]
    if not missing:
        return _HOLDS
    text = f"containers with incomplete status: {_names(missing)}"
    return (False, "ContainersNotInitialized", text)


def _serves(container: Container) -> bool:
    return container.role == "sidecar" and container.started


def _containers_ready(pod: Pod, phase: str) -> _Condition:
    if phase == "Succeeded":
        return (False, "PodCompleted", "")
    if phase == "Failed":
        return (False, "PodFailed", "")
    unready = [c.name for c in pod.of("sidecar", "main") if not c.ready]
    if not unready:
        return _HOLDS
    return (False, "ContainersNotReady", f"containers with unready status: {_names(unready)}")


def _ready(pod: Pod, containers: _Condition, before: Mapping[str, Object]) -> _Condition:
    """Return the Ready condition: the containers', and then the readiness gates'."""
    if not containers[0]:
        return containers
    problems = []
    for gate in pod.spec["spec"].get("readinessGates") or ():
        kind = gate["conditionType"]
        if kind not in before:
            text = f'corresponding condition of pod readiness gate "{kind}" does not exist.'
            problems.append(text)
        elif before[kind]["status"] != "True":
            status = before[kind]["status"]
            problems.append(
                f'the status of pod readiness gate "{kind}" is not "True", but {status}'
            )
    return (False, "ReadinessGatesNotReady", ", ".join(problems)) if problems else _HOLDS


def _names(names: Iterable[str]) -> str:
    return f"[{' '.join(names)}]"


# Containers.


def _container(
    pod: Pod, container: Container, spec: Object, runtime: str, *, lost: bool
) -> dict[str, Any]:
    run, last = container.run, container.last
    if container.stage == "running" and run is not None:
        state: dict[str, Any] = {"running": {"startedAt": rfc3339(run.started_s)}}
    elif run is not None and (not container.waiting[0] or pod.ending):
        state = {"terminated": _terminated(run, runtime)}
    elif run is None and lost:
        state = {"terminated": dict(_LOST)}
    else:
        state, last = {"waiting": _waiting(pod, container)}, run
    return {
        "name": container.name,
        "state": state,
        "lastState": {"terminated": _terminated(last, runtime)} if last is not None else {},
        "ready": container.ready or (container.role == "init" and container.succeeded),
        "restartCount": container.attempt,
        "image": run.image if run is not None else spec.get("image", ""),
        "imageID": run.image_id if run is not None else "",
        **({"containerID": f"{runtime}://{run.id}"} if run is not None and run.id else {}),
        "started": container.started,
    }


def _waiting(pod: Pod, container: Container) -> dict[str, str]:
    reason, message = container.waiting
    if not reason:
        starts_late = container.role == "main" and not pod.initialized
        late = starts_late and any(pod.of("init", "sidecar"))
        reason = "PodInitializing" if late else "ContainerCreating"
    return {"reason": reason, **({"message": message} if message else {})}


def _terminated(run: Run, runtime: str) -> dict[str, Any]:
    return {
        "exitCode": run.code,
        "reason": run.reason or ("Error" if run.code else "Completed"),
        **({"message": run.message} if run.message else {}),
        **({"startedAt": rfc3339(run.started_s)} if run.started_s else {}),
        **({"finishedAt": rfc3339(run.finished_s)} if run.finished_s else {}),
        **({"containerID": f"{runtime}://{run.id}"} if run.id else {}),
    }
