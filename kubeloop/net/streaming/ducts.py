"""Ducts: bytes to and from a client whose connection has left HTTP behind.

Either the connection itself, taken over from the HTTP server, or the binary messages of a
WebSocket. Whoever writes waits while the client does not read.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from aiohttp import WSCloseCode, WSMsgType, web

LINGER_S: Final = 5.0  # How long a client has to take note of the end.
_READ_MAX: Final = 256 << 10


class Duct(Protocol):
    """Bytes both ways."""

    async def read(self) -> bytes:
        """Return what came, b"" when no more will."""

    async def write(self, data: bytes) -> None:
        """Send, in the order of the calls. Raises: ConnectionError."""

    async def close(self) -> None:
        """Have all that was written arrive, and close."""


class _Taken(asyncio.StreamReaderProtocol):
    """In the place of the HTTP server's protocol, which is told only of the end."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


class RawDuct:
    """A connection taken over from the HTTP server."""

    def __init__(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self._transport = transport
        self._reader = asyncio.StreamReader(limit=_READ_MAX, loop=loop)
        protocol = _Taken(self._reader, transport.get_protocol())
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        if not transport.is_reading():
            transport.resume_reading()
        self._writer = asyncio.StreamWriter(transport, protocol, self._reader, loop)

    async def read(self) -> bytes:
        try:
            return await self._reader.read(_READ_MAX)
        except ConnectionError:
            return b""

    async def write(self, data: bytes) -> None:
        if data:
            if self._transport.is_closing():
                raise ConnectionResetError("the client has gone")
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        """As `Duct.close`: what the client still sends is read, else it might miss the end."""
        try:
            async with asyncio.timeout(LINGER_S):
                if self._transport.can_write_eof():
                    self._writer.write_eof()
                while await self.read():
                    pass
        except (TimeoutError, OSError):
            pass
        finally:
            self._transport.close()


class WebSocketDuct:
    """The binary messages of a WebSocket, joined."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return b""
            data = message.data.encode() if message.type == WSMsgType.TEXT else message.data
            if data:
                return bytes(data)

    async def write(self, data: bytes) -> None:
        if data:
            await self._socket.send_bytes(data)

    async def close(self) -> None:
        await self._socket.close(code=WSCloseCode.OK)


def switch(request: web.BaseRequest, headers: Mapping[str, str]) -> RawDuct:
    """Answer 101 and take the connection over. Raises: ConnectionResetError."""
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    lines = ["HTTP/1.1 101 Switching Protocols"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    duct = RawDuct(transport)
    transport.write("\r\n".join([*lines, "", ""]).encode())
    return duct


async def accept(
    request: web.BaseRequest, protocol: str, headers: Mapping[str, str]
) -> web.WebSocketResponse:
    """Answer a WebSocket handshake. protocol: chosen of those that were offered, "" for none."""
    socket = web.WebSocketResponse(
        protocols=(protocol,) if protocol else (), timeout=LINGER_S, compress=False
    )
    socket.headers.update(headers)
    await socket.prepare(request)
    return socket
