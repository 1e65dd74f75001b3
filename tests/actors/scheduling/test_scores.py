"""Scores: worked examples by hand, and bounds for all."""

from typing import Any

import pytest
from hypothesis import given
from making import container, node, node_objects, pod, pod_objects

from kubeloop.actors.scheduling import scores
from kubeloop.actors.scheduling.demand import demand_of
from kubeloop.actors.scheduling.nodeinfo import PodInfo, State

MB = 1024 * 1024


def state_of(*nodes: dict[str, Any]) -> State:
    state = State()
    for each in nodes:
        state.set_node(each)
    return state


@given(node_objects("n0"), pod_objects("p"))
def test_every_score_is_between_0_and_100(n: dict[str, Any], p: dict[str, Any]) -> None:
    state, demand = state_of(n), demand_of(p)
    info, worth = state.nodes["n0"], scores.image_worth(demand, state)
    for score in (
        scores.least_allocated(demand, info),
        scores.balanced_allocation(demand, info),
        scores.image_locality(demand, info, worth),
    ):
        assert 0 <= score <= 100


def test_least_allocated_is_the_mean_of_the_free_shares() -> None:
    state = state_of(node("n0", cpu="4", memory="10Gi"))
    state.place(PodInfo("x", "x", demand_of(pod("x", container({"cpu": "1"})))), "n0")
    demand = demand_of(pod("p", container({"cpu": "1", "memory": "5Gi"})))
    cpu, memory = 50, (10 * 1024 - 200 - 5 * 1024) * 100 // (10 * 1024)
    assert scores.least_allocated(demand, state.nodes["n0"]) == (cpu + memory) // 2


def test_a_container_without_requests_counts_a_little() -> None:
    state = state_of(node("n0", cpu="1", memory="2000Mi"))
    assert scores.least_allocated(demand_of(pod("p")), state.nodes["n0"]) == 90


def test_balance_is_compared_with_before() -> None:
    state = state_of(node("n0", cpu="10", memory="10Gi"))
    info = state.nodes["n0"]
    even = demand_of(pod("p", container({"cpu": "5", "memory": "5Gi"})))
    cpu_only = demand_of(pod("p", container({"cpu": "5"})))
    memory_only = demand_of(pod("p", container({"memory": "5Gi"})))
    assert scores.balanced_allocation(even, info) == 75
    assert scores.balanced_allocation(cpu_only, info) == 62
    state.place(PodInfo("x", "x", cpu_only), "n0")
    assert scores.balanced_allocation(memory_only, info) == 87  # It evens out what was uneven.
    assert scores.balanced_allocation(demand_of(pod("p")), info) == 0


def test_an_image_is_worth_its_size_where_it_is_common() -> None:
    big = {"app:1": 1000 * MB}
    demand = demand_of(pod("p"))
    both = state_of(node("n0", images=big), node("n1", images=big))
    assert scores.image_locality(demand, both.nodes["n0"], scores.image_worth(demand, both)) == 100
    one = state_of(node("n0", images=big), node("n1"))
    worth = scores.image_worth(demand, one)
    assert scores.image_locality(demand, one.nodes["n0"], worth) == (500 - 23) * 100 // (1000 - 23)
    assert scores.image_locality(demand, one.nodes["n1"], worth) == 0
    none = state_of(node("n0"))
    assert scores.image_worth(demand, none) == {}


@pytest.mark.parametrize(
    ("raw", "most", "reverse", "score"),
    [(0, 0, True, 100), (0, 0, False, 0), (2, 2, True, 0), (1, 3, True, 67), (30, 40, False, 75)],
)
def test_counts_are_brought_to_0_to_100(raw: int, most: int, reverse: bool, score: int) -> None:
    assert scores.normalised(raw, most, reverse=reverse) == score


def test_the_least_crowded_is_the_best() -> None:
    assert [scores.least_crowded(n, (2, 6, 8)) for n in (2, 6, 8)] == [100, 50, 25]
    assert scores.least_crowded(0, (0, 0)) == 100
