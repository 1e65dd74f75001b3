"""Which run's log is shown, or why there is none."""

from typing import Any

import pytest

from kubeloop.actors.pods.logs import attempt_of, container_id
from kubeloop.api.errors import BadRequest

RUNNING = {"running": {"startedAt": "2026-11-23T06:00:00Z"}}
ENDED = {"terminated": {"exitCode": 1}}
WAITING = {"waiting": {"reason": "CrashLoopBackOff"}}


def pod(**status: Any) -> dict[str, Any]:
    statuses = [{"name": "c", "containerID": "simulated://1", **status}] if status else []
    return {"metadata": {"name": "p"}, "status": {"initContainerStatuses": statuses}}


@pytest.mark.parametrize(
    ("state", "last", "restarts", "now", "before"),
    [
        (RUNNING, {}, 0, 0, None),
        (RUNNING, ENDED, 2, 2, 1),
        (ENDED, {}, 0, 0, None),
        (ENDED, ENDED, 1, 1, 0),
        (WAITING, ENDED, 3, 3, 3),
    ],
)
def test_runs(
    state: dict[str, Any], last: dict[str, Any], restarts: int, now: int, before: int | None
) -> None:
    it = pod(state=state, lastState=last, restartCount=restarts)
    assert attempt_of(it, "c", previous=False) == now
    if before is not None:
        assert attempt_of(it, "c", previous=True) == before
    else:
        with pytest.raises(BadRequest, match='previous terminated container "c" in pod "p" not'):
            attempt_of(it, "c", previous=True)
    assert container_id(it, "c") == "simulated://1"


@pytest.mark.parametrize(
    ("state", "why"),
    [
        ({"waiting": {"reason": "ErrImagePull"}}, "waiting to start: image can't be pulled"),
        ({"waiting": {"reason": "ImagePullBackOff"}}, "start: trying and failing to pull image"),
        ({"waiting": {"reason": "ContainerCreating"}}, "is waiting to start: ContainerCreating"),
        ({}, "is waiting to start - no logs yet"),
    ],
)
def test_no_run_yet(state: dict[str, Any], why: str) -> None:
    with pytest.raises(BadRequest, match=why):
        attempt_of(pod(state=state), "c", previous=False)
    with pytest.raises(BadRequest, match="is not available"):
        attempt_of(pod(), "c", previous=False)
