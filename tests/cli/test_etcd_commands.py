"""`kubeloop up --store=etcd`: a real etcd keeps the cluster, and several processes may serve it."""

import base64
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_shell import Shell

from tests.servers.etcd import Etcd, NoEtcd, find_etcd, running_etcd

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: kept}
data: {a: "1"}
"""


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    try:
        with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
            yield etcd
    except NoEtcd as error:
        pytest.skip(str(error))


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.kubectl
def test_two_processes_serve_one_cluster_and_one_of_them_may_die(
    shell: Shell, etcd: Etcd, tmp_path: Path
) -> None:
    store = ["--store=etcd", "--etcd-endpoints", ",".join(etcd.endpoints), "--runtime=simulated"]
    manifest = tmp_path / "kept.yaml"
    manifest.write_text(MANIFEST)

    def kubectl(name: str, *arguments: str) -> str:
        shell.environment["KUBELOOP_NAME"] = name
        return shell.kubectl(*arguments)

    with shell.up(*store, "--name=one", "--nodes=1") as one:
        kubectl("one", "apply", "-f", str(manifest))
        with shell.up(*store, "--name=two", "--nodes=0") as two:
            kubectl("two", "create", "deployment", "web", "--image=nginx", "--replicas=2")
            kubectl("one", "rollout", "status", "deployment/web", "--timeout=30s")
            kubectl("two", "patch", "configmap", "kept", "-p", '{"data": {"a": "2"}}')
            told = json.loads(kubectl("one", "get", "configmap", "kept", "-o", "json"))
            assert told["data"] == {"a": "2"}
            wanted = "jsonpath={.clusters[0].cluster.certificate-authority-data}"
            known = {kubectl(n, "config", "view", "--raw", "-o", wanted) for n in ("one", "two")}
            (authority,) = (base64.b64decode(one).decode() for one in known)
            published = kubectl("two", "get", "configmap", "kube-root-ca.crt", "-o", "json")
            assert json.loads(published)["data"]["ca.crt"] == authority, "all have the same"
            leases = json.loads(kubectl("two", "get", "leases", "-n=kube-system", "-o", "json"))
            holders = {i["metadata"]["name"]: i["spec"]["holderIdentity"] for i in leases["items"]}
            assert set(holders) == {"kube-controller-manager", "kube-scheduler"}
            assert all(holder.startswith("one-") for holder in holders.values())
            one.kill()
            one.wait()
            assert "kept" in kubectl("two", "get", "configmaps"), "nothing is lost with a process"
            two.send_signal(signal.SIGINT)
            assert two.wait(timeout=10) == 0
    keys = etcdctl(etcd, "get", "--prefix", "/registry/pods", "--keys-only").split()
    assert len(keys) == 2
    assert all(key.startswith("/registry/pods/default/web-") for key in keys)


def etcdctl(etcd: Etcd, *arguments: str) -> str:
    command = [find_etcd().etcdctl, "--endpoints", etcd.endpoints[0], *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "arguments, told",
    [
        (["--store=etcd"], "--store=etcd needs --etcd-endpoints, as in 127.0.0.1:2379"),
        (["--etcd-endpoints=x:1"], "--etcd-endpoints is for --store=etcd"),
        (["--store=file"], "--store=file needs --data-dir"),
        (["--store=memory", "--data-dir=x"], "leave it away with --store=memory"),
        (
            ["--store=etcd", "--etcd-endpoints=x:1", "--etcd-cert", __file__],
            "--etcd-cert and --etcd-key go together",
        ),
        (["--history=0"], "0 is not in the range x>=1"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    shell: Shell, arguments: list[str], told: str
) -> None:
    assert told in shell.run("up", *arguments, code=2)
