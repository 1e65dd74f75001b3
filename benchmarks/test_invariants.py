"""What the ready-made invariants cost: chaos runs with and without them."""

from collections.abc import Callable, Sequence

import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.chaos import Monitor, plan_of, play, standard

SEEDS = 20


@pytest.mark.parametrize("who", ["nobody", "standard"])
def test_chaos_runs(benchmark: BenchmarkFixture, beside: Beside, who: str) -> None:
    """Runs of the default profile."""
    watching: dict[str, Callable[[], Sequence[Monitor]]] = {"nobody": tuple, "standard": standard}

    def runs() -> None:
        for seed in range(SEEDS):
            play(plan_of(seed), monitors=watching[who])

    with beside("chaos: runs of the default profile, watched by", who, SEEDS):
        benchmark.pedantic(runs, rounds=3, warmup_rounds=1)
