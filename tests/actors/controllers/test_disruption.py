"""Disruption budgets: what they count, what they allow, and that none is ever exceeded."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.api.calls import Request
from kubeloop.api.errors import ApiError, Conflict, TooManyRequests, Unexplained
from kubeloop.cluster import Cluster

BUDGETS = "poddisruptionbudgets.policy"
LABELED = {"labels": {"app": "web"}}
IMAGES = {"i": Script(ready_after_s=5.0), "never": Script(ready_after_s=1e9)}


def deployment(replicas: int = 4, image: str = "i") -> dict[str, Any]:
    probe = {"httpGet": {"port": 80}, "periodSeconds": 5}
    container = {"name": "c", "image": image, "readinessProbe": probe}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container]},
            },
        },
    }


def budget(name: str = "b", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
    }


def played(play: Callable[[Cluster], Awaitable[Any]], seed: int = 1) -> Any:
    async def main() -> Any:
        async with Cluster(nodes=3, seed=seed, images=IMAGES) as cluster:
            return await play(cluster)

    return sim.run(main, seed=seed)


class Gone(ApiError):
    """There is no such pod any more."""


async def evict(cluster: Cluster, pod: str, **options: Any) -> None:
    """Evict a pod. Raises: ApiError."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}
    request = Request(
        "create", "pods", "default", pod, "eviction", msgpack.packb(body), options=options
    )
    outcome = await cluster.ask(request)
    if outcome.code >= 400:
        status = msgpack.unpackb(outcome.body)
        if outcome.code == 409:
            raise Conflict("pods", pod, status["message"])
        kinds = {404: Gone, 429: TooManyRequests, 500: Unexplained}
        details = RuntimeError(str(status.get("details")))
        raise kinds.get(outcome.code, ApiError)(status["message"]) from details


async def counts(cluster: Cluster) -> tuple[int, int, int, int]:
    status = (await cluster.api.get(BUDGETS, "b")).status
    fields = ("expectedPods", "currentHealthy", "desiredHealthy", "disruptionsAllowed")
    return tuple(status[field] for field in fields)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 3}, (4, 4, 3, 1)),
        ({"minAvailable": "50%"}, (4, 4, 2, 2)),
        ({"minAvailable": "51%"}, (4, 4, 3, 1)),
        ({"maxUnavailable": 1}, (4, 4, 3, 1)),
        ({"maxUnavailable": "30%"}, (4, 4, 2, 2)),
        ({"maxUnavailable": 0}, (4, 4, 4, 0)),
        ({"minAvailable": 9}, (4, 4, 9, 0)),
        ({"minAvailable": 1, "selector": None}, (0, 0, 1, 0)),
        ({"minAvailable": 1, "selector": {}}, (4, 4, 1, 3)),
    ],
)
def test_what_a_budget_counts(spec: dict[str, Any], expected: tuple[int, ...]) -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget(**spec))
        await cluster.api.create(deployment())
        await cluster.api.wait("deployment/web", "condition=Available")
        await asyncio.sleep(10)
        assert await counts(cluster) == expected
        found = (await cluster.api.get(BUDGETS, "b")).status["conditions"]
        reason = "SufficientPods" if expected[3] else "InsufficientPods"
        assert [(c["type"], c["reason"]) for c in found] == [("DisruptionAllowed", reason)]

    played(play)


def test_evictions_are_refused_until_the_pods_are_healthy_again() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget(maxUnavailable=1))
        await cluster.api.create(deployment())
        await cluster.api.wait("deployment/web", "condition=Available")
        await asyncio.sleep(10)
        first, second, *_ = await cluster.api.list("pods")
        await evict(cluster, first.name, dryRun=["All"])
        await evict(cluster, first.name)
        gone = await cluster.api.get("pods", first.name)
        reasons = [
            c["reason"] for c in gone.status["conditions"] if c["type"] == "DisruptionTarget"
        ]
        assert reasons == ["EvictionByEvictionAPI"]
        text = "Cannot evict pod as it would violate the pod's disruption budget."
        with pytest.raises(TooManyRequests) as refused:
            await evict(cluster, second.name)
        assert str(refused.value) == text
        await asyncio.sleep(1)
        with pytest.raises(TooManyRequests) as refused:
            await evict(cluster, second.name)
        why = "The disruption budget b needs 3 healthy pods and has 3 currently"
        assert why in str(refused.value.__cause__)
        await asyncio.sleep(20)
        await evict(cluster, second.name)
        await asyncio.sleep(20)
        assert await counts(cluster) == (4, 4, 3, 1)

    played(play)


def test_a_pod_that_is_not_healthy_may_go_if_enough_others_are_or_it_is_allowed() -> None:
    async def play(cluster: Cluster, **spec: Any) -> None:
        await cluster.api.create(budget(minAvailable=1, **spec))
        await cluster.api.create(deployment(2, image="never"))
        await asyncio.sleep(30)
        pod = (await cluster.api.list("pods"))[0]
        await evict(cluster, pod.name)

    played(lambda cluster: play(cluster, unhealthyPodEvictionPolicy="AlwaysAllow"))
    with pytest.raises(TooManyRequests):
        played(play)


def test_an_eviction_whose_precondition_fails_takes_nothing() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget(maxUnavailable=1))
        await cluster.api.create(deployment())
        await cluster.api.wait("deployment/web", "condition=Available")
        await asyncio.sleep(10)
        pod = (await cluster.api.list("pods"))[0]
        before = await cluster.api.get(BUDGETS, "b")
        for wrong in ({"uid": "other"}, {"resourceVersion": "1"}):
            with pytest.raises(Conflict, match="Precondition failed: "):
                await evict(cluster, pod.name, preconditions=wrong)
        assert await cluster.api.get(BUDGETS, "b") == before
        assert await cluster.api.get("pods", pod.name) == pod
        right = {"uid": pod.uid, "resourceVersion": str(pod.resource_version)}
        await evict(cluster, pod.name, preconditions=right)
        assert (await counts(cluster))[3] == 0

    played(play)


def test_two_budgets_for_one_pod_are_too_many() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget("b", minAvailable=0))
        await cluster.api.create(budget("c", minAvailable=0))
        await cluster.api.create(deployment(1))
        await cluster.api.wait("deployment/web", "condition=Available")
        pod = (await cluster.api.list("pods"))[0]
        with pytest.raises(Unexplained, match="more than one PodDisruptionBudget"):
            await evict(cluster, pod.name)

    played(play)


def test_pods_that_nobody_wants_in_a_number_cannot_be_counted_by_parts() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget(maxUnavailable="50%"))
        pod = {**deployment()["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
        await cluster.api.create({**pod, "metadata": {"name": "p", **LABELED}})
        await asyncio.sleep(20)
        found = (await cluster.api.get(BUDGETS, "b")).status["conditions"]
        assert [(c["reason"], c["message"]) for c in found] == [
            ("SyncFailed", 'found no controllers for pod "p"')
        ]
        with pytest.raises(TooManyRequests):
            await evict(cluster, "p")

    played(play)


@given(
    st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 5)), min_size=1, max_size=8),
    st.sampled_from([{"maxUnavailable": 1}, {"minAvailable": "60%"}, {"minAvailable": 3}]),
    st.lists(st.floats(0.0, 60.0), max_size=2),
    st.integers(0, 1000),
)
def test_no_eviction_ever_leaves_fewer_than_are_wanted(
    evictions: list[tuple[float, int]], spec: dict[str, Any], crashes: list[float], seed: int
) -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(budget(**spec))
        await cluster.api.create(deployment(5))
        await cluster.api.wait("deployment/web", "condition=Available")
        await asyncio.sleep(10)
        desired = (await counts(cluster))[2]
        loop = asyncio.get_running_loop()
        for at in crashes:
            loop.call_later(
                at, cluster.supervisor.crash, "controller-manager", RuntimeError("on purpose")
            )
        for pause_s, number in evictions:
            await asyncio.sleep(pause_s)
            pods = await cluster.api.list("pods")
            try:
                await evict(cluster, pods[number % len(pods)].name)
            except (TooManyRequests, Gone):
                continue
            alive = [
                pod
                for pod in await cluster.api.list("pods")
                if not pod.metadata.get("deletionTimestamp")
                and any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in pod.status.get("conditions", ())
                )
            ]
            assert len(alive) >= desired
        await asyncio.sleep(30)
        assert (await counts(cluster))[1] == 5

    played(play, seed)
