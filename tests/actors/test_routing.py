"""A table kept in step by changes equals a table built from scratch, and never lies."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.routing import Endpoint, Place, RuleTable, rules_of

ready = st.sampled_from([True, False, None])
endpoint = st.builds(
    lambda ip, node, ready, serving, terminating: {
        "addresses": [f"10.244.0.{ip}"],
        "nodeName": node,
        "conditions": {
            k: v
            for k, v in (("ready", ready), ("serving", serving), ("terminating", terminating))
            if v is not None
        },
    },
    st.integers(1, 5),
    st.sampled_from(["node-1", "node-2"]),
    ready,
    ready,
    ready,
)


def slice_(name: str, endpoints: list[dict[str, Any]], port: int = 8080) -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": name},
        },
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": endpoints,
    }


def service(name: str, number: int, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "NodePort",
            "clusterIP": f"10.96.0.{number}",
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30000 + number}],
            **spec,
        },
    }


services = st.builds(
    lambda number, external, internal, type_: service(
        f"s{number}",
        number,
        externalTrafficPolicy=external,
        internalTrafficPolicy=internal,
        type=type_,
    ),
    st.integers(1, 3),
    st.sampled_from(["Cluster", "Local"]),
    st.sampled_from(["Cluster", "Local"]),
    st.sampled_from(["NodePort", "ClusterIP", "ExternalName"]),
)
steps = st.lists(
    st.tuples(st.integers(1, 3), st.none() | services, st.lists(endpoint, max_size=5)), max_size=20
)


@given(steps)
def test_changes_lead_to_the_table_built_from_scratch(
    steps: list[tuple[int, dict[str, Any] | None, list[dict[str, Any]]]],
) -> None:
    table, latest, mirror = RuleTable("node-1"), {}, {}
    for number, changed, endpoints in steps:
        name = f"s{number}"
        if changed is not None:
            changed = service(name, number, **{**changed["spec"], "ports": None}) | {}
            changed["spec"] |= service(name, number)["spec"] | {
                "type": changed["spec"]["type"],
            }
        latest[name] = (changed, [slice_(name, endpoints)])
        for place, rule in table.replace(f"default/{name}", changed, latest[name][1]).items():
            if rule is None:
                del mirror[place]
            else:
                assert mirror.get(place) != rule, "an unchanged rule is not a change"
                mirror[place] = rule
    scratch = {
        rule.place: rule
        for changed, slices in latest.values()
        if changed is not None
        for rule in rules_of(changed, slices, "node-1")
    }
    assert table.rules == mirror == scratch


@given(st.lists(endpoint, max_size=8))
def test_only_ready_endpoints_unless_none_is(endpoints: list[dict[str, Any]]) -> None:
    (rule, *_) = rules_of(service("s", 1), [slice_("s", endpoints)], "node-1")
    ready = {
        Endpoint(e["addresses"][0], 8080)
        for e in endpoints
        if e["conditions"].get("ready") is not False
    }
    if ready:
        assert set(rule.endpoints) == ready
    else:
        serving = [e for e in endpoints if e["conditions"].get("terminating")]
        assert len(rule.endpoints) <= len(serving)


def test_local_policy_keeps_to_the_node() -> None:
    endpoints = [
        {"addresses": ["10.244.1.1"], "nodeName": "node-1"},
        {"addresses": ["10.244.2.1"], "nodeName": "node-2"},
    ]
    rules = rules_of(
        service("s", 1, externalTrafficPolicy="Local"), [slice_("s", endpoints)], "node-2"
    )
    by_kind = {rule.kind: rule for rule in rules}
    assert by_kind["NodePort"].endpoints == (Endpoint("10.244.2.1", 8080),)
    assert len(by_kind["ClusterIP"].endpoints) == 2
    assert by_kind["NodePort"].place == Place("", 30001, "TCP")


def test_session_affinity_has_kubernetes_default_timeout() -> None:
    rules = rules_of(service("s", 1, sessionAffinity="ClientIP"), [], "node-1")
    assert {rule.affinity_s for rule in rules} == {10_800}


def test_a_place_two_services_want_goes_to_the_second_when_the_first_leaves() -> None:
    table = RuleTable("node-1")
    one, two = service("one", 1), service("two", 1)
    table.replace("default/one", one, [])
    assert table.replace("default/two", two, []) == {}
    changes = table.replace("default/one", None, [])
    assert {rule.service for rule in changes.values() if rule} == {"default/two"}


def test_headless_and_external_services_have_no_place() -> None:
    assert rules_of(service("s", 1, clusterIP="None", type="ClusterIP"), [], "n") == []
    assert rules_of(service("s", 1, type="ExternalName"), [], "n") == []
