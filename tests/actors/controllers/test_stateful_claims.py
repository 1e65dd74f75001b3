"""The claims of StatefulSets: there before their pods, and after them as long as they are kept."""

import msgpack
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, template
from test_volumes import CLAIMS, claim

from kubeloop.actors.controllers.base import Writer
from kubeloop.actors.controllers.stateful_claims import Claims, new_claims
from kubeloop.actors.view import View
from kubeloop.store.facts import Fact, key_of

POLICIES = st.tuples(*2 * [st.sampled_from(["Retain", "Delete"])])


def stateful_set(replicas: int, deleted: str, scaled: str) -> Obj:
    labels = {"app": "db"}
    made = claim("data")
    made["metadata"]["labels"] = {"what": "rows"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db"},
        "spec": {
            "replicas": replicas,
            "serviceName": "db",
            "selector": {"matchLabels": labels},
            "template": template(labels),
            "volumeClaimTemplates": [{"metadata": made["metadata"], "spec": made["spec"]}],
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": deleted, "whenScaled": scaled},
        },
    }


def names(mini: Mini, resource: str) -> set[str]:
    return {o["metadata"]["name"] for o in mini.all(resource)}


def test_claims_come_before_their_pods_and_stay() -> None:
    mini = Mini()
    mini.start()
    made = mini.create(stateful_set(2, "Retain", "Retain"))
    assert made is not None
    mini.settle()
    assert names(mini, CLAIMS) == {"data-db-0", "data-db-1"}
    found = mini.get(CLAIMS, "data-db-1")
    assert found is not None and found["metadata"]["labels"] == {"what": "rows", "app": "db"}
    assert "ownerReferences" not in found["metadata"]
    user = mini.get("pods", "db-1")
    assert user is not None
    assert user["spec"]["volumes"][0] == {
        "name": "data", "persistentVolumeClaim": {"claimName": "data-db-1"}
    }  # fmt: skip
    told = {e["message"] for e in mini.all("events") if e["reason"] == "SuccessfulCreate"}
    assert "create Claim data-db-0 Pod db-0 in StatefulSet db success" in told
    for pod in mini.all("pods"):
        claims = mini.get(CLAIMS, f"data-{pod['metadata']['name']}")
        assert claims is not None
        first, then = (int(o["metadata"]["resourceVersion"]) for o in (claims, pod))
        assert first < then
    mini.delete(made)
    mini.settle()
    assert names(mini, "pods") == set() and names(mini, CLAIMS) == {"data-db-0", "data-db-1"}


def test_a_claim_that_goes_is_not_given_to_the_next_pod() -> None:
    mini = Mini()
    mini.start()
    made = mini.create(stateful_set(1, "Retain", "Retain"))
    assert made is not None
    mini.settle()
    found, user = mini.get(CLAIMS, "data-db-0"), mini.get("pods", "db-0")
    assert found is not None and user is not None
    mini.patch(found, {"metadata": {"finalizers": ["example.com/held"]}})
    mini.delete(found)
    mini.delete(user, gracePeriodSeconds=0)
    mini.settle()
    assert names(mini, "pods") == set(), "it waits until the claim has gone"
    mini.patch(found, {"metadata": {"finalizers": None}})
    mini.settle()
    fresh = mini.get(CLAIMS, "data-db-0")
    assert fresh is not None and fresh["metadata"]["uid"] != found["metadata"]["uid"]
    assert names(mini, "pods") == {"db-0"}


OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("scale"), st.integers(0, 3)),
    st.tuples(st.just("policy"), POLICIES),
    st.tuples(st.just("unpod"), st.integers(0, 2)),
    st.tuples(st.just("unclaim"), st.integers(0, 2)),
)


@settings(max_examples=60)
@given(POLICIES, st.lists(OPS, max_size=30), st.booleans())
def test_claims_are_kept_as_the_policy_says(
    policy: tuple[str, str], ops: list[Op], ends: bool
) -> None:
    mini = Mini()
    mini.start()
    made = mini.create(stateful_set(2, *policy))
    assert made is not None
    for op in ops:
        if mini.disturb(op):
            continue
        match op:
            case "scale", replicas:
                mini.patch(made, {"spec": {"replicas": replicas}})
            case "policy", (deleted, scaled):
                told = {"whenDeleted": deleted, "whenScaled": scaled}
                policy = (deleted, scaled)
                mini.patch(made, {"spec": {"persistentVolumeClaimRetentionPolicy": told}})
            case "unpod", number:
                if found := mini.get("pods", f"db-{number}"):
                    mini.delete(found, gracePeriodSeconds=0)
            case "unclaim", number:
                if found := mini.get(CLAIMS, f"data-db-{number}"):
                    mini.delete(found)
    mini.start()
    mini.settle()
    now = mini.get("statefulsets.apps", "db")
    assert now is not None
    wanted = now["spec"]["replicas"]
    assert names(mini, "pods") == {f"db-{n}" for n in range(wanted)}
    kept = {f"data-db-{n}" for n in range(wanted)}
    assert kept <= names(mini, CLAIMS)
    for found in mini.all(CLAIMS):
        uids = {r["uid"] for r in found["metadata"].get("ownerReferences") or ()}
        if found["metadata"]["name"] in kept:
            assert uids == ({now["metadata"]["uid"]} if policy[0] == "Delete" else set())
    mini.see_that_it_rests()
    if ends:
        mini.delete(now)
        mini.settle()
        left = names(mini, CLAIMS)
        assert not left & kept if policy[0] == "Delete" else kept <= left


def test_scaling_down_deletes_what_is_to_go_with_its_pod() -> None:
    mini = Mini()
    mini.start()
    made = mini.create(stateful_set(3, "Retain", "Delete"))
    assert made is not None
    mini.settle()
    mini.patch(made, {"spec": {"replicas": 1}})
    mini.settle()
    assert names(mini, CLAIMS) == {"data-db-0"} and names(mini, "pods") == {"db-0"}
    mini.patch(made, {"spec": {"replicas": 2}})
    mini.settle()
    assert names(mini, CLAIMS) == {"data-db-0", "data-db-1"}


def test_a_claim_of_an_earlier_pod_is_about_to_go() -> None:
    made = stateful_set(1, "Retain", "Delete")
    made["metadata"] |= {"namespace": "default", "uid": "s"}
    (found,) = new_claims(made, 0)
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "db-0", "uid": "gone"}
    found["metadata"]["uid"] = "c"
    other = {**reference, "name": "x"}
    for references, hinders in (([], False), ([reference], True), ([other], False)):
        view = View()
        found["metadata"]["ownerReferences"] = references
        view.fold(Fact(1, key_of(CLAIMS, "default", "data-db-0"), msgpack.packb(found)))
        assert Claims(Writer("c")).hinder(made, 0, view) == hinders
