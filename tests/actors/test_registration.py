"""What a kubelet does about its own Node and Lease, and when."""

from typing import Any

import msgpack

from kubeloop.actors.alarms import NEVER, Alarms
from kubeloop.actors.node_config import NodeConfig
from kubeloop.actors.registration import RETRY_S, Registration
from kubeloop.actors.runtimes.protocol import ImageRecord
from kubeloop.api.calls import Outcome

CONFIG = NodeConfig(
    name="node-1", index=1, address="127.1.0.1", pod_cidr="10.244.1.0/24", labels={"zone": "a"}
)
WALL = 1_767_225_700.0


def new() -> Registration:
    return Registration(CONFIG, "simulated")


def node(revision: int = 1, **more: Any) -> dict[str, Any]:
    metadata = {"name": "node-1", "uid": "u", "resourceVersion": str(revision), "labels": {}}
    return {"metadata": metadata, "spec": {}, "status": {}, **more}


def answer(tag: str, code: int, revision: int = 0) -> Outcome:
    return Outcome(tag, code, revision, b"")


def register(registration: Registration) -> dict[str, Any]:
    """Bring the Node to where nothing has to be done; return it."""
    registration.turn(0, WALL)
    registration.answered(answer("node", 201, 1), 0)
    found: dict[str, Any] = node(1)
    for revision in range(2, 9):
        registration.observe(found)
        writes = [r for r in registration.turn(0, WALL) if r.tag == "node"]
        registration.answered(answer("lease", 200), 0)
        if not writes:
            return found
        patch = msgpack.unpackb(writes[0].body)
        labels = found["metadata"]["labels"] | patch.get("metadata", {}).get("labels", {})
        found = {**found, **{key: patch[key] for key in ("spec", "status") if key in patch}}
        found["metadata"] = {
            **found["metadata"],
            "labels": labels,
            "resourceVersion": str(revision),
        }
        registration.answered(answer("node", 200, revision), 0)
    raise AssertionError("the node never settles")


def test_a_node_is_made_labelled_and_told_about_once() -> None:
    registration = new()
    found = register(registration)
    assert found["metadata"]["labels"]["zone"] == "a"
    assert found["spec"]["podCIDR"] == "10.244.1.0/24"
    assert found["status"]["nodeInfo"]["kubeletVersion"] == CONFIG.kubelet_version
    assert registration.turn(1, WALL + 1) == []
    assert registration.next_at == CONFIG.heartbeat_s


def test_nothing_is_decided_on_a_node_older_than_the_last_write() -> None:
    registration = new()
    registration.turn(0, WALL)
    registration.answered(answer("node", 201, 5), 0)
    registration.observe(node(5))
    assert [r.tag for r in registration.turn(0, WALL)] == ["node", "lease"]
    registration.answered(answer("node", 200, 7), 0)
    registration.answered(answer("lease", 200), 0)
    registration.observe(node(6))
    assert registration.turn(0, WALL) == []
    registration.observe(node(7))
    assert [r.tag for r in registration.turn(0, WALL)] == ["node"]


def test_a_lease_is_renewed_made_and_tried_again() -> None:
    registration = new()
    register(registration)
    at = CONFIG.heartbeat_s
    assert [(r.verb, r.tag) for r in registration.turn(at, WALL)] == [("patch", "lease")]
    registration.answered(answer("lease", 404), at)
    (made,) = registration.turn(at, WALL)
    assert made.verb == "create"
    registration.answered(answer("lease", 500), at)
    assert registration.turn(at, WALL) == []
    assert registration.next_at == at + RETRY_S
    (renewed,) = registration.turn(at + RETRY_S, WALL)
    assert renewed.verb == "patch"


def test_images_are_told_with_the_next_heartbeat_the_largest_first() -> None:
    registration = new()
    register(registration)
    registration.images([ImageRecord(str(n), (f"i{n}",), n) for n in range(60)])
    assert registration.turn(1, WALL) == []
    at = CONFIG.heartbeat_s
    writes = registration.turn(at, WALL) + registration.turn(at, WALL)
    (patch,) = [msgpack.unpackb(r.body) for r in writes if r.tag == "node"]
    images = patch["status"]["images"]
    assert len(images) == 50 and images[0] == {"names": ["i59"], "sizeBytes": 59}


def test_what_it_does_is_because_of_the_nodes_fact_or_of_the_clock() -> None:
    registration = new()
    (made,) = registration.turn(0, WALL)
    assert made.because == 0
    registration.answered(answer("node", 201, 5), 0)
    registration.observe(node(5), 5)
    labels, lease = registration.turn(0, WALL)
    assert (labels.because, lease.because) == (5, 0)
    registration.observe(node(6), 6)  # By somebody else, before the answer.
    registration.answered(answer("node", 500), 0)
    (again,) = [r for r in registration.turn(RETRY_S, WALL) if r.tag == "node"]
    assert again.because == 6
    registration.observe(node(7), 7)
    registration.answered(answer("node", 200, 7), RETRY_S)
    (status,) = [r for r in registration.turn(RETRY_S, WALL) if r.tag == "node"]
    assert status.because == 7


def test_a_fact_that_changes_nothing_is_no_reason_later() -> None:
    registration = new()
    found = register(registration)
    found["metadata"] = {**found["metadata"], "resourceVersion": "8", "annotations": {"a": "b"}}
    registration.observe(found, 8)
    assert registration.turn(1, WALL) == []
    registration.images([ImageRecord("i", ("i",), 1)])
    at = CONFIG.heartbeat_s
    writes = registration.turn(at, WALL) + registration.turn(at, WALL)
    assert {r.tag: r.because for r in writes} == {"lease": 0, "node": 0}
    registration.answered(answer("node", 200, 9), at)
    registration.observe(None, 12)
    (made,) = [r for r in registration.turn(at, WALL) if r.verb == "create"]
    assert made.because == 12
    assert registration.asked == 12


def test_alarms_ring_once_at_the_time_last_set() -> None:
    alarms = Alarms()
    alarms.set("a", 5)
    alarms.set("b", 3)
    alarms.set("a", 1)
    alarms.set("a", 4)
    assert alarms.next() == 3
    assert alarms.due(4) == ["b", "a"]
    assert alarms.due(9) == [] and alarms.next() == NEVER
    alarms.set("a", 5)
    alarms.set("a", NEVER)
    assert alarms.next() == NEVER
