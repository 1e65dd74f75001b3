"""Quotas: never exceeded, whoever crashes when; and in the end they say what there is."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, pod, replica_set

QUOTAS = "resourcequotas"
HARD = {"pods": "3", "requests.cpu": "500m", "count/configmaps": "2", "services.nodeports": "2"}
OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("pod"), st.integers(0, 5)),
    st.tuples(st.just("unpod"), st.integers(0, 5)),
    st.tuples(st.just("finish"), st.integers(0, 5)),
    st.tuples(st.just("map"), st.integers(0, 3)),
    st.tuples(st.just("unmap"), st.integers(0, 3)),
    st.tuples(st.just("service"), st.integers(0, 2), st.sampled_from(["ClusterIP", "NodePort"])),
    st.tuples(st.just("hard"), st.sampled_from(["1", "3"])),
)


def quota(**hard: str) -> Obj:
    told = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    return {**told, "spec": {"hard": hard or HARD}}


def asking(name: str) -> Obj:
    obj = pod(name, {"app": "a"})
    obj["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m"}}
    return obj


def play(mini: Mini, op: Op) -> None:
    """Do one thing."""
    if mini.disturb(op):
        return
    match op:
        case "pod", number:
            mini.create(asking(f"p{number}"))
        case "unpod", number:
            if found := mini.get("pods", f"p{number}"):
                mini.delete(found, gracePeriodSeconds=0)
        case "finish", number:
            if found := mini.get("pods", f"p{number}"):
                mini.patch(found, {"status": {"phase": "Succeeded"}}, subresource="status")
        case "map", number:
            mini.create(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"m{number}"}}
            )
        case "unmap", number:
            if found := mini.get("configmaps", f"m{number}"):
                mini.delete(found)
        case "service", number, type_:
            found = mini.get("services", f"s{number}")
            spec = {"type": type_, "ports": [{"port": 80}]}
            if found is None:
                kind = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{number}"}}
                mini.create({**kind, "spec": spec})
            else:
                mini.patch(found, {"spec": {"type": type_}})
        case "hard", pods:
            if found := mini.get(QUOTAS, "q"):
                mini.patch(found, {"spec": {"hard": {"pods": pods}}})


def model(mini: Mini) -> dict[str, int]:
    """Count what there is, naively; CPU in thousandths."""
    pods = [p for p in mini.pods() if p["status"]["phase"] != "Succeeded"]
    services = [s for s in mini.all("services", "default") if s["metadata"]["name"] != "kubernetes"]
    return {
        "pods": len(pods),
        "requests.cpu": 100 * len(pods),
        "count/configmaps": len(mini.all("configmaps", "default")),
        "services.nodeports": sum(s["spec"]["type"] == "NodePort" for s in services),
    }


def used_of(mini: Mini) -> dict[str, Any]:
    found = mini.get(QUOTAS, "q")
    assert found is not None
    used: dict[str, Any] = found["status"].get("used", {})
    return used


def number(text: str) -> int:
    return int(text.removesuffix("m"))


@settings(max_examples=60)
@given(st.lists(OPS, max_size=40))
def test_a_quota_is_never_exceeded_and_true_in_the_end(ops: list[Op]) -> None:
    mini = Mini(nodes=())
    mini.create(quota())
    mini.start()
    mini.settle(kubelets=False)
    assert used_of(mini).keys() == HARD.keys()

    def see() -> None:
        there = model(mini)
        assert there["pods"] <= 3 and there["count/configmaps"] <= 2
        assert there["services.nodeports"] <= 2

    mini.after_write = see
    for op in ops:
        play(mini, op)
    mini.start()
    mini.settle(kubelets=False)
    assert {name: number(text) for name, text in used_of(mini).items()} == model(mini)
    mini.see_that_it_rests(kubelets=False)


def test_what_a_quota_refuses_comes_when_there_is_room() -> None:
    mini = Mini()
    mini.create(quota(pods="2"))
    mini.start()
    mini.settle()
    mini.create(replica_set("web", {"app": "web"}, 3))
    mini.settle(horizon_s=60)
    assert len(mini.pods()) == 2
    events = [e["message"] for e in mini.all("events") if e["reason"] == "FailedCreate"]
    assert any("exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2" in e
               for e in events)  # fmt: skip
    found = mini.get(QUOTAS, "q")
    assert found is not None
    mini.patch(found, {"spec": {"hard": {"pods": "5"}}})
    mini.settle()
    assert len(mini.pods()) == 3 and used_of(mini) == {"pods": "3"}


def test_a_quota_of_another_namespace_counts_nothing_here() -> None:
    mini = Mini()
    mini.start()
    mini.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    mini.create(quota(pods="1"))
    mini.settle()
    for number in range(2):
        obj = asking(f"p{number}")
        obj["metadata"]["namespace"] = "other"
        assert mini.create(obj) is not None
    mini.settle(kubelets=False)
    assert used_of(mini) == {"pods": "0"}


def test_a_count_that_is_too_old_is_not_written() -> None:
    mini = Mini(nodes=())
    mini.create(quota(pods="2"))
    mini.start()
    mini.settle(kubelets=False)
    made = mini.create(asking("p0"))
    assert made is not None
    mini.pump()
    mini.delete(made, gracePeriodSeconds=0)
    mini.pump_until_writes()  # It has counted none,
    assert mini.create(asking("p1")) is not None  # but there is one by now.
    mini.serve()
    mini.create(asking("p2"))
    mini.create(asking("p3"))
    assert len(mini.pods()) <= 2
    mini.settle(kubelets=False)
    assert used_of(mini) == {"pods": str(len(mini.pods()))}
