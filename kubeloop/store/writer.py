"""What writes the log: in a thread of its own, so that the loop does not wait for the disk, or
inline.

One group is written at a time. A snapshot is written in pieces between the groups, from values that
never change: whoever commits meanwhile does not notice.
"""

from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import pykka

from kubeloop.store.disk import Lock
from kubeloop.store.history import Version
from kubeloop.store.log import Log

SWITCH_S: Final = 5e-5
"""What `sys.setswitchinterval` should be where the loop and this thread are busy at once.

Python's own, 5 ms, is how long the disk may stand idle because its thread waits for the loop.
"""

Threadsafe = Callable[[Callable[[], None]], None]
Later = Callable[[float, Callable[[], None]], object]
"""(seconds, call): has the loop make a call after some time."""


@dataclass(frozen=True, slots=True)
class Job:
    """A group to be written, and perhaps a version for a snapshot.

    data:  as `Encoder.encode` gives it; b"" only syncs what was written before.
    first: its first revision.
    """

    data: bytes
    first: int
    sync: bool
    snapshot: Version | None = None


class Writer:
    """Does jobs, one at a time.

    threadsafe: runs a call on the loop, from the thread; None does everything inline.
    later:      makes a call after some seconds: what is written inline to a disk that lags is told
                so much later; None: at once.
    """

    def __init__(
        self, log: Log, lock: Lock, threadsafe: Threadsafe | None, later: Later | None = None
    ) -> None:
        self._log, self._lock, self._threadsafe, self._later = log, lock, threadsafe, later
        self._results: deque[Callable[[], None]] = deque()
        self._abandoned = False
        self._actor: Any = None
        if threadsafe is not None:
            self._actor = _SyncActor.start(log, self._answer)
            # The process-wide registry could stop it behind our back.
            pykka.ActorRegistry.unregister(self._actor)

    @property
    def aside(self) -> bool:
        """Whether a thread does it: then the loop goes on meanwhile."""
        return self._actor is not None

    def write(self, job: Job, done: Callable[[OSError | None], None]) -> None:
        """Do a job; `done` is called on the loop."""
        if self._abandoned:
            return
        if self._actor is not None:
            self._actor.tell((job, done))
            return
        error = _write(self._log, job)
        if error is None:
            for _ in _snapshot(self._log, job):
                pass
        self._tell(lambda: done(error))

    def stop(self) -> None:
        """Wait for what is still under way, and go on inline."""
        if self._actor is not None:
            self._actor.stop(block=True)
            self._actor = None
        self._later = None
        self._collect()

    def abandon(self) -> None:
        """Tell of nothing any more, not even of what is under way; the lock is given back."""
        self._abandoned = True
        self._results.clear()
        self._lock.release()

    def close(self) -> None:
        """Let go of the directory."""
        self._log.close()
        self._lock.release()

    def _tell(self, call: Callable[[], None]) -> None:
        """Have a call made on the loop, which is where we are: when the disk has done its work."""
        if self._abandoned:
            return  # The disk itself had it so.
        if self._later is None or not self._log.disk.lag_s:
            call()
        else:
            self._results.append(call)
            self._later(self._log.disk.lag_s, self._collect_one)

    def _answer(self, call: Callable[[], None]) -> None:
        """Have a call made on the loop, or by `stop` if that comes first. In the thread."""
        assert self._threadsafe is not None
        self._results.append(call)
        self._threadsafe(self._collect)

    def _collect_one(self) -> None:
        """Tell what was written first; what that leads to is written then, and told in its time."""
        if self._results:
            self._results.popleft()()

    def _collect(self) -> None:
        while self._results:
            self._results.popleft()()


class _SyncActor(pykka.ThreadingActor):
    """The thread that waits for the disk.

    A snapshot's pieces are messages to itself: groups go in between.
    """

    use_daemon_thread = True

    def __init__(self, log: Log, answer: Callable[[Callable[[], None]], None]) -> None:
        super().__init__()
        self._log, self._answer = log, answer
        self._snapshot: Generator[int, None, None] | None = None

    def on_receive(self, message: Any) -> None:
        if message is _NEXT_PIECE:
            self._write_piece()
            return
        job, done = message
        error = _write(self._log, job)
        self._answer(lambda: done(error))
        if error is not None:
            return
        if job.snapshot is not None and self._snapshot is None:
            self._snapshot = _snapshot(self._log, job)
            self._write_piece()
        elif job.sync and self.actor_inbox.empty():
            self._log.prepare()  # Nobody waits: there is time for it.

    def on_stop(self) -> None:
        if self._snapshot is not None:
            self._snapshot.close()  # What there is of it is removed on the next opening.

    def _write_piece(self) -> None:
        assert self._snapshot is not None
        if next(self._snapshot, None) is None:
            self._snapshot = None
        else:
            self.actor_ref.tell(_NEXT_PIECE)


_NEXT_PIECE: Final = "next piece"


def _write(log: Log, job: Job) -> OSError | None:
    """Append a group; return what went wrong."""
    try:
        if job.data:
            log.append(job.data, job.first, sync=job.sync)
        elif job.sync:
            log.sync()
    except OSError as error:
        return error
    return None


def _snapshot(log: Log, job: Job) -> Generator[int, None, None]:
    """Write the snapshot of a job, if it has one; yield after every piece."""
    if job.snapshot is None:
        return
    # If it fails, the log is as good as before, and the next one is tried in its time.
    with suppress(OSError):
        yield from log.snapshot(job.snapshot)
