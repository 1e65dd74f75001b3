"""What is refused, and in which words: a table of bad manifests; and that good ones pass.

The table is data (`bad_manifests/*.yaml`), so that the same cases can be put to a whole server.
"""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.requests.patching import StrictProblem
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.errors import ApiError, Invalid
from kubeloop.api.problems import Problems, quote, show
from kubeloop.api.resources import BY_KIND, RESOURCES, Resource
from kubeloop.api.schema import decode_strict
from kubeloop.api.validation import validate_create, validate_status_update, validate_update

Json = dict[str, Any]

CASES = [
    pytest.param(case, id=f"{path.stem}: {case['name']}")
    for path in sorted((Path(__file__).parent / "bad_manifests").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text())
]


def prepared(manifest: Json) -> tuple[Resource, Json]:
    """Return a manifest as validation gets to see it. Raises: ApiError, if it is not decoded."""
    resource = BY_KIND[manifest["apiVersion"], manifest["kind"]]
    obj, unknown = decode_strict(manifest["apiVersion"], manifest["kind"], manifest, ())
    if unknown:
        raise StrictProblem(resource, unknown)
    if resource.namespaced:
        obj["metadata"]["namespace"] = "default"
    obj["metadata"]["resourceVersion"] = "1"
    apply_defaults(resource, obj)
    return resource, obj


def refusal(case: Json) -> Json | None:
    """Return the Status that answers a case, None if it is let through."""
    try:
        resource, obj = prepared(copy.deepcopy(case["manifest"]))
    except ApiError as error:
        return error.status()
    if "update_of" in case:
        old = prepared(copy.deepcopy(case["update_of"]))[1]
        assert validate_create(resource, old) == []
        causes = validate_update(resource, obj, old)
    else:
        causes = validate_create(resource, obj)
    name = obj["metadata"].get("name") or ""
    return Invalid(resource.kind, name, causes, group=resource.group).status() if causes else None


def test_there_are_enough_cases() -> None:
    names = [case.values[0]["name"] for case in CASES]
    assert len(names) >= 50
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES)
def test_a_bad_manifest_is_refused_in_kubernetes_words(case: Json) -> None:
    status = refusal(case)
    assert status is not None, "it was let through"
    assert (status["message"], status["code"]) == (case["message"], case["code"])


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_names_the_field_and_the_reason(case: Json) -> None:
    status = refusal(case)
    assert status is not None
    for cause in status.get("details", {}).get("causes", ()):
        assert cause["reason"].startswith("FieldValue")
        assert f"{cause['field']}: {cause['message']}" in status["message"]


labels = st.dictionaries(
    st.sampled_from(["app", "x.y/tier", "a_b"]), st.sampled_from(["", "a", "B-1"])
)
names = st.from_regex(r"[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
metadata = st.fixed_dictionaries({"name": names}, optional={"labels": labels})
probes = st.one_of(
    st.just({"httpGet": {"port": 80}}),
    st.just({"tcpSocket": {"port": "web"}, "periodSeconds": 1}),
    st.just({"exec": {"command": ["true"]}, "initialDelaySeconds": 0}),
)
containers = st.fixed_dictionaries(
    {"name": names, "image": st.sampled_from(["a", "a/b:1"])},
    optional={
        "ports": st.lists(
            st.fixed_dictionaries({"containerPort": st.integers(1, 65535)}), max_size=3
        ),
        "env": st.lists(st.just({"name": "A", "value": "b"}), max_size=2),
        "livenessProbe": probes,
        "readinessProbe": probes,
        "resources": st.sampled_from(
            [
                {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                {"limits": {"example.com/gpu": "2"}},
                {"requests": {"ephemeral-storage": "1k"}},
            ]
        ),
        "volumeMounts": st.just([{"name": "data", "mountPath": "/data", "subPath": "a/b"}]),
    },
)
tolerations = st.sampled_from(
    [
        {"operator": "Exists"},
        {"key": "a", "value": "b", "effect": "NoSchedule"},
        {"key": "x.y/a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3},
    ]
)
specs = st.fixed_dictionaries(
    {
        "containers": st.lists(containers, min_size=1, max_size=3, unique_by=lambda c: c["name"]),
        "volumes": st.just([{"name": "data"}, {"name": "config", "configMap": {"name": "c"}}]),
    },
    optional={
        "tolerations": st.lists(tolerations, max_size=2),
        "nodeSelector": labels,
        "terminationGracePeriodSeconds": st.integers(0, 60),
        "hostname": names,
    },
)
pods = st.fixed_dictionaries({"metadata": metadata, "spec": specs})


@st.composite
def workloads(draw: st.DrawFn) -> tuple[str, Json]:
    kind = draw(st.sampled_from(["replicasets.apps", "deployments.apps", "replicationcontrollers"]))
    found = {"app": "a", **draw(labels)}
    selector = found if kind == "replicationcontrollers" else {"matchLabels": found}
    template = {"metadata": {"labels": {**found, "more": "x"}}, "spec": draw(specs)}
    spec = {"replicas": draw(st.integers(0, 9)), "selector": selector, "template": template}
    return kind, {"metadata": draw(metadata), "spec": spec}


@st.composite
def services(draw: st.DrawFn) -> tuple[str, Json]:
    kind = draw(st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]))
    spec: Json = {"type": kind, "externalName": "a.b"} if kind == "ExternalName" else {"type": kind}
    numbers = draw(st.lists(st.integers(1, 65535), min_size=1, max_size=3, unique=True))
    if kind != "ExternalName":
        spec["ports"] = [{"name": f"p{n}", "port": n} for n in numbers if n != 10250] or [
            {"port": 1}
        ]
        spec["sessionAffinity"] = draw(st.sampled_from(["None", "ClientIP"]))
    return "services", {"metadata": draw(metadata), "spec": {**spec, "selector": draw(labels)}}


@given(st.one_of(st.tuples(st.just("pods"), pods), workloads(), services()))
def test_what_is_good_passes_when_new_and_when_unchanged(case: tuple[str, Json]) -> None:
    name, obj = case
    obj["metadata"]["namespace"] = "default"
    apply_defaults(RESOURCES[name], obj)
    assert validate_create(RESOURCES[name], obj) == []
    obj["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    assert validate_update(RESOURCES[name], obj, copy.deepcopy(obj)) == []
    assert validate_status_update(RESOURCES[name], obj, copy.deepcopy(obj)) == []


def running_pod(**spec: Any) -> Json:
    pod = {
        "metadata": {"name": "p", "namespace": "default", "resourceVersion": "1"},
        "spec": {"containers": [{"name": "c", "image": "b:1"}], **spec},
    }
    apply_defaults(RESOURCES["pods"], pod)
    return pod


def change(pod: Json, **spec: Any) -> list[str]:
    """Return what is said of a pod whose spec is changed so."""
    new = copy.deepcopy(pod)
    new["spec"] |= spec
    return [f"{c.field}: {c.message}" for c in validate_update(RESOURCES["pods"], new, pod)]


def test_only_a_few_fields_of_a_pod_may_change() -> None:
    pod = running_pod(activeDeadlineSeconds=30, tolerations=[{"operator": "Exists"}])
    more = [*pod["spec"]["tolerations"], {"key": "a", "operator": "Exists"}]
    container = pod["spec"]["containers"][0]
    assert change(pod, containers=[{**container, "image": "b:2"}]) == []
    assert change(pod, activeDeadlineSeconds=10, tolerations=more) == []
    assert (
        change(running_pod(terminationGracePeriodSeconds=-1), terminationGracePeriodSeconds=1) == []
    )
    missing = [{**container, "image": ""}]
    assert set(change(pod, containers=missing)) == {"spec.containers[0].image: Required value"}
    forgotten = "existing toleration can not be modified except its tolerationSeconds"
    assert change(pod, tolerations=[]) == [f"spec.tolerations: Forbidden: {forgotten}"]


def test_a_forbidden_change_of_a_pod_is_shown_as_a_difference() -> None:
    (told,) = change(running_pod(), nodeName="elsewhere")
    head, _, difference = told.partition("\n")
    assert head == (
        "spec: Forbidden: pod updates may not change fields other than"
        " `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
        "`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously"
        " negative)"
    )
    assert '-  "nodeName": "elsewhere",' in difference.splitlines()


def test_a_dead_container_stays_dead_if_its_pod_is_never_restarted() -> None:
    old = running_pod(restartPolicy="Never")
    old["status"]["containerStatuses"] = [{"name": "c", "state": {"terminated": {"exitCode": 1}}}]
    new = copy.deepcopy(old)
    new["status"]["containerStatuses"] = [{"name": "c", "state": {"running": {}}}]
    said = [c.field for c in validate_status_update(RESOURCES["pods"], new, old)]
    assert said == ["status.containerStatuses[0].state"]
    new["spec"]["nodeName"] = "n"
    said = [c.field for c in validate_status_update(RESOURCES["pods"], new, old)]
    assert said[0] == "status.nodeName"
    for pod in (old, new):
        pod["spec"] |= {"restartPolicy": "OnFailure", "nodeName": "n"}
    assert validate_status_update(RESOURCES["pods"], new, old) == []


def test_nobody_gives_a_finalizer_to_what_is_being_deleted() -> None:
    old = {"metadata": {"name": "c", "namespace": "default", "deletionTimestamp": "t"}}
    new = copy.deepcopy(old)
    new["metadata"] |= {"finalizers": ["a/c", "a/b"]}
    causes = validate_update(RESOURCES["configmaps"], new, old)
    text = (
        "Forbidden: no new finalizers can be added if the object is being deleted,"
        ' found new finalizers []string{"a/b", "a/c"}'
    )
    assert [(c.field, c.message) for c in causes] == [("metadata.finalizers", text)] * 2


def test_who_an_object_is_does_not_change() -> None:
    old = {"metadata": {"name": "c", "namespace": "default", "uid": "u", "generation": 3}}
    changed = {"name": "d", "uid": "v", "generation": 2, "deletionTimestamp": "t"}
    new = {"metadata": {**old["metadata"], **changed}}
    fields = {c.field for c in validate_update(RESOURCES["configmaps"], new, old)}
    assert fields == {f"metadata.{key}" for key in changed}
    left_out = {"metadata": {"name": "c", "namespace": "default"}}
    assert validate_update(RESOURCES["configmaps"], left_out, old) == []


def test_a_lease_is_only_changed_by_who_has_seen_it() -> None:
    lease = {"metadata": {"name": "l", "namespace": "default"}, "spec": {}}
    (cause,) = validate_update(RESOURCES["leases.coordination.k8s.io"], lease, lease)
    assert cause.message == "Invalid value: 0: must be specified for an update"


def test_annotations_and_data_have_a_largest_size() -> None:
    notes = {"metadata": {"name": "c", "namespace": "d", "annotations": {"a": "x" * 262_144}}}
    (cause,) = validate_create(RESOURCES["configmaps"], notes)
    assert cause.message == "Too long: may not be more than 262144 bytes"
    large = {"metadata": {"name": "c", "namespace": "d"}, "data": {"a": "x" * (2**20 + 1)}}
    (cause,) = validate_create(RESOURCES["configmaps"], large)
    assert (cause.field, cause.reason) == ("[]", "FieldValueTooLong")
    large["data"] = {"a": "x" * 2**20}
    assert validate_create(RESOURCES["configmaps"], large) == []


def test_counts_of_a_status_fit_together() -> None:
    status = {"replicas": 1, "readyReplicas": 2, "availableReplicas": 3, "updatedReplicas": -1}
    obj = {"metadata": {"name": "d", "namespace": "x"}, "status": status}
    causes = validate_status_update(RESOURCES["deployments.apps"], obj, obj)
    assert [c.field for c in causes] == [
        "status.updatedReplicas",
        "status.readyReplicas",
        "status.availableReplicas",
        "status.availableReplicas",
    ]


def test_a_node_has_no_negative_and_no_broken_amounts() -> None:
    node = {"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "-1", "pods": "1500m"}}}
    said = [(c.field, c.message) for c in validate_create(RESOURCES["nodes"], node)]
    assert said == [
        ("status.capacity.cpu", 'Invalid value: "-1": must be greater than or equal to 0'),
        ("status.capacity.pods", 'Invalid value: "1500m": must be an integer'),
    ]


@pytest.mark.parametrize(
    ("deleted", "phase", "good"),
    [(False, "Active", True), (False, "Terminating", False), (True, "Terminating", True)],
)
def test_a_namespace_is_terminating_when_it_is_deleted(
    deleted: bool, phase: str, good: bool
) -> None:
    meta = {"name": "n", **({"deletionTimestamp": "t"} if deleted else {})}
    obj = {"metadata": meta, "status": {"phase": phase}}
    assert (validate_status_update(RESOURCES["namespaces"], obj, obj) == []) == good


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_any_value_can_be_shown(value: Any) -> None:
    problems = Problems()
    problems.invalid("a", value, "bad")
    assert problems[0].message == f"Invalid value: {show(value)}: bad"


def test_values_are_shown_as_go_prints_them() -> None:
    assert quote('a"\\\n\x01é\u200b\U0001f600') == '"a\\"\\\\\\n\\x01é\\u200b\U0001f600"'
    assert show({"a": [1, None, True, "<"]}) == '{"a":[1,null,true,"\\u003c"]}'
    assert show(2.0) == "2"
