"""The real kubectl on claims, volumes and classes: get, describe, exec to see what is there."""

import json
import re
from collections.abc import Iterator

import pytest
from kubectl_tool import Kubectl, eventually

from kubeloop.sync import SyncCluster

pytestmark = pytest.mark.kubectl

CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: user, annotations: {kubeloop.dev/sim.write: '{"/data/log": "begun"}'}}
spec:
  volumes: [{name: d, persistentVolumeClaim: {claimName: data}}]
  containers:
  - {name: c, image: "busybox:1", volumeMounts: [{name: d, mountPath: /data}]}
"""
SCRATCH = """
apiVersion: v1
kind: Pod
metadata: {name: scratch}
spec:
  volumes:
  - name: tmp
    ephemeral:
      volumeClaimTemplate:
        metadata: {labels: {what: scratch}}
        spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
  containers:
  - {name: c, image: "busybox:1", volumeMounts: [{name: tmp, mountPath: /scratch}]}
"""
SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      containers:
      - {name: c, image: "busybox:1", volumeMounts: [{name: rows, mountPath: /rows}]}
  volumeClaimTemplates:
  - metadata: {name: rows}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with SyncCluster(nodes=2, rest=True, tls=True, storage_class="standard") as cluster:
        directory = tmp_path_factory.mktemp("claims")
        (directory / "config").write_text(cluster.config_yaml())
        yield Kubectl(directory)


def cells(text: str) -> list[list[str]]:
    return [re.split(r"\s{2,}", line.strip()) for line in text.strip().splitlines()]


def test_the_default_class_is_told(kubectl: Kubectl) -> None:
    head, row = cells(kubectl("get sc"))
    assert head[:5] == ["NAME", "PROVISIONER", "RECLAIMPOLICY", "VOLUMEBINDINGMODE",
                        "ALLOWVOLUMEEXPANSION"]  # fmt: skip
    assert row[0] == "standard (default)"
    assert row[1:5] == ["kubeloop.dev/local-path", "Delete", "WaitForFirstConsumer", "true"]


def test_a_claim_waits_for_its_pod_and_keeps_what_that_writes(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=CLAIM)
    described = eventually(lambda: _with(kubectl, "WaitForFirstConsumer"))
    assert "waiting for first consumer to be created before binding" in described
    assert re.search(r"Used By: +<none>", described)
    kubectl("apply -f -", stdin=POD)
    kubectl("wait --for=condition=Ready pod/user --timeout=30s")
    _, row = cells(kubectl("get pvc data"))
    assert row[1] == "Bound" and row[3:6] == ["1Gi", "RWO", "standard"]
    _, volume = cells(kubectl(f"get pv {row[2]}"))
    assert volume[1:6] == ["1Gi", "RWO", "Delete", "Bound", "default/data"]
    described = kubectl("describe pvc data")
    assert re.search(r"Used By: +user", described)
    assert "kubernetes.io/pvc-protection" in described and "ProvisioningSucceeded" in described
    described = kubectl(f"describe pv {row[2]}")
    assert "HostPath" in described and "kubernetes.io/hostname in [" in described
    assert kubectl("exec user -- cat /data/log") == "begun\n"
    kubectl("exec user -- sh -c", "echo mine > /data/own")
    kubectl("delete pod user --wait --timeout=30s")
    kubectl("apply -f -", stdin=POD)
    kubectl("wait --for=condition=Ready pod/user --timeout=30s")
    assert kubectl("exec user -- cat /data/log") == "begun\nbegun\n"
    assert kubectl("exec user -- ls /data") == "log\nown\n"
    assert kubectl("exec user -- cat /data/own") == "mine\n"

    patch = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    kubectl("patch pvc data -p", json.dumps(patch))
    kubectl("wait pvc/data --for=jsonpath={.status.capacity.storage}=3Gi --timeout=30s")
    assert "VolumeResizeSuccessful" in eventually(lambda: _with(kubectl, "VolumeResizeSuccessful"))

    kubectl("delete pvc data --wait=false")
    assert "Terminating" in kubectl("get pvc data"), "it is used"
    kubectl("delete pod user --wait --timeout=30s")
    kubectl("wait pvc/data --for=delete --timeout=30s")
    kubectl(f"wait pv/{row[2]} --for=delete --timeout=30s")


def _with(kubectl: Kubectl, wanted: str) -> str:
    described = kubectl("describe pvc data")
    return described if wanted in described else ""


def test_an_ephemeral_volume_goes_with_its_pod(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=SCRATCH)
    kubectl("wait --for=condition=Ready pod/scratch --timeout=30s")
    assert "scratch-tmp" in kubectl("get pvc -l what=scratch")
    described = kubectl("describe pod scratch")
    assert "EphemeralVolume (an inline specification for a volume" in described
    kubectl("delete pod scratch --wait --timeout=30s")
    kubectl("wait pvc/scratch-tmp --for=delete --timeout=30s")


def test_a_stateful_set_has_its_claims(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=SET)
    kubectl("rollout status statefulset/db --timeout=60s")
    kubectl("exec db-1 -- sh -c", "echo one > /rows/f")
    names = [row[0] for row in cells(kubectl("get pvc --no-headers -l app=db"))]
    assert names == ["rows-db-0", "rows-db-1"]
    assert "create Claim rows-db-0 Pod db-0 in StatefulSet db success" in kubectl(
        "describe statefulset db"
    )
    kubectl("scale statefulset db --replicas=1")
    kubectl("wait pod/db-1 --for=delete --timeout=30s")
    kubectl("scale statefulset db --replicas=2")
    kubectl("rollout status statefulset/db --timeout=60s")
    assert kubectl("exec db-1 -- cat /rows/f") == "one\n"


def test_a_pod_without_its_claim_says_why(kubectl: Kubectl) -> None:
    lost = POD.replace("name: user", "name: lost").replace("claimName: data", "claimName: gone")
    kubectl("apply -f -", stdin=lost)
    wanted = '0/2 nodes are available: persistentvolumeclaim "gone" not found.'
    assert eventually(lambda: wanted in kubectl("describe pod lost"))
    kubectl("delete pod lost --wait=false")
