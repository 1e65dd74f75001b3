"""The pytest plugin: clusters as fixtures, and tests that run in a simulation.

    def test_real_time(cluster):                 # A SyncCluster: real time, real sockets.
        cluster.api.apply("deployment.yaml")

    async def test_simulated(sim_cluster):       # In virtual time: an hour costs milliseconds.
        await sim_cluster.api.apply("deployment.yaml")
        await sim_cluster.settled()

    @pytest.mark.kubeloop(nodes=3, runs=50, faults=True)
    async def test_chaos(sim_cluster): ...       # 50 seeds, each with faults of its own.

A simulated test that fails is shrunk to the fewest faults with which it does, and tells its seed,
what happened, and how to repeat it. Nothing heavy is imported before a fixture is used.
"""

import inspect
import re
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from kubeloop.chaos.plan import Plan
    from kubeloop.sync import SyncCluster
    from kubeloop.testing.simulated import SimCluster

SHRINK_RUNS: Final = 100
_PLAN: Final = ("nodes", "policy", "rest", "durable")  # What a mark may say of the plan.
_MARK: Final = (
    "kubeloop(nodes=1, seed=None, runs=1, faults=False, …): the cluster of a test. seed: the first;"
    " runs: how many seeds; faults: True, kinds of faults, or faults; monitors: who watches;"
    " anything else is for Cluster"
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kubeloop", "simulated Kubernetes clusters")
    group.addoption(
        "--kubeloop-seed", type=int, default=None, metavar="SEED",
        help="run simulated tests with this seed only",
    )  # fmt: skip
    group.addoption(
        "--kubeloop-runs", type=int, default=None, metavar="N",
        help="run each simulated test with N seeds, from its first one on",
    )  # fmt: skip
    group.addoption(
        "--kubeloop-reports", type=Path, default=None, metavar="DIRECTORY",
        help="write an HTML report of each simulated test that fails there",
    )  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have a simulated test run once for each of its seeds."""
    if "sim_cluster" not in metafunc.fixturenames:
        return
    told, config = _told(metafunc.definition), metafunc.config
    only, runs = config.getoption("--kubeloop-seed"), config.getoption("--kubeloop-runs")
    first = told.get("seed") or 0
    count = runs if runs is not None else told.get("runs", 1)
    if count < 1:
        raise pytest.UsageError(f"runs={count}: a test runs with 1 seed or more")
    seeds = [only] if only is not None else range(first, first + count)
    metafunc.parametrize("kubeloop_seed", seeds, ids=[f"seed-{seed}" for seed in seeds])


@pytest.fixture
def kubeloop_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this run of a simulated test."""
    seed: int = request.param
    return seed


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, cluster_factory: "Callable[..., SyncCluster]"
) -> "SyncCluster":
    """A cluster in real time, with its REST endpoint, for this test alone."""
    told = _told(request.node)
    for name in ("runs", "faults", "monitors", "policy", "durable"):
        told.pop(name, None)
    return cluster_factory(**told)


@pytest.fixture
def cluster_factory() -> "Iterator[Callable[..., SyncCluster]]":
    """A function that starts clusters in real time; takes what `Cluster` takes.

    Claims get volumes: if they have nodes, they have a default StorageClass, `standard`.
    """
    from kubeloop.sync import SyncCluster

    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(
            SyncCluster(**{**_defaults(options), **options})
        )


def _defaults(options: dict[str, Any]) -> dict[str, Any]:
    return {"rest": True, "storage_class": "standard" if options.get("nodes", 1) else ""}


@pytest.fixture
def kubeconfig(cluster: "SyncCluster", tmp_path: Path) -> Path:
    """The path of a kubeconfig for `cluster`."""
    path = tmp_path / "kubeconfig"
    path.write_text(cluster.config_yaml())
    path.chmod(0o600)
    return path


@pytest.fixture
def sim_cluster(request: pytest.FixtureRequest, kubeloop_seed: int) -> "Iterator[SimCluster]":
    """A simulated cluster; an async test that asks for it runs in its loop, in virtual time."""
    with _simulated(request.node, kubeloop_seed) as made:
        yield made


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that asks for `sim_cluster` in its loop.

    To whoever else runs async tests it looks like a plain one, so that they leave it to us.
    """
    made: Any = pyfuncitem.funcargs.get("sim_cluster")
    test = inspect.unwrap(pyfuncitem.obj)  # Others may have made it a plain function already.
    if made is None or not inspect.iscoroutinefunction(test):
        return (yield)
    if pyfuncitem.instance is not None and not inspect.ismethod(test):
        test = test.__get__(pyfuncitem.instance)

    def plain(**arguments: Any) -> None:
        try:
            made.run(test(**arguments))
        except Exception as error:
            place = _place(error)
            _explain(
                pyfuncitem,
                made,
                error,
                lambda plan: _again(pyfuncitem, plan, test, arguments) == place,
            )
            raise

    asynchronous, pyfuncitem.obj = pyfuncitem.obj, plain
    try:
        return (yield)
    finally:
        pyfuncitem.obj = asynchronous


def _again(
    item: pytest.Function, plan: "Plan", test: Callable[..., Any], arguments: dict[str, Any]
) -> object:
    """Run a test with another plan; return where it fails, None if it does not."""
    with _simulated(item, plan.seed, plan) as other:
        try:
            other.run(test(**{**arguments, "sim_cluster": other}))
        except Exception as error:  # noqa: BLE001 - a test may fail in any way.
            return _place(error)
    return None


def _place(error: Exception) -> object:
    """Return what an error is, and the innermost line outside of packages where it came up."""
    own = [
        (frame.filename, frame.lineno)
        for frame in traceback.extract_tb(error.__traceback__)
        if "site-packages" not in frame.filename
    ]
    return type(error), own[-1] if own else None


def _explain(
    item: pytest.Function, made: "SimCluster", error: Exception, fails: "Callable[[Plan], bool]"
) -> None:
    """Tell how a test came to fail, and how to have it do so again."""
    from kubeloop.chaos.shrinking import shrink

    plan = made.plan
    if plan.happenings:
        plan = shrink(plan, fails, runs=SHRINK_RUNS)
    marks = [f"{mark.at_s:10.3f} s  {mark.text}" for mark in made.stage.marks]
    lines = [
        f"at {made.loop.time():.3f} s of a simulation; repeat it with",
        f"    pytest '{item.nodeid}' --kubeloop-seed={made.plan.seed}",
        *(["what happened:", *marks] if marks else []),
        *(["it fails with this, too, and nothing can be left out:", str(plan)] if marks else []),
    ]
    reports = item.config.getoption("--kubeloop-reports")
    if reports is not None:
        lines.append(f"report: {_write_report(reports, item, made, error, plan)}")
    item.add_report_section("call", "kubeloop", "\n".join(lines))
    error.add_note(f"in a simulation: repeat it with --kubeloop-seed={made.plan.seed}")


def _write_report(
    directory: Path, item: pytest.Function, made: "SimCluster", error: Exception, plan: "Plan"
) -> Path:
    """Write the report of a run that failed; return where it is."""
    from kubeloop.testing.report import report

    directory.mkdir(parents=True, exist_ok=True)
    path = directory / (re.sub(r"[^\w.-]+", "_", item.nodeid) + ".html")
    why = f"{type(error).__name__}: {error}"
    path.write_text(report(made.told(), title=item.nodeid, why=why, plan=str(plan)), "utf-8")
    return path


def _simulated(node: pytest.Item, seed: int, plan: "Plan | None" = None) -> "SimCluster":
    """Return the simulated cluster of a test, as its mark says."""
    from kubeloop.chaos import standard
    from kubeloop.testing.simulated import SimCluster

    told = _told(node)
    told.pop("seed", None)
    told.pop("runs", None)
    faults, monitors = told.pop("faults", False), told.pop("monitors", standard)
    shape: dict[str, Any] = {"nodes": 1, **{name: told.pop(name) for name in _PLAN if name in told}}
    return SimCluster(plan or _plan(seed, faults, shape), monitors, told)


def _plan(seed: int, faults: Any, shape: dict[str, Any]) -> "Plan":
    """Return what happens while a test runs.

    faults: True: any; kinds of faults; or faults themselves, which are always the same.
    """
    from kubeloop.chaos.generate import Profile, plan_of
    from kubeloop.chaos.plan import Plan
    from kubeloop.chaos.values import Happening

    if not faults:
        return Plan(seed=seed, **shape)
    if faults is not True and all(isinstance(fault, Happening) for fault in faults):
        return Plan(seed=seed, happenings=tuple(faults), **shape)
    profile = Profile(steps=(), faults=None if faults is True else tuple(faults))
    return Plan(seed=seed, happenings=plan_of(seed, profile).happenings, **shape)


def _told(node: pytest.Item) -> dict[str, Any]:
    """Return what the marks of a test say, the closest first."""
    told: dict[str, Any] = {}
    for mark in node.iter_markers("kubeloop"):
        if mark.args:
            raise pytest.UsageError(f"kubeloop{mark.args}: the mark takes names only: nodes=3")
        told = {**mark.kwargs, **told}
    return told
