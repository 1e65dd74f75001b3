"""Who may do what, in the hands of the real kubectl: roles, bindings, accounts, tokens."""

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl


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
