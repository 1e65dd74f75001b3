"""What `metadata.generation` counts of the kinds that count in ways of their own."""

from typing import Any

from request_server import Server

from kubeloop.api.resources import RESOURCES

DRIVERS = "csidrivers.storage.k8s.io"


def made(server: Server, id_: str, **obj: Any) -> dict[str, Any]:
    row = RESOURCES[id_]
    kind = {"apiVersion": row.api_version, "kind": row.kind, "metadata": {"name": "x"}}
    told: dict[str, Any] = server.create({**kind, **obj})
    return told


def test_a_driver_counts_from_its_first_change() -> None:
    server = Server()
    driver = made(server, DRIVERS, spec={})
    assert "generation" not in driver["metadata"]
    driver["spec"]["requiresRepublish"] = True
    driver = server.ok("update", DRIVERS, "x", driver, namespace="")
    assert driver["metadata"]["generation"] == 1
    driver["metadata"]["labels"] = {"a": "b"}
    driver = server.ok("update", DRIVERS, "x", driver, namespace="")
    assert driver["metadata"]["generation"] == 1


def test_a_pod_template_counts_its_changes() -> None:
    server = Server()
    spec = {"containers": [{"name": "c", "image": "i"}]}
    template = made(server, "podtemplates", template={"spec": spec})
    assert template["metadata"]["generation"] == 1
    template["template"]["spec"]["containers"][0]["image"] = "j"
    changed = server.ok("update", "podtemplates", "x", template)
    assert changed["metadata"]["generation"] == 2


def test_a_volume_tells_when_its_phase_changed() -> None:
    server = Server()
    spec = {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "hostPath": {"path": "/x"}}  # fmt: skip
    volume = made(server, "persistentvolumes", spec=spec)
    assert "generation" not in volume["metadata"]
    born = volume["status"].pop("lastPhaseTransitionTime")
    server.now += 60
    for phase, changes in (("Pending", False), ("Available", True)):
        volume["status"]["phase"] = phase
        volume = server.ok(
            "update", "persistentvolumes", "x", volume, namespace="", subresource="status"
        )
        told = volume["status"].get("lastPhaseTransitionTime")
        assert (told not in (born, None)) == changes
