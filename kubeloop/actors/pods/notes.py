"""What a kubelet's work has brought, told to the life of the pod it was for. Pure."""

from collections.abc import Sequence
from typing import Any, Final

from kubeloop.actors.pods import life
from kubeloop.actors.pods.actions import Action, Tell
from kubeloop.actors.pods.state import Exit, Pod, Run

CONFIG_RETRY_S: Final = 10.0


def fold(pod: Pod, topic: str, content: Sequence[Any], now: float) -> Sequence[Action]:
    """Tell a pod what happened; return what follows from it at once. content: of the Note.

    Raises: ValueError for a topic there is not.
    """
    match topic, content:
        case "sandbox", [_, ip, problem]:
            if problem:
                return life.sandbox_failed(pod, problem, now)
            life.sandbox_started(pod, ip)
        case "removed", [_, problem]:
            if problem:
                return life.sandbox_stays(pod, problem, now)
            life.sandbox_removed(pod)
        case "started", _:
            return _started(pod, content, now)
        case "stopped", [_, name, _, problem]:
            text = "PreStopHook failed"
            return [Tell("Warning", "FailedPreStopHook", text, name)] if problem else []
        case "exited", [_, name, attempt, code, reason, message, at_s]:
            life.exited(pod, name, Exit(attempt, code, reason, message, at_s), now)
        case "probed", [_, name, attempt, kind, ok, message]:
            return life.probed(
                pod, name, attempt=attempt, kind=kind, ok=ok, message=message, now=now
            )
        case _:
            raise ValueError(f"a kubelet was told of {topic!r}")
    return []


def _started(pod: Pod, content: Sequence[Any], now: float) -> Sequence[Action]:
    _, name, attempt, container_id, image, identity, at_s, reason, message, hook = content
    if reason == "FailedMount":
        life.not_started(pod, name, "", "", now + CONFIG_RETRY_S)
        return [Tell("Warning", reason, message)]
    if reason:
        life.not_started(pod, name, reason, message, now + CONFIG_RETRY_S)
        return [Tell("Warning", "Failed", f"Error: {message}", name)]
    run = Run(attempt, id=container_id, image=image, image_id=identity, started_s=at_s)
    events = life.started(pod, name, run, now)
    return [*events, *life.hook_failed(pod, name)] if hook else events
