"""Custom kinds in chaos: monitors watch their objects like all others, and so does time travel."""

import asyncio
from typing import Any

import pytest

from kubeloop import chaos, sim
from kubeloop.api.errors import ApiError
from kubeloop.cluster import Cluster

FOOS = "foos.rec.io"
SCHEMA: Any = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
DEFINITION: Any = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": FOOS},
    "spec": {
        "group": "rec.io",
        "scope": "Namespaced",
        "names": {"plural": "foos", "kind": "Foo"},
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": SCHEMA}}
        ],
    },
}


def foo(name: str, **spec: Any) -> Any:
    return {"apiVersion": "rec.io/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec}


async def gardener(stage: chaos.Stage) -> None:
    """Define a kind, and make, change and delete objects of it, each with a dependent."""
    api = stage.client("gardener")
    number = 0
    while True:
        number += 1
        try:
            await api.apply(DEFINITION)
            await api.wait(f"crd/{FOOS}", "condition=Established", timeout_s=5.0)
            (made,) = await api.apply(foo(f"f{number % 3}", number=number))
            owner = {"apiVersion": "rec.io/v1", "kind": "Foo", "name": made.name, "uid": made.uid}
            child: Any = {"apiVersion": "v1", "kind": "ConfigMap", "data": {}}
            child["metadata"] = {"name": f"c{number}", "ownerReferences": [owner]}
            await api.create(child)
            if number % 2:
                await api.delete(FOOS, made.name)
        except (ApiError, ConnectionError, LookupError, TimeoutError):
            pass
        await asyncio.sleep(1.7 if number < 12 else 1e9)


FAULTS = (
    chaos.ActorCrashes,
    chaos.ActorDown,
    chaos.ActorWatchBreaks,
    chaos.ApiFails,
    chaos.ApiRestarts,
    chaos.AnswerLost,
    chaos.Compaction,
)
PROFILE = chaos.Profile(steps=(chaos.Configure,), faults=FAULTS, nodes_most=1, within_s=20.0)


@pytest.mark.parametrize("seed", range(12))
def test_nobody_objects_whatever_breaks(seed: int) -> None:
    chaos.play(chaos.plan_of(seed, PROFILE), operator=gardener)


def test_an_invariant_may_be_about_a_custom_kind() -> None:
    @chaos.invariant
    def few_foos(sight: chaos.Sight) -> None:
        assert len(sight.objects("crd")) == 0 or len(sight.objects("foos")) < 2, "two foos"

    with pytest.raises(chaos.Violation, match="few_foos: two foos"):
        chaos.play(chaos.Plan(), operator=gardener, monitors=lambda: [few_foos])


def test_what_outlives_a_custom_owner_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.actors.controllers import garbage

    monkeypatch.setattr(garbage, "_is_gone", lambda *_: False)
    with pytest.raises(chaos.Violation, match=r"is there at rest, its owner Foo f\d .*gone"):
        chaos.play(chaos.Plan(), operator=gardener)


def test_the_past_of_a_custom_kind() -> None:
    async def main() -> None:
        async with Cluster(nodes=1, seed=1) as cluster:
            before = cluster.store.revision
            await cluster.api.create(DEFINITION)
            await cluster.api.wait(f"crd/{FOOS}", "condition=Established")
            made = await cluster.api.create(foo("f", a=1))
            await cluster.api.patch(FOOS, "f", {"spec": {"a": 2}})
            moments = cluster.history("foos", "f")
            assert [one.object["spec"]["a"] for one in moments] == [1, 2]
            past = cluster.at(made.resource_version)
            assert past.get(FOOS, "f")["spec"] == {"a": 1}
            assert [one.name for one in past.list("foo")] == ["f"]
            with pytest.raises(LookupError):
                cluster.at(before).list(FOOS)

    sim.run(main, seed=1)
