"""Scenarios in every order: what is broken is found, what holds is known to hold in all of them."""

import asyncio
import re
from collections.abc import Mapping
from typing import Any

import pytest
from scenarios import (
    Counts,
    Fits,
    Log,
    NothingRuns,
    Pods,
    a_counter,
    a_deployment_of_two,
    a_replica_set_of_one,
    careful,
    careless,
    deletes_a_pod,
    every_order,
    pod,
    readies,
    scales_to_two,
    sets_another_image,
)

from kubeloop.actors.scheduler import Scheduler
from kubeloop.actors.workqueue import WorkQueue
from kubeloop.chaos import Bounds, Scenario, Ways, explore, exploring, follow
from kubeloop.chaos.orders import Choose, NotTheSame
from kubeloop.net.client import Client

NO_PODS = ("controller-manager", "scheduler")


def counting(*programs: Any, **options: Any) -> Scenario:
    users = dict(zip(("alice", "bob", "carol"), programs, strict=False))
    monitors = options.pop("monitors", lambda: [Counts(len(programs))])
    given = {"setup": a_counter, "absent": NO_PODS, "monitors": monitors, **options}
    return Scenario(users, **given)


# Programs that count.


def test_a_lost_update_is_found_told_and_had_again() -> None:
    scenario = counting(careless, careless)
    explored = explore(scenario)
    assert explored.found is not None
    assert not explored.complete
    assert explored.found.text == "the counter shows 1, not 2"
    told = re.sub(r"revision \d+", "revision N", str(explored))
    assert told.splitlines()[:6] == [
        "lost update: the counter shows 1, not 2",
        "after 8 moves:",
        "    1  alice → apiserver  get configmaps/counter",
        "    2  bob → apiserver    get configmaps/counter",
        "    3  apiserver → alice  200 at revision N",
        "    4  apiserver → bob    200 at revision N",
    ]
    again = follow(scenario, explored.found.lines)
    assert again is not None
    assert (again.text, again.lines) == (explored.found.text, explored.found.lines)
    assert follow(scenario, ["alice → apiserver", "apiserver → alice"] * 2) is None
    with pytest.raises(NotTheSame, match="nothing waits on 'carol → apiserver', but on alice"):
        follow(scenario, ["carol → apiserver"])


@pytest.mark.parametrize(("programs", "runs"), [(1, 1), (2, 4), (3, 108)])
def test_who_checks_the_version_loses_nothing_in_any_order(programs: int, runs: int) -> None:
    explored = explore(counting(*[careful] * programs))
    assert explored.complete, explored
    assert (explored.runs, explored.cut) == (runs, 0)
    assert str(explored).startswith(f"complete: {runs} orders were run, 0 were cut off")


async def touches(api: Client) -> None:
    await api.patch("configmap", "counter", {"data": {"touched": "yes"}})


async def copies(api: Client) -> None:
    """Write beside the counter what a watch shows of it first."""
    async for change in api.watch("configmaps", name="counter"):
        seen = {"seen": change.object["data"]["n"]}
        await api.patch("configmap", "counter", {"data": seen})
        return


@pytest.mark.parametrize(
    ("programs", "ways"),
    [
        ((careful, careless), Ways()),
        ((careless, copies), Ways()),
        ((copies, copies), Ways(turns="any")),
        ((touches, touches), Ways(timers="any")),
    ],
)
def test_it_comes_to_what_running_each_single_order_comes_to(
    programs: tuple[Any, ...], ways: Ways
) -> None:
    every: list[tuple[bytes, ...]] = []
    few: list[tuple[bytes, ...]] = []

    def scenario(logs: list[tuple[bytes, ...]]) -> Scenario:
        return counting(*programs, ways=ways, within_s=12, monitors=lambda: [Log(logs)])

    def run(choose: Choose) -> None:
        exploring._run(scenario(every), choose)

    count = sum(1 for _ in every_order(run))
    explored = explore(scenario(few))
    assert explored.complete, explored
    assert set(few) == set(every)
    assert len(few) == explored.runs < count


def test_what_a_program_has_seen_may_be_old_by_the_time_it_acts() -> None:
    """A controller that looks into what its watch told it makes a second child."""

    async def controller(api: Client) -> None:
        seen: dict[str, Any] = {}
        async for change in api.watch("configmaps"):
            seen[change.object.name] = change.object
            if not any("child" in name for name in seen):
                child = {"apiVersion": "v1", "kind": "ConfigMap"}
                await api.create({**child, "metadata": {"generateName": "child-"}})

    class OneChild(Log):
        name = "one child"

        def end(self) -> None:
            assert_one(sum(b"child-" in value for value in self.facts))

    def assert_one(count: int) -> None:
        if count != 1:
            raise exploring.Broken(f"there are {count}")

    explored = explore(
        Scenario(
            {"alice": touches},
            operators={"controller": controller},
            setup=a_counter,
            absent=NO_PODS,
            monitors=lambda: [OneChild([])],
        )
    )
    assert explored.found is not None, explored
    assert explored.found.text == "there are 2"
    assert "apiserver → controller (watch 1)" in explored.found.lines


# Ways.


async def impatient(api: Client) -> None:
    """Count up once, and again if no answer comes in time."""
    for _ in range(2):
        found = await api.get("configmap", "counter")
        more = {"data": {"n": str(int(found["data"]["n"]) + 1)}}
        try:
            await asyncio.wait_for(api.patch("configmap", "counter", more), 5)
        except TimeoutError:
            continue
        return


def test_time_passes_early_only_if_it_may() -> None:
    assert explore(counting(impatient)).complete
    explored = explore(counting(impatient, ways=Ways(timers="any")))
    assert explored.found is not None, explored
    assert explored.found.text == "the counter shows 2, not 1"
    assert "time" in explored.found.lines


@pytest.mark.parametrize(
    ("ways", "runs"), [(Ways(), 1), (Ways(wires="two"), 12), (Ways(turns="any"), 24)]
)
def test_the_freer_the_ways_the_more_orders(ways: Ways, runs: int) -> None:
    scenario = replicas(ways=ways, users={"alice": scales_to_two})
    explored = explore(scenario)
    assert explored.complete, explored
    assert explored.runs == runs


# Who cannot be explored, and who breaks a run himself.


def test_a_program_that_fails_breaks_the_run() -> None:
    async def fails(api: Client) -> None:
        await api.get("configmap", "nobody")

    found = explore(counting(fails)).found
    assert found is not None
    assert (found.monitor, len(found.moves)) == ("program", 2)
    assert found.text == 'alice failed: NotFound: configmaps "nobody" not found'


def test_a_program_that_does_not_end_breaks_the_run() -> None:
    async def waits(api: Client) -> None:
        while True:
            await asyncio.sleep(1)

    found = explore(counting(waits, within_s=20)).found
    assert found is not None
    assert found.text == "it is not over after 20 s: alice not done"


def test_a_program_that_is_not_decided_by_what_it_is_told_is_refused() -> None:
    times = iter(range(1000))

    async def moody(api: Client) -> None:
        if next(times) % 2:
            await api.get("configmap", "counter")
        await api.patch("configmap", "counter", {"data": {"n": "2"}})

    with pytest.raises(NotTheSame, match=r"were possible, now .*get configmaps"):
        explore(counting(careful, moody, monitors=list))


# Our own controllers.


def replicas(**options: Any) -> Scenario:
    given: Mapping[str, Any] = {
        "users": {"alice": scales_to_two, "bob": deletes_a_pod},
        "setup": a_replica_set_of_one,
        "absent": ["scheduler"],
        "monitors": lambda: [Pods(most=2, rest=2)],
    }
    return Scenario(**{**given, **options})


def test_a_replica_set_never_makes_more_than_is_wanted() -> None:
    explored = explore(replicas())
    assert explored.complete, explored
    assert explored.runs > 10


def test_one_that_does_not_wait_until_it_sees_what_it_wrote_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = WorkQueue.heard

    def forgetful(self: WorkQueue, key: str, *, ok: bool, revision: int, now_s: float) -> None:
        heard(self, key, ok=ok, revision=0, now_s=now_s)

    monkeypatch.setattr(WorkQueue, "heard", forgetful)
    found = explore(replicas()).found
    assert found is not None
    assert found.text == "there are 3 pods, at most 2 are wanted"
    assert len(found.moves) <= 20
    assert str(found.moves[-1].what) == "create pods/web-…"


def test_a_rollout_keeps_its_limits() -> None:
    explored = explore(
        Scenario(
            {"alice": sets_another_image},
            operators={"kubelet": readies},
            setup=a_deployment_of_two,
            absent=["scheduler"],
            monitors=lambda: [Pods(most=3, rest=2, ready=2)],
        ),
        Bounds(delays=1, executions=100),
    )
    assert explored.found is None, explored
    assert explored.runs >= 20


def creates(name: str, **options: Any) -> Any:
    async def create(api: Client) -> None:
        await api.create(pod(name, **options))

    return create


def two_schedulers(ways: Ways) -> Scenario:
    """Return two that share a node which has room for one pod."""
    return Scenario(
        {"alice": creates("one", cpu="5"), "bob": creates("two", cpu="5")},
        actors={"scheduler-2": Scheduler},
        nodes=1,
        absent=("controller-manager", "kubelet/node-1", "kube-proxy/node-1"),
        monitors=lambda: [Fits(1)],
        ways=ways,
    )


def test_two_schedulers_agree_if_they_see_each_binding_before_the_refusal_of_their_own() -> None:
    explored = explore(two_schedulers(Ways()))
    assert explored.complete, explored
    assert explored.runs > 10


def test_two_schedulers_fill_a_node_twice_if_the_refusal_comes_first() -> None:
    """As in Kubernetes: what was refused is counted nowhere until it is heard of; so one leads."""
    found = explore(two_schedulers(Ways(wires="two"))).found
    assert found is not None
    assert found.text == "2 pods were bound, there is room for 1"
    assert "409 Conflict" in [str(move.what) for move in found.moves]


@pytest.mark.parametrize("grace_s", [0, 5])
def test_a_pod_that_is_deleted_at_any_moment_leaves_nothing_behind(grace_s: int) -> None:
    async def deletes(api: Client) -> None:
        await api.delete("pod", "one", grace_s=grace_s)

    async def creates_and_deletes(api: Client) -> None:
        await api.create(pod("one"))
        await deletes(api)

    explored = explore(
        Scenario(
            {"alice": creates_and_deletes},
            nodes=1,
            absent=("controller-manager", "kube-proxy/node-1"),
            monitors=lambda: [NothingRuns()],
        )
    )
    assert explored.complete, explored
    assert explored.runs > 1


def test_each_actor_draws_from_chance_of_its_own() -> None:
    """Else it would matter which of two draws first, though they are in different places."""

    class Sources(Log):
        def begin(self, stage: Any) -> None:
            supervisor = stage.cluster.supervisor
            actors = [supervisor.actor(name) for name in supervisor.names()]
            found.append(len({id(actor.world.rng) for actor in actors}) - len(actors))

    found: list[int] = []
    explored = explore(
        Scenario({"alice": touches}, setup=a_counter, nodes=1, monitors=lambda: [Sources([])])
    )
    assert explored.complete, explored
    assert set(found) == {0}
