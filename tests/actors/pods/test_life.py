"""The life of a pod, step by step, without a kubelet."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.pods import life
from kubeloop.actors.pods.actions import (
    Forget,
    Probe,
    RemoveSandbox,
    Start,
    StartSandbox,
    Stop,
    StopSandbox,
    Tell,
)
from kubeloop.actors.pods.state import Exit, Pod, Run, new_pod
from kubeloop.actors.pods.status import phase_of

HTTP = {"httpGet": {"port": 80}}


def pod_object(*containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    metadata = {"uid": "u", "namespace": "default", "name": "p", "generation": 1}
    return {
        "metadata": metadata,
        "spec": {"containers": list(containers) or [{"name": "c", "image": "i"}], **spec},
    }


def new(*containers: dict[str, Any], **spec: Any) -> Pod:
    pod = new_pod(pod_object(*containers, **spec), wall_s=1000.0, now=0.0)
    life.observe(pod, pod.spec)
    return pod


def deleted(pod: Pod, grace_s: int) -> None:
    stamps = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_s}
    life.observe(pod, {**pod.spec, "metadata": {**pod.spec["metadata"], **stamps}})


def running(pod: Pod, *names: str, now: float = 0.0) -> list[Any]:
    """Bring the sandbox and these containers up; return what came of the last start but events."""
    if pod.sandbox == "none":
        assert life.advance(pod, now, 1000.0) == [StartSandbox()]
        life.sandbox_started(pod, "10.0.0.2")
    found: list[Any] = []
    for name in names:
        life.advance(pod, now, 1000.0)
        life.image_ready(pod, name)
        run = Run(pod.containers[name].next_attempt, id=name, image="i", started_s=1000.0)
        found = life.started(pod, name, run, now)
    return [action for action in found if not isinstance(action, Tell)]


def over(pod: Pod, name: str, code: int, now: float = 0.0) -> None:
    life.exited(pod, name, Exit(pod.containers[name].attempt, code, "", "", 1001.0), now)


def test_nothing_is_asked_for_twice() -> None:
    pod = new()
    assert life.advance(pod, 0, 1000.0) == [StartSandbox()]
    assert life.advance(pod, 0, 1000.0) == []
    life.sandbox_started(pod, "10.0.0.2")
    assert life.advance(pod, 0, 1000.0) == [Start("c", 0)]
    assert life.advance(pod, 0, 1000.0) == []


def test_a_sandbox_that_fails_is_tried_again_later_and_later() -> None:
    pod, pauses, now = new(), [], 0.0
    for _ in range(7):
        assert life.advance(pod, now, 1000.0) == [StartSandbox()]
        (event,) = life.sandbox_failed(pod, "no", now)
        assert event == Tell(
            "Warning", "FailedCreatePodSandBox", "Failed to create pod sandbox: no"
        )
        assert life.advance(pod, now, 1000.0) == []
        pauses.append(pod.wake_at - now)
        now = pod.wake_at
    assert pauses == [10, 20, 40, 80, 160, 300, 300]


def test_a_run_that_ends_before_its_start_is_told_has_ended() -> None:
    pod = new(restartPolicy="Never")
    running(pod)
    life.advance(pod, 0, 1000.0)
    life.image_ready(pod, "c")
    life.exited(pod, "c", Exit(0, 3, "Error", "", 1001.0), 0)
    assert pod.containers["c"].stage == "starting"
    life.started(pod, "c", Run(0, id="x", image="i", started_s=1000.0), 0)
    assert pod.containers["c"].over and pod.containers["c"].run
    assert life.advance(pod, 0, 1000.0) == [StopSandbox()]
    assert phase_of(pod) == "Failed"


def test_an_exit_of_another_run_changes_nothing() -> None:
    pod = new()
    running(pod, "c")
    life.exited(pod, "c", Exit(7, 3, "Error", "", 1001.0), 0)
    assert pod.containers["c"].stage == "running"
    over(pod, "c", 1)
    over(pod, "c", 0)
    assert pod.containers["c"].run and pod.containers["c"].run.code == 1


def test_old_runs_are_forgotten() -> None:
    pod = new()
    assert running(pod, "c") == []
    over(pod, "c", 1)
    assert running(pod, "c") == []
    over(pod, "c", 1, now=100.0)
    life.advance(pod, 1000.0, 2000.0)
    assert running(pod, "c", now=1000.0) == [Forget("c", 0)]


def test_a_stop_that_does_not_work_is_told_again() -> None:
    pod = new()
    running(pod, "c")
    deleted(pod, 5)
    told = Tell("Normal", "Killing", "Stopping container c", "c")
    assert life.advance(pod, 0, 1000.0) == [told, Stop("c", 0, 5.0)]
    assert life.advance(pod, 5, 1005.0) == []
    assert pod.wake_at == 5 + life.STOP_AGAIN_S
    assert life.advance(pod, pod.wake_at, 1020.0)[-1] == Stop("c", 0, 5.0)


def test_a_shorter_grace_counts_and_a_longer_one_does_not() -> None:
    pod = new()
    running(pod, "c")
    deleted(pod, 30)
    life.advance(pod, 0, 1000.0)
    deleted(pod, 60)
    assert life.advance(pod, 0, 1000.0) == []
    deleted(pod, 3)
    assert life.advance(pod, 1, 1001.0) == [Stop("c", 0, 3.0, hook=False)]


def test_a_sandbox_that_cannot_be_removed_is_tried_again() -> None:
    pod = new()
    running(pod)
    deleted(pod, 5)
    assert life.advance(pod, 0, 1000.0) == [RemoveSandbox()]
    life.sandbox_stays(pod, "busy", 0)
    assert life.advance(pod, 0, 1000.0) == []
    assert life.advance(pod, pod.wake_at, 1000.0) == [RemoveSandbox()]
    life.sandbox_removed(pod)
    assert life.advance(pod, 10, 1000.0) == []


def test_a_container_that_is_being_started_is_stopped_once_it_runs() -> None:
    pod = new()
    running(pod)
    life.advance(pod, 0, 1000.0)
    life.image_ready(pod, "c")
    deleted(pod, 5)
    assert life.advance(pod, 0, 1000.0) == []
    life.started(pod, "c", Run(0, id="x", image="i", started_s=1000.0), 0)
    assert life.advance(pod, 0, 1000.0)[-1] == Stop("c", 0, 5.0)


def test_sidecars_end_one_by_one_the_last_first() -> None:
    sidecars = [{"name": name, "image": "i", "restartPolicy": "Always"} for name in "st"]
    pod = new(initContainers=sidecars)
    running(pod, "s", "t", "c")
    deleted(pod, 5)
    order = []
    for _ in range(3):
        (stop,) = [a for a in life.advance(pod, 0, 1000.0) if isinstance(a, Stop)]
        order.append(stop.container)
        over(pod, stop.container, 0)
    assert order == ["c", "t", "s"]
    assert life.advance(pod, 0, 1000.0) == [RemoveSandbox()]


def test_liveness_and_startup_probes_rest_while_a_pod_ends() -> None:
    probes = {f"{kind}Probe": HTTP for kind in ("liveness", "readiness")}
    pod = new({"name": "c", "image": "i", **probes})
    running(pod, "c")
    asked = [a.kind for a in life.advance(pod, 0, 1000.0) if isinstance(a, Probe)]
    assert asked == ["readiness", "liveness"]
    for kind in asked:
        life.probed(pod, "c", attempt=0, kind=kind, ok=True, message="", now=0)
    deleted(pod, 30)
    asked = [a.kind for a in life.advance(pod, 10, 1010.0) if isinstance(a, Probe)]
    assert asked == ["readiness"]


def test_a_probe_may_have_a_grace_of_its_own() -> None:
    probe = {**HTTP, "failureThreshold": 1, "terminationGracePeriodSeconds": 60}
    pod = new({"name": "c", "image": "i", "livenessProbe": probe})
    running(pod, "c")
    life.advance(pod, 0, 1000.0)
    life.probed(pod, "c", attempt=0, kind="liveness", ok=False, message="no", now=0)
    assert life.advance(pod, 0, 1000.0) == [Stop("c", 0, 60.0)]
    assert life.advance(pod, 20, 1020.0) == []


def test_a_killed_container_runs_again_only_if_its_policy_says_so() -> None:
    probe = {**HTTP, "failureThreshold": 1}
    pod = new({"name": "c", "image": "i", "livenessProbe": probe}, restartPolicy="Never")
    running(pod, "c")
    life.advance(pod, 0, 1000.0)
    life.probed(pod, "c", attempt=0, kind="liveness", ok=False, message="no", now=0)
    life.advance(pod, 0, 1000.0)
    over(pod, "c", 137)
    assert life.advance(pod, 1, 1001.0) == [StopSandbox()]
    assert phase_of(pod) == "Failed"


@pytest.mark.parametrize(("own", "starts"), [("Always", True), ("Never", False)])
def test_a_container_may_have_a_restart_policy_of_its_own(own: str, starts: bool) -> None:
    pod = new(
        {"name": "c", "image": "i", "restartPolicy": own},
        {"name": "d", "image": "i"},
        restartPolicy="OnFailure",
    )
    running(pod, "c", "d")
    over(pod, "c", 0)
    assert (Start("c", 1) in life.advance(pod, 0, 1000.0)) == starts


happenings = st.lists(
    st.tuples(
        st.sampled_from(["up", "image", "start", "fail", "exit", "bad", "delete", "tick", "probe"]),
        st.sampled_from(["a", "s", "c", "d"]),
        st.floats(0, 400),
    ),
    max_size=60,
)


@given(happenings, st.sampled_from(["Always", "OnFailure", "Never"]))
def test_whatever_happens_it_comes_to_rest_and_starts_nothing_when_ending(
    story: list[tuple[str, str, float]], policy: str
) -> None:
    inits = [{"name": "a", "image": "i"}, {"name": "s", "image": "i", "restartPolicy": "Always"}]
    mains = [
        {"name": "c", "image": "i", "livenessProbe": {**HTTP, "failureThreshold": 1}},
        {"name": "d", "image": "i", "readinessProbe": HTTP},
    ]
    pod, now = new(*mains, initContainers=inits, restartPolicy=policy), 0.0
    for what, name, pause_s in story:
        container = pod.containers[name]
        match what:
            case "up" if pod.sandbox == "starting":
                life.sandbox_started(pod, "10.0.0.2")
            case "image" if container.stage == "pulling":
                life.image_ready(pod, name)
            case "start" if container.stage == "starting":
                run = Run(container.next_attempt, id=name, image="i", started_s=1000.0)
                life.started(pod, name, run, now)
            case "fail" if container.stage in ("pulling", "starting"):
                life.not_started(pod, name, "No", "no", now + 10)
            case "exit" | "bad":
                over(pod, name, int(what == "bad"), now)
            case "probe":
                kind = "liveness" if name == "c" else "readiness"
                life.probed(
                    pod, name, attempt=container.attempt, kind=kind, ok=False, message="", now=now
                )
            case "delete":
                deleted(pod, 30)
            case "tick":
                now += pause_s
        actions = life.advance(pod, now, 1000.0 + now)
        assert life.advance(pod, now, 1000.0 + now) == [], "what was asked for is under way"
        if pod.ending:
            assert not any(isinstance(action, Start | StartSandbox) for action in actions)
        phase_of(pod)
    if policy == "Never":
        assert pod.containers["c"].attempt == pod.containers["d"].attempt == 0


@pytest.mark.parametrize(
    ("change", "acts"),
    [
        ({"metadata": {"labels": {"a": "b"}}}, False),
        ({"metadata": {"generation": 2}}, True),
        ({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z"}}, True),
        ({"status": {"conditions": [{"type": "DisruptionTarget", "status": "True"}]}}, True),
    ],
)
def test_only_what_is_acted_on_is_a_reason(change: dict[str, Any], acts: bool) -> None:
    obj = pod_object()
    obj["metadata"]["resourceVersion"] = "5"
    pod = new_pod(obj, wall_s=1000.0, now=0.0)
    life.observe(pod, obj, 5)
    assert pod.because == 5
    metadata = {**obj["metadata"], **change.get("metadata", {})}
    changed = {**obj, **change, "metadata": metadata}
    life.observe(pod, changed, 7, ours=True)
    assert pod.because == 5, "it knows what it wrote itself"
    pod.spec = obj
    life.observe(pod, changed, 8)
    assert pod.because == (8 if acts else 5)
    life.observe(pod, None, 9)
    assert pod.because == 9
    life.observe(pod, None)
    assert pod.because == 9, "nobody heard when it went"
