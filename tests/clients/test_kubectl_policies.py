"""The real kubectl with admission policies: what is refused, warned of and changed."""

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl
pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

POLICIES = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: few.kubectl.example}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [configmaps]}
    objectSelector: {matchLabels: {judge: me}}
  validations:
  - expression: size(object.data) <= 2
    messageExpression: "'too many: ' + string(size(object.data))"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: few}
spec: {policyName: few.kubectl.example, validationActions: [%s]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata: {name: mark.kubectl.example}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
    objectSelector: {matchLabels: {judge: me}}
  reinvocationPolicy: Never
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration: {expression: "Object{data: Object.data{marked: 'yes'}}"}
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata: {name: mark}
spec: {policyName: mark.kubectl.example}
"""
MAP = "{apiVersion: v1, kind: ConfigMap, metadata: {name: judged, labels: {judge: me}}, data: %s}"


def test_policies_refuse_change_and_warn(kubectl: Kubectl) -> None:
    kubectl("apply -f -", stdin=POLICIES % "Deny")
    try:
        assert kubectl("apply -f -", stdin=MAP % "{a: b}") == "configmap/judged created\n"
        assert kubectl("get configmap judged -o jsonpath={.data}") == '{"a":"b","marked":"yes"}'
        told = kubectl.fails("apply -f -", stdin=MAP % "{a: b, c: d}")
        assert "ValidatingAdmissionPolicy 'few.kubectl.example' with binding 'few' denied" in told
        assert "too many: 3" in told
        kubectl("apply -f -", stdin=POLICIES % "Warn")
        told = kubectl("apply -f -", stdin=MAP % "{a: b, c: d}")
        assert told == "configmap/judged configured\n"
        bad = POLICIES.replace("size(object.data) <= 2", "size(object.dat")
        told = kubectl.fails("apply -f -", stdin=bad % "Deny")
        assert "spec.validations[0].expression: Invalid value: " in told
        assert "compilation failed: ERROR: <input>:1:" in told
    finally:
        kubectl("delete -f -", stdin=POLICIES % "Deny")
        kubectl("delete configmap judged --ignore-not-found")
