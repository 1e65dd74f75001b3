"""What the API server does with requests, against a store in memory and a clock that stands."""

import random
from ipaddress import ip_address, ip_network
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from request_server import NOW, Server, config, deployment, pod, service

from kubeloop.actors.requests.core import Core
from kubeloop.actors.requests.state import Settings
from kubeloop.api.calls import Request


@pytest.fixture
def server() -> Server:
    return Server()


def test_a_new_pod_is_complete(server: Server) -> None:
    made = server.create(pod())
    assert made["metadata"]["uid"]
    assert made["metadata"]["generation"] == 1
    assert made["metadata"]["creationTimestamp"] == "2026-11-23T06:00:00Z"
    assert made["spec"]["serviceAccountName"] == "default"
    assert made["spec"]["restartPolicy"] == "Always"
    assert [t["tolerationSeconds"] for t in made["spec"]["tolerations"]] == [300, 300]
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}


def test_versions_grow_and_stale_writes_are_refused(server: Server) -> None:
    made = server.create(config(a="1"))
    changed = server.ok("update", "configmaps", "c", {**made, "data": {"a": "2"}})
    assert int(changed["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    status = server.refused("update", "configmaps", "c", {**made, "data": {"a": "3"}})
    assert status["reason"] == "Conflict"
    assert "the object has been modified" in status["message"]


def test_a_write_that_changes_nothing_is_no_write(server: Server) -> None:
    made = server.create(config(a="1"))
    revision = server.store.revision
    assert server.ok("update", "configmaps", "c", made) == made
    assert server.ok("patch", "configmaps", "c", {"data": {"a": "1"}}, patchType="merge") == made
    assert server.store.revision == revision


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", {"metadata": {"labels": {"x": "y"}}}),
        ("strategic", {"metadata": {"labels": {"x": "y"}}}),
        ("json", [{"op": "add", "path": "/metadata/labels/x", "value": "y"}]),
    ],
)
def test_patches(server: Server, kind: str, patch: Any) -> None:
    server.create(pod())
    changed = server.ok("patch", "pods", "web", patch, patchType=kind)
    assert changed["metadata"]["labels"] == {"app": "web", "x": "y"}
    assert changed["metadata"]["generation"] == 1, "labels are not part of what it counts"


def test_spec_and_status_are_written_apart(server: Server) -> None:
    server.create(deployment())
    body = {"spec": {"replicas": 5}, "status": {"replicas": 3}}
    changed = server.ok("patch", "deployments.apps", "d", body, patchType="merge")
    assert changed["status"] == {}
    assert changed["metadata"]["generation"] == 2
    changed = server.ok(
        "patch", "deployments.apps", "d", {"spec": {"replicas": 9}, "status": {"replicas": 3}},
        patchType="merge", subresource="status",
    )  # fmt: skip
    assert changed["spec"]["replicas"] == 5
    assert changed["status"] == {"replicas": 3}
    assert changed["metadata"]["generation"] == 2


def test_strict_validation_and_warnings(server: Server) -> None:
    body = {**config(), "foo": 1}
    status = server.refused("create", "configmaps", body=body, fieldValidation="Strict")
    assert 'strict decoding error: unknown field "foo"' in status["message"]
    outcome = server.ask("create", "configmaps", body=body, fieldValidation="Warn")
    assert outcome.warnings == ['unknown field "foo"']
    assert "foo" not in msgpack.unpackb(outcome.body)


def test_a_scheduled_pod_dies_gracefully(server: Server) -> None:
    server.create(pod())
    binding = {"target": {"kind": "Node", "name": "n1"}}
    assert server.ask("create", "pods", "web", binding, subresource="binding").code == 201
    assert server.refused("create", "pods", "web", binding, subresource="binding")[
        "message"
    ].endswith('pod web is already assigned to node "n1"')
    dying = server.ok("delete", "pods", "web")
    assert dying["metadata"]["deletionGracePeriodSeconds"] == 30
    assert dying["metadata"]["deletionTimestamp"] == "2026-11-23T06:00:30Z"
    server.now += 5
    sooner = server.ok("delete", "pods", "web", gracePeriodSeconds=10)
    assert sooner["metadata"]["deletionTimestamp"] == "2026-11-23T06:00:10Z"
    later = server.ok("delete", "pods", "web", gracePeriodSeconds=60)
    assert later["metadata"]["deletionGracePeriodSeconds"] == 10, "grace only shrinks"
    server.ok("delete", "pods", "web", gracePeriodSeconds=0)
    assert server.refused("get", "pods", "web")["reason"] == "NotFound"


def test_finalizers_hold_an_object(server: Server) -> None:
    body = config()
    body["metadata"]["finalizers"] = ["example.com/hold"]
    server.create(body)
    held = server.ok("delete", "configmaps", "c")
    assert held["metadata"]["deletionTimestamp"]
    assert server.ok("get", "configmaps", "c")["metadata"]["finalizers"]
    patch = {"metadata": {"finalizers": None}}
    server.ok("patch", "configmaps", "c", patch, patchType="merge")
    assert server.refused("get", "configmaps", "c")["code"] == 404


def test_propagation_policies_become_finalizers(server: Server) -> None:
    server.create(deployment())
    held = server.ok("delete", "deployments.apps", "d", propagationPolicy="Foreground")
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]
    held = server.ok("delete", "deployments.apps", "d", propagationPolicy="Orphan")
    assert held["metadata"]["finalizers"] == ["orphan"]


def test_preconditions(server: Server) -> None:
    made = server.create(config())
    status = server.refused("delete", "configmaps", "c", preconditions={"uid": "other"})
    assert status["reason"] == "Conflict"
    server.ok("delete", "configmaps", "c", preconditions={"uid": made["metadata"]["uid"]})


def test_a_terminating_namespace_takes_nothing_new(server: Server) -> None:
    server.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}})
    body = {**config(), "metadata": {"name": "c", "namespace": "n"}}
    server.create(body)
    ending = server.ok("delete", "namespaces", "n", namespace="")
    assert ending["status"]["phase"] == "Terminating"
    status = server.refused("create", "configmaps", body=config("x"), namespace="n")
    assert (status["code"], status["details"]["causes"][0]["reason"]) == (
        403, "NamespaceTerminating",
    )  # fmt: skip
    server.ok(
        "update", "namespaces", "n", {"spec": {"finalizers": []}}, namespace="",
        subresource="finalize",
    )  # fmt: skip
    assert server.refused("get", "namespaces", "n", namespace="")["code"] == 404
    assert server.refused("create", "configmaps", body=config("x"), namespace="n")["code"] == 404


def test_services_get_addresses_and_ports(server: Server) -> None:
    made = server.create(service())
    assert ip_address(made["spec"]["clusterIP"]) in ip_network("10.96.0.0/12")
    assert 30000 <= made["spec"]["ports"][0]["nodePort"] <= 32767
    number = made["spec"]["ports"][0]["nodePort"]
    taken = service("t", ports=[{"port": 80, "nodePort": number}])
    assert (
        "provided port is already allocated"
        in (server.refused("create", "services", body=taken)["message"])
    )
    out = service("t", ports=[{"port": 80, "nodePort": 80}])
    assert (
        "The range of valid ports is 30000-32767"
        in (server.refused("create", "services", body=out)["message"])
    )
    server.ok("delete", "services", "s")
    server.create(taken)


def test_an_apply_of_the_original_keeps_what_was_allocated(server: Server) -> None:
    made = server.create(service())
    again = service()
    again["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
    again["metadata"]["labels"] = {"a": "b"}
    changed = server.ok("update", "services", "s", again)
    assert changed["spec"] == made["spec"]


def test_the_port_range_ends(server: Server) -> None:
    small = Server(Settings(node_ports=(30000, 30001)))
    small.create(service("a"))
    small.create(service("b"))
    status = small.refused("create", "services", body=service("c"))
    assert status["code"] == 500
    assert "range is full" in status["message"]


def test_scale(server: Server) -> None:
    server.create(deployment(replicas=2))
    scale = server.ok("get", "deployments.apps", "d", subresource="scale")
    assert scale["spec"] == {"replicas": 2}
    assert scale["status"]["selector"] == "app=d"
    body = {"spec": {"replicas": 7}}
    server.ok("patch", "deployments.apps", "d", body, subresource="scale", patchType="merge")
    assert server.ok("get", "deployments.apps", "d")["spec"]["replicas"] == 7
    body = {"spec": {"replicas": -1}}
    status = server.refused(
        "patch", "deployments.apps", "d", body, subresource="scale", patchType="merge"
    )
    assert status["code"] == 422


def test_dry_run_changes_nothing(server: Server) -> None:
    before = server.store.revision
    made = server.create(service(), dryRun=["All"])
    assert made["spec"]["clusterIP"]
    assert server.store.revision == before
    server.create(service(clusterIP=made["spec"]["clusterIP"]))


def test_generated_names_and_collections(server: Server) -> None:
    for _ in range(5):
        body = {**config(), "metadata": {"generateName": "x-", "labels": {"g": "1"}}}
        assert server.create(body)["metadata"]["name"].startswith("x-")
    server.create(config("kept"))
    outcome = server.ask("deletecollection", "configmaps", labelSelector="g=1")
    assert len(outcome.items) == 5
    left = server.ask("list", "configmaps").items
    assert [msgpack.unpackb(i)["metadata"]["name"] for i in left] == ["kept"]


@given(st.sets(st.text("abcdef", min_size=1, max_size=4), max_size=20), st.integers(1, 7))
def test_pages_make_up_the_list_as_it_was(names: set[str], limit: int) -> None:
    server = Server()
    for name in sorted(names):
        server.create(config(name))
    seen, cont = [], ""
    while True:
        more = {"continue": cont} if cont else {}
        outcome = server.ask("list", "configmaps", limit=limit, **more)
        assert len(outcome.items) <= limit
        seen += [msgpack.unpackb(item)["metadata"]["name"] for item in outcome.items]
        cont = outcome.cont
        server.create(config(f"later{len(seen)}x{server.store.revision}"))
        if not cont:
            break
        assert outcome.remaining == len(names) - len(seen)
    assert seen == sorted(names)


def test_events_are_forgotten_after_an_hour(server: Server) -> None:
    event = {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "default"},
        "reason": "R", "message": "m", "type": "Normal",
    }  # fmt: skip
    server.create(event)
    server.now += 3599
    server.core.state.expire()
    server.ok("get", "events", "e")
    server.now += 2
    server.core.state.expire()
    assert server.refused("get", "events", "e")["code"] == 404


def test_what_is_not_there_is_told(server: Server) -> None:
    assert server.refused("get", "pods", "nope")["message"] == 'pods "nope" not found'
    assert server.refused("get", "widgets.example.com", "x")["code"] == 404
    assert server.refused("deletecollection", "namespaces", namespace="")["code"] == 405


def test_a_restarted_core_knows_what_is_taken() -> None:
    server = Server()
    made = server.create(service())
    again = Core(
        server.store, wall=lambda: NOW, bits=random.Random(2).getrandbits, settings=Settings()
    )
    taken = [p.get("nodePort") for p in made["spec"]["ports"]]
    other = service("other", clusterIP=made["spec"]["clusterIP"])
    other["spec"]["ports"] = [{"port": 80, "nodePort": number} for number in taken]
    body = msgpack.packb(other)
    refused = msgpack.unpackb(
        again.handle(Request("create", "services", "default", body=body)).body
    )
    assert refused["code"] == 422
    told = {cause["field"] for cause in refused["details"]["causes"]}
    assert told == {"spec.clusterIPs", "spec.ports[0].nodePort"}
