"""The real Helm 3: a chart with a custom kind, hooks and a test, from its install to its end."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeloop.actors.runtimes.simulated import Script
from kubeloop.sync import SyncCluster
from tests.servers.helm import helm_binary

pytestmark = pytest.mark.process

CHART = {
    "Chart.yaml": "apiVersion: v2\nname: web\nversion: 0.1.0\n",
    "values.yaml": "replicas: 1\nimage: web:1\n",
    "crds/widgets.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.helm.example}
spec:
  group: helm.example
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
""",
    "templates/widget.yaml": """
apiVersion: helm.example/v1
kind: Widget
metadata: {name: {{ .Release.Name }}}
spec: {size: {{ .Values.replicas }}}
""",
    "templates/deployment.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: {{ .Release.Name }}}
spec:
  replicas: {{ .Values.replicas }}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: {{ .Values.image | quote }}}]}
""",
    "templates/migrate.yaml": """
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .Release.Name }}-migrate
  annotations:
    helm.sh/hook: pre-install,pre-upgrade
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  backoffLimit: 0
  template: {spec: {restartPolicy: Never, containers: [{name: c, image: "once:1"}]}}
""",
    "templates/tests/asks.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: {{ .Release.Name }}-asks, annotations: {helm.sh/hook: test}}
spec: {restartPolicy: Never, containers: [{name: c, image: "once:1"}]}
""",
}
IMAGES = {"once:1": Script(run_s=0.1), "bad:1": Script(pull_error="no such image")}


class Helm:
    """Runs Helm against one cluster."""

    def __init__(self, directory: Path, config: str) -> None:
        self.binary, self.directory = helm_binary(), directory
        (directory / "config").write_text(config)
        for name, text in CHART.items():
            path = directory / "chart" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def __call__(self, line: str, *, fails: bool = False) -> str:
        environment = {
            "HOME": str(self.directory),
            "KUBECONFIG": str(self.directory / "config"),
            "PATH": os.environ["PATH"],
        }
        done = subprocess.run(
            [self.binary, *line.split()],
            cwd=self.directory, env=environment, capture_output=True, text=True, timeout=90,
        )  # fmt: skip
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module")
def cluster() -> Iterator[SyncCluster]:
    with SyncCluster(nodes=1, rest=True, tls=True, images=IMAGES) as cluster:
        yield cluster


def test_the_life_of_a_release(cluster: SyncCluster, tmp_path: Path) -> None:
    helm = Helm(tmp_path, cluster.config_yaml())

    def replicas() -> Any:
        return cluster.api.get("deployment", "web")["status"]["readyReplicas"]

    assert "STATUS: deployed" in helm("install web chart --wait --timeout 60s")
    assert cluster.api.get("widgets", "web")["spec"] == {"size": 1}
    first = cluster.api.get("job", "web-migrate")
    assert first["status"]["succeeded"] == 1 == replicas()

    helm("upgrade web chart --set replicas=2 --wait --timeout 60s")
    assert cluster.api.get("widgets", "web")["spec"] == {"size": 2} and replicas() == 2
    second = cluster.api.get("job", "web-migrate")
    assert second["metadata"]["uid"] != first["metadata"]["uid"], "the hook has run anew"

    told = helm("upgrade web chart --set image=bad:1 --wait --timeout 3s", fails=True)
    assert "timed out" in told or "deadline exceeded" in told
    helm("rollback web 1 --wait --timeout 60s")
    assert cluster.api.get("widgets", "web")["spec"] == {"size": 1} and replicas() == 1

    tested = helm("test web --timeout 60s")
    assert "Phase:          Succeeded" in tested
    history = json.loads(helm("history web -o json"))
    statuses = [one["status"] for one in history]
    assert statuses == ["superseded", "superseded", "failed", "deployed"]
    assert json.loads(helm("list -o json"))[0]["revision"] == "4"

    helm("uninstall web --wait --timeout 60s")
    assert not cluster.api.list("deployments") and not cluster.api.list("widgets")
    assert json.loads(helm("list -a -o json")) == []
    assert cluster.api.list("customresourcedefinitions"), "Helm never takes these away"
    assert "not found" in helm("status web", fails=True)
