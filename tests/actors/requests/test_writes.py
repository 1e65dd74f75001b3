"""What may be written by whom: generations, status, finalizers, tolerations, versions; patches."""

from typing import Any

import pytest
from request_server import Server, config, deployment, pod

from kubeloop.actors.requests.patching import go_conversion, go_value

NODE = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}}


@pytest.fixture
def server() -> Server:
    return Server()


# Patches that leave no object of the kind.


@pytest.mark.parametrize(
    ("patch", "shown", "text"),
    [
        ({"spec": {"replicas": "two"}}, "map[spec:map[replicas:two]]", "unrecognized type: int32"),
        (
            {"metadata": {"labels": {"a": 1}}},
            "map[metadata:map[labels:map[a:1]]]",
            "cannot convert int64 to string",
        ),
        (
            {"spec": {"template": True}},
            "map[spec:map[template:true]]",
            "cannot restore struct from: bool",
        ),
        (
            {"spec": {"nope": [None, 1.5]}},
            "map[spec:map[nope:[<nil> 1.5]]]",
            'strict decoding error: unknown field "spec.nope"',
        ),
    ],
)
def test_a_strategic_patch_of_a_wrong_type(
    server: Server, patch: Any, shown: str, text: str
) -> None:
    server.create(deployment())
    status = server.refused(
        "patch", "deployments.apps", "d", patch, patchType="strategic", fieldValidation="Strict"
    )
    assert (status["code"], status["reason"]) == (422, "Invalid")
    assert status["message"] == f' "" is invalid: patch: Invalid value: "{shown}": {text}'
    assert status["details"]["causes"][0]["field"] == "patch"
    assert "kind" not in status["details"]


@pytest.mark.parametrize(
    ("kind", "patch"),
    [
        ("merge", {"data": {"a": 1}}),
        ("json", [{"op": "replace", "path": "/data/a", "value": 1}]),
    ],
)
def test_other_patches_show_what_they_made(server: Server, kind: str, patch: Any) -> None:
    server.create(config(a="x"))
    status = server.refused("patch", "configmaps", "c", patch, patchType=kind)
    assert status["code"] == 422
    shown = r"{\"apiVersion\":\"v1\",\"data\":{\"a\":1},\"kind\":\"ConfigMap\",\"metadata\":{"
    assert status["message"].startswith(f' "" is invalid: patch: Invalid value: "{shown}')
    assert status["message"].endswith(
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    )


def test_how_go_prints_and_converts() -> None:
    assert go_value({"b": [1, "x", None], "a": False}) == "map[a:false b:[1 x <nil>]]"
    said = "json: cannot unmarshal {} into Go struct field PodSpec.spec.x of type {}"
    for told, wanted, text in (
        ("string", "map[string]string", "cannot restore map from string"),
        ("object", "[]v1.Container", "cannot restore slice from map"),
        ("number 1.5", "int32", "cannot convert float64 to int32"),
        ("number", "bool", "unrecognized type: bool"),
        ("array", "string", "unrecognized type: string"),
    ):
        assert go_conversion(said.format(told, wanted)) == text
    assert go_conversion("unable to parse quantity's suffix") == "unable to parse quantity's suffix"


# What counts as a change of what is wanted.


def test_a_bare_manifest_put_again_changes_nothing(server: Server) -> None:
    made = server.create(deployment())
    assert server.ok("update", "deployments.apps", "d", deployment()) == made


def test_annotations_of_deployments_count(server: Server) -> None:
    server.create(deployment())
    patch = {"metadata": {"annotations": {"a": "b"}}}
    changed = server.ok("patch", "deployments.apps", "d", patch, patchType="merge")
    assert changed["metadata"]["generation"] == 2
    patch = {"metadata": {"annotations": {"a": "c"}, "labels": {"l": "m"}}}
    options = {"patchType": "merge", "subresource": "status"}
    changed = server.ok("patch", "deployments.apps", "d", patch, **options)
    assert changed["metadata"]["generation"] == 2
    assert changed["metadata"]["annotations"] == {"a": "c"}
    assert "labels" not in changed["metadata"], "the status may not change those of a Deployment"


# Who may write what.


def test_nodes_keep_the_status_they_are_created_with(server: Server) -> None:
    status = {"capacity": {"cpu": "2"}, "nodeInfo": {"osImage": "x"}}
    made = server.create({**NODE, "status": status})
    assert made["status"]["capacity"] == made["status"]["allocatable"] == {"cpu": "2"}
    assert made["status"]["nodeInfo"]["osImage"] == "x"
    assert made["status"]["nodeInfo"]["kubeletVersion"] == ""
    changed = server.ok("update", "nodes", "n", {**NODE, "status": {}}, namespace="")
    assert changed["status"] == made["status"]


def test_finalizers_of_namespaces_are_not_lost(server: Server) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    server.create(namespace)
    for spec in ({}, {"finalizers": []}, {"finalizers": ["a.b/c"]}):
        changed = server.ok("update", "namespaces", "n", {**namespace, "spec": spec}, namespace="")
        assert changed["spec"] == {"finalizers": ["kubernetes"]}


def test_a_changed_pod_tolerates_what_a_new_one_does(server: Server) -> None:
    made = server.create(pod())
    spec = {k: v for k, v in made["spec"].items() if k not in ("tolerations", "priority")}
    changed = server.ok("update", "pods", "web", {**made, "spec": spec})
    assert changed == made


def test_a_status_may_take_the_last_finalizer_but_no_owner(server: Server) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "u"}
    wanted = pod()
    wanted["metadata"] |= {"finalizers": ["a.b/c"], "ownerReferences": [owner]}
    server.create(wanted)
    server.ok("delete", "pods", "web")
    patch = {"metadata": {"ownerReferences": None, "finalizers": None}}
    last = server.ok("patch", "pods", "web", patch, patchType="merge", subresource="status")
    assert last["metadata"]["ownerReferences"] == [owner]
    assert server.refused("get", "pods", "web")["code"] == 404


def test_a_lease_is_updated_by_its_version_only(server: Server) -> None:
    made = server.create(LEASE)
    status = server.refused("update", "leases.coordination.k8s.io", "l", LEASE)
    assert status["message"] == (
        'leases.coordination.k8s.io "l" is invalid: metadata.resourceVersion: Invalid value: 0: '
        "must be specified for an update"
    )
    wanted = {**made, "spec": {"holderIdentity": "me"}}
    assert server.ok("update", "leases.coordination.k8s.io", "l", wanted)["spec"] == wanted["spec"]
