"""Ingresses, network policies and autoscalers in the hands of the real kubectl."""

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl


def test_create_an_ingress(kubectl: Kubectl) -> None:
    rule = "--rule=a.example/shop*=web:80,tls=cert"
    said = kubectl("create ingress i --class=none", rule)
    assert said == "ingress.networking.k8s.io/i created\n"
    row = kubectl("get ing i --no-headers").split()
    assert row[:5] == ["i", "none", "a.example", "80,", "443"]
    described = kubectl("describe ingress i")
    assert "/shop   web:80" in described and "cert terminates a.example" in described
    refused = kubectl.fails("patch ingress i --type=merge -p", '{"spec": {"rules": []}}')
    assert "either `defaultBackend` or `rules` must be specified" in refused


def test_the_default_class(kubectl: Kubectl) -> None:
    name = kubectl.namespace
    manifest = (
        "{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: NAME, annotations:"
        ' {ingressclass.kubernetes.io/is-default-class: "true"}}, spec: {controller: a.example/b}}'
    )
    kubectl("create -f -", stdin=manifest.replace("NAME", name))
    kubectl("create ingress i --default-backend=web:80")
    assert kubectl.path("ingress/i", ".spec.ingressClassName") == name
    kubectl(f"delete ingressclass {name}")
    kubectl("create ingress j --default-backend=web:80")
    assert kubectl.path("ingress/j", ".spec.ingressClassName") == ""


def test_autoscale(kubectl: Kubectl) -> None:
    kubectl("create deployment web --image=nginx:1")
    said = kubectl("autoscale deployment web --min=2 --max=5 --cpu-percent=60")
    assert said == "horizontalpodautoscaler.autoscaling/web autoscaled\n"
    row = kubectl("get hpa web --no-headers").split()
    assert row[:6] == ["web", "Deployment/web", "cpu:", "<unknown>/60%", "2", "5"]
    old = kubectl.json("get horizontalpodautoscalers.v1.autoscaling web")
    assert old["apiVersion"] == "autoscaling/v1"
    assert old["spec"]["targetCPUUtilizationPercentage"] == 60
    assert "NAME   REFERENCE" in kubectl("get horizontalpodautoscalers.v1.autoscaling web")
    assert "Min replicas:" in kubectl("describe hpa web")
    kubectl(
        "patch horizontalpodautoscalers.v1.autoscaling web -p",
        '{"spec": {"targetCPUUtilizationPercentage": 90}}',
    )
    assert "/90%" in kubectl("get hpa web")


def test_describe_a_policy(kubectl: Kubectl) -> None:
    policy = (
        "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: net}, spec:"
        " {podSelector: {matchLabels: {app: web}}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8}}],"
        " ports: [{port: 53, protocol: UDP}]}]}}"
    )
    kubectl("apply -f -", stdin=policy)
    assert "app=web" in kubectl("get netpol net")
    described = kubectl("describe netpol net")
    assert "CIDR: 10.0.0.0/8" in described and "Policy Types: Ingress, Egress" in described
