"""What exploration costs: runs a second, and how many orders need not be run.

Sketch: a run begins with a cluster, 4 ms; a move is a turn or two, and what the search has to look
at: 0.5 ms. So a scenario of 20 moves is run in 15 ms: 70 orders a second.

How many orders there are is estimated by walks by chance (Knuth); each of them is a run, too. With
n messages for each of k places there are (kn)! / n!^k orders of which one is needed: the more of
what happens is apart, the more is saved.
"""

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.chaos import Scenario, Ways, count_orders, explore
from kubeloop.chaos.orders import Move, Search
from tests.chaos import scenarios as s

NO_PODS = ("controller-manager", "scheduler")
SAMPLES = 200
SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "two careful counters": lambda: counters(2),
    "three careful counters": lambda: counters(3),
    "two careful counters, all actors": lambda: counters(2, absent=()),
    "a ReplicaSet is scaled, its pod deleted": lambda: Scenario(
        {"alice": s.scales_to_two, "bob": s.deletes_a_pod},
        setup=s.a_replica_set_of_one,
        absent=("scheduler",),
        monitors=lambda: [s.Pods(most=2, rest=2)],
    ),
    "a ReplicaSet is scaled, two wires": lambda: Scenario(
        {"alice": s.scales_to_two},
        setup=s.a_replica_set_of_one,
        monitors=lambda: [s.Pods(most=2, rest=2)],
        ways=Ways(wires="two"),
    ),
}


def counters(count: int, absent: tuple[str, ...] = NO_PODS) -> Scenario:
    users = {f"user {number}": s.careful for number in range(count)}
    return Scenario(users, setup=s.a_counter, absent=absent, monitors=lambda: [s.Counts(count)])


@pytest.mark.parametrize("name", SCENARIOS)
def test_exploring(benchmark: BenchmarkFixture, name: str) -> None:
    scenario = SCENARIOS[name]()
    explored = benchmark.pedantic(lambda: explore(scenario), rounds=3)
    assert explored.complete, explored
    if not benchmark.enabled:
        return
    every = count_orders(scenario, samples=SAMPLES)
    benchmark.extra_info |= {
        "runs": explored.runs,
        "cut": explored.cut,
        "moves in one": explored.longest,
        "runs/s": round((explored.runs + explored.cut) / benchmark.stats["mean"]),
        "all orders, about": f"{every:.1g}",
        "orders for each run": f"{every / explored.runs:.1g}",
    }
    told = ", ".join(f"{value} {key}" for key, value in benchmark.extra_info.items())
    print(f"\n{name}: {benchmark.stats['mean']:.2f} s, {told}")


@pytest.mark.parametrize("moves", [20, 60])
def test_the_search_itself(benchmark: BenchmarkFixture, moves: int) -> None:
    """A run of moves to places of their own, but for the last two."""
    waiting = [Move(f"{n}", f"{min(n, moves - 2)}") for n in range(moves)]

    def search() -> int:
        found = Search()
        while found.more():
            left = list(waiting)
            while left:
                move = found.choose(left)
                assert move is not None
                left.remove(move)
        return found.runs

    assert benchmark(search) == 2
