"""Conversion under faults: whatever a webhook does, what was acknowledged is in both versions."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_conversion import FOOS, Asking, converters, definition, foo, swapped

from kubeloop import Cluster, sim
from kubeloop.api.conversion import converted

Json = dict[str, Any]
FIELDS = {"v1": "host", "v2": "address"}


@dataclass(frozen=True)
class Step:
    """One write, and what the webhook does meanwhile."""

    verb: str
    at: str
    name: str
    value: str
    mood: str


steps = st.lists(
    st.builds(
        Step,
        st.sampled_from(["create", "patch", "patch", "delete"]),
        st.sampled_from(["v1", "v2"]),
        st.sampled_from("ab"),
        st.sampled_from("xyz"),
        st.sampled_from(["honest", "honest", "gone", "slow", "mad", "refusing"]),
    ),
    min_size=1,
    max_size=8,
)


@dataclass
class Told:
    """What was acknowledged."""

    values: dict[str, str] = field(default_factory=dict)

    def take(self, step: Step) -> None:
        if step.verb == "delete":
            del self.values[step.name]
        else:
            self.values[step.name] = step.value


async def write(ask: Asking, step: Step) -> int:
    spec = {FIELDS[step.at]: step.value}
    if step.verb == "create":
        return (await ask("create", step.at, body=foo(step.name, step.at, **spec))).code
    if step.verb == "patch":
        change = {"spec": spec}
        return (await ask("patch", step.at, step.name, change, patchType="merge")).code
    return (await ask("delete", step.at, step.name)).code


async def take_step(ask: Asking, step: Step, told: Told) -> None:
    if step.mood == "gone":
        code = await write(ask, step)
    elif step.mood == "slow":
        async with converters(wait=40):
            code = await write(ask, step)
    elif step.mood == "mad":
        async with converters(lambda obj, _: obj):
            code = await write(ask, step)
    elif step.mood == "refusing":
        async with converters(response={"result": {"status": "Failure"}}):
            code = await write(ask, step)
    else:
        async with converters():
            code = await write(ask, step)
            known = step.name in told.values
            wanted = 409 if step.verb == "create" and known else 404
            fine = known != (step.verb == "create")
            assert code == wanted if not fine else code < 300
    if code < 300:
        told.take(step)
    else:
        assert code in (404, 409, 500)


@settings(max_examples=25, deadline=None)
@given(steps, st.sampled_from(["v1", "v2"]))
def test_what_was_acknowledged_is_there_in_both_versions(taken: list[Step], stores: str) -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as cluster:
            await cluster.api.create(definition(stores))
            await cluster.api.wait(f"crd/{FOOS}", "condition=Established")
            ask, told = Asking(cluster), Told()
            for step in taken:
                await take_step(ask, step, told)
            async with converters():
                for at, name in FIELDS.items():
                    items = await ask.items(at)
                    assert {one["apiVersion"] for one in items} <= {f"rec.io/{at}"}
                    found = {one["metadata"]["name"]: one["spec"][name] for one in items}
                    assert found == told.values

    sim.run(main)


metadata = st.fixed_dictionaries(
    {"name": st.just("a"), "uid": st.just("u")},
    optional={
        "labels": st.dictionaries(st.sampled_from("lm"), st.sampled_from("xy")),
        "annotations": st.none() | st.dictionaries(st.sampled_from("lm"), st.sampled_from("xy")),
        "finalizers": st.lists(st.sampled_from(["f/x", "f/y"])),
        "generation": st.integers(1, 9),
        "resourceVersion": st.sampled_from(["1", "2"]),
    },
)


@given(st.lists(st.tuples(metadata, metadata), min_size=1, max_size=3))
def test_a_webhook_changes_no_metadata_but_labels_and_annotations(
    pairs: list[tuple[Json, Json]],
) -> None:
    asked = {"kind": "ConversionReview", "apiVersion": "x/v1", "request": {"uid": "q"}}
    objects = [{**foo("a", host="h"), "metadata": was} for was, _ in pairs]
    told = [
        {**swapped(obj, "rec.io/v2"), "metadata": made}
        for obj, (_, made) in zip(objects, pairs, strict=True)
    ]
    response = {"uid": "q", "result": {"status": "Success"}, "convertedObjects": told}
    answer = {**asked, "response": response}
    for one, (was, made) in zip(converted(objects, "rec.io/v2", asked, answer), pairs, strict=True):
        free = {k: made[k] for k in ("labels", "annotations") if made.get(k)}
        kept = {k: v for k, v in was.items() if k not in ("labels", "annotations")}
        assert one["metadata"] == {**kept, **free}
        assert one["spec"] == {"address": "h"}
