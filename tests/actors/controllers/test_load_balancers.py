"""LoadBalancer Services: no two ever have one address; who no longer wants one gives it back."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op

from kubeloop.actors.controllers.load_balancers import FINALIZER, addresses, choose
from kubeloop.actors.controllers.settings import Settings

POOL = "127.9.0.0/29"  # Six addresses.
OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("make"), st.integers(0, 8), st.sampled_from(["", "", "127.9.0.3"])),
    st.tuples(st.just("delete"), st.integers(0, 8)),
    st.tuples(st.just("type"), st.integers(0, 8), st.sampled_from(["ClusterIP", "LoadBalancer"])),
    st.tuples(st.just("foreign"), st.integers(0, 8)),
)


def service(number: int, **spec: Any) -> Obj:
    told: Obj = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{number}"}}
    ports = [{"port": 80}]
    return {**told, "spec": {"type": "LoadBalancer", "ports": ports, **spec}}


def play(mini: Mini, op: Op) -> None:
    if mini.disturb(op):
        return
    match op:
        case "make", number, asked:
            mini.create(service(number, **({"loadBalancerIP": asked} if asked else {})))
        case "foreign", number:
            mini.create(service(number, loadBalancerClass="example.com/other"))
        case "delete", number:
            if found := mini.get("services", f"s{number}"):
                mini.delete(found)
        case "type", number, type_:
            if found := mini.get("services", f"s{number}"):
                gone = {"loadBalancerIP": None, "loadBalancerClass": None}
                keep = {} if type_ == "LoadBalancer" else gone
                mini.patch(found, {"spec": {"type": type_, **keep}})


def given_now(mini: Mini) -> list[str]:
    return [ip for found in mini.all("services", "default") for ip in addresses(found)]


@settings(max_examples=60)
@given(st.lists(OPS, max_size=40))
def test_an_address_is_one_services_and_comes_back(ops: list[Op]) -> None:
    mini = Mini(nodes=(), settings=Settings(load_balancer_cidr=POOL))
    mini.start()

    def see() -> None:
        there = given_now(mini)
        assert len(there) == len(set(there))

    mini.after_write = see
    for op in ops:
        play(mini, op)
    mini.start()
    mini.settle(kubelets=False)
    services = [s for s in mini.all("services", "default") if s["metadata"]["name"] != "kubernetes"]
    asking = []
    for found in services:
        spec = found["spec"]
        if spec["type"] == "LoadBalancer" and not spec.get("loadBalancerClass"):
            asking.append(found)
        else:
            assert addresses(found) == []
            assert FINALIZER not in found["metadata"].get("finalizers", [])
        assert "deletionTimestamp" not in found["metadata"], "what is deleted goes"
    for found in asking:
        if addresses(found):
            assert FINALIZER in found["metadata"]["finalizers"]
        elif "loadBalancerIP" in found["spec"]:
            assert found["spec"]["loadBalancerIP"] in given_now(mini), "it is another's"
        else:
            assert len(given_now(mini)) == 6, "all are given"


def test_events_are_the_service_controllers_own() -> None:
    mini = Mini(nodes=(), settings=Settings(load_balancer_cidr="127.9.0.0/30"))
    mini.start()
    for number in range(3):
        mini.create(service(number))
        mini.settle(kubelets=False, horizon_s=1)
    told = {(e["involvedObject"]["name"], e["reason"], e["message"]) for e in mini.all("events")}
    assert ("s0", "EnsuringLoadBalancer", "Ensuring load balancer") in told
    assert ("s0", "EnsuredLoadBalancer", "Ensured load balancer") in told
    full = (
        "Error syncing load balancer: failed to ensure load balancer: "
        "every address of 127.9.0.0/30 is given"
    )
    assert ("s2", "SyncLoadBalancerFailed", full) in told
    found = mini.get("services", "s0")
    assert found is not None
    assert found["status"] == {"loadBalancer": {"ingress": [{"ip": "127.9.0.1", "ipMode": "VIP"}]}}
    mini.delete(found)
    mini.settle(kubelets=False)
    last = mini.get("services", "s2")
    assert last is not None
    assert addresses(last) == ["127.9.0.1"], "what is given back is given to who waits"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("10.0.0.1", "the address 10.0.0.1 that spec.loadBalancerIP wants is not of 127.9.0.0/29"),
        ("nonsense", "the address nonsense that spec.loadBalancerIP wants is not of 127.9.0.0/29"),
        ("127.9.0.2", "the address 127.9.0.2 is that of the Service default/b"),
    ],
)
def test_what_cannot_be_had_is_explained(asked: str, why: str) -> None:
    wanting = service(1, loadBalancerIP=asked)
    wanting["metadata"]["namespace"] = "default"
    assert choose(wanting, POOL, {"127.9.0.2": "default/b"}) == ("", why)
