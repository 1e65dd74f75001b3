"""Which run of a container a reader of its log means: pure.

Source: Kubernetes' kubelet, validateContainerLogStatus, in behaviour.
"""

from typing import Any, Final

from kubeloop.api.errors import BadRequest

_PULLS: Final = {
    "ErrImagePull": "image can't be pulled",
    "ImagePullBackOff": "trying and failing to pull image",
}


def attempt_of(pod: dict[str, Any], container: str, *, previous: bool) -> int:
    """Return the number of the run, 0 for the first. Raises: BadRequest if there is none.

    previous: the run before the one that goes on or has just ended.
    """
    where = f'container "{container}" in pod "{pod["metadata"]["name"]}"'
    status = _status_of(pod, container)
    if status is None:
        raise BadRequest(f"{where} is not available")
    state, last = status.get("state") or {}, (status.get("lastState") or {}).get("terminated")
    restarts: int = status.get("restartCount", 0)
    current = "running" in state or "terminated" in state
    if previous:
        if not last:
            raise BadRequest(f"previous terminated {where} not found")
        return restarts - 1 if current else restarts
    if current or last:
        return restarts
    reason = (state.get("waiting") or {}).get("reason", "")
    if not reason:
        raise BadRequest(f"{where} is waiting to start - no logs yet")
    raise BadRequest(f"{where} is waiting to start: {_PULLS.get(reason, reason)}")


def container_id(pod: dict[str, Any], container: str) -> str:
    """Return the id of the container as the API knows it, "" if it does not."""
    return str((_status_of(pod, container) or {}).get("containerID") or "")


def _status_of(pod: dict[str, Any], container: str) -> dict[str, Any] | None:
    status = pod.get("status") or {}
    for field in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for found in status.get(field) or ():
            if found["name"] == container:
                return dict(found)
    return None
