"""Real processes on a real disk: killed at any moment, they lose nothing they were promised."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from kubeloop.store.disk import RealDisk
from kubeloop.store.store import Store
from tests.store.writer import KEYS, key_at, value_at

ROOT = Path(__file__).parent.parent.parent
KILLS = 30


def start(directory: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", str(directory)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )


def run_and_kill(directory: Path, *, lines: int) -> tuple[int, int]:
    """Let a writer acknowledge some commits and kill it; return what it opened and promised."""
    process = start(directory)
    assert process.stdout is not None
    word, _, opened = process.stdout.readline().decode().partition(" ")
    assert word == "open"
    promised = int(opened)
    for _ in range(lines):
        promised = int(process.stdout.readline())
    process.kill()
    # What was said before it died counts; half a line does not.
    for line in process.stdout.read().decode().splitlines(keepends=True):
        if line.endswith("\n"):
            promised = int(line)
    process.stdout.close()
    process.wait()
    return int(opened), promised


def expected(revision: int) -> dict[str, bytes]:
    newest = range(max(1, revision - 2 * KEYS), revision + 1)
    return {key_at(at): value_at(at) for at in newest}


def test_thirty_kills_lose_nothing(tmp_path: Path) -> None:
    chance, promised = random.Random(1), 0
    for _ in range(KILLS):
        opened, promised_next = run_and_kill(tmp_path, lines=chance.randrange(0, 40))
        assert opened >= promised, f"{opened} came back, {promised} was acknowledged"
        promised = promised_next
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
    try:
        assert store.revision >= promised > 1000
        found = {item.key: item.value for item in store.list("/registry/").items}
        assert found == expected(store.revision)
        assert store.recovery is not None
        assert store.recovery.transactions < store.revision, "snapshots were made on the way"
    finally:
        store.close()
    assert not list(tmp_path.glob("*.new"))


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    process = start(tmp_path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(BlockingIOError, match=f"held by process {process.pid}"):
            Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
    finally:
        process.kill()
        process.communicate()
    Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16)).close()
