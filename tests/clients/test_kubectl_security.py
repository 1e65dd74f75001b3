"""The real kubectl with the security of pods: what a namespace refuses, and warns of."""

import pytest
from kubectl_tool import Kubectl

pytestmark = pytest.mark.kubectl

NEEDS = 'container "web" must set securityContext.'


def test_a_namespace_says_which_pods_it_takes(kubectl: Kubectl) -> None:
    space = kubectl.namespace
    kubectl("run web --image=b")
    told = kubectl.run(f"label namespace {space} pod-security.kubernetes.io/enforce=restricted")
    assert (
        f'Warning: existing pods in namespace "{space}" violate the new PodSecurity enforce level '
        '"restricted:latest"' in told.stderr
    )
    assert "Warning: web: allowPrivilegeEscalation != false, unrestricted" in told.stderr
    kubectl("delete pod web --now")
    refused = kubectl.fails("run web --image=b")
    assert 'pods "web" is forbidden: violates PodSecurity "restricted:latest": ' in refused
    assert f"allowPrivilegeEscalation != false ({NEEDS}allowPrivilegeEscalation=false)" in refused
    told = kubectl.run(f"label --overwrite namespace {space} "
                       "pod-security.kubernetes.io/enforce=baseline "
                       "pod-security.kubernetes.io/warn=restricted")  # fmt: skip
    assert told.returncode == 0 and "Warning" not in told.stderr
    told = kubectl.run("create deployment web --image=b")
    assert told.returncode == 0
    assert 'Warning: would violate PodSecurity "restricted:latest": ' in told.stderr
    refused = kubectl.fails(f"label --overwrite namespace {space} "
                            "pod-security.kubernetes.io/enforce=strict")  # fmt: skip
    assert "must be one of privileged, baseline, restricted" in refused
