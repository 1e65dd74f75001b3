"""Recording a cluster: a directory with one tape for each actor; see `actors.tapes`."""

import errno
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from kubeloop.actors import tapes
from kubeloop.actors.supervisor import Supervisor

logger = logging.getLogger("kubeloop")


class RecordingFailed(Exception):
    """It could not be begun; the message says why."""


def prepare(directory: Path) -> None:
    """Make the directory of a recording, which only its owner may read: tapes hold Secrets.

    Raises: RecordingFailed.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = "" if os.access(directory, os.W_OK | os.X_OK) else os.strerror(errno.EACCES)
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        raise RecordingFailed(
            f"recording in {directory} cannot begin: {problem}; name a directory that is there "
            "and can be written, or one that can be made"
        )


class Recordings:
    """Records actors until it is stopped, or the `with` block ends. paths: of the tapes."""

    def __init__(self, supervisor: Supervisor, directory: Path, actors: Sequence[str] = ()) -> None:
        """Begin; no actors: all there are that can be recorded.

        Raises: RecordingFailed for an actor that is not there or cannot be recorded, and for a
        directory that cannot be written.
        """
        names = list(actors) or [
            name for name in supervisor.names() if not name.startswith("elector/")
        ]
        prepare(directory)
        self.paths = {name: directory / f"{name.replace('/', '-')}.tape" for name in names}
        self._files: list[_File] = []
        self._running: list[tapes.Recording] = []
        try:
            for name, path in self.paths.items():
                self._files.append(file := _File(path))
                self._running.append(tapes.record(supervisor, name, file.write))
        except (OSError, ValueError) as error:
            self.stop()
            raise RecordingFailed(f"recording in {directory} cannot begin: {error}") from error

    def stop(self) -> None:
        """Record no more; the cluster goes on. Harmless if it is stopped."""
        for recording in self._running:
            recording.stop()
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


class Recordable:
    """What a cluster does to be recorded. supervisor: of its actors."""

    supervisor: Supervisor

    def record(self, directory: Path | str, *, actors: Sequence[str] = ()) -> Recordings:
        """Record what actors hear and say, all if none is named, until that is stopped.

        Each begins anew, as after a failure, and has a tape in `directory`, for `kubeloop replay`.
        Raises: RecordingFailed.
        """
        return Recordings(self.supervisor, Path(directory), actors)


class _File:
    """A file nobody fails with: if it cannot be written there is no more of it, and that is told.

    It is written without a buffer, so that it ends with what its process did last.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append."""
        if self._file.closed:
            return
        try:
            self._file.write(data)
        except OSError as error:
            logger.error("%s cannot be written, and ends here: %s", self._path, error)
            self.close()

    def close(self) -> None:
        """Harmless if it is closed."""
        self._file.close()
