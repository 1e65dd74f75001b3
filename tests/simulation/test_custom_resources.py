"""Custom resources, from their definition to its end: like any other, in simulation."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kubeloop import sim
from kubeloop.api.errors import ApiError, Conflict, Invalid, MethodNotAllowed, NotFound
from kubeloop.cluster import Cluster
from kubeloop.sim.disk import MemoryDisk

FOOS = "foos.rec.io"
VERSION = {
    "name": "v1",
    "served": True,
    "storage": True,
    "subresources": {
        "status": {},
        "scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"},
    },
    "selectableFields": [{"jsonPath": ".spec.a"}],
    "schema": {
        "openAPIV3Schema": {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "a": {"type": "string"},
                        "replicas": {"type": "integer", "default": 3},
                    },
                },
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
            },
        }
    },
}


def definition(kind: str = "Foo", *versions: dict[str, Any], **spec: Any) -> dict[str, Any]:
    plural = f"{kind.lower()}s"
    names = {"plural": plural, "kind": kind, **spec.pop("names", {})}
    told = {"group": "rec.io", "scope": "Namespaced", "names": names, **spec}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.rec.io"},
        "spec": {**told, "versions": list(versions) or [VERSION]},
    }


def foo(name: str = "f", *, version: str = "v1", owner: Any = None, **spec: Any) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": name}
    if owner is not None:
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"]}
        metadata["ownerReferences"] = [{**reference, "name": owner.name, "uid": owner.uid}]
    return {"apiVersion": f"rec.io/{version}", "kind": "Foo", "metadata": metadata, "spec": spec}


def config(name: str, owner: Any) -> dict[str, Any]:
    return {**foo(name, owner=owner), "apiVersion": "v1", "kind": "ConfigMap", "spec": None}


def played(play: Callable[[Cluster], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        async with Cluster(nodes=1, seed=1, **options) as cluster:
            return await play(cluster)

    return sim.run(main, seed=1)


async def defined(cluster: Cluster, *args: Any, **spec: Any) -> Any:
    made = await cluster.api.create(definition(*args, **spec))
    return await cluster.api.wait(f"crd/{made.name}", "condition=Established")


def test_an_object_is_pruned_defaulted_counted_and_has_a_status_of_its_own() -> None:
    async def play(cluster: Cluster) -> None:
        await defined(cluster)
        made = await cluster.api.create({**foo(a="x", b=1), "status": {"replicas": 9}})
        assert made["spec"] == {"a": "x", "replicas": 3} and "status" not in made
        assert made["metadata"]["generation"] == 1
        told = await cluster.api.patch(FOOS, "f", {"status": {"q": 1}}, subresource="status")
        assert told["status"] == {"q": 1} and told["metadata"]["generation"] == 1
        told = await cluster.api.patch(FOOS, "f", {"spec": {"a": "y"}, "status": {"q": 2}})
        assert told["status"] == {"q": 1} and told["metadata"]["generation"] == 2
        assert list(told) == sorted(told) and list(told["metadata"]) == sorted(told["metadata"])
        await cluster.api.scale("foo", "f", 7)
        assert (await cluster.api.get("Foo", "f"))["spec"]["replicas"] == 7
        with pytest.raises(Conflict):
            await cluster.api.update(made)
        with pytest.raises(Invalid, match=r"spec.a: Invalid value: .*must be of type string"):
            await cluster.api.create(foo("g", a=1))
        found = await cluster.api.list(FOOS, fields="spec.a=y")
        assert [one.name for one in found] == ["f"]
        assert await cluster.api.list(FOOS, fields="spec.a!=y") == []

    played(play)


def test_what_belongs_to_an_object_goes_with_it_and_it_with_its_owner() -> None:
    async def play(cluster: Cluster) -> None:
        await defined(cluster)
        parent = await cluster.api.create(foo("parent"))
        child = await cluster.api.create(foo("child", owner=parent))
        await cluster.api.create(config("grandchild", child))
        await cluster.settled()
        assert await cluster.api.get("configmaps", "grandchild")
        await cluster.api.delete(FOOS, "parent", propagation="Foreground")
        await cluster.settled()
        assert await cluster.api.list(FOOS) == []
        with pytest.raises(NotFound):
            await cluster.api.get("configmaps", "grandchild")
        parent = await cluster.api.create(foo("parent"))
        await cluster.api.create(foo("child", owner=parent))
        await cluster.api.delete(FOOS, "parent", propagation="Orphan")
        await cluster.settled()
        (left,) = await cluster.api.list(FOOS)
        assert "ownerReferences" not in left["metadata"]

    played(play)


def test_a_namespace_takes_its_custom_objects_along() -> None:
    async def play(cluster: Cluster) -> None:
        await defined(cluster)
        named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
        await cluster.api.create(named)
        held = foo("held")
        held["metadata"]["finalizers"] = ["rec.io/held"]
        await cluster.api.create(held, namespace="n")
        await cluster.api.create(foo("free"), namespace="n")
        await cluster.api.delete("ns", "n")
        await asyncio.sleep(5)
        space = await cluster.api.get("ns", "n")
        remaining = next(
            c for c in space.status["conditions"] if c["type"] == "NamespaceContentRemaining"
        )
        assert "foos.rec.io has 1 resource instances" in remaining["message"]
        change = {"metadata": {"finalizers": None}}
        await cluster.api.patch(FOOS, "held", change, namespace="n")
        await cluster.settled()
        with pytest.raises(NotFound):
            await cluster.api.get("ns", "n")

    played(play)


def test_a_definition_goes_after_its_objects_and_takes_no_new_ones() -> None:
    async def play(cluster: Cluster) -> None:
        await defined(cluster)
        held = foo("held")
        held["metadata"]["finalizers"] = ["rec.io/held"]
        await cluster.api.create(held)
        await cluster.api.create(foo("free"))
        await cluster.api.delete("crd", FOOS)
        await asyncio.sleep(5)
        assert [one.name for one in await cluster.api.list(FOOS)] == ["held"]
        ending = await cluster.api.get("crd", FOOS)
        assert ending.condition("Terminating") == "True"
        with pytest.raises(MethodNotAllowed, match="create not allowed while"):
            await cluster.api.create(foo("late"))
        await cluster.api.patch(FOOS, "held", {"metadata": {"finalizers": None}})
        await cluster.api.wait(f"crd/{FOOS}", "delete")
        with pytest.raises(LookupError, match="doesn't have a resource type"):
            await cluster.api.list(FOOS)
        await defined(cluster)
        assert await cluster.api.list(FOOS) == [], "nothing comes back"

    played(play)


def test_two_versions_show_one_object_and_storage_may_move() -> None:
    old = {**VERSION, "name": "v1beta1", "storage": False}
    new = {**VERSION, "name": "v2", "storage": False}

    async def play(cluster: Cluster) -> None:
        made = await defined(cluster, "Foo", VERSION, old)
        await cluster.api.create(foo("f", version="v1beta1", a="x"))
        assert (await cluster.api.get(FOOS, "f"))["apiVersion"] == "rec.io/v1"
        assert made.status["storedVersions"] == ["v1"]
        changed = await cluster.api.get("crd", FOOS)
        versions = [{**VERSION, "storage": False}, {**new, "storage": True}]
        changed["spec"]["versions"] = versions
        changed = await cluster.api.update(changed)
        assert changed.status["storedVersions"] == ["v1", "v2"]
        assert (await cluster.api.get(FOOS, "f"))["apiVersion"] == "rec.io/v2"
        await cluster.api.create(foo("g", version="v1", a="y"))
        listed = await cluster.api.list(FOOS)
        assert {(one.name, one["apiVersion"]) for one in listed} == {
            ("f", "rec.io/v2"),
            ("g", "rec.io/v2"),
        }
        changed = await cluster.api.get("crd", FOOS)
        changed["spec"]["versions"] = versions[1:]
        with pytest.raises(
            Invalid, match=r"status.storedVersions\[0\].*missing from spec.versions"
        ):
            await cluster.api.update(changed)

    played(play)


def test_names_that_are_taken_are_not_accepted_until_they_are_free() -> None:
    async def play(cluster: Cluster) -> None:
        await defined(cluster, names={"shortNames": ["fo"]})
        await cluster.api.create(definition("Bar", names={"shortNames": ["fo"]}))
        await cluster.settled()
        bar = await cluster.api.get("crd", "bars.rec.io")
        assert (bar.condition("NamesAccepted"), bar.condition("Established")) == ("False", "False")
        text = next(c["message"] for c in bar.status["conditions"] if c["type"] == "NamesAccepted")
        assert text == '"fo" is already in use'
        with pytest.raises(LookupError):
            await cluster.api.list("bars")
        await cluster.api.delete("crd", FOOS)
        await cluster.api.wait("crd/bars.rec.io", "condition=Established")

    played(play)


def test_a_changed_schema_holds_for_what_is_there_as_it_is_read() -> None:
    async def play(cluster: Cluster) -> None:
        made = await defined(cluster)
        await cluster.api.create(foo("f", a="x"))
        spec = made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"] = {"a": {"type": "string"}, "b": {"type": "string", "default": "new"}}
        await cluster.api.update(await _with(cluster, made["spec"]))
        assert (await cluster.api.get(FOOS, "f"))["spec"] == {"a": "x", "b": "new"}
        assert (await cluster.api.list(FOOS))[0]["spec"] == {"a": "x", "b": "new"}

    async def _with(cluster: Cluster, spec: Any) -> Any:
        return {**await cluster.api.get("crd", FOOS), "spec": spec}

    played(play)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"group": "rec"}, "spec.group: Invalid value: \"rec\": should be a domain with at least"),
        ({"scope": "Galaxy"}, 'spec.scope: Unsupported value: "Galaxy"'),
        ({"names": {"kind": "Foo Bar"}}, "spec.names.kind: Invalid value: \"Foo Bar\": may have"),
        ({"versions": []}, "must have exactly one version marked as storage version"),
        ({"versions": [{**VERSION, "schema": {}}]},
         r"spec.versions\[0\].schema.openAPIV3Schema: Required value: schemas are required"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "string"}}}]},
         "type: Invalid value: \"string\": must be object at the root"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"properties": {}}}}}}]},
         r"properties\[spec\].type: Required value: must not be empty for specified object fields"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"l": {"type": "array"}}}}}]},
         r"properties\[l\].items: Required value: must be specified"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {"type": "object", "properties":
            {"n": {"type": "integer", "default": "three"}}}}}]}, r"properties\[n\].default"),
        ({"versions": [{**VERSION, "schema": {"openAPIV3Schema": {
            "type": "object", "x-kubernetes-validations": [{"rule": "self.("}]}}}]},
         r"x-kubernetes-validations\[0\].rule: Invalid value: .*compilation failed"),
        ({"versions": [{**VERSION, "additionalPrinterColumns": [
            {"name": "A", "type": "string", "jsonPath": "spec"}]}]},
         r"additionalPrinterColumns\[0\].jsonPath: Invalid value"),
        ({"conversion": {"strategy": "Webhook"}, "versions": [VERSION, {**VERSION, "name": "v2",
            "storage": False}]}, "spec.conversion.webhookClientConfig: Required value"),
    ],
)  # fmt: skip
def test_definitions_that_are_refused(change: dict[str, Any], says: str) -> None:
    async def play(cluster: Cluster) -> None:
        wanted = definition()
        wanted["spec"] |= {
            **change,
            "names": {**wanted["spec"]["names"], **change.get("names", {})},
        }
        with pytest.raises(Invalid, match=says):
            await cluster.api.create(wanted)

    played(play)


def test_all_of_it_outlives_a_restart() -> None:
    disk = MemoryDisk()

    async def before(cluster: Cluster) -> None:
        await defined(cluster)
        parent = await cluster.api.create(foo("parent", a="x"))
        await cluster.api.create(foo("child", owner=parent))
        await cluster.settled()

    async def after(cluster: Cluster) -> None:
        assert [one.name for one in await cluster.api.list(FOOS)] == ["child", "parent"]
        await cluster.settled()
        assert len(await cluster.api.list(FOOS)) == 2, "nothing is taken for an orphan"
        await cluster.api.delete(FOOS, "parent")
        await cluster.settled()
        assert await cluster.api.list(FOOS) == []

    async def main() -> None:
        for play in (before, after):
            async with Cluster(nodes=1, seed=1, data_dir="/data", disk=disk) as cluster:
                await play(cluster)

    sim.run(main, seed=1)


@pytest.mark.parametrize("crashes", range(0, 24, 2))
def test_owners_and_dependents_live_on_whatever_crashes_when(crashes: int) -> None:
    """The controller manager, or the API server, fails while a kind is new to both."""

    async def play(cluster: Cluster) -> None:
        made = await cluster.api.create(definition())
        for step in range(24):
            if step == crashes:
                name = "controller-manager" if crashes % 4 else "apiserver"
                cluster.supervisor.crash(name, RuntimeError("planned"))
            await asyncio.sleep(0.001)
        await cluster.api.wait(f"crd/{made.name}", "condition=Established")
        parent = await cluster.api.create(foo("parent"))
        await cluster.api.create(foo("child", owner=parent))
        await cluster.settled()
        assert [one.name for one in await cluster.api.list(FOOS)] == ["child", "parent"]
        await cluster.api.delete(FOOS, "parent")
        await cluster.settled()
        assert await cluster.api.list(FOOS) == []

    try:
        played(play)
    except ApiError as error:  # What was under way when the API server failed is told so.
        assert error.code == 500
