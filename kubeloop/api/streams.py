"""Streams into containers and pods: what runtimes implement, and the wire carries on."""

from typing import Protocol


class Session(Protocol):
    """A command in a container, or the streams of its own process."""

    code: int
    """How it has ended, once `read` has returned None."""

    async def read(self) -> tuple[int, bytes] | None:
        """Return what was written, and whether to stdout (1) or stderr (2); None at the end.

        Raises: ApiError if it was cut off.
        """

    async def write(self, data: bytes) -> None:
        """Write to standard input; wait while it has no room. Harmless if nobody reads."""

    def end_input(self) -> None:
        """Say that no more is written."""

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal [characters]; harmless if there is none."""

    def close(self) -> None:
        """Free it. A command that still runs is killed, with what it has started."""


class Connection(Protocol):
    """A connection to a port of a pod."""

    async def read(self) -> bytes:
        """Return what came, b"" when no more will. Raises: OSError."""

    async def write(self, data: bytes) -> None:
        """Send; wait while there is no room. Raises: OSError."""

    def write_eof(self) -> None:
        """Say that no more is sent."""

    def close(self) -> None:
        """End it, whatever is under way."""
