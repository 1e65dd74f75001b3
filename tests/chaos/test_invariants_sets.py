"""The invariants of StatefulSets, budgets, orphans and tolerations see what is planted for them."""

from typing import Any

import pytest
from mutants import MUTANTS

from kubeloop.actors.controllers import nodes
from kubeloop.actors.controllers.base import Action, Result
from kubeloop.actors.controllers.disruption import DisruptionController
from kubeloop.actors.controllers.garbage import GarbageCollector
from kubeloop.actors.controllers.statefulset import StatefulSetController
from kubeloop.actors.pods.reporting import Reporter
from kubeloop.actors.requests import eviction
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.chaos import (
    ActorDown,
    BarePod,
    Budget,
    Cordon,
    DeleteApp,
    DeletePod,
    Deploy,
    Evict,
    Plan,
    ScaleStateful,
    Stateful,
    TaintNode,
    Violation,
    play,
)
from kubeloop.chaos.invariants.budgets import Budgets
from kubeloop.chaos.invariants.stateful import StatefulSets
from kubeloop.chaos.invariants.tale import Tale

SLOW = {"app:1": Script(term_s=5.0)}
SCALED = Plan(
    happenings=(
        Stateful(replicas=3),
        ScaleStateful(at_s=40, replicas=1),
        Stateful(at_s=60, replicas=2, image="app:2"),
    )
)
DRAINED = Plan(
    happenings=(
        Deploy(replicas=3),
        Budget(at_s=1, amount="2"),
        Evict(at_s=20, many=2),
        Evict(at_s=30, number=2),
        DeletePod(at_s=40, number=1),
        Evict(at_s=40, number=0),
    )
)


PAST = Plan(
    happenings=(
        Deploy(replicas=2),
        Budget(at_s=1, amount="1"),
        ActorDown(at_s=19, for_s=10, actor="controller-manager"),
        Budget(at_s=20, amount="2"),
        Evict(at_s=22),
    )
)
ORPHANED = Plan(happenings=(Deploy(replicas=2), DeleteApp(at_s=20, propagation="Orphan")))
LEFT = Plan(nodes=1, happenings=(BarePod(tolerates_s=40), TaintNode(at_s=10)))
CAME_LATE = Plan(
    nodes=1,
    happenings=(
        Cordon(off=True),
        TaintNode(at_s=1),
        BarePod(at_s=2, tolerates_s=40),
        Cordon(at_s=60),
    ),
)
PLANTED = {
    "evictions cost nothing": (DRAINED, "budgets", "is evicted, which"),
    "ending pods are healthy": (DRAINED, "budgets", "disruption-controller says that"),
    "a budget of the past": (PAST, "budgets", "is evicted, which"),
    "orphans keep their owner": (ORPHANED, "ownership", "still names it as its owner"),
    "a toleration is over too soon": (LEFT, "tolerations", r"for 40 s, of which (19|20)\.\d+ s"),
    "a pod has tolerated before it came": (CAME_LATE, "tolerations", "for 40 s, of which 0.000 s"),
}


def seen(plan: Plan, monitor: str, text: str, **options: Any) -> None:
    """See that one monitor objects to a plan, and what it says."""
    with pytest.raises(Violation, match=text) as caught:
        play(plan, **options)
    assert caught.value.monitor == monitor, str(caught.value)


@pytest.mark.parametrize("plan", [SCALED, DRAINED, PAST, ORPHANED, LEFT, CAME_LATE])
def test_nobody_objects_to_what_is_right(plan: Plan) -> None:
    play(plan)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_bug_of_the_list_is_seen(bug: str) -> None:
    """Those whose plans were written by hand, be they found by seeds or not."""
    plan, monitor, text = PLANTED[bug]
    (mutant,) = [one for one in MUTANTS if one.name == bug]
    with mutant.planted():
        seen(plan, monitor, text)


def test_pods_that_go_while_they_are_tolerated_for_ever_or_stay_when_they_must_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = Plan(nodes=1, happenings=(BarePod(), TaintNode(at_s=10)))
    play(plan)
    monkeypatch.setattr(nodes, "_tolerated_s", lambda pod, taints, now_s: None)
    seen(plan, "tolerations", "is on node-1 at rest, and does not tolerate its taint")


def test_the_collector_takes_what_is_orphaned(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GarbageCollector._wait

    def takes(self: Any, owner: Any, view: Any) -> Any:
        if owner["kind"] != "Deployment":
            return right(self, owner, view)
        return Result([Action(self._write.delete(one)) for one in view.list("replicasets.apps")])

    monkeypatch.setattr(GarbageCollector, "_wait", takes)
    seen(ORPHANED, "ownership", "deletes replicasets .* was deleted with Orphan")


def test_what_is_looked_at_happens() -> None:
    """Pods are evicted, one after the other, all of them; and a set grows, shrinks and rolls."""
    budgets, sets = Budgets(Tale()), StatefulSets(Tale())
    play(DRAINED, monitors=lambda: [budgets])
    (budget,) = budgets._budgets.values()
    assert budget.evicted == 4
    play(SCALED, monitors=lambda: [sets])
    (set_,) = sets._sets.values()
    assert {len(state.there) for state in set_.past} == {0, 1, 2, 3}


def test_pods_out_of_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeloop.actors.controllers.statefulset._Scene.ordered", False)
    seen(SCALED, "statefulsets", r"has made pods default/queue-1 out of turn: .*ready \[\]")


def test_pods_that_nobody_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kubeloop.actors.controllers.statefulset.replicas_of", lambda set_: 4)
    seen(SCALED, "statefulsets", r"has made pods default/queue-3 out of turn: .*wants \[0, 1, 2\]")


def test_pods_that_never_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatefulSetController, "_scale_down", lambda self, scene: [])
    text = r"statefulsets default/queue wants the ordinals \[0, 1\], and has \[0, 1, 2\] at rest"
    seen(SCALED, "statefulsets", text)


def test_pods_that_are_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StatefulSetController, "_roll", lambda self, scene: [])
    seen(SCALED, "statefulsets", "the pod of ordinal 0 is of queue-.* and the template is of queue")


def test_a_pod_that_is_wanted_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "kubeloop.actors.controllers.statefulset.revision_of_pod", lambda pod: "another"
    )
    seen(SCALED, "statefulsets", "has ended pods default/queue-. out of turn")


def test_a_set_that_counts_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.actors.controllers import statefulset

    right, none = statefulset._status, {"readyReplicas": 0, "availableReplicas": 0}
    monkeypatch.setattr(statefulset, "_status", lambda scene: {**right(scene), **none})
    seen(SCALED, "statefulsets", "status.readyReplicas is 0 at rest, and should be 2")


def test_a_name_that_is_alive_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reporter.next_write

    def hasty(self: Any, report: Any, pod: Any, **options: Any) -> Any:
        sandbox = pod.sandbox
        if pod.deleting:
            pod.sandbox = "removed"
        try:
            return right(self, report, pod, **options)
        finally:
            pod.sandbox = sandbox

    monkeypatch.setattr(Reporter, "next_write", hasty)
    seen(SCALED, "running", "default/queue-2 .* is gone, and it still runs", images=SLOW)


def test_evictions_nobody_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_take_from_budget", lambda *arguments: None)
    text = r"pod default/web-.* is evicted, which poddisruptionbudgets default/web did not allow"
    seen(DRAINED, "budgets", text)


def test_a_budget_that_allows_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubeloop.actors.controllers.disruption import Count

    right = DisruptionController._count

    def few(self: Any, *arguments: Any) -> Count:
        count = right(self, *arguments)
        return count._replace(desired=count.desired - 1)

    monkeypatch.setattr(DisruptionController, "_count", few)
    seen(DRAINED, "budgets", r"says that .*default/web allows \d disruptions: .* of 2 demanded")
