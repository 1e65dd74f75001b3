"""The life of a pod: what to do next, and what each thing that happened means. Pure.

`advance` brings a pod one step nearer to what its spec wants and returns the actions for it; called
again without anything having happened, it returns none. The other functions fold what happened.
Source of the rules: Kubernetes' pod lifecycle documentation.
"""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.actors.pods.actions import (
    Action,
    Forget,
    Probe,
    RemoveSandbox,
    Start,
    StartSandbox,
    Stop,
    StopSandbox,
    Tell,
)
from kubeloop.actors.pods.backoff import go_duration
from kubeloop.actors.pods.state import NEVER, Container, Exit, Pod, Run, Verdict, add_ephemeral
from kubeloop.actors.probes import FIELDS, KINDS, TITLES, ProbeState
from kubeloop.api.times import parse

GRACE_MIN_S: Final = 1.0  # Also who is killed at once may say goodbye, as in Kubernetes.
STOP_AGAIN_S: Final = 10.0  # So long past its grace a container is told to stop once more.
REMOVE_AGAIN_S: Final = 5.0
DEAD_RUNS_MAX: Final = 1  # Dead runs kept of each container, for `logs --previous`.


def observe(
    pod: Pod, obj: Mapping[str, Any] | None, revision: int = 0, *, ours: bool = False
) -> None:
    """Take the newest Pod object; None: the API has it no more.

    revision: of the fact that tells it, 0 if that was not heard;  ours: the kubelet wrote it.
    """
    if obj is None:
        pod.gone = pod.ending = True
        pod.because = revision or pod.because
        return
    if not ours and _concerns(pod.spec, obj):
        pod.because = revision
    pod.spec = obj
    add_ephemeral(pod.containers, dict(obj))
    metadata = obj["metadata"]
    if metadata.get("deletionTimestamp"):
        pod.deleting = pod.ending = True
        seconds = metadata.get("deletionGracePeriodSeconds")
        pod.grace_s = 30.0 if seconds is None else float(seconds)
    else:
        seconds = obj["spec"].get("terminationGracePeriodSeconds")
        pod.grace_s = 30.0 if seconds is None else float(seconds)


def _concerns(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Tell whether there may be something to do about a change, by whoever made it.

    That is about its spec, its deletion, or its status, which is the kubelet's to keep true.
    """
    was, is_ = before["metadata"], after["metadata"]
    return (
        was.get("generation") != is_.get("generation")
        or was.get("deletionTimestamp") != is_.get("deletionTimestamp")
        or before.get("status") != after.get("status")
    )


def advance(pod: Pod, now: float, wall_s: float) -> list[Action]:
    """Return what must be done now, and set `pod.wake_at` to when to look again at the latest."""
    pod.wake_at = NEVER
    actions: list[Action] = []
    _check_deadline(pod, now, actions)
    if not pod.ending:
        _live(pod, now, actions)
    if pod.ending:  # `_live` may have found that nothing is left to do.
        _end(pod, now, wall_s, actions)
    return actions


def _check_deadline(pod: Pod, now: float, actions: list[Action]) -> None:
    if pod.ending or pod.deadline_at == NEVER:
        return
    if now < pod.deadline_at:
        pod.wake(pod.deadline_at)
        return
    message = "Pod was active on the node longer than the specified deadline"
    fail(pod, "DeadlineExceeded", message)
    actions.append(Tell("Normal", "DeadlineExceeded", message))


def fail(pod: Pod, reason: str, message: str) -> None:
    """Have the pod end as Failed, for a reason of the kubelet's own."""
    pod.verdict = pod.verdict or Verdict(reason, message)
    pod.ending = True


# Living.


def _live(pod: Pod, now: float, actions: list[Action]) -> None:
    if pod.sandbox == "none":
        if now >= pod.sandbox_retry_at:
            pod.sandbox = "starting"
            actions.append(StartSandbox())
        else:
            pod.wake(pod.sandbox_retry_at)
    if pod.sandbox != "ready":
        return
    for container in pod.containers.values():
        _watch_over(pod, container, now, actions)
    for container in pod.of("ephemeral"):  # Whatever the others do; once, however it ends.
        if container.stage == "idle" and not container.over:
            _start(pod, container, now, actions)
    if not _initialize(pod, now, actions):
        return
    waiting = False
    for container in pod.of("main"):
        if not container.over or will_restart(pod, container):
            waiting = True
            if container.stage == "idle":
                _start(pod, container, now, actions)
    pod.ending = not waiting


def _initialize(pod: Pod, now: float, actions: list[Action]) -> bool:
    """Start what comes before the main containers; tell whether they may start."""
    for container in pod.of("init", "sidecar"):
        if container.role == "sidecar":
            if container.stage == "idle":
                _start(pod, container, now, actions)
            if not pod.initialized and not (container.stage == "running" and container.started):
                return False
        elif not pod.initialized and not container.succeeded:
            if container.stage == "idle":
                if container.over and not container.redo and not will_restart(pod, container):
                    pod.ending = True
                else:
                    _start(pod, container, now, actions)
            return False
    pod.initialized = True
    return True


def will_restart(pod: Pod, container: Container) -> bool:
    """Tell whether the restart policy gives a container that is over another run."""
    if container.role == "sidecar" or container.redo:
        return True
    if container.role == "ephemeral":
        return False
    policy = policy_of(pod, container)
    failed = container.run is not None and container.run.code != 0
    if container.role == "init":
        return policy != "Never" and failed
    return policy == "Always" or (policy == "OnFailure" and failed)


def policy_of(pod: Pod, container: Container) -> str:
    """Return the restart policy that holds for a container: its own, or its pod's."""
    own = pod.container_spec(container.name).get("restartPolicy")
    return str(own or pod.spec["spec"].get("restartPolicy") or "Always")


def _start(pod: Pod, container: Container, now: float, actions: list[Action]) -> None:
    if now < container.retry_at:
        pod.wake(container.retry_at)
        return
    if container.run is not None and _holds_back(pod, container, now, actions):
        return
    if container.run is not None:
        container.crashes.next(container.over_at, now)
    container.stage = "pulling"
    actions.append(Start(container.name, container.next_attempt))


def _holds_back(pod: Pod, container: Container, now: float, actions: list[Action]) -> bool:
    """Tell whether a crashing container must wait, and say so once."""
    until = container.crashes.until(container.over_at)
    if now >= until:
        container.backing_off = False
        return False
    pod.wake(until)
    if not container.backing_off:
        container.backing_off = True
        of = f"{pod.name}_{pod.namespace}({pod.uid})"
        pause = go_duration(container.crashes.pause_s)
        container.waiting = (
            "CrashLoopBackOff",
            f"back-off {pause} restarting failed container={container.name} pod={of}",
        )
        message = f"Back-off restarting failed container {container.name} in pod {of}"
        actions.append(Tell("Warning", "BackOff", message, container.name))
    return True


def _watch_over(pod: Pod, container: Container, now: float, actions: list[Action]) -> None:
    """Probe a running container, and end it if it has to be started afresh."""
    if container.stage != "running" or container.run is None:
        return
    wanted = pod.container_spec(container.name).get("image")
    if container.run.image != wanted and not container.redo:
        message = f"Container {container.name} definition changed, will be restarted"
        actions.append(Tell("Normal", "Killing", message, container.name))
        container.redo, container.halt_s = True, pod.grace_s
    if container.halt_s is not None:
        _stop(pod, container, container.halt_s, now, actions)
        return
    _ask_probes(pod, container, now, actions, KINDS)


def _ask_probes(
    pod: Pod, container: Container, now: float, actions: list[Action], kinds: tuple[str, ...]
) -> None:
    for kind, probe in container.probes.items():
        if kind not in kinds or (container.started if kind == "startup" else not container.started):
            continue
        if probe.ask(now):
            assert container.run is not None
            actions.append(Probe(container.name, container.run.attempt, kind))
        elif not probe.asked:
            pod.wake(probe.next_at)


def _stop(
    pod: Pod, container: Container, grace_s: float, now: float, actions: list[Action]
) -> None:
    """Tell a running container to stop, unless it was told already and has no longer than this."""
    assert container.run is not None
    grace_s = max(GRACE_MIN_S, grace_s)
    if now >= container.stop_by + STOP_AGAIN_S:
        container.stop_by = NEVER  # The runtime did not manage it: tell it again.
    if now + grace_s < container.stop_by:
        told_already = container.stop_by != NEVER
        container.stop_by = now + grace_s
        stop = Stop(container.name, container.run.attempt, grace_s, hook=not told_already)
        actions.append(stop)
    pod.wake(container.stop_by + STOP_AGAIN_S)


# Ending.


def _end(pod: Pod, now: float, wall_s: float, actions: list[Action]) -> None:
    """Stop all containers together but the sidecars; then those, the last one first."""
    grace_s = _grace(pod, wall_s)
    for container in pod.containers.values():
        if container.stage == "pulling":  # Nobody waits for the image any more.
            container.stage = "idle"
    running = [c for c in pod.of("init", "main", "ephemeral") if c.stage != "idle"]
    if not running:
        running = [c for c in reversed(list(pod.of("sidecar"))) if c.stage != "idle"][:1]
    for container in running:
        if container.stage == "running":
            if container.stop_by == NEVER:
                message = f"Stopping container {container.name}"
                actions.append(Tell("Normal", "Killing", message, container.name))
            _stop(pod, container, grace_s, now, actions)
            _ask_probes(pod, container, now, actions, ("readiness",))
    if pod.idle:
        _clear_away(pod, now, actions)


def _grace(pod: Pod, wall_s: float) -> float:
    deletion = pod.spec["metadata"].get("deletionTimestamp")
    if pod.recovered and deletion:  # An earlier kubelet told them already: its grace goes on.
        return min(pod.grace_s, parse(deletion) - wall_s)
    return pod.grace_s


def _clear_away(pod: Pod, now: float, actions: list[Action]) -> None:
    if pod.deleting or pod.gone:
        if pod.sandbox in ("ready", "stopped") and now < pod.sandbox_retry_at:
            pod.wake(pod.sandbox_retry_at)
        elif pod.sandbox in ("ready", "stopped"):
            pod.sandbox = "removing"
            actions.append(RemoveSandbox())
        elif pod.sandbox == "none":
            pod.sandbox = "removed"
    elif pod.sandbox == "ready":
        pod.sandbox = "stopped"
        actions.append(StopSandbox())


# What happened.


def sandbox_started(pod: Pod, ip: str) -> None:
    """The sandbox is there, at this address."""
    pod.sandbox, pod.ip, pod.sandbox_retry_at = "ready", ip, 0.0


def sandbox_failed(pod: Pod, message: str, now: float) -> list[Action]:
    """There is no sandbox: try again later."""
    pod.sandbox = "none"
    pod.sandbox_backoff.next(now, now)
    pod.sandbox_retry_at = pod.sandbox_backoff.until(now)
    told = f"Failed to create pod sandbox: {message}"
    return [Tell("Warning", "FailedCreatePodSandBox", told)]


def sandbox_removed(pod: Pod) -> None:
    """Nothing of the pod is left on the node."""
    pod.sandbox = "removed"


def sandbox_stays(pod: Pod, message: str, now: float) -> list[Action]:
    """The sandbox could not be removed: try again later."""
    pod.sandbox, pod.sandbox_retry_at = "stopped", now + REMOVE_AGAIN_S
    return [Tell("Warning", "FailedKillPod", f"error killing pod: {message}")]


def image_ready(pod: Pod, name: str) -> None:
    """The image is there: the runtime is asked to start the container."""
    pod.containers[name].stage = "starting"


def started(pod: Pod, name: str, run: Run, now: float) -> list[Action]:
    """A run began."""
    container = pod.containers[name]
    assert run.attempt == container.next_attempt, f"{name}: run {run.attempt} was not asked for"
    container.last, container.run = container.run, run
    container.attempt = run.attempt
    container.stage = "running"
    container.redo = container.backing_off = False
    container.halt_s, container.waiting, container.stop_by = None, ("", ""), NEVER
    arm_probes(pod, container, now)
    if container.early is not None:
        exited(pod, name, container.early, now)
    actions: list[Action] = [
        Tell("Normal", "Created", "Container created", name),
        Tell("Normal", "Started", "Container started", name),
    ]
    if run.attempt > DEAD_RUNS_MAX:
        actions.append(Forget(name, run.attempt - DEAD_RUNS_MAX - 1))
    return actions


def arm_probes(pod: Pod, container: Container, now: float) -> None:
    """Set up the probes of a run that has just begun; without any it is ready at once."""
    spec = pod.container_spec(container.name)
    found = ((kind, ProbeState.of(spec, kind, now)) for kind in KINDS)
    container.probes = {kind: probe for kind, probe in found if probe is not None}
    container.started = "startup" not in container.probes
    container.ready = container.started and "readiness" not in container.probes


def not_started(pod: Pod, name: str, reason: str, message: str, retry_at: float) -> None:
    """A run could not begin: the image, its configuration or the runtime was not right."""
    container = pod.containers[name]
    container.stage = "idle"
    container.waiting, container.retry_at = (reason, message), retry_at


def exited(pod: Pod, name: str, exit: Exit, now: float) -> None:
    """A run ended. Told twice, it happened once."""
    container = pod.containers.get(name)
    if container is None:
        return
    if container.stage == "starting" and exit.attempt == container.next_attempt:
        container.early = exit
        return
    run = container.run
    if container.stage != "running" or run is None or run.attempt != exit.attempt:
        return
    run.finished_s, run.code, run.reason, run.message = (
        exit.at_s,
        exit.code,
        exit.reason,
        exit.message,
    )
    container.stage, container.over_at = "idle", now
    container.ready = container.started = False
    container.probes, container.waiting, container.early = {}, ("", ""), None
    container.stop_by = NEVER


def probed(
    pod: Pod, name: str, *, attempt: int, kind: str, ok: bool, message: str, now: float
) -> list[Action]:
    """A probe came back."""
    container = pod.containers.get(name)
    if container is None or container.stage != "running" or container.run is None:
        return []
    probe = container.probes.get(kind)
    if probe is None or container.run.attempt != attempt:
        return []
    actions: list[Action] = []
    reached = probe.answer(ok)
    if not ok:
        told = f"{TITLES[kind]} probe failed: {message}"
        actions.append(Tell("Warning", "Unhealthy", told, name))
    if kind == "startup" and probe.verdict:
        container.started = True
    elif reached and not ok and kind != "readiness" and _may_halt(pod, container):
        told = f"Container {name} failed {kind} probe, will be restarted"
        actions.append(Tell("Normal", "Killing", told, name))
        own_s = pod.container_spec(name)[FIELDS[kind]].get("terminationGracePeriodSeconds")
        container.halt_s = pod.grace_s if own_s is None else float(own_s)
    readiness = container.probes.get("readiness")
    container.ready = container.started and (readiness is None or bool(readiness.verdict))
    return actions


def hook_failed(pod: Pod, name: str) -> list[Action]:
    """The postStart hook of a container failed: only a fresh run can mend that."""
    container = pod.containers[name]
    if container.stage == "running" and _may_halt(pod, container):
        container.halt_s = pod.grace_s
    return [
        Tell("Warning", "FailedPostStartHook", "PostStartHook failed", name),
        Tell("Normal", "Killing", "FailedPostStartHook", name),
    ]


def _may_halt(pod: Pod, container: Container) -> bool:
    return container.halt_s is None and not pod.ending
