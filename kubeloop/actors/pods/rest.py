"""Whether a node's pods are at rest: nothing will be done unless something happens. Pure.

At rest is also what goes on for ever: a container that runs, or that crashes again and again and
waits for its next try; an image that cannot be pulled; a probe that has made up its mind.
"""

from collections.abc import Mapping

from kubeloop.actors.pods.life import will_restart
from kubeloop.actors.pods.reporting import Report
from kubeloop.actors.pods.state import NEVER, Container, Pod


def busy(pods: Mapping[str, Pod], reports: Mapping[str, Report], now: float) -> str | None:
    """Return what is still to be done about some pod, for people; None if they are at rest."""
    for uid, pod in pods.items():
        what = _with(pod, now)
        if what is None and (reports[uid].wake_at != NEVER or reports[uid].waiting):
            what = "writes the status of"
        if what is not None:
            return f"{what} {pod.namespace}/{pod.name}"
    return None


def _with(pod: Pod, now: float) -> str | None:
    if pod.gone or pod.deleting:
        # Once nothing is left of it only its finalizers hold it.
        return None if pod.sandbox == "removed" and not pod.gone else "ends"
    if pod.ending:
        return None if pod.idle and pod.sandbox in ("none", "stopped", "removed") else "ends"
    if pod.busy or (pod.sandbox == "none" and now >= pod.sandbox_retry_at):
        return "starts"
    if any(_is_to_change(pod, container, now) for container in pod.containers.values()):
        return "starts or probes a container of"
    return None


def _is_to_change(pod: Pod, container: Container, now: float) -> bool:
    """Tell whether a container is about to begin, to end, or to be judged."""
    if container.stage == "running":
        if container.halt_s is not None:
            return True
        return any(
            probe.verdict is None or (probe.failures if probe.verdict else probe.successes) > 0
            for kind, probe in container.probes.items()
            if kind == "startup" or (kind == "readiness" and container.started)
        )
    if container.stage != "idle" or container.waiting[0] or now < container.retry_at:
        return False
    if container.run is None:
        return container.role == "ephemeral" or (pod.initialized and container.role == "main")
    return not container.backing_off and will_restart(pod, container)
