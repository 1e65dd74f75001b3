"""How a kubelet that was restarted finds its pods again: from the API and from the runtime. Pure.

The runtime knows what runs; the status in the API knows what has run. Where both know a run, the
runtime is right; what only the API knows is gone, and counts as killed.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from kubeloop.actors.pods.life import arm_probes
from kubeloop.actors.pods.state import NEVER, Container, Exit, Object, Pod, Run, new_pod
from kubeloop.actors.pods.status import LOST_CODE, LOST_MESSAGE, LOST_REASON, TERMINAL
from kubeloop.actors.runtimes.protocol import ContainerRecord, SandboxRecord
from kubeloop.api.times import parse

_STATUSES: Final = ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")


def recover(
    obj: Object,
    record: SandboxRecord | None,
    *,
    now: float,
    wall_s: float,
    image_id: Callable[[str], str],
) -> Pod:
    """Return the state of a pod the kubelet has just learned of.

    record: what the runtime has;  image_id: tells the imageID of an image on the node.
    """
    pod = new_pod(obj, wall_s=wall_s, now=now)
    status: Object = obj.get("status") or {}
    _recover_times(pod, status, now, wall_s)
    told = (status.get(field) or [] for field in _STATUSES)
    known = {entry["name"]: entry for entries in told for entry in entries}
    for container in pod.containers.values():
        runs = [r for r in record.containers if r.name == container.name] if record else []
        _recover_container(pod, container, runs, known.get(container.name, {}), now, wall_s)
        if container.run is not None and not container.run.image_id:
            container.run.image_id = image_id(container.run.image)
    has_run = any(c.run is not None for c in pod.containers.values())
    pod.recovered = has_run
    pod.initialized = any(c.run is not None for c in pod.of("main"))
    pod.ip = (record.ip if record else "") or status.get("podIP") or ""
    if status.get("phase") in TERMINAL:
        pod.phase, pod.ending = status["phase"], True
    if record is not None:
        pod.sandbox = "ready" if record.ip else "stopped"
        pod.ending |= pod.sandbox == "stopped"  # Only those that have ended are stopped.
    elif has_run and not pod.ending:
        _recover_lost_sandbox(pod)
    return pod


def orphan(record: SandboxRecord) -> Pod:
    """Return the state of a pod that only the runtime knows: all of it must go."""
    obj = {
        "metadata": {"uid": record.pod_uid, "namespace": record.namespace, "name": record.name},
        "spec": {"containers": []},
    }
    containers = {}
    for found in sorted(record.containers, key=lambda r: r.attempt):
        container = containers[found.name] = Container(found.name, "main")
        container.run, container.attempt = _run(found, ""), found.attempt
        container.stage = "running" if found.running else "idle"
    return Pod(
        record.pod_uid,
        record.namespace,
        record.name,
        obj,
        containers,
        sandbox="ready",
        ip=record.ip,
        gone=True,
        ending=True,
        grace_s=0.0,
    )


def lost_run(
    sandboxes: Iterable[SandboxRecord], uid: str, name: str, attempt: int, wall: Callable[[], float]
) -> Exit | None:
    """Return how a run ended that the runtime has no more, though nobody has told its end.

    None if it is there: then its exit is told, or it runs and will be told to stop again.
    """
    runs = [run for record in sandboxes if record.pod_uid == uid for run in record.containers]
    if any((run.name, run.attempt) == (name, attempt) for run in runs):
        return None
    return Exit(attempt, LOST_CODE, LOST_REASON, LOST_MESSAGE, wall())


def _recover_times(pod: Pod, status: Object, now: float, wall_s: float) -> None:
    if status.get("startTime"):
        pod.started_s = parse(status["startTime"])
        if pod.deadline_at != NEVER:
            pod.deadline_at -= max(0.0, wall_s - pod.started_s)


def _recover_container(
    pod: Pod,
    container: Container,
    runs: list[ContainerRecord],
    known: Mapping[str, Any],
    now: float,
    wall_s: float,
) -> None:
    runs.sort(key=lambda run: run.attempt)
    state, last = known.get("state") or {}, (known.get("lastState") or {}).get("terminated")
    count = int(known.get("restartCount") or 0)
    if runs:
        newest = runs[-1]
        same = str(known.get("containerID", "")).endswith(f"://{newest.id}")
        container.run = _run(newest, known.get("imageID", "") if same else "")
        container.attempt = max(count, newest.attempt)
        container.run.attempt = container.attempt
        if len(runs) > 1:
            container.last = _run(runs[-2], "")
        elif last is not None:
            container.last = _told(last, known, container.attempt - 1)
        if newest.running:
            container.stage = "running"
            arm_probes(pod, container, now)
            if same:
                _recover_probes(container, known)
    elif state.get("terminated") or last or state.get("running"):
        _recover_from_status(container, known, wall_s)
        container.attempt = count
    if container.run is not None and container.stage == "idle":
        container.over_at = now - max(0.0, wall_s - container.run.finished_s)


def _recover_probes(container: Container, known: Mapping[str, Any]) -> None:
    """Take over what the earlier kubelet had found out by probing."""
    container.started = container.started or bool(known.get("started"))
    if container.started and known.get("ready"):
        container.ready = True
        if "readiness" in container.probes:
            container.probes["readiness"].verdict = True


def _recover_from_status(container: Container, known: Mapping[str, Any], wall_s: float) -> None:
    """Take what the API tells of runs that the runtime does not know (any more)."""
    state, count = known.get("state") or {}, int(known.get("restartCount") or 0)
    last = (known.get("lastState") or {}).get("terminated")
    if state.get("running"):
        container.run = Run(
            count,
            id=_bare_id(known.get("containerID", "")),
            image=known.get("image", ""),
            image_id=known.get("imageID", ""),
            started_s=parse(state["running"]["startedAt"]),
            finished_s=wall_s,
            code=LOST_CODE,
            reason=LOST_REASON,
            message=LOST_MESSAGE,
        )
        container.last = _told(last, known, count - 1) if last else None
    elif state.get("terminated"):
        container.run = _told(state["terminated"], known, count)
        container.last = _told(last, known, count - 1) if last else None
    elif last:
        container.run = _told(last, known, count)


def _recover_lost_sandbox(pod: Pod) -> None:
    """The node was restarted: the pod starts over in a new sandbox, if its policy lets it."""
    if pod.spec["spec"].get("restartPolicy") == "Never":
        pod.ending = True
        return
    pod.initialized, pod.ip = False, ""
    for container in pod.of("init"):
        container.redo = container.run is not None


def _run(record: ContainerRecord, image_id: str) -> Run:
    return Run(
        record.attempt,
        id=record.id,
        image=record.image,
        image_id=image_id,
        started_s=record.started_s,
        finished_s=0.0 if record.running else record.finished_s,
        code=record.code,
        reason=record.reason,
        message=record.message,
    )


def _told(terminated: Mapping[str, Any], known: Mapping[str, Any], attempt: int) -> Run:
    """Return the run that a terminated state tells of."""
    started, finished = terminated.get("startedAt"), terminated.get("finishedAt")
    return Run(
        attempt,
        id=_bare_id(terminated.get("containerID", "")),
        image=known.get("image", ""),
        image_id=known.get("imageID", ""),
        started_s=parse(started) if started else 0.0,
        finished_s=parse(finished) if finished else 0.0,
        code=int(terminated["exitCode"]),
        reason=terminated.get("reason", ""),
        message=terminated.get("message", ""),
    )


def _bare_id(container_id: str) -> str:
    return container_id.partition("://")[2]
