"""How fast pods are placed, and that the pods already there do not slow it down.

Sketch: placing one of many equal pods looks again at the one node that changed (about 10 µs:
filters, three scores, a push on a heap), then compares a few buckets; so about 20–40 µs a pod with
any number of nodes and of pods. With many kinds of pods, each kind must look at the nodes that the
others changed meanwhile: about 10 µs per kind. A new kind looks at every node once.
"""

from itertools import count
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.actors.scheduling.demand import Demands
from kubeloop.actors.scheduling.framework import Placement, Placer
from kubeloop.actors.scheduling.nodeinfo import PodInfo, State

BATCH = 1000


def _node(number: int) -> dict[str, Any]:
    zone = {"topology.kubernetes.io/zone": f"z{number % 3}"}
    allocatable = {"cpu": "64", "memory": "256Gi", "pods": "1000"}
    return {
        "metadata": {"name": f"node-{number}", "labels": zone},
        "spec": {},
        "status": {"allocatable": allocatable},
    }


def _pod(number: int, kind: int) -> dict[str, Any]:
    requests = {"cpu": f"{10 + kind}m", "memory": "16Mi"}
    return {
        "metadata": {
            "name": f"pod-{number}",
            "namespace": "default",
            "uid": str(number),
            "ownerReferences": [{"uid": f"rs-{kind}", "controller": True}],
        },
        "spec": {"containers": [{"image": "app:1", "resources": {"requests": requests}}]},
    }


@pytest.mark.parametrize("kinds", [1, 20])
@pytest.mark.parametrize(("nodes", "pods"), [(100, 0), (5000, 0), (5000, 50_000)])
def test_place_a_thousand_pods(
    benchmark: BenchmarkFixture, nodes: int, pods: int, kinds: int
) -> None:
    state, demands = State(), Demands()
    for number in range(nodes):
        state.set_node(_node(number))
    placer, numbers = Placer(state, lambda: 0.0), count()

    def place(kind: int) -> None:
        number = next(numbers)
        obj = _pod(number, kind)
        decision = placer.schedule(demands.of(obj))
        assert isinstance(decision, Placement)
        state.place(PodInfo(f"default/pod-{number}", str(number), demands.of(obj)), decision.node)

    for number in range(pods):
        demand = demands.of(_pod(next(numbers), number % kinds))
        state.place(PodInfo(f"default/old-{number}", "", demand), f"node-{number % nodes}")
    for kind in range(kinds):
        place(kind)  # Looking at every node for the first time is another benchmark.

    benchmark.extra_info["pods"] = BATCH
    benchmark.pedantic(lambda: [place(n % kinds) for n in range(BATCH)], rounds=5)


def test_look_at_5000_nodes_for_the_first_time(benchmark: BenchmarkFixture) -> None:
    state, demands = State(), Demands()
    for number in range(5000):
        state.set_node(_node(number))
    demand = demands.of(_pod(0, 0))
    benchmark(lambda: Placer(state, lambda: 0.0).schedule(demand))
