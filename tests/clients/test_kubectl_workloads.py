"""The real kubectl at daily work: apply, roll out, scale, follow, wait, drain, delete."""

import json
import re
import time
from functools import partial

import pytest
from kubectl_tool import Kubectl, eventually

pytestmark = pytest.mark.kubectl

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web, tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}, annotations: {note: here}}
    spec:
      containers:
      - {name: web, image: "nginx:1", env: [{name: A, value: b}], args: [x]}
      - {name: side, image: "side:1"}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}, annotations: {{{behaviour}}}}}
spec:
  terminationGracePeriodSeconds: {grace}
  containers: [{{name: c, image: "busybox:1"}}]
"""
OLD = """
apiVersion: v1
kind: ReplicationController
metadata: {name: old}
spec:
  replicas: 1
  template: {metadata: {labels: {app: old}}, spec: {containers: [{name: c, image: b}]}}
"""
SIM = "kubeloop.dev/sim."


def run(kubectl: Kubectl, name: str, *, grace: int = 1, wait: bool = True, **does: str) -> None:
    """Start a pod whose container does what the simulated runtime is told."""
    behaviour = ", ".join(f"{SIM}{k.replace('_', '-')}: {json.dumps(v)}" for k, v in does.items())
    kubectl("create -f -", stdin=POD.format(name=name, behaviour=behaviour, grace=grace))
    if wait:
        kubectl(f"wait --for=condition=Ready pod/{name} --timeout=30s")


def deploy(kubectl: Kubectl, name: str = "web", replicas: int = 2) -> None:
    """Create a Deployment and wait for it."""
    kubectl(f"create deployment {name} --image=nginx:1 --replicas={replicas}")
    kubectl(f"rollout status deployment/{name} --timeout=30s")


# Apply.


def test_apply_prunes_what_is_no_longer_there(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=WEB)
    kubectl("scale deployment web --replicas=3")
    less = WEB.replace(", tier: front", "").replace(", annotations: {note: here}", "")
    less = less.replace("  replicas: 2\n", "").replace(", env: [{name: A, value: b}]", "")
    less = less.replace('      - {name: side, image: "side:1"}\n', "")
    diff = kubectl.run("diff -f -", stdin=less)
    assert diff.returncode == 1
    assert "-    tier: front" in diff.stdout and "-      - image: side:1" in diff.stdout
    dry = kubectl("apply --dry-run=server -f -", stdin=less)
    assert dry == "deployment.apps/web configured (server dry run)\n"
    assert kubectl.path("deployment/web", ".metadata.labels.tier") == "front"
    assert kubectl("apply -f -", stdin=less) == "deployment.apps/web configured\n"
    found = kubectl.json("get deployment web")
    assert found["metadata"]["labels"] == {"app": "web"}
    assert "annotations" not in found["spec"]["template"]["metadata"]
    assert found["spec"]["replicas"] == 1, "what was applied and no longer is, takes its default"
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["x"] and "env" not in container
    assert kubectl.run("diff -f -", stdin=less).returncode == 0
    assert kubectl("apply -f -", stdin=less) == "deployment.apps/web unchanged\n"


def test_apply_many(kubectl: Kubectl) -> None:
    both = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {set: one}}\n---\n"
    both += both.replace("name: a", "name: b").replace("---", "")
    prune = "apply --prune -l set=one --prune-allowlist=core/v1/ConfigMap -f -"
    assert kubectl(prune, stdin=both) == "configmap/a created\nconfigmap/b created\n"
    told = kubectl(prune, stdin=both.split("---")[0])
    assert told == "configmap/a unchanged\nconfigmap/b pruned\n"
    last = kubectl("apply view-last-applied configmap/a -o json")
    assert json.loads(last)["metadata"]["labels"] == {"set": "one"}
    kubectl("create configmap plain")
    refused = kubectl.run(
        "apply -f -", stdin="{apiVersion: v1, kind: ConfigMap, metadata: {name: plain}}"
    )
    assert "missing the kubectl.kubernetes.io/last-applied-configuration" in refused.stderr
    assert kubectl("delete configmap -l set=one").count("deleted") == 1


def test_a_patch_of_a_wrong_type_is_explained(kubectl: Kubectl) -> None:
    kubectl("create deployment web --image=nginx --replicas=0")
    told = kubectl.fails("patch deployment web -p", '{"spec":{"replicas":"two"}}')
    assert told == (
        'The request is invalid: patch: Invalid value: "map[spec:map[replicas:two]]": '
        "unrecognized type: int32\n"
    )
    unknown = kubectl.run("patch deployment web -p", '{"spec":{"replica":2}}')
    assert unknown.stdout == "deployment.apps/web patched (no change)\n"
    assert unknown.stderr == 'Warning: unknown field "spec.replica"\n'
    operation = '[{"op":"remove","path":"/spec/x"}]'
    told = kubectl.fails("patch deployment web --type=json -p", operation)
    assert told == (
        "The request is invalid: the server rejected our request due to an error in our request\n"
    )
    selector = '{"spec":{"selector":{"matchLabels":{"app":"x"}}}}'
    told = kubectl.fails("patch deployment web -p", selector)
    assert "spec.selector" in told and "field is immutable" in told


# Rollouts.


def revisions(kubectl: Kubectl) -> list[str]:
    lines = kubectl("rollout history deployment/web").splitlines()[2:]
    return [line.split()[0] for line in lines if line]


def test_a_rollout_and_back(kubectl: Kubectl) -> None:
    deploy(kubectl)
    assert kubectl.path("deployment/web", ".metadata.generation") == "1"
    told = kubectl("set image deployment/web nginx=nginx:2")
    assert told == "deployment.apps/web image updated\n"
    kubectl("annotate deployment/web kubernetes.io/change-cause=newer")
    status = kubectl("rollout status deployment/web --timeout=30s")
    assert status.endswith('deployment "web" successfully rolled out\n')
    assert "image updated" in kubectl("set image deployment/web *=nginx:3")
    kubectl("rollout status deployment/web --timeout=30s")
    history = kubectl("rollout history deployment/web")
    assert re.search(r"^2 +newer$", history, re.MULTILINE), history
    assert revisions(kubectl) == ["1", "2", "3"]
    assert "Image:\tnginx:2" in kubectl("rollout history deployment/web --revision=2")
    dry = kubectl("rollout undo deployment/web --to-revision=1 --dry-run=server")
    assert dry == "deployment.apps/web rolled back (server dry run)\n"
    told = kubectl("rollout undo deployment/web --to-revision=1")
    assert told == "deployment.apps/web rolled back\n"
    kubectl("rollout status deployment/web --timeout=30s")
    image = ".spec.template.spec.containers[0].image"
    assert kubectl.path("deployment/web", image) == "nginx:1"
    assert revisions(kubectl) == ["2", "3", "4"], "the old revision has become the newest"
    told = kubectl.fails("rollout undo deployment/web --to-revision=9")
    assert "unable to find specified revision 9 in history" in told
    sets = kubectl.json("get rs -l app=web")["items"]
    assert sorted(s["spec"]["replicas"] for s in sets) == [0, 0, 2]


def test_pause_resume_restart(kubectl: Kubectl) -> None:
    deploy(kubectl, replicas=1)
    assert kubectl("rollout pause deployment/web") == "deployment.apps/web paused\n"
    kubectl("set image deployment/web nginx=nginx:2")
    eventually(lambda: kubectl.path("deployment/web", ".status.observedGeneration") == "3")
    assert len(kubectl("get rs -o name").split()) == 1, "nothing happens while it is paused"
    assert "Unknown  DeploymentPaused" in kubectl("describe deployment web")
    assert "can't restart paused deployment" in kubectl.fails("rollout restart deployment/web")
    assert kubectl("rollout resume deployment/web") == "deployment.apps/web resumed\n"
    kubectl("rollout status deployment/web --timeout=30s")
    images = "jsonpath={.items[*].spec.template.spec.containers[*].image}"
    assert "nginx:2" in kubectl("get rs -o", images)
    before = kubectl("get pods -o name")
    assert kubectl("rollout restart deployment/web") == "deployment.apps/web restarted\n"
    kubectl("rollout status deployment/web --timeout=30s")
    restarted = ".spec.template.metadata.annotations.kubectl\\.kubernetes\\.io/restartedAt"
    assert kubectl.path("deployment/web", restarted)
    eventually(lambda: len(kubectl("get pods -o name").split()) == 1)
    assert kubectl("get pods -o name") != before


def test_a_rollout_that_fails(kubectl: Kubectl) -> None:
    deploy(kubectl)
    kubectl("patch deployment web -p", '{"spec": {"progressDeadlineSeconds": 2}}')
    kubectl("set image deployment/web nginx=missing:1")
    told = kubectl.run("rollout status deployment/web --timeout=30s")
    assert told.returncode == 1
    assert "1 out of 2 new replicas have been updated" in told.stdout
    assert 'deployment "web" exceeded its progress deadline' in told.stderr
    (bad,) = re.findall(
        r"^(\S+) .*(?:ErrImagePull|ImagePullBackOff)", kubectl("get pods"), re.MULTILINE
    )
    assert "Failed to pull image" in kubectl(f"describe pod {bad}")
    assert "trying and failing to pull image" in kubectl.fails(f"logs {bad}")
    assert "Progressing    False   ProgressDeadlineExceeded" in kubectl("describe deployment web")
    assert kubectl.path("deployment/web", ".status.availableReplicas") == "2"
    kubectl("rollout undo deployment/web")
    kubectl("rollout status deployment/web --timeout=30s")


# Scale, expose.


def counts(kubectl: Kubectl, line: str, wanted: int) -> bool:
    """Tell whether a `get -o name` finds so many."""
    return len(kubectl(line).split()) == wanted


def test_scale(kubectl: Kubectl) -> None:
    deploy(kubectl, replicas=1)
    kubectl("create -f -", stdin=OLD)
    for what in ("deployment.apps/web", "replicationcontroller/old"):
        pods = f"get pods -l app={what.rpartition('/')[2]} -o name"
        for replicas in (4, 0, 2):
            assert kubectl(f"scale {what} --replicas={replicas}") == f"{what} scaled\n"
            eventually(partial(counts, kubectl, pods, replicas))
        kubectl(f"wait {what} --for=jsonpath={{.status.readyReplicas}}=2 --timeout=30s")
    assert re.search(r"old +2 +2 +2 ", kubectl("get rc"))
    told = kubectl.fails("scale deployment web --replicas=1 --current-replicas=7")
    assert told == "error: Expected replicas to be 7, was 2\n"
    assert kubectl("scale deployment/web rc/old --replicas=1").count("scaled") == 2
    assert "must be" in kubectl.fails("scale deployment web --replicas=-1")
    scaled = kubectl("events --for deployment/web")
    assert "Scaled up replica set web-" in scaled and "Scaled down replica set web-" in scaled


def test_expose(kubectl: Kubectl) -> None:
    deploy(kubectl)
    run(kubectl, "single")
    assert kubectl("expose deployment web --port=80 --target-port=8080") == "service/web exposed\n"
    assert kubectl("expose pod single --port=80 --type=NodePort") == "service/single exposed\n"
    assert kubectl("expose service web --name=again --port=81") == "service/again exposed\n"
    assert "cannot expose a Node" in kubectl.fails("expose node node-1 --port=1")
    ips = sorted(pod["status"]["podIP"] for pod in kubectl.json("get pods -l app=web")["items"])

    def found() -> bool:
        described = kubectl("describe service web")
        return all(f"{ip}:8080" in described for ip in ips)

    eventually(found)
    row = kubectl("get endpoints web --no-headers").split()
    assert sorted(row[1].split(",")) == [f"{ip}:8080" for ip in ips]
    slices = kubectl.json("get endpointslices -l kubernetes.io/service-name=web")["items"]
    assert sorted(a for s in slices for e in s["endpoints"] for a in e["addresses"]) == ips
    port = int(kubectl.path("service/single", ".spec.ports[0].nodePort"))
    assert 30000 <= port <= 32767
    assert f"80:{port}/TCP" in kubectl("get service single")
    taken = f"create service nodeport other --tcp=1:1 --node-port={port}"
    assert f"Invalid value: {port}: provided port is already allocated" in kubectl.fails(taken)


def test_create_commands(kubectl: Kubectl) -> None:
    file = kubectl.file("settings", "colour=blue\n")
    assert kubectl(f"create configmap files --from-file=s={file}") == "configmap/files created\n"
    assert kubectl.path("configmap/files", ".data.s") == "colour=blue\n"
    kubectl(f"create configmap env --from-env-file={file}")
    assert kubectl.path("configmap/env", ".data.colour") == "blue"
    kubectl("create secret docker-registry r --docker-username=u --docker-password=p")
    assert kubectl.path("secret/r", ".type") == "kubernetes.io/dockerconfigjson"
    kubectl("create secret generic g --from-literal=k=v --type=example.com/own")
    assert "k:  1 bytes" in kubectl("describe secret g")
    kubectl("create service clusterip head --clusterip=None --tcp=80:8080")
    assert "None" in kubectl("get service head")
    kubectl("create service loadbalancer lb --tcp=80:80")
    assert "<pending>" in kubectl("get service lb")
    kubectl("create deployment d --image=a --image=b --port=99 --replicas=0")
    containers = kubectl.json("get deployment d")["spec"]["template"]["spec"]["containers"]
    assert [c["image"] for c in containers] == ["a", "b"]
    dry = kubectl("create deployment e --image=a --dry-run=client -o yaml")
    assert kubectl("create -f -", stdin=dry) == "deployment.apps/e created\n"
    assert "AlreadyExists" in kubectl.fails("create -f -", stdin=dry)
    assert "set env" not in kubectl("set env deployment/e K=v")
    assert kubectl("set env deployment/e --list") == "# Deployment e, container a\nK=v\n"
    kubectl("set resources deployment/e --limits=cpu=100m,memory=64Mi")
    limits = ".spec.template.spec.containers[0].resources.limits"
    assert json.loads(kubectl.path("deployment/e", limits)) == {"cpu": "100m", "memory": "64Mi"}


# Logs.


def test_logs(kubectl: Kubectl) -> None:
    run(kubectl, "talker", log="one\ntwo\nthree")
    assert kubectl("logs talker") == "one\ntwo\nthree\n"
    assert kubectl("logs talker --tail=1") == "three\n"
    assert kubectl("logs -l app=talker --prefix --tail=1") == "[pod/talker/c] three\n"
    stamped = kubectl("logs pod/talker --timestamps --limit-bytes=200").splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z \w", line) for line in stamped)
    assert kubectl("logs talker --since=1h") == "one\ntwo\nthree\n"
    assert kubectl("logs talker --since-time=2999-01-01T00:00:00Z") == ""
    assert "NotFound" in kubectl.fails("logs nobody")
    told = kubectl.fails("logs talker --previous")
    assert 'previous terminated container "c" in pod "talker" not found' in told
    with kubectl.watch("logs -f talker") as follow:
        follow.until("three")
        kubectl("delete pod talker --now")
        assert follow.process.wait(timeout=20) == 0, "it ends with the container"


def test_logs_of_a_run_before(kubectl: Kubectl) -> None:
    run(kubectl, "faulty", wait=False, log="I try", fails="3,3,3,3", fails_s="0.2")
    eventually(lambda: "CrashLoopBackOff" in kubectl("get pod faulty"))
    assert kubectl("logs faulty --previous") == "I try\n"
    described = kubectl("describe pod faulty")
    assert "Reason:       CrashLoopBackOff" in described and "Exit Code:    3" in described
    assert "BackOff" in kubectl("events --types=Warning --for pod/faulty")
    selector = "--field-selector type=Warning,reason=BackOff"
    assert kubectl(f"get events {selector} -o name").count("event/faulty.") == 1


# Following and waiting.


def test_a_watch_shows_every_transition(kubectl: Kubectl) -> None:
    with (
        kubectl.watch("get pods -w --output-watch-events") as table,
        kubectl.watch("get pods -w -o", 'jsonpath={.status.phase}{"\\n"}') as phases,
        kubectl.watch("get deployment,pods --watch-only"),
    ):
        run(kubectl, "p", wait=False, start_s="0.5", term_s="0.5", grace="5")
        table.until("1/1")
        kubectl("label pod p seen=yes")
        kubectl("delete pod p")
        lines = [line.split() for line in table.until("DELETED")]
        phases.until("Running")
    assert lines[0][:4] == ["EVENT", "NAME", "READY", "STATUS"]
    states = [f"{line[0]} {line[2]} {line[3]}" for line in lines[1:]]
    assert states[0] == "ADDED 0/1 Pending"
    order = [states.index(state) for state in (
        "MODIFIED 0/1 ContainerCreating", "MODIFIED 1/1 Running", "MODIFIED 1/1 Terminating",
    )]  # fmt: skip
    assert order == sorted(order)
    assert phases.lines[0] == "Pending"


def test_wait(kubectl: Kubectl) -> None:
    with kubectl.watch("wait --for=create pod/p --timeout=30s") as created:
        run(kubectl, "p")
        assert created.until("condition met") == ["pod/p condition met"]
    assert kubectl("wait --for=condition=Ready pod --all --timeout=9s") == "pod/p condition met\n"
    assert "condition met" in kubectl("wait --for=jsonpath={.status.phase}=Running pod/p")
    assert "condition met" in kubectl("wait --for=jsonpath={.status.podIP} pod -l app=p")
    told = kubectl.fails("wait --for=condition=Ready=false pod/p --timeout=500ms")
    assert told == "error: timed out waiting for the condition on pods/p\n"
    with kubectl.watch("wait --for=delete pod/p --timeout=30s") as deleted:
        kubectl("delete pod p --wait=false")
        assert deleted.process.wait(timeout=20) == 0
    assert "no matching resources found" in kubectl.fails("wait --for=condition=Ready pod --all")


# Deleting.


def test_delete_waits_for_grace(kubectl: Kubectl) -> None:
    run(kubectl, "slow", term_s="1", grace="20")
    started = time.monotonic()
    with kubectl.watch("delete pod slow") as deleting:
        eventually(lambda: "Terminating" in kubectl("get pods"))
        assert deleting.process.wait(timeout=20) == 0
    assert time.monotonic() - started >= 1
    assert "NotFound" in kubectl.fails("get pod slow")
    run(kubectl, "stubborn", term_s="never", grace="600")
    forced = kubectl.run("delete pod stubborn --force --grace-period=0")
    assert 'pod "stubborn" force deleted' in forced.stdout
    assert "Immediate deletion does not wait for confirmation" in forced.stderr
    assert "NotFound" in kubectl.fails("get pod stubborn")


def test_delete_many(kubectl: Kubectl) -> None:
    for number in range(4):
        kubectl(f"create configmap c{number}")
    kubectl("label configmap c0 c1 group=one")
    assert kubectl("delete configmap -l group=one").count(" deleted") == 2
    assert kubectl("delete configmap --field-selector metadata.name=c2").count(" deleted") == 1
    dry = kubectl("delete configmap --all --dry-run=client")
    assert 'configmap "c3" deleted' in dry
    assert "c3" in kubectl("delete configmap --all")
    told = kubectl.run("get configmap --field-selector metadata.name!=kube-root-ca.crt")
    assert told.stderr == f"No resources found in {kubectl.namespace} namespace.\n"
    assert kubectl.fails("delete configmap c3 c2").count("NotFound") == 2


def test_cascades(kubectl: Kubectl) -> None:
    deploy(kubectl)
    pods = set(kubectl("get pods -o name").split())
    kubectl("delete deployment web --cascade=orphan")
    (set_,) = kubectl("get rs -o name").split()
    owners = kubectl.path(set_, ".metadata.ownerReferences")
    assert owners == "", "an orphan has no owner"
    assert set(kubectl("get pods -o name").split()) == pods
    kubectl("create deployment web --image=nginx:1 --replicas=2")
    kubectl("rollout status deployment/web --timeout=30s")
    assert kubectl("get rs -o name").split() == [set_], "the new one adopts the orphan"
    assert set(kubectl("get pods -o name").split()) == pods
    kubectl("delete deployment web --cascade=foreground")
    assert kubectl("get rs,pods -o name") == "", "in the foreground the dependents go first"


# Nodes.


def test_cordon_and_drain(kubectl: Kubectl) -> None:
    run(kubectl, "bare")
    node = kubectl.path("pod/bare", ".spec.nodeName")
    other = {"node-1": "node-2", "node-2": "node-1"}[node]
    deploy(kubectl, replicas=3)
    try:
        assert kubectl(f"cordon {node}") == f"node/{node} cordoned\n"
        assert kubectl(f"cordon {node}") == f"node/{node} already cordoned\n"
        assert "SchedulingDisabled" in kubectl(f"get node {node}")
        refused = kubectl.fails(f"drain {node} --pod-selector=app=bare")
        assert "Pods that declare no controller (use --force to override)" in refused
        drained = kubectl(f"drain {node} --pod-selector=app!=none --force --timeout=30s")
        assert "pod/bare evicted\n" in drained
        assert drained.endswith(f"node/{node} drained\n")
        kubectl("rollout status deployment/web --timeout=30s")
        where = [p["spec"]["nodeName"] for p in kubectl.json("get pods -l app=web")["items"]]
        assert where == [other] * 3
        kubectl(f"cordon {other}")
        run(kubectl, "homeless", wait=False)
        told = eventually(lambda: kubectl("events --for pod/homeless --no-headers"))
        assert "0/2 nodes are available: 2 node(s) were unschedulable" in told
        assert kubectl(f"uncordon {other}") == f"node/{other} uncordoned\n"
        kubectl("wait --for=condition=Ready pod/homeless --timeout=30s")
    finally:
        kubectl(f"uncordon {node} {other}")


def test_taints(kubectl: Kubectl) -> None:
    try:
        assert kubectl("taint node node-1 only=me:NoSchedule") == "node/node-1 tainted\n"
        assert "only=me:NoSchedule" in kubectl("describe node node-1")
        deploy(kubectl, replicas=2)
        pods = kubectl.json("get pods")["items"]
        assert {pod["spec"]["nodeName"] for pod in pods} == {"node-2"}
        told = kubectl.fails("taint node node-1 only=you:NoSchedule")
        assert "already has only taint(s) with same effect(s)" in told
    finally:
        assert kubectl("taint node node-1 only-") == "node/node-1 untainted\n"


# Looking around.


def test_describe_events_and_selectors(kubectl: Kubectl) -> None:
    deploy(kubectl)
    kubectl("create service clusterip web --tcp=80:80")
    for kind in ("deployment", "replicaset", "service", "pod", "serviceaccount", "configmap"):
        assert "Name:" in kubectl(f"describe {kind}") or kind == "configmap"
    pod = kubectl("get pods -o name").split()[0]
    described = kubectl(f"describe {pod}")
    for reason in ("Scheduled", "Pulled", "Created", "Started"):
        assert re.search(rf"Normal +{reason} ", described), described
    assert "ScalingReplicaSet" in kubectl("events --for deployment/web")
    assert "SuccessfulCreate" in kubectl(
        "get events --field-selector involvedObject.kind=ReplicaSet"
    )
    running = "--field-selector=status.phase=Running"
    assert kubectl(f"get pods {running} -l", "app in (web),!nope", "-o", "name").count("pod/") == 2
    assert kubectl.fails("get pods --field-selector=spec.nope=1").startswith(
        'Error from server (BadRequest): Unable to find "/v1, Resource=pods"'
    )
    names = kubectl("get pods --sort-by=.metadata.creationTimestamp -o name").split()
    assert len(names) == 2
    assert kubectl("get deployments,rs,pods,services --show-kind --no-headers").count("web") >= 5
    assert kubectl("get pods -L app --no-headers").split()[-1] == "web"
    assert kubectl("get pods --ignore-not-found nothing") == ""
    assert "the server doesn't have a resource type" in kubectl.fails("get unicorns")


def test_a_namespace_goes_with_all_it_has(kubectl: Kubectl) -> None:
    inner = Kubectl(kubectl.directory, f"{kubectl.namespace}-inner"[-60:].strip("-"))
    kubectl(f"create namespace {inner.namespace}")
    deploy(inner)
    inner("create configmap c")
    assert kubectl(f"delete namespace {inner.namespace}").endswith("deleted\n")
    assert inner("get all,configmaps,secrets -o name") == ""
    told = inner.fails("create configmap d")
    assert f'namespaces "{inner.namespace}" not found' in told
    assert "this namespace may not be deleted" in kubectl.fails("delete namespace kube-system")
