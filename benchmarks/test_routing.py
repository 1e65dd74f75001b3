"""What the brain of kube-proxy costs: all rules of a cluster, and one that changes.

Sketch: a rule is a dozen dictionary look-ups for each of its ten endpoints, about 30 µs in all. A
change is that of its Service and no other, so the rows of one change must agree, however many
Services there are.
"""

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.actors.routing import RuleTable

ENDPOINTS = 10


def service(number: int) -> dict[str, Any]:
    port = {"name": "http", "port": 80, "targetPort": 8080, "nodePort": 30_000 + number % 2_700}
    return {
        "metadata": {"name": f"s{number}", "namespace": "default"},
        "spec": {
            "type": "NodePort" if number < 2_700 else "ClusterIP",
            "clusterIP": f"10.{96 + number // 65_536}.{number // 256 % 256}.{number % 256}",
            "ports": [port],
        },
    }


def slice_(number: int, ready: bool = True) -> dict[str, Any]:
    endpoints = [
        {
            "addresses": [f"10.244.{number % 250}.{each}"],
            "nodeName": f"node-{each}",
            "conditions": {"ready": ready or each > 1, "serving": True, "terminating": False},
        }
        for each in range(1, ENDPOINTS + 1)
    ]
    return {"ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": endpoints}


Told = list[tuple[str, dict[str, Any], list[dict[str, Any]]]]


def told(count: int) -> Told:
    return [(f"default/s{n}", service(n), [slice_(n)]) for n in range(count)]


def build(all_: Told) -> RuleTable:
    table = RuleTable("node-1")
    for name, of, slices in all_:
        table.replace(name, of, slices)
    return table


@pytest.mark.parametrize("count", [10, 1_000, 10_000])
def test_all_rules(benchmark: BenchmarkFixture, count: int) -> None:
    table = benchmark.pedantic(build, args=(told(count),), rounds=3)
    assert len(table.rules) == count + min(count, 2_700)
    if benchmark.stats is not None:
        benchmark.extra_info["us_per_service"] = round(
            benchmark.stats.stats.median / count * 1e6, 1
        )


@pytest.mark.parametrize("count", [10, 1_000, 10_000])
def test_one_endpoint_that_changes(benchmark: BenchmarkFixture, count: int) -> None:
    table = build(told(count))
    one, flips = service(3), [[slice_(3, ready=False)], [slice_(3, ready=True)]]

    def change() -> int:
        return sum(len(table.replace("default/s3", one, slices)) for slices in flips)

    assert benchmark(change) == 4, "two rules, each way"
