"""Deployments: rollouts keep their bounds, converge, and tell of themselves as in Kubernetes."""

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
    deployment,
    owned,
    pod,
    ready,
    reference,
    replica_set,
    template,
)

from kubeloop.api.times import rfc3339

ANNOTATION = "deployment.kubernetes.io/"
RESOURCE = "deployments.apps"
SETS = "replicasets.apps"
HASH = "pod-template-hash"


def web(mini: Mini) -> Obj:
    found = mini.get(RESOURCE, "web")
    assert found is not None
    return found


def rolling(surge: int | str, unavailable: int | str) -> Obj:
    update = {"maxSurge": surge, "maxUnavailable": unavailable}
    return {"type": "RollingUpdate", "rollingUpdate": update}


RECREATE = {"type": "Recreate", "rollingUpdate": None}


def set_image(mini: Mini, image: str) -> None:
    spec = {"containers": [{"name": "c", "image": image}]}
    mini.patch(web(mini), {"spec": {"template": {"spec": spec}}}, patchType="strategic")


def image_of(obj: Obj) -> str:
    spec = obj["spec"].get("template", obj)["spec"]
    return str(spec["containers"][0]["image"])


def sets_of(mini: Mini) -> list[Obj]:
    return list(owned(mini, web(mini), SETS))


def started(replicas: int = 3, **spec: Any) -> Mini:
    mini = Mini()
    mini.start()
    mini.create(deployment(replicas, **spec))
    mini.settle()
    return mini


def newest(mini: Mini) -> Obj:
    """Return the set of the template: the oldest, should there be several."""
    mine = [s for s in sets_of(mini) if image_of(s) == image_of(web(mini))]
    return min(mine, key=lambda s: (s["metadata"]["creationTimestamp"], s["metadata"]["name"]))


def annotations(obj: Obj) -> dict[str, str]:
    return dict(obj["metadata"].get("annotations", {}))


def condition(mini: Mini, type_: str) -> Obj:
    return next(c for c in web(mini)["status"]["conditions"] if c["type"] == type_)


def scalings(mini: Mini) -> list[str]:
    told = sorted(mini.all("events"), key=lambda e: int(e["metadata"]["resourceVersion"]))
    return [e["message"] for e in told if e["reason"] == "ScalingReplicaSet"]


# Bounds (C2): no more than replicas + surge, no fewer available than replicas - unavailable.


@given(
    seed=st.integers(0, 1000),
    replicas=st.integers(1, 5),
    surge=st.integers(0, 3),
    unavailable=st.integers(0, 3),
    settle_s=st.sampled_from([0, 0, 10]),
    ops=st.lists(
        st.one_of(DISTURBANCES, st.tuples(st.just("image"), st.sampled_from(["a", "b", "c"]))),
        max_size=60,
    ),
)
@settings(max_examples=60)
def test_a_rollout_keeps_its_bounds(
    seed: int, replicas: int, surge: int, unavailable: int, settle_s: int, ops: list[Op]
) -> None:
    if surge == unavailable == 0:
        surge = 1  # Kubernetes refuses both to be nothing.
    mini = Mini(seed=seed)
    mini.start()
    strategy = rolling(surge, unavailable)
    mini.create(deployment(replicas, "a", strategy=strategy, minReadySeconds=settle_s))
    mini.settle(300)
    least = replicas - min(unavailable, replicas)

    def check() -> None:
        pods = [p for p in mini.pods() if active(p)]
        assert len(pods) <= replicas + surge, "too many"
        now_s = mini.world.wall()
        assert sum(is_available(p, settle_s, now_s) for p in pods) >= least, "too few"

    mini.after_write = check
    for op in ops:
        if not mini.disturb(op):
            set_image(mini, op[1])
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == [image_of(web(mini))] * replicas
    mini.see_that_it_rests()


def is_available(obj: Obj, settle_s: int, now_s: float) -> bool:
    if not ready(obj):
        return False
    since = next(c for c in obj["status"]["conditions"] if c["type"] == "Ready")
    return since["lastTransitionTime"] <= rfc3339(now_s - settle_s)


# Convergence (C1), from anywhere.

EDITS = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("scale"), st.integers(0, 6)),
    st.tuples(st.just("pause"), st.booleans()),
    st.tuples(st.just("recreate"), st.booleans()),
    st.tuples(st.just("limit"), st.integers(0, 2)),
    st.tuples(st.just("settle"), st.sampled_from([0, 5])),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("delete pod"), st.integers(0, 9)),
    st.tuples(st.just("scale set"), st.integers(0, 4), st.integers(0, 4)),
    st.tuples(st.just("delete set"), st.integers(0, 4)),
    st.tuples(st.just("orphan set"), st.integers(0, 4)),
    st.tuples(st.just("spoil"), st.integers(0, 4)),
)
STARTS = st.lists(
    st.fixed_dictionaries(
        {
            "image": st.sampled_from(["a", "b", "c"]),
            "replicas": st.integers(0, 3),
            "owner": st.sampled_from(["none", "web", "stranger"]),
            "revision": st.sampled_from(["", "1", "7"]),
            "stale": st.booleans(),
        }
    ),
    max_size=3,
)


def edit(mini: Mini, op: Op) -> None:
    what, number = op[0], op[1]
    sets, pods = mini.all(SETS), mini.pods()
    match what:
        case "image":
            set_image(mini, number)
        case "scale":
            mini.patch(web(mini), {"spec": {"replicas": number}})
        case "pause":
            mini.patch(web(mini), {"spec": {"paused": number}})
        case "recreate":
            mini.patch(web(mini), {"spec": {"strategy": RECREATE if number else rolling(1, 1)}})
        case "limit":
            mini.patch(web(mini), {"spec": {"revisionHistoryLimit": number}})
        case "settle":
            mini.patch(web(mini), {"spec": {"minReadySeconds": number}})
        case "spoil":
            status = {"replicas": number, "availableReplicas": number, "collisionCount": number}
            mini.patch(web(mini), {"status": status}, subresource="status")
        case "fail" if pods:
            mini.set_pod(pods[number % len(pods)], phase="Failed", ready=False)
        case "delete pod" if pods:
            mini.delete(pods[number % len(pods)])
        case "scale set" if sets:
            mini.patch(sets[number % len(sets)], {"spec": {"replicas": op[2]}})
        case "delete set" if sets:
            mini.delete(sets[number % len(sets)], propagationPolicy="Background")
        case "orphan set" if sets:
            mini.patch(sets[number % len(sets)], {"metadata": {"ownerReferences": None}})


def plant(mini: Mini, starts: list[Obj], replicas: int) -> None:
    made = mini.create(deployment(replicas, "a"))
    stranger = mini.create(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "stranger"}}
    )
    assert made is not None
    owners = {"none": None, "web": made, "stranger": stranger}
    for number, told in enumerate(starts):
        labels = {"app": "web", HASH: f"h{number}"}
        obj = replica_set(f"web-h{number}", labels, told["replicas"])
        obj["spec"]["template"] = template(labels, told["image"])
        obj["metadata"]["labels"] = labels
        if told["revision"]:
            obj["metadata"]["annotations"] = {f"{ANNOTATION}revision": told["revision"]}
        owner = owners[told["owner"]]
        if owner is not None:
            obj["metadata"]["ownerReferences"] = [reference(owner)]
        stale = {"replicas": 9, "availableReplicas": 9, "observedGeneration": 1}
        mini.plant(obj, stale if told["stale"] else None)


def see_that_all_is_well(mini: Mini) -> None:
    wanted = web(mini)["spec"].get("replicas", 1)
    now = newest(mini)["metadata"]["name"]
    for set_ in sets_of(mini):
        size = wanted if set_["metadata"]["name"] == now else 0
        assert set_["spec"].get("replicas", 1) == size, "not rolled out"
    living = [p for s in sets_of(mini) for p in owned(mini, s) if active(p)]
    assert [image_of(p) for p in living] == [image_of(web(mini))] * wanted
    status = web(mini)["status"]
    assert status["observedGeneration"] == web(mini)["metadata"]["generation"]
    assert [status.get(k, 0) for k in ("replicas", "updatedReplicas", "availableReplicas")] == [
        wanted
    ] * 3
    assert "unavailableReplicas" not in status
    assert condition(mini, "Available")["status"] == "True"
    assert condition(mini, "Progressing")["reason"] == "NewReplicaSetAvailable"
    old = [s for s in sets_of(mini) if s["metadata"]["name"] != now]
    assert len(old) <= web(mini)["spec"]["revisionHistoryLimit"]
    revisions = [int(annotations(s).get(f"{ANNOTATION}revision", 0)) for s in old]
    revision = annotations(newest(mini))[f"{ANNOTATION}revision"]
    assert annotations(web(mini))[f"{ANNOTATION}revision"] == revision
    assert int(revision) > max(revisions, default=0)


@given(
    seed=st.integers(0, 1000),
    starts=STARTS,
    replicas=st.integers(0, 4),
    ops=st.lists(st.one_of(DISTURBANCES, EDITS), max_size=40),
)
@settings(max_examples=60)
def test_it_converges_and_rests(seed: int, starts: Any, replicas: int, ops: list[Op]) -> None:
    mini = Mini(seed=seed)
    plant(mini, starts, replicas)
    mini.start()
    for op in ops:
        if not mini.disturb(op):
            edit(mini, op)
    mini.patch(web(mini), {"spec": {"paused": False}})
    for obj in mini.pods():  # A finished pod is nobody's to end.
        if not active(obj):
            mini.delete(obj, gracePeriodSeconds=0)
    mini.settle()
    for obj in mini.all(SETS):  # Those that were planted with others' owners are not ours.
        assert obj["metadata"].get("ownerReferences"), "an orphan that should be adopted"
    see_that_all_is_well(mini)
    mini.see_that_it_rests()


# What users see.


def test_a_rollout_as_kubectl_sees_it() -> None:
    mini = started(3)
    first = newest(mini)
    name = first["metadata"]["name"]
    digest = first["metadata"]["labels"][HASH]
    assert name == f"web-{digest}"
    assert first["spec"]["selector"]["matchLabels"] == {"app": "web", HASH: digest}
    assert first["spec"]["template"]["metadata"]["labels"] == {"app": "web", HASH: digest}
    assert annotations(first) == {
        f"{ANNOTATION}desired-replicas": "3",
        f"{ANNOTATION}max-replicas": "4",
        f"{ANNOTATION}revision": "1",
    }
    assert annotations(web(mini)) == {f"{ANNOTATION}revision": "1"}
    set_image(mini, "web:2")
    mini.settle()
    second = newest(mini)["metadata"]["name"]
    assert scalings(mini) == [
        f"Scaled up replica set {name} from 0 to 3",
        f"Scaled up replica set {second} from 0 to 1",
        f"Scaled down replica set {name} from 3 to 2",
        f"Scaled up replica set {second} from 1 to 2",
        f"Scaled down replica set {name} from 2 to 1",
        f"Scaled up replica set {second} from 2 to 3",
        f"Scaled down replica set {name} from 1 to 0",
    ]
    assert annotations(newest(mini))[f"{ANNOTATION}revision"] == "2"
    status = web(mini)["status"]
    assert {k: v for k, v in status.items() if k != "conditions"} == {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 3,
        "readyReplicas": 3,
        "availableReplicas": 3,
        "terminatingReplicas": 0,
    }
    available, progressing = condition(mini, "Available"), condition(mini, "Progressing")
    assert (available["status"], available["reason"], available["message"]) == (
        "True",
        "MinimumReplicasAvailable",
        "Deployment has minimum availability.",
    )
    assert (progressing["status"], progressing["reason"], progressing["message"]) == (
        "True",
        "NewReplicaSetAvailable",
        f'ReplicaSet "{second}" has successfully progressed.',
    )


def test_undo_takes_the_old_set_again() -> None:
    mini = started(2)
    first = newest(mini)["metadata"]["name"]
    for image in ("web:2", "web:1", "web:2", "web:1"):
        set_image(mini, image)
        mini.settle()
    assert len(sets_of(mini)) == 2
    again = newest(mini)
    assert again["metadata"]["name"] == first
    assert annotations(again)[f"{ANNOTATION}revision"] == "5"
    assert annotations(again)[f"{ANNOTATION}revision-history"] == "1,3"
    assert annotations(web(mini))[f"{ANNOTATION}revision"] == "5"


def test_annotations_of_the_deployment_are_those_of_its_set() -> None:
    mini = started(1)
    cause = {"kubernetes.io/change-cause": "because"}
    private = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    mini.patch(web(mini), {"metadata": {"annotations": cause | private}})
    mini.settle()
    told = annotations(newest(mini))
    assert told["kubernetes.io/change-cause"] == "because"
    assert "kubectl.kubernetes.io/last-applied-configuration" not in told


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_only_so_many_old_sets_are_kept(limit: int) -> None:
    mini = started(1, revisionHistoryLimit=limit)
    for number in range(2, 7):
        set_image(mini, f"web:{number}")
        mini.settle()
    images = sorted(image_of(s) for s in sets_of(mini))
    assert images == [f"web:{n}" for n in range(6 - limit, 7)]


def test_recreate_ends_all_before_it_begins() -> None:
    mini = started(3, strategy=RECREATE)

    def check() -> None:
        assert len({image_of(p) for p in mini.pods()}) <= 1

    mini.after_write = check
    set_image(mini, "web:2")
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == ["web:2"] * 3


def test_paused_nothing_rolls_but_scaling_works() -> None:
    mini = started(2)
    mini.patch(web(mini), {"spec": {"paused": True}})
    set_image(mini, "web:2")
    mini.settle()
    assert [image_of(s) for s in sets_of(mini)] == ["web:1"]
    paused = condition(mini, "Progressing")
    assert (paused["status"], paused["reason"], paused["message"]) == (
        "Unknown",
        "DeploymentPaused",
        "Deployment is paused",
    )
    mini.patch(web(mini), {"spec": {"replicas": 4}})
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == ["web:1"] * 4
    mini.patch(web(mini), {"spec": {"paused": False}})
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == ["web:2"] * 4
    assert condition(mini, "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_resuming_says_so() -> None:
    mini = started(2)
    mini.patch(web(mini), {"spec": {"paused": True}})
    set_image(mini, "web:2")
    mini.settle()
    seen = []

    def look() -> None:
        told = condition(mini, "Progressing")
        if (told["status"], told["reason"]) not in seen:
            seen.append((told["status"], told["reason"]))

    mini.after_write = look
    mini.patch(web(mini), {"spec": {"paused": False}})
    mini.settle()
    assert seen[0] == ("Unknown", "DeploymentPaused")
    assert seen[-1] == ("True", "NewReplicaSetAvailable")
    assert {("True", "ReplicaSetUpdated")} <= set(seen)


def test_scaling_in_the_middle_of_a_rollout_is_shared() -> None:
    mini = started(10, strategy=rolling(3, 2))
    set_image(mini, "web:2")
    mini.settle(kubelets=False)
    sizes = {image_of(s): s["spec"]["replicas"] for s in sets_of(mini)}
    assert sizes == {"web:1": 8, "web:2": 5}
    mini.patch(web(mini), {"spec": {"replicas": 15}})
    mini.settle(kubelets=False)
    sizes = {image_of(s): s["spec"]["replicas"] for s in sets_of(mini)}
    assert sizes == {"web:1": 11, "web:2": 7}, "the example of the documentation"
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == ["web:2"] * 15


def test_a_name_that_is_taken_is_passed_over() -> None:
    mini = started(1)
    name = newest(mini)["metadata"]["name"]
    other = Mini()
    foreign = replica_set(name, {"app": "other"}, 1)
    other.create(foreign)
    other.start()
    other.create(deployment(1))
    other.settle()
    assert web(other)["status"]["collisionCount"] == 1
    assert newest(other)["metadata"]["name"] != name
    assert [p for p in other.pods() if p["metadata"]["labels"]["app"] == "other"]
    assert not [e for e in other.all("events") if e["reason"] == "ReplicaSetCreateError"]
    other.see_that_it_rests()


def test_an_orphan_of_that_name_is_adopted_without_a_collision() -> None:
    mini = started(1)
    mini.delete(web(mini), propagationPolicy="Orphan")
    mini.settle()
    before = [p["metadata"]["uid"] for p in mini.pods()]
    mini.create(deployment(1))
    mini.settle()
    assert "collisionCount" not in web(mini)["status"]
    assert [p["metadata"]["uid"] for p in mini.pods()] == before


def test_a_rollout_that_gets_nowhere_is_told_after_the_deadline() -> None:
    mini = started(2, progressDeadlineSeconds=60)
    begun_s = mini.world.time
    set_image(mini, "web:2")
    mini.settle(59, kubelets=False)
    assert condition(mini, "Progressing")["status"] == "True"
    mini.settle(2, kubelets=False)
    late = condition(mini, "Progressing")
    name = newest(mini)["metadata"]["name"]
    assert (late["status"], late["reason"], late["message"]) == (
        "False",
        "ProgressDeadlineExceeded",
        f'ReplicaSet "{name}" has timed out progressing.',
    )
    assert late["lastTransitionTime"] >= rfc3339(EPOCH + begun_s + 60)
    mini.see_that_it_rests(kubelets=False)
    set_image(mini, "web:3")
    mini.pump()
    assert condition(mini, "Progressing")["status"] == "True", "a new try has its own deadline"
    mini.settle()
    assert condition(mini, "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_a_set_that_cannot_make_pods_is_told_of() -> None:
    broken = deployment(1)
    broken["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    mini = Mini()
    mini.start()
    mini.create(broken)
    mini.settle(5)
    failure = condition(mini, "ReplicaFailure")
    assert (failure["status"], failure["reason"]) == ("True", "FailedCreate")
    assert failure["lastUpdateTime"] == failure["lastTransitionTime"]
    assert condition(mini, "Available")["reason"] == "MinimumReplicasUnavailable"
    assert web(mini)["status"]["unavailableReplicas"] == 1


def test_min_ready_seconds_reach_the_set() -> None:
    mini = started(1)
    generation = newest(mini)["metadata"]["generation"]
    mini.patch(web(mini), {"spec": {"minReadySeconds": 7}})
    mini.settle()
    assert newest(mini)["spec"]["minReadySeconds"] == 7
    assert newest(mini)["metadata"]["generation"] == generation + 1


def test_a_pod_of_ones_own_hand_is_left_alone() -> None:
    mini = Mini()
    mini.create(pod("mine", {"app": "web"}))
    mini.start()
    mini.create(deployment(2))
    mini.settle()
    assert len(mini.pods()) == 3, "its sets select by the hash of the template too"


def test_recreate_and_a_new_number_in_the_middle_of_a_rollout() -> None:
    mini = started(4, strategy=rolling(2, 1))
    set_image(mini, "web:2")
    mini.settle(kubelets=False)
    assert len([s for s in sets_of(mini) if s["spec"]["replicas"]]) == 2
    mini.patch(web(mini), {"spec": {"replicas": 6, "strategy": RECREATE}})
    mini.settle()
    assert [image_of(p) for p in mini.pods()] == ["web:2"] * 6
    assert condition(mini, "Progressing")["reason"] == "NewReplicaSetAvailable"


def test_pods_that_come_and_go_are_no_new_rollout() -> None:
    mini = started(2)
    mini.world.advance(mini.world.time + 100)
    before, seen = condition(mini, "Progressing"), []
    mini.after_write = lambda: seen.append(condition(mini, "Progressing"))
    for obj in mini.pods():
        mini.delete(obj, gracePeriodSeconds=0)
    mini.settle()
    assert len(mini.pods()) == 2
    assert all(told == before for told in seen)
