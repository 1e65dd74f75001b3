"""Each invariant sees a bug planted for it; of runs in which nothing is wrong none objects."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kubeloop.actors.controller_manager import ControllerManager
from kubeloop.actors.controllers import (
    deployment,
    deployment_status,
    garbage,
    replication,
)
from kubeloop.actors.controllers.base import NOTHING
from kubeloop.actors.controllers.endpoints import EndpointsController
from kubeloop.actors.controllers.endpointslices import EndpointSliceController
from kubeloop.actors.controllers.garbage import GarbageCollector
from kubeloop.actors.controllers.replication import ReplicationController
from kubeloop.actors.kube_proxy import KubeProxy
from kubeloop.actors.messages import Subscribe
from kubeloop.actors.pod_work import PodWork
from kubeloop.actors.pods.addresses import Addresses
from kubeloop.actors.requests.allocation import Allocations
from kubeloop.actors.requests.state import State
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.actors.runtimes.simulated import SimulatedRuntime
from kubeloop.api.calls import Request
from kubeloop.chaos import (
    Configure,
    Cordon,
    DeleteApp,
    DeletePod,
    Deploy,
    Expose,
    Plan,
    Scale,
    Stage,
    Unexpose,
    Violation,
    play,
)
from kubeloop.chaos.generate import plan_of
from kubeloop.chaos.invariants import standard
from kubeloop.store.facts import Fact
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor, Hub

Plant = Callable[[pytest.MonkeyPatch], None]

APP = (Deploy(replicas=3), Expose(at_s=1, node_port=True))
ROLL = Plan(happenings=(*APP, Deploy(at_s=40, replicas=3, image="app:2")))
QUIET = Plan(happenings=(*APP, Configure(at_s=5, value=7)))


def seen(plan: Plan, monitor: str, text: str, **options: Any) -> None:
    """See that one monitor objects to a plan, and what it says."""
    with pytest.raises(Violation, match=text) as caught:
        play(plan, monitors=standard, **options)
    assert caught.value.monitor == monitor, str(caught.value)


@pytest.mark.parametrize("seed", range(50))
def test_nobody_objects_to_what_is_right(seed: int) -> None:
    play(plan_of(seed), monitors=standard)


@pytest.mark.parametrize("plan", [ROLL, QUIET])
def test_nobody_objects_to_what_is_planted_in(plan: Plan) -> None:
    play(plan, monitors=standard)


# What is true stays true, and is told.


def test_a_write_that_is_acknowledged_and_not_done(monkeypatch: pytest.MonkeyPatch) -> None:
    put = State.put

    def forget(self: State, resource: Any, obj: Any, request: Request, **told: Any) -> None:
        if resource.id == "configmaps" and request.sender == "":
            obj["metadata"]["resourceVersion"] = str(self.store.revision)
        else:
            put(self, resource, obj, request, **told)

    monkeypatch.setattr(State, "put", forget)
    seen(
        QUIET,
        "acknowledged",
        r"create configmaps was acknowledged at .* as revision \d+, which has",
    )


def test_a_write_that_is_acknowledged_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    flush = Store.flush

    def early(self: Store, done: Any) -> None:
        """Answer at once what is asked of a ConfigMap; write it when something else comes."""
        if self._facts and self._facts[-1].resource == "configmaps":
            done(None)
        else:
            flush(self, done)

    monkeypatch.setattr(Store, "flush", early)
    seen(replace(QUIET, durable=True), "acknowledged", "but by then no more than revision")


def test_a_write_that_does_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    put = State.put

    def garble(self: State, resource: Any, obj: Any, request: Request, **told: Any) -> None:
        if "value" in obj.get("data", {}):
            obj["data"]["value"] = "0"
        put(self, resource, obj, request, **told)

    monkeypatch.setattr(State, "put", garble)
    seen(QUIET, "acknowledged", "data.value shall be '7' there, and is '0'")


def test_a_fact_nobody_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Hub.publish

    def lose(self: Hub, facts: Sequence[Fact]) -> None:
        publish(self, [fact for fact in facts if not fact.key.endswith("configmaps/default/one")])

    monkeypatch.setattr(Hub, "publish", lose)
    seen(QUIET, "revisions", r"told of .* where the store has configmaps default/one at \d+")


def test_a_fact_that_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Cursor.take
    kept: dict[Cursor, list[Fact]] = {}

    def stutter(self: Any, limit: int = 1000) -> list[Fact]:
        facts = take(self, limit)
        again = kept.pop(self, []) if facts and facts[0].resource == "pods" else []
        kept[self] = facts[-1:]
        return [*again, *facts]

    monkeypatch.setattr("kubeloop.store.watch._Merged.take", _stuttering(monkeypatch))
    seen(QUIET, "revisions", r"revision \d+ after \d+")


def _stuttering(monkeypatch: pytest.MonkeyPatch) -> Any:
    from kubeloop.store.watch import _Merged

    take = _Merged.take

    def stutter(self: Any, limit: int = 1000) -> list[Fact]:
        facts = take(self, limit)
        return [*facts[:1], *facts] if limit > 1000 else facts

    return stutter


def test_a_watch_that_misses_what_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.store import routes

    labels_of = routes._label_routes

    def forget(fact: Fact, resource: str, namespace: str) -> Any:
        return iter(()) if fact.value is None else labels_of(fact, resource, namespace)

    monkeypatch.setattr(routes, "_label_routes", forget)
    plan = Plan(happenings=(*APP, DeletePod(at_s=10, now=True)))
    seen(plan, "watches", r"a watch of pods \{'labels'.*was shown nothing.*should have been shown")


def test_a_client_that_is_shown_something_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.chaos.gatekeeper import GateFeed

    take = GateFeed.take

    def stutter(self: GateFeed, limit: int = 1000) -> list[Fact]:
        facts = take(self, limit)
        return [*facts, *facts[-1:]]

    async def operator(stage: Stage) -> None:
        async for _ in stage.client("stutterer").watch("configmaps"):
            pass

    monkeypatch.setattr(GateFeed, "take", stutter)
    seen(QUIET, "watches", "a watch of stutterer of configmaps .*was shown", operator=operator)


def test_an_actor_that_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hear = ControllerManager._hear

    def deaf(self: ControllerManager, frame: bytes) -> None:
        if b"configmaps/default/one" not in frame:
            hear(self, frame)

    monkeypatch.setattr(ControllerManager, "_hear", deaf)
    text = r"controller-manager knows configmaps default/one as of revision none at rest, .* at \d+"
    seen(QUIET, "views", text)


def test_a_uid_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(State, "new_uid", lambda self: "00000000-0000-4000-8000-000000000000")
    seen(QUIET, "identities", "uid 00000000-.* has been another object's before")


# What runs.


def test_kubelets_that_run_the_pods_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_pods(name: str, resources: list[str], node: str = "") -> Subscribe:
        return Subscribe(name, resources)

    monkeypatch.setattr("kubeloop.actors.kubelet.Subscribe", all_pods)
    seen(QUIET, "running", r"is bound to node-\d, and begins to run on node-\d")


def test_a_pod_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ignore(self: Any, *arguments: Any, **options: Any) -> None:
        """Do nothing."""

    monkeypatch.setattr(SimulatedRuntime, "stop_container", ignore)
    plan = Plan(happenings=(*APP, DeletePod(at_s=10)))
    seen(plan, "running", r"still runs on node-\d \d+ s after it was told to end in 30 s")


def test_what_is_left_of_a_deleted_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forget(self: SimulatedRuntime, pod_uid: str) -> None:
        self._sandboxes.pop(pod_uid)

    async def nothing(self: Any, *arguments: Any, **options: Any) -> bytes:
        return b""

    monkeypatch.setattr(SimulatedRuntime, "remove_sandbox", forget)
    monkeypatch.setattr("kubeloop.actors.pods.life._stop", lambda *rest: rest[0].containers.clear())
    plan = Plan(happenings=(*APP, DeletePod(at_s=10)))
    seen(plan, "running", "runs on node-.; the API has no such pod|still runs on")


def test_a_pod_that_ended_and_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SimulatedRuntime, "_end", SimulatedRuntime._finish)
    images = {"app:1": Script(run_s=3.0)}
    text = r"runs on node-\d, says the API at revision \d+; but it does not"
    seen(Plan(happenings=(Deploy(replicas=1),)), "running", text, images=images)


# What is scheduled.


def test_a_node_with_too_many_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeloop.actors.scheduling.demand.requests_of", lambda spec: {})
    plan = Plan(nodes=1, happenings=(Deploy(replicas=3, cpu="3"),))
    text = r"binds pod default/web-.* to node-1: its pods now request 9 of cpu, and it has 8"
    seen(plan, "capacity", text)


def test_a_node_that_is_cordoned(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.actors.scheduling.nodeinfo import State as Nodes

    set_node = Nodes.set_node

    def open_(self: Nodes, node: Any) -> bool:
        return set_node(self, {**node, "spec": {}})

    monkeypatch.setattr(Nodes, "set_node", open_)
    plan = Plan(nodes=1, happenings=(Cordon(off=True), Deploy(at_s=5, replicas=1)))
    seen(plan, "capacity", r"to node-1, which has been cordoned since revision \d+")


# What controllers make and end.


def test_a_set_that_makes_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replication._replicas
    monkeypatch.setattr(replication, "_replicas", lambda set_: wanted(set_) + 1)
    text = (
        r"replicaset-controller has made pods default/web-.* too many: .* wants 3, and has 4 active"
    )
    seen(QUIET, "replicas", text)


def test_a_set_that_ends_one_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = replication._replicas
    monkeypatch.setattr(replication, "_replicas", lambda set_: min(wanted(set_), 2))
    plan = Plan(happenings=(Deploy(replicas=2), Scale(at_s=5, replicas=3), DeletePod(at_s=9)))
    seen(plan, "replicas", "wants 3 pods, and has 2 at rest")
    monkeypatch.setattr(replication, "_replicas", lambda set_: wanted(set_) - wanted(set_) // 3)
    plan = Plan(happenings=(Deploy(replicas=2), Scale(at_s=5, replicas=3)))
    monkeypatch.setattr(replication, "BURST_MAX", 500)


def test_a_set_that_counts_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ReplicationController._status

    def miscount(self: Any, *arguments: Any) -> Any:
        told, next_ = status(self, *arguments)
        return {**told, "readyReplicas": 1, "availableReplicas": 1}, next_

    monkeypatch.setattr(ReplicationController, "_status", miscount)
    text = "replicasets default/web-.*: status.readyReplicas is 1 at rest, and should be 3"
    seen(QUIET, "replicas", text)


def test_a_rollout_beyond_its_surge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "new_size", lambda bounds, new, total: bounds.replicas)
    text = r"lets replicasets default/web-\w+ grow from 0 to 3: .* 6 pods are wanted now, at most 4"
    seen(ROLL, "rollouts", text)


def test_a_rollout_that_takes_away_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        deployment, "old_sizes", lambda bounds, new, old: {s.name: 0 for s in old if s.wanted}
    )
    text = r"shrink from 3 to 0: .* 3 pods of .* are available, 0 would be left, .* must be 3"
    seen(ROLL, "rollouts", text)


def test_a_rollout_that_stops_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "old_sizes", lambda bounds, new, old: {})
    seen(
        ROLL, "rollouts", "wants 3 pods; at rest it has 4, all of them ready, and 1 of its template"
    )


def test_a_deployment_that_counts_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    total = deployment_status._sum

    def miscount(sets: Any, name: str) -> int:
        return total(sets, name) - (name in ("readyReplicas", "availableReplicas"))

    monkeypatch.setattr(deployment_status, "_sum", miscount)
    text = "deployments default/web: status.readyReplicas is 2 at rest, and should be 3"
    seen(QUIET, "rollouts", text)


# What belongs to what.


def test_what_the_garbage_collector_forgets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GarbageCollector, "reconcile", lambda *arguments: NOTHING)
    plan = Plan(happenings=(*APP, DeleteApp(at_s=5)))
    seen(plan, "ownership", "replicasets default/web-.* is there at rest, its owner Deployment web")


def test_what_the_garbage_collector_must_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_is_gone", lambda *arguments: True)
    seen(QUIET, "ownership", "generic-garbage-collector deletes .*, whose owner .* lives")


def test_what_is_deleted_and_never_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GarbageCollector, "_wait", lambda *arguments: NOTHING)
    plan = Plan(happenings=(*APP, DeleteApp(at_s=5, propagation="Foreground")))
    text = r"deployments default/web is still being deleted at rest.*\['foregroundDeletion'\]"
    seen(plan, "ownership", text)


# What is given once.


def test_an_address_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Allocations, "_free_address", lambda self, bits: "10.96.0.77")
    monkeypatch.setattr("kubeloop.actors.requests.state.claims", lambda *arguments: [])
    plan = Plan(happenings=(Expose(), Expose(at_s=1, app="db")))
    text = "services default/db has clusterIP 10.96.0.77, which services default/web has already"
    seen(plan, "addresses", text)


def test_a_port_from_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Allocations, "_free_port", lambda *arguments: 40000)
    seen(QUIET, "addresses", "Service web has nodePort 40000, which is not in 30000-32767")


def test_an_address_that_is_not_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.actors.requests import state

    claims = state.claims

    def keep(*arguments: Any) -> list[Any]:
        return [write for write in claims(*arguments) if write.value is not None]

    monkeypatch.setattr(state, "claims", keep)
    plan = Plan(happenings=(Expose(), Unexpose(at_s=5)))
    seen(plan, "addresses", r"10\..* is set aside at rest, and no Service has it")


def test_a_pod_address_that_is_given_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Addresses, "take", lambda self, uid: "127.244.1.9")
    seen(QUIET, "addresses", r"pod IP 127\.244\.1\.9")


# What is served.


def test_slices_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndpointSliceController, "reconcile", lambda *arguments: NOTHING)
    with pytest.raises(Violation, match="at rest its EndpointSlices name") as caught:
        play(QUIET, monitors=lambda: [m for m in standard() if m.name != "traffic"])
    assert caught.value.monitor == "endpoints"


def test_endpoints_nobody_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EndpointsController, "reconcile", lambda *arguments: NOTHING)
    seen(QUIET, "endpoints", r"at rest its Endpoints name \[\], and there are \[\('")


def test_a_proxy_that_does_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KubeProxy, "_follow", lambda self: None)
    plan = Plan(happenings=(Deploy(at_s=50, replicas=1), Expose(at_s=51), Configure(at_s=60)))
    seen(plan, "traffic", r"has nobody for connections to Service default/web at .*has been ready")


def test_a_proxy_that_sends_to_who_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kubeloop.actors.routing._choose",
        lambda found, local_to: tuple(sorted({one.endpoint for one in found})),
    )
    images = {"app:1": Script(term_s=25.0)}
    plan = Plan(happenings=(*APP, DeletePod(at_s=60)))
    text = "still sends connections to Service default/web at .*has not been a ready pod's"
    seen(plan, "traffic", text, images=images)


def test_a_proxy_whose_table_is_wrong_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kubeloop.actors.routing._choose",
        lambda found, local_to: tuple(sorted({one.endpoint for one in found if one.ready}))[:1],
    )
    seen(QUIET, "traffic", r"at rest sends connections to .*Service default/web at .*and should to")


def test_a_hook_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def skip(self: PodWork, *arguments: Any) -> str:
        return ""

    monkeypatch.setattr(PodWork, "_hook", skip)
    plan = Plan(happenings=(Deploy(replicas=2, drain_s=5), DeletePod(at_s=60)))
    text = (
        "has been made to end before its preStop hook was over: it should take connections until 65"
    )
    seen(plan, "traffic", text)


def test_rollouts_that_drain_are_not_noticed() -> None:
    """A rolling update with readiness and a preStop hook, in the middle of calm weather."""
    first = Deploy(replicas=3, unavailable=0, drain_s=5)
    second = replace(first, at_s=60.0, image="app:2")
    play(Plan(happenings=(first, Expose(at_s=1), second)), monitors=standard)
