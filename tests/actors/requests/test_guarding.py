"""Pod security at work: pods are refused, what makes pods is warned of, namespaces are checked."""

from typing import Any

import pytest
from request_server import Server, deployment, pod

PREFIX = "pod-security.kubernetes.io/"
NEED = 'container "c" must set securityContext.'
Json = dict[str, Any]
SECURE: Json = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "c",
            "image": "b",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}


def labelled(server: Server, **modes: str) -> Any:
    """Set the labels of the default namespace; return the outcome."""
    labels = {f"{PREFIX}{mode.replace('_', '-')}": level or None for mode, level in modes.items()}
    body = {"metadata": {"labels": labels}}
    return server.ask("patch", "namespaces", "default", body, namespace="", patchType="merge")


def test_a_pod_is_refused() -> None:
    server = Server()
    labelled(server, enforce="restricted")
    told = server.refused("create", "pods", body=pod())
    assert told["message"] == (
        'pods "web" is forbidden: violates PodSecurity "restricted:latest": '
        f"allowPrivilegeEscalation != false ({NEED}allowPrivilegeEscalation=false), "
        f'unrestricted capabilities ({NEED}capabilities.drop=["ALL"]), runAsNonRoot != true '
        f"(pod or {NEED}runAsNonRoot=true), seccompProfile (pod or {NEED}seccompProfile.type to "
        '"RuntimeDefault" or "Localhost")'
    )
    assert (told["code"], told["reason"]) == (403, "Forbidden")
    assert told["details"] == {"name": "web", "kind": "pods"}
    server.create(pod(**SECURE))
    labelled(server, enforce="baseline", enforce_version="v1.30")
    server.create(pod("open"))
    told = server.refused("create", "pods", body=pod("host", hostNetwork=True))
    assert 'violates PodSecurity "baseline:v1.30": host namespaces' in told["message"]


def test_what_makes_pods_is_only_warned_of() -> None:
    server = Server()
    labelled(server, enforce="restricted", warn="baseline")
    assert server.ask("create", "deployments.apps", body=deployment()).warnings == []
    made = deployment("e")
    made["spec"]["template"]["spec"]["hostPID"] = True
    outcome = server.ask("create", "deployments.apps", body=made)
    told = 'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    assert (outcome.code, outcome.warnings) == (201, [told])
    job = {"template": {"spec": {**made["spec"]["template"]["spec"], "restartPolicy": "Never"}}}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "c"},
        "spec": {"schedule": "* * * * *", "jobTemplate": {"spec": job}},
    }
    assert server.ask("create", "cronjobs.batch", body=cron).warnings == [told]


def test_a_refused_pod_is_not_warned_of_and_one_that_comes_is() -> None:
    server = Server()
    labelled(server, enforce="baseline", warn="restricted")
    assert server.ask("create", "pods", body=pod(hostPID=True)).warnings == []
    (told,) = server.ask("create", "pods", body=pod()).warnings
    assert told.startswith('would violate PodSecurity "restricted:latest": allowPrivilege')


def test_only_changes_that_matter_are_checked_again() -> None:
    server = Server()
    server.create(pod())
    labelled(server, enforce="restricted")
    body: Json = {"metadata": {"labels": {"a": "b"}}}
    server.ok("patch", "pods", "web", body, patchType="merge")
    body = {"spec": {"containers": [{"name": "c", "image": "other"}]}}
    told = server.refused("patch", "pods", "web", body, patchType="strategic")
    assert 'violates PodSecurity "restricted:latest"' in told["message"]


def test_the_pods_of_a_namespace_are_looked_at_when_it_becomes_stricter() -> None:
    server = Server()
    owner = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u", "controller": True}
    for name in "ba":
        made = pod(name)
        made["metadata"]["ownerReferences"] = [owner]
        server.create(made)
    server.create(pod("open", hostPID=True))
    server.create(pod("fine", **SECURE))
    few = "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true"
    assert labelled(server, warn="restricted").warnings == []
    assert labelled(server, enforce="restricted").warnings == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"restricted:latest"',
        f"a (and 1 other pod): {few}, seccompProfile",
        f"open: host namespaces, {few}, seccompProfile",
    ]
    assert labelled(server, enforce="baseline").warnings == [], "it is relaxed"
    assert labelled(server, enforce_version="v1.20").warnings == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"baseline:v1.20"',
        "open: host namespaces",
    ]
    assert labelled(server, enforce="privileged").warnings == []


@pytest.mark.parametrize("label", ["enforce", "audit", "warn", "enforce-version"])
def test_labels_have_to_be_right_when_they_change(label: str) -> None:
    server = Server()
    key = f"{PREFIX}{label}"
    wants = (
        '"latest" or "v1.x"' if "version" in label else "one of privileged, baseline, restricted"
    )
    field = f'metadata.labels[{key}]: Invalid value: "x": must be {wants}'
    obj: Json = {"apiVersion": "v1", "kind": "Namespace"}
    new = {**obj, "metadata": {"name": "n", "labels": {key: "x"}}}
    told = server.refused("create", "namespaces", body=new, namespace="")
    assert told["message"] == f'Namespace "n" is invalid: {field}'
    assert told["code"] == 422
    outcome = labelled(server, **{label.replace("-", "_"): "x"})
    assert outcome.code == 422
