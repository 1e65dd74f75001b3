"""docs/invariants.md tells of every invariant there is, and its code runs."""

import inspect
import re
from pathlib import Path

import pytest

from kubeloop import chaos
from kubeloop.chaos import invariants

PAGE = (Path(__file__).parents[2] / "docs" / "invariants.md").read_text()


@pytest.mark.parametrize("watcher", invariants._ALL, ids=lambda watcher: watcher.name)
def test_each_is_told_of(watcher: type) -> None:
    assert f"### {watcher.name}\n\n{inspect.getdoc(watcher)}\n" in PAGE


def test_the_code_runs_and_sees_what_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, object] = {}
    exec(code, found)

    async def operator(stage: chaos.Stage) -> None:
        named = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "plain"}}
        await stage.api.apply({**named, "data": {"password": "1234"}})

    with pytest.raises(chaos.Violation, match="no_secret_is_plain: plain"):
        chaos.play(chaos.Plan(), monitors=found["monitors"], operator=operator)  # type: ignore[arg-type]
