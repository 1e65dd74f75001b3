"""A process that writes to a store as fast as it can, and tells on a pipe what it was promised.

    python -m tests.store.writer DIRECTORY

Prints "open REVISION", then "REVISION" for every commit that was acknowledged. It runs until it is
killed. Values say who wrote them and when, so that they can be checked.
"""

import os
import queue
import sys
from collections.abc import Callable

from kubeloop.store import log as log_module
from kubeloop.store import store as store_module
from kubeloop.store.disk import RealDisk
from kubeloop.store.facts import NO_CAUSE, key_of
from kubeloop.store.history import Retention, Write
from kubeloop.store.store import Store

store_module.SNAPSHOT_BYTES = 300_000  # type: ignore[misc]
log_module.SEGMENT_BYTES = 100_000  # type: ignore[misc]
log_module.AHEAD_BYTES = 40_000  # type: ignore[misc]
KEYS = 100
BATCH = 5


def value_at(revision: int) -> bytes:
    """Return what is written at a revision."""
    return b"%d " % revision + bytes(range(256)) * (revision % 12)


def key_at(revision: int) -> str:
    """Return the key that is written at a revision."""
    return key_of("pods", "default", f"p{revision * 7919 % KEYS}")


def main(directory: str) -> None:
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    store = Store.open(
        RealDisk(),
        directory,
        threadsafe=calls.put,
        fresh_id=bytes(16),
        retention=Retention(revisions=200),
    )
    tell(f"open {store.revision}")
    waiting = 0

    def done(revision: int, error: Exception | None) -> None:
        nonlocal waiting
        waiting -= 1
        assert error is None
        tell(str(revision))

    while True:
        while waiting < 3:
            for _ in range(BATCH):
                at = store.revision + 1
                store.commit([Write(key_at(at), value_at(at))], NO_CAUSE)
            waiting += 1
            store.flush(lambda error, revision=store.revision: done(revision, error))  # type: ignore[misc]
        calls.get()()


def tell(line: str) -> None:
    os.write(1, f"{line}\n".encode())


if __name__ == "__main__":
    main(sys.argv[1])
