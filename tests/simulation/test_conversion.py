"""Conversion webhooks in a simulation: objects in other versions than they are stored in."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgpack
import pytest
from aiohttp import web
from hook_server import HOST, PORT, client, context

from kubeloop import Cluster, sim
from kubeloop.actors.requests import converting
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import Invalid

FOOS = "foos.rec.io"
Json = dict[str, Any]
Convert = Callable[[Json, str], Json]


def swapped(obj: Json, wanted: str) -> Json:
    """Convert as an honest webhook does: v1 has spec.host, v2 has spec.address."""
    spec = dict(obj["spec"])
    old, new = ("host", "address") if wanted.endswith("v2") else ("address", "host")
    if old in spec:
        spec[new] = spec.pop(old)
    return {**obj, "apiVersion": wanted, "spec": spec}


@asynccontextmanager
async def converters(convert: Convert = swapped, **told: Any) -> AsyncIterator[list[Json]]:
    """Serve a conversion webhook; yield what it was asked. told: changes its answers."""
    asked: list[Json] = []

    async def serve(request: web.Request) -> web.Response:
        review = await request.json()
        asked.append(review["request"])
        if told.get("wait"):
            await asyncio.sleep(told["wait"])
        objects = review["request"]["objects"]
        made = [convert(one, review["request"]["desiredAPIVersion"]) for one in objects]
        response = {"uid": review["request"]["uid"], "result": {"status": "Success"}}
        response |= {"convertedObjects": made, **told.get("response", {})}
        answer = {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}
        return web.json_response({**answer, **told.get("answer", {})})

    app = web.Application(client_max_size=1 << 26)
    app.router.add_post("/{name}", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, PORT, ssl_context=context()).start()
    try:
        yield asked
    finally:
        await runner.cleanup()


def version(name: str, field: str, *, storage: bool = False) -> Json:
    properties = {field: {"type": "string"}, "n": {"type": "integer", "default": 1}}
    spec = {"type": "object", "properties": properties}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}
    return {"name": name, "served": True, "storage": storage, "schema": schema}


def definition(stores: str = "v1", **conversion: Any) -> Json:
    webhook = {"clientConfig": client("convert"), "conversionReviewVersions": ["v1"]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": FOOS},
        "spec": {
            "group": "rec.io",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "conversion": {"strategy": "Webhook", "webhook": webhook, **conversion},
            "versions": [
                version("v1", "host", storage=stores == "v1"),
                version("v2", "address", storage=stores == "v2"),
            ],
        },
    }


def foo(name: str, at: str = "v1", **spec: Any) -> Json:
    return {"apiVersion": f"rec.io/{at}", "kind": "Foo", "metadata": {"name": name}, "spec": spec}


class Asking:
    """Requests in a version, as REST makes them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def __call__(
        self, verb: str, at: str, name: str = "", body: Any = None, **options: Any
    ) -> Outcome:
        packed = b"" if body is None else msgpack.packb(body)
        request = Request(verb, FOOS, "default", name, body=packed, version=at, options=options)
        return await self.cluster.ask(request)

    async def ok(self, *args: Any, **more: Any) -> Any:
        outcome = await self(*args, **more)
        assert outcome.code < 300, msgpack.unpackb(outcome.body)
        return msgpack.unpackb(outcome.body)

    async def refused(self, *args: Any, **more: Any) -> Any:
        outcome = await self(*args, **more)
        assert outcome.code >= 400
        return msgpack.unpackb(outcome.body)

    async def items(self, at: str, **options: Any) -> list[Any]:
        outcome = await self("list", at, **options)
        assert outcome.code == 200, msgpack.unpackb(outcome.body)
        return [msgpack.unpackb(one) for one in outcome.items]

    def stored(self, name: str) -> Any:
        found = self.cluster.store.get(f"/registry/{FOOS}/default/{name}")
        return None if found is None else msgpack.unpackb(found.value)


def play(work: Callable[[Cluster, Asking], Awaitable[None]], **options: Any) -> None:
    """Run a test in a cluster of its own, in which foos are defined."""
    stores = options.pop("stores", "v1")

    async def main() -> None:
        async with Cluster(nodes=0, seed=1, **options) as cluster:
            await cluster.api.create(definition(stores))
            await cluster.api.wait(f"crd/{FOOS}", "condition=Established")
            await work(cluster, Asking(cluster))

    sim.run(main)


def test_an_object_in_both_versions() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            await ask.ok("create", "v1", body=foo("a", host="h"))
            assert asked == [], "it is stored as it came"
            other = await ask.ok("get", "v2", "a")
            assert other["apiVersion"] == "rec.io/v2"
            assert other["spec"] == {"address": "h", "n": 1}
            same = await ask.ok("get", "v1", "a")
            assert same["metadata"] == other["metadata"]
            assert asked[0]["desiredAPIVersion"] == "rec.io/v2"
            assert [one["spec"] for one in asked[0]["objects"]] == [{"host": "h", "n": 1}]
            made = await ask.ok("create", "v2", body=foo("b", "v2", address="i"))
            assert made["apiVersion"] == "rec.io/v2" and made["spec"] == {"address": "i", "n": 1}
            kept = ask.stored("b")
            assert kept["apiVersion"] == "rec.io/v1" and kept["spec"] == {"host": "i", "n": 1}
            assert kept["metadata"] == made["metadata"]
            change = {"spec": {"address": "j"}, "metadata": {"labels": {"l": "m"}}}
            changed = await ask.ok("patch", "v2", "b", change, patchType="merge")
            assert changed["spec"]["address"] == "j"
            assert ask.stored("b")["spec"]["host"] == "j"
            assert ask.stored("b")["metadata"]["labels"] == {"l": "m"}
            assert changed["metadata"]["generation"] == 2

    play(work)


def test_what_is_stored_is_converted_once() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            for n in range(7):
                await ask.ok("create", "v1", body=foo(f"f{n}", host=str(n)))
            hosts = [one["spec"]["address"] for one in await ask.items("v2")]
            assert hosts == [str(n) for n in range(7)]
            assert [len(one["objects"]) for one in asked] == [7], "a list asks once"
            await ask.items("v2")
            await ask.items("v2", labelSelector="a!=b", limit=3)
            await ask.ok("get", "v2", "f3")
            assert len(asked) == 1
            body = {"spec": {"host": "x"}}
            await ask.ok("patch", "v1", "f3", body, patchType="merge")
            assert [one["spec"]["address"] for one in await ask.items("v2")][3] == "x"
            assert [len(one["objects"]) for one in asked] == [7, 1], "only what has changed"

    play(work)


def test_a_long_list_is_asked_about_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "_OBJECTS_MAX", 3)

    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            for n in range(7):
                await ask.ok("create", "v1", body=foo(f"f{n}", host=str(n)))
            hosts = [one["spec"]["address"] for one in await ask.items("v2")]
            assert hosts == [str(n) for n in range(7)]
            assert [len(one["objects"]) for one in asked] == [3, 3, 1]

    play(work)


def test_another_version_is_stored_from_now_on() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            await ask.ok("create", "v1", body=foo("a", host="h"))
            now = await cluster.api.get("crd", FOOS)
            now["spec"]["versions"] = definition("v2")["spec"]["versions"]
            await cluster.api.update(now)
            await ask.ok("create", "v1", body=foo("b", host="i"))
            assert ask.stored("b")["spec"] == {"address": "i", "n": 1}
            assert [one["spec"] for one in await ask.items("v1")] == [
                {"host": "h", "n": 1},
                {"host": "i", "n": 1},
            ]
            asked.clear()
            assert (await ask.ok("get", "v1", "a"))["spec"]["host"] == "h"
            assert asked == [], "it is still stored in the old version"
            body = {"spec": {"n": 5}}
            await ask.ok("patch", "v1", "a", body, patchType="merge")
            assert ask.stored("a")["apiVersion"] == "rec.io/v2"

    play(work)


def test_deletion_and_finalizers_change_nothing_but_metadata() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            for name in "ab":
                held = foo(name, "v2", address="h")
                held["metadata"]["finalizers"] = ["rec.io/x"]
                await ask.ok("create", "v2", body=held)
            asked.clear()
            gone = await ask("deletecollection", "v2")
            assert gone.code == 200
            assert [one["desiredAPIVersion"] for one in asked] == ["rec.io/v2"]
            assert ask.stored("a")["metadata"]["deletionTimestamp"]
            assert ask.stored("a")["spec"] == {"host": "h", "n": 1}
            for name in "ab":
                body = {"metadata": {"finalizers": None}}
                await ask.ok("patch", "v2", name, body, patchType="merge")
            assert ask.stored("a") is None and ask.stored("b") is None
            await ask.ok("create", "v1", body=foo("c", host="h"))
        await cluster.api.delete("crd", FOOS)  # Nobody answers any more: its objects go anyway.
        await cluster.api.wait(f"crd/{FOOS}", "delete", timeout_s=60)

    play(work)


async def watched(cluster: Cluster, at: str, count: int, **query: str) -> list[Any]:
    """Return the first events of a watch over HTTP."""
    path = f"{cluster.url}/apis/rec.io/{at}/namespaces/default/foos"
    token = cluster.kubeconfig["users"][0]["user"]["token"]
    headers = {"Authorization": f"Bearer {token}"}
    events: list[Any] = []
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.get(path, params={"watch": "1", **query}) as answer,
    ):
        async for line in answer.content:
            events.append(json.loads(line))
            if len(events) == count:
                break
    return events


def test_a_watch_tells_of_one_version() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters() as asked:
            await ask.ok("create", "v1", body=foo("a", host="h"))
            tasks = [asyncio.create_task(watched(cluster, at, 4)) for at in ("v2", "v2", "v1")]
            await asyncio.sleep(1)
            await ask.ok("create", "v2", body=foo("b", "v2", address="i"))
            await ask.ok("patch", "v1", "a", {"spec": {"host": "j"}}, patchType="merge")
            await ask.ok("delete", "v1", "a")
            first, second, third = [await task for task in tasks]
            assert first == second
            told = [(one["type"], one["object"]["spec"].get("address")) for one in first]
            assert told == [("ADDED", "h"), ("ADDED", "i"), ("MODIFIED", "j"), ("DELETED", "j")]
            assert {one["object"]["apiVersion"] for one in first} == {"rec.io/v2"}
            hosts = [one["object"]["spec"].get("host") for one in third]
            assert hosts == ["h", "i", "j", "j"]
            sent = [one["metadata"]["resourceVersion"] for q in asked for one in q["objects"]
                    if q["uid"].startswith("watch-")]  # fmt: skip
            assert len(sent) == len(set(sent)), "watchers share what was converted"

    play(work, rest=True)


BAD: list[tuple[Json, Convert, str]] = [
    ({"answer": {"kind": "Nonsense"}}, swapped,
     "failed: expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got "
     "apiextensions.k8s.io/v1, Kind=Nonsense"),
    ({"answer": {"response": None}}, swapped, "failed: no response provided"),
    ({"response": {"uid": "x"}}, swapped, 'failed: expected response.uid="'),
    ({"response": {"result": {"status": "Failure", "message": "I will not"}}}, swapped,
     "failed: I will not"),
    ({"response": {"result": {}}}, swapped,
     "failed: response.result.status was '', not 'Success'"),
    ({"response": {"convertedObjects": []}}, swapped, "returned 0 objects, expected 1"),
    ({}, lambda obj, _: obj,
     "returned invalid converted object at index 0: invalid groupVersion (expected rec.io/v2, "
     "received rec.io/v1)"),
    ({}, lambda obj, wanted: {**swapped(obj, wanted), "kind": "Bar"},
     "returned invalid converted object at index 0: invalid kind (expected Foo, received Bar)"),
    ({}, lambda obj, wanted: {**swapped(obj, wanted), "metadata": {**obj["metadata"], "name": "z"}},
     "returned invalid converted object at index 0: must have the same name: a != z"),
    ({}, lambda obj, wanted: {**swapped(obj, wanted), "metadata": {**obj["metadata"], "uid": "z"}},
     "must have the same UID: "),
    ({}, lambda obj, wanted: {**swapped(obj, wanted),
                              "metadata": {**obj["metadata"], "labels": {"a": 1}}},
     "returned invalid metadata in object at index 0: labels must be a map of strings"),
]  # fmt: skip


@pytest.mark.parametrize(("told", "convert", "why"), BAD)
def test_nonsense_is_no_answer(told: Json, convert: Convert, why: str) -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters(convert, **told):
            await ask.ok("create", "v1", body=foo("a", host="h"))
            for verb, name in (("get", "a"), ("list", ""), ("delete", "a")):
                status = await ask.refused(verb, "v2", name)
                by = "conversion webhook for rec.io/v1, Kind=Foo "
                assert status["message"].startswith(by) and why in status["message"]
                assert status["code"] == 500 and "reason" not in status
            assert (await ask.ok("get", "v1", "a"))["spec"]["host"] == "h"

    play(work)


def test_metadata_stays_but_for_labels_and_annotations() -> None:
    def convert(obj: Json, wanted: str) -> Json:
        metadata = {k: obj["metadata"].get(k) for k in ("name", "namespace", "uid")}
        more = {"labels": {"at": wanted.partition("/")[2]}, "finalizers": ["rec.io/forged"]}
        return {**swapped(obj, wanted), "metadata": {**metadata, **more}}

    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters(convert):
            made = await ask.ok("create", "v1", body=foo("a", host="h"))
            other = await ask.ok("get", "v2", "a")
            assert other["metadata"] == {**made["metadata"], "labels": {"at": "v2"}}

    play(work)


def test_one_that_is_gone_or_slow() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        loop = asyncio.get_running_loop()
        await ask.ok("create", "v1", body=foo("a", host="h"))
        status = await ask.refused("get", "v2", "a")
        assert status["message"].startswith(
            "conversion webhook for rec.io/v1, Kind=Foo failed: "
            'Post "https://127.0.0.1:8443/convert?timeout=30s": dial tcp 127.0.0.1:8443: connect: '
        )
        before = cluster.store.revision
        status = await ask.refused("create", "v2", body=foo("b", "v2", address="i"))
        assert status["message"].startswith("conversion webhook for rec.io/v2, Kind=Foo failed: ")
        assert cluster.store.revision == before
        async with converters(wait=100):
            since = loop.time()
            waiting = asyncio.create_task(ask.refused("get", "v2", "a"))
            await asyncio.sleep(1)
            await ask.ok("create", "v1", body=foo("c", host="k"))
            assert not waiting.done(), "others go on meanwhile"
            status = await waiting
            assert status["message"].endswith("context deadline exceeded")
            assert 30 <= loop.time() - since < 31
        async with converters():
            assert (await ask.ok("get", "v2", "a"))["spec"]["address"] == "h"

    play(work)


def test_a_watch_ends_with_what_went_wrong() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters():
            await ask.ok("create", "v1", body=foo("a", host="h"))
            watch = asyncio.create_task(watched(cluster, "v2", 9))
            await asyncio.sleep(1)
        await ask.ok("patch", "v1", "a", {"spec": {"host": "i"}}, patchType="merge")
        first, last = await watch
        assert first["object"]["spec"]["address"] == "h"
        assert last["type"] == "ERROR" and last["object"]["code"] == 500
        assert last["object"]["message"].startswith("conversion webhook for rec.io/v1, Kind=Foo")

    play(work, rest=True)


def test_what_changes_while_a_webhook_is_asked() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters(wait=2) as asked:
            await ask.ok("create", "v1", body=foo("a", host="h"))
            change = {"spec": {"address": "mine"}}
            waiting = asyncio.create_task(ask.ok("patch", "v2", "a", change, patchType="merge"))
            await asyncio.sleep(1)
            await ask.ok("patch", "v1", "a", {"spec": {"n": 7}}, patchType="merge")
            changed = await waiting
            assert changed["spec"] == {"address": "mine", "n": 7}
            assert ask.stored("a")["spec"] == {"host": "mine", "n": 7}
            assert len(asked) == 3, "twice what it is, once what it is to be"

    play(work)


def test_an_api_server_that_fails_while_it_is_asked() -> None:
    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters(wait=5):
            await ask.ok("create", "v1", body=foo("a", host="h"))
            waiting = asyncio.create_task(ask("get", "v2", "a"))
            await asyncio.sleep(1)
            cluster.supervisor.crash("apiserver", RuntimeError("for a test"))
            assert (await waiting).code == 500
            assert (await ask.ok("get", "v2", "a"))["spec"]["address"] == "h"

    play(work)


@pytest.mark.parametrize(
    ("conversion", "says"),
    [
        ({"webhook": None}, "spec.conversion.webhookClientConfig: Required value: required when "
         "strategy is set to Webhook"),
        ({"webhook": {"clientConfig": {}, "conversionReviewVersions": ["v1"]}},
         "exactly one of url or service is required"),
        ({"webhook": {"clientConfig": client("x"), "conversionReviewVersions": ["v9"]}},
         "must include at least one of v1, v1beta1"),
        ({"strategy": "None"}, "spec.conversion.webhookClientConfig: Forbidden: should not be set "
         "when strategy is not set to Webhook"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_definition(conversion: Json, says: str) -> None:
    async def main() -> None:
        async with Cluster(nodes=0, seed=1) as cluster:
            with pytest.raises(Invalid) as refused:
                await cluster.api.create(definition(**conversion))
            assert says in str(refused.value)

    sim.run(main)


def test_policies_and_applies_work_in_any_version() -> None:
    pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

    async def work(cluster: Cluster, ask: Asking) -> None:
        async with converters():
            applied = foo("a", "v2", address="h")
            apply = {"patchType": "apply", "fieldManager": "me"}
            made = await ask.ok("patch", "v2", "a", applied, **apply)
            assert made["metadata"]["managedFields"][0]["apiVersion"] == "rec.io/v2"
            assert ask.stored("a")["spec"]["host"] == "h"
            again = await ask.ok("patch", "v2", "a", {**applied, "spec": {"address": "i"}}, **apply)
            assert again["spec"] == {"address": "i", "n": 1}
            other = {**apply, "fieldManager": "you"}
            status = await ask.refused(
                "patch", "v2", "a", {**applied, "spec": {"address": "z"}}, **other
            )
            assert status["message"].startswith("Apply failed with 1 conflict")
            meant = {
                "apiGroups": ["rec.io"],
                "apiVersions": ["v1"],
                "operations": ["UPDATE"],
                "resources": ["foos"],
            }
            policy = {
                "matchConstraints": {"resourceRules": [meant]},
                "validations": [{"expression": "object.spec.host != 'bad'", "message": "no"}],
            }
            bound = {"policyName": "p", "validationActions": ["Deny"]}
            for kind, spec in (("", policy), ("Binding", bound)):
                kind = f"ValidatingAdmissionPolicy{kind}"
                head = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind}
                await cluster.api.create({**head, "metadata": {"name": "p"}, "spec": spec})
            change = {"spec": {"address": "bad"}}
            status = await ask.refused("patch", "v2", "a", change, patchType="merge")
            assert status["message"].endswith("denied request: no"), "it saw the other version"

    play(work)
