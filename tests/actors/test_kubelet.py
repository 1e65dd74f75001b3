"""The kubelet against a real API server, on the simulated runtime, in virtual time."""

import asyncio
import base64
from collections.abc import Callable, Coroutine
from typing import Any

import msgpack
import pytest
from kubelet_ground import Ground, Object, pod

from kubeloop.actors.messages import API_SERVER, Request
from kubeloop.actors.runtimes.protocol import ContainerSpec, ImageRecord
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.store.facts import Cause, key_of
from kubeloop.store.store import Write

FAILING = Script(fails=(1,) * 20)


@pytest.fixture
def on_ground(simulate: Any) -> Callable[..., None]:
    """Return a function that plays a scenario on a fresh ground."""

    def play(
        scenario: Callable[[Ground], Coroutine[Any, Any, None]],
        images: dict[str, Script] | None = None,
        **config: Any,
    ) -> None:
        async def main() -> None:
            ground = await Ground(images, **config).start()
            await scenario(ground)
            ground.stop()
            assert not ground.ledger.violations

        simulate(main)

    return play


# A pod's life.


def test_a_pod_runs_is_ready_and_goes_gracefully(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        before = ground.store.revision
        await ground.create(pod())
        await ground.until(ground.ready)
        status = ground.pod()["status"]
        assert (status["phase"], status["podIP"]) == ("Running", "10.244.1.2")
        assert (status["hostIP"], status["observedGeneration"]) == ("127.1.0.1", 1)
        assert ground.reasons() == ["Pulling", "Pulled", "Created", "Started"]
        events = len(ground.reasons())
        assert ground.store.revision - before == 2 + events, "one write made, one status written"
        began = ground.world.now()
        await ground.delete("p")
        await ground.until(ground.gone)
        assert ground.world.now() - began >= 3
        assert ground.events()[-1][1:3] == ("Killing", "Stopping container c")
        assert not ground.runtime.sandboxes()
        assert not ground.kubelet.pods and not ground.ledger.running

    on_ground(scenario, {"i": Script(term_s=3)})


def test_who_does_not_hear_term_is_killed_when_its_grace_is_over(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(terminationGracePeriodSeconds=7))
        await ground.until(ground.ready)
        began = ground.world.now()
        await ground.delete("p")
        await ground.until(ground.gone)
        assert 7 <= ground.world.now() - began < 7.2

    on_ground(scenario, {"i": Script(term_s=None)})


def test_a_second_delete_shortens_the_grace(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await ground.until(ground.ready)
        began = ground.world.now()
        await ground.delete("p")
        await asyncio.sleep(5)
        await ground.delete("p", gracePeriodSeconds=2)
        await ground.until(ground.gone)
        assert ground.world.now() - began < 7.2

    on_ground(scenario, {"i": Script(term_s=None)})


def test_a_pod_deleted_by_force_still_gets_its_grace_on_the_node(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(terminationGracePeriodSeconds=4))
        await ground.until(ground.ready)
        await ground.delete("p", gracePeriodSeconds=0)
        assert ground.gone() and ground.ledger.running
        await ground.until(lambda: not ground.runtime.sandboxes(), timeout_s=4.2)
        assert not ground.kubelet.pods

    on_ground(scenario, {"i": Script(term_s=None)})


def test_the_last_status_of_a_deleted_pod_is_terminal(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        obj = pod()
        obj["metadata"]["finalizers"] = ["example.com/keep"]
        await ground.create(obj)
        await ground.until(ground.ready)
        await ground.delete("p")
        await ground.until(lambda: ground.phase() == "Failed")
        terminated = ground.container()["state"]["terminated"]
        assert (terminated["exitCode"], terminated["reason"]) == (143, "Error")
        settled = ground.store.revision
        await asyncio.sleep(5)
        assert ground.store.revision == settled, "nothing more is said while a finalizer waits"
        assert not ground.runtime.sandboxes()

    on_ground(scenario)


def test_a_finished_pod_keeps_its_logs_and_gives_back_its_address(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(restartPolicy="Never"))
        await ground.until(lambda: ground.phase() == "Succeeded")
        status = ground.pod()["status"]
        assert ground.condition("Ready")["reason"] == "PodCompleted"
        assert ground.condition("Initialized")["status"] == "True"
        assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
        uid = ground.pod()["metadata"]["uid"]
        lines = [line async for _, line in ground.runtime.logs(uid, "c", attempt=0)]
        assert lines == [b"hello\n"]
        assert ground.runtime.sandboxes()[0].ip == ""
        await ground.delete("p")
        await ground.until(lambda: not ground.runtime.sandboxes())

    on_ground(scenario, {"i": Script(run_s=2, log=("hello",))})


@pytest.mark.parametrize(
    ("policy", "code", "phase", "restarts"),
    [
        ("Never", 0, "Succeeded", False),
        ("Never", 3, "Failed", False),
        ("OnFailure", 0, "Succeeded", False),
        ("OnFailure", 3, "Running", True),
        ("Always", 0, "Running", True),
        ("Always", 3, "Running", True),
    ],
)
def test_the_restart_policy_holds(
    on_ground: Any, policy: str, code: int, phase: str, restarts: bool
) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(restartPolicy=policy))
        await asyncio.sleep(60)
        assert ground.phase() == phase
        assert (ground.container()["restartCount"] > 0) == restarts

    on_ground(scenario, {"i": Script(run_s=1, exit_code=code)})


def test_a_crash_loop_backs_off_as_in_kubernetes(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        began = ground.world.now()
        await ground.create(pod())
        starts: dict[int, float] = {}

        def count() -> bool:
            for record in ground.runtime.sandboxes():
                for run in record.containers:
                    starts.setdefault(run.attempt, round(ground.world.now() - began))
            return len(starts) == 9

        await ground.until(count, timeout_s=2000)
        gaps = [starts[n + 1] - starts[n] for n in range(8)]
        assert gaps == [0, 10, 20, 40, 80, 160, 300, 300]
        await ground.until(lambda: "waiting" in ground.container()["state"])
        uid = ground.pod()["metadata"]["uid"]
        waiting = ground.container()["state"]["waiting"]
        assert waiting["reason"] == "CrashLoopBackOff"
        text = f"back-off 5m0s restarting failed container=c pod=p_default({uid})"
        assert waiting["message"] == text
        assert ground.container()["lastState"]["terminated"]["exitCode"] == 1
        assert ground.condition("Ready")["message"] == "containers with unready status: [c]"
        told = f"Back-off restarting failed container c in pod p_default({uid})"
        assert ("Warning", "BackOff", told, 8) in ground.events()
        assert len(ground.runtime.sandboxes()[0].containers) == 2, "old runs are removed"

    on_ground(scenario, {"i": FAILING})


def test_the_back_off_starts_over_after_a_long_run(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await ground.until(lambda: ground.ready() and ground.container()["restartCount"] == 2)
        uid = ground.pod()["metadata"]["uid"]
        await asyncio.sleep(700)
        ground.runtime.kill(uid, "c", code=1)
        await ground.until(lambda: ground.container()["restartCount"] == 3, timeout_s=1)

    on_ground(scenario, {"i": Script(fails=(1, 1))})


def test_init_containers_run_one_after_the_other(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        inits = [{"name": "a", "image": "two"}, {"name": "b", "image": "two"}]
        await ground.create(pod(initContainers=inits))
        await ground.until(lambda: "initContainerStatuses" in ground.pod()["status"])
        status = ground.pod()["status"]
        assert status["phase"] == "Pending"
        assert status["containerStatuses"][0]["state"]["waiting"] == {"reason": "PodInitializing"}
        initialized = ground.condition("Initialized")
        assert initialized["reason"] == "ContainersNotInitialized"
        assert initialized["message"] == "containers with incomplete status: [a b]"
        began = ground.world.now()
        await ground.until(ground.ready)
        assert 3.9 <= ground.world.now() - began <= 4.1
        states = [s["state"] for s in ground.pod()["status"]["initContainerStatuses"]]
        assert [state["terminated"]["reason"] for state in states] == ["Completed"] * 2

    on_ground(scenario, {"two": Script(run_s=2)})


def test_a_failed_init_container_fails_a_pod_that_never_restarts(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        init = [{"name": "a", "image": "bad"}]
        await ground.create(pod(initContainers=init, restartPolicy="Never"))
        await ground.until(lambda: ground.phase() == "Failed")
        waiting = ground.container()["state"]["waiting"]
        assert waiting == {"reason": "PodInitializing"}

    on_ground(scenario, {"bad": FAILING})


def test_a_sidecar_starts_first_and_ends_last(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        sidecar = {"name": "s", "image": "side", "restartPolicy": "Always"}
        sidecar["startupProbe"] = {"tcpSocket": {"port": 1}, "periodSeconds": 1}
        await ground.create(pod("p", {"name": "c", "image": "three"}, initContainers=[sidecar]))
        await ground.until(ground.ready)
        uid = ground.pod()["metadata"]["uid"]
        runs = {r.name: r for r in ground.runtime.sandboxes()[0].containers}
        assert runs["c"].started_s - runs["s"].started_s >= 2
        await ground.delete("p")
        await asyncio.sleep(1)
        runs = {r.name: r for r in ground.runtime.sandboxes()[0].containers}
        assert runs["s"].running and ground.kubelet.pods[uid].containers["s"].stop_by > 1e9
        await ground.until(ground.gone)

    on_ground(scenario, {"three": Script(term_s=3), "side": Script(ready_after_s=2)})


def test_a_sidecar_does_not_hold_up_the_end_of_a_job(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        sidecar = [{"name": "s", "image": "side", "restartPolicy": "Always"}]
        job = {"name": "c", "image": "job"}
        await ground.create(pod("p", job, initContainers=sidecar, restartPolicy="OnFailure"))
        await ground.until(lambda: ground.phase() == "Succeeded")
        assert not ground.ledger.running

    on_ground(scenario, {"job": Script(run_s=3)})


def test_a_pod_past_its_deadline_fails(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(activeDeadlineSeconds=5))
        await ground.until(lambda: ground.phase() == "Failed", timeout_s=6)
        status = ground.pod()["status"]
        assert status["reason"] == "DeadlineExceeded"
        text = "Pod was active on the node longer than the specified deadline"
        assert status["message"] == text
        assert not ground.ledger.running

    on_ground(scenario)


def test_another_image_restarts_only_that_container(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        two = [{"name": "c", "image": "i"}, {"name": "d", "image": "i"}]
        await ground.create(pod("p", *two))
        await ground.until(ground.ready)
        patch = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
        body, options = msgpack.packb(patch), {"patchType": "strategic"}
        await ground.ask(Request("patch", "pods", "default", "p", body=body, options=options))
        await ground.until(lambda: ground.ready() and ground.container()["image"] == "other")
        assert [s["restartCount"] for s in ground.pod()["status"]["containerStatuses"]] == [1, 0]
        text = "Container c definition changed, will be restarted"
        assert ("Normal", "Killing", text, 1) in ground.events()

    on_ground(scenario)


# Images.


def test_an_image_is_pulled_once_for_all_who_wait_for_it(on_ground: Any) -> None:
    pulls = []

    async def scenario(ground: Ground) -> None:
        pull = ground.runtime.pull

        async def spy(image: str) -> ImageRecord:
            pulls.append(image)
            return await pull(image)

        ground.runtime.pull = spy  # type: ignore[method-assign]
        for name in ("p", "q"):
            await ground.create(pod(name, {"name": "c", "image": "i:1"}))
        await ground.until(lambda: ground.ready("p") and ground.ready("q"))
        assert "Pulled" in ground.reasons("q")
        await ground.create(pod("r", {"name": "c", "image": "i:1"}))
        await ground.until(lambda: ground.ready("r"))
        text = 'Container image "i:1" already present on machine and can be accessed by the pod'
        assert ground.events("r")[0][2] == text
        pulled = (
            'Successfully pulled image "i:1" in 3s (3s including waiting). Image size: 7 bytes.'
        )
        assert ("Normal", "Pulled", pulled, 1) in ground.events("p")

    on_ground(scenario, {"i:1": Script(pull_s=3, size_bytes=7)})
    assert pulls == ["i:1"]


def test_a_pull_that_fails_backs_off(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await ground.until(lambda: waiting(ground) == "ErrImagePull", timeout_s=1)
        await ground.until(lambda: waiting(ground) == "ImagePullBackOff", timeout_s=2)
        state = ground.container()["state"]["waiting"]
        assert state["message"] == 'Back-off pulling image "i": ErrImagePull: no such host'
        assert ("Normal", "BackOff", 'Back-off pulling image "i"', 1) in ground.events()
        assert ("Warning", "Failed", "Error: ImagePullBackOff", 1) in ground.events()
        ground.runtime.scripts["i"] = Script()
        await ground.until(ground.ready, timeout_s=11)

    on_ground(scenario, {"i": Script(pull_error="no such host")})


def restarts(ground: Ground) -> int:
    statuses = ground.pod()["status"].get("containerStatuses") or [{"restartCount": 0}]
    return int(statuses[0]["restartCount"])


def waiting(ground: Ground) -> str:
    statuses = ground.pod()["status"].get("containerStatuses") or [{"state": {}}]
    return str((statuses[0]["state"].get("waiting") or {}).get("reason", ""))


@pytest.mark.parametrize(
    ("image", "policy", "reason"),
    [("i", "Never", "ErrImageNeverPull"), ("UPPER/case:tag", "Always", "InvalidImageName")],
)
def test_an_image_that_cannot_be_had_says_why(
    on_ground: Any, image: str, policy: str, reason: str
) -> None:
    async def scenario(ground: Ground) -> None:
        container = {"name": "c", "image": image, "imagePullPolicy": policy}
        await ground.create(pod("p", container))
        await ground.until(lambda: waiting(ground) == reason, timeout_s=2)
        assert ("Warning", "Failed", f"Error: {reason}", 1) in ground.events()

    on_ground(scenario)


def test_a_pod_that_waits_for_its_image_can_be_deleted_at_once(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await asyncio.sleep(1)
        assert waiting(ground) == "ContainerCreating"
        await ground.delete("p")
        await ground.until(ground.gone, timeout_s=1)

    on_ground(scenario, {"i": Script(pull_s=500)})


def test_images_nobody_uses_go_when_the_disk_fills(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        for name in ("old", "new", "used"):
            await ground.create(pod(name, {"name": "c", "image": name}))
            await ground.until(lambda name=name: ground.ready(name))
            await asyncio.sleep(5)
        for name in ("old", "new"):
            await ground.delete(name)
        await asyncio.sleep(130)
        there = [record.names for record in ground.runtime.images()]
        assert there == [("new",), ("used",)]

    images = {name: Script(size_bytes=30) for name in ("old", "new", "used")}
    on_ground(scenario, images, image_disk_bytes=100, image_gc_s=20.0)


# Probes.


def probing(kind: str, **probe: Any) -> Object:
    return {"name": "c", "image": "i", kind: {"periodSeconds": 1, **probe}}


HTTP = {"httpGet": {"path": "/healthz", "port": 8080}}


def test_readiness_is_what_the_probe_says(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        probe = probing("readinessProbe", failureThreshold=2, **HTTP)
        began = ground.world.now()
        await ground.create(pod("p", probe))
        await ground.until(lambda: ground.phase() == "Running")
        assert not ground.ready()
        await ground.until(ground.ready)
        assert 3 <= ground.world.now() - began < 3.2
        await ground.until(lambda: not ground.ready())
        assert 21 <= ground.world.now() - began < 21.3
        assert ground.container()["restartCount"] == 0
        text = "Readiness probe failed: HTTP probe failed with statuscode: 503"
        assert any(e[:3] == ("Warning", "Unhealthy", text) for e in ground.events())

    on_ground(scenario, {"i": Script(ready_after_s=3, fails_after_s=20)})


@pytest.mark.parametrize("kind", ["liveness", "startup"])
def test_a_failed_probe_restarts_the_container(on_ground: Any, kind: str) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod("p", probing(f"{kind}Probe", **HTTP)))
        await ground.until(lambda: restarts(ground) == 1, timeout_s=60)
        text = f"Container c failed {kind} probe, will be restarted"
        assert ("Normal", "Killing", text, 1) in ground.events()

    on_ground(scenario, {"i": Script(fails_after_s=0 if kind == "startup" else 5)})


def test_other_probes_wait_for_startup(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        container = probing("startupProbe", failureThreshold=30, **HTTP)
        container["livenessProbe"] = {**HTTP, "periodSeconds": 1, "failureThreshold": 1}
        await ground.create(pod("p", container))
        await ground.until(lambda: ground.phase() == "Running")
        assert ground.container()["started"] is False
        await ground.until(ground.ready)
        assert ground.container()["started"] and ground.container()["restartCount"] == 0

    on_ground(scenario, {"i": Script(ready_after_s=10)})


def test_a_grpc_probe_fails_and_says_that_it_is_not_supported(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod("p", probing("readinessProbe", grpc={"port": 8080})))
        await ground.until(lambda: "Unhealthy" in ground.reasons())
        assert "grpc is not supported" in ground.events()[-1][2]
        assert not ground.ready()

    on_ground(scenario)


# Configuration.


def test_the_environment_is_what_kubernetes_gives(on_ground: Any) -> None:
    specs: list[ContainerSpec] = []

    async def scenario(ground: Ground) -> None:
        start = ground.runtime.start_container

        async def spy(spec: ContainerSpec) -> str:
            specs.append(spec)
            return await start(spec)

        ground.runtime.start_container = spy  # type: ignore[method-assign]
        await ground.create(config_map("cm", {"a": "1", "b": "2"}))
        secret = base64.b64encode(b"s3").decode()
        await ground.create(
            {"apiVersion": "v1", "kind": "Secret", "metadata": NAMED, "data": {"k": secret}}
        )
        service = {"selector": {"a": "b"}, "clusterIP": "10.96.0.7"}
        service["ports"] = [{"name": "http", "port": 80}]  # type: ignore[assignment]
        await ground.create(
            {"apiVersion": "v1", "kind": "Service", "metadata": NAMED, "spec": service}
        )
        container = {
            "name": "c",
            "image": "i",
            "command": ["run", "$(X)", "$$(X)", "$(NOBODY)"],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}],
            "env": [
                {"name": "X", "value": "x"},
                {"name": "Y", "value": "$(X)-$(SVC_SERVICE_HOST)"},
                {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "svc", "key": "k"}}},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            ],
            "volumeMounts": [
                {"name": "cm", "mountPath": "/etc/cm"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "cm", "mountPath": "/etc/one", "subPath": "a"},
            ],
        }
        volumes = [{"name": "cm", "configMap": {"name": "cm"}}, {"name": "tmp", "emptyDir": {}}]
        await ground.create(pod("p", container, volumes=volumes))
        await ground.until(ground.ready)

    on_ground(scenario)
    spec = specs[0]
    assert spec.command == ["run", "x", "$(X)", "$(NOBODY)"]
    assert (
        dict(spec.env).items()
        >= {
            "P_a": "1",
            "P_b": "2",
            "X": "x",
            "Y": "x-10.96.0.7",
            "IP": "10.244.1.2",
            "S": "s3",
            "CPU": "8",
            "SVC_SERVICE_PORT_HTTP": "80",
            "SVC_PORT_80_TCP": "tcp://10.96.0.7:80",
            "SVC_PORT_80_TCP_ADDR": "10.96.0.7",
        }.items()
    )
    assert spec.files == {"/etc/cm": {"a": b"1", "b": b"2"}, "/etc/one": {"": b"1"}}
    assert spec.shared == {"/tmp": "tmp"}


NAMED = {"name": "svc", "namespace": "default"}


def config_map(name: str, data: dict[str, str]) -> Object:
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def test_a_pod_waits_for_a_config_map_and_goes_on_when_it_comes(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        source = {"configMapKeyRef": {"name": "cm", "key": "a"}}
        container = {"name": "c", "image": "i", "env": [{"name": "A", "valueFrom": source}]}
        await ground.create(pod("p", container))
        await ground.until(lambda: waiting(ground) == "CreateContainerConfigError")
        state = ground.container()["state"]["waiting"]
        assert state["message"] == 'configmap "cm" not found'
        assert ("Warning", "Failed", 'Error: configmap "cm" not found', 1) in ground.events()
        await ground.create(config_map("cm", {"a": "1"}))
        await ground.until(ground.ready, timeout_s=1)

    on_ground(scenario)


def test_a_missing_volume_is_told_as_an_event(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        container = {"name": "c", "image": "i"}
        container["volumeMounts"] = [{"name": "v", "mountPath": "/v"}]  # type: ignore[assignment]
        volumes = [{"name": "v", "secret": {"secretName": "s"}}]
        await ground.create(pod("p", container, volumes=volumes))
        await ground.until(lambda: "FailedMount" in ground.reasons())
        text = 'MountVolume.SetUp failed for volume "v" : secret "s" not found'
        assert ground.events()[-1][2] == text
        await asyncio.sleep(1)
        assert waiting(ground) == "ContainerCreating"

    on_ground(scenario)


def test_what_the_runtime_cannot_do_is_refused_with_a_reason(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        ground.runtime.unsupported = lambda _: "hostPath volumes are not supported"  # type: ignore[method-assign]
        await ground.create(pod())
        await ground.until(lambda: ground.reasons())
        text = "Failed to create pod sandbox: hostPath volumes are not supported"
        assert ground.events()[0][1:3] == ("FailedCreatePodSandBox", text)
        await ground.delete("p")
        await ground.until(ground.gone)

    on_ground(scenario)


def test_a_container_that_cannot_start_says_why(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(annotations={"kubeloop.dev/sim.start-error": "no such file"}))
        await ground.until(lambda: waiting(ground) == "RunContainerError")
        assert ground.container()["state"]["waiting"]["message"] == "no such file"

    on_ground(scenario)


def test_a_pod_that_does_not_fit_is_refused(on_ground: Any) -> None:
    def asking(cpu: str) -> Object:
        return {"name": "c", "image": "i:1", "resources": {"requests": {"cpu": cpu}}}

    async def scenario(ground: Ground) -> None:
        await ground.create(pod("p", asking("6")))
        await ground.create(pod("q", asking("2500m")))
        await ground.until(lambda: ground.ready("p") and ground.phase("q") == "Failed")
        status = ground.pod("q")["status"]
        text = "Node didn't have enough resource: cpu, requested: 2500, used: 6000, capacity: 8000"
        assert (status["reason"], status["message"]) == ("OutOfcpu", f"Pod was rejected: {text}")
        assert ground.events("q") == [("Warning", "OutOfcpu", text, 1)]
        ground.crash()
        await ground.delete("p")
        await ground.until(lambda: ground.gone("p"))
        assert ground.phase("q") == "Failed", "what is over stays over"
        await ground.create(pod("r", asking("8")))
        await ground.until(lambda: ground.ready("r"))

    on_ground(scenario)


def test_a_pod_of_the_host_network_has_the_hosts_address(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod("p", hostNetwork=True))
        await ground.until(ground.ready)
        assert ground.pod()["status"]["podIP"] == "127.1.0.1"

    on_ground(scenario)


# Hooks.


def test_hooks_run_and_the_pre_stop_hook_uses_up_the_grace(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        container = {"name": "c", "image": "i"}
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}  # type: ignore[assignment]
        await ground.create(pod("p", container))
        await ground.until(ground.ready)
        began = ground.world.now()
        await ground.delete("p", gracePeriodSeconds=8)
        await ground.until(ground.gone)
        assert 5 <= ground.world.now() - began < 5.3

    on_ground(scenario)


def test_a_failed_post_start_hook_kills_the_container(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        container = {"name": "c", "image": "i"}
        hook = {"httpGet": {"port": 80, "path": "/"}}
        container["lifecycle"] = {"postStart": hook}  # type: ignore[assignment]
        await ground.create(pod("p", container))
        await ground.until(lambda: "FailedPostStartHook" in ground.reasons())
        await ground.until(lambda: ground.container()["restartCount"] > 0)

    on_ground(scenario, {"i": Script(fails_after_s=0)})


# The node.


def test_the_node_registers_and_says_that_it_lives(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await asyncio.sleep(25)
        node = ground.get("nodes", "", "node-1")
        assert node is not None
        conditions = {c["type"]: c for c in node["status"]["conditions"]}
        ready = conditions["Ready"]
        assert (ready["status"], ready["reason"]) == ("True", "KubeletReady")
        assert ready["message"] == "kubelet is posting ready status"
        assert conditions["DiskPressure"]["reason"] == "KubeletHasNoDiskPressure"
        assert node["status"]["capacity"]["pods"] == "110"
        assert node["spec"]["podCIDR"] == "10.244.1.0/24"
        lease = ground.get("leases.coordination.k8s.io", "kube-node-lease", "node-1")
        assert lease is not None
        assert lease["metadata"]["ownerReferences"][0]["uid"] == node["metadata"]["uid"]
        assert lease["spec"]["renewTime"].startswith("2026-01-01T00:00:20")
        assert ground.reasons("node-1")[0] == "Starting"
        assert "NodeReady" in ground.reasons("node-1")
        written = node["metadata"]["resourceVersion"]
        await asyncio.sleep(200)
        node = ground.get("nodes", "", "node-1")
        assert node and node["metadata"]["resourceVersion"] == written, "the lease suffices"
        await asyncio.sleep(100)
        node = ground.get("nodes", "", "node-1")
        assert node and node["metadata"]["resourceVersion"] != written

    on_ground(scenario)


def test_a_deleted_node_comes_back(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        first = ground.get("nodes", "", "node-1")
        await ground.delete("node-1", "nodes")
        await ground.delete_lease()
        await ground.until(lambda: ground.get("nodes", "", "node-1") is not None)
        second = ground.get("nodes", "", "node-1")
        assert first and second and first["metadata"]["uid"] != second["metadata"]["uid"]
        await asyncio.sleep(25)
        assert ground.get("leases.coordination.k8s.io", "kube-node-lease", "node-1")

    on_ground(scenario)


def test_a_status_somebody_else_wrote_is_put_right(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await asyncio.sleep(1)
        node = ground.get("nodes", "", "node-1")
        assert node is not None
        for condition in node["status"]["conditions"]:
            condition["status"] = "Unknown"
        patch = msgpack.packb({"status": {"conditions": node["status"]["conditions"]}})
        options = {"patchType": "merge"}
        await ground.ask(
            Request("patch", "nodes", "", "node-1", "status", body=patch, options=options)
        )

        def healed() -> bool:
            found = ground.get("nodes", "", "node-1")
            assert found is not None
            return found["status"]["conditions"][-1]["status"] == "True"

        await ground.until(healed, timeout_s=1)

    on_ground(scenario)


# Restarts.


def test_a_kubelet_that_crashed_finds_its_pods_again(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await ground.create(pod("q", {"name": "c", "image": "j"}))
        await ground.until(lambda: ground.ready() and ground.ready("q"))
        before, runs = ground.writes(), ground.runtime.sandboxes()
        ground.crash()
        await asyncio.sleep(30)
        assert ground.writes() == before, "nothing has changed, so nothing is written"
        assert ground.runtime.sandboxes() == runs
        assert ground.kubelet.addresses.take("new") == "10.244.1.4"

    on_ground(scenario)


def test_what_happened_while_the_kubelet_was_down_is_seen(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        for name in ("exits", "deleted", "forced"):
            await ground.create(pod(name, restartPolicy="Always"))
            await ground.until(lambda name=name: ground.ready(name))
        uid = ground.pod("exits")["metadata"]["uid"]
        ground.supervisor.stop("kubelet/node-1")
        ground.runtime.kill(uid, "c", code=9)
        await ground.delete("deleted")
        await ground.delete("forced", gracePeriodSeconds=0)
        await asyncio.sleep(1)
        ground.start_kubelet()
        await ground.until(lambda: ground.gone("deleted"))
        await ground.until(lambda: ground.container("exits")["restartCount"] == 1)
        assert ground.container("exits")["lastState"]["terminated"]["exitCode"] == 9
        await ground.until(lambda: len(ground.runtime.sandboxes()) == 1)

    on_ground(scenario)


def test_a_machine_that_was_switched_off_starts_its_pods_over(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod("always", initContainers=[{"name": "a", "image": "once"}]))
        await ground.create(pod("never", restartPolicy="Never"))
        await ground.until(lambda: ground.ready("always") and ground.ready("never"))
        ground.supervisor.stop("kubelet/node-1")
        ground.runtime.lose()
        ground.start_kubelet()
        await ground.until(lambda: ground.container("always")["restartCount"] == 1)
        await ground.until(lambda: ground.ready("always"))
        init = ground.pod("always")["status"]["initContainerStatuses"][0]
        assert init["restartCount"] == 1, "init containers run again in a new sandbox"
        assert "SandboxChanged" in ground.reasons("always")
        await ground.until(lambda: ground.phase("never") == "Failed")
        terminated = ground.container("never")["state"]["terminated"]
        assert terminated["reason"] == "ContainerStatusUnknown"

    on_ground(scenario, {"once": Script(run_s=0.5)})


def test_a_crash_does_not_lengthen_the_grace(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod(terminationGracePeriodSeconds=20))
        await ground.until(ground.ready)
        began = ground.world.now()
        await ground.delete("p")
        await asyncio.sleep(15)
        ground.crash()
        await ground.until(ground.gone)
        assert ground.world.now() - began < 21.5

    on_ground(scenario, {"i": Script(term_s=None)})


def test_a_pod_that_vanished_between_two_lists_is_ended(on_ground: Any) -> None:
    async def scenario(ground: Ground) -> None:
        await ground.create(pod())
        await ground.create(pod("q"))
        await ground.until(lambda: ground.ready() and ground.ready("q"))
        ground.supervisor.crash(API_SERVER, RuntimeError("crashed by the test"))
        cause = Cause("test", "", 0, "test")
        ground.store.commit([Write(key_of("pods", "default", "p"), None)], cause)
        ground.store.flush(lambda _: None)
        await ground.until(lambda: len(ground.runtime.sandboxes()) == 1)
        assert ground.ready("q") and ground.container("q")["restartCount"] == 0

    on_ground(scenario)
