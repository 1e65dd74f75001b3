"""What the API server looks after itself is there from the start, whoever touches it or crashes."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop import Cluster, sim
from kubeloop.api.errors import ApiError
from kubeloop.net.client import Client

SERVICES, SCHEMAS, LEVELS = "apiservices", "flowschemas", "prioritylevelconfigurations"


def definition(group: str, *versions: str) -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    names = {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"}
    told = [
        {"name": one, "served": True, "storage": one == versions[0], "schema": schema}
        for one in versions
    ]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"things.{group}"},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": told},
    }


async def there(api: Client, kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: dict(one) for one in await api.list(kind)}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["delete", "change", "crash", "define", "undefine"]), st.integers(0, 99)
    ),
    max_size=8,
)


async def step(cluster: Cluster, what: str, number: int) -> None:
    api = cluster.api
    kind = (SCHEMAS, LEVELS)[number % 2]
    group = ("a.example", "b.example")[number % 2]
    try:
        match what:
            case "crash":
                cluster.supervisor.crash("apiserver", RuntimeError("on purpose"))
            case "define":
                await api.create(definition(group, "v1", "v2"))
            case "undefine":
                await api.delete("crd", f"things.{group}")
            case _:
                found = await there(api, kind)
                name = sorted(found)[number % len(found)]
                if what == "delete":
                    await api.delete(kind, name)
                else:
                    level = {"limited": {"nominalConcurrencyShares": number}}
                    spec = {"matchingPrecedence": 1 + number} if kind == SCHEMAS else level
                    await api.patch(kind, name, {"spec": spec}, type_="merge")
    except ApiError as error:
        if error.reason not in ("AlreadyExists", "NotFound", "Invalid", "InternalError"):
            raise


async def play(steps: list[tuple[str, int]]) -> None:
    async with Cluster(nodes=0, seed=1) as cluster:
        api = cluster.api
        fresh = {kind: await there(api, kind) for kind in (SERVICES, SCHEMAS, LEVELS)}
        assert {one["metadata"]["resourceVersion"] for one in fresh[SERVICES].values()} == {"1"}
        for what, number in steps:
            await step(cluster, what, number)
        await asyncio.sleep(60)
        await api.create(definition("c.example", "v1"))  # And all is looked at again.
        await asyncio.sleep(60)
        for kind in (SCHEMAS, LEVELS):
            now = await there(api, kind)
            assert {name: one["spec"] for name, one in now.items()} == {
                name: one["spec"] for name, one in fresh[kind].items()
            }
        for schema in (await there(api, SCHEMAS)).values():
            (condition,) = schema["status"]["conditions"]
            assert (condition["type"], condition["status"]) == ("Dangling", "False")
        groups = {one["spec"]["group"] for one in await api.list("crd")}
        wanted = {f"{v}.{g}" for g in groups for v in ("v1", "v2")} - {"v2.c.example"}
        services = await there(api, SERVICES)
        assert services.keys() == fresh[SERVICES].keys() | wanted
        for service in services.values():
            (condition,) = service["status"]["conditions"]
            assert (condition["status"], condition["reason"]) == ("True", "Local")
        revision = cluster.store.revision
        await asyncio.sleep(600)
        assert cluster.store.revision == revision, "what is right is written no more"


@settings(max_examples=25)
@given(STEPS)
def test_it_is_put_back(steps: list[tuple[str, int]]) -> None:
    sim.run(lambda: play(steps), seed=1)


async def others() -> None:
    async with Cluster(nodes=0, seed=1) as cluster:
        api = cluster.api
        own = {
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
            "kind": "FlowSchema",
            "metadata": {"name": "own"},
            "spec": {"priorityLevelConfiguration": {"name": "later"}, "matchingPrecedence": 77},
        }
        await api.create(own)
        (condition,) = (await api.get(SCHEMAS, "own"))["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("True", "NotFound")
        level = {**own, "kind": "PriorityLevelConfiguration", "metadata": {"name": "later"}}
        limited = {"nominalConcurrencyShares": 1, "limitResponse": {"type": "Reject"}}
        await api.create({**level, "spec": {"type": "Limited", "limited": limited}})
        (condition,) = (await api.get(SCHEMAS, "own"))["status"]["conditions"]
        assert (condition["status"], condition["reason"]) == ("False", "Found")
        # Who says that he looks after a suggested one does so.
        metadata = {"annotations": {"apf.kubernetes.io/autoupdate-spec": "false"}}
        change = {"metadata": metadata, "spec": {"matchingPrecedence": 9001}}
        await api.patch(SCHEMAS, "service-accounts", change, type_="merge")
        assert (await api.get(SCHEMAS, "service-accounts"))["spec"]["matchingPrecedence"] == 9001
        await api.delete(SERVICES, "v1.batch")
        with pytest.raises(ApiError, match="not found"):
            await api.get(SERVICES, "v1.batch")


def test_what_users_look_after_stays() -> None:
    sim.run(others, seed=1)
