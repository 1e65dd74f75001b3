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
    lambda number, external, internal, type_, balanced: {
        **service(
            f"s{number}",
            number,
            externalTrafficPolicy=external,
            internalTrafficPolicy=internal,
            type=type_,
            healthCheckNodePort=32_000 + number,
            externalIPs=[f"127.7.0.{number}"],
        ),
        "status": {"loadBalancer": {"ingress": balanced}},
    },
    st.integers(1, 3),
    st.sampled_from(["Cluster", "Local"]),
    st.sampled_from(["Cluster", "Local"]),
    st.sampled_from(["NodePort", "ClusterIP", "ExternalName", "LoadBalancer"]),
    st.sampled_from([[], [{"ip": "127.9.0.1"}], [{"ip": "127.9.0.1", "ipMode": "Proxy"}]]),
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
            ingress = [
                {**given, "ip": f"127.9.0.{number}"}
                for given in changed["status"]["loadBalancer"]["ingress"]
            ]
            changed = service(name, number, **{**changed["spec"], "ports": None})
            changed["spec"] |= {
                "ports": service(name, number)["spec"]["ports"],
                "clusterIP": f"10.96.0.{number}",
                "externalIPs": [f"127.7.0.{number}"],
                "healthCheckNodePort": 32_000 + number,
            }
            changed["status"] = {"loadBalancer": {"ingress": ingress}}
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


def balanced(**spec: Any) -> dict[str, Any]:
    return {
        **service("s", 1, type="LoadBalancer", healthCheckNodePort=32_000, **spec),
        "status": {"loadBalancer": {"ingress": [{"ip": "127.9.0.1", "ipMode": "VIP"}]}},
    }


TWO_NODES = [
    {"addresses": ["10.244.1.1"], "nodeName": "node-1"},
    {"addresses": ["10.244.1.2"], "nodeName": "node-1", "conditions": {"ready": False}},
]


def test_a_balancers_address_leads_to_the_service() -> None:
    rules = rules_of(balanced(externalIPs=["127.7.0.1"]), [slice_("s", TWO_NODES)], "node-2")
    places = {rule.kind: (rule.place.ip, rule.place.port) for rule in rules}
    assert places == {
        "ClusterIP": ("10.96.0.1", 80),
        "NodePort": ("", 30001),
        "LoadBalancer": ("127.9.0.1", 80),
        "ExternalIP": ("127.7.0.1", 80),
    }
    assert {rule.endpoints for rule in rules} == {(Endpoint("10.244.1.1", 8080),)}


def test_a_node_without_endpoints_is_no_way_in_to_a_local_service() -> None:
    local = balanced(externalTrafficPolicy="Local")
    here, there = (
        {r.kind: r for r in rules_of(local, [slice_("s", TWO_NODES)], node)}
        for node in ("node-1", "node-2")
    )
    assert len(here["LoadBalancer"].endpoints) == 1
    assert "LoadBalancer" not in there
    assert here["HealthCheck"].place == Place("", 32_000, "TCP")
    assert (len(here["HealthCheck"].endpoints), len(there["HealthCheck"].endpoints)) == (1, 0)


def test_an_address_that_a_proxy_of_its_own_serves_is_left_to_it() -> None:
    proxied = balanced()
    proxied["status"]["loadBalancer"]["ingress"][0]["ipMode"] = "Proxy"
    assert "LoadBalancer" not in {rule.kind for rule in rules_of(proxied, [], "node-1")}


def test_a_service_says_how_its_endpoints_are_chosen() -> None:
    asking = service("s", 1)
    assert {rule.balancing for rule in rules_of(asking, [], "n")} == {"random"}
    asking["metadata"]["annotations"] = {"kubeloop.dev/balancing": "maglev"}
    assert {rule.balancing for rule in rules_of(asking, [], "n")} == {"maglev"}
    asking["metadata"]["annotations"] = {"kubeloop.dev/balancing": "by-the-moon"}
    assert {rule.balancing for rule in rules_of(asking, [], "n")} == {"random"}


hinted = st.builds(
    lambda told, zones, nodes: {
        **told,
        "hints": {
            **({"forZones": [{"name": z} for z in zones]} if zones else {}),
            **({"forNodes": [{"name": n} for n in nodes]} if nodes else {}),
        },
    },
    endpoint,
    st.lists(st.sampled_from("ab"), unique=True),
    st.lists(st.sampled_from(["node-1", "node-2"]), unique=True),
)


@given(st.lists(hinted, max_size=6), st.sampled_from(["", "a", "b"]), st.booleans())
def test_hints_narrow_but_never_to_nothing(
    endpoints: list[dict[str, Any]], zone: str, local: bool
) -> None:
    policy = "Local" if local else "Cluster"
    told = service("s", 1, externalTrafficPolicy=policy, internalTrafficPolicy=policy)
    plain = rules_of(told, [slice_("s", [{**e, "hints": {}} for e in endpoints])], "node-1", zone)
    near = rules_of(told, [slice_("s", endpoints)], "node-1", zone)
    for all_, some in zip(plain, near, strict=True):
        assert set(some.endpoints) <= set(all_.endpoints)
        assert bool(some.endpoints) == bool(all_.endpoints)
        if local:
            assert some == all_, "a policy that is strict is not softened by hints"


def test_who_is_near_is_preferred() -> None:
    told = [
        {
            "addresses": [f"10.244.{n}.1"],
            "nodeName": f"node-{n}",
            "hints": {"forZones": [{"name": zone}], "forNodes": [{"name": f"node-{n}"}]},
        }
        for n, zone in [(1, "a"), (2, "a"), (3, "b")]
    ]

    def reached(node: str, zone: str) -> list[str]:
        (rule, _) = rules_of(service("s", 1), [slice_("s", told)], node, zone)
        return [ip for ip, _ in rule.endpoints]

    assert reached("node-1", "a") == ["10.244.1.1"]
    assert reached("node-9", "a") == ["10.244.1.1", "10.244.2.1"]
    assert reached("node-9", "b") == ["10.244.3.1"]
    assert len(reached("node-9", "c")) == len(reached("node-9", "")) == 3, "nobody is near"
    del told[0]["hints"]
    assert len(reached("node-2", "a")) == 3, "one without hints, and none count"
    told[0]["conditions"] = {"ready": False}
    assert reached("node-2", "a") == ["10.244.2.1"], "but one that is not ready"
