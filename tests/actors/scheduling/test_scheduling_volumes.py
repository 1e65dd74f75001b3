"""What claims ask of a node, and what is written so that they get it; messages are Kubernetes'."""

import itertools
from collections.abc import Mapping
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.scheduling.demand import demand_of
from kubeloop.actors.scheduling.filters import first_failure
from kubeloop.actors.scheduling.framework import Placement, schedule
from kubeloop.actors.scheduling.nodeinfo import State
from kubeloop.actors.scheduling.volumes import CLAIMS, CLASSES, VOLUMES, Volumes, request_of

Object = dict[str, Any]
SELECTED = "volume.kubernetes.io/selected-node"
uids = itertools.count(1)


def meta(name: str, **more: Any) -> Object:
    return {"name": name, "uid": f"u{next(uids)}", "resourceVersion": "7", **more}


def claim(name: str = "c", *, of: str = "late", bound: str = "", **more: Any) -> Object:
    notes = dict(more.pop("notes", {}))
    spec = {
        "storageClassName": of,
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
        **more,
    }
    if bound:
        spec["volumeName"] = bound
        notes["pv.kubernetes.io/bind-completed"] = "yes"
    return {
        "metadata": meta(name, namespace="default", annotations=notes),
        "spec": spec,
        "status": {"phase": "Bound" if bound else "Pending"},
    }


def volume(name: str, node: str = "", of: str = "late", **spec: Any) -> Object:
    told = {
        "storageClassName": of,
        "accessModes": ["ReadWriteOnce"],
        "capacity": {"storage": "1Gi"},
        **spec,
    }
    if node:
        expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}
        told["nodeAffinity"] = {
            "required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
        }
    return {"metadata": meta(name), "spec": told, "status": {"phase": "Available"}}


def storage_class(name: str, provisioner: str = "example.com/disk", **more: Any) -> Object:
    mode = {"volumeBindingMode": "WaitForFirstConsumer"}
    return {"metadata": meta(name), "provisioner": provisioner, **mode, **more}


def pod(*claims: str, **metadata: Any) -> Object:
    volumes = [{"name": n, "persistentVolumeClaim": {"claimName": n}} for n in claims]
    told = meta("p", namespace="default", **metadata)
    return {"metadata": told, "spec": {"containers": [], "volumes": volumes}}


def state(*names: str) -> State:
    made = State()
    for name in names:
        labels = {"kubernetes.io/hostname": name, "zone": name[-1]}
        made.set_node({
            "metadata": {"name": name, "labels": labels},
            "status": {"allocatable": {"pods": "10"}},
        })  # fmt: skip
    return made


def known(*objects: Object) -> Volumes:
    volumes = Volumes()
    for obj in objects:
        metadata = obj["metadata"]
        if "provisioner" in obj:
            volumes.fold(CLASSES, metadata["name"], obj)
        elif "namespace" in metadata:
            volumes.fold(CLAIMS, f"default/{metadata['name']}", obj)
        else:
            volumes.fold(VOLUMES, metadata["name"], obj)
    return volumes


def place(volumes: Volumes, of: Object, nodes: State, *, in_use: bool = False) -> str:
    """Return the node a pod goes to, or why it goes to none."""
    needs = volumes.needs(of, lambda claim, key: in_use)
    found = schedule(demand_of(of).with_needs(needs), nodes, lambda: 0.5)
    return found.node if isinstance(found, Placement) else found.message


NONE = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
NO_VICTIMS = "preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
LATE, STATIC = storage_class("late"), storage_class("static", "kubernetes.io/no-provisioner")
SHUT = claim()
SHUT["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
LOST = claim(bound="v")
LOST["status"]["phase"] = "Lost"
ALONE = claim(bound="v", accessModes=["ReadWriteOncePod"])


@pytest.mark.parametrize(
    ("objects", "why"),
    [
        ([], 'persistentvolumeclaim "c" not found'),
        ([claim(of="")], "pod has unbound immediate PersistentVolumeClaims"),
        ([claim(of="gone")], "pod has unbound immediate PersistentVolumeClaims"),
        ([LATE, claim(volumeName="v")], "pod has unbound immediate PersistentVolumeClaims"),
        ([LATE, SHUT], 'persistentvolumeclaim "c" is being deleted'),
        (
            [LOST],
            'persistentvolumeclaim "c" bound to non-existent persistentvolume "v"',
        ),
        (
            [claim(bound="v")],
            "2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        ),
        ([claim(bound="v"), volume("v", "n3")], "2 node(s) had volume node affinity conflict"),
        (
            [STATIC, claim(of="static")],
            "2 node(s) didn't find available persistent volumes to bind",
        ),
        (
            [STATIC, claim(of="static"), volume("v", "n3", of="static")],
            "2 node(s) didn't find available persistent volumes to bind",
        ),
        (
            [LATE, claim(notes={SELECTED: "n3"})],
            "2 node(s) didn't find available persistent volumes to bind",
        ),
    ],
)
def test_why_no_node_will_do(objects: list[Object], why: str) -> None:
    told = place(known(*objects), pod("c"), state("n1", "n2"))
    assert told == f"0/2 nodes are available: {why}. {NONE}"


def test_what_only_one_pod_may_have_another_has() -> None:
    volumes, nodes = known(ALONE, volume("v")), state("n1", "n2")
    why = (
        "2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access"
        " mode"
    )
    told = place(volumes, pod("c"), nodes, in_use=True)
    assert told == f"0/2 nodes are available: {why}. {NO_VICTIMS}"
    assert place(volumes, pod("c"), nodes) in ("n1", "n2")


def test_an_ephemeral_volume_waits_for_a_claim_of_its_own() -> None:
    user = pod()
    user["spec"]["volumes"] = [{"name": "v", "ephemeral": {"volumeClaimTemplate": {}}}]
    told = place(known(LATE), user, state("n1"))
    why = 'waiting for ephemeral volume controller to create the persistentvolumeclaim "p-v"'
    assert told.startswith(f"0/1 nodes are available: {why}. ")
    told = place(known(LATE, claim("p-v")), user, state("n1"))
    assert "PVC default/p-v was not created for pod default/p (pod is not owner)" in told
    made = claim("p-v")
    made["metadata"]["ownerReferences"] = [{"controller": True, "uid": user["metadata"]["uid"]}]
    assert place(known(LATE, made), user, state("n1")) == "n1"


def test_volumes_say_where_a_pod_goes() -> None:
    nodes = state("n1", "n2", "n3")
    assert place(known(claim(bound="v"), volume("v", "n2")), pod("c"), nodes) == "n2"
    assert place(known(LATE, claim(notes={SELECTED: "n3"})), pod("c"), nodes) == "n3"
    static = known(STATIC, claim(of="static"), volume("v", "n2", of="static"))
    assert place(static, pod("c"), nodes) == "n2"
    topology = [{"matchLabelExpressions": [{"key": "zone", "values": ["3"]}]}]
    there = known(storage_class("late", allowedTopologies=topology), claim())
    assert place(there, pod("c"), nodes) == "n3"


def test_what_is_written_is_about_what_was_seen() -> None:
    volumes = known(
        LATE, STATIC, claim("a"), claim("b", of="static"), volume("v", "n1", of="static")
    )
    user, nodes = pod("a", "b"), state("n1", "n2")
    needs = volumes.needs(user, lambda claim, key: False)
    steps = volumes.plan(needs, nodes.nodes["n1"])
    told = {
        (r.resource, r.name): msgpack.unpackb(r.body)
        for r in (request_of(step, "n1") for step in steps)
    }
    select, reserve = told[CLAIMS, "a"], told[VOLUMES, "v"]
    assert select["metadata"]["annotations"] == {SELECTED: "n1"}
    assert select["metadata"]["resourceVersion"] == reserve["metadata"]["resourceVersion"] == "7"
    assert reserve["metadata"]["annotations"] == {"pv.kubernetes.io/bound-by-controller": "yes"}
    assert reserve["spec"]["claimRef"]["name"] == "b"
    for step in steps:
        volumes.assume(step, "n1")
    again = volumes.needs(user, lambda claim, key: False)
    assert volumes.plan(again, nodes.nodes["n1"])[0].volume is not None  # Until it is heard of.
    assert not volumes.progress(user, nodes.nodes["n1"]).bound
    assert volumes.progress(user, nodes.nodes["n1"]).failure == ""
    volumes.doubt(user)
    why = 'selectedNode annotation reset for PVC "a"'
    assert volumes.progress(user, nodes.nodes["n1"]).failure == why


@given(
    st.lists(st.tuples(st.sampled_from(["n1", "n2", "n3", ""]), st.integers(1, 3)), max_size=5),
    st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2), min_size=1, max_size=4),
)
def test_no_two_pods_of_a_turn_get_one_volume(
    offered: list[tuple[str, int]], pods: list[list[int]]
) -> None:
    """Whoever is placed gets free volumes that fit, are usable on its node, and nobody else's."""
    made = [
        volume(f"v{n}", node, of="static", capacity={"storage": f"{size}Gi"})
        for n, (node, size) in enumerate(offered)
    ]
    by_name = {v["metadata"]["name"]: (node, size)
               for v, (node, size) in zip(made, offered, strict=True)}  # fmt: skip
    volumes, nodes = known(STATIC, *made), state("n1", "n2", "n3")
    given_to: dict[str, str] = {}
    for number, sizes in enumerate(pods):
        names = [f"c{number}-{n}" for n in range(len(sizes))]
        asked: Mapping[str, int] = dict(zip(names, sizes, strict=True))
        for name, size in asked.items():
            requests = {"requests": {"storage": f"{size}Gi"}}
            volumes.fold(CLAIMS, f"default/{name}", claim(name, of="static", resources=requests))
        user = pod(*names)
        needs = volumes.needs(user, lambda claim, key: False)
        demand = demand_of(user).with_needs(needs)
        found = schedule(demand, nodes, lambda: 0.5)
        fits = [name for name, node in nodes.nodes.items() if first_failure(demand, node) is None]
        assert isinstance(found, Placement) == bool(fits)
        if not isinstance(found, Placement):
            continue
        steps = volumes.plan(needs, nodes.nodes[found.node])
        assert sorted(step.claim["metadata"]["name"] for step in steps) == names
        for step in steps:
            assert step.volume is not None
            name = step.volume["metadata"]["name"]
            assert name not in given_to
            node, size = by_name[name]
            assert node in ("", found.node) and size >= asked[step.claim["metadata"]["name"]]
            given_to[name] = step.claim["metadata"]["name"]
            volumes.assume(step, found.node)
