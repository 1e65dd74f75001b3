"""What a real API server answered to requests played in order, where that recording is at hand."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parents[2] / "shared" / "facts" / "apiserver-1.36.2.jsonl"
needed = pytest.mark.skipif(not RECORDED.is_file(), reason="the recording is not at hand")


@cache
def rows() -> list[dict[str, Any]]:
    """Return the recorded requests and answers; not to be changed."""
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]
