"""Placing pods: never too much on a node, never a node passed over, never a stale answer."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from making import ZONE, container, node, node_objects, pod, pod_objects

from kubeloop.actors.scheduling.demand import Demands, demand_of
from kubeloop.actors.scheduling.filters import first_failure
from kubeloop.actors.scheduling.framework import (
    Likeness,
    Placement,
    Placer,
    Unschedulable,
    bonus_of,
    likeness_of,
    schedule,
)
from kubeloop.actors.scheduling.nodeinfo import PodInfo, State
from kubeloop.actors.scheduling.scores import image_worth, of_node

NODES = ("n0", "n1", "n2")


def state_of(*nodes: dict[str, Any]) -> State:
    state = State()
    for each in nodes:
        state.set_node(each)
    return state


def place(state: State, obj: dict[str, Any], name: str) -> None:
    metadata = obj["metadata"]
    key = f"{metadata['namespace']}/{metadata['name']}"
    state.place(PodInfo(key, metadata["uid"], demand_of(obj)), name)


def totals(state: State, demand: Any) -> dict[str, int]:
    """Score every node that will do, anew and one by one."""
    fitting = {n: i for n, i in state.nodes.items() if first_failure(demand, i) is None}
    if not fitting:
        return {}
    places = {name: likeness_of(demand, info) for name, info in fitting.items()}
    counts: dict[Likeness, int] = dict(Counter(places.values()))
    bonuses = bonus_of(demand, state, counts)
    worth = image_worth(demand, state)
    return {n: of_node(demand, i, worth) + bonuses[places[n]] for n, i in fitting.items()}


class Scheduling(RuleBasedStateMachine):
    """Nodes and pods come, change and go; the kept rankings must never differ from a fresh look."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.draws = 0
        self.placer = Placer(self.state, self.tie)
        self.demands = Demands()
        self.templates: list[dict[str, Any]] = []

    @initialize(templates=st.lists(pod_objects("p"), min_size=1, max_size=3))
    def choose_templates(self, templates: list[dict[str, Any]]) -> None:
        """Few kinds of pods, so that the rankings kept for them are used again and again."""
        self.templates = templates

    def instance(self, data: Any, number: int) -> dict[str, Any]:
        template = data.draw(st.sampled_from(self.templates))
        name = f"p{number}"
        return {**template, "metadata": {**template["metadata"], "name": name, "uid": name}}

    def tie(self) -> float:
        self.draws += 1
        return (self.draws * 7919) % 101

    @rule(data=st.data(), name=st.sampled_from(NODES))
    def set_node(self, data: Any, name: str) -> None:
        self.state.set_node(data.draw(node_objects(name)))

    @rule(name=st.sampled_from(NODES), percent=st.integers(1, 200))
    def resize_node(self, name: str, percent: int) -> None:
        self.state.set_node(node(name, cpu=f"{20 * percent}m"))

    @rule(name=st.sampled_from(NODES), zone=st.sampled_from(["z1", "z2", None]))
    def move_node(self, name: str, zone: str | None) -> None:
        labels = {ZONE: zone} if zone else {}
        self.state.set_node(node(name, cpu="16", labels=labels, images={"app:1": 10**9}))

    @rule(name=st.sampled_from(NODES))
    def remove_node(self, name: str) -> None:
        self.state.remove_node(name)

    @rule(data=st.data(), number=st.integers(0, 8))
    def schedule_pod(self, data: Any, number: int) -> None:
        obj = self.instance(data, number)
        self.state.remove(f"default/p{number}")
        demand = self.demands.of(obj)
        expected = totals(self.state, demand)
        decision = self.placer.schedule(demand)
        if isinstance(decision, Unschedulable):
            assert not expected
            fresh = schedule(demand, self.state, self.tie)
            assert fresh == decision
            return
        assert expected[decision.node] == decision.score == max(expected.values())
        before = dict(self.state.nodes[decision.node].requested)
        place(self.state, obj, decision.node)
        info = self.state.nodes[decision.node]
        for name, amount in info.requested.items():
            assert amount <= info.allocatable.get(name, 0) or amount == before.get(name)
        assert len(info.pods) <= info.allocatable["pods"]

    @rule(data=st.data(), name=st.sampled_from([*NODES, "ghost"]))
    def bind_elsewhere(self, data: Any, name: str) -> None:
        """Somebody else binds a pod wherever he likes, full or not."""
        place(self.state, self.instance(data, 9), name)

    @precondition(lambda self: self.state.placed)
    @rule(data=st.data())
    def remove_pod(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.state.placed)))
        assert self.state.remove(key)
        assert not self.state.remove(key)

    @invariant()
    def sums_are_what_is_there(self) -> None:
        zones: dict[str, Counter[str]] = {}
        for name, info in self.state.nodes.items():
            pods = [p for p, where in self.state.placed.values() if where == name]
            assert {p.key: p for p in pods} == info.pods
            requested: Counter[str] = Counter()
            owners: Counter[str] = Counter()
            for each in pods:
                requested.update(each.demand.requests)
                if each.demand.owner:
                    owners[each.demand.owner] += 1
                    if info.zone is not None:
                        zones.setdefault(each.demand.owner, Counter())[info.zone] += 1
            assert +info.requested == requested
            assert info.owners == owners
            assert info.scored_cpu == sum(p.demand.scored[0] for p in pods)
        assert {o: c for o, c in self.state.zones.items() if c} == zones


TestScheduling = Scheduling.TestCase
TestScheduling.settings = settings(max_examples=60, stateful_step_count=40)


@given(st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=25), st.randoms())
def test_equal_pods_fill_the_nodes_and_never_overfill(kinds: list[str], random: Any) -> None:
    """S1, and work conserving: what is refused fits nowhere."""
    state = state_of(node("n0", cpu="1"), node("n1", cpu="2"), node("n2", cpu="4", pods="3"))
    placer, demands = Placer(state, random.random), Demands()
    asked = {"a": "300m", "b": "700m"}
    for number, kind in enumerate(kinds):
        obj = pod(f"p{number}", container({"cpu": asked[kind]}), owner=kind)
        decision = placer.schedule(demands.of(obj))
        if isinstance(decision, Placement):
            place(state, obj, decision.node)
        else:
            assert all(first_failure(demands.of(obj), n) for n in state.nodes.values())
    for info in state.nodes.values():
        assert info.requested["cpu"] <= info.allocatable["cpu"]
        assert len(info.pods) <= info.allocatable["pods"]


def test_pods_of_one_owner_are_spread() -> None:
    state = state_of(*(node(f"n{n}", cpu="64", memory="256Gi", pods="110") for n in range(4)))
    placer, demands = Placer(state, lambda: 0.0), Demands()
    for number in range(40):
        obj = pod(f"p{number}", owner="rs")
        decision = placer.schedule(demands.of(obj))
        assert isinstance(decision, Placement)
        place(state, obj, decision.node)
    assert {len(info.pods) for info in state.nodes.values()} == {10}


def test_zones_are_spread_over_too() -> None:
    zone = "topology.kubernetes.io/zone"
    names = {"n0": "z1", "n1": "z1", "n2": "z1", "n3": "z2"}
    state = state_of(*(node(n, cpu="64", pods="110", labels={zone: z}) for n, z in names.items()))
    placer, demands = Placer(state, lambda: 0.0), Demands()
    zones: Counter[str] = Counter()
    for number in range(2):
        obj = pod(f"p{number}", owner="rs")
        decision = placer.schedule(demands.of(obj))
        assert isinstance(decision, Placement)
        place(state, obj, decision.node)
        zones[names[decision.node]] += 1
    assert zones == {"z1": 1, "z2": 1}


def test_the_message_is_kubernetes_own() -> None:
    """As a cluster of version 1.37.0 printed it."""
    taint = {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}
    state = state_of(node("a", cpu="8"), node("b", taints=[taint]))
    huge = demand_of(pod("p", container({"cpu": "500", "memory": "1000Gi"})))
    assert schedule(huge, state, lambda: 0.0) == Unschedulable(
        "0/2 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, "
        "1 node(s) had untolerated taint(s). preemption: 0/2 nodes are available: "
        "2 Preemption is not helpful for scheduling."
    )


def test_the_message_when_nodes_are_merely_full() -> None:
    state = state_of(node("a", cpu="1"), node("b", cpu="1", unschedulable=True))
    place(state, pod("first", container({"cpu": "600m"})), "a")
    second = demand_of(pod("second", container({"cpu": "600m"})))
    assert schedule(second, state, lambda: 0.0) == Unschedulable(
        "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) were unschedulable. "
        "preemption: 0/2 nodes are available: 1 No preemption victims found for incoming pod, "
        "1 Preemption is not helpful for scheduling."
    )


def test_the_message_without_nodes() -> None:
    assert schedule(demand_of(pod()), State(), lambda: 0.0) == Unschedulable(
        "no nodes available to schedule pods"
    )


def test_the_tie_decides_among_equals() -> None:
    state = state_of(*(node(f"n{n}") for n in range(5)))
    picked = set()
    for favourite in range(5):
        ties = iter([float(n != favourite) for n in range(5)])
        decision = schedule(demand_of(pod()), state, lambda ties=ties: next(ties))
        assert isinstance(decision, Placement)
        picked.add(decision.node)
    assert len(picked) == 5


def test_a_node_that_is_gone_is_never_chosen() -> None:
    state = state_of(*(node(f"n{n}", cpu=str(4 - n)) for n in range(4)))
    placer, demand = Placer(state, lambda: 0.0), demand_of(pod("p", container({"cpu": "1"})))
    for n in range(3):
        decision = placer.schedule(demand)
        assert isinstance(decision, Placement)
        assert decision.node == f"n{n}"
        state.remove_node(f"n{n}")


def test_an_image_that_spreads_is_worth_more_where_it_was() -> None:
    image = {"app:1": 900_000_000}
    state = state_of(node("n0", images=image), *(node(f"n{n}") for n in range(1, 6)))
    placer, demand = Placer(state, lambda: 0.0), demand_of(pod("p"))
    placer.schedule(demand)
    for n in range(1, 6):
        state.set_node(node(f"n{n}", images=image))
        assert placer.schedule(demand) == schedule(demand, state, lambda: 0.0)


def test_offers_do_not_pile_up() -> None:
    """A node that changes for ever leaves no trail of stale offers behind."""
    state = state_of(node("n0"), node("n1"))
    placer = Placer(state, lambda: 0.0)
    demand = demand_of(pod("x"))
    for number in range(2000):
        place(state, pod("p", container({"cpu": f"{number % 7 + 1}00m"})), "n0")
        assert isinstance(placer.schedule(demand), Placement)
    ranking = placer._ranking(demand)
    assert sum(len(bucket.heap) for bucket in ranking._buckets.values()) < 200
    assert len(state.log) < 3000


def test_the_newest_change_that_opens_a_node_is_told() -> None:
    state = state_of(node("n0", cpu="1"), node("n1"), node("n2"))
    placer, demand = Placer(state, lambda: 0.0), demand_of(pod("p", container({"cpu": "2"})))
    assert placer.opened_by(demand, {"n1": 5, "n0": 7, "n2": 9}) == 9
    assert placer.opened_by(demand, {"n2": 5, "n1": 6, "n0": 9, "gone": 10}) == 6
    assert placer.opened_by(demand, {"n0": 9}) is None
    assert placer.opened_by(demand, {}) is None


def test_a_change_elsewhere_may_open_any_node() -> None:
    state = state_of(*(node(n, labels={ZONE: n}) for n in NODES))
    apart = [{"topologyKey": ZONE, "labelSelector": {"matchLabels": {"app": "web"}}}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": apart}
    shy = pod("p", container(), labels={"app": "web"}, affinity={"podAntiAffinity": required})
    placer, demand = Placer(state, lambda: 0.0), demand_of(shy)
    best = placer.schedule(demand)
    assert isinstance(best, Placement)
    others = [name for name in NODES if name != best.node]
    assert placer.opened_by(demand, {others[0]: 5, best.node: 6, others[1]: 7}) == 6
    assert placer.opened_by(demand, {others[0]: 5, others[1]: 7}) == 7


def test_changes_are_told_once_the_newest_last() -> None:
    state = State()
    for revision, name in enumerate(("n0", "n1", "n0", "n2"), start=3):
        state.because = revision
        state.set_node(node(name, cpu=str(revision)))
    assert list(state.take_changes().items()) == [("n1", 4), ("n0", 5), ("n2", 6)]
    assert state.take_changes() == {}
    state.because = 9
    place(state, pod("p", container()), "n1")
    state.set_node(node("n2", cpu="6"))  # As it was.
    assert state.take_changes() == {"n1": 9}
