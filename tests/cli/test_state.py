"""Which clusters run: as their processes tell."""

import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from kubeloop.cli.state import Record


def record(pid: int) -> Record:
    told = {one.name: "" for one in fields(Record)}
    return Record(**{**told, "pid": pid})  # type: ignore[arg-type]


def test_a_process_runs_until_it_has_ended() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert record(process.pid).alive
        if not Path(f"/proc/{process.pid}/stat").exists():
            pytest.skip("the system does not tell of processes that have ended")
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # It stays a zombie.
        assert not record(process.pid).alive
    assert not record(process.pid).alive
