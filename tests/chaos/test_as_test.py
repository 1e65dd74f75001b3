"""What was found is printed as a test, which runs as it stands and fails until it is cured."""

import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.actors.runtimes.scripts import Script
from kubeloop.chaos import Configure, Deploy, Profile, Scale, as_test, find
from kubeloop.chaos.source import Source
from kubeloop.chaos.watching import Monitor

MODULE = """
import asyncio

from kubeloop import chaos

LIMIT = {limit}


async def idle(stage, pause_s=1.0):
    await asyncio.sleep(pause_s * 1e9)


@chaos.invariant
def few_pods(sight):
    assert len(sight.objects("pods")) <= LIMIT, "there are too many"


def monitors(also=()):
    return [*chaos.standard(), few_pods, *also]
"""
QUICK = Profile(
    steps=(Deploy, Scale, Configure), faults=(), nodes_most=2, within_s=10.0, durable=False
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    (tmp_path / "mine.py").write_text(MODULE.format(limit=2))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return importlib.import_module("mine")


def run(directory: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_found.py"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


def test_the_text_runs_with_all_that_it_was_played_with(mine: ModuleType, tmp_path: Path) -> None:
    found = find(
        range(50),
        profile=QUICK,
        monitors=partial(mine.monitors, also=()),
        operator=partial(mine.idle, pause_s=2.0),
        runs=30,
        images={"app:1": Script(start_s=2.0), "app:2": Script(ready_after_s=1.0, fails=(1, 0))},
    )
    assert found is not None
    told = str(found)
    assert "images={'app:1': Script(start_s=2.0), " in told
    assert "operator=partial(idle, pause_s=2.0)" in told
    (tmp_path / "test_found.py").write_text(told)
    done = run(tmp_path)
    assert done.returncode == 1 and "few_pods: there are too many" in done.stdout, done.stdout
    (tmp_path / "mine.py").write_text(MODULE.format(limit=1000))
    done = run(tmp_path)
    assert done.returncode == 0, "it is cured:\n" + done.stdout


def test_what_cannot_be_imported_is_told(mine: ModuleType) -> None:
    def here() -> list[Monitor]:
        return list(mine.monitors())

    found = find(range(50), profile=QUICK, monitors=here, runs=5)
    assert found is not None
    told = as_test(found.violation, monitors=here)
    assert "# here: define it at the top of a module, and import it here." in told
    assert "play(plan, monitors=here)" in told
    compile(told, "told", "exec")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
    | st.builds(Script, start_s=st.floats(0, 9), log=st.lists(st.text()).map(tuple)),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
)  # fmt: skip


@given(values)
def test_values_are_told_as_they_are(value: object) -> None:
    source = Source()
    told = source.of(value)
    scope: dict[str, object] = {"inf": float("inf")}
    exec("\n".join(source.imports()), scope)
    assert eval(told, scope) == value
    assert not source.unknown
