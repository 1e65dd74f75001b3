"""The real kubectl applies on the server's side."""

import json
from typing import Any

import pytest
from kubectl_tool import Kubectl, eventually

pytestmark = pytest.mark.kubectl


def web(name: str, *, replicas: int | None = 2, image: str = "a", env: str = "") -> str:
    labels = {"app": name}
    container: dict[str, Any] = {"name": "c", "image": image}
    if env:
        container["env"] = [{"name": "E", "value": env}]
    spec: dict[str, Any] = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return json.dumps(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}
    )


def managers(kubectl: Kubectl, what: str) -> dict[str, Any]:
    """Return who manages what of its spec."""
    told = json.loads(kubectl(f"get {what} -o json --show-managed-fields"))
    return {
        f"{entry['manager']} {entry['operation']}": entry["fieldsV1"].get("f:spec")
        for entry in told["metadata"]["managedFields"]
        if "subresource" not in entry
    }


def test_two_managers(kubectl: Kubectl) -> None:
    apply = "apply --server-side -f -"
    assert kubectl(apply, stdin=web("two")) == "deployment.apps/two serverside-applied\n"
    assert kubectl(apply, stdin=web("two")) == "deployment.apps/two serverside-applied\n"
    refused = kubectl.fails(f"{apply} --field-manager=other", stdin=web("two", replicas=5))
    assert 'conflict with "kubectl": .spec.replicas' in refused
    assert "--force-conflicts" in refused
    kubectl(f"{apply} --field-manager=other --force-conflicts", stdin=web("two", replicas=5))
    assert kubectl("get deploy two -o jsonpath={.spec.replicas}") == "5"
    assert "f:replicas" not in managers(kubectl, "deploy/two")["kubectl Apply"]
    assert "f:replicas" in managers(kubectl, "deploy/two")["other Apply"]
    kubectl(apply, stdin=web("two", replicas=None))
    kubectl("scale deployment two --replicas=3")
    refused = kubectl.fails(f"{apply} --field-manager=other", stdin=web("two", replicas=5))
    assert 'conflict with "kubectl" with subresource "scale" using apps/v1' in refused


def test_from_the_clients_side_and_back(kubectl: Kubectl) -> None:
    """Without pods: kubectl gives up telling managers if the status changes while it does."""
    kubectl("apply -f -", stdin=web("moved", replicas=0, env="1"))
    eventually(lambda: kubectl.path("deploy/moved", ".status.observedGeneration") == "1")
    assert "kubectl-client-side-apply Update" in managers(kubectl, "deploy/moved")
    kubectl("apply --server-side -f -", stdin=web("moved", replicas=0, image="b"))
    found = eventually(lambda: settled(kubectl, "moved"))
    assert [*managers(kubectl, "deploy/moved")] == ["kubectl-last-applied Apply", "kubectl Apply"]
    (container,) = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "b" and "env" not in container
    assert "configured" in kubectl("apply -f -", stdin=web("moved", replicas=0, image="c"))
    assert '"image": "c"' in kubectl("apply view-last-applied deploy/moved -o json")


def settled(kubectl: Kubectl, name: str) -> Any:
    """Return a deployment whose status tells of its newest spec, None before."""
    found = kubectl.json(f"get deploy {name}")
    newest = found["status"].get("observedGeneration") == found["metadata"]["generation"]
    return found if newest else None


def test_looking_first(kubectl: Kubectl) -> None:
    kubectl("apply --server-side -f -", stdin=web("look"))
    dry = "apply --server-side --dry-run=server -f -"
    assert "serverside-applied (server dry run)" in kubectl(dry, stdin=web("look", image="b"))
    assert kubectl("get deploy look -o jsonpath={..image}") == "a"
    wrong = web("look").replace('"replicas"', '"replicsa"')
    assert "replicsa" in kubectl.fails("apply --server-side -f -", stdin=wrong)
    status = '{"status": {"replicas": 7}}'
    kubectl("patch deploy look --subresource=status --type=merge -p", status)
    assert "labeled" in kubectl("label deploy look --field-manager=me a=b")
    assert "me Update" in managers(kubectl, "deploy/look")
