"""The numbers of a rollout, and that they wait for what another controller has yet to do."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mini_cluster import deployment, reference, replica_set, template

from kubeloop.actors.controllers.deployment import DeploymentController, template_hash
from kubeloop.actors.controllers.rollout import (
    Bounds,
    Set,
    bounds,
    new_size,
    old_sizes,
    proportional_sizes,
)
from kubeloop.actors.view import View
from kubeloop.store.facts import Fact, key_of

Obj = dict[str, Any]

# From Kubernetes' documentation and tests: replicas, maxSurge, maxUnavailable → surge, unavailable.
FENCES = [
    (10, "25%", "25%", 3, 2),
    (3, "25%", "25%", 1, 0),
    (1, "25%", "25%", 1, 0),
    (4, "50%", "50%", 2, 2),
    (5, 0, 0, 0, 1),
    (5, "0%", "0%", 0, 1),
    (2, 1, 5, 1, 2),
    (0, "25%", "25%", 0, 0),
]


@pytest.mark.parametrize(("replicas", "surge", "unavailable", "up", "down"), FENCES)
def test_percentages(
    replicas: int, surge: int | str, unavailable: int | str, up: int, down: int
) -> None:
    assert bounds(replicas, surge, unavailable) == Bounds(replicas, up, down)


sizes = st.integers(0, 12)


@given(sizes, sizes, sizes, sizes)
def test_the_new_set_grows_as_far_as_there_is_room(
    replicas: int, surge: int, new: int, old: int
) -> None:
    limits = Bounds(replicas, surge, 0)
    size = new_size(limits, new, new + old)
    assert size <= max(replicas, 0)
    if size > new:
        assert size + old <= replicas + surge
    if new < replicas and new + old < replicas + surge:
        assert size > new


@st.composite
def some_sets(draw: st.DrawFn) -> list[Set]:
    made = []
    for number in range(draw(st.integers(1, 4))):
        wanted = draw(sizes)
        made.append(
            Set(
                name=f"s{number}",
                wanted=wanted,
                available=draw(st.integers(0, wanted)),
                limit=draw(st.integers(0, 20)),
            )
        )
    return made


@given(sizes, sizes, sizes, some_sets())
def test_old_sets_shrink_only_as_far_as_enough_stay(
    replicas: int, surge: int, unavailable: int, sets: list[Set]
) -> None:
    limits = bounds(replicas, surge, unavailable)
    new, *old = sets
    after = old_sizes(limits, new, old)
    total = {s.name: after.get(s.name, s.wanted) for s in old}
    assert all(0 <= total[s.name] <= s.wanted for s in old)
    # Those that are not available are the first to go, so the others stay.
    left = new.available + sum(min(total[s.name], s.available) for s in old)
    before = new.available + sum(s.available for s in old)
    assert left >= min(before, limits.least_available)


@given(sizes, sizes, sizes, some_sets(), st.integers(0, 20))
def test_shares_add_up(
    replicas: int, surge: int, unavailable: int, sets: list[Set], had: int
) -> None:
    limits = bounds(replicas, surge, unavailable)
    active = [s for s in sets if s.wanted]
    after = proportional_sizes(limits, active, had)
    assert all(size >= 0 for size in after.values())
    growing = limits.most >= sum(s.wanted for s in active)
    if active and (growing or not any(size == 0 for size in after.values())):
        assert sum(after.values()) == limits.most


# From Kubernetes' TestScale: replicas, surge, sets (wanted, limit), oldest first → sizes.
SHARES = [
    (12, 0, [(5, 10), (5, 10)], [6, 6]),
    (5, 0, [(5, 10), (5, 10)], [2, 3]),
    (7, 0, [(5, 10), (3, 10), (2, 10)], [4, 2, 1]),
    (12, 0, [(5, 10), (3, 10), (2, 10)], [6, 4, 2]),
    (20, 0, [(5, 15), (5, 15), (5, 15)], [6, 7, 7]),
    (0, 0, [(2, 5), (3, 5)], [0, 0]),
]


@pytest.mark.parametrize(("replicas", "surge", "sets", "wanted"), SHARES)
def test_shares_of_a_scaling(
    replicas: int, surge: int, sets: list[tuple[int, int]], wanted: list[int]
) -> None:
    told = [
        Set(name=str(n), wanted=w, available=0, limit=limit) for n, (w, limit) in enumerate(sets)
    ]
    after = proportional_sizes(Bounds(replicas, surge, 0), told, 0)
    assert [after[s.name] for s in told] == wanted


# What the statuses of the sets hold back. The bounds: 4 replicas, 1 more, 1 less.


def view_of(*objects: tuple[str, Obj]) -> View:
    view = View(DeploymentController().indexes)
    for revision, (resource, obj) in enumerate(objects, 1):
        metadata = obj["metadata"]
        key = key_of(resource, metadata["namespace"], metadata["name"])
        view.fold(Fact(revision, key, msgpack.packb(obj)))
    return view


def rollout(old: tuple[int, int, int, int], new: int) -> list[tuple[str, int]]:
    """Return (verb, replicas) of the sets the next step writes.

    old: spec.replicas, status.replicas, generation, observedGeneration;  new: spec.replicas.
    """
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
    owner = deployment(4, "b", strategy=strategy)
    owner["metadata"] |= {
        "uid": "u",
        "namespace": "default",
        "generation": 2,
        "annotations": {"deployment.kubernetes.io/revision": "2"},
    }
    made: list[tuple[str, Obj]] = [("deployments.apps", owner)]
    told = (("a", "1", *old), ("b", "2", new, new, 1, 1))
    for image, revision, wanted, actual, generation, observed in told:
        labels = {"app": "web", "pod-template-hash": image}
        obj = replica_set(f"web-{image}", labels, wanted)
        obj["metadata"] |= {
            "uid": f"u-{image}",
            "namespace": "default",
            "generation": generation,
            "creationTimestamp": f"2026-01-01T00:00:0{revision}Z",
            "ownerReferences": [reference(owner)],
            "labels": labels,
            "annotations": {
                "deployment.kubernetes.io/revision": revision,
                "deployment.kubernetes.io/desired-replicas": "4",
                "deployment.kubernetes.io/max-replicas": "5",
            },
        }
        obj["spec"]["template"] = template(labels, image)
        obj["status"] = {
            "replicas": actual,
            "availableReplicas": 0,
            "observedGeneration": observed,
        }
        made.append(("replicasets.apps", obj))
    result = DeploymentController().reconcile(
        "/registry/deployments.apps/default/web", view_of(*made), 1.8e9, ""
    )
    return [
        (action.request.name, msgpack.unpackb(action.request.body)["spec"]["replicas"])
        for action in result.actions
        if action.request.resource == "replicasets.apps"
    ]


def test_the_new_set_grows_into_the_room_there_is() -> None:
    assert rollout(old=(2, 2, 3, 3), new=2) == [("web-b", 3)]


def test_pods_that_are_yet_to_be_ended_take_up_room() -> None:
    assert rollout(old=(2, 3, 3, 3), new=2) == []


def test_a_set_that_has_not_seen_its_size_may_have_any() -> None:
    assert rollout(old=(2, 2, 3, 2), new=2) == []


def test_a_hash_makes_no_words_and_tells_templates_apart() -> None:
    made = {template_hash(template({"app": "web"}, image), n) for image in "abc" for n in range(3)}
    assert len(made) == 9
    assert set("".join(made)) <= set("bcdfghjklmnpqrstvwxz2456789")
