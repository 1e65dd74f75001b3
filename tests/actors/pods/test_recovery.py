"""What a restarted kubelet makes of what it finds."""

from typing import Any

from kubeloop.actors.pods import life
from kubeloop.actors.pods.actions import RemoveSandbox, Start, StartSandbox
from kubeloop.actors.pods.recovery import orphan
from kubeloop.actors.pods.recovery import recover as recover_with
from kubeloop.actors.pods.state import Pod
from kubeloop.actors.pods.status import changes, phase_of, render
from kubeloop.actors.runtimes.protocol import ContainerRecord, SandboxRecord

NOW, WALL = 50.0, 1_767_225_700.0


def recover(obj: dict[str, Any], found: SandboxRecord | None, *, now: float, wall_s: float) -> Pod:
    return recover_with(obj, found, now=now, wall_s=wall_s, image_id=lambda i: f"{i}@sha256:1")


def pod_object(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"uid": "u", "namespace": "default", "name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
        "status": status or {"phase": "Pending"},
    }


def told(state: dict[str, Any], restarts: int = 0, **more: Any) -> dict[str, Any]:
    entry = {"name": "c", "state": state, "restartCount": restarts, "image": "i", **more}
    return {"phase": "Running", "podIP": "10.0.0.2", "containerStatuses": [entry]}


def record(attempt: int, *, running: bool = True, **more: Any) -> ContainerRecord:
    return ContainerRecord(
        name="c",
        attempt=attempt,
        id=f"id{attempt}",
        image="i",
        running=running,
        started_s=WALL - 10,
        **more,
    )


def sandbox(*containers: ContainerRecord, ip: str = "10.0.0.2") -> SandboxRecord:
    return SandboxRecord(
        pod_uid="u", namespace="default", name="p", ip=ip, containers=tuple(containers)
    )


STARTED = {"startedAt": "2026-01-01T00:00:10Z"}


def test_the_runtime_is_right_about_what_runs() -> None:
    obj = pod_object(told({"running": STARTED}, 1, containerID="x://id1", ready=True))
    found = sandbox(record(1, running=False, finished_s=WALL - 5, code=2), record(2))
    pod = recover(obj, found, now=NOW, wall_s=WALL)
    container = pod.containers["c"]
    assert (container.stage, container.attempt) == ("running", 2)
    assert container.last and (container.last.attempt, container.last.code) == (1, 2)
    assert container.run and container.run.image_id == "i@sha256:1"
    assert life.advance(pod, NOW, WALL) == []


def test_restarts_are_never_counted_down() -> None:
    pod = recover(
        pod_object(told({"running": STARTED}, 5)), sandbox(record(3)), now=NOW, wall_s=WALL
    )
    assert pod.containers["c"].attempt == 5


def test_what_was_found_by_probing_is_kept() -> None:
    probe = {"httpGet": {"port": 80}}
    spec = [{"name": "c", "image": "i", "readinessProbe": probe, "startupProbe": probe}]
    status = told({"running": STARTED}, containerID="x://id0", ready=True, started=True)
    pod = recover(pod_object(status, containers=spec), sandbox(record(0)), now=NOW, wall_s=WALL)
    assert pod.containers["c"].ready and pod.containers["c"].started
    other = told({"running": STARTED}, containerID="x://other", ready=True, started=True)
    pod = recover(pod_object(other, containers=spec), sandbox(record(0)), now=NOW, wall_s=WALL)
    assert not pod.containers["c"].ready, "that was another run"


def test_a_pod_whose_sandbox_was_stopped_has_ended() -> None:
    obj = pod_object(told({"running": STARTED}), restartPolicy="Never")
    found = sandbox(record(0, running=False, finished_s=WALL - 1, code=0), ip="")
    pod = recover(obj, found, now=NOW, wall_s=WALL)
    assert life.advance(pod, NOW, WALL) == []
    assert phase_of(pod) == "Succeeded"


def test_what_is_over_stays_over() -> None:
    status = told({"terminated": {"exitCode": 0, "finishedAt": "2026-01-01T00:00:20Z"}})
    status |= {"phase": "Failed", "reason": "Evicted", "message": "why"}
    pod = recover(pod_object(status), None, now=NOW, wall_s=WALL)
    assert life.advance(pod, NOW, WALL) == []
    rendered = render(pod, host_ip="127.1.0.1", runtime="x", wall_s=WALL)
    assert (rendered["phase"], rendered["reason"], rendered["message"]) == (
        "Failed",
        "Evicted",
        "why",
    )


def test_a_lost_sandbox_is_made_anew() -> None:
    pod = recover(pod_object(told({"running": STARTED}, 2)), None, now=NOW, wall_s=WALL)
    assert life.advance(pod, NOW, WALL) == [StartSandbox()]
    life.sandbox_started(pod, "10.0.0.3")
    assert life.advance(pod, NOW, WALL) == [Start("c", 3)]
    run = pod.containers["c"].run
    assert run and (run.code, run.reason) == (137, "ContainerStatusUnknown")


def test_a_lost_pod_that_never_restarts_has_failed() -> None:
    obj = pod_object(told({"running": STARTED}), restartPolicy="Never")
    pod = recover(obj, None, now=NOW, wall_s=WALL)
    assert life.advance(pod, NOW, WALL) == []
    assert phase_of(pod) == "Failed"


def test_a_deadline_counts_from_the_first_start() -> None:
    status = told({"running": STARTED}) | {"startTime": "2026-01-01T00:00:00Z"}
    obj = pod_object(status, activeDeadlineSeconds=120)
    pod = recover(obj, sandbox(record(0)), now=NOW, wall_s=WALL)
    assert pod.deadline_at == NOW + 120 - 100


def test_an_orphan_is_ended_soon() -> None:
    pod = orphan(sandbox(record(0)))
    stop = life.advance(pod, NOW, WALL)[-1]
    assert stop.grace_s == life.GRACE_MIN_S  # type: ignore[union-attr]
    assert life.advance(orphan(sandbox()), NOW, WALL) == [RemoveSandbox()]


def test_a_status_recovered_is_the_status_reported() -> None:
    """Write, forget, recover: there is nothing new to say."""
    pod = recover(pod_object(), sandbox(record(0)), now=NOW, wall_s=WALL)
    life.advance(pod, NOW, WALL)
    status = render(pod, host_ip="127.1.0.1", runtime="x", wall_s=WALL)
    again = recover(pod_object(status), sandbox(record(0)), now=NOW + 99, wall_s=WALL + 99)
    life.advance(again, NOW + 99, WALL + 99)
    later = render(again, host_ip="127.1.0.1", runtime="x", wall_s=WALL + 99)
    assert changes(again, later) == {}
