"""StatefulSets and DaemonSets in the hands of the real kubectl: rollouts, history, scale."""

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl

SETS = """
apiVersion: apps/v1
kind: {kind}
metadata: {{name: x}}
spec:
  selector: {{matchLabels: {{app: x}}}}
  template:
    metadata: {{labels: {{app: x}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: c, image: "nginx:1"}}]
"""


def images(kubectl: Kubectl) -> set[str]:
    pods = kubectl.json("get pods -l app=x")["items"]
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    return {pod["spec"]["containers"][0]["image"] for pod in alive}


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_rolling_out_and_back(kubectl: Kubectl, kind: str) -> None:
    what = f"{kind.lower()}/x"
    shown = f"{kind.lower()}.apps/x"
    kubectl("apply -f -", stdin=SETS.format(kind=kind))
    kubectl(f"rollout status {what} --timeout=60s")
    assert kubectl(f"set image {what} c=nginx:2") == f"{shown} image updated\n"
    kubectl(f"rollout status {what} --timeout=60s")
    assert images(kubectl) == {"nginx:2"}
    history = kubectl(f"rollout history {what}").split()
    assert history[:2] == [shown, "REVISION"] and {"1", "2"} <= set(history)
    assert "nginx:1" in kubectl(f"rollout history {what} --revision=1")
    assert kubectl(f"rollout undo {what}") == f"{shown} rolled back\n"
    kubectl(f"rollout status {what} --timeout=60s")
    assert images(kubectl) == {"nginx:1"}
    numbers = set(kubectl(f"rollout history {what}").split())
    assert {"2", "3"} <= numbers and "1" not in numbers
    assert kubectl(f"rollout restart {what}") == f"{shown} restarted\n"
    kubectl(f"rollout status {what} --timeout=60s")
    revisions = kubectl("get controllerrevisions").splitlines()
    assert revisions[0].split() == ["NAME", "CONTROLLER", "REVISION", "AGE"]
    assert all(line.split()[1] == shown for line in revisions[1:])
    described = kubectl(f"describe {what}")
    assert "SuccessfulCreate" in described and "nginx:1" in described


def test_scale(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=SETS.format(kind="StatefulSet"))
    assert kubectl("scale statefulset x --replicas=3") == "statefulset.apps/x scaled\n"
    kubectl("rollout status statefulset/x --timeout=60s")
    assert kubectl("get pods -l app=x -o name").split() == [f"pod/x-{n}" for n in range(3)]
    row = kubectl("get sts x --no-headers").split()
    assert row[:2] == ["x", "3/3"]
