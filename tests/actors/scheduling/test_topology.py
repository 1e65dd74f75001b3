"""Rules about other pods, against predicates written straight from the API's documentation."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from making import ZONE, container, node, pod

from kubeloop.actors.scheduling.demand import Demands, demand_of
from kubeloop.actors.scheduling.framework import Placement, Placer, Unschedulable, schedule
from kubeloop.actors.scheduling.nodeinfo import PodInfo, State

HOST = "kubernetes.io/hostname"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
NODES = ("n0", "n1", "n2", "n3")

apps = st.sampled_from(["a", "b"])
terms = st.fixed_dictionaries(
    {
        "topologyKey": st.sampled_from([HOST, ZONE]),
        "labelSelector": st.fixed_dictionaries({"matchLabels": st.builds(dict, app=apps)}),
    },
    optional={"namespaceSelector": st.just({}), "namespaces": st.just(["elsewhere"])},
)
rules = st.fixed_dictionaries(
    {},
    optional={
        REQUIRED: st.lists(terms, min_size=1, max_size=2),
        PREFERRED: st.lists(
            st.fixed_dictionaries({"weight": st.integers(1, 100), "podAffinityTerm": terms}),
            max_size=2,
        ),
    },
)
spreads = st.lists(
    st.fixed_dictionaries(
        {
            "topologyKey": st.sampled_from([HOST, ZONE]),
            "maxSkew": st.integers(1, 2),
            "whenUnsatisfiable": st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
            "labelSelector": st.fixed_dictionaries({"matchLabels": st.builds(dict, app=apps)}),
        },
        optional={"minDomains": st.integers(1, 3)},
    ),
    max_size=2,
)


@st.composite
def social_pods(draw: st.DrawFn) -> dict[str, Any]:
    affinity = draw(
        st.fixed_dictionaries({}, optional={"podAffinity": rules, "podAntiAffinity": rules})
    )
    constraints = draw(spreads)
    if len({c["topologyKey"] for c in constraints}) < len(constraints):
        constraints = constraints[:1]  # Each sort of constraint counts nodes with its own keys.
    if len({c["whenUnsatisfiable"] for c in constraints}) > 1:
        constraints = constraints[:1]
    made = pod(
        "p",
        container({"cpu": "1m"}),
        labels={"app": draw(apps)},
        affinity=affinity,
        topologySpreadConstraints=constraints,
    )
    made["metadata"]["namespace"] = draw(st.sampled_from(["default", "default", "elsewhere"]))
    return made


def selected(term: dict[str, Any], owner: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether `other` is one of the pods that a term of `owner` is about."""
    names = term.get("namespaces", [])
    if not names and "namespaceSelector" not in term:
        names = [owner["metadata"]["namespace"]]
    if other["metadata"]["namespace"] not in names and "namespaceSelector" not in term:
        return False
    return bool(other["metadata"]["labels"]["app"] == term["labelSelector"]["matchLabels"]["app"])


def required(obj: dict[str, Any], sort: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = obj["spec"]["affinity"].get(sort, {}).get(REQUIRED, [])
    return found


Placed = list[tuple[dict[str, Any], str]]


class Naive:
    """The cluster as a plain list."""

    def __init__(self, labels: dict[str, dict[str, str]], placed: Placed) -> None:
        self.labels, self.placed = labels, placed

    def together(self, name: str, other: str, key: str) -> bool:
        value = self.labels[name].get(key)
        return value is not None and self.labels.get(other, {}).get(key) == value

    def welcomes(self, obj: dict[str, Any], name: str) -> bool:
        return self.near(obj, name) and not self.away(obj, name) and self.even(obj, name)

    def near(self, obj: dict[str, Any], name: str) -> bool:
        wanted = required(obj, "podAffinity")
        if not all(term["topologyKey"] in self.labels[name] for term in wanted):
            return False
        friends = [
            (p, n)
            for p, n in self.placed
            if all(selected(t, obj, p) for t in wanted) and n in self.labels
        ]
        anywhere = any(term["topologyKey"] in self.labels[n] for term in wanted for _, n in friends)
        if not anywhere and all(selected(term, obj, obj) for term in wanted):
            return True
        return all(
            any(self.together(name, n, term["topologyKey"]) for _, n in friends) for term in wanted
        )

    def away(self, obj: dict[str, Any], name: str) -> bool:
        mine = any(
            selected(term, obj, p) and self.together(name, n, term["topologyKey"])
            for term in required(obj, "podAntiAffinity")
            for p, n in self.placed
        )
        return mine or any(
            selected(term, p, obj) and self.together(name, n, term["topologyKey"])
            for p, n in self.placed
            for term in required(p, "podAntiAffinity")
        )

    def even(self, obj: dict[str, Any], name: str) -> bool:
        hard = [
            c
            for c in obj["spec"]["topologySpreadConstraints"]
            if c["whenUnsatisfiable"] == "DoNotSchedule"
        ]
        keys = [c["topologyKey"] for c in hard]
        counted = {n: own for n, own in self.labels.items() if all(key in own for key in keys)}
        if hard and name not in counted:
            return False
        for constraint in hard:
            key = constraint["topologyKey"]
            counts = Counter({labels[key]: 0 for labels in counted.values()})
            for other, n in self.placed:
                if n in counted and selected(constraint, obj, other):
                    counts[counted[n][key]] += 1
            least = min(counts.values())
            if len(counts) < constraint.get("minDomains", 1):
                least = 0
            own = selected(constraint, obj, obj)
            if counts[counted[name][key]] + own - least > constraint["maxSkew"]:
                return False
        return True


class Society(RuleBasedStateMachine):
    """Pods that care about each other come and go; nodes change their domains."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()
        self.placer = Placer(self.state, lambda: 0.0)
        self.demands = Demands()
        self.labels: dict[str, dict[str, str]] = {}
        self.pods: dict[str, tuple[dict[str, Any], str]] = {}
        self.kinds: list[dict[str, Any]] = []

    @initialize(kinds=st.lists(social_pods(), min_size=2, max_size=4))
    def settle(self, kinds: list[dict[str, Any]]) -> None:
        self.kinds = kinds
        for number, name in enumerate(NODES):
            self.label(name, f"z{number // 2}", True)

    @rule(
        name=st.sampled_from(NODES),
        zone=st.sampled_from(["z0", "z1", None]),
        host=st.booleans(),
    )
    def label(self, name: str, zone: str | None, host: bool) -> None:
        labels = {ZONE: zone} if zone else {}
        if host:
            labels[HOST] = name
        self.labels[name] = labels
        self.state.set_node(node(name, labels=labels, pods="100"))

    @rule(name=st.sampled_from(NODES))
    def remove_node(self, name: str) -> None:
        self.state.remove_node(name)
        self.labels.pop(name, None)

    @rule(data=st.data(), number=st.integers(0, 9))
    def schedule_pod(self, data: Any, number: int) -> None:
        obj = self.instance(data, number)
        key = f"{obj['metadata']['namespace']}/{obj['metadata']['name']}"
        self.state.remove(key)
        self.pods.pop(key, None)
        naive = Naive(self.labels, list(self.pods.values()))
        welcome = {name for name in self.labels if naive.welcomes(obj, name)}
        demand = self.demands.of(obj)
        decision = self.placer.schedule(demand)
        fresh = schedule(demand, self.state, lambda: 0.0)
        if isinstance(decision, Unschedulable):
            assert not welcome
            assert fresh == decision
            assert self.placer.opened_by(demand, dict.fromkeys(self.labels, 7)) is None
            return
        assert decision.node in welcome
        assert isinstance(fresh, Placement)
        assert fresh.score == decision.score
        assert self.placer.opened_by(demand, dict.fromkeys(self.labels, 7)) == 7
        self.place(obj, key, decision.node)

    @rule(data=st.data(), number=st.integers(10, 12), name=st.sampled_from([*NODES, "ghost"]))
    def bind_elsewhere(self, data: Any, number: int, name: str) -> None:
        obj = self.instance(data, number)
        self.place(obj, f"{obj['metadata']['namespace']}/{obj['metadata']['name']}", name)

    @precondition(lambda self: self.pods)
    @rule(data=st.data())
    def remove_pod(self, data: Any) -> None:
        key = data.draw(st.sampled_from(sorted(self.pods)))
        del self.pods[key]
        self.state.remove(key)

    def instance(self, data: Any, number: int) -> dict[str, Any]:
        kind = data.draw(st.sampled_from(self.kinds))
        name = f"p{number}"
        return {**kind, "metadata": {**kind["metadata"], "name": name, "uid": name}}

    def place(self, obj: dict[str, Any], key: str, name: str) -> None:
        labels = obj["metadata"]["labels"]
        self.state.place(PodInfo(key, key, self.demands.of(obj), labels), name)
        self.pods[key] = (obj, name)


TestSociety = Society.TestCase
TestSociety.settings = settings(max_examples=100, stateful_step_count=30)


def cluster(zones: str = "aab") -> tuple[State, Placer]:
    """Return a state with one node for each letter, in the zone it names."""
    state = State()
    for number, zone in enumerate(zones):
        labels = {ZONE: zone, HOST: f"n{number}"}
        state.set_node(node(f"n{number}", cpu="64", pods="500", labels=labels))
    return state, Placer(state, lambda: 0.0)


def fill(state: State, placer: Placer, count: int, **spec: Any) -> tuple[list[str], str]:
    """Schedule up to `count` pods; return where they went, and why the last did not."""
    where = []
    for number in range(count):
        obj = pod(f"p{number}", labels={"app": "a"}, **spec)
        decision = placer.schedule(demand_of(obj))
        if isinstance(decision, Unschedulable):
            return where, decision.message
        info = PodInfo(f"default/p{number}", "", demand_of(obj), {"app": "a"})
        state.place(info, decision.node)
        where.append(decision.node)
    return where, ""


def term(key: str, app: str = "a") -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": {"app": app}}}


def test_pods_that_avoid_each_other_take_a_host_each() -> None:
    state, placer = cluster()
    where, why = fill(state, placer, 4, affinity={"podAntiAffinity": {REQUIRED: [term(HOST)]}})
    assert sorted(where) == ["n0", "n1", "n2"]
    assert why == (
        "0/3 nodes are available: 3 node(s) didn't match pod anti-affinity rules. preemption: "
        "0/3 nodes are available: 3 No preemption victims found for incoming pod."
    )


def test_pods_that_are_there_may_refuse_newcomers() -> None:
    state, placer = cluster("a")
    hermit = pod("hermit", affinity={"podAntiAffinity": {REQUIRED: [term(HOST)]}})
    state.place(PodInfo("default/hermit", "", demand_of(hermit)), "n0")
    _, why = fill(state, placer, 1)
    assert "1 node(s) didn't satisfy existing pods anti-affinity rules." in why


def test_pods_that_want_to_be_together_follow_the_first() -> None:
    state, placer = cluster("aabb")
    where, _ = fill(state, placer, 6, affinity={"podAffinity": {REQUIRED: [term(ZONE)]}})
    assert {name in ("n0", "n1") for name in where} in ({True}, {False})
    lonely = pod("x", affinity={"podAffinity": {REQUIRED: [term(ZONE, "nobody")]}})
    decision = placer.schedule(demand_of(lonely))
    assert isinstance(decision, Unschedulable)
    assert "4 node(s) didn't match pod affinity rules." in decision.message


def test_the_first_of_a_crowd_still_needs_the_label() -> None:
    state = State()
    state.set_node(node("n0", cpu="64"))  # The roomiest, but in no zone.
    state.set_node(node("n1", cpu="1", labels={ZONE: "z"}))
    friendly = {"podAffinity": {REQUIRED: [term(ZONE)]}}
    where, _ = fill(state, Placer(state, lambda: 0.0), 1, affinity=friendly)
    assert where == ["n1"]


def test_a_hermit_that_comes_later_is_respected() -> None:
    """Rankings made before anybody had rules learn of them, and forget them again."""
    state, placer = cluster("abc")
    plain = demand_of(pod("plain", labels={"app": "a"}))
    assert isinstance(placer.schedule(plain), Placement)
    hermit = pod("hermit", affinity={"podAntiAffinity": {REQUIRED: [term(HOST)]}})
    for name in ("n0", "n1"):
        state.place(PodInfo(f"default/{name}", "", demand_of(hermit)), name)
    decision = placer.schedule(plain)
    assert isinstance(decision, Placement)
    assert decision.node == "n2"  # Nothing changed there, and yet it is another bucket now.
    state.place(PodInfo("default/n2", "", demand_of(hermit)), "n2")
    assert isinstance(placer.schedule(plain), Unschedulable)
    state.remove("default/n1")
    assert placer.schedule(plain) == schedule(plain, state, lambda: 0.0)
    assert isinstance(placer.schedule(plain), Placement)
    for name in ("n0", "n2"):
        state.remove(f"default/{name}")
    placer.schedule(plain)
    assert placer._ranking(plain).keys == ()


@pytest.mark.parametrize(("sort", "nodes"), [("podAffinity", {"n0"}), ("podAntiAffinity", {"n1"})])
def test_preferences_between_pods_outweigh_a_little_room(sort: str, nodes: set[str]) -> None:
    state = State()
    for number, cpu in enumerate(("8", "10") if sort == "podAffinity" else ("10", "8")):
        state.set_node(node(f"n{number}", cpu=cpu, labels={HOST: f"n{number}"}))
    friend = pod("friend", labels={"app": "a"})
    state.place(PodInfo("default/friend", "", demand_of(friend), {"app": "a"}), "n0")
    preferred = {PREFERRED: [{"weight": 1, "podAffinityTerm": term(HOST)}]}
    decision = Placer(state, lambda: 0.0).schedule(demand_of(pod("p", affinity={sort: preferred})))
    assert isinstance(decision, Placement)
    assert {decision.node} == nodes


def test_hard_spreading_never_exceeds_its_skew() -> None:
    state, placer = cluster("aab")
    constraint = {**term(ZONE), "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    where, _ = fill(state, placer, 8, topologySpreadConstraints=[constraint])
    assert Counter("aab"[int(name[1])] for name in where) == {"a": 4, "b": 4}
    state.set_node(node("n2", labels={HOST: "n2"}))
    one, why = fill(state, placer, 1, topologySpreadConstraints=[{**constraint, "minDomains": 2}])
    assert one == []
    assert why.startswith(
        "0/3 nodes are available: 1 node(s) didn't match pod topology spread constraints "
        "(missing required label), 2 node(s) didn't match pod topology spread constraints."
    )


@pytest.mark.parametrize("soft", ["spread", "prefer away"])
def test_soft_rules_spread_but_never_refuse(soft: str) -> None:
    state, placer = cluster("abc")
    spec: dict[str, Any] = {
        "spread": {
            "topologySpreadConstraints": [
                {**term(HOST), "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
            ]
        },
        "prefer away": {
            "affinity": {
                "podAntiAffinity": {PREFERRED: [{"weight": 100, "podAffinityTerm": term(HOST)}]}
            }
        },
    }[soft]
    where, why = fill(state, placer, 9, **spec)
    assert not why
    assert Counter(where) == {"n0": 3, "n1": 3, "n2": 3}


def test_pods_that_are_being_deleted_do_not_count_for_spreading() -> None:
    state, placer = cluster("ab")
    constraint = {**term(ZONE), "maxSkew": 1}
    obj = pod("p", labels={"app": "a"}, topologySpreadConstraints=[constraint])
    for number in range(3):
        info = PodInfo(f"default/old-{number}", "", demand_of(obj), {"app": "a"}, ending=True)
        state.place(info, "n0")
    where, _ = fill(state, placer, 2, topologySpreadConstraints=[constraint])
    assert sorted(where) == ["n0", "n1"]


def test_match_label_keys_narrow_to_the_same_revision() -> None:
    state, placer = cluster("ab")
    constraint = {**term(ZONE), "maxSkew": 1, "matchLabelKeys": ["rev"]}
    for number in range(5):
        old = pod(f"old-{number}", labels={"app": "a", "rev": "1"})
        info = PodInfo(f"default/old-{number}", "", demand_of(old), {"app": "a", "rev": "1"})
        state.place(info, "n0")
    new = pod("new", labels={"app": "a", "rev": "2"}, topologySpreadConstraints=[constraint])
    assert isinstance(placer.schedule(demand_of(new)), Placement)
    state.set_node(node("n1", unschedulable=True))
    assert isinstance(placer.schedule(demand_of(new)), Placement)
