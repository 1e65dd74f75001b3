"""What is said of ephemeral volumes and of mounts of claims that make no sense."""

from typing import Any

import msgpack
import pytest

from tests.actors.requests.request_server import Server

AT = "spec.volumes[0].ephemeral.volumeClaimTemplate"
FINE = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
MOUNT = {"name": "v", "mountPath": "/v"}


def pod(ephemeral: dict[str, Any]) -> dict[str, Any]:
    spec = {
        "containers": [{"name": "c", "image": "i", "volumeMounts": [MOUNT]}],
        "volumes": [{"name": "v", "ephemeral": ephemeral}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


@pytest.mark.parametrize(
    ("ephemeral", "why"),
    [
        ({}, f"{AT}: Required value"),
        ({"volumeClaimTemplate": {"spec": {}}}, f"{AT}.spec.accessModes: Required value"),
        (
            {"volumeClaimTemplate": {"spec": {**FINE, "accessModes": ["Any"]}}},
            f'{AT}.spec.accessModes: Unsupported value: "Any"',
        ),
        ({"volumeClaimTemplate": {"spec": FINE}}, ""),
    ],
)
def test_an_ephemeral_volume_is_a_claim(ephemeral: dict[str, Any], why: str) -> None:
    outcome = Server().ask("create", "pods", "", pod(ephemeral), namespace="default")
    assert (outcome.code == 201) == (not why)
    assert why in msgpack.unpackb(outcome.body).get("message", "")


@pytest.mark.parametrize(("name", "fine"), [("v", True), ("w", False)])
def test_the_pods_of_a_set_may_mount_its_claims(name: str, fine: bool) -> None:
    labels = {"app": "db"}
    template = pod({})["spec"]["containers"]
    made = {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": template}},
            "volumeClaimTemplates": [{"metadata": {"name": name}, "spec": FINE}],
        },
    }
    outcome = Server().ask("create", "statefulsets.apps", "", made, namespace="default")
    assert (outcome.code == 201) == fine, msgpack.unpackb(outcome.body)
