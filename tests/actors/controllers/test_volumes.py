"""Claims and volumes: each claim gets one volume that fits, for itself alone; both stay in use."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, pod

CLAIMS, VOLUMES = "persistentvolumeclaims", "persistentvolumes"
SIZES = ("1Gi", "2Gi", "5Gi")
OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("claim"), st.integers(0, 3), st.sampled_from(SIZES)),
    st.tuples(st.just("volume"), st.integers(0, 3), st.sampled_from(SIZES)),
    st.tuples(st.just("unclaim"), st.integers(0, 3)),
    st.tuples(st.just("unvolume"), st.integers(0, 3)),
    st.tuples(st.just("pod"), st.integers(0, 3)),
    st.tuples(st.just("unpod"), st.integers(0, 3)),
)


def claim(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    told = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**kind, "metadata": {"name": name}, "spec": told}


def volume(name: str, size: str = "1Gi", **spec: Any) -> Obj:
    told = {
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": size},
        "hostPath": {"path": "/x"},
        **spec,
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": told,
    }


def consumer(name: str, wanted: str) -> Obj:
    obj = pod(name, {})
    obj["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": wanted}}]
    return obj


def play(mini: Mini, op: Op) -> None:
    """Do one thing."""
    if mini.disturb(op):
        return
    match op:
        case "claim", number, size:
            mini.create(claim(f"c{number}", size))
        case "volume", number, size:
            mini.create(volume(f"v{number}", size))
        case "unclaim", number:
            if found := mini.get(CLAIMS, f"c{number}"):
                mini.delete(found)
        case "unvolume", number:
            if found := mini.get(VOLUMES, f"v{number}", ""):
                mini.delete(found)
        case "pod", number:
            mini.create(consumer(f"p{number}", f"c{number}"))
        case "unpod", number:
            if found := mini.get("pods", f"p{number}"):
                mini.delete(found, gracePeriodSeconds=0)


def phases(mini: Mini, resource: str) -> dict[str, str]:
    return {o["metadata"]["name"]: o["status"]["phase"] for o in mini.all(resource)}


def see_that_pairs_are_pairs(mini: Mini) -> None:
    """See that whoever is bound is bound to one who is bound to it, and fits."""
    claims = {c["metadata"]["uid"]: c for c in mini.all(CLAIMS)}
    volumes = {v["metadata"]["name"]: v for v in mini.all(VOLUMES)}
    for one in claims.values():
        if one["status"]["phase"] != "Bound":
            continue
        found = volumes.get(one["spec"]["volumeName"])
        assert found is not None and found["spec"]["claimRef"]["uid"] == one["metadata"]["uid"]
        assert found["status"]["phase"] == "Bound"
        asked = one["spec"]["resources"]["requests"]["storage"]
        had = found["spec"]["capacity"]["storage"]
        assert SIZES.index(asked) <= SIZES.index(had)
        assert one["status"]["capacity"] == found["spec"]["capacity"]
    for found in volumes.values():
        if found["status"]["phase"] == "Bound":
            assert (
                claims[found["spec"]["claimRef"]["uid"]]["spec"]["volumeName"]
                == (found["metadata"]["name"])
            )


@settings(max_examples=60)
@given(st.lists(OPS, max_size=40))
def test_pairs_are_pairs_whoever_crashes_when(ops: list[Op]) -> None:
    mini = Mini()
    mini.start()
    for op in ops:
        play(mini, op)
        taken = [c["spec"]["volumeName"] for c in mini.all(CLAIMS) if c["spec"].get("volumeName")]
        assert len(taken) == len({*taken}), "no two claims have one volume"
    mini.start()
    mini.settle()
    see_that_pairs_are_pairs(mini)
    waiting = [c for c in mini.all(CLAIMS) if c["status"]["phase"] == "Pending"]
    free = [v for v in mini.all(VOLUMES) if v["status"]["phase"] == "Available"]
    for one in waiting:
        asked = SIZES.index(one["spec"]["resources"]["requests"]["storage"])
        deleted = one["metadata"].get("deletionTimestamp")
        assert deleted or all(SIZES.index(v["spec"]["capacity"]["storage"]) < asked for v in free)
    users = {
        v["persistentVolumeClaim"]["claimName"] for p in mini.pods() for v in p["spec"]["volumes"]
    }
    for one in mini.all(CLAIMS):
        used = one["metadata"]["name"] in users
        assert used or not one["metadata"].get("deletionTimestamp"), "what nobody uses goes"
    mini.see_that_it_rests()


def test_a_claim_gets_the_smallest_volume_that_fits() -> None:
    mini = Mini()
    for name, size in (("big", "5Gi"), ("fit", "2Gi"), ("small", "1Gi")):
        mini.create(volume(name, size))
    mini.create(volume("classy", "2Gi", storageClassName="fast"))
    mini.create(volume("shared", "2Gi", accessModes=["ReadWriteMany"]))
    mini.start()
    mini.create(claim("c", "2Gi"))
    mini.settle()
    found = mini.get(CLAIMS, "c")
    assert found is not None
    assert found["spec"]["volumeName"] == "fit" and found["status"]["phase"] == "Bound"
    assert found["status"]["capacity"] == {"storage": "2Gi"}
    notes = found["metadata"]["annotations"]
    assert notes == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
    }
    assert phases(mini, VOLUMES) == {
        "big": "Available", "fit": "Bound", "small": "Available", "classy": "Available",
        "shared": "Available",
    }  # fmt: skip


def test_a_volume_outlives_its_claim_and_serves_nobody_else() -> None:
    mini = Mini()
    mini.start()
    mini.create(volume("v"))
    made = mini.create(claim("c"))
    assert made is not None
    mini.settle()
    mini.delete(made)
    mini.create(claim("d"))
    mini.settle()
    assert phases(mini, VOLUMES) == {"v": "Released"} and phases(mini, CLAIMS) == {"d": "Pending"}
    found = mini.get(VOLUMES, "v", "")
    assert found is not None
    mini.patch(found, {"spec": {"claimRef": None}})
    mini.settle()
    assert phases(mini, VOLUMES) == {"v": "Bound"} and phases(mini, CLAIMS) == {"d": "Bound"}
    found = mini.get(VOLUMES, "v", "")
    assert found is not None
    mini.delete(found)
    mini.settle()
    assert phases(mini, VOLUMES) == {"v": "Bound"}, "it stays while it is bound"
    bound = mini.get(CLAIMS, "d")
    assert bound is not None
    mini.delete(bound)
    mini.settle()
    assert phases(mini, VOLUMES) == phases(mini, CLAIMS) == {}


def test_a_claim_stays_while_a_pod_uses_it_and_is_lost_with_its_volume() -> None:
    mini = Mini()
    mini.start()
    mini.create(volume("v"))
    made = mini.create(claim("c"))
    user = mini.create(consumer("p", "c"))
    assert made is not None and user is not None
    mini.settle()
    mini.delete(made)
    mini.settle()
    assert phases(mini, CLAIMS) == {"c": "Bound"}
    mini.delete(user)
    mini.settle()
    assert phases(mini, CLAIMS) == {}
    mini.create(volume("w"))
    mini.create(claim("d"))
    mini.settle()
    found = mini.get(VOLUMES, "w", "")
    assert found is not None
    mini.delete(found)
    freed = mini.get(VOLUMES, "w", "")
    assert freed is not None
    mini.patch(freed, {"metadata": {"finalizers": None}})
    mini.settle()
    assert phases(mini, CLAIMS) == {"d": "Lost"}
    assert "ClaimLost" in {e["reason"] for e in mini.all("events")}


def test_a_class_may_wait_for_a_pod_and_its_node() -> None:
    mini = Mini()
    mini.start()
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "l"}}
    mini.create({**kind, "provisioner": "kubernetes.io/no-provisioner",
                 "volumeBindingMode": "WaitForFirstConsumer"})  # fmt: skip
    for node in ("n1", "n2"):
        expression = {"key": "metadata.name", "operator": "In", "values": [node]}
        required = {"nodeSelectorTerms": [{"matchFields": [expression]}]}
        mini.create(volume(f"on-{node}", storageClassName="l", nodeAffinity={"required": required}))
    mini.create(claim("c", storageClassName="l"))
    mini.settle()
    assert phases(mini, CLAIMS) == {"c": "Pending"}
    assert "WaitForFirstConsumer" in {e["reason"] for e in mini.all("events")}
    made = mini.create(consumer("p", "c"))
    assert made is not None
    body = {"target": {"kind": "Node", "name": "n2"}}
    mini.ask("create", "pods", "default", "p", subresource="binding", body=body)
    mini.settle()
    found = mini.get(CLAIMS, "c")
    assert found is not None and found["spec"]["volumeName"] == "on-n2"


def test_a_volume_may_be_reserved() -> None:
    mini = Mini()
    mini.start()
    mini.create(volume("v", "5Gi", claimRef={"name": "c", "namespace": "default"}))
    mini.create(volume("w", "1Gi"))
    mini.create(claim("c"))
    mini.create(claim("named", volumeName="w"))
    mini.settle()
    names = {c["metadata"]["name"]: c["spec"].get("volumeName") for c in mini.all(CLAIMS)}
    assert names == {"c": "v", "named": "w"}
    assert phases(mini, CLAIMS) == {"c": "Bound", "named": "Bound"}


def test_two_claims_that_want_the_same_volume_do_not_get_it_both() -> None:
    mini = Mini()
    mini.start()
    mini.create(volume("v"))
    mini.settle()
    mini.create(claim("c"))
    mini.create(claim("d"))
    mini.pump_until_writes()  # Both are about to take it.
    mini.serve()
    mini.feed()
    mini.turn()
    mini.settle()
    assert sorted(phases(mini, CLAIMS).values()) == ["Bound", "Pending"]


def test_a_volume_that_goes_is_given_to_nobody() -> None:
    mini = Mini()
    mini.start()
    obj = volume("v")
    obj["metadata"]["finalizers"] = ["example.com/held"]
    made = mini.create(obj)
    assert made is not None
    mini.settle()
    mini.delete(made)
    mini.create(claim("c"))
    mini.settle()
    assert phases(mini, CLAIMS) == {"c": "Pending"}
