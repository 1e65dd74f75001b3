"""Each fault of the API server does just what it says, to just whom it says it, and heals."""

import asyncio
from typing import Any

import aiohttp
import pytest
from stages import MAPS, Watch, config_map, create, on_stage, rest, told

from kubeloop import Cluster
from kubeloop.api.errors import ApiError, Conflict, Expired
from kubeloop.chaos.faults.api import (
    AnswerLost,
    ApiBusy,
    ApiFails,
    ApiRestarts,
    ApiSlow,
    BookmarksLost,
    Compaction,
    ConflictStorm,
    OfClient,
    WatchEnds,
    WatchHangs,
)
from kubeloop.chaos.stage import Stage

JSON = "application/json"
SICK = "sick/*"
TIMEOUT = "Timeout: request did not complete within requested timeout - context deadline exceeded"
NOT_YET = (
    "the request has been made before all known HTTP paths have been installed, please try again"
)


def status(code: int, message: str, reason: str = "", **details: Any) -> dict[str, Any]:
    """Return a v1.Status as Kubernetes writes it."""
    told = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    extra: dict[str, Any] = {"reason": reason} if reason else {}
    if details or reason == "Timeout":
        extra["details"] = details
    return {**told, "message": message, **extra, "code": code}


REFUSALS: list[tuple[OfClient, int, Any, dict[str, str]]] = [
    (
        ApiBusy(client=SICK, for_s=5, retry_after_s=2, plain=True),
        429,
        "Too many requests, please try again later.\n",
        {
            "Content-Type": "text/plain; charset=utf-8",
            "X-Content-Type-Options": "nosniff",
            "Retry-After": "2",
        },
    ),
    (
        ApiBusy(client=SICK, for_s=5, retry_after_s=3),
        429,
        status(429, "storage is (re)initializing", "TooManyRequests", retryAfterSeconds=3),
        {"Content-Type": JSON, "Retry-After": "3"},
    ),
    (
        ApiFails(client=SICK, for_s=5, answer="500"),
        500,
        status(500, "etcdserver: request timed out"),
        {"Content-Type": JSON},
    ),
    (
        ApiFails(client=SICK, for_s=5, answer="503"),
        503,
        status(503, NOT_YET, "ServiceUnavailable", retryAfterSeconds=5),
        {"Content-Type": JSON, "Retry-After": "5"},
    ),
    (
        ApiFails(client=SICK, for_s=5, answer="504"),
        504,
        status(504, TIMEOUT, "Timeout"),
        {"Content-Type": JSON},
    ),
]


@pytest.mark.parametrize(("fault", "code", "body", "headers"), REFUSALS)
def test_a_refusal_is_kubernetes_own_and_nothing_is_done(
    fault: OfClient, code: int, body: Any, headers: dict[str, str]
) -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            await fault.happen(stage)
            assert await told(sick, "POST", MAPS, json=config_map("a")) == (code, body, headers)
            assert (await told(sick, "GET", f"{MAPS}?watch=1"))[0] == code
            assert (await told(well, "GET", f"{MAPS}/a"))[0] == 404, "nothing was done"
            assert await create(well, "b") == 201, "others do not notice"
            with pytest.raises(ApiError) as refused:
                await stage.client("sick/in-process").create(config_map("a"))
            assert refused.value.code == code
            if isinstance(body, dict):
                assert refused.value.status() == body
            await asyncio.sleep(5)
            assert await create(sick, "a") == 201, "healed"
        assert len([mark for mark in stage.marks if mark.text.startswith("healed")]) == 1

    on_stage(play)


LOST: dict[str, Any] = {
    "504": status(504, TIMEOUT, "Timeout"),
    "500": status(500, "etcdserver: request timed out"),
}


@pytest.mark.parametrize("answer", ["504", "500", "reset"])
def test_what_is_done_is_not_told(answer: str) -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick:
            await AnswerLost(client=SICK, for_s=5, answer=answer).happen(stage)
            if answer == "reset":
                with pytest.raises(aiohttp.ClientConnectionError):
                    await create(sick, "a")
                with pytest.raises(ConnectionResetError):
                    await stage.client("sick/2").create(config_map("b"))
            else:
                code, body, _ = await told(sick, "POST", MAPS, json=config_map("a"))
                assert (code, body) == (int(answer), LOST[answer])
                with pytest.raises(ApiError) as refused:
                    await stage.client("sick/2").create(config_map("b"))
                assert refused.value.status() == LOST[answer]
            for name in ("a", "b"):
                assert (await told(sick, "GET", f"{MAPS}/{name}"))[0] == 200, "reads are answered"

    on_stage(play)


def test_a_write_whose_answer_is_lost_is_not_acknowledged() -> None:
    async def play(stage: Stage) -> None:
        await AnswerLost(client="user", for_s=5, nth=1).happen(stage)
        with pytest.raises(ApiError):
            await stage.api.create(config_map("a"))
        await stage.api.create(config_map("b"))
        assert len(stage.acknowledged) == 1
        await stage.api.get("configmaps", "a")

    on_stage(play, rest=False)


def test_a_reset_before_anything_is_done() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick:
            await ApiFails(client=SICK, for_s=5, answer="reset").happen(stage)
            with pytest.raises(aiohttp.ClientConnectionError):
                await create(sick, "a")
            with pytest.raises(ConnectionResetError):
                await stage.client("sick/2").create(config_map("a"))
            await asyncio.sleep(5)
            assert await create(sick, "a") == 201

    on_stage(play)


def test_the_nth_request_of_a_verb_and_a_resource() -> None:
    async def play(stage: Stage) -> None:
        api = stage.client("sick")
        await ApiFails(client="sick", resource="configmaps", verb="create", nth=2, for_s=60).happen(
            stage
        )
        await api.list("configmaps")
        await api.create(config_map("a"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}}
        await api.create(secret)
        await stage.api.create(config_map("other"))
        with pytest.raises(ApiError):
            await api.create(config_map("b"))
        await api.create(config_map("b"))

    on_stage(play, rest=False)


@pytest.mark.parametrize(
    ("verb", "refused"),
    [
        ("write", ["create", "patch", "delete"]),
        ("read", ["get", "list", "watch"]),
        ("list", ["list"]),
        ("watch", ["watch"]),
        ("*", ["create", "get", "list", "watch", "patch", "delete"]),
    ],
)
def test_what_verbs_mean(verb: str, refused: list[str]) -> None:
    async def play(stage: Stage) -> None:
        await stage.api.create(config_map("a"))
        await ApiFails(client="sick/*", verb=verb, for_s=60).happen(stage)
        async with rest(stage, "sick/1.0") as http:
            codes = {
                "create": await create(http, "b"),
                "get": (await told(http, "GET", f"{MAPS}/a"))[0],
                "list": (await told(http, "GET", MAPS))[0],
                "patch": await _patch(http, "a"),
            }
            for since in ("0", "1", ""):  # With what there is, or without.
                watch = Watch(http, resourceVersion=since, timeoutSeconds=1)
                await watch.task
                codes["watch"] = 500 if watch.end == "500" else 200
                assert (codes["watch"] == 500) == ("watch" in refused)
            codes["delete"] = (await told(http, "DELETE", f"{MAPS}/a"))[0]
            assert [name for name, code in codes.items() if code == 500] == [
                name for name in codes if name in refused
            ]

    on_stage(play)


async def _patch(http: aiohttp.ClientSession, name: str) -> int:
    headers = {"Content-Type": "application/merge-patch+json"}
    change = b'{"data":{"changed":"yes"}}'
    return (await told(http, "PATCH", f"{MAPS}/{name}", data=change, headers=headers))[0]


def test_a_slow_answer() -> None:
    async def play(stage: Stage) -> None:
        api, loop = stage.client("sick"), stage.loop
        await ApiSlow(client="sick", verb="create", delay_s=10, for_s=12).happen(stage)
        begun = loop.time()
        late = asyncio.ensure_future(api.create(config_map("a")))
        await asyncio.sleep(9)
        assert await stage.api.list("configmaps", fields="metadata.name=a") == []
        await late
        assert loop.time() - begun == 10
        await asyncio.sleep(5)
        await ApiSlow(client="sick", verb="create", delay_s=10, done=True, for_s=60).happen(stage)
        late = asyncio.ensure_future(api.create(config_map("b")))
        await asyncio.sleep(9)
        assert len(await stage.api.list("configmaps", fields="metadata.name=b")) == 1
        assert not late.done()
        await late

    on_stage(play, rest=False)


def test_a_storm_of_conflicts_looks_like_a_conflict() -> None:
    async def play(stage: Stage) -> None:
        api = stage.client("sick")
        old = await stage.api.create(config_map("a"))
        await stage.api.patch("configmaps", "a", {"data": {"x": "1"}})
        with pytest.raises(Conflict) as true:
            await api.update(old)
        await ConflictStorm(client="sick*", for_s=5).happen(stage)
        now = await api.get("configmaps", "a")
        with pytest.raises(Conflict) as false:
            await api.update(now)
        assert false.value.status() == true.value.status()
        async with rest(stage, "sick") as http:
            code, body, _ = await told(http, "PUT", f"{MAPS}/a", json=dict(now))
            assert (code, body) == (409, true.value.status())
        with pytest.raises(Conflict):
            await api.patch("configmaps", "a", {"data": {"x": "2"}})
        with pytest.raises(ApiError) as missing:
            await api.patch("configmaps", "no", {"data": {"x": "2"}})
        assert missing.value.code == 404, "nobody can have changed what there is not"
        await api.create(config_map("b"))
        await api.delete("configmaps", "b")
        assert (await stage.api.update(now)).resource_version == now.resource_version
        await asyncio.sleep(5)
        await api.patch("configmaps", "a", {"data": {"x": "2"}})

    on_stage(play)


# Watches.


@pytest.mark.parametrize("how", ["clean", "torn", "reset", "expired"])
def test_watches_end(how: str) -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            watches = [Watch(one, resourceVersion=stage.gate.durable) for one in (sick, well)]
            await asyncio.sleep(1)
            await WatchEnds(client=SICK, for_s=60, how=how, after=1).happen(stage)
            for name in ("a", "b", "c"):
                await create(well, name)
                await asyncio.sleep(1)
            seen = [("ADDED", "a")]
            assert watches[1].events == [("ADDED", name) for name in ("a", "b", "c")]
            ends = {"clean": "clean", "torn": "torn", "reset": "cut", "expired": "clean"}
            assert watches[0].end == ends[how]
            if how == "expired":
                seen.append(("ERROR", "410"))
                error = watches[0].objects[-1]
                assert error["reason"] == "Expired"
                assert error["message"].startswith("too old resource version: ")
            # A reset takes with it what is on its way.
            assert watches[0].events == seen or (how == "reset" and not watches[0].events)
            # One begun meanwhile ends once it has told something; one begun later does not.
            again = Watch(sick, resourceVersion=stage.gate.durable)
            await asyncio.sleep(1)
            assert again.end == ""
            await create(well, "d")
            await asyncio.sleep(1)
            if how == "torn":
                await create(well, "e")
                await asyncio.sleep(1)
            assert again.end == ends[how]
            await asyncio.sleep(60)
            healed = Watch(sick, resourceVersion=0)
            await asyncio.sleep(1)
            await create(well, "f")
            await asyncio.sleep(1)
            assert healed.end == watches[1].end == ""
            for watch in (healed, watches[1]):
                watch.task.cancel()

    on_stage(play)


@pytest.mark.parametrize(
    ("how", "raises"),
    [("clean", None), ("reset", ConnectionResetError), ("expired", Expired)],
)
def test_watches_in_process_end_at_once(how: str, raises: type[Exception] | None) -> None:
    async def play(stage: Stage) -> None:
        async def watch() -> None:
            async for _ in stage.client("sick").watch("configmaps", since=1):
                pass

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(1)
        await WatchEnds(client="sick", how=how).happen(stage)  # For no time at all.
        await asyncio.sleep(1)
        assert watching.done()
        assert (type(watching.exception()) if watching.exception() else None) in (
            raises,
            *(raises.__subclasses__() if raises else ()),
        )

    on_stage(play, rest=False)


def test_a_wait_goes_on_after_its_watch_has_ended() -> None:
    async def play(stage: Stage) -> None:
        waits = [
            asyncio.ensure_future(stage.client("sick").wait("configmap/a", until, timeout_s=60))
            for until in ("create", lambda obj: obj["data"] == {"x": "2"})
        ]
        await asyncio.sleep(1)
        for how in ("clean", "expired"):
            await WatchEnds(client="sick", how=how).happen(stage)
            await asyncio.sleep(1)
        await stage.api.create(config_map("a"))
        await WatchEnds(client="sick", how="expired").happen(stage)
        await stage.api.patch("configmaps", "a", {"data": {"x": "2"}})
        await asyncio.gather(*waits)

    on_stage(play, rest=False)


def test_a_hanging_watch_says_nothing_not_even_its_end() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            asked = {"resourceVersion": stage.gate.durable, "allowWatchBookmarks": 1}
            watches = [Watch(one, **asked, timeoutSeconds=100) for one in (sick, well)]
            await asyncio.sleep(1)
            await WatchHangs(client=SICK, for_s=200).happen(stage)
            await create(well, "a")
            await asyncio.sleep(150)
            assert watches[0].events == [] and watches[0].end == ""
            assert watches[1].events[0] == ("ADDED", "a") and watches[1].end == "clean"
            assert {type_ for type_, _ in watches[1].events[1:]} == {"BOOKMARK"}
            again = Watch(sick, **asked)
            await asyncio.sleep(1)
            assert again.events == [("ADDED", "a")], "a new one is well"
            await asyncio.sleep(60)
            assert watches[0].end == "cut" and watches[0].events == []
            assert again.end == ""
            again.task.cancel()

    on_stage(play)


def test_a_watch_in_process_hangs() -> None:
    async def play(stage: Stage) -> None:
        names: list[str] = []

        async def watch() -> None:
            changes = stage.client("sick").watch("configmaps", since=stage.gate.durable)
            async for change in changes:
                names.append(change.object.name)  # noqa: PERF401 - as they come.

        watching = asyncio.ensure_future(watch())
        await asyncio.sleep(1)
        await WatchHangs(client="sick", for_s=10).happen(stage)
        await stage.api.create(config_map("a"))
        await asyncio.sleep(9)
        assert names == [] and not watching.done()
        await asyncio.sleep(9)
        assert isinstance(watching.exception(), ConnectionResetError)

    on_stage(play, rest=False)


def test_bookmarks_are_lost() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            asked = {"allowWatchBookmarks": 1, "sendInitialEvents": "true"}
            asked["resourceVersionMatch"] = "NotOlderThan"
            await BookmarksLost(client=SICK, for_s=100).happen(stage)
            watches = [Watch(one, **asked) for one in (sick, well)]
            await asyncio.sleep(90)
            bookmarks = [[e for e in one.events if e[0] == "BOOKMARK"] for one in watches]
            assert [len(one) for one in bookmarks] == [1, 2], "the end of the list is told"
            await asyncio.sleep(60)
            assert watches[0].events[-1] == watches[1].events[-1]
            for watch in watches:
                watch.task.cancel()

    on_stage(play)


def test_an_api_server_that_is_down_and_up_again() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "sick/1.0") as sick, rest(stage, "well/1.0") as well:
            watches = [Watch(one, resourceVersion=stage.gate.durable) for one in (sick, well)]
            await asyncio.sleep(1)
            await ApiRestarts(client=SICK, for_s=10).happen(stage)
            await asyncio.sleep(1)
            assert [watch.end for watch in watches] == ["cut", ""]
            for path in (MAPS, f"{MAPS}?watch=1"):
                with pytest.raises(aiohttp.ClientConnectionError):
                    await told(sick, "GET", path)
            await asyncio.sleep(10)
            assert (await told(sick, "GET", MAPS))[0] == 200
            watches[1].task.cancel()

    on_stage(play)


def test_a_compaction_forgets_what_was() -> None:
    async def play(stage: Stage) -> None:
        async with rest(stage, "any") as http:
            for name in ("a", "b", "c"):
                await create(http, name)
            _, page, _ = await told(http, "GET", f"{MAPS}?limit=1")
            since = page["metadata"]["resourceVersion"]
            slow = Watch(http, resourceVersion=since)
            await asyncio.sleep(1)
            await create(http, "d")
            await Compaction().happen(stage)
            _, body, _ = await told(
                http, "GET", MAPS, params={"limit": 1, "continue": page["metadata"]["continue"]}
            )
            assert body == status(
                410,
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter.",
                "Expired",
            )
            watch = Watch(http, resourceVersion=since)
            await watch.task
            oldest = stage.gate.floor
            message = f"too old resource version: {since} ({oldest})"
            assert watch.objects == [status(410, message, "Expired")]
            assert slow.events == [("ADDED", "d")] and slow.end == "", "it was there before"
            fresh = Watch(http, resourceVersion=oldest, timeoutSeconds=1)
            await fresh.task
            assert (fresh.events, fresh.end) == ([], "clean")
            slow.task.cancel()

    on_stage(play)


def test_in_production_there_is_no_gate() -> None:
    assert Cluster().gate is None
