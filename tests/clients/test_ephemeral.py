"""Ephemeral containers: `kubectl debug` adds one to a running pod, and the kubelet starts it."""

import pytest
from kubectl_tool import Kubectl, eventually

POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: c, image: b}]
"""

pytestmark = pytest.mark.kubectl


def test_debug_adds_a_container(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=POD)
    kubectl("wait pod/p --for=condition=Ready --timeout=30s")
    kubectl("debug p --image=tools:1 --container=d --target=c --attach=false")
    path = ".status.ephemeralContainerStatuses[0].state.running.startedAt"
    eventually(lambda: kubectl.path("pod/p", path))
    assert kubectl.path("pod/p", ".status.phase") == "Running"
    assert kubectl.path("pod/p", ".status.containerStatuses[*].restartCount") == "0"
    told = kubectl.fails("debug p --image=tools:1 --container=c --attach=false --profile=general")
    assert "c" in told
    changed = '{"spec":{"ephemeralContainers":[{"name":"d","image":"other:1"}]}}'
    refused = kubectl.fails("patch pod p --subresource=ephemeralcontainers -p", changed)
    assert 'existing ephemeral containers "d" may not be changed' in refused
    kubectl("delete pod p")


def test_component_statuses(kubectl: Kubectl) -> None:
    lines = kubectl("get componentstatuses").splitlines()
    assert lines[0].split() == ["NAME", "STATUS", "MESSAGE", "ERROR"]
    assert [line.split()[:2] for line in lines[1:]] == [
        ["controller-manager", "Healthy"],
        ["etcd-0", "Healthy"],
        ["scheduler", "Healthy"],
    ]
