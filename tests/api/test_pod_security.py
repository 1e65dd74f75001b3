"""The Pod Security Standards: each check in both directions; how levels contain each other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api.admission.pod_security import LATEST, LEVELS, Standard, policy_of, told

Json = dict[str, Any]

FINE: Json = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "a",
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
    ],
}
"""A pod that every level takes."""


def spec(*, pod: Json | None = None, more: Json | None = None, **fields: Any) -> Json:
    """Return the fine pod with another security context, of itself and of its container."""
    container = {**FINE["containers"][0], **(more or {})}
    container["securityContext"] = {
        **FINE["containers"][0]["securityContext"],
        **(more or {}).get("securityContext", {}),
    }
    context = {**FINE["securityContext"], **(pod or {})}
    return {**FINE, "securityContext": context, "containers": [container], **fields}


def secured(**context: Any) -> Json:
    """Return the fine pod whose container has more in its security context."""
    return spec(more={"securityContext": context})


def found(level: str, given: Json, minor: int | None = None, **notes: str) -> str:
    """Return what a pod violates, as errors tell it."""
    pod = {"metadata": {"name": "p", "annotations": notes}, "spec": given}
    return told(Standard(level, minor).broken_by(pod))


SELINUX = "set forbidden securityContext.seLinuxOptions:"
BASELINE: list[tuple[Json, str]] = [
    (spec(hostNetwork=True), "host namespaces (hostNetwork=true)"),
    (spec(hostPID=True, hostIPC=True), "host namespaces (hostIPC=true, hostPID=true)"),
    (secured(privileged=True),
     'privileged (container "a" must not set securityContext.privileged=true)'),
    (secured(capabilities={"drop": ["ALL"], "add": ["NET_ADMIN", "CHOWN", "BPF"]}),
     'non-default capabilities (container "a" must not include "BPF", "NET_ADMIN" in '
     "securityContext.capabilities.add)"),
    (spec(volumes=[{"name": "v", "hostPath": {"path": "/"}}]), 'hostPath volumes (volume "v")'),
    (spec(volumes=[{"name": n, "hostPath": {"path": "/"}} for n in "vw"]),
     'hostPath volumes (volumes "v", "w")'),
    (spec(more={"ports": [{"hostPort": 80}, {"hostPort": 443}, {"containerPort": 1}]}),
     'hostPort (container "a" uses hostPorts 443, 80)'),
    (spec(initContainers=[{**FINE["containers"][0], "name": "i", "ports": [{"hostPort": 1}]}]),
     'hostPort (container "i" uses hostPort 1)'),
    (spec(more={"livenessProbe": {"httpGet": {"host": "x"}}}),
     'probe or lifecycle host (container "a" uses probe or lifecycle host "x")'),
    (spec(more={"lifecycle": {"preStop": {"tcpSocket": {"host": "x"}}},
                "startupProbe": {"httpGet": {"host": "y"}}}),
     'probe or lifecycle host (container "a" uses probe or lifecycle hosts "x", "y")'),
    (secured(appArmorProfile={"type": "Unconfined"}),
     'forbidden AppArmor profile (container "a" must not set AppArmor profile type to '
     '"Unconfined")'),
    (spec(pod={"seLinuxOptions": {"type": "x"}}), f'seLinuxOptions (pod {SELINUX} type "x")'),
    (spec(pod={"seLinuxOptions": {"user": "u"}},
          more={"securityContext": {"seLinuxOptions": {"role": "r", "type": "z"}}}),
     f'seLinuxOptions (pod and container "a" {SELINUX} type "z"; user may not be set; role may '
     "not be set)"),
    (secured(procMount="Unmasked"),
     'procMount (container "a" must not set securityContext.procMount to "Unmasked")'),
    (spec(pod={"seccompProfile": {"type": "Unconfined"}}),
     'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
    (spec(pod={"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.core.somaxconn"}]}),
     "forbidden sysctls (kernel.msgmax, net.core.somaxconn)"),
    (spec(pod={"windowsOptions": {"hostProcess": True}}),
     "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)"),
    (secured(windowsOptions={"hostProcess": True}),
     'hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)'),
]  # fmt: skip
RESTRICTED: list[tuple[Json, str]] = [
    (secured(allowPrivilegeEscalation=None),
     'allowPrivilegeEscalation != false (container "a" must set '
     "securityContext.allowPrivilegeEscalation=false)"),
    (secured(capabilities=None),
     'unrestricted capabilities (container "a" must set '
     'securityContext.capabilities.drop=["ALL"])'),
    (secured(capabilities={"add": ["CHOWN"]}),
     'unrestricted capabilities (container "a" must set securityContext.capabilities.drop=["ALL"];'
     ' container "a" must not include "CHOWN" in securityContext.capabilities.add)'),
    (spec(volumes=[{"name": "v", "nfs": {}}]),
     'restricted volume types (volume "v" uses restricted volume type "nfs")'),
    (spec(volumes=[{"name": "v", "nfs": {}}, {"name": "e", "emptyDir": {}}, {"name": "w"}]),
     'restricted volume types (volumes "v", "w" use restricted volume types "nfs", "unknown")'),
    (spec(pod={"runAsNonRoot": None}),
     'runAsNonRoot != true (pod or container "a" must set securityContext.runAsNonRoot=true)'),
    (spec(pod={"runAsNonRoot": False}, more={"securityContext": {"runAsNonRoot": True}}),
     "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)"),
    (secured(runAsNonRoot=False),
     'runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)'),
    (spec(pod={"runAsUser": 0}), "runAsUser=0 (pod must not set runAsUser=0)"),
    (secured(runAsUser=0), 'runAsUser=0 (container "a" must not set runAsUser=0)'),
    (spec(pod={"seccompProfile": None}),
     'seccompProfile (pod or container "a" must set securityContext.seccompProfile.type to '
     '"RuntimeDefault" or "Localhost")'),
]  # fmt: skip
REPLACED = ("non-default capabilities", "hostPath volumes")


@pytest.mark.parametrize(("given", "why"), BASELINE)
def test_what_the_baseline_forbids(given: Json, why: str) -> None:
    assert found("privileged", given) == ""
    assert found("baseline", given) == why
    restricted = found("restricted", given)
    if why.startswith(REPLACED):
        assert restricted.startswith(("unrestricted capabilities", "restricted volume types"))
    else:
        assert restricted == why


@pytest.mark.parametrize(("given", "why"), RESTRICTED)
def test_what_is_restricted(given: Json, why: str) -> None:
    assert found("baseline", given) == ""
    assert found("restricted", given) == why


@pytest.mark.parametrize(
    "given",
    [
        FINE,
        spec(volumes=[{"name": k, k: {}} for k in ("configMap", "csi", "image", "projected")]),
        secured(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, runAsUser=7),
        secured(seccompProfile={"type": "Localhost"}, seLinuxOptions={"type": "container_t"}),
        spec(pod={"sysctls": [{"name": "net.ipv4.tcp_rmem"}], "seLinuxOptions": {}}),
        spec(pod={"seccompProfile": None},
             more={"securityContext": {"seccompProfile": {"type": "RuntimeDefault"}}}),
        spec(pod={"runAsNonRoot": None}, more={"securityContext": {"runAsNonRoot": True}}),
        spec(pod={"runAsNonRoot": None, "runAsUser": 0}, hostUsers=False),
        secured(appArmorProfile={"type": "Localhost"}, procMount="Default", privileged=False),
        spec(more={"livenessProbe": {"httpGet": {"port": 1}}, "ports": [{"containerPort": 1}]}),
        {"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": True},
         "containers": [{"name": "a"}]},
    ],
)  # fmt: skip
def test_what_every_level_takes(given: Json) -> None:
    assert [found(level, given) for level in LEVELS] == ["", "", ""]


@pytest.mark.parametrize(
    ("level", "given", "forbids", "takes"),
    [
        ("baseline", spec(more={"livenessProbe": {"httpGet": {"host": "x"}}}), 34, 33),
        ("baseline", spec(pod={"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}), 31, 32),
        ("baseline", spec(pod={"sysctls": [{"name": "net.ipv4.tcp_keepalive_time"}]}), 28, 29),
        ("baseline", spec(pod={"sysctls": [{"name": "net.ipv4.ip_local_reserved_ports"}]}), 26, 27),
        ("baseline", spec(pod={"seLinuxOptions": {"type": "container_engine_t"}}), 30, 31),
        ("baseline", spec(hostUsers=False, more={"securityContext": {"procMount": "x"}}), 34, 35),
        ("restricted", secured(runAsUser=0), 23, 22),
        ("restricted", secured(allowPrivilegeEscalation=None), 8, 7),
        ("restricted", secured(capabilities=None), 22, 21),
        ("restricted", spec(pod={"seccompProfile": None}), 19, 18),
        ("restricted", {**secured(capabilities=None), "os": {"name": "windows"}}, 24, 25),
        ("restricted", spec(hostUsers=False, pod={"runAsNonRoot": None}), 34, 35),
        ("restricted", spec(hostUsers=False, pod={"runAsUser": 0}), 34, 35),
    ],
)
def test_a_check_counts_from_its_version_on(
    level: str, given: Json, forbids: int, takes: int
) -> None:
    assert found(level, given, forbids)
    assert found(level, given, takes) == ""


def test_annotations() -> None:
    note = "container.apparmor.security.beta.kubernetes.io/a"
    assert found("baseline", FINE, **{note: "localhost/x"}) == ""
    assert found("baseline", FINE, **{note: "unconfined"}) == (
        f"forbidden AppArmor profile (annotation must not set AppArmor profile type to "
        f'"{note}="unconfined"")'
    )
    note = "container.seccomp.security.alpha.kubernetes.io/a"
    assert found("baseline", FINE, 18, **{note: "docker/default"}) == ""
    assert found("baseline", FINE, 19, **{note: "unconfined"}) == ""
    assert found("baseline", FINE, 18, **{note: "unconfined"}) == (
        f'seccompProfile (forbidden annotation {note}="unconfined")'
    )


def test_all_is_told_in_order() -> None:
    given = {
        "hostPID": True,
        "containers": [{"name": "a"}, {"name": "b", "securityContext": {"privileged": True}}],
    }
    both = 'containers "a", "b"'
    assert found("restricted", given) == (
        'host namespaces (hostPID=true), privileged (container "b" must not set '
        "securityContext.privileged=true), allowPrivilegeEscalation != false "
        f"({both} must set securityContext.allowPrivilegeEscalation=false), unrestricted "
        f'capabilities ({both} must set securityContext.capabilities.drop=["ALL"]), '
        f"runAsNonRoot != true (pod or {both} must set securityContext.runAsNonRoot=true), "
        f"seccompProfile (pod or {both} must set securityContext.seccompProfile.type to "
        '"RuntimeDefault" or "Localhost")'
    )


def choice(*values: Any) -> st.SearchStrategy[Any]:
    return st.none() | st.sampled_from(values)


contexts = st.fixed_dictionaries(
    {},
    optional={
        "privileged": choice(True, False),
        "allowPrivilegeEscalation": choice(True, False),
        "runAsNonRoot": choice(True, False),
        "runAsUser": choice(0, 1),
        "procMount": choice("Default", "Unmasked"),
        "capabilities": st.fixed_dictionaries(
            {},
            optional={
                "add": st.lists(st.sampled_from(["CHOWN", "NET_ADMIN", "NET_BIND_SERVICE"])),
                "drop": st.lists(st.sampled_from(["ALL", "CHOWN"])),
            },
        ),
        "seccompProfile": st.none()
        | st.sampled_from(["RuntimeDefault", "Localhost", "Unconfined"]).map(
            lambda one: {"type": one}
        ),
        "seLinuxOptions": st.sampled_from(
            [{}, {"type": "x"}, {"type": "container_t"}, {"user": "u"}]
        ),
        "appArmorProfile": st.sampled_from([{"type": "Unconfined"}, {"type": "RuntimeDefault"}]),
    },
)
containers = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from("abc")},
        optional={
            "securityContext": contexts,
            "ports": st.sampled_from([[], [{"hostPort": 1}], [{"containerPort": 1}]]),
            "readinessProbe": st.sampled_from([{"tcpSocket": {"host": "x"}}, {"tcpSocket": {}}]),
        },
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda one: one["name"],
)
specs = st.fixed_dictionaries(
    {"containers": containers},
    optional={
        "securityContext": contexts,
        "initContainers": containers,
        "hostNetwork": choice(True, False),
        "hostUsers": choice(True, False),
        "volumes": st.lists(
            st.sampled_from([{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}},
                             {"name": "e", "emptyDir": {}}])
        ),
    },
)  # fmt: skip


@given(specs, st.none() | st.integers(0, LATEST + 2))
def test_what_a_level_takes_a_weaker_one_takes(given: Json, minor: int | None) -> None:
    assert found("privileged", given, minor) == ""
    if not found("restricted", given, minor):
        assert not found("baseline", given, minor)


@given(specs)
def test_a_version_to_come_is_the_latest(given: Json) -> None:
    for level in LEVELS:
        assert found(level, given, LATEST) == found(level, given, 99) == found(level, given)


@pytest.mark.parametrize(
    ("labels", "enforce", "warn", "says"),
    [
        ({}, "privileged:latest", "privileged:latest", ""),
        ({"enforce": "baseline"}, "baseline:latest", "privileged:latest", ""),
        ({"enforce": "baseline", "enforce-version": "v1.25", "warn": "restricted"},
         "baseline:v1.25", "restricted:latest", ""),
        ({"warn": "restricted", "warn-version": "latest"},
         "privileged:latest", "restricted:latest", ""),
        ({"enforce": "strict"}, "restricted:latest", "privileged:latest",
         'metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be '
         "one of privileged, baseline, restricted"),
        ({"warn": "x", "audit-version": "1.2"}, "privileged:latest", "privileged:latest",
         'metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: "1.2": must be '
         '"latest" or "v1.x" metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "x": '
         "must be one of privileged, baseline, restricted"),
    ],
)  # fmt: skip
def test_labels(labels: dict[str, str], enforce: str, warn: str, says: str) -> None:
    told = policy_of({f"pod-security.kubernetes.io/{k}": v for k, v in labels.items()})
    assert (str(told.enforce), str(told.warn)) == (enforce, warn)
    assert " ".join(f"{cause.field}: {cause.message}" for cause in told.problems) == says
