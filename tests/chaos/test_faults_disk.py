"""Faults of the store's disk, and the death of a cluster: what was acknowledged is there after."""

import asyncio
from typing import Any

import pytest
from aiohttp import ClientConnectorError
from stages import Watch, config_map, ready, rest, with_web

from kubeloop.api.errors import ApiError
from kubeloop.chaos.faults.disk import BitRot, ClusterDies, DiskFails, DiskFull, DiskSlow
from kubeloop.chaos.plan import Plan
from kubeloop.chaos.playing import Violation, play
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.steps import Configure, Deploy
from kubeloop.chaos.succession import Unrecovered
from kubeloop.chaos.watching import Watching
from kubeloop.net.gate import Severed


async def refused(stage: Stage) -> str:
    """Return why a write is refused."""
    with pytest.raises(ApiError) as error:
        await stage.api.create(config_map("refused"))
    return str(error.value)


def test_a_full_disk_refuses_until_there_is_room() -> None:
    async def body(stage: Stage) -> None:
        for room_bytes in (2000, 100_000):
            await DiskFull(room_bytes=room_bytes, for_s=30).happen(stage)
        with pytest.raises(ApiError, match="disk is full"):
            for number in range(100):
                await stage.api.create(config_map(f"some-{number}"))
        cluster = stage.cluster
        await asyncio.sleep(31)
        await stage.api.create(config_map("some-more"))
        assert stage.cluster is cluster, "it needs no restart for that"
        assert stage.disk is not None and stage.disk.room is None

    with_web(body)


def test_a_slow_disk_answers_late() -> None:
    async def body(stage: Stage) -> None:
        async def took_s(name: str) -> float:
            begun = stage.loop.time()
            await stage.api.create(config_map(name))
            return stage.loop.time() - begun

        await DiskSlow(delay_s=2.0, for_s=30).happen(stage)
        await DiskSlow(delay_s=1.0, for_s=60).happen(stage)
        assert await took_s("a") >= 3
        await asyncio.sleep(40)
        assert 1 <= await took_s("b") < 3
        await asyncio.sleep(30)
        assert await took_s("c") < 0.1

    with_web(body)


@pytest.mark.parametrize("call", ["sync", "write"])
def test_a_disk_that_fails_is_final_until_the_cluster_is_started_again(call: str) -> None:
    async def body(stage: Stage) -> None:
        old = stage.cluster
        await stage.api.create(config_map("before"))
        await DiskFails(call=call, for_s=60).happen(stage)
        assert "Input/output error" in await refused(stage)
        await asyncio.sleep(59)
        assert stage.cluster is old and old.store.failure is not None
        await stage.healed()
        assert stage.cluster is not old and stage.alive
        await stage.api.create(config_map("after"))
        names = {one.name for one in await stage.api.list("configmaps")}
        assert {"before", "after"} <= names
        # Of a write that was written and not synced nobody knows: it was not acknowledged either.
        assert "refused" not in names or call == "sync"

    with_web(body)


@pytest.mark.parametrize("power", [False, True])
def test_a_cluster_dies_and_another_goes_on(power: bool) -> None:
    async def body(stage: Stage) -> None:
        old, disk = stage.cluster, stage.disk
        uids = {pod.uid for pod in await stage.api.list("pods")}
        watching = Watching(stage, (), keep=True)
        watching.begin()
        await stage.api.create(config_map("before"))
        slow = DiskSlow(delay_s=3, for_s=20)
        await slow.happen(stage)
        pending = asyncio.ensure_future(stage.api.create(config_map("pending")))
        await asyncio.sleep(1)
        await ClusterDies(power=power, for_s=30).happen(stage)
        with pytest.raises(Severed):
            await pending
        assert not stage.alive and (stage.disk is disk) == (not power)
        await ClusterDies(for_s=1).happen(stage)
        assert "no disk in use" in stage.marks[-1].text
        with pytest.raises(Severed):
            await stage.api.list("pods")
        await stage.healed()
        assert stage.alive and stage.cluster is not old
        assert stage.disk is not None and stage.disk.lag_s == 0
        await asyncio.sleep(60)
        assert {pod.uid for pod in await stage.api.list("pods")} == uids and await ready(stage) == 2
        await stage.api.create(config_map("after"))
        told = watching.close()
        revisions = [fact.revision for fact in told.history]
        assert revisions == sorted(revisions) and told.revision == revisions[-1]
        names = [f.key.rpartition("/")[2] for f in told.history if f.resource == "configmaps"]
        assert names.count("before") == names.count("after") == 1

    with_web(body)


def test_a_client_over_rest_finds_the_next_one_where_the_last_was() -> None:
    async def body(stage: Stage) -> None:
        async with rest(stage, "user/1.0") as http:
            watch = Watch(http)
            await asyncio.sleep(1)
            await ClusterDies(for_s=10).happen(stage)
            await asyncio.sleep(5)
            assert watch.end == "reset" or watch.end == "cut"
            with pytest.raises(ClientConnectorError, match="nobody listens"):
                await http.get("/version")
            await stage.healed()
            async with http.get("/api/v1/namespaces/default/pods") as response:
                assert response.status == 200 and len((await response.json())["items"]) == 2

    with_web(body, rest=True)


def test_watches_in_the_process_go_on_with_the_next_one() -> None:
    async def body(stage: Stage) -> None:
        seen: list[str] = []

        async def look() -> None:
            async for change in stage.client("operator").watch("configmaps"):
                seen.append(change.object.name)  # noqa: PERF401 - as they come.

        task = asyncio.ensure_future(look())
        await asyncio.sleep(1)
        await ClusterDies(for_s=10).happen(stage)
        await asyncio.sleep(1)
        assert task.done() and isinstance(task.exception(), ConnectionError)
        await stage.healed()
        task = asyncio.ensure_future(look())
        await asyncio.sleep(1)
        await stage.api.create(config_map("after"))
        await asyncio.sleep(1)
        assert "after" in seen
        task.cancel()

    with_web(body)


@pytest.mark.parametrize("place", [0, 1, 250, 500])
def test_a_flipped_bit_is_noticed(place: int) -> None:
    async def body(stage: Stage) -> None:
        old = stage.cluster
        await BitRot(place=place, for_s=10).happen(stage)
        await stage.healed()
        told = [mark.text for mark in stage.marks if "does not start" in mark.text]
        assert len(told) == 1 and "/data/store/log-" in told[0], told
        assert stage.alive and stage.cluster is not old

    with_web(body)


def test_what_was_told_and_is_lost_is_a_violation(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(
        durable=True,
        happenings=(
            Configure(value=1),
            DiskSlow(at_s=1, for_s=30.0),
            *(Configure(at_s=1 + n / 10, value=n) for n in range(2, 30)),
            ClusterDies(at_s=5, power=True, for_s=10),
        ),
    )
    play(plan)

    def lies(stage: Stage, disk: Any) -> None:
        disk.lying = True

    monkeypatch.setattr(DiskSlow, "strike", lambda self, stage, disk: lies(stage, disk))
    with pytest.raises(Violation, match=r"recovery: (revision \d+ was told|what a crash)") as found:
        play(plan)
    assert isinstance(found.value.__cause__, Unrecovered)


def test_of_a_cluster_in_memory_nothing_is_on_a_disk() -> None:
    faults = (BitRot(), ClusterDies(), DiskFails(), DiskFull(), DiskSlow())
    outcome = play(Plan(nodes=1, happenings=(Deploy(replicas=1), *faults)))
    assert len([mark for mark in outcome.marks if "no disk in use" in mark.text]) == len(faults)
