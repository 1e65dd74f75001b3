"""A client that is shown the past, and one that misses what was: exactly that, and no more."""

import asyncio
from typing import Any

import aiohttp
import msgpack
from hypothesis import given
from hypothesis import strategies as st
from stages import MAPS, Watch, config_map, create, on_stage, rest, told

from kubeloop.api.calls import Request
from kubeloop.chaos.faults.api import Compaction, StaleReads, StatesMissed, WatchEnds
from kubeloop.chaos.stage import Stage
from kubeloop.store.facts import prefix_of

PREFIX = prefix_of("configmaps", "default")
NAMES = ("a", "b", "c", "d")
DOINGS = st.lists(
    st.sampled_from([*((verb, n) for verb in ("put", "delete") for n in NAMES), ("other", "x")]),
    min_size=1,
    max_size=25,
)


async def do(stage: Stage, verb: str, name: str, number: int) -> None:
    """Change a ConfigMap, or something else: also then the store goes on."""
    if verb == "put":
        await stage.api.apply(config_map(name, value=str(number)))
    elif verb == "delete" and await stage.api.list("configmaps", fields=f"metadata.name={name}"):
        await stage.api.delete("configmaps", name)
    elif verb == "other":
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"x{number}"}}
        await stage.api.create(secret)


async def listed(stage: Stage, **options: Any) -> tuple[int, list[bytes]]:
    request = Request("list", "configmaps", "default", options=options, agent="sick")
    outcome = await stage.cluster.ask(request)
    assert outcome.code == 200, outcome
    return outcome.revision, outcome.items


@given(DOINGS, st.integers(1, 12), st.booleans(), st.integers(0, 25))
def test_a_stale_list_is_the_exact_list_of_then_and_a_watch_goes_on_from_there(
    doings: list[tuple[str, str]], behind: int, stands: bool, compacted_at: int
) -> None:
    async def play(stage: Stage) -> None:
        store, seen = stage.cluster.store, []
        for number, (verb, name) in enumerate(doings):
            await do(stage, verb, name, number)
        fault = StaleReads(client="sick", behind=behind, stands=stands, for_s=1000)
        stood = stage.gate.durable
        await fault.happen(stage)

        def replica() -> int:
            at = (stood if stands else stage.gate.durable) - behind
            return max(1, at, stage.gate.floor)

        begun, _ = await listed(stage)

        async def watch() -> None:
            async for change in stage.client("sick").watch("configmaps", since=begun):
                seen.append(change.object.resource_version)  # noqa: PERF401 - as they come.

        all_there_is = store.hub.open(
            resources=["configmaps"], revision=begun, namespace="default", wake=lambda: None
        )
        there: list[int] = []

        def shown(until: int) -> list[int]:
            there.extend(fact.revision for fact in all_there_is.take())
            return [revision for revision in there if revision <= until]

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(0.01)
        assert seen == shown(replica())
        for number, (verb, name) in enumerate(doings):
            if number == compacted_at:
                await Compaction().happen(stage)
            await do(stage, verb, name, 100 + number)
            await asyncio.sleep(0.01)
            revision, items = await listed(stage)
            assert revision == replica()
            assert items == store.list(PREFIX, revision=revision).values
            known = {msgpack.unpackb(item)["metadata"]["name"]: item for item in items}
            for one in NAMES:
                got = await stage.cluster.ask(
                    Request("get", "configmaps", "default", one, agent="sick")
                )
                assert (got.body if got.code == 200 else None) == known.get(one)
                assert got.code in (200, 404)
            assert seen == shown(revision)
        stage.heal_all()
        await asyncio.sleep(0.01)
        assert seen == shown(store.durable), "it has caught up"
        assert (await listed(stage))[0] == store.durable
        assert not watching.done()

    on_stage(play, rest=False)


def test_others_are_shown_the_present_and_writes_are_done_in_it() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            watches = [Watch(one, resourceVersion=stage.gate.durable) for one in (sick, well)]
            for name in ("a", "b", "c"):
                await create(well, name)
            await asyncio.sleep(1)
            await StaleReads(client="sick/*", behind=2, for_s=60).happen(stage)
            await asyncio.sleep(1)
            assert [watch.end for watch in watches] == ["cut", ""], "it comes to another server"
            assert await names(sick) == ["a"] and await names(well) == ["a", "b", "c"]
            assert await create(sick, "b") == 409, "it exists, though it is not seen"
            assert await create(sick, "d") == 201
            assert await names(sick) == ["a", "b"]
            assert (await told(sick, "GET", f"{MAPS}/d"))[0] == 404
            assert (await told(sick, "DELETE", f"{MAPS}/a"))[0] == 200
            assert await names(well) == ["b", "c", "d"]
            await asyncio.sleep(60)
            assert await names(sick) == ["b", "c", "d"]
            watches[1].task.cancel()

    on_stage(play)


async def names(http: aiohttp.ClientSession, **parameters: str) -> list[str]:
    _, body, _ = await told(http, "GET", MAPS, params=parameters)
    found = [item["metadata"]["name"] for item in body["items"]]
    return [name for name in found if len(name) == 1]  # Without those of the controllers.


def test_pages_are_of_one_revision() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick:
            for name in ("a", "b", "c", "d"):
                await create(sick, name)
            then = stage.gate.durable
            await create(sick, "e")
            await StaleReads(client="sick/*", behind=1, for_s=60).happen(stage)
            _, page, _ = await told(sick, "GET", f"{MAPS}?limit=2")
            assert page["metadata"]["resourceVersion"] == str(then)
            await create(sick, "f")
            rest_of = {"limit": "9", "continue": page["metadata"]["continue"]}
            _, after, _ = await told(sick, "GET", MAPS, params=rest_of)
            assert after["metadata"]["resourceVersion"] == str(then)
            found = [item["metadata"]["name"] for item in page["items"] + after["items"]]
            assert found == ["a", "b", "c", "d"]

    on_stage(play)


def test_who_asks_for_more_than_the_replica_has_waits_and_hears_so() -> None:
    async def play(stage: Stage) -> None:
        loop = stage.loop
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            await create(well, "a")
            await StaleReads(client="sick/*", behind=1, for_s=60).happen(stage)
            newest, begun = stage.gate.durable, loop.time()
            late = {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": f"Timeout: Too large resource version: {newest}, current: {newest - 1}",
                "reason": "Timeout",
                "details": {
                    "causes": [
                        {
                            "reason": "ResourceVersionTooLarge",
                            "message": "Too large resource version",
                        }
                    ],
                    "retryAfterSeconds": 1,
                },
                "code": 504,
            }
            headers = {"Content-Type": "application/json", "Retry-After": "1"}
            since = {"resourceVersion": str(newest)}
            not_older = {**since, "resourceVersionMatch": "NotOlderThan"}
            for path, asked in ((MAPS, since), (MAPS, not_older), (f"{MAPS}/a", since)):
                assert await told(sick, "GET", path, params=asked) == (504, late, headers)
                assert 3 <= loop.time() - begun < 4
                begun = loop.time()
            watch = Watch(sick, sendInitialEvents="true", **not_older)
            await watch.task
            assert watch.objects == [late], "a watch is told by an event"
            # In time it is there; what is asked for exactly is not the replica's to say.
            asking = asyncio.ensure_future(told(sick, "GET", MAPS, params=since))
            exact = {**since, "resourceVersionMatch": "Exact"}
            assert (await told(sick, "GET", MAPS, params=exact))[0] == 200
            await asyncio.sleep(1)
            assert not asking.done()
            await create(well, "b")
            code, body, _ = await asking
            assert code == 200 and body["metadata"]["resourceVersion"] == str(newest)
            # A watch from there waits without a word.
            patient = Watch(sick, resourceVersion=stage.gate.durable)
            await asyncio.sleep(10)
            await create(well, "c")
            await asyncio.sleep(1)
            assert patient.events == [] and patient.end == ""
            await create(well, "d")
            await asyncio.sleep(1)
            assert patient.events == [("ADDED", "c")]
            patient.task.cancel()

    on_stage(play)


def test_a_replica_that_keeps_kubernetes_promises() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick:
            for name in ("a", "b"):
                await create(sick, name)
            await StaleReads(client="sick/*", behind=1, cached=True, for_s=60).happen(stage)
            assert await names(sick) == ["a", "b"], "the most recent"
            assert await names(sick, resourceVersion="0") == ["a"], "any"
            assert (await told(sick, "GET", f"{MAPS}/b"))[0] == 200
            assert (await told(sick, "GET", f"{MAPS}/b?resourceVersion=0"))[0] == 404
            watches = [Watch(sick, resourceVersion=since) for since in ("", "0")]
            await asyncio.sleep(1)
            firsts = [[name for _, name in watch.events if len(name) == 1] for watch in watches]
            assert firsts == [["a", "b"], ["a"]]
            for watch in watches:
                watch.task.cancel()

    on_stage(play)


def test_bookmarks_do_not_tell_what_was_not_shown() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            await StaleReads(client="sick/*", behind=2, for_s=600).happen(stage)
            since = stage.gate.durable - 2
            watch = Watch(sick, resourceVersion=since, allowWatchBookmarks=1)
            for name in ("a", "b", "c"):
                await create(well, name)
            await asyncio.sleep(61)
            assert watch.events == [("ADDED", "a"), ("BOOKMARK", str(stage.gate.durable - 2))]
            watch.task.cancel()

    on_stage(play)


def test_two_faults_at_once_show_the_older_past() -> None:
    async def play(stage: Stage) -> None:
        for name in ("a", "b", "c"):
            await stage.api.create(config_map(name))
        now = stage.gate.durable
        await StaleReads(client="s*", behind=2, for_s=10).happen(stage)
        await StatesMissed(client="*k", for_s=20).happen(stage)
        feed = stage.client("sick").watch("configmaps", since=now - 2)
        first = asyncio.ensure_future(anext(feed))
        await asyncio.sleep(5)
        assert not first.done()
        await asyncio.sleep(10)
        assert (await first).object.name == "b"
        await feed.aclose()

    on_stage(play, rest=False)


def test_states_are_missed() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            await create(well, "a", x="1")
            since = stage.gate.durable
            watches = [Watch(one, resourceVersion=since) for one in (sick, well)]
            await asyncio.sleep(1)
            await StatesMissed(client="sick/*", for_s=60).happen(stage)
            again = Watch(sick, resourceVersion=since)
            headers = {"Content-Type": "application/merge-patch+json"}
            for value in ("2", "3"):
                change = {"data": {"x": value}}
                await told(well, "PATCH", f"{MAPS}/a", json=change, headers=headers)
            await asyncio.sleep(50)
            assert watches[0].events == again.events == []
            assert len(watches[1].events) == 2
            await asyncio.sleep(20)
            for watch in (watches[0], again, resumed := Watch(sick, resourceVersion=since)):
                await watch.task
                assert watch.events == [("ERROR", "410")] and watch.end == "clean"
            assert "too old resource version" in resumed.objects[0]["message"]
            _, body, _ = await told(sick, "GET", MAPS)
            (found,) = [item for item in body["items"] if item["metadata"]["name"] == "a"]
            assert found["data"] == {"x": "3"}
            version = body["metadata"]["resourceVersion"]
            healed = Watch(sick, resourceVersion=version)
            await create(well, "b")
            await asyncio.sleep(1)
            assert healed.events == [("ADDED", "b")]
            old = Watch(well, resourceVersion=since, timeoutSeconds=1)
            await old.task
            assert len(old.events) == 3, "others may see it all"
            for watch in (healed, watches[1]):
                watch.task.cancel()

    on_stage(play)


def test_time_goes_back_for_who_lists_again() -> None:
    async def play(stage: Stage) -> None:
        """The whole of Sieve's stale state: a reconnect, a list again, and the past comes back."""
        seen: list[list[str]] = []

        async def program() -> None:
            api = stage.client("sick")
            while True:
                found = await api.list("configmaps", fields="metadata.name!=kube-root-ca.crt")
                seen.append([one.name for one in found])
                since = (await listed(stage))[0]
                try:
                    async for _ in api.watch("configmaps", since=since):
                        break
                except ConnectionError:
                    await asyncio.sleep(0.1)

        working = asyncio.ensure_future(program())
        for name in ("a", "b"):
            await asyncio.sleep(1)
            await stage.api.create(config_map(name))
        await asyncio.sleep(1)
        assert seen[-1] == ["a", "b"]
        await StaleReads(client="sick", behind=1, for_s=10).happen(stage)
        await asyncio.sleep(1)
        assert seen[-1] == ["a"]
        await asyncio.sleep(20)
        await WatchEnds(client="sick").happen(stage)
        await asyncio.sleep(1)
        assert seen[-1] == ["a", "b"]
        working.cancel()

    on_stage(play, rest=False)
