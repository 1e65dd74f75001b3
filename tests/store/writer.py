"""Processes that write to a store as fast as they can, and tell on a pipe what they were promised.

    python -m tests.store.writer DIRECTORY PIPE

Reads commands, one a line, and forks a writer for each, which costs less than to start Python anew:

    LIFE CALL OWNERS     CALL: the disk call it ends itself at, 0: it waits to be killed;
                         OWNERS: which life wrote what is there, "LIFE:FIRST,LIFE:FIRST..."

It answers with the writer's process id, and "dead" when it is. To the pipe the writer says "open
REVISION SNAPSHOT CUT", once all that came back has been compared, then "REVISION" for every group
that was acknowledged. What is written depends on the life and the revision only, so it can be
checked.
"""

import gc
import os
import queue
import random
import signal
import sys
from bisect import bisect_right
from collections.abc import Callable, Sequence

from kubeloop.store import log as log_module
from kubeloop.store import store as store_module
from kubeloop.store.disk import RealDisk, RealFile
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Store

store_module.SNAPSHOT_BYTES = 40_000  # type: ignore[misc]
log_module.SEGMENT_BYTES = 15_000  # type: ignore[misc]
log_module.AHEAD_BYTES = 4_000  # type: ignore[misc]
log_module._PIECE_BYTES = 4_000  # type: ignore[misc]
KEYS = 40
_FILLING = bytes(range(60))

Owners = Sequence[tuple[int, int]]
"""(life, first revision it wrote), the oldest first."""


def writes_at(life: int, revision: int) -> list[Write]:
    """Return what a life writes at a revision: one to three keys, among them deletions."""
    keys = [(revision * step) % KEYS for step in (7, 11, 13)][: 1 + revision % 3]
    return [
        Write(key_of("pods", "default", f"p{key}"), value_at(life, revision, key))
        for key in dict.fromkeys(keys)
    ]


def value_at(life: int, revision: int, key: int) -> bytes | None:
    """Return the value of a key, None if it is deleted."""
    if (revision + key) % 5 == 0:
        return None
    return b"%d %d %d " % (life, revision, key) + _FILLING * ((revision + key) % 7)


def expected(owners: Owners, revision: int) -> dict[str, bytes]:
    """Return all there should be. Whatever the revision, the last KEYS wrote every key."""
    state: dict[str, bytes] = {}
    for at in range(max(1, revision - KEYS + 1), revision + 1):
        life, _ = owners[bisect_right(owners, at, key=lambda owner: owner[1]) - 1]
        for write in writes_at(life, at):
            state.pop(write.key, None)
            if write.value is not None:
                state[write.key] = write.value
    return state


class DyingDisk(RealDisk):
    """Ends the process at a call: before it, after it, or in the middle of a write."""

    def __init__(self, call: int) -> None:
        self._left = call
        self._chance = random.Random(call)

    def _do(self, call: Callable[[], object]) -> None:
        self._left -= 1
        if self._left != 0:
            call()
            return
        if self._chance.random() < 0.5:
            call()
        os.kill(os.getpid(), signal.SIGKILL)

    def open(self, path: str) -> "DyingFile":
        return DyingFile(self, path)

    def rename(self, path: str, to: str) -> None:
        self._do(lambda: super(DyingDisk, self).rename(path, to))

    def remove(self, path: str) -> None:
        self._do(lambda: super(DyingDisk, self).remove(path))

    def sync_directory(self, directory: str) -> None:
        self._do(lambda: super(DyingDisk, self).sync_directory(directory))


class DyingFile(RealFile):
    """A file of a DyingDisk."""

    def __init__(self, disk: DyingDisk, path: str) -> None:
        super().__init__(path)
        self._disk = disk

    def write(self, data: bytes, at: int) -> None:
        disk = self._disk
        if disk._left == 1:
            super().write(data[: disk._chance.randrange(len(data))], at)
        disk._do(lambda: super(DyingFile, self).write(data, at))

    def writev(self, parts: Sequence[bytes], at: int) -> None:
        if self._disk._left == 1:
            self.write(b"".join(parts), at)  # It dies of it.
        self._disk._do(lambda: super(DyingFile, self).writev(parts, at))

    def sync(self) -> None:
        self._disk._do(super().sync)

    def truncate(self, size: int) -> None:
        self._disk._do(lambda: super(DyingFile, self).truncate(size))


def write(directory: str, pipe: int, life: int, call: int, owners: Owners) -> None:
    """Open the store, check all that came back, and write until death."""

    def tell(line: str) -> None:
        os.write(pipe, f"{line}\n".encode())

    calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    store = Store.open(
        DyingDisk(call),
        directory,
        threadsafe=calls.put,
        fresh_id=bytes(16),
        retention=Retention(revisions=60),
    )
    for at in range(max(store.history.floor, store.revision - 10), store.revision + 1):
        found = {item.key: item.value for item in store.list("/registry/", revision=at).items}
        if found != expected(owners, at):
            tell(f"wrong {at}")
            return
    recovery = store.recovery
    assert recovery is not None
    tell(f"open {store.revision} {recovery.snapshot} {int(recovery.cut is not None)}")
    waiting = 0

    def done(revision: int, error: Exception | None) -> None:
        nonlocal waiting
        waiting -= 1
        assert error is None
        tell(str(revision))

    while True:
        while waiting < 3:
            for _ in range(1 + store.revision % 4):
                store.commit(writes_at(life, store.revision + 1), NO_CAUSE)
            waiting += 1
            store.flush(lambda error, revision=store.revision: done(revision, error))  # type: ignore[misc]
        calls.get()()


def main(directory: str, pipe: int) -> None:
    """Fork writers until there are no more commands."""
    gc.freeze()  # What is not collected in a child need not be copied for it.
    for line in sys.stdin:
        life, call, *owners = line.split()
        pid = os.fork()
        if pid == 0:
            firsts = [owner.partition(":") for owner in owners]
            write(directory, pipe, int(life), int(call), [(int(a), int(b)) for a, _, b in firsts])
            os._exit(1)
        print(pid, flush=True)
        os.waitpid(pid, 0)
        print("dead", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
