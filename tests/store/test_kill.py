"""Real processes on a real disk: killed at any moment, they lose nothing they were promised."""

import os
import random
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL

import pytest

from kubeloop.store.disk import RealDisk
from kubeloop.store.store import Store
from tests.store.writer import KEYS, expected

ROOT = Path(__file__).parent.parent.parent
DIRECTORIES, KILLS = 4, 130  # In each of them.
KILLS_MAX = 4 * KILLS  # Where no write has been torn by then: when a kill hits is chance.


@dataclass
class Keeper:
    """Starts writers in a directory, kills them, and knows what they were promised.

    owners: (life, the first revision it wrote), the oldest first.
    """

    process: "subprocess.Popen[str]"
    pipe: int
    owners: list[tuple[int, int]] = field(default_factory=list)
    opened: int = 0
    promised: int = 0
    lives: int = 0
    snapshot: int = 0
    cuts: int = 0
    _half: bytes = b""

    def start(self, *, call: int = 0) -> int:
        """Start a writer, which dies by itself at a disk call if that is not 0; return its pid."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.lives += 1
        owners = " ".join(f"{life}:{first}" for life, first in self.owners)
        print(self.lives, call, owners, file=self.process.stdin, flush=True)
        return int(self.process.stdout.readline())

    def hear(self, *, seconds: float) -> int:
        """Wait for something to be said, and note it; return how many lines it was."""
        if not select.select([self.pipe], [], [], seconds)[0]:
            return 0
        *lines, self._half = (self._half + os.read(self.pipe, 65536)).split(b"\n")
        for line in lines:
            self._note(line.decode())
        return len(lines)

    def bury(self) -> None:
        """Wait for the end of a writer, and hear its last words."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "dead\n"
        while self.hear(seconds=0):
            pass
        assert not self._half

    def _note(self, line: str) -> None:
        word, *numbers = line.split()
        assert word != "wrong", f"life {self.lives} found something else at {numbers}"
        if word != "open":
            self.promised = int(word)
            return
        self.opened, self.snapshot, cut = map(int, numbers)
        self.cuts += cut
        assert self.opened >= self.promised, f"{self.opened} came back, {self.promised} were safe"
        # What came back without a promise is true from now on.
        self.promised = self.opened
        kept = [owner for owner in self.owners if owner[1] <= self.opened]
        newest = [owner for owner in kept if owner[1] > self.opened - 3 * KEYS]
        self.owners = [*kept[-len(newest) - 1 :], (self.lives, self.opened + 1)]


@contextmanager
def keeper(directory: Path) -> Iterator[Keeper]:
    ours, theirs = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.store.writer", str(directory), str(theirs)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[theirs],
        text=True,
    )
    os.close(theirs)
    try:
        yield Keeper(process, ours)
    finally:
        process.kill()
        process.communicate()
        os.close(ours)


def live_and_die(keeper: Keeper, chance: random.Random) -> None:
    """Have a writer work, and end it: by its own hand in a disk call, or by ours at any moment."""
    if chance.random() < 0.5:
        keeper.start(call=chance.randint(1, 40))
        keeper.bury()
        return
    pid = keeper.start()
    lines = chance.randint(0, 12)
    while lines > 0:
        lines -= keeper.hear(seconds=60)
    keeper.hear(seconds=chance.uniform(0, 0.003))
    with suppress(ProcessLookupError):
        os.kill(pid, SIGKILL)
    keeper.bury()


@pytest.mark.parametrize("seed", range(DIRECTORIES))
def test_kills_lose_nothing(tmp_path: Path, seed: int) -> None:
    chance, zeros, segments = random.Random(seed), 0, set[str]()
    with keeper(tmp_path) as writers:
        for number in range(KILLS_MAX):
            if number >= KILLS and writers.cuts:
                break
            live_and_die(writers, chance)
            names = sorted(path.name for path in tmp_path.glob("log-*"))
            segments.update(names)
            zeros += bool(names) and (tmp_path / names[-1]).read_bytes().endswith(bytes(64))
    store = Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
    try:
        assert store.revision >= writers.promised
        found = {item.key: item.value for item in store.list("/registry/").items}
        assert found == expected(writers.owners, store.revision)
    finally:
        store.close()
    assert not list(tmp_path.glob("*.new"))
    assert writers.snapshot > 100, "snapshots were made on the way"
    assert len(segments) > 10, "and segments begun"
    assert zeros > 0, "and lengthened ahead"
    assert writers.cuts > 0, "and torn writes cut off"


def test_a_second_process_is_refused_and_told_who_has_it(tmp_path: Path) -> None:
    with keeper(tmp_path) as writers:
        pid = writers.start()
        while not writers.opened and not writers.promised:
            writers.hear(seconds=60)
        with pytest.raises(BlockingIOError, match=f"held by process {pid}"):
            Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16))
        os.kill(pid, SIGKILL)
        writers.bury()
        Store.open(RealDisk(), str(tmp_path), threadsafe=None, fresh_id=bytes(16)).close()
