"""Certificates as users get them: asked for, approved, and shown instead of a token."""

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubectl_tool import Kubectl
from signing_requests import (
    CLIENT,
    NODE_CLIENT,
    key_pem,
    request_pem,
    signing_request,
)

CALLS = ("client auth", "digital signature")


def ask(kubectl: Kubectl, name: str, *asked: Any, **spec: Any) -> str:
    return kubectl("create -f -", stdin=yaml.safe_dump(signing_request(name, *asked, **spec)))


def refused(kubectl: Kubectl, name: str, *asked: Any, **spec: Any) -> str:
    return kubectl.fails("create -f -", stdin=yaml.safe_dump(signing_request(name, *asked, **spec)))


def shown(kubectl: Kubectl, name: str) -> dict[str, str]:
    """Return the user of a kubeconfig who shows what was signed."""
    kubectl(f"wait csr/{name} --for=jsonpath={{.status.certificate}} --timeout=30s")
    return {
        "client-certificate-data": kubectl.path(f"csr/{name}", ".status.certificate"),
        "client-key-data": base64.b64encode(key_pem()).decode(),
    }


@pytest.fixture
def jane(kubectl: Kubectl, tmp_path: Path) -> Kubectl:
    """kubectl of a user who has a certificate."""
    name = f"{kubectl.namespace}-jane"
    ask(kubectl, name, CLIENT, CALLS, request_pem("jane", ["dev", "ops"]), expirationSeconds=3600)
    kubectl(f"certificate approve {name}")
    config = yaml.safe_load((kubectl.directory / "config").read_text())
    config["users"][0]["user"] = shown(kubectl, name)
    (tmp_path / "config").write_text(yaml.safe_dump(config))
    return Kubectl(tmp_path, kubectl.namespace)


def test_whoever_shows_a_certificate_is_known_by_it(kubectl: Kubectl, jane: Kubectl) -> None:
    told = jane("auth whoami")
    assert "jane" in told and "[dev ops system:authenticated]" in told
    jane("create configmap mine --from-literal=a=b")
    assert "mine" in jane("get configmaps") and "mine" in kubectl("get configmaps")
    jane("get --raw /api/v1/namespaces/default")
    ask(jane, f"{jane.namespace}-two", "example.com/own", CALLS, request_pem("two"))
    name = f"csr/{jane.namespace}-two"
    assert kubectl.path(name, ".spec.username") == "jane"
    assert kubectl.path(name, ".spec.groups") == '["dev","ops","system:authenticated"]'
    row = kubectl(f"get csr {kubectl.namespace}-jane --no-headers").split()
    assert row[2:] == [CLIENT, "system:admin", "60m", "Approved,Issued"]


def test_the_official_client_shows_one(jane: Kubectl) -> None:
    official = pytest.importorskip("kubernetes", reason="pip install kubernetes")
    config = str(jane.directory / "config")
    with official.config.new_client_from_config(config) as api:
        answer = official.client.AuthenticationV1Api(api).create_self_subject_review(
            {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        )
        assert answer.status.user_info.username == "jane"
        assert answer.status.user_info.groups == ["dev", "ops", "system:authenticated"]
        assert official.client.CoreV1Api(api).list_namespaced_pod(jane.namespace).items == []


def test_a_kubelet_gets_its_certificate_by_itself(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-node"
    ask(kubectl, name, NODE_CLIENT, CALLS, request_pem("system:node:n", ["system:nodes"]))
    shown(kubectl, name)
    assert "AutoApproved" in kubectl(f"get csr {name} -o yaml")
    assert kubectl(f"get csr {name} --no-headers").split()[-1] == "Approved,Issued"


def test_what_cannot_be_signed_says_why(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-wrong"
    ask(kubectl, name, CLIENT, ("server auth",), request_pem("jane"))
    kubectl(f"certificate approve {name}")
    kubectl(f"wait csr/{name} --for=condition=Failed --timeout=30s")
    assert "invalid usage for client certificate: server auth" in kubectl(f"get csr {name} -o yaml")
    assert kubectl(f"get csr {name} --no-headers").split()[-1] == "Approved,Failed"
    taken = kubectl.fails(f"certificate deny {name}")
    assert "is already Approved" in taken


def test_what_is_refused_at_once(kubectl: Kubectl) -> None:
    fine = request_pem("jane")
    masters = refused(kubectl, "x", CLIENT, CALLS, request_pem("me", ["system:masters"]))
    assert f"use of {CLIENT} signer with system:masters group is not allowed" in masters
    told = refused(kubectl, "x", "kubernetes.io/legacy-unknown", CALLS, fine)
    assert "the legacy signerName is not allowed via this API version" in told
    told = refused(kubectl, "x", CLIENT, CALLS, fine, expirationSeconds=599)
    assert "may not specify a duration less than 600 seconds (10 minutes)" in told
    assert "PEM block type must be CERTIFICATE REQUEST" in refused(
        kubectl, "x", CLIENT, CALLS, key_pem()
    )
    broken = fine.replace(b"\nMI", b"\nAA", 1)
    assert "spec.request: Invalid value" in refused(kubectl, "x", CLIENT, CALLS, broken)


def test_what_was_decided_stays(kubectl: Kubectl) -> None:
    name = f"{kubectl.namespace}-jane"
    ask(kubectl, name, CLIENT, CALLS, request_pem("jane"))
    added = '{"status":{"conditions":[{"type":"Approved","status":"True","reason":"Me"}]}}'
    told = kubectl.fails(f"patch csr {name} --subresource=status --type=merge -p", added)
    assert 'updates may not add a condition of type "Approved"' in told
    kubectl(f"certificate approve {name}")
    shown(kubectl, name)
    none = '{"status":{"conditions":[]}}'
    told = kubectl.fails(f"patch csr {name} --subresource=approval --type=merge -p", none)
    assert 'updates may not remove a condition of type "Approved"' in told
    other = '{"status":{"certificate":"QUJD"}}'
    told = kubectl.fails(f"patch csr {name} --subresource=status --type=merge -p", other)
    assert "must contain one or more CERTIFICATE PEM blocks" in told
    assert "updates may not modify existing certificate content" in told
