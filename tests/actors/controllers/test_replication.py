"""ReplicationController and ReplicaSet: from any state, through any disturbance, to the number."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import (
    DISTURBANCES,
    EPOCH,
    Mini,
    Obj,
    Op,
    active,
    node,
    owned,
    owner_uid,
    pod,
    pod_status,
    ready,
    reference,
    replica_set,
    replication_controller,
)

from kubeloop.api.times import rfc3339

SETS = ("replicasets.apps", "replicationcontrollers")
LABELS = st.sampled_from([{"app": "a"}, {"app": "b"}, {"app": "a", "tier": "x"}])
STRANGER = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "alive", "uid": ""}}

STARTING_SETS = st.lists(
    st.tuples(st.sampled_from(["rs", "rc"]), LABELS, st.integers(0, 4), st.booleans()),
    min_size=1,
    max_size=3,
)
STARTING_PODS = st.lists(
    st.fixed_dictionaries(
        {
            "labels": LABELS,
            "owner": st.sampled_from(["none", "first", "last", "other"]),
            "phase": st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
            "ready": st.booleans(),
            "bound": st.booleans(),
            "deleted": st.booleans(),
            "held": st.booleans(),
        }
    ),
    max_size=6,
)
EDITS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 2), st.integers(0, 5)),
    st.tuples(st.just("label pod"), st.integers(0, 9), LABELS),
    st.tuples(st.just("delete pod"), st.integers(0, 9)),
    st.tuples(st.just("fail pod"), st.integers(0, 9)),
    st.tuples(st.just("unready pod"), st.integers(0, 9)),
    st.tuples(
        st.just("delete set"),
        st.integers(0, 2),
        st.sampled_from(["Background", "Foreground", "Orphan"]),
    ),
    st.tuples(st.just("spoil status"), st.integers(0, 2), st.integers(0, 9)),
)


def sets(mini: Mini) -> list[Obj]:
    return [s for resource in SETS for s in mini.all(resource)]


def plant(mini: Mini, wanted: list[Any], pods: list[Any]) -> None:
    made = []
    for number, (kind, labels, replicas, stale) in enumerate(wanted):
        maker = replica_set if kind == "rs" else replication_controller
        status = {"replicas": 7, "readyReplicas": 9, "observedGeneration": 3} if stale else None
        made.append(mini.plant(maker(f"s{number}", labels, replicas), status))
    stranger = mini.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger"}}
    )
    owners = {"none": None, "first": made[0], "last": made[-1], "other": stranger}
    for number, told in enumerate(pods):
        metadata: Obj = {"finalizers": ["test/held"]} if told["held"] else {}
        obj = mini.create(pod(f"p{number}", told["labels"], owners[told["owner"]], **metadata))
        assert obj is not None
        if told["bound"]:
            mini.bind(obj)
        status = pod_status(told["phase"], told["ready"], EPOCH, f"10.244.9.{number + 1}")
        mini.patch(obj, {"status": status}, subresource="status")
        if told["deleted"]:
            mini.delete(obj)


def edit(mini: Mini, op: Op) -> None:
    what, number, *more = op
    among = mini.pods() if what.endswith("pod") else sets(mini)
    if not among:
        return
    obj = among[number % len(among)]
    match what:
        case "scale":
            mini.patch(obj, {"spec": {"replicas": more[0]}})
        case "label pod":
            mini.patch(obj, {"metadata": {"labels": more[0]}})
        case "delete pod":
            mini.delete(obj)
        case "fail pod":
            mini.set_pod(obj, phase="Failed", ready=False)
        case "unready pod":
            mini.set_pod(obj, phase="Running", ready=False)
        case "delete set":
            mini.delete(obj, propagationPolicy=more[0])
        case "spoil status":
            mini.patch(obj, {"status": {"replicas": more[0]}}, subresource="status")


def see_that_all_is_well(mini: Mini) -> None:
    for set_ in sets(mini):
        assert "deletionTimestamp" not in set_["metadata"], "it should have gone"
        wanted = set_["spec"].get("replicas", 1)
        mine = list(owned(mini, set_))
        living = [p for p in mine if active(p)]
        assert len(living) == wanted
        status = set_["status"]
        assert status["replicas"] == wanted
        assert status.get("readyReplicas", 0) == status.get("availableReplicas", 0) == wanted
        assert status["observedGeneration"] == set_["metadata"]["generation"]
        assert "conditions" not in status
        labels = selector(set_)
        for obj in living:
            assert labels.items() <= obj["metadata"]["labels"].items(), "should be released"
        for obj in filter(active, mini.pods()):
            matches = labels.items() <= obj["metadata"].get("labels", {}).items()
            assert owner_uid(obj) or not matches, "an orphan that should be adopted"


def selector(set_: Obj) -> dict[str, str]:
    told = set_["spec"]["selector"]
    return dict(told["matchLabels"] if set_["kind"] == "ReplicaSet" else told)


@given(
    seed=st.integers(0, 1000),
    wanted=STARTING_SETS,
    pods=STARTING_PODS,
    ops=st.lists(st.one_of(DISTURBANCES, EDITS), max_size=25),
)
@settings(max_examples=120)
def test_it_converges_and_rests(seed: int, wanted: Any, pods: Any, ops: list[Op]) -> None:
    mini = Mini(seed=seed)
    plant(mini, wanted, pods)
    mini.start()
    for op in ops:
        if not mini.disturb(op):
            edit(mini, op)
    for obj in mini.pods():  # Whoever held them lets go.
        if "finalizers" in obj["metadata"]:
            mini.patch(obj, {"metadata": {"finalizers": None}})
    mini.settle()
    see_that_all_is_well(mini)
    mini.see_that_it_rests()


@given(
    seed=st.integers(0, 1000),
    replicas=st.integers(1, 6),
    ops=st.lists(
        st.one_of(DISTURBANCES, st.tuples(st.just("touch"), st.integers(0, 9))), max_size=40
    ),
)
@settings(max_examples=80)
def test_it_never_makes_too_many(seed: int, replicas: int, ops: list[Op]) -> None:
    """Whatever is lost or crashes: no pod is made that must be deleted again."""
    mini = Mini(seed=seed)

    def check() -> None:
        assert len(mini.pods()) <= replicas

    mini.start()
    mini.after_write = check
    mini.create(replica_set("web", {"app": "web"}, replicas))
    for op in ops:
        if not mini.disturb(op):
            mini.patch(one(mini), {"metadata": {"labels": {"touched": str(op[1])}}})
    mini.settle()
    assert len(mini.pods()) == replicas


def one(mini: Mini, resource: str = "replicasets.apps", name: str = "web") -> Obj:
    found = mini.get(resource, name)
    assert found is not None
    return found


def started(replicas: int = 0, **spec: Any) -> Mini:
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, replicas, **spec))
    mini.settle()
    return mini


def events(mini: Mini) -> list[tuple[str, str, str]]:
    told = sorted(mini.all("events"), key=lambda e: int(e["metadata"]["resourceVersion"]))
    return [(e["type"], e["reason"], e["message"]) for e in told]


@pytest.mark.parametrize("kind", ["ReplicaSet", "ReplicationController"])
def test_status_and_events_read_as_in_kubernetes(kind: str) -> None:
    mini = Mini()
    mini.start()
    maker = replica_set if kind == "ReplicaSet" else replication_controller
    mini.create(maker("web", {"app": "web"}, 1))
    mini.settle()
    resource = SETS[0] if kind == "ReplicaSet" else SETS[1]
    pods, set_ = mini.pods(), one(mini, resource)
    name = pods[0]["metadata"]["name"]
    assert name.startswith("web-")
    assert pods[0]["metadata"]["ownerReferences"] == [reference(set_)]
    full = {
        "replicas": 1,
        "fullyLabeledReplicas": 1,
        "readyReplicas": 1,
        "availableReplicas": 1,
        "observedGeneration": 1,
    }
    zero = {"terminatingReplicas": 0} if kind == "ReplicaSet" else {}
    assert set_["status"] == full | zero
    mini.patch(set_, {"spec": {"replicas": 0}})
    mini.settle()
    assert one(mini, resource)["status"] == {"replicas": 0, "observedGeneration": 2} | zero
    assert events(mini) == [
        ("Normal", "SuccessfulCreate", f"Created pod: {name}"),
        ("Normal", "SuccessfulDelete", f"Deleted pod: {name}"),
    ]
    source = {e["source"]["component"] for e in mini.all("events")}
    assert source == {"replicaset-controller" if zero else "replication-controller"}


def test_what_cannot_be_made_is_told_once_and_tried_again() -> None:
    mini = Mini()
    mini.start()
    broken = replica_set("web", {"app": "web"}, 30)
    broken["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    mini.create(broken)
    mini.settle(5.0)
    set_ = one(mini)
    [failure] = set_["status"]["conditions"]
    assert (failure["type"], failure["status"], failure["reason"]) == (
        "ReplicaFailure",
        "True",
        "FailedCreate",
    )
    why = 'error looking up service account default/nobody: serviceaccount "nobody" not found'
    assert failure["message"].endswith(why)
    failures = [e for e in mini.all("events") if e["reason"] == "FailedCreate"]
    assert failures[0]["message"].startswith('Error creating: pods "web-')
    assert failures[0]["type"] == "Warning"
    first = failure["message"]
    mini.settle(60.0)
    assert one(mini)["status"]["conditions"][0]["message"] == first, "each try names another pod"
    tries = sum(e["count"] for e in failures)
    assert tries < 60, "it starts slowly while nothing can be made"
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "nobody"}}
    mini.create(account)
    mini.settle()
    set_ = one(mini)
    assert set_["status"]["readyReplicas"] == 30
    assert "conditions" not in set_["status"]
    mini.see_that_it_rests()


def test_a_conflict_of_its_own_status_is_no_failure_of_replicas() -> None:
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, 2))
    for _ in range(100):
        mini.disturb(("refuse", False))
        mini.feed()
        mini.turn()
        for condition in one(mini).get("status", {}).get("conditions", ()):
            assert "object has been modified" not in condition["message"]
        mini.world.advance(mini.world.time + 0.01)


def test_a_pod_counts_as_available_after_min_ready_seconds() -> None:
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, 1, minReadySeconds=30))
    mini.settle(29.0)
    assert "availableReplicas" not in one(mini)["status"]
    mini.settle(2.0)
    assert one(mini)["status"]["availableReplicas"] == 1


ORDER: list[tuple[Obj, Obj]] = [
    # The first of each pair goes.
    ({"node": ""}, {"phase": "Pending", "ready": False}),
    ({"phase": "Pending", "ready": False}, {"ready": False}),
    ({"ready": False}, {"cost": "-10"}),
    ({"cost": "-10"}, {}),
    ({}, {"cost": "10", "since": -9}),
    ({"since": -10}, {"since": -1000}),
    ({"restarts": 5}, {"restarts": 1}),
    ({"age": 10}, {"age": 100}),
]


@pytest.mark.parametrize(("first", "second"), ORDER)
@pytest.mark.parametrize("swap", [False, True])
def test_the_order_in_which_pods_are_given_up(first: Obj, second: Obj, swap: bool) -> None:
    mini = started(1)
    set_ = one(mini)
    mini.patch(set_, {"spec": {"replicas": 0}})
    mini.settle()
    mini.manager = None
    pair = [("goes", first), ("stays", second)]
    for name, told in reversed(pair) if swap else pair:
        mini.world.time = 1000.0 - told.get("age", 50)
        metadata = {}
        if "cost" in told:
            cost = {"controller.kubernetes.io/pod-deletion-cost": told["cost"]}
            metadata = {"annotations": cost}
        obj = mini.create(pod(name, {"app": "web"}, set_, **metadata))
        assert obj is not None
        if told.get("node") != "":
            mini.bind(obj)
        since = EPOCH + 900 + told.get("since", 0)
        phase, is_ready = told.get("phase", "Running"), told.get("ready", True)
        status = pod_status(phase, is_ready and told.get("node") != "", since, "10.244.1.1")
        status["containerStatuses"] = [
            {
                "name": "c",
                "restartCount": told.get("restarts", 0),
                "image": "web:1",
                "imageID": "",
                "ready": True,
            }
        ]
        mini.patch(obj, {"status": status}, subresource="status")
    mini.world.time = 1000.0
    mini.patch(set_, {"spec": {"replicas": 1}})
    mini.start()
    mini.settle(kubelets=False)
    left = [p["metadata"]["name"] for p in mini.pods() if active(p)]
    assert left == ["stays"]


def test_crowded_nodes_give_first_and_siblings_count() -> None:
    mini = Mini(nodes=("n1",))
    deployment_like = mini.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}}
    )
    assert deployment_like is not None
    made = []
    for name in ("old", "new"):
        obj = replica_set(name, {"app": name}, 2)
        obj["metadata"]["ownerReferences"] = [reference(deployment_like)]
        made.append(mini.create(obj))
    mini.start()
    mini.pump()  # Two pods each; nobody has run them yet.
    mini.manager = None
    old_pods = list(owned(mini, made[0] or {}))
    new_pods = list(owned(mini, made[1] or {}))
    for obj in [old_pods[0], *new_pods]:
        mini.bind(obj)
    mini.create(node("n2", EPOCH))
    mini.delete(one_node(mini, "n1"))
    mini.bind(old_pods[1])
    mini.create(node("n1", EPOCH))
    for obj in mini.pods():
        mini.set_pod(obj, phase="Running", ready=True)
    assert all(ready(p) for p in mini.pods())
    mini.patch(made[0] or {}, {"spec": {"replicas": 1}})
    mini.start()
    mini.settle(kubelets=False)
    left = [p for p in owned(mini, made[0] or {}) if active(p)]
    assert [p["spec"]["nodeName"] for p in left] == ["n2"]


def one_node(mini: Mini, name: str) -> Obj:
    found = mini.get("nodes", name, "")
    assert found is not None
    return found


def test_the_time_of_a_status_is_the_wall_s() -> None:
    mini = Mini()
    mini.world.time = 5.0
    mini.start()
    broken = replica_set("web", {"app": "web"}, 1)
    broken["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    mini.create(broken)
    mini.settle(1.0)
    [failure] = one(mini)["status"]["conditions"]
    assert failure["lastTransitionTime"] == rfc3339(EPOCH + 5)


EXPRESSION = {"matchExpressions": [{"key": "app", "operator": "Exists"}]}


@pytest.mark.parametrize("chooses", [{"matchLabels": {"app": "web", "x": "y"}}, EXPRESSION])
def test_a_pod_that_comes_later_is_adopted(chooses: Obj) -> None:
    mini = Mini()
    mini.start()
    labels = {"app": "web", "x": "y"}
    mini.create({**replica_set("web", labels, 1)} | {"spec": spec_with(labels, chooses)})
    mini.settle()
    mini.create(pod("late", {**labels, "z": "z"}))
    mini.settle()
    [left] = mini.pods()
    assert left["metadata"]["name"] != "late"
    assert ("Normal", "SuccessfulDelete", "Deleted pod: late") in events(mini)


def spec_with(labels: dict[str, str], chooses: Obj) -> Obj:
    spec: Obj = replica_set("web", labels, 1)["spec"]
    return {**spec, "selector": chooses}


def test_finished_pods_keep_their_owner() -> None:
    mini = started(1)
    [done] = mini.pods()
    mini.set_pod(done, phase="Failed", ready=False)
    mini.patch(done, {"metadata": {"labels": {"app": "other"}}})
    mini.settle()
    assert len(mini.pods()) == 2
    assert len(list(owned(mini, one(mini)))) == 2


def test_other_sets_are_not_asked_about_a_pod_of_nobody() -> None:
    mini = Mini()
    for number in range(50):
        mini.create(replica_set(f"s{number}", {"app": f"s{number}"}, 0))
    mini.start()
    mini.settle()
    assert mini.manager is not None
    controller = next(
        b.controller for b in mini.manager._benches if b.controller.name == "replicaset-controller"
    )
    loose = mini.create(pod("loose", {"app": "s7"}))
    view = mini.manager.view
    keys = list(controller.keys("/registry/pods/default/loose", None, loose, view))
    assert keys == ["/registry/replicasets.apps/default/s7"]
    asked = [s for label in ("", "app=s7") for s in view.by(SETS[0], "anchor", f"default/{label}")]
    assert len(asked) == 1


@pytest.mark.parametrize("number", [1, 3])
def test_it_adopts_before_it_makes_or_ends_any(number: int) -> None:
    mini = Mini()
    for index in range(number):
        mini.create(pod(f"p{index}", {"app": "web"}))
    mini.create(replica_set("web", {"app": "web"}, number))
    mini.start()
    mini.settle()
    assert {e[1] for e in events(mini)} == set()
    assert len(list(owned(mini, one(mini)))) == number


def test_finished_orphans_are_nobody_s() -> None:
    mini = Mini()
    done = mini.create(pod("done", {"app": "web"})) or {}
    mini.patch(done, {"status": {"phase": "Failed"}}, subresource="status")
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.settle()
    found = mini.get("pods", "done") or {}
    assert "ownerReferences" not in found["metadata"]


def test_a_failure_that_is_known_is_not_told_anew() -> None:
    """Its message may name another pod at each try; the set is not written for that."""
    mini = started(0)
    assert mini.manager is not None
    view = mini.manager.view
    controller = next(
        b.controller for b in mini.manager._benches if b.controller.name == "replicaset-controller"
    )
    mini.world.turns.clear()
    mini.patch(one(mini), {"spec": {"replicas": 1}})
    failure = {
        "type": "ReplicaFailure",
        "status": "True",
        "lastTransitionTime": rfc3339(EPOCH),
        "reason": "FailedCreate",
        "message": "pod one was refused",
    }
    status = {**one(mini)["status"], "observedGeneration": 2, "conditions": [failure]}
    mini.patch(one(mini), {"status": status}, subresource="status")
    for fact in mini.changes(view.revision):
        view.fold(fact)
    key = "/registry/replicasets.apps/default/web"
    result = controller.reconcile(key, view, EPOCH + 9, "pod two was refused")
    assert [a.request.verb for a in result.actions] == ["create"]
