"""Jobs and CronJobs in whole clusters: what is made, counted, told and cleared away, and when."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.cluster import Cluster

IMAGES = {
    "works": Script(run_s=3.0),
    "fails": Script(run_s=1.0, exit_code=3),
    "stays": Script(),
}
JOBS, CRON_JOBS = "jobs.batch", "cronjobs.batch"


def job(name: str = "j", image: str = "works", **spec: Any) -> dict[str, Any]:
    container = {"name": "c", "image": image}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"template": template, **spec},
    }


def cron_job(schedule: str = "* * * * *", image: str = "works", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "cron"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job(image=image)["spec"]}, **spec},
    }


def played(play: Callable[[Cluster], Awaitable[Any]], seed: int = 1) -> Any:
    """Return what `play` returns of a cluster whose images do as IMAGES says."""

    async def main() -> Any:
        async with Cluster(nodes=3, seed=seed, images=IMAGES) as cluster:
            return await play(cluster)

    return sim.run(main, seed=seed)


def conditions(obj: Any) -> list[tuple[str, str]]:
    return [(c["type"], c["reason"]) for c in obj.status.get("conditions", ())]


async def ended(cluster: Cluster, name: str = "j", within_s: float = 3600.0) -> Any:
    """Return a Job once it is Complete or Failed."""
    found: Any = None
    async with asyncio.timeout(within_s):
        async for event in cluster.api.watch("jobs", name=name):
            found = event.object
            if {"Complete", "Failed"} & {kind for kind, _ in conditions(found)}:
                break
    return found


async def reasons(cluster: Cluster, name: str = "j") -> list[str]:
    events = await cluster.api.list("events")
    return [e["reason"] for e in events if e["involvedObject"]["name"] == name]


def test_a_job_is_complete_when_as_many_have_succeeded_as_it_wants() -> None:
    async def play(cluster: Cluster) -> None:
        most = 0

        async def watch() -> None:
            nonlocal most
            async for _ in cluster.api.watch("pods"):
                pods = await cluster.api.list("pods")
                most = max(most, sum(pod.status["phase"] in ("Pending", "Running") for pod in pods))

        watching = asyncio.create_task(watch())
        await cluster.api.create(job(completions=5, parallelism=2))
        done = await ended(cluster)
        watching.cancel()
        assert most == 2
        assert done.status["succeeded"] == 5 and "failed" not in done.status
        assert done.status["uncountedTerminatedPods"] == {}
        assert "active" not in done.status
        assert (done.status["startTime"], done.status["completionTime"]) == (
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:09Z",
        )
        assert conditions(done) == [
            ("SuccessCriteriaMet", "CompletionsReached"),
            ("Complete", "CompletionsReached"),
        ]
        pods = await cluster.api.list("pods")
        assert len(pods) == 5
        assert not any(pod.metadata.get("finalizers") for pod in pods), "they are counted"
        assert (await reasons(cluster)).count("SuccessfulCreate") == 5
        assert (await reasons(cluster))[-1] == "Completed"

    played(play)


def test_a_job_whose_pods_fail_waits_longer_each_time_and_gives_up() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(image="fails", backoffLimit=2))
        failed = await ended(cluster)
        assert failed.status["failed"] == 3
        assert conditions(failed) == [
            ("FailureTarget", "BackoffLimitExceeded"),
            ("Failed", "BackoffLimitExceeded"),
        ]
        begun = sorted(p.metadata["creationTimestamp"] for p in await cluster.api.list("pods"))
        assert [time[14:19] for time in begun] == ["00:00", "00:11", "00:32"]
        assert "BackoffLimitExceeded" in await reasons(cluster)

    played(play)


def test_a_deadline_ends_it_and_what_runs_counts_as_failed() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(image="stays", activeDeadlineSeconds=30))
        failed = await ended(cluster, within_s=31)
        assert conditions(failed)[-1] == ("Failed", "DeadlineExceeded")
        assert failed.status["failed"] == 1 and "completionTime" not in failed.status
        await cluster.settled()
        assert not [p for p in await cluster.api.list("pods") if p.status["phase"] == "Running"]

    played(play)


def test_indexes_names_and_hostnames() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(completions=3, parallelism=2, completionMode="Indexed"))
        done = await ended(cluster)
        assert (done.status["completedIndexes"], done.status["succeeded"]) == ("0-2", 3)
        for pod in await cluster.api.list("pods"):
            index = pod.metadata["annotations"]["batch.kubernetes.io/job-completion-index"]
            assert pod.metadata["labels"]["batch.kubernetes.io/job-completion-index"] == index
            assert pod.name.startswith(f"j-{index}-") and pod.spec["hostname"] == f"j-{index}"
            variable = pod.spec["containers"][0]["env"][0]
            assert variable["name"] == "JOB_COMPLETION_INDEX"

    played(play)


def test_suspended_it_has_no_pods_and_resumed_it_begins_again() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(suspend=True))
        await asyncio.sleep(60)
        found = await cluster.api.get("jobs", "j")
        assert conditions(found) == [("Suspended", "JobSuspended")]
        assert "startTime" not in found.status and not await cluster.api.list("pods")
        await cluster.api.patch("jobs", "j", {"spec": {"suspend": False}}, type_="merge")
        await asyncio.sleep(1)
        await cluster.api.patch("jobs", "j", {"spec": {"suspend": True}}, type_="merge")
        await asyncio.sleep(60)
        found = await cluster.api.get("jobs", "j")
        assert "failed" not in found.status, "what is ended because of it has not failed"
        await cluster.api.patch("jobs", "j", {"spec": {"suspend": False}}, type_="merge")
        done = await ended(cluster)
        assert done.status["startTime"] == "2026-01-01T00:02:01Z"
        assert {"Suspended", "Resumed"} <= set(await reasons(cluster))

    played(play)


def test_finished_jobs_go_when_their_time_is_over() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(ttlSecondsAfterFinished=60))
        await ended(cluster)
        await asyncio.sleep(59)
        assert await cluster.api.list("jobs")
        await asyncio.sleep(2)
        assert not await cluster.api.list("jobs") and not await cluster.api.list("pods")

    played(play)


def test_a_job_that_is_deleted_takes_its_pods_along_counted_or_not() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(job(image="stays", parallelism=3, completions=3))
        await asyncio.sleep(5)
        assert len(await cluster.api.list("pods")) == 3
        await cluster.api.delete("jobs", "j")
        await cluster.settled()
        assert not await cluster.api.list("pods")

    played(play)


@given(
    st.integers(1, 5),
    st.integers(1, 4),
    st.booleans(),
    st.lists(st.floats(0.0, 40.0), max_size=4),
    st.sampled_from(["NonIndexed", "Indexed"]),
    st.integers(0, 1000),
)
def test_whoever_crashes_every_pod_is_counted_once(
    completions: int,
    parallelism: int,
    failing: bool,
    crashes: list[float],
    mode: str,
    seed: int,
) -> None:
    async def play(cluster: Cluster) -> None:
        crash(cluster, crashes)
        wanted: dict[str, Any] = {"completions": completions, "parallelism": parallelism}
        image = "fails" if failing else "works"
        spec = {**wanted, "completionMode": mode, "backoffLimit": 2}
        await cluster.api.create(job(image=image, **spec))
        done = await ended(cluster)
        await cluster.settled()
        pods = await cluster.api.list("pods")
        for phase, field in (("Succeeded", "succeeded"), ("Failed", "failed")):
            count = sum(pod.status["phase"] == phase for pod in pods)
            assert done.status.get(field, 0) == count, field
        assert not any(pod.metadata.get("finalizers") for pod in pods)
        if failing:
            assert done.status["failed"] >= 3 and conditions(done)[-1][0] == "Failed"
        else:
            assert done.status["succeeded"] == completions

    played(play, seed)


def crash(cluster: Cluster, times: list[float]) -> None:
    loop = asyncio.get_running_loop()
    error = RuntimeError("on purpose")
    for at in times:
        loop.call_later(at, cluster.supervisor.crash, "controller-manager", error)


# CronJobs.


async def made(cluster: Cluster) -> list[str]:
    """Return when Jobs were made, in their order: "01:00"."""
    found = [found.metadata["creationTimestamp"] for found in await cluster.api.list("jobs")]
    return [time[11:19] for time in sorted(found)]


def test_jobs_begin_at_the_exact_instants_and_the_last_few_are_kept() -> None:
    async def play(cluster: Cluster) -> None:
        born: dict[str, float] = {}

        async def watch() -> None:
            async for event in cluster.api.watch("jobs"):
                if event.type == "ADDED":
                    born[event.object.name] = asyncio.get_running_loop().time()

        watching = asyncio.create_task(watch())
        await cluster.api.create(cron_job("*/5 * * * *"))
        await asyncio.sleep(3610)
        watching.cancel()
        times = list(born.values())
        assert len(times) == 12
        assert all(abs(at - 300 * n) < 1e-3 for n, at in enumerate(times, 1)), times
        assert len(await cluster.api.list("jobs")) == 3
        found = await cluster.api.get("cronjobs", "cron")
        assert found.status["lastScheduleTime"] == "2026-01-01T01:00:00Z"
        assert found.status["lastSuccessfulTime"] == "2026-01-01T01:00:03Z"
        assert "active" not in found.status
        first = (await cluster.api.list("jobs"))[0]
        scheduled = first.metadata["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"]
        assert scheduled == "2026-01-01T00:50:00Z"
        seen = await reasons(cluster, "cron")
        assert {"SuccessfulCreate", "SawCompletedJob", "SuccessfulDelete"} <= set(seen)

    played(play)


def test_what_becomes_of_one_that_is_still_running() -> None:
    async def active(cluster: Cluster, policy: str) -> tuple[int, list[str]]:
        await cluster.api.create(cron_job(image="stays", concurrencyPolicy=policy))
        await asyncio.sleep(200)
        await cluster.settled()
        return len(await cluster.api.list("jobs")), await made(cluster)

    assert played(lambda c: active(c, "Allow")) == (3, ["00:01:00", "00:02:00", "00:03:00"])
    assert played(lambda c: active(c, "Forbid")) == (1, ["00:01:00"])
    assert played(lambda c: active(c, "Replace")) == (1, ["00:03:00"])


def test_what_was_missed_is_made_up_for_once_if_it_is_not_too_late() -> None:
    async def play(cluster: Cluster, deadline_s: int | None) -> list[str]:
        more: dict[str, Any] = {} if deadline_s is None else {"startingDeadlineSeconds": deadline_s}
        await cluster.api.create(cron_job("0 * * * *", suspend=True, **more))
        await asyncio.sleep(3600 * 3 + 600)
        await cluster.api.patch("cronjobs", "cron", {"spec": {"suspend": False}}, type_="merge")
        await asyncio.sleep(60)
        return await made(cluster)

    assert played(lambda c: play(c, None)) == ["03:10:00"]
    assert played(lambda c: play(c, 300)) == []


def test_a_time_zone_is_heeded() -> None:
    async def play(cluster: Cluster) -> list[str]:
        await cluster.api.create(cron_job("30 8 * * *", timeZone="Asia/Kolkata"))
        await asyncio.sleep(4 * 3600)
        return await made(cluster)

    assert played(play) == ["03:00:00"]


@given(st.lists(st.floats(55.0, 200.0), min_size=1, max_size=5), st.integers(0, 1000))
def test_whoever_crashes_every_time_has_one_job(crashes: list[float], seed: int) -> None:
    async def play(cluster: Cluster) -> None:
        crash(cluster, crashes)
        await cluster.api.create(cron_job(successfulJobsHistoryLimit=100))
        await asyncio.sleep(250)
        assert [time[3:5] for time in await made(cluster)] == ["01", "02", "03", "04"]

    played(play, seed)
