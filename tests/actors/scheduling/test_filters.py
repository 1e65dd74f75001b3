"""Every filter against a naive predicate written straight from the API's documentation."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import container, node, node_objects, pod, pod_objects

from kubeloop.actors.scheduling import filters
from kubeloop.actors.scheduling.demand import Demands, demand_of
from kubeloop.actors.scheduling.nodeinfo import NodeInfo, PodInfo, State
from kubeloop.api import quantities

nodes, pods = node_objects("n0"), pod_objects("p0")


def info_of(obj: dict[str, Any], *placed: dict[str, Any]) -> NodeInfo:
    state = State()
    state.set_node(obj)
    for each in placed:
        name = each["metadata"]["name"]
        state.place(PodInfo(f"default/{name}", name, demand_of(each)), obj["metadata"]["name"])
    return state.nodes[obj["metadata"]["name"]]


def tolerates(obj: dict[str, Any], taint: dict[str, str]) -> bool:
    for toleration in obj["spec"].get("tolerations", []):
        key, effect = toleration.get("key"), toleration.get("effect")
        if key is not None and key != taint["key"]:
            continue
        if effect is not None and effect != taint["effect"]:
            continue
        same = toleration.get("value", "") == taint.get("value", "")
        if toleration["operator"] == "Exists" or same:
            return True
    return False


@given(nodes, pods)
def test_taints(node_object: dict[str, Any], pod_object: dict[str, Any]) -> None:
    hard = [t for t in node_object["spec"]["taints"] if t["effect"] != "PreferNoSchedule"]
    fits = all(tolerates(pod_object, taint) for taint in hard)
    failure = filters.taint_toleration(demand_of(pod_object), info_of(node_object))
    assert (failure is None) == fits


@given(nodes, pods)
def test_unschedulable(node_object: dict[str, Any], pod_object: dict[str, Any]) -> None:
    taint = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    fits = not node_object["spec"].get("unschedulable") or tolerates(pod_object, taint)
    failure = filters.node_unschedulable(demand_of(pod_object), info_of(node_object))
    assert (failure is None) == fits


def holds(expression: dict[str, Any], labels: dict[str, str]) -> bool:
    value, values = labels.get(expression["key"]), expression.get("values", [])
    number = int(value) if value is not None and value.isdigit() else None
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
        "Gt": number is not None and number > int((values or ["0"])[0] if number else 0),
        "Lt": number is not None and number < 4,
    }[expression["operator"]]


def term_holds(term: dict[str, Any], name: str, labels: dict[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions", []), term.get("matchFields", [])
    return bool(expressions or fields) and (
        all(holds(e, labels) for e in expressions)
        and all(holds(f, {"metadata.name": name}) for f in fields)
    )


@given(st.sampled_from(["n0", "n1"]), st.data())
def test_affinity(name: str, data: Any) -> None:
    node_object, pod_object = data.draw(node_objects(name)), data.draw(pods)
    labels = node_object["metadata"]["labels"]
    fits = all(labels.get(k) == v for k, v in pod_object["spec"].get("nodeSelector", {}).items())
    affinity = pod_object["spec"].get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        fits &= any(term_holds(t, name, labels) for t in required["nodeSelectorTerms"])
    demand, info = demand_of(pod_object), info_of(node_object)
    assert (filters.node_affinity(demand, info) is None) == fits
    if filters.named(demand, info) is not None:
        assert not fits  # It only says earlier, and in other words, what affinity would.


@given(pods, st.lists(pod_objects("other"), max_size=1))
def test_ports(pod_object: dict[str, Any], placed: list[dict[str, Any]]) -> None:
    def ports(obj: dict[str, Any]) -> set[int]:
        return {p["hostPort"] for c in obj["spec"]["containers"] for p in c.get("ports", [])}

    fits = not any(ports(pod_object) & ports(other) for other in placed)
    failure = filters.node_ports(demand_of(pod_object), info_of(node("n0"), *placed))
    assert (failure is None) == fits


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ({}, {}, True),
        ({"hostIP": "127.0.0.1"}, {"hostIP": "127.0.0.2"}, False),
        ({"hostIP": "127.0.0.1"}, {"hostIP": "0.0.0.0"}, True),
        ({"protocol": "UDP"}, {"protocol": "TCP"}, False),
        ({"protocol": "TCP"}, {}, True),
    ],
)
def test_ports_clash_by_address_and_protocol(
    one: dict[str, str], other: dict[str, str], clash: bool
) -> None:
    def with_port(name: str, port: dict[str, str]) -> dict[str, Any]:
        made = container()
        made["ports"] = [{"containerPort": 1, "hostPort": 53, **port}]
        return pod(name, made)

    info = info_of(node("n0"), with_port("a", one))
    assert (filters.node_ports(demand_of(with_port("b", other)), info) is not None) == clash


def naive_request(obj: dict[str, Any], name: str) -> int:
    """The documented rule: the larger of all at once and each init container with its sidecars."""

    def asked(each: dict[str, Any]) -> int:
        text = each["resources"].get("requests", {}).get(name, "0")
        return quantities.milli(text) if name == "cpu" else quantities.value(text)

    spec = obj["spec"]
    inits = spec.get("initContainers", [])
    sidecars = [c for c in inits if c.get("restartPolicy") == "Always"]
    together = sum(map(asked, spec["containers"])) + sum(map(asked, sidecars))
    steps = [
        asked(c) + sum(asked(s) for s in inits[:n] if s in sidecars) for n, c in enumerate(inits)
    ]
    overhead = 50 if name == "cpu" and "overhead" in spec else 0
    return max([together, *steps]) + overhead


@given(pods)
def test_requests(pod_object: dict[str, Any]) -> None:
    asked = {name: naive_request(pod_object, name) for name in ("cpu", "memory")}
    demand = demand_of(pod_object)
    assert demand.requests == {name: amount for name, amount in asked.items() if amount}
    assert demand.best_effort == (not any(asked.values()))
    assert demand.scored[0] >= asked["cpu"]


def test_requests_of_the_pod_replace_those_of_its_containers() -> None:
    whole = {"requests": {"cpu": "2"}}
    obj = pod("p", container({"cpu": "100m", "memory": "1Gi"}), resources=whole)
    assert demand_of(obj).requests == {"cpu": 2000, "memory": 2**30}


@given(nodes, pods, st.lists(pod_objects("other"), max_size=1))
def test_resources(
    node_object: dict[str, Any], pod_object: dict[str, Any], placed: list[dict[str, Any]]
) -> None:
    reasons, helpless = set(), False
    allocatable = node_object["status"]["allocatable"]
    for name, have in (
        ("cpu", quantities.milli(allocatable["cpu"])),
        ("memory", quantities.value(allocatable["memory"])),
    ):
        asks = naive_request(pod_object, name)
        if asks and asks + sum(naive_request(other, name) for other in placed) > have:
            reasons.add(f"Insufficient {name}")
            helpless |= asks > have
    if len(placed) + 1 > int(allocatable["pods"]):
        reasons.add("Too many pods")
    failure = filters.node_resources_fit(demand_of(pod_object), info_of(node_object, *placed))
    assert set(failure.reasons if failure else ()) == reasons
    assert failure is None or failure.helpless == helpless


@given(nodes, pods)
def test_the_first_failure_in_kubernetes_order_is_told(
    node_object: dict[str, Any], pod_object: dict[str, Any]
) -> None:
    demand, info = demand_of(pod_object), info_of(node_object)
    failures = [f for f in (check(demand, info) for check in filters.FILTERS) if f is not None]
    assert filters.first_failure(demand, info) == (failures[0] if failures else None)


def test_extended_resources_count() -> None:
    gpu = pod("p", container({"nvidia.com/gpu": "1"}))
    failure = filters.first_failure(demand_of(gpu), info_of(node("n0")))
    assert failure == filters.Failure(("Insufficient nvidia.com/gpu",))


def test_a_pod_that_names_its_node() -> None:
    elsewhere = demand_of(pod("p", nodeName="n7"))
    assert filters.first_failure(elsewhere, info_of(node("n0"))) == filters.OTHER_NAME
    assert filters.first_failure(elsewhere, info_of(node("n7"))) is None


@given(pods)
def test_equal_pods_share_one_demand(pod_object: dict[str, Any]) -> None:
    demands = Demands()
    twin = {**pod_object, "metadata": {**pod_object["metadata"], "name": "twin", "uid": "2"}}
    bound = {**twin, "spec": {**twin["spec"], "nodeName": "n3"}}
    assert demands.of(pod_object) is demands.of(twin) is demands.of(bound)
