"""Connections into pods: over a socket of the loop's, or to a program that is only simulated."""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

CHUNK: Final = 64 << 10
LIMIT: Final = 256 << 10  # What waits to be read [bytes].


class SocketConnection:
    """A connected socket: implements `Connection`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def of(cls, sock: socket.socket) -> "SocketConnection":
        """Return the connection over a connected socket, which it owns."""
        try:
            return cls(*await asyncio.open_connection(sock=sock, limit=LIMIT))
        except BaseException:
            sock.close()
            raise

    @classmethod
    async def to(cls, ip: str, port: int) -> "SocketConnection":
        """Connect over the loop's own network. Raises: OSError."""
        return cls(*await asyncio.open_connection(ip, port, limit=LIMIT))

    async def read(self) -> bytes:
        return await self._reader.read(CHUNK)

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    def write_eof(self) -> None:
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    def close(self) -> None:
        self._writer.close()


class ScriptedConnection:
    """A connection to a program that is only simulated: implements `Connection`.

    answer: called with each piece that comes, b"" at the end; returns what the program sends then,
    and whether it goes on.
    """

    def __init__(self, answer: Callable[[bytes], tuple[bytes, bool]]) -> None:
        self._answer = answer
        self._out = bytearray()
        self._over = False
        self._changed = asyncio.Event()

    async def read(self) -> bytes:
        while not self._out and not self._over:
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._out[:CHUNK])
        del self._out[: len(data)]
        return data

    async def write(self, data: bytes) -> None:
        if self._over:
            raise ConnectionResetError("the program has hung up")
        self._take(data)

    def write_eof(self) -> None:
        if not self._over:
            self._take(b"")

    def close(self) -> None:
        self._over = True
        self._changed.set()

    def _take(self, data: bytes) -> None:
        answer, goes_on = self._answer(data)
        self._out += answer
        self._over = not goes_on
        self._changed.set()
