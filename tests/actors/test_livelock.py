"""Who writes what again and again, told from facts."""

from collections.abc import Sequence
from typing import Any

import msgpack
import pytest

from kubeloop.actors.livelock import cycles, is_heartbeat, writer_of
from kubeloop.store.facts import Cause, Fact

ANN, BOB = Cause("", "", 0, "ann"), Cause("bob", "", 0, "system:bob")
MANAGER = Cause("controller-manager", "", 0, "system:serviceaccount:kube-system:web-controller")
KEY = "/registry/deployments.apps/default/web"


def obj(name: str = "web", **fields: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "default"}, **fields}


def told(key: str, *versions: tuple[Cause, dict[str, Any] | None]) -> list[Fact]:
    """Return the facts of one key."""
    facts: list[Fact] = []
    before: bytes | None = None
    for number, (cause, version) in enumerate(versions, 1):
        after = None if version is None else msgpack.packb(version)
        facts.append(Fact(number, key, after, before, cause))
        before = after
    return facts


def scaled(*steps: tuple[Cause, int]) -> list[Fact]:
    return told(KEY, *((who, obj(spec={"replicas": n, "paused": False})) for who, n in steps))


@pytest.mark.parametrize(
    ("actor", "user", "name"),
    [
        ("controller-manager", "system:serviceaccount:kube-system:web-controller",
         "web-controller"),
        ("kubelet/node-1", "system:node:node-1", "kubelet/node-1"),
        ("", "ann", "client 'ann'"),
        ("", "system:serviceaccount:default:robot",
         "client 'system:serviceaccount:default:robot'"),
        ("", "", "somebody"),
    ],
)  # fmt: skip
def test_writers_have_names(actor: str, user: str, name: str) -> None:
    assert writer_of(actor, user) == name


def test_two_who_disagree_are_named_with_what_they_disagree_about() -> None:
    facts = scaled((ANN, 3), (MANAGER, 5), (ANN, 3), (MANAGER, 5), (ANN, 3))
    assert cycles(facts) == [
        "web-controller and client 'ann' write deployments default/web in turns: "
        "spec.replicas 3 → 5 → 3 → 5 → 3 (5 writes)"
    ]


def test_one_who_cannot_make_up_his_mind_is_named_too() -> None:
    facts = scaled((ANN, 1), *((BOB, n % 2) for n in range(9)))
    assert cycles(facts) == [
        "bob writes deployments default/web again and again: "
        "spec.replicas 1 → 0 → 1 → 0 → 1 → 0 → … (10 writes)"
    ]


def test_of_many_fields_that_one_is_told_whose_values_come_back() -> None:
    versions = [
        (ANN if n % 2 else BOB, obj(status={"seen": n, "conditions": [{"status": str(n % 2)}]}))
        for n in range(6)
    ]
    (line,) = cycles(told(KEY, *versions))
    assert "status.conditions[0].status 0 → 1 → 0 → 1" in line


def test_pods_that_are_made_and_ended_in_turns() -> None:
    facts: list[Fact] = []
    for number in range(4):
        pod = obj(f"web-{number}")
        pod["metadata"]["generateName"] = "web-"
        ending = {"metadata": {**pod["metadata"], "deletionTimestamp": "2026"}}
        key = f"/registry/pods/default/web-{number}"
        facts += told(key, (MANAGER, pod), (ANN, ending), (BOB, None))
    assert cycles(facts) == [
        "web-controller creates pods default/web-* and client 'ann' and bob delete them, in turns: "
        "4 created, 8 deleted (12 writes)"
    ]


def test_what_is_written_once_or_twice_is_no_cycle() -> None:
    facts = scaled((ANN, 1), (BOB, 2)) + told("/registry/pods/a/b", (ANN, obj()), (ANN, None))
    assert cycles(facts) == []


def test_the_busiest_come_first_and_not_all() -> None:
    facts: list[Fact] = []
    for number in range(5):
        versions = [(ANN, obj(data={"n": str(n % 2)})) for n in range(4 + number)]
        facts += told(f"/registry/configmaps/default/{number}", *versions)
    assert [line.split()[4] for line in cycles(facts)] == ["default/4", "default/3", "default/2"]


def node(beat: str, status: str = "True", images: Sequence[str] = ()) -> dict[str, Any]:
    ready = {"type": "Ready", "status": status, "lastHeartbeatTime": beat}
    version = {"metadata": {"name": "n", "resourceVersion": beat}}
    return {**version, "status": {"conditions": [ready], "images": list(images)}}


@pytest.mark.parametrize(
    ("after", "heartbeat"),
    [
        (node("2"), True),
        (node("2", images=["a", "b"]), True),
        (node("2", status="False"), False),
        ({**node("2"), "spec": {"unschedulable": True}}, False),
        (None, False),
    ],
)
def test_a_node_that_only_says_that_it_lives(after: dict[str, Any] | None, heartbeat: bool) -> None:
    first, second = told("/registry/nodes/n", (BOB, node("1")), (BOB, after))
    assert is_heartbeat(second) is heartbeat
    assert not is_heartbeat(first), "that it is there is news"


def test_leases_and_events_are_heartbeats() -> None:
    for resource in ("leases.coordination.k8s.io", "events"):
        (fact,) = told(f"/registry/{resource}/default/x", (BOB, obj()))
        assert is_heartbeat(fact)
    assert not is_heartbeat(scaled((ANN, 1))[0])
