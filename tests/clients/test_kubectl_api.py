"""The real kubectl against a whole cluster whose containers are simulated.

Each test is what a user types, and what he must read.
"""

import asyncio
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kubeloop.cluster import Cluster

pytestmark = pytest.mark.kubectl

DEADLINE_S = 60.0
KINDS = (
    "clusterrolebindings.rbac.authorization.k8s.io clusterroles.rbac.authorization.k8s.io "
    "configmaps controllerrevisions.apps cronjobs.batch csidrivers.storage.k8s.io "
    "csinodes.storage.k8s.io csistoragecapacities.storage.k8s.io "
    "customresourcedefinitions.apiextensions.k8s.io daemonsets.apps deployments.apps "
    "endpoints endpointslices.discovery.k8s.io events events.events.k8s.io "
    "apiservices.apiregistration.k8s.io certificatesigningrequests.certificates.k8s.io "
    "flowschemas.flowcontrol.apiserver.k8s.io"
    " mutatingadmissionpolicies.admissionregistration.k8s.io "
    "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io "
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io "
    "validatingadmissionpolicies.admissionregistration.k8s.io "
    "validatingadmissionpolicybindings.admissionregistration.k8s.io "
    "horizontalpodautoscalers.autoscaling ingressclasses.networking.k8s.io "
    "ingresses.networking.k8s.io ipaddresses.networking.k8s.io jobs.batch "
    "leases.coordination.k8s.io limitranges "
    "mutatingwebhookconfigurations.admissionregistration.k8s.io namespaces "
    "networkpolicies.networking.k8s.io nodes persistentvolumeclaims persistentvolumes "
    "poddisruptionbudgets.policy pods podtemplates priorityclasses.scheduling.k8s.io "
    "replicasets.apps replicationcontrollers resourcequotas "
    "rolebindings.rbac.authorization.k8s.io roles.rbac.authorization.k8s.io "
    "runtimeclasses.node.k8s.io secrets serviceaccounts servicecidrs.networking.k8s.io "
    "services statefulsets.apps storageclasses.storage.k8s.io "
    "validatingwebhookconfigurations.admissionregistration.k8s.io "
    "volumeattachments.storage.k8s.io volumeattributesclasses.storage.k8s.io"
)
QUESTIONS = (  # Nothing of these is kept.
    "bindings componentstatuses "
    "localsubjectaccessreviews.authorization.k8s.io selfsubjectaccessreviews.authorization.k8s.io "
    "selfsubjectrulesreviews.authorization.k8s.io subjectaccessreviews.authorization.k8s.io "
    "selfsubjectreviews.authentication.k8s.io tokenreviews.authentication.k8s.io"
)
WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "nginx:1", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, nodePort: 31001}]
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}, annotations: {kubeloop.dev/sim.log: "hello"}}
spec:
  containers: [{name: c, image: busybox}]
"""


@dataclass
class Answer:
    """What kubectl said."""

    code: int
    out: str
    err: str


class Kubectl:
    """Runs kubectl with a kubeconfig of its own."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.binary, self.directory = binary, directory
        self._started: list[asyncio.subprocess.Process] = []
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "KUBECONFIG": str(directory / "config"),
            "KUBECACHEDIR": str(directory / "cache"),
        }

    async def start(self, *arguments: str, **environment: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            self.binary,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**self.environment, **environment},
            cwd=self.directory,
        )
        self._started.append(process)
        return process

    async def stop(self) -> None:
        """Let nothing outlive the test, however that ended."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def run(self, *arguments: str, stdin: str = "", **environment: str) -> Answer:
        process = await self.start(*arguments, **environment)
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate(stdin.encode())
        return Answer(process.returncode or 0, out.decode(), err.decode())

    async def __call__(self, line: str, *more: str, stdin: str = "", **environment: str) -> str:
        """Run a command line; return what it printed. It must succeed."""
        answer = await self.run(*line.split(), *more, stdin=stdin, **environment)
        assert answer.code == 0, f"kubectl {line}: {answer.err}{answer.out}"
        return answer.out

    async def fails(self, line: str, *more: str, stdin: str = "") -> str:
        """Run a command line that must fail; return its complaint."""
        answer = await self.run(*line.split(), *more, stdin=stdin)
        assert answer.code != 0, f"kubectl {line} should have failed: {answer.out}"
        return answer.err

    async def json(self, line: str) -> Any:
        """Return what a `get` finds, as an object."""
        return json.loads(await self(f"{line} -o json"))


async def until(process: asyncio.subprocess.Process, pattern: str) -> list[str]:
    """Read lines until one begins like `pattern`; return them."""
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(DEADLINE_S):
        while not lines or not re.match(pattern, lines[-1]):
            line = await process.stdout.readline()
            assert line, f"it ended before {pattern!r}: {lines}"
            lines.append(line.decode())
    return lines


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    beside = Path(sys.executable).parent / "kubectl"
    binary = str(beside) if beside.is_file() else shutil.which("kubectl")
    assert binary is not None
    async with Cluster(nodes=2, rest=True, tls=True) as cluster:
        (tmp_path / "config").write_text(cluster.config_yaml())
        tool = Kubectl(binary, tmp_path)
        yield tool
        await tool.stop()


# Looking around.


async def test_version_and_discovery(kubectl: Kubectl) -> None:
    assert "Server Version: v1.37" in await kubectl("version")
    kinds = {*KINDS.split(), *QUESTIONS.split()}
    assert set((await kubectl("api-resources -o name")).split()) == kinds
    versions = (await kubectl("api-versions")).split()
    assert versions == [
        "admissionregistration.k8s.io/v1",
        "apiextensions.k8s.io/v1",
        "apiregistration.k8s.io/v1",
        "apps/v1",
        "authentication.k8s.io/v1",
        "authorization.k8s.io/v1",
        "autoscaling/v1",
        "autoscaling/v2",
        "batch/v1",
        "certificates.k8s.io/v1",
        "coordination.k8s.io/v1",
        "discovery.k8s.io/v1",
        "events.k8s.io/v1",
        "flowcontrol.apiserver.k8s.io/v1",
        "networking.k8s.io/v1",
        "node.k8s.io/v1",
        "policy/v1",
        "rbac.authorization.k8s.io/v1",
        "scheduling.k8s.io/v1",
        "storage.k8s.io/v1",
        "v1",
    ]
    assert "is running at https://127.0.0.1" in await kubectl("cluster-info")
    assert await kubectl("get --raw /readyz") == "ok"
    told = await kubectl("get --raw /readyz?verbose&exclude=etcd")
    assert "[+]etcd excluded: ok\n[+]informer-sync ok\n" in told
    assert told.endswith("[+]shutdown ok\nreadyz check passed\n")
    assert await kubectl("get --raw /livez/poststarthook/rbac/bootstrap-roles") == "ok"


async def test_explain(kubectl: Kubectl) -> None:
    told = await kubectl("explain deployment.spec.strategy.rollingUpdate")
    assert "GROUP:      apps" in told and "maxSurge\t<IntOrString>" in told
    assert "FIELD: image <string>" in await kubectl("explain pod.spec.containers.image")
    for kind in [*KINDS.split(), *QUESTIONS.split()]:
        if kind == "events.events.k8s.io":  # kubectl would look for a field of core's events.
            kind = "events --api-version=events.k8s.io/v1"
        assert "KIND:" in await kubectl(f"explain {kind}")


async def test_nodes(kubectl: Kubectl) -> None:
    lines = (await kubectl("get nodes -o wide")).splitlines()
    assert lines[0].split()[:4] == ["NAME", "STATUS", "ROLES", "AGE"]
    assert [line.split()[:2] for line in lines[1:]] == [["node-1", "Ready"], ["node-2", "Ready"]]
    described = await kubectl("describe node node-1")
    assert "Ready            True" in described and "Allocatable:" in described
    assert "node/node-1 cordoned" in await kubectl("cordon node-1")
    assert "Ready,SchedulingDisabled" in await kubectl("get node node-1")
    assert "node/node-1 uncordoned" in await kubectl("uncordon node-1")


# Creating, reading, changing, deleting.


async def test_apply_and_every_output(kubectl: Kubectl, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text(WEB)
    out = await kubectl("apply -f web.yaml")
    assert out == "deployment.apps/web created\nservice/web created\n"
    assert "successfully rolled out" in await kubectl("rollout status deployment/web --timeout=30s")
    out = await kubectl("apply -f web.yaml")
    assert out == "deployment.apps/web unchanged\nservice/web unchanged\n"
    assert (await kubectl.run("diff", "-f", "web.yaml")).out == ""
    wide = await kubectl("get pods,rs,deployments,services,endpoints,nodes -o wide")
    assert wide.count("pod/web-") == 2 and "80:31001/TCP" in wide
    assert re.search(r"deployment.apps/web\s+2/2\s+2\s+2 ", wide)
    for pod in (await kubectl.json("get pods"))["items"]:
        assert f"{pod['status']['podIP']}:80" in wide
    names = (await kubectl("get pods -o name")).split()
    assert len(names) == 2 and all(name.startswith("pod/web-") for name in names)
    assert await kubectl("get deploy web -o jsonpath={.status.readyReplicas}") == "2"
    assert await kubectl("get deploy web -o go-template={{.metadata.name}}") == "web"
    columns = await kubectl("get svc web -o custom-columns=P:.spec.ports[0].nodePort")
    assert columns == "P\n31001\n"
    assert "kind: Deployment" in await kubectl("get deploy web -o yaml")
    assert (await kubectl.json("get deploy web"))["kind"] == "Deployment"
    assert (await kubectl.json("get deploy"))["items"][0]["kind"] == "Deployment"
    sorted_ = await kubectl("get pods -A --sort-by=.metadata.name --no-headers")
    assert [line.split()[1] for line in sorted_.splitlines()] == sorted(
        line.split()[1] for line in sorted_.splitlines()
    )
    assert "No resources found" in (await kubectl.run("get", "pods", "-l", "app=no")).err
    assert (await kubectl("get pods -l app=web --field-selector=status.phase=Running")).count(
        "Running"
    ) == 2
    assert "app=web" in await kubectl("get pods --show-labels")
    assert (await kubectl("get all")).count("web") >= 5
    assert (await kubectl("get pods --chunk-size=1 --no-headers")).count("\n") == 2
    assert "web" in await kubectl("delete -f web.yaml")
    assert "NotFound" in await kubectl.fails("get deploy web")


async def test_create_of_every_kind_there_is_a_command_for(kubectl: Kubectl) -> None:
    for line in (
        "namespace n",
        "serviceaccount s",
        "configmap c --from-literal=a=b",
        "secret generic t --from-literal=a=b",
        "deployment d --image=nginx --replicas=0",
        "service clusterip e --tcp=80:80",
        "service nodeport f --tcp=80:80 --node-port=31002",
        "service externalname g --external-name=example.com",
    ):
        assert "created" in await kubectl(f"create {line}")
    assert await kubectl("get deploy d -o jsonpath={.spec.replicas}") == "0"
    assert await kubectl("get secret t -o jsonpath={.data.a}") == "Yg=="
    assert await kubectl("get svc f -o jsonpath={.spec.ports[0].nodePort}") == "31002"
    dry = await kubectl("create deployment x --image=nginx --dry-run=server -o yaml")
    assert "uid:" in dry
    assert "NotFound" in await kubectl.fails("get deploy x")
    assert "already exists" in await kubectl.fails("create configmap c")


async def test_label_annotate_patch_edit_replace(kubectl: Kubectl, tmp_path: Path) -> None:
    await kubectl("create -f -", stdin=POD)
    assert "pod/p labeled" in await kubectl("label pod p tier=one")
    assert "already has a value" in await kubectl.fails("label pod p tier=two")
    assert "pod/p labeled" in await kubectl("label pod p tier=two --overwrite")
    assert "pod/p unlabeled" in await kubectl("label pod p tier-")
    assert "pod/p annotated" in await kubectl("annotate pod p note=x")
    for type_, patch in (
        ("strategic", '{"metadata":{"labels":{"a":"1"}}}'),
        ("merge", '{"metadata":{"labels":{"b":"2"}}}'),
        ("json", '[{"op":"add","path":"/metadata/labels/c","value":"3"}]'),
    ):
        assert "pod/p patched" in await kubectl(f"patch pod p --type={type_} -p", patch)
    labels = (await kubectl.json("get pod p"))["metadata"]["labels"]
    assert labels == {"app": "p", "a": "1", "b": "2", "c": "3"}
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nsed -i \'s/^    a: "1"/    a: edited/\' "$1"\n')
    editor.chmod(0o755)
    assert "pod/p edited" in await kubectl("edit pod p", EDITOR=str(editor))
    assert await kubectl("get pod p -o jsonpath={.metadata.labels.a}") == "edited"
    await kubectl("create configmap c --from-literal=k=v")
    found = await kubectl("get configmap c -o yaml")
    assert "replaced" in await kubectl("replace -f -", stdin=found.replace("k: v", "k: w"))
    stale = await kubectl.fails("replace -f -", stdin=found.replace("k: v", "k: x"))
    assert "the object has been modified" in stale
    for kind in ("configmap/c", "pod/p"):
        assert "deleted" in await kubectl(f"delete {kind}")


async def test_describe_every_kind(kubectl: Kubectl) -> None:
    await kubectl("apply -f -", stdin=WEB)
    await kubectl("wait --for=condition=Available deployment/web --timeout=30s")
    for kind in KINDS.split():
        await kubectl(f"describe {kind} -A")
    pod = (await kubectl("get pods -o name")).split()[0]
    told = await kubectl(f"describe {pod}")
    for text in (
        "Status:           Running",
        "Image:          nginx:1",
        "Controlled By:  ReplicaSet/",
    ):
        assert text in told
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert re.search(rf"Normal\s+{reason}", told), told
    assert re.search(r"Endpoints:\s+\S+:80,\S+:80", await kubectl("describe service web"))
    assert "ScalingReplicaSet" in await kubectl("events --for deployment/web")


# Following.


async def test_wait_and_watch(kubectl: Kubectl) -> None:
    watch = await kubectl.start("get", "pods", "--watch", "--no-headers", "-o", "name")
    assert watch.stdout is not None
    created = await kubectl.start("wait", "--for=create", "pod/p", "--timeout=30s")
    await kubectl("apply -f -", stdin=POD)
    async with asyncio.timeout(DEADLINE_S):
        assert await created.wait() == 0
        assert (await watch.stdout.readline()).decode().strip() == "pod/p"
    assert "condition met" in await kubectl("wait --for=condition=Ready pod/p --timeout=30s")
    phase = await kubectl("wait --for=jsonpath={.status.phase}=Running pod/p --timeout=30s")
    assert "condition met" in phase
    late = await kubectl.fails("wait --for=condition=Nope pod/p --timeout=1s")
    assert "timed out waiting for the condition" in late
    gone = await kubectl.start("wait", "--for=delete", "pod/p", "--timeout=30s")
    assert 'pod "p" deleted' in await kubectl("delete pod p --now")
    async with asyncio.timeout(DEADLINE_S):
        assert await gone.wait() == 0


async def test_a_watch_shows_a_table(kubectl: Kubectl) -> None:
    await kubectl("apply -f -", stdin=POD.replace("name: p,", "name: first,"))
    watch = await kubectl.start("get", "pods", "-w")
    seen = await until(watch, r"first\s")
    await kubectl("apply -f -", stdin=POD)
    seen += await until(watch, r"p\s+1/1\s+Running")
    assert seen[0].split()[:3] == ["NAME", "READY", "STATUS"]
    assert sum(line.startswith("NAME") for line in seen) == 1
    assert any(re.match(r"p\s+0/1\s+Pending", line) for line in seen)


async def test_logs(kubectl: Kubectl) -> None:
    await kubectl("apply -f -", stdin=POD)
    await kubectl("wait --for=condition=Ready pod/p --timeout=30s")
    assert await kubectl("logs p") == "hello\n"
    assert await kubectl("logs p -c c --tail=1") == "hello\n"
    assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z hello\n", await kubectl("logs p --timestamps"))
    assert "container x is not valid for pod p" in await kubectl.fails("logs p -c x")
    follow = await kubectl.start("logs", "-f", "p")
    assert follow.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await follow.stdout.readline() == b"hello\n"
        await kubectl("delete pod p --now")
        assert await follow.wait() == 0, "it ends with the container"
    assert "previous terminated container" in await kubectl_previous(kubectl)


async def kubectl_previous(kubectl: Kubectl) -> str:
    await kubectl("apply -f -", stdin=POD)
    await kubectl("wait --for=condition=Ready pod/p --timeout=30s")
    return await kubectl.fails("logs p --previous")


# Workloads.


async def test_rollouts(kubectl: Kubectl) -> None:
    await kubectl("create deployment web --image=nginx:1 --replicas=2")
    status = "rollout status deployment/web --timeout=30s"
    assert "successfully rolled out" in await kubectl(status)
    assert "image updated" in await kubectl("set image deployment/web nginx=nginx:2")
    assert "successfully rolled out" in await kubectl(status)
    image = "get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"
    assert await kubectl(image) == "nginx:2"
    assert "rolled back" in await kubectl("rollout undo deployment/web")
    assert "successfully rolled out" in await kubectl(status)
    assert await kubectl(image) == "nginx:1"
    history = await kubectl("rollout history deployment/web")
    assert "2" in history.split() and "3" in history.split()
    assert "restarted" in await kubectl("rollout restart deployment/web")
    assert "successfully rolled out" in await kubectl(status)
    assert "paused" in await kubectl("rollout pause deployment/web")
    assert "resumed" in await kubectl("rollout resume deployment/web")
    for replicas in (5, 1):
        assert "scaled" in await kubectl(f"scale deployment/web --replicas={replicas}")
        assert "successfully rolled out" in await kubectl(status)
        found = await kubectl("get deployment web -o jsonpath={.status.readyReplicas}")
        assert found == str(replicas)
    assert "exposed" in await kubectl("expose deployment web --port=80")
    assert await kubectl("get service web -o jsonpath={.spec.selector.app}") == "web"


async def test_run_and_drain(kubectl: Kubectl) -> None:
    await kubectl("create deployment web --image=nginx --replicas=4")
    await kubectl("rollout status deployment/web --timeout=30s")
    assert "pod/single created" in await kubectl("run single --image=busybox")
    await kubectl("wait --for=condition=Ready pod/single --timeout=30s")
    drained = await kubectl("drain node-1 --force --ignore-daemonsets --timeout=60s")
    assert "node/node-1 drained" in drained
    await kubectl("rollout status deployment/web --timeout=30s")
    pods = (await kubectl.json("get pods -l app=web"))["items"]
    assert {pod["spec"]["nodeName"] for pod in pods} == {"node-2"}


# Refusals.


BAD = {
    "an unknown field": (
        ("image:", "imagee:"),
        'strict decoding error: unknown field "spec.template.spec.containers[0].imagee"',
    ),
    "a wrong type": (
        ("replicas: 2", "replicas: two"),
        "cannot unmarshal string into Go struct field",
    ),
    "a port out of range": (
        ("nodePort: 31001", "nodePort: 80"),
        "provided port is not in the valid range",
    ),
    "a selector that selects others": (
        ("metadata: {labels: {app: web}}", "metadata: {labels: {app: x}}"),
        "`selector` does not match template `labels`",
    ),
    "a bad name": (
        ("name: web, labels", "name: Web_1, labels"),
        "a lowercase RFC 1123 subdomain",
    ),
    "an unknown kind": (
        ("kind: Service", "kind: Servic"),
        'no matches for kind "Servic" in version "v1"',
    ),
}


@pytest.mark.parametrize(("change", "complaint"), BAD.values(), ids=BAD)
async def test_bad_manifests(kubectl: Kubectl, change: tuple[str, str], complaint: str) -> None:
    assert change[0] in WEB
    assert complaint in await kubectl.fails("apply -f -", stdin=WEB.replace(*change))


async def test_what_is_not_built_says_so(kubectl: Kubectl) -> None:
    await kubectl("apply -f -", stdin=POD)
    assert "Metrics API not available" in await kubectl.fails("top pods")


async def test_strangers(kubectl: Kubectl) -> None:
    told = await kubectl.fails("get pods --token=wrong")
    assert "You must be logged in" in told or "Unauthorized" in told


async def test_jobs_and_cron_jobs(kubectl: Kubectl) -> None:
    assert "created" in await kubectl("create cronjob each --image=i --schedule", "0 0 1 1 *")
    assert "created" in await kubectl("create job now --from=cronjob/each")
    assert "created" in await kubectl("create job once --image=i")
    assert "0/1" in await kubectl("get job once")
    assert "Parallelism:" in await kubectl("describe job once")
    assert "0 0 1 1 *" in await kubectl("describe cronjob each")
    assert "each" in await kubectl("get cj")
    await kubectl("wait --for=jsonpath={.status.active}=1 job/once")
    assert "patched" in await kubectl("patch cronjob each -p", '{"spec": {"suspend": true}}')
    assert "True" in await kubectl("get cronjob each")
    assert "deleted" in await kubectl("delete job once now")
    assert "deleted" in await kubectl("delete cronjob each")


async def test_drain_heeds_a_disruption_budget(kubectl: Kubectl) -> None:
    assert "created" in await kubectl("create deployment web --image=i --replicas=2")
    assert "created" in await kubectl("create pdb all --selector=app=web --min-available=2")
    await kubectl("rollout status deployment/web")
    await kubectl("wait --for=jsonpath={.status.currentHealthy}=2 pdb/all")
    refused = await kubectl.fails("drain node-1 --ignore-daemonsets --timeout=1s")
    assert "Cannot evict pod as it would violate the pod's disruption budget." in refused
    assert "patched" in await kubectl("patch pdb all -p", '{"spec": {"minAvailable": 1}}')
    assert "drained" in await kubectl("drain node-1 --ignore-daemonsets")
