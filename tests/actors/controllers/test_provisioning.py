"""Volumes made for claims: one for each, where the pod is, gone when nobody has a use for it."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, pod
from test_volumes import CLAIMS, VOLUMES, claim, consumer, phases

SELECTED = "volume.kubernetes.io/selected-node"
WIPED = "external-provisioner.volume.kubernetes.io/finalizer"
OPS = st.one_of(
    DISTURBANCES,
    st.tuples(st.just("claim"), st.integers(0, 2), st.sampled_from(["standard", "now", "other"])),
    st.tuples(st.just("unclaim"), st.integers(0, 2)),
    st.tuples(st.just("pod"), st.integers(0, 2)),
    st.tuples(st.just("unpod"), st.integers(0, 2)),
    st.tuples(st.just("select"), st.integers(0, 2), st.sampled_from(["n1", "n2", "gone"])),
    st.tuples(st.just("grow"), st.integers(0, 2)),
    st.tuples(st.just("wipe"), st.none()),
)


def storage_class(name: str, **more: Any) -> Obj:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "kubeloop.dev/local-path",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
        **more,
    }


def ready_cluster() -> Mini:
    mini = Mini()
    mini.create(storage_class("standard"))
    mini.create(storage_class("now", volumeBindingMode="Immediate", reclaimPolicy="Retain"))
    mini.create(storage_class("other", provisioner="example.com/disk"))
    mini.start()
    return mini


def select(mini: Mini, name: str, node: str) -> None:
    """Say where a claim is needed, as the scheduler does, unless it is said."""
    found = mini.get(CLAIMS, name)
    if found is not None and SELECTED not in (found["metadata"].get("annotations") or {}):
        mini.patch(found, {"metadata": {"annotations": {SELECTED: node}}})


def wipe(mini: Mini) -> int:
    """Do for deleted volumes what kubelets do; return for how many."""
    doomed = [
        v for v in mini.all(VOLUMES)
        if v["metadata"].get("deletionTimestamp") and v["metadata"]["finalizers"] == [WIPED]
    ]  # fmt: skip
    for found in doomed:
        mini.patch(found, {"metadata": {"finalizers": None}})
    return len(doomed)


def play(mini: Mini, op: Op) -> None:
    """Do one thing."""
    if mini.disturb(op):
        return
    match op:
        case "claim", number, of_class:
            mini.create(claim(f"c{number}", "1Gi", storageClassName=of_class))
        case "unclaim", number:
            if found := mini.get(CLAIMS, f"c{number}"):
                mini.delete(found)
        case "pod", number:
            mini.create(consumer(f"p{number}", f"c{number}"))
        case "unpod", number:
            if found := mini.get("pods", f"p{number}"):
                mini.delete(found, gracePeriodSeconds=0)
        case "select", number, node:
            select(mini, f"c{number}", node)
        case "grow", number:
            if found := mini.get(CLAIMS, f"c{number}"):
                mini.patch(found, {"spec": {"resources": {"requests": {"storage": "2Gi"}}}})
        case "wipe", _:
            wipe(mini)


@settings(max_examples=80)
@given(st.lists(OPS, max_size=40))
def test_every_claim_gets_its_own_volume_and_none_is_left_over(ops: list[Op]) -> None:
    mini = ready_cluster()
    for op in ops:
        play(mini, op)
        taken = [c["spec"]["volumeName"] for c in mini.all(CLAIMS) if c["spec"].get("volumeName")]
        assert len(taken) == len({*taken}), "no two claims have one volume"
    mini.start()
    mini.settle()
    while wipe(mini):
        mini.settle()
    claims = {c["metadata"]["uid"]: c for c in mini.all(CLAIMS)}
    for found in mini.all(VOLUMES):
        owner = claims.get(found["spec"]["claimRef"]["uid"])
        if found["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
            assert owner is not None, "what is deleted with its claim is gone with it"
        if owner is not None:
            assert owner["spec"]["volumeName"] == found["metadata"]["name"]
            assert found["status"]["phase"] == owner["status"]["phase"] == "Bound"
            assert owner["status"]["capacity"] == found["spec"]["capacity"]
            assert owner["spec"]["resources"]["requests"] == owner["status"]["capacity"]
            assert not owner["status"].get("conditions")
        else:
            assert found["status"]["phase"] == "Released"
    for one in claims.values():
        notes = one["metadata"].get("annotations") or {}
        of_class = one["spec"]["storageClassName"]
        can = of_class == "now" or (of_class == "standard" and SELECTED in notes)
        ending = one["metadata"].get("deletionTimestamp")
        assert ending or can == (one["status"]["phase"] == "Bound")
        assert notes.get(SELECTED) != "gone" or of_class != "standard", "it is chosen anew"
    mini.see_that_it_rests()


def events(mini: Mini, name: str) -> dict[str, str]:
    found = (e for e in mini.all("events") if e["involvedObject"]["name"] == name)
    return {e["reason"]: e["message"] for e in found}


def test_a_volume_is_made_where_its_pod_is_to_run() -> None:
    mini = ready_cluster()
    made = mini.create(claim("c", storageClassName="standard"))
    assert made is not None
    mini.settle()
    waits = "waiting for first consumer to be created before binding"
    assert events(mini, "c") == {"WaitForFirstConsumer": waits}
    mini.create(consumer("p", "c"))
    mini.pump()
    assert events(mini, "c")["WaitForPodScheduled"] == "waiting for pod p to be scheduled"
    select(mini, "c", "n2")
    mini.settle()
    name = f"pvc-{made['metadata']['uid']}"
    found = mini.get(VOLUMES, name, "")
    assert found is not None
    term = found["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"][0]
    assert term["matchExpressions"][0]["values"] == ["n2"]
    assert found["metadata"]["annotations"] == {
        "pv.kubernetes.io/provisioned-by": "kubeloop.dev/local-path"
    }
    bound = mini.get(CLAIMS, "c")
    assert bound is not None and bound["status"]["phase"] == "Bound"
    assert bound["metadata"]["annotations"] == {
        "pv.kubernetes.io/bind-completed": "yes",
        "pv.kubernetes.io/bound-by-controller": "yes",
        SELECTED: "n2",
        "volume.beta.kubernetes.io/storage-provisioner": "kubeloop.dev/local-path",
        "volume.kubernetes.io/storage-provisioner": "kubeloop.dev/local-path",
    }
    told = events(mini, "c")
    assert told["ProvisioningSucceeded"] == f"Successfully provisioned volume {name}"
    assert told["Provisioning"].endswith('provisioning volume for claim "default/c"')


def test_what_nobody_can_make_is_told() -> None:
    mini = ready_cluster()
    mini.create(claim("shared", storageClassName="now", accessModes=["ReadWriteMany"]))
    mini.create(claim("missing", storageClassName="nowhere"))
    mini.create(claim("none", storageClassName=""))
    made = mini.create(claim("foreign", storageClassName="other"))
    assert made is not None
    mini.settle()
    assert "only supports ReadWriteOnce" in events(mini, "shared")["ProvisioningFailed"]
    assert events(mini, "missing") == {
        "ProvisioningFailed": 'storageclass.storage.k8s.io "nowhere" not found'
    }
    assert "no storage class is set" in events(mini, "none")["FailedBinding"]
    mini.patch(made, {"metadata": {"annotations": {SELECTED: "n1"}}})
    mini.settle()
    assert "'example.com/disk'" in events(mini, "foreign")["ExternalProvisioning"]
    assert {*phases(mini, CLAIMS).values()} == {"Pending"}


def test_a_static_volume_that_nobody_can_delete_says_so() -> None:
    from test_volumes import volume

    mini = ready_cluster()
    mini.create(volume("v", persistentVolumeReclaimPolicy="Delete"))
    made = mini.create(claim("c"))
    assert made is not None
    mini.settle()
    mini.delete(made)
    mini.settle()
    assert phases(mini, VOLUMES) == {"v": "Failed"}
    assert "no deletable volume plugin" in events(mini, "v")["VolumeFailedDelete"]


def test_a_claim_that_asks_for_more_gets_it() -> None:
    mini = ready_cluster()
    made = mini.create(claim("c", storageClassName="now"))
    assert made is not None
    mini.settle()
    mini.patch(made, {"spec": {"resources": {"requests": {"storage": "3Gi"}}}})
    mini.settle()
    bound = mini.get(CLAIMS, "c")
    assert bound is not None
    assert bound["status"]["capacity"] == bound["status"]["allocatedResources"]
    assert bound["status"]["capacity"] == {"storage": "3Gi"}
    assert "conditions" not in bound["status"]
    told = events(mini, "c")
    assert told["Resizing"].startswith("External resizer is resizing volume pvc-")
    assert told["VolumeResizeSuccessful"] == "Resize volume succeeded"


def ephemeral(name: str) -> Obj:
    obj = pod(name, {})
    spec = claim("x", storageClassName="now")["spec"]
    template = {"metadata": {"labels": {"a": "b"}}, "spec": spec}
    obj["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": template}}]
    return obj


def test_an_ephemeral_volume_comes_and_goes_with_its_pod() -> None:
    mini = ready_cluster()
    user = mini.create(ephemeral("p"))
    assert user is not None
    mini.settle()
    found = mini.get(CLAIMS, "p-v")
    assert found is not None and found["status"]["phase"] == "Bound"
    assert found["metadata"]["labels"] == {"a": "b"}
    assert found["metadata"]["ownerReferences"][0]["uid"] == user["metadata"]["uid"]
    mini.delete(user, gracePeriodSeconds=0)
    mini.settle()
    assert mini.all(CLAIMS) == []


def test_a_claim_of_others_is_no_ephemeral_volume() -> None:
    mini = ready_cluster()
    mini.create(claim("p-v"))
    mini.create(ephemeral("p"))
    mini.settle()
    assert events(mini, "p")["FailedBinding"] == (
        "ephemeral volume v: PVC default/p-v was not created for pod default/p (pod is not owner)"
    )
    found = mini.get(CLAIMS, "p-v")
    assert found is not None and "ownerReferences" not in found["metadata"]


def test_a_volume_of_a_node_that_is_gone_is_not_waited_for() -> None:
    mini = ready_cluster()
    made = mini.create(claim("c", storageClassName="standard"))
    assert made is not None
    select(mini, "c", "n2")
    mini.settle()
    node = mini.get("nodes", "n2", "")
    assert node is not None
    mini.delete(node)
    mini.delete(made)
    mini.settle()
    assert phases(mini, VOLUMES) == phases(mini, CLAIMS) == {}


def test_a_volume_is_made_when_a_node_gets_ready() -> None:
    mini = Mini(nodes=())
    mini.create(storage_class("now", volumeBindingMode="Immediate"))
    mini.start()
    mini.create(claim("c", storageClassName="now"))
    made = mini.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}})
    assert made is not None
    mini.pump()
    assert phases(mini, CLAIMS) == {"c": "Pending"}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    mini.patch(made, {"status": ready}, subresource="status")
    mini.pump()
    assert phases(mini, CLAIMS) == {"c": "Bound"}
