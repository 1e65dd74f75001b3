"""Defaults fill gaps and change nothing that was said; as recorded from a real server."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.requests.jobs import choose
from kubeloop.actors.requests.stored_versions import remember
from kubeloop.actors.requests.strategies import strategy
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.defaulting.pods import pull_policy
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.kinds.row import QUESTION
from kubeloop.api.resources import BY_KIND, RESOURCES

RECORDED = Path(__file__).parents[2].parent / "shared/facts/apiserver-1.36.2.jsonl"
FIRST_APPLY = 84  # The row in which server-side apply creates a Deployment.

# What admission, allocation and controllers add is theirs to test.
NOT_OURS = {
    "metadata",
    "spec.clusterIP",
    "spec.clusterIPs",
    "spec.nodeName",
    "spec.ports.nodePort",
    "spec.preemptionPolicy",
    "spec.priority",
    "spec.serviceAccount",
    "spec.serviceAccountName",
    "spec.taints",
    "spec.tolerations",
    "spec.volumes",
    "spec.containers.volumeMounts",
    "status.conditions",
    "status.lastPhaseTransitionTime",
    "status.qosClass",
}
PRUNED = {"foo"}  # An unknown field: decoding drops it.


def recorded() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Yield what was created on a real server, and what it answered."""
    if not RECORDED.is_file():
        return
    for line in RECORDED.read_text().splitlines():
        row = json.loads(line)
        body = row.get("body")
        created = row["method"] == "POST" or row["n"] == FIRST_APPLY
        if not created or row["status"] not in (200, 201):
            continue
        if isinstance(body, str):
            body = yaml.safe_load(body)
        known = isinstance(body, dict) and (body.get("apiVersion"), body.get("kind")) in BY_KIND
        if known and BY_KIND[body["apiVersion"], body["kind"]].verbs == QUESTION:
            continue  # What is answered is no default.
        if known and row["response"]["kind"] == body["kind"]:
            yield f"{row['n']} {row['name']}", body, row["response"]


ROWS = list(recorded())


@pytest.mark.skipif(not ROWS, reason="no recorded answers beside this checkout")
@pytest.mark.parametrize(("body", "answer"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_a_real_server_fills_in_the_same(body: dict[str, Any], answer: dict[str, Any]) -> None:
    if body["kind"] == "Job":
        body["metadata"]["uid"] = answer["metadata"]["uid"]
        choose(body)
    resource = BY_KIND[body["apiVersion"], body["kind"]]
    if resource.id == DEFINITIONS:
        body["status"] = dict(strategy(resource).status or {})
        remember(body)
    apply_defaults(resource, body)
    assert list(differences("", body, answer)) == []


def differences(path: str, ours: Any, theirs: Any) -> Iterator[str]:
    if path in NOT_OURS or path in PRUNED:
        return
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in ours.keys() | theirs.keys():
            yield from differences(
                f"{path}.{key}".lstrip("."), ours.get(key, ...), theirs.get(key, ...)
            )
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for one, other in zip(ours, theirs, strict=True):
            yield from differences(path, one, other)
    elif ours != theirs:
        yield f"{path}: {ours!r} where a real server has {theirs!r}"


def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Return dicts with any of `fields`."""
    return st.fixed_dictionaries({}, optional=fields)


amounts = st.sampled_from(["1", "500m", "128Mi", "1k", "2Gi"])
resource_lists = some(cpu=amounts, memory=amounts)
policies = st.sampled_from(["Always", "Never", "OnFailure"])
probes = some(
    httpGet=some(path=st.just("/x"), port=st.just(80), scheme=st.just("HTTPS")),
    timeoutSeconds=st.integers(1, 9),
    failureThreshold=st.integers(1, 9),
)
containers = some(
    name=st.just("c"),
    image=st.sampled_from(["a", "a:1", "a:latest", "b/c@sha256:" + "0" * 64, ""]),
    imagePullPolicy=policies,
    ports=st.lists(some(containerPort=st.just(80), protocol=st.just("UDP")), max_size=2),
    resources=some(limits=resource_lists, requests=resource_lists),
    readinessProbe=probes,
    env=st.lists(some(name=st.just("A"), valueFrom=some(fieldRef=some(fieldPath=st.just("x"))))),
)
volumes = some(
    name=st.just("v"),
    secret=some(secretName=st.just("s"), defaultMode=st.just(0)),
    hostPath=some(path=st.just("/x"), type=st.just("File")),
    projected=some(sources=st.lists(some(serviceAccountToken=some(path=st.just("t"))), max_size=2)),
)
pod_specs = some(
    containers=st.lists(containers, max_size=2),
    initContainers=st.lists(containers, max_size=1),
    volumes=st.lists(volumes, max_size=2),
    restartPolicy=policies,
    hostNetwork=st.booleans(),
    enableServiceLinks=st.booleans(),
    terminationGracePeriodSeconds=st.integers(0, 9),
    securityContext=some(runAsUser=st.just(1)),
)
metadata = some(name=st.just("x"), labels=st.just({"a": "b"}))
templates = some(metadata=metadata, spec=pod_specs)
strategies = some(
    type=st.sampled_from(["RollingUpdate", "Recreate"]),
    rollingUpdate=some(maxSurge=st.integers(0, 3), maxUnavailable=st.just("10%")),
)
objects = st.one_of(
    st.tuples(st.just("pods"), some(metadata=metadata, spec=pod_specs)),
    st.tuples(
        st.sampled_from(["replicasets.apps", "replicationcontrollers", "deployments.apps"]),
        some(
            metadata=metadata,
            spec=some(replicas=st.integers(0, 9), template=templates, strategy=strategies),
        ),
    ),
    st.tuples(
        st.just("services"),
        some(
            metadata=metadata,
            spec=some(
                type=st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
                clusterIP=st.sampled_from(["None", "10.96.0.9"]),
                selector=st.just({"a": "b"}),
                sessionAffinity=st.sampled_from(["None", "ClientIP"]),
                ports=st.lists(some(port=st.just(80), targetPort=st.just("http")), max_size=2),
            ),
        ),
    ),
    st.tuples(
        st.sampled_from(["namespaces", "nodes", "secrets", "events", "configmaps"]),
        some(
            metadata=metadata,
            spec=some(podCIDR=st.just("10.244.0.0/24"), finalizers=st.just(["a/b"])),
            status=some(capacity=resource_lists),
            type=st.just("T"),
        ),
    ),
)


@given(objects)
def test_twice_is_once(case: tuple[str, dict[str, Any]]) -> None:
    name, obj = case
    apply_defaults(RESOURCES[name], obj)
    once = copy.deepcopy(obj)
    apply_defaults(RESOURCES[name], obj)
    assert obj == once


@given(objects)
def test_what_was_said_stays(case: tuple[str, dict[str, Any]]) -> None:
    name, obj = case
    said = copy.deepcopy(obj)
    apply_defaults(RESOURCES[name], obj)
    assert list(lost("", said, obj)) == []


def lost(path: str, said: Any, filled: Any) -> Iterator[str]:
    """Yield what the author said and the defaults did not keep."""
    if isinstance(said, dict) and isinstance(filled, dict):
        for key, value in said.items():
            yield from lost(f"{path}.{key}", value, filled.get(key))
    elif isinstance(said, list) and isinstance(filled, list):
        assert len(filled) >= len(said)
        for one, other in zip(said, filled, strict=False):
            yield from lost(path, one, other)
    elif said not in (filled, ""):  # "" is how Kubernetes spells "unset".
        yield f"{path}: {said!r} became {filled!r}"


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("rainbow/mc-user:1.0.RELEASE", "IfNotPresent"),
        ("localhost:5000/a/b", "Always"),
        ("localhost:5000/a/b:1", "IfNotPresent"),
        ("a@sha256:" + "0" * 64, "IfNotPresent"),
        ("a:latest@sha256:" + "0" * 64, "IfNotPresent"),
        ("", "IfNotPresent"),
        ("Not An Image", "IfNotPresent"),
    ],
)
def test_an_image_without_a_tag_may_have_changed(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_the_text_data_of_a_secret_becomes_data() -> None:
    secret = {"data": {"a": "eA==", "b": "eA=="}, "stringData": {"b": "yes"}}
    apply_defaults(RESOURCES["secrets"], secret)
    assert secret == {"data": {"a": "eA==", "b": "eWVz"}, "type": "Opaque"}


def test_a_namespace_on_its_way_out_does_not_get_its_finalizer_back() -> None:
    leaving = {"metadata": {"name": "x", "deletionTimestamp": "now"}, "spec": {}}
    apply_defaults(RESOURCES["namespaces"], leaving)
    assert "finalizers" not in leaving["spec"]


def test_requests_follow_limits_in_pods_and_not_in_templates() -> None:
    spec = {"containers": [{"resources": {"limits": {"cpu": "1"}, "requests": {"memory": "1k"}}}]}
    pod = {"spec": copy.deepcopy(spec)}
    apply_defaults(RESOURCES["pods"], pod)
    found = pod["spec"]["containers"][0]["resources"]["requests"]
    assert found == {"cpu": "1", "memory": "1k"}
    owner: dict[str, Any] = {"spec": {"template": {"spec": copy.deepcopy(spec)}}}
    apply_defaults(RESOURCES["replicationcontrollers"], owner)
    template = owner["spec"]["template"]["spec"]
    assert template["containers"][0]["resources"]["requests"] == {"memory": "1k"}
    assert "enableServiceLinks" not in template


def test_quantities_of_a_resource_list_become_canonical() -> None:
    limits = {"cpu": 0.1, "memory": "1024Ki", "example.com/x": 2, "odd": "?"}
    pod = {"spec": {"containers": [{"resources": {"limits": limits}}]}}
    apply_defaults(RESOURCES["pods"], pod)
    assert limits == {"cpu": "100m", "memory": "1Mi", "example.com/x": "2", "odd": "?"}


def test_the_pod_address_leads_and_the_list_follows() -> None:
    pod: dict[str, Any] = {"status": {"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.2"}]}}
    apply_defaults(RESOURCES["pods"], pod)
    assert pod["status"]["podIPs"] == [{"ip": "10.0.0.1"}]
    pod = {"status": {"hostIPs": [{"ip": "10.0.0.2"}]}}
    apply_defaults(RESOURCES["pods"], pod)
    assert pod["status"]["hostIP"] == "10.0.0.2"


def test_pod_level_requests_add_up() -> None:
    half = {"resources": {"requests": {"cpu": "500m"}}}
    limits = {"cpu": "2", "memory": "1Gi"}
    pod: dict[str, Any] = {"spec": {"containers": [half, half], "resources": {"limits": limits}}}
    apply_defaults(RESOURCES["pods"], pod)
    assert pod["spec"]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}


def test_all_of_a_node_is_allocatable_unless_it_says_otherwise() -> None:
    node: dict[str, Any] = {"status": {"capacity": {"cpu": "2000m"}}}
    apply_defaults(RESOURCES["nodes"], node)
    assert node["status"]["allocatable"] == {"cpu": "2"}
    node = {"status": {"capacity": {"cpu": "2"}, "allocatable": {"cpu": "1"}}}
    apply_defaults(RESOURCES["nodes"], node)
    assert node["status"]["allocatable"] == {"cpu": "1"}
