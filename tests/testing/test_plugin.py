"""The plugin as users meet it: small test files, run by a pytest of their own."""

import sys
from importlib.metadata import entry_points

import pytest

pytest_plugins = ["pytester"]

PLUGIN = ("-p", "kubeloop.pytest_plugin")
ASYNCIO = ("-p", "pytest_asyncio.plugin")
POD = """
    POD = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
"""


@pytest.fixture
def tests(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return pytester


def test_it_is_found_by_pytest() -> None:
    (found,) = (e for e in entry_points(group="pytest11") if e.name == "kubeloop")
    assert found.value == "kubeloop.pytest_plugin"


def test_nothing_heavy_is_imported_before_it_is_used(tests: pytest.Pytester) -> None:
    tests.makepyfile("def test_nothing(): pass")
    code = (
        "import sys, pytest; pytest.main(['-q', '-p', 'kubeloop.pytest_plugin']);"
        "print(sorted({'aiohttp', 'hypothesis', 'pykka', 'asyncio'} & set(sys.modules)))"
    )
    result = tests.run(sys.executable, "-c", code)
    result.stdout.fnmatch_lines(["*1 passed*", "[[]]"])


@pytest.mark.parametrize("others", [(), ASYNCIO, (*ASYNCIO, "--asyncio-mode=auto")])
def test_async_tests_run_in_virtual_time(tests: pytest.Pytester, others: tuple[str, ...]) -> None:
    tests.makepyfile(
        POD
        + """
    import asyncio, pytest

    async def test_hours(sim_cluster):
        await sim_cluster.api.create(POD)
        pod = await sim_cluster.api.wait("pod/p", "condition=Ready")
        assert pod.spec["nodeName"] == "node-1"
        await asyncio.sleep(3600)
        assert asyncio.get_running_loop() is sim_cluster.loop
        await sim_cluster.settled()

    class TestOfAClass:
        @pytest.mark.parametrize("number", [1, 2])
        async def test_method(self, number, sim_cluster, tmp_path):
            assert number in (1, 2) and tmp_path.is_dir()
            assert len(await sim_cluster.api.list("nodes")) == 1

    def test_plain(sim_cluster):
        sim_cluster.run(sim_cluster.api.create(POD))
        assert sim_cluster.run(sim_cluster.api.wait("pod/p", "condition=Ready"))
        assert sim_cluster.supervisor.names()
    """
    )
    tests.runpytest_inprocess(*PLUGIN, *others).assert_outcomes(passed=4)


def test_anyio_leaves_them_to_us(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
    import pytest
    pytestmark = pytest.mark.anyio

    async def test_ours(sim_cluster):
        assert len(await sim_cluster.api.list("nodes")) == 1
    """
    )
    done = tests.runpytest_inprocess(*PLUGIN, "-p", "anyio.pytest_plugin")
    done.assert_outcomes(passed=1)


def test_a_real_cluster_answers_over_rest(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        POD
        + """
    import json, urllib.request, pytest

    @pytest.mark.kubeloop(nodes=2)
    def test_it(cluster, kubeconfig, cluster_factory):
        cluster.api.create(POD)
        cluster.api.wait("pod/p", "condition=Ready")
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        request = urllib.request.Request(
            cluster.url + "/api/v1/nodes", headers={"Authorization": f"Bearer {token}"}
        )
        with urllib.request.urlopen(request) as answer:
            assert len(json.load(answer)["items"]) == 2
        assert cluster.url in kubeconfig.read_text()
        other = cluster_factory(nodes=1)
        assert other.api.list("pods") == [] and other.url != cluster.url

    def test_each_has_its_own(cluster):
        assert cluster.api.list("pods") == []
    """
    )
    tests.runpytest_inprocess(*PLUGIN).assert_outcomes(passed=2)


def test_seeds_and_how_a_failure_is_repeated(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
    import pytest
    SEEN = []

    @pytest.mark.kubeloop(runs=3, seed=5, nodes=2)
    async def test_it(sim_cluster, kubeloop_seed):
        SEEN.append(kubeloop_seed)
        assert sim_cluster.plan.seed == kubeloop_seed
        assert kubeloop_seed != 6, "six is bad"
    """
    )
    first = tests.runpytest_inprocess(*PLUGIN)
    first.assert_outcomes(passed=2, failed=1)
    first.stdout.fnmatch_lines(["*--kubeloop-seed=6*", "*pytest '*test_it?seed-6?'*"])
    again = tests.runpytest_inprocess(*PLUGIN, "--kubeloop-seed=6")
    again.assert_outcomes(failed=1)
    tests.runpytest_inprocess(*PLUGIN, "--kubeloop-runs=1").assert_outcomes(passed=1)


def test_xdist_agrees_on_the_tests(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
    import pytest

    @pytest.mark.kubeloop(runs=6)
    async def test_it(sim_cluster):
        assert await sim_cluster.api.list("nodes")
    """
    )
    done = tests.runpytest_subprocess(*PLUGIN, "-p", "xdist", "-n2")
    done.assert_outcomes(passed=6)


def test_what_breaks_is_shrunk_to_what_matters(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
    import asyncio, pytest
    from kubeloop.chaos import Configure, Cordon, Deploy

    HAPPENINGS = [Configure(at_s=1.0), Deploy(at_s=2.0, replicas=2), Cordon(at_s=3.0)]

    @pytest.mark.kubeloop(faults=HAPPENINGS)
    async def test_it(sim_cluster):
        await asyncio.sleep(30)
        assert not await sim_cluster.api.list("pods"), "who made these?"
    """
    )
    done = tests.runpytest_inprocess(*PLUGIN, "--kubeloop-reports=reports")
    done.assert_outcomes(failed=1)
    (page,) = (tests.path / "reports").glob("*.html")
    assert "who made these?" in page.read_text() and "Deploy(replicas=1)" in page.read_text()
    done.stdout.fnmatch_lines([f"report: reports/{page.name}"])
    done.stdout.fnmatch_lines(["*who made these?*", "*30.* s of a simulation*", "*Deploy(at_s=2*"])
    told = done.stdout.str().partition("nothing can be left out")[2]
    assert "Deploy(replicas=1)" in told
    assert "Configure" not in told and "Cordon" not in told


def test_monitors_watch_and_bad_marks_are_told(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        """
    import asyncio, pytest
    from kubeloop.chaos import Broken

    class NoPods:
        name = "no-pods"
        def begin(self, stage): pass
        def heard(self, facts):
            if any(fact.resource == "pods" for fact in facts):
                raise Broken("there is a pod")
        def end(self): pass

    @pytest.mark.kubeloop(monitors=lambda: [NoPods()])
    async def test_watched(sim_cluster):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
               "spec": {"containers": [{"name": "c", "image": "i"}]}}
        await sim_cluster.api.create(pod)
        await asyncio.sleep(100)
    """
    )
    done = tests.runpytest_inprocess(*PLUGIN)
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*Broken: there is a pod*"])
    tests.makepyfile(
        test_bad="""
    import pytest

    @pytest.mark.kubeloop(3)
    async def test_it(sim_cluster): pass
    """
    )
    wrong = tests.runpytest_inprocess(*PLUGIN, "test_bad.py")
    assert wrong.ret != 0
    assert "the mark takes names only: nodes=3" in wrong.stdout.str() + wrong.stderr.str()


def test_claims_get_volumes_where_there_are_nodes(tests: pytest.Pytester) -> None:
    tests.makepyfile("""
    import pytest

    @pytest.mark.kubeloop(storage_class="mine")
    async def test_simulated(sim_cluster):
        assert [c.name for c in await sim_cluster.api.list("storageclasses")] == ["mine"]

    def test_by_itself(cluster):
        assert [c.name for c in cluster.api.list("storageclasses")] == ["standard"]

    @pytest.mark.kubeloop(nodes=0)
    def test_nowhere(cluster):
        assert cluster.api.list("storageclasses") == []
    """)
    tests.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=3)
