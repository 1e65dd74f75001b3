"""docs/testing-an-operator.md does what it says: its code is run as it stands there."""

import re
from pathlib import Path

import pytest

pytest.importorskip("kr8s", reason="no kr8s: pip install kr8s")
pytest_plugins = ["pytester"]

PAGE = Path(__file__).parent.parent.parent / "docs" / "testing-an-operator.md"
PLUGIN = ("-p", "kubeloop.pytest_plugin", "-W", "ignore")


def blocks() -> dict[str, str]:
    """Return the code of the page by the file it belongs to."""
    found = re.findall(r"```python\n# ([^\n]+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return dict(found)


def test_the_tutorial(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    code = blocks()
    assert sorted(code) == ["orders.py", "orders.py, make_pod", "test_orders.py"]
    operator = pytester.makepyfile(orders=code["orders.py"])
    pytester.makepyfile(test_orders=code["test_orders.py"])
    first = pytester.runpytest_subprocess(*PLUGIN, "-k", "are_served")
    first.assert_outcomes(passed=1, deselected=5)
    faulty = pytester.runpytest_subprocess(*PLUGIN, "-k", "whatever", "-x")
    assert faulty.parseoutcomes()["failed"] == 1
    told = faulty.stdout.str()
    assert "assert 2 == 1" in told and "--kubeloop-seed=1" in told
    shrunk = told.partition("nothing can be left out")[2]
    assert shrunk.count("AnswerLost(") == 1
    assert not re.search(r"ApiFails|WatchEnds", shrunk)
    cured, count = re.subn(
        r"async def make_pod.*", code["orders.py, make_pod"], code["orders.py"], flags=re.DOTALL
    )
    assert count == 1
    operator.write_text(cured)
    pytester.runpytest_subprocess(*PLUGIN).assert_outcomes(passed=6)
