"""The shell: it crashes at any message, lists again at any time, never acts on old knowledge."""

from typing import Any

import msgpack
import pytest
from mini_cluster import (
    MANAGER,
    Mini,
    Obj,
    active,
    deployment,
    replica_set,
)

from kubeloop.actors import controller_manager
from kubeloop.actors.controllers.base import Result
from kubeloop.actors.controllers.replication import ReplicationController
from kubeloop.actors.messages import Facts, Outcome, Request, Synced, decode
from kubeloop.api.errors import InternalError, ServiceUnavailable


def scenario(mini: Mini) -> None:
    """Make, roll, scale, delete: each once everything before it has been done."""
    mini.create(deployment(2))
    mini.settle(100)
    spec = {"containers": [{"name": "c", "image": "web:2"}]}
    web = mini.get("deployments.apps", "web") or {}
    mini.patch(web, {"spec": {"template": {"spec": spec}}}, patchType="strategic")
    mini.settle(100)
    mini.patch(web, {"spec": {"replicas": 1}})
    mini.settle(100)
    images = [p["spec"]["containers"][0]["image"] for p in mini.pods()]
    assert images == ["web:2"]
    mini.delete(web, propagationPolicy="Foreground")
    mini.settle(100)
    assert mini.all("replicasets.apps") == mini.pods() == []


class Counting(Mini):
    """Crashes at one chosen moment."""

    def __init__(self, at: int, who: str) -> None:
        super().__init__(seed=at)
        self.at, self.who, self.moment = at, who, 0
        self.made = 0

    def serve(self) -> None:
        self.moment += 1
        if self.moment == self.at and self.who.startswith("server"):
            self.crash_server(1 + self.at % 3, 3 if self.who == "server after" else 0)
        elif self.moment == self.at and self.who == "manager":
            self.start()
        elif self.moment == self.at:
            self.refuse(InternalError("on purpose"), done=self.who == "lost answer")
        else:
            super().serve()


def messages() -> int:
    mini = Counting(0, "")
    mini.start()
    scenario(mini)
    return mini.moment


WHO = ("server before", "server after", "manager", "refused", "lost answer")
STRIDE = 4  # Between them the five kinds of trouble meet every message.


@pytest.mark.parametrize("who", WHO)
def test_a_crash_at_any_message_is_repaired(who: str) -> None:
    for at in range(1 + WHO.index(who) % STRIDE, messages() + 1, STRIDE):
        mini = Counting(at, who)

        def check(mini: Mini = mini) -> None:
            living = [p for p in mini.pods() if active(p)]
            assert len(living) <= 3, "2 replicas and a surge of 1"

        mini.after_write = check
        mini.start()
        scenario(mini)
    mini.see_that_it_rests()


def test_it_does_not_act_before_its_list_is_whole() -> None:
    mini = Mini()
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.serve()
    frames = [mini.inbox.get() for _ in range(len(mini.inbox.envelopes))]
    for envelope in frames:
        assert not writes(mini)
        mini.inbox.put(envelope)
        while mini.world.turns:
            mini.turn()
    assert not writes(mini), "the fence has not been answered"
    mini.pump()
    assert len(mini.pods()) == 1


def writes(mini: Mini) -> list[Request]:
    told = [decode(e.message) for e in mini.to_server.envelopes]
    return [m for m in told if isinstance(m, Request) and m.verb not in ("list", "get")]


def test_a_list_in_the_middle_of_a_list_starts_over() -> None:
    mini = Mini()
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.serve()
    frames = [mini.inbox.get() for _ in range(len(mini.inbox.envelopes))]
    for envelope in frames[:2]:  # The listing, and its first half.
        mini.inbox.put(envelope)
        mini.turn()
    mini.delete(mini.get("replicasets.apps", "web") or {})
    mini.crash_server(0, 0)
    mini.settle()
    assert mini.pods() == [], "what was seen of the first list is forgotten"
    mini.see_that_it_rests()


def test_facts_before_the_first_list_mean_nothing() -> None:
    mini = Mini()
    mini.inbox.put_answer(Facts(99, []).encode())
    mini.inbox.put_answer(Synced(99).encode())
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.turn()
    assert not writes(mini)
    mini.settle()
    assert len(mini.pods()) == 1


def test_answers_to_its_predecessor_are_not_its_own() -> None:
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, 3))
    mini.pump_until_writes()
    assert mini.manager is not None
    tags = [w.tag for w in writes(mini) if w.tag]
    mini.start()
    assert mini.manager is not None
    for tag in tags:
        mini.inbox.put_answer(Outcome(tag, 201, 1, b"").encode())
    mini.settle()
    assert len(mini.pods()) == 3
    mini.see_that_it_rests()


def test_a_refused_fence_is_sent_again() -> None:
    mini = Mini()
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.serve()
    while mini.world.turns:
        mini.turn()
    [fence] = [decode(e.message) for e in mini.to_server.envelopes]
    assert isinstance(fence, Request)
    mini.to_server.get()
    status = ServiceUnavailable("on purpose").status()
    refusal = Outcome(fence.tag, 503, 0, msgpack.packb(status))
    mini.inbox.put_answer(refusal.encode())
    mini.settle()
    assert len(mini.pods()) == 1


def test_a_subscription_that_is_lost_is_repeated() -> None:
    mini = Mini()
    mini.create(replica_set("web", {"app": "web"}, 1))
    mini.start()
    mini.to_server.get()
    mini.settle(20)
    assert len(mini.pods()) == 1


def test_one_object_nobody_foresaw_stops_no_other(monkeypatch: Any) -> None:
    reconcile = ReplicationController.reconcile

    def fail(self: Any, key: str, *more: Any) -> Result:
        if key.endswith("/bad"):
            raise KeyError("nobody foresaw this")
        return reconcile(self, key, *more)

    monkeypatch.setattr(ReplicationController, "reconcile", fail)
    mini = Mini()
    mini.create(replica_set("bad", {"app": "bad"}, 1))
    mini.create(replica_set("good", {"app": "good"}, 1))
    mini.start()
    mini.settle(10)
    assert [p["metadata"]["labels"]["app"] for p in mini.pods()] == ["good"]
    monkeypatch.undo()
    mini.settle(2000)
    assert len(mini.pods()) == 2, "it was tried again"


def test_writes_on_their_way_are_bounded() -> None:
    mini = Mini()
    for number in range(300):
        mini.create(replica_set(f"s{number}", {"app": f"s{number}"}, 5))
    mini.start()
    most = 0
    while not mini.to_server.empty() or mini.world.turns or mini.feed():
        while mini.world.turns:
            mini.turn()
        most = max(most, len(writes(mini)))
        for _ in range(len(mini.to_server.envelopes)):
            mini.serve()
    assert most <= 3 * controller_manager.FLYING_MAX
    assert len(mini.pods()) == 1500


def test_writes_tell_who_and_what_made_them() -> None:
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, 1))
    made = mini.store.revision
    mini.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "other"}})
    mini.pump_until_writes()
    [create] = [w for w in writes(mini) if w.resource == "pods"]
    assert create.sender == MANAGER
    assert create.user == "system:serviceaccount:kube-system:replicaset-controller"
    assert create.because == made < mini.store.revision
    ids = [request.id for request in writes(mini)]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("own", [False, True])
def test_a_retry_is_because_of_what_was_refused_unless_it_is_wanted_otherwise(own: bool) -> None:
    mini = Mini()
    mini.start()
    web = mini.create(replica_set("web", {"app": "web"}, 2))
    assert web is not None
    because = mini.store.revision
    while [w.resource for w in writes(mini)] != ["pods", "pods", "replicasets.apps"]:
        mini.pump_until_writes()
        if writes(mini)[0].resource != "pods":
            mini.serve()
    mini.refuse(ServiceUnavailable("on purpose"))
    mini.pump_until_writes()
    mini.serve()  # The other pod: its fact marks the set, too; so does that of the status.
    assert len(mini.pods()) == 1
    if own:
        mini.patch(web, {"spec": {"replicas": 3}})
        because = mini.store.revision
    mini.settle(10, kubelets=False)
    _, retry, *_ = [w.because for w in mini.asked if w.resource == "pods"]
    assert len(mini.pods()) == 2 + own
    assert retry == because


def test_of_a_kind_without_generations_any_change_may_be_a_wish() -> None:
    mini = Mini()
    mini.start()
    mini.settle(10)
    spec = {"selector": {"app": "web"}, "ports": [{"port": 80}]}
    web = mini.create(
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec}
    )
    assert web is not None and "generation" not in web["metadata"]
    mini.pump_until_writes()
    while writes(mini):
        mini.refuse(ServiceUnavailable("on purpose"))
    mini.patch(web, {"metadata": {"labels": {"a": "b"}}})
    relabelled = mini.store.revision
    mini.settle(10)
    made = [w.because for w in mini.asked if w.resource == "endpointslices.discovery.k8s.io"]
    assert made == [relabelled]


def told(mini: Mini, reason: str) -> list[Obj]:
    return [e for e in mini.all("events") if e["reason"] == reason]


def test_repeated_events_are_counted() -> None:
    mini = Mini()
    mini.start()
    broken = replica_set("web", {"app": "web"}, 1)
    broken["spec"]["template"]["spec"]["serviceAccountName"] = "nobody"
    mini.create(broken)
    mini.settle(3)
    failures = told(mini, "FailedCreate")
    assert 1 <= len(failures) <= 12
    assert not told(mini, "SuccessfulCreate")


def test_after_a_list_it_waits_for_the_writes_of_before() -> None:
    """What was on its way when the list began is done after it, and seen later still."""
    mini = Mini()
    mini.start()
    mini.create(replica_set("web", {"app": "web"}, 3))
    mini.pump_until_writes()
    mini.crash_server(0, 0)
    while mini.world.turns:
        mini.turn()
    while not mini.to_server.empty():  # The writes, and the fence behind them.
        mini.serve()
    assert len(mini.pods()) == 3
    while mini.world.turns:
        mini.turn()
    asked = [w for w in writes(mini) if w.resource != "events"]
    assert asked == [], "its view does not know of the pods yet"
    mini.settle()
    assert len(mini.pods()) == 3


def test_a_key_that_changes_meanwhile_waits_for_its_own_writes() -> None:
    mini = Mini()
    mini.start()
    made = mini.create(replica_set("web", {"app": "web"}, 3)) or {}
    mini.pump_until_writes()
    mini.patch(made, {"spec": {"replicas": 4}})
    mini.feed()
    mini.turn()
    while not mini.to_server.empty():
        mini.serve()
    mini.turn()  # The outcomes are heard, the new pods are not yet seen.
    assert not [w for w in writes(mini) if w.resource == "pods"]
    mini.settle()
    assert len(mini.pods()) == 4


def test_every_manager_has_its_own_tags() -> None:
    mini = Mini()
    tags = []
    for _ in range(2):
        mini.start()
        mini.create(replica_set(f"s{len(tags)}", {"app": "web"}, 1))
        mini.pump_until_writes()
        tags.append({w.tag for w in writes(mini)})
        mini.to_server.envelopes.clear()
    assert not tags[0] & tags[1] - {""}
