"""What a container writes: kept on disk in the CRI log format, bounded, and read while it grows.

    2016-10-06T00:17:09.669794202Z stdout F a whole line
    2016-10-06T00:17:09.669794202Z stderr P the beginning of a long one…

One run of a container has two files at most: the one being written and the one before, each half
of the limit. So at least half of the limit is always there, and never more than the limit.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

LOG_BYTES_MAX: Final = 10 * 1024 * 1024
LINE_BYTES_MAX: Final = 16 * 1024  # Longer lines are kept in parts, as container engines do.
CHUNK: Final = 65_536


class Log:
    """The output of one run of a container. wall: Unix time. Used on one event loop."""

    def __init__(
        self, path: Path, wall: Callable[[], float], *, bytes_max: int = LOG_BYTES_MAX
    ) -> None:
        self.path, self.wall, self.bytes_max = path, wall, bytes_max
        self.generation = 0  # How many files were begun after the first.
        self.ended = False
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115 - closed by `end`.
        self._size = 0
        self._rest: dict[str, bytes] = {}
        self._waiting: set[asyncio.Event] = set()

    def write(self, stream: str, data: bytes) -> None:
        """Take what was written to `stream`, in pieces of any size."""
        if self.ended:
            return
        *lines, rest = (self._rest.get(stream, b"") + data).split(b"\n")
        head = f"{_stamp(self.wall())} {stream} ".encode()
        entries = []
        for line in lines:
            while len(line) > LINE_BYTES_MAX:
                entries.append(head + b"P " + line[:LINE_BYTES_MAX] + b"\n")
                line = line[LINE_BYTES_MAX:]
            entries.append(head + b"F " + line + b"\n")
        while len(rest) > LINE_BYTES_MAX:
            entries.append(head + b"P " + rest[:LINE_BYTES_MAX] + b"\n")
            rest = rest[LINE_BYTES_MAX:]
        self._rest[stream] = rest
        self._append(entries)

    def end(self) -> None:
        """The run is over: keep what had no newline, and let readers finish."""
        if self.ended:
            return
        for stream, rest in self._rest.items():
            if rest:
                self._append([f"{_stamp(self.wall())} {stream} P ".encode() + rest + b"\n"])
        self.ended = True
        self._file.close()
        self._wake()

    async def read(self, *, follow: bool) -> AsyncGenerator[tuple[float, bytes], None]:
        """Yield (unix time, line with its newline); with `follow` until the run ends."""
        generation = max(0, self.generation - 1)
        changed = asyncio.Event()
        self._waiting.add(changed)
        file = open(self._path(generation), "rb")  # noqa: SIM115 - replaced as files rotate.
        try:
            while True:
                changed.clear()
                for line in file.readlines(CHUNK):
                    yield _parse(line)
                if file.tell() < os.fstat(file.fileno()).st_size:
                    await asyncio.sleep(0)  # A long log must not hold the loop.
                elif generation < self.generation:
                    generation = max(generation + 1, self.generation - 1)
                    file.close()
                    file = open(self._path(generation), "rb")  # noqa: SIM115 - as above.
                elif self.ended or not follow:
                    return
                else:
                    await changed.wait()
        finally:
            self._waiting.discard(changed)
            file.close()

    def _path(self, generation: int) -> Path:
        return self.path if generation == self.generation else self.path.with_suffix(".old")

    def _append(self, entries: list[bytes]) -> None:
        for entry in entries:
            if self._size + len(entry) > self.bytes_max // 2 and self._size:
                self._rotate()
            self._file.write(entry)
            self._size += len(entry)
        if entries:
            self._wake()

    def _rotate(self) -> None:
        self._file.close()
        self.path.rename(self.path.with_suffix(".old"))
        self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115 - closed by `end`.
        self._size, self.generation = 0, self.generation + 1

    def _wake(self) -> None:
        for changed in self._waiting:
            changed.set()


class Sink(Protocol):
    """Takes output."""

    def write(self, stream: str, data: bytes) -> None:
        """Take what was written to `stream`."""


class Output:
    """The reading end of a pipe (or terminal) that a container writes to."""

    def __init__(self, fd: int, stream: str, log: Sink) -> None:
        self.fd, self.stream, self.log = fd, stream, log
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self.take)

    def take(self) -> bool:
        """Take one chunk; tell whether there may be more."""
        if self.fd < 0:
            return False
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            return False
        except OSError:  # A terminal whose other end is closed.
            data = b""
        if data:
            self.log.write(self.stream, data)
            return True
        self.close()
        return False

    def finish(self) -> None:
        """The writer is gone: take all that is left, and close."""
        while self.take():
            pass
        self.close()

    def close(self) -> None:
        """Stop reading."""
        if self.fd >= 0:
            self._loop.remove_reader(self.fd)
            os.close(self.fd)
            self.fd = -1


def _stamp(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def _parse(entry: bytes) -> tuple[float, bytes]:
    """Return (unix time, text) of one entry."""
    stamp, _, tag, text = entry.split(b" ", 3)
    unix_s = datetime.fromisoformat(stamp[:26].decode() + "+00:00").timestamp()
    return unix_s, text if tag == b"F" else text[:-1]
