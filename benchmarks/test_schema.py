"""What it costs to read an object along its type, to patch it, and to select it.

Sketch: a pod as the API server stores it is about 3 kB of JSON: 60 objects and lists, 150 fields.
A field costs a lookup, a comparison and a store, about 80 ns in CPython; an object or list about
0.4 µs more, most of it calls. So decoding is 150 x 0.08 + 60 x 0.4 = 36 µs. A copy asks less of
each field: 25 µs. A strategic merge patch is one copy and a walk over what the patch touches, a
JSON patch one copy and a look at the depth: 40 µs. A selector of one requirement is a method call
and a lookup: 0.3 µs.
"""

import json
from typing import Any

import pytest

from kubeloop.api.patch import clone, json_patch, merge_patch
from kubeloop.api.resources import RESOURCES
from kubeloop.api.schema import decode_strict
from kubeloop.api.selectors import parse_fields, parse_labels
from kubeloop.api.strategic import strategic_merge_patch


def _container(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": "registry.example/app:1",
        "command": ["/bin/app", "--verbose"],
        "env": [{"name": f"V{i}", "value": str(i)} for i in range(5)],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
        "resources": {
            "limits": {"cpu": "500m", "memory": "128Mi"},
            "requests": {"cpu": "250m", "memory": "64Mi"},
        },
        "readinessProbe": {
            "httpGet": {"path": "/", "port": "http", "scheme": "HTTP"},
            "periodSeconds": 10,
            "timeoutSeconds": 1,
            "successThreshold": 1,
            "failureThreshold": 3,
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "File",
        "imagePullPolicy": "IfNotPresent",
    }


def _condition(kind: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "lastTransitionTime": "2026-11-23T05:58:18Z"}


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "web-7d4b9c5f6-x2x9k",
        "namespace": "default",
        "uid": "5aebaa98-7a13-4bf9-b77c-24dbe19356dd",
        "resourceVersion": "325",
        "generation": 1,
        "creationTimestamp": "2026-11-23T05:58:18Z",
        "labels": {"app": "web", "pod-template-hash": "7d4b9c5f6"},
        "ownerReferences": [
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "name": "web-7d4b9c5f6",
                "uid": "0c1b5b8e-9d54-4f0a-8f7e-0d6b1b0e2f11",
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    },
    "spec": {
        "containers": [_container("app"), _container("sidecar")],
        "volumes": [{"name": "data", "emptyDir": {}}],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute"}] * 2,
        "nodeName": "node-1",
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "serviceAccountName": "default",
        "securityContext": {},
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
    },
    "status": {
        "phase": "Running",
        "conditions": [_condition(k) for k in ("Initialized", "Ready", "PodScheduled")],
        "hostIP": "127.0.0.2",
        "podIP": "10.244.1.5",
        "podIPs": [{"ip": "10.244.1.5"}],
        "startTime": "2026-11-23T05:58:18Z",
    },
}


def test_the_pod_is_of_the_size_the_sketch_assumes() -> None:
    assert 2_500 < len(json.dumps(POD)) < 4_000


def test_decode_a_pod(benchmark: Any) -> None:
    decoded, problems = benchmark(decode_strict, "v1", "Pod", POD)
    assert (decoded, problems) == (POD, [])


def test_copy_a_pod(benchmark: Any) -> None:
    assert benchmark(clone, POD) == POD


def test_strategic_merge_patch_of_a_pod(benchmark: Any) -> None:
    patch = {"spec": {"containers": [{"name": "app", "image": "registry.example/app:2"}]}}
    made = benchmark(strategic_merge_patch, POD, patch, "v1", "Pod")
    assert made["spec"]["containers"][0]["image"] == "registry.example/app:2"


def test_merge_patch_of_a_pod(benchmark: Any) -> None:
    made = benchmark(merge_patch, POD, {"metadata": {"labels": {"a": "b"}}})
    assert made["metadata"]["labels"]["a"] == "b"


def test_json_patch_of_a_pod(benchmark: Any) -> None:
    operations = [{"op": "add", "path": "/metadata/labels/a", "value": "b"}]
    assert benchmark(json_patch, POD, operations)["metadata"]["labels"]["a"] == "b"


@pytest.mark.parametrize("text", ["app=web", "app in (web,db),!canary,pod-template-hash"])
def test_match_labels(benchmark: Any, text: str) -> None:
    assert benchmark(parse_labels(text).matches, POD["metadata"]["labels"])


def test_match_fields(benchmark: Any) -> None:
    selector = parse_fields("spec.nodeName=node-1,status.phase!=Failed", RESOURCES["pods"])
    assert benchmark(selector.matches, POD)
