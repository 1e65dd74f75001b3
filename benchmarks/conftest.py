"""What benchmarks share: rows beside each other, and a table of their ratios at the end."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

Groups = dict[str, dict[str, float]]
Beside = Callable[[str, str, float], AbstractContextManager[None]]
_GROUPS = pytest.StashKey[Groups]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--recovery-events",
        type=int,
        default=0,
        help="also time the recovery of so many events of 3 kB; a million take 10 GB of disk",
    )
    parser.addoption(
        "--simulated-hours",
        type=float,
        default=0.25,
        help="of the cluster of 100 nodes with a CronJob each minute; 24 take some minutes",
    )
    parser.addoption(
        "--planted-seeds",
        type=int,
        default=10,
        help="seeds to look for each planted bug with",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_GROUPS] = {}


@pytest.fixture
def beside(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Beside:
    """Return a context manager that puts what is measured in it beside the others of its group.

    beside(group, row, amount): a round does so much. The rate, and how many times that the first
    row of the group has, go to extra_info, and to a table at the end.
    """
    groups = request.config.stash[_GROUPS]

    @contextmanager
    def measure(group: str, row: str, amount: float) -> Iterator[None]:
        benchmark.group = group
        yield
        if benchmark.stats is None:  # Benchmarks are disabled: it was run once, for its errors.
            return
        rows = groups.setdefault(group, {})
        rows[row] = amount / benchmark.stats.stats.median
        benchmark.extra_info["per_s"] = round(rows[row], 3)
        benchmark.extra_info["ratio"] = round(next(iter(rows.values())) / rows[row], 3)

    return measure


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if not config.stash[_GROUPS]:
        return
    terminalreporter.section("beside each other: per second, and how much more the first does")
    for group, rows in config.stash[_GROUPS].items():
        terminalreporter.write_line(group)
        first = next(iter(rows.values()))
        for row, rate in rows.items():
            shown = f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"
            terminalreporter.write_line(f"  {row:<32}{shown:>14}{first / rate:>10.2f} x")
