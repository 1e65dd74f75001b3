"""Node life: silence, taints, evictions to the second, recovery; and pods nobody will end."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import (
    DISTURBANCES,
    ENDLESS_S,
    EPOCH,
    Mini,
    Obj,
    Op,
    active,
    node,
    pod,
    pod_status,
    ready,
    replica_set,
)

from kubeloop.actors.controller_manager import Settings
from kubeloop.api.times import parse, rfc3339, rfc3339_micro

GRACE_S = 40.0
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
LEASES = "leases.coordination.k8s.io"


def lone(**more: Any) -> Mini:
    mini = Mini(settings=Settings(node_grace_s=GRACE_S), nodes=("n1",), **more)
    mini.start()
    return mini


def n1(mini: Mini) -> Obj:
    found = mini.get("nodes", "n1", "")
    assert found is not None
    return found


def beat(mini: Mini) -> None:
    """Renew the node's lease."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": "n1", "renewTime": rfc3339_micro(mini.world.wall())},
    }
    if mini.create(lease) is None:
        mini.patch(lease, {"spec": lease["spec"]})


def post(mini: Mini, status: str = "True", **pressures: str) -> None:
    """Post the node's status, as its kubelet does."""
    now = rfc3339(mini.world.wall())
    told = [
        {
            "type": type_,
            "status": value,
            "reason": "KubeletSays",
            "message": "so",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        }
        for type_, value in {**pressures, "Ready": status}.items()
    ]
    mini.patch(n1(mini), {"status": {"conditions": told}}, subresource="status")


def taints(mini: Mini) -> list[tuple[str, str]]:
    return sorted((t["key"], t["effect"]) for t in n1(mini)["spec"].get("taints", ()))


def condition(mini: Mini, type_: str = "Ready") -> Obj:
    return next(c for c in n1(mini)["status"]["conditions"] if c["type"] == type_)


def running(mini: Mini, name: str = "p", **spec: Any) -> Obj:
    obj = pod(name, {"app": "web"})
    obj["spec"].update(spec)
    made = mini.create(obj)
    assert made is not None
    mini.bind(made)
    mini.set_pod(made, phase="Running", ready=True)
    return made


def test_a_node_that_beats_is_left_alone() -> None:
    mini = lone()
    for _ in range(20):
        beat(mini)
        mini.settle(10)
    assert condition(mini)["status"] == "True"
    assert taints(mini) == []


@pytest.mark.parametrize("how", ["lease", "status"])
def test_silence_is_unknown_just_after_the_grace(how: str) -> None:
    mini = lone()
    mini.settle(30.0)
    beat(mini) if how == "lease" else post(mini)
    mini.settle(GRACE_S - 0.5)
    assert condition(mini)["status"] == "True"
    mini.settle(1.0)
    told = condition(mini)
    assert (told["status"], told["reason"], told["message"]) == (
        "Unknown",
        "NodeStatusUnknown",
        "Kubelet stopped posting node status.",
    )
    assert told["lastTransitionTime"] == rfc3339(EPOCH + 30 + GRACE_S)
    never = condition(mini, "DiskPressure")
    assert (never["status"], never["reason"], never["message"]) == (
        "Unknown",
        "NodeStatusNeverUpdated",
        "Kubelet never posted node status.",
    )
    assert taints(mini) == [(UNREACHABLE, "NoExecute"), (UNREACHABLE, "NoSchedule")]
    [event] = [e for e in mini.all("events") if e["reason"] == "NodeNotReady"]
    assert (event["type"], event["message"], event["involvedObject"]["kind"]) == (
        "Normal",
        "Node n1 status is now: NodeNotReady",
        "Node",
    )
    mini.see_that_it_rests()


def test_its_pods_are_told_not_ready_and_recover() -> None:
    mini = lone()
    running(mini)
    mini.settle(GRACE_S + 1, kubelets=False)
    assert not ready(mini.pods()[0])
    [event] = [e for e in mini.all("events") if e["involvedObject"]["kind"] == "Pod"]
    assert (event["type"], event["reason"], event["message"]) == (
        "Warning",
        "NodeNotReady",
        "Node is not ready",
    )
    beat(mini)
    post(mini)
    mini.settle(1)
    assert taints(mini) == []
    assert condition(mini)["status"] == "True"
    assert [active(p) for p in mini.pods()] == [True]


def test_a_node_that_says_it_is_not_ready_is_tainted_so() -> None:
    mini = lone()
    running(mini)
    post(mini, "False", MemoryPressure="True")
    mini.settle(1, kubelets=False)
    assert taints(mini) == [
        ("node.kubernetes.io/memory-pressure", "NoSchedule"),
        (NOT_READY, "NoExecute"),
        (NOT_READY, "NoSchedule"),
    ]
    assert ready(mini.pods()[0]), "its own kubelet says so"
    post(mini)
    mini.settle(1, kubelets=False)
    assert taints(mini) == []


def test_cordoned_nodes_are_tainted_and_taints_of_users_stay() -> None:
    mini = Mini(nodes=("n1",))
    mini.start()
    mine = {"key": "mine", "value": "x", "effect": "NoSchedule"}
    mini.patch(n1(mini), {"spec": {"unschedulable": True, "taints": [mine]}})
    mini.settle(1)
    assert taints(mini) == [
        ("mine", "NoSchedule"),
        ("node.kubernetes.io/unschedulable", "NoSchedule"),
    ]
    mini.patch(n1(mini), {"spec": {"unschedulable": None}})
    mini.settle(1)
    assert n1(mini)["spec"]["taints"] == [mine]
    mini.see_that_it_rests()


TOLERATIONS = [
    ({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"}, None),
    ({"operator": "Exists"}, None),
    ({"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 7}, 7),
    ({"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": 0}, 0),
    ({"key": "other", "operator": "Exists"}, 300),  # The default of every pod.
]


@pytest.mark.parametrize(("toleration", "stays_s"), TOLERATIONS)
def test_pods_stay_as_long_as_they_tolerate(toleration: Obj, stays_s: int | None) -> None:
    if toleration.get("tolerationSeconds") is not None:
        toleration = {**toleration, "effect": "NoExecute"}
    mini = lone()
    running(mini, tolerations=[toleration])
    mini.settle(GRACE_S + 0.001, kubelets=False)
    since = parse(n1(mini)["spec"]["taints"][0]["timeAdded"]) - EPOCH
    assert since == GRACE_S
    if stays_s is None:
        mini.settle(10_000, kubelets=False)
        assert [active(p) for p in mini.pods()] == [True]
        return
    if stays_s:
        mini.world.advance(since + stays_s - 0.1)
        mini.patch(n1(mini), {"metadata": {"labels": {"touched": "now"}}})
        mini.pump()
        assert [active(p) for p in mini.pods()] == [True], "too early"
    mini.world.advance(since + stays_s + 0.002)
    mini.pump()
    [left] = mini.pods()
    assert not active(left), "too late"
    reasons = {c["type"]: c.get("reason") for c in left["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "DeletionByTaintManager"
    [event] = [e for e in mini.all("events") if e["reason"] == "TaintManagerEviction"]
    assert (event["type"], event["message"]) == (
        "Normal",
        "Marking for deletion Pod default/p",
    )


def test_a_taint_without_a_time_counts_from_when_it_is_seen() -> None:
    mini = Mini(nodes=("n1",))
    mini.start()
    told = {"key": "mine", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    running(mini, tolerations=[told])
    mini.settle(100)
    mini.patch(n1(mini), {"spec": {"taints": [{"key": "mine", "effect": "NoExecute"}]}})
    mini.settle(29, kubelets=False)
    assert [active(p) for p in mini.pods()] == [True]
    mini.settle(2, kubelets=False)
    assert [active(p) for p in mini.pods()] == [False]


def test_a_new_manager_gives_every_node_its_grace_again() -> None:
    mini = lone()
    mini.settle(GRACE_S - 1)
    mini.start()
    mini.settle(GRACE_S - 1)
    assert condition(mini)["status"] == "True", "nobody could hear it meanwhile"
    mini.settle(2)
    assert condition(mini)["status"] == "Unknown"


@given(
    seed=st.integers(0, 1000),
    ops=st.lists(
        st.one_of(
            DISTURBANCES,
            st.tuples(st.just("beat"), st.none()),
            st.tuples(st.just("post"), st.sampled_from(["True", "False", "Unknown"])),
            st.tuples(st.just("cordon"), st.booleans()),
            st.tuples(st.just("away"), st.none()),
        ),
        max_size=40,
    ),
    alive=st.booleans(),
)
@settings(max_examples=50)
def test_whatever_happened_taints_tell_the_truth(seed: int, ops: list[Op], alive: bool) -> None:
    mini = Mini(seed=seed, settings=Settings(node_grace_s=GRACE_S), nodes=("n1", "n2"))
    mini.create(replica_set("web", {"app": "web"}, 2))
    mini.start()
    for op in ops:
        if mini.disturb(op):
            continue
        if op[0] == "away":
            mini.delete(n1(mini))
            mini.create(node("n1", mini.world.wall()))
        elif op[0] == "cordon":
            mini.patch(n1(mini), {"spec": {"unschedulable": op[1]}})
        elif op[0] == "beat":
            beat(mini)
        else:
            post(mini, op[1])
    mini.patch(n1(mini), {"spec": {"unschedulable": None}})
    for _ in range(15):  # n2 is never heard of again; n1 only if it lives.
        if alive:
            beat(mini)
            post(mini)
        mini.settle(30)
    assert (condition(mini)["status"] == "True") is alive
    want = [] if alive else [(UNREACHABLE, "NoExecute"), (UNREACHABLE, "NoSchedule")]
    assert taints(mini) == want
    lost = [p for p in mini.pods() if active(p) and p["spec"].get("nodeName") == "n2"]
    assert len([p for p in mini.pods() if active(p)]) == 2
    assert not [p for p in lost if age_s(mini, p) > 300 + GRACE_S]


def age_s(mini: Mini, obj: Obj) -> float:
    return mini.world.wall() - parse(obj["metadata"]["creationTimestamp"])


# Pods nobody will ever end.


def test_pods_of_a_node_that_is_gone_are_ended() -> None:
    mini = Mini(nodes=("n1",))
    mini.start()
    running(mini)
    mini.settle(100)
    since = mini.store.revision
    mini.delete(n1(mini))
    mini.settle(kubelets=False)
    assert mini.pods() == []
    last = [f.object() for f in mini.changes(since) if f.resource == "pods" and f.value][-1]
    assert last is not None
    assert last["status"]["phase"] == "Failed"
    reasons = {c["type"]: c.get("reason") for c in last["status"]["conditions"]}
    assert reasons["DisruptionTarget"] == "DeletionByPodGC"


def test_a_young_pod_may_wait_for_its_node() -> None:
    mini = Mini(nodes=())
    mini.start()
    obj = pod("early", {})
    obj["spec"]["nodeName"] = "n9"
    mini.create(obj)
    mini.settle(30, kubelets=False)
    assert len(mini.pods()) == 1
    mini.create(node("n9", EPOCH))
    mini.settle(kubelets=False)
    assert len(mini.pods()) == 1


def test_only_so_many_finished_pods_are_kept() -> None:
    mini = Mini(settings=Settings(node_grace_s=ENDLESS_S, terminated_pods_max=3))
    for number in range(9):
        mini.world.time = float(number)
        made = mini.create(pod(f"p{number}", {})) or {}
        mini.bind(made)
        status = pod_status("Succeeded", False, EPOCH, "10.244.1.1")
        mini.patch(made, {"status": status}, subresource="status")
    running(mini, "alive")
    mini.start()
    mini.settle()
    assert sorted(p["metadata"]["name"] for p in mini.pods()) == ["alive", "p6", "p7", "p8"]
    mini.see_that_it_rests()


def test_more_finished_pods_than_one_batch_go() -> None:
    mini = Mini(settings=Settings(node_grace_s=ENDLESS_S, terminated_pods_max=0))
    for number in range(501):
        made = mini.create(pod(f"p{number}", {})) or {}
        mini.patch(made, {"status": {"phase": "Failed"}}, subresource="status")
    mini.start()
    mini.settle()
    assert mini.pods() == []


def test_a_lost_pod_that_is_held_is_not_deleted_again_and_again() -> None:
    mini = Mini(nodes=("n1",))
    mini.start()
    made = mini.create(pod("held", {}, finalizers=["test/held"])) or {}
    mini.bind(made)
    mini.settle(100)
    mini.delete(n1(mini))
    mini.settle()
    assert [active(p) for p in mini.pods()] == [False]
    mini.see_that_it_rests()
