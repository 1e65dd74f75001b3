"""Time travel: what it costs to look back, and to go another way.

Sketch: a fork of the store is a reference to a tree, and a view of the past a handler of requests
around it: some objects of Python, 10 to 20 µs, whether there are 100 objects or 100,000. To read
one of them is to walk down a tree, and to unpack 3 kB: 20 µs. To find a change among n revisions
takes log n looks.
"""

import asyncio
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from test_store import pod

from kubeloop.cluster import Cluster
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import Write
from kubeloop.store.store import Store

SIZES = [100, 1000, 10_000, 100_000]


def fill(store: Store, objects: int) -> int:
    """Put so many pods, and change a hundred of them; return the revision in between."""
    for n in range(objects):
        store.commit([Write(key_of("pods", "default", f"pod-{n:06}"), pod(n))], NO_CAUSE)
    between = store.revision
    for n in range(100):
        store.commit([Write(key_of("pods", "default", f"pod-{n:06}"), pod(n + 1))], NO_CAUSE)
    store.flush(lambda error: None)
    return between


@pytest.fixture(params=SIZES)
def filled(request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, int]]:
    with asyncio.Runner() as runner:
        cluster = Cluster(nodes=0, seed=1)
        runner.run(cluster.start())
        yield cluster, fill(cluster.store, request.param)
        runner.run(cluster.stop())


@pytest.mark.benchmark(group="a cluster forked at an old revision")
def test_fork(benchmark: BenchmarkFixture, filled: tuple[Cluster, int]) -> None:
    cluster, revision = filled
    benchmark(cluster.fork, revision)


@pytest.mark.benchmark(group="an object as it was")
def test_get_at(benchmark: BenchmarkFixture, filled: tuple[Cluster, int]) -> None:
    cluster, revision = filled
    benchmark(lambda: cluster.at(revision).get("pod", "pod-000007"))


@pytest.mark.benchmark(group="bisect over 100 revisions")
def test_bisect(benchmark: BenchmarkFixture, filled: tuple[Cluster, int]) -> None:
    cluster, revision = filled
    wanted = revision + 42
    benchmark(cluster.bisect, lambda past: past.revision < wanted, good=revision)
