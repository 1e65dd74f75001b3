"""The code on the page about exploration runs as it stands there, and prints what it says."""

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "exploration.md"


def test_the_code_of_the_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    (printed,) = re.findall(r"```text\n(.*?)```", PAGE.read_text(), re.S)
    assert capsys.readouterr().out == printed
    assert str(names["explored"]).startswith("complete: 4 orders were run")
