"""Who may do what, in the hands of the real kubectl: roles, bindings, accounts, tokens."""

import pytest
from kubectl_tool import Kubectl
from test_kubectl_kinds import REQUEST

pytestmark = pytest.mark.kubectl

GROUPS = ("[system:masters", "system:authenticated]")


def test_roles_and_bindings(kubectl: Kubectl) -> None:
    where = kubectl.namespace
    said = kubectl("create role r --verb=get,list --resource=pods,deployments.apps")
    assert said == "role.rbac.authorization.k8s.io/r created\n"
    assert kubectl.json("get role r")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get", "list"]},
    ]
    described = kubectl("describe role r")
    assert "deployments.apps  []                 []              [get list]" in described
    kubectl("create rolebinding b --role=r --user=me --group=us --serviceaccount=default:robot")
    row = kubectl("get rolebinding b -o wide --no-headers").split()
    assert row[:2] + row[3:] == ["b", "Role/r", "me", "us", "default/robot"]
    assert "ServiceAccount  robot  default" in kubectl("describe rolebinding b")
    kubectl(f"create clusterrolebinding {where} --clusterrole=view --user=me")
    assert "ClusterRole/view" in kubectl(f"get clusterrolebinding {where}")
    refused = kubectl.fails(
        "patch rolebinding b --type=merge -p", '{"roleRef": {"kind": "ClusterRole", "name": "x"}}'
    )
    assert "cannot change roleRef" in refused
    kubectl(f"delete clusterrolebinding {where}")


def test_roles_made_of_others(kubectl: Kubectl) -> None:
    name = kubectl.namespace
    label = f"example.com/{name}"
    kubectl(f"create clusterrole {name} --aggregation-rule={label}=yes")
    kubectl(f"create clusterrole {name}-part --verb=get --resource=pods")
    kubectl(f"label clusterrole {name}-part {label}=yes")
    kubectl(f"wait clusterrole/{name} --for=jsonpath={{.rules[0].resources[0]}}=pods")
    kubectl(f"label clusterrole {name}-part {label}-")
    kubectl(f"delete clusterrole {name} {name}-part")


def test_the_roles_every_cluster_has(kubectl: Kubectl) -> None:
    assert kubectl.json("get clusterrole cluster-admin")["rules"] == [
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
        {"nonResourceURLs": ["*"], "verbs": ["*"]},
    ]
    view = kubectl("describe clusterrole view")
    assert "pods/log" in view and "secrets" not in view
    edit = kubectl("describe clusterrole edit")
    assert "secrets" in edit and "pods/log" in edit and "rolebindings" not in edit
    assert "rolebindings.rbac" in kubectl("describe clusterrole admin")
    assert "system:masters" in kubectl("describe clusterrolebinding cluster-admin")
    assert "subjectaccessreviews" in kubectl("describe clusterrole system:auth-delegator")
    assert "/openapi/*" in kubectl("describe clusterrole system:discovery")
    assert "system:authenticated" in kubectl("describe clusterrolebinding system:discovery")


def test_who_am_i_and_what_may_i(kubectl: Kubectl) -> None:
    told = kubectl("auth whoami").split()
    assert told[2:] == ["Username", "system:admin", "Groups", *GROUPS]
    assert kubectl("auth can-i create pods") == "yes\n"
    assert kubectl("auth can-i get /healthz") == "yes\n"
    assert "*.*" in kubectl("auth can-i --list")


def test_a_token_of_an_account(kubectl: Kubectl) -> None:
    kubectl("create serviceaccount robot")
    token = kubectl("create token robot --duration=20m").strip()
    assert token.count(".") == 2
    told = kubectl("auth whoami --token", token)
    where = kubectl.namespace
    assert f"system:serviceaccount:{where}:robot" in told
    assert f"system:serviceaccounts:{where}" in told
    assert kubectl("auth can-i list pods --token", token) == "yes\n"
    review = "{apiVersion: authentication.k8s.io/v1, kind: TokenReview, spec: {token: GIVEN}}"
    answer = kubectl("create -o yaml -f -", stdin=review.replace("GIVEN", token))
    assert "authenticated: true" in answer and "JTI=" in answer
    assert "error:" in kubectl("create -o yaml -f -", stdin=review.replace("GIVEN", f"{token}x"))
    assert "10 minutes" in kubectl.fails("create token robot --duration=5m")
    assert 'serviceaccounts "nobody" not found' in kubectl.fails("create token nobody")
    kubectl("delete serviceaccount robot")
    assert "Unauthorized" in kubectl.fails("get pods --token", token)


def test_approve_and_deny(kubectl: Kubectl) -> None:
    request = (
        "{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {name:"
        " NAME}, spec: {signerName: a.example/b, usages: [client auth], expirationSeconds: 3600,"
        f" request: {REQUEST}}}}}"
    )
    one, other = f"{kubectl.namespace}-1", f"{kubectl.namespace}-2"
    for name in (one, other):
        kubectl("create -f -", stdin=request.replace("NAME", name))
    row = kubectl(f"get csr {one} --no-headers").split()
    assert row[2:] == ["a.example/b", "system:admin", "60m", "Pending"]
    kubectl(f"certificate approve {one}")
    kubectl(f"certificate deny {other}")
    assert "Approved" in kubectl(f"get csr {one}") and "Denied" in kubectl(f"get csr {other}")
    assert "KubectlApprove" in kubectl(f"get csr {one} -o yaml")
    assert "Requesting User:" in kubectl(f"describe csr {one}")
    wish = '{"spec": {"signerName": "c.example/d"}}'
    kubectl(f"patch csr {one} --type=merge -p", wish)  # It stays what it was.
    assert kubectl.path(f"csr/{one}", ".spec.signerName") == "a.example/b"
    kubectl(f"delete csr {one} {other}")
