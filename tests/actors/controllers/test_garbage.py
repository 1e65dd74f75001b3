"""The garbage collector: no orphan after its owner, the order of the foreground, orphans let go."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, Mini, Obj, Op, deployment, pod, reference

CONFIG_MAPS = "configmaps"
POLICIES = ("Background", "Foreground", "Orphan")


def thing(name: str, *owners: tuple[Obj, bool], **metadata: Any) -> Obj:
    """Return a ConfigMap; owners: (owner, whether it blocks its deletion)."""
    told: Obj = {"name": name, **metadata}
    if owners:
        told["ownerReferences"] = [reference(o, controller=False, block=b) for o, b in owners]
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": told}


def things(mini: Mini) -> dict[str, Obj]:
    found = mini.all(CONFIG_MAPS, "default")
    return {o["metadata"]["name"]: o for o in found if o["metadata"]["name"] != "kube-root-ca.crt"}


def owners_of(obj: Obj) -> list[Obj]:
    return list(obj["metadata"].get("ownerReferences", ()))


EDGES = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.booleans()), max_size=10)
EDITS = st.one_of(
    st.tuples(st.just("delete"), st.integers(0, 6), st.sampled_from([*POLICIES, ""])),
    st.tuples(st.just("own"), st.integers(0, 6), st.integers(0, 6)),
    st.tuples(st.just("make again"), st.integers(0, 6)),
    st.tuples(st.just("free"), st.integers(0, 6)),
)


def edit(mini: Mini, op: Op) -> None:
    what, name, found = op[0], f"t{op[1]}", things(mini)
    obj = found.get(name)
    if obj is None:
        return
    if what == "delete":
        mini.delete(obj, **({"propagationPolicy": op[2]} if op[2] else {}))
    elif what == "own" and f"t{op[2]}" in found:
        more = reference(found[f"t{op[2]}"], controller=False)
        mini.patch(obj, {"metadata": {"ownerReferences": [*owners_of(obj), more]}})
    elif what == "make again":
        mini.delete(obj)
        mini.create(thing(name))
    elif what == "free":
        mini.patch(obj, {"metadata": {"ownerReferences": None}})


@given(
    seed=st.integers(0, 1000),
    edges=EDGES,
    held=st.sets(st.integers(0, 6), max_size=2),
    gone=st.lists(st.tuples(st.integers(0, 6), st.sampled_from(POLICIES)), max_size=3),
    ops=st.lists(st.one_of(DISTURBANCES, EDITS), max_size=30),
)
@settings(max_examples=120)
def test_whatever_graph_it_is_only_the_living_stay(
    seed: int, edges: Any, held: set[int], gone: Any, ops: list[Op]
) -> None:
    mini = Mini(seed=seed)
    for number in range(7):
        mini.create(thing(f"t{number}", finalizers=["test/held"] if number in held else None))
    for dependent, owner, block in edges:  # Circles are no reason to stop.
        found = things(mini)
        told = reference(found[f"t{owner}"], controller=False, block=block)
        obj = found[f"t{dependent}"]
        mini.patch(obj, {"metadata": {"ownerReferences": [*owners_of(obj), told]}})
    for number, policy in gone:
        obj = things(mini).get(f"t{number}")
        if obj is not None:
            mini.delete(obj, propagationPolicy=policy)
    mini.start()
    for op in ops:
        if not mini.disturb(op):
            edit(mini, op)
    mini.settle()
    for obj in things(mini).values():
        if "test/held" in obj["metadata"].get("finalizers", ()):
            mini.patch(obj, {"metadata": {"finalizers": None}})
    mini.settle()
    left = things(mini)
    uids = {o["metadata"]["uid"] for o in left.values()}
    for obj in left.values():
        assert "deletionTimestamp" not in obj["metadata"], "it waits for ever"
        assert all(r["uid"] in uids for r in owners_of(obj)), "a reference to nobody"
    mini.see_that_it_rests()


def chain(policy: str, *, block: bool = True) -> tuple[Mini, list[str]]:
    """Delete the first of a → b → c; return the cluster and the order in which they went."""
    mini = Mini()
    a = mini.create(thing("a")) or {}
    b = mini.create(thing("b", (a, block))) or {}
    mini.create(thing("c", (b, block)))
    mini.start()
    mini.settle()
    since = mini.store.revision
    mini.delete(a, propagationPolicy=policy)
    mini.settle()
    gone = [f for f in mini.changes(since) if f.value is None and f.resource == CONFIG_MAPS]
    return mini, [f.key.rsplit("/", 1)[1] for f in gone]


def test_in_the_background_owners_go_first() -> None:
    assert chain("Background")[1] == ["a", "b", "c"]


def test_in_the_foreground_dependents_go_first() -> None:
    assert chain("Foreground")[1] == ["c", "b", "a"]


def test_what_does_not_block_is_not_waited_for_and_goes_too() -> None:
    mini, gone = chain("Foreground", block=False)
    assert sorted(gone) == ["a", "b", "c"]
    assert not things(mini)


def test_orphans_lose_their_references_before_the_owner_goes() -> None:
    mini, gone = chain("Orphan")
    assert gone == ["a"]
    left = things(mini)
    assert [owners_of(o) for o in (left["b"],)] == [[]]
    assert [r["name"] for r in owners_of(left["c"])] == ["b"]


def test_another_living_owner_keeps_it() -> None:
    for policy in ("Background", "Foreground"):
        mini = Mini()
        a, b = mini.create(thing("a")) or {}, mini.create(thing("b")) or {}
        mini.create(thing("c", (a, True), (b, True)))
        mini.start()
        mini.delete(a, propagationPolicy=policy)
        mini.settle()
        assert sorted(things(mini)) == ["b", "c"]
        assert [r["name"] for r in owners_of(things(mini)["c"])] == ["b"]


def test_two_owners_that_wait_do_not_wait_for_each_other() -> None:
    mini = Mini()
    a, b = mini.create(thing("a")) or {}, mini.create(thing("b")) or {}
    mini.create(thing("c", (a, True), (b, True)))
    mini.delete(a, propagationPolicy="Foreground")
    mini.delete(b, propagationPolicy="Foreground")
    mini.start()
    mini.settle()
    assert not things(mini)


def test_an_owner_of_another_life_is_none() -> None:
    mini = Mini()
    a = mini.create(thing("a")) or {}
    mini.create(thing("b", (a, True)))
    mini.delete(a)
    mini.create(thing("a"))
    mini.start()
    mini.settle()
    assert sorted(things(mini)) == ["a"]


def test_what_nobody_can_know_is_left_alone() -> None:
    mini = Mini()
    stranger = {
        "apiVersion": "example.org/v1",
        "kind": "Widget",
        "metadata": {"name": "w", "uid": "5e0f7a7e-0000-4000-8000-000000000001"},
    }
    mini.create(thing("b", (stranger, True)))
    a = mini.create(thing("a")) or {}
    cluster_wide = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "odd", "ownerReferences": [reference(a)]},
    }
    mini.create(cluster_wide)
    mini.start()
    mini.delete(a)
    mini.settle()
    assert sorted(things(mini)) == ["b"]
    assert mini.get("nodes", "odd", "") is not None


@pytest.mark.parametrize("policy", POLICIES)
def test_a_deployment_and_all_below_it(policy: str) -> None:
    mini = Mini()
    mini.start()
    mini.create(deployment(3))
    mini.settle()
    since = mini.store.revision
    web = mini.get("deployments.apps", "web") or {}
    mini.delete(web, propagationPolicy=policy)
    mini.settle()
    gone = [f.resource for f in mini.changes(since) if f.value is None and f.resource != "events"]
    if policy == "Orphan":
        assert gone == ["deployments.apps"]
        assert len(mini.pods()) == 3
        assert [owners_of(s) for s in mini.all("replicasets.apps")] == [[]]
    elif policy == "Foreground":
        assert gone == ["pods"] * 3 + ["replicasets.apps", "deployments.apps"]
    else:
        assert gone == ["deployments.apps", "replicasets.apps"] + ["pods"] * 3
    mini.see_that_it_rests()


def test_a_reference_that_is_told_twice_does_no_harm() -> None:
    mini = Mini()
    a = mini.create(thing("a")) or {}
    mini.create(thing("b", (a, True), (a, False)))
    mini.start()
    mini.settle()
    mini.patch(things(mini)["b"], {"metadata": {"labels": {"x": "y"}}})
    mini.settle()
    mini.delete(a)
    mini.settle()
    assert not things(mini)


def test_a_pod_keeps_its_grace() -> None:
    mini = Mini()
    a = mini.create(thing("a")) or {}
    obj = mini.create(pod("p", {}, None, ownerReferences=[reference(a)])) or {}
    mini.bind(obj)
    mini.start()
    mini.delete(a)
    mini.settle(kubelets=False)
    assert mini.pods()[0]["metadata"]["deletionGracePeriodSeconds"] == 30


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("all_", [False, True])
def test_circles_do_not_wait_for_themselves(size: int, all_: bool) -> None:
    mini = Mini()
    made = [mini.create(thing(f"t{n}")) or {} for n in range(size)]
    for n, obj in enumerate(made):
        owner = reference(made[n - 1], controller=False)
        mini.patch(obj, {"metadata": {"ownerReferences": [owner]}})
    mini.start()
    mini.settle()
    for obj in made if all_ else made[:1]:
        mini.delete(obj, propagationPolicy="Foreground")
    mini.settle()
    assert not things(mini)
    mini.see_that_it_rests()


def test_a_new_owner_at_the_last_moment_saves_it() -> None:
    mini = Mini()
    a, c = mini.create(thing("a")) or {}, mini.create(thing("c")) or {}
    b = mini.create(thing("b", (a, True))) or {}
    mini.start()
    mini.settle()
    mini.delete(a)
    mini.pump_until_writes()  # The deletion of b is on its way.
    mini.patch(b, {"metadata": {"ownerReferences": [reference(c, controller=False)]}})
    mini.settle()
    assert sorted(things(mini)) == ["b", "c"]
