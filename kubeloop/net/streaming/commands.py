"""`exec` and `attach`: a client's channels joined to a session in a container.

    client ── wire (WebSocket channels, or SPDY streams) ── run ── session (runtime)

Two loops: one carries input and sizes in, the other carries output out and then tells how it ended.
When the client goes, the session is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from aiohttp import WSMsgType, web

from kubeloop.api.errors import ApiError, BadRequest
from kubeloop.api.streams import Session
from kubeloop.net.streaming import channels, spdy
from kubeloop.net.streaming.channels import ERROR, ChannelError, Input, InputEnded, Resize, Told
from kubeloop.net.streaming.ducts import Duct
from kubeloop.net.streaming.seams import Wishes
from kubeloop.net.streaming.spdy_headers import SpdyError

CREATION_S: Final = 30.0  # How long a client has to open its SPDY streams.
_CHUNK: Final = 32 << 10  # A message's most: what Kubernetes' own clients expect.


class Wire(Protocol):
    """A client that has been let in."""

    async def receive(self) -> Told | None:
        """Return what it tells next; None if it has gone. Raises: ChannelError."""

    async def send(self, channel: int, data: bytes) -> None:
        """Send on a channel. Raises: ConnectionError."""

    async def finish(self, status: dict[str, Any]) -> None:
        """Tell how it ended, and close."""


class WebSocketWire:
    """Channels in the messages of a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse, protocol: channels.Protocol) -> None:
        self._socket, self._protocol = socket, protocol

    async def receive(self) -> Told | None:
        while True:
            message = await self._socket.receive()
            if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
                return None
            told = self._protocol.decode(message.data)
            if told is not None:
                return told

    async def send(self, channel: int, data: bytes) -> None:
        message = self._protocol.encode(channel, data)
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)

    async def finish(self, status: dict[str, Any]) -> None:
        if not self._socket.closed:
            await self.send(ERROR, channels.told_status(self._protocol.number, status))
        await self._socket.close()


class SpdyWire:
    """A SPDY stream per channel; the client opens them."""

    NAMES: Final = {"stdin": 0, "stdout": 1, "stderr": 2, "error": 3, "resize": 4}

    def __init__(self, duct: Duct, protocol: channels.Protocol) -> None:
        self._duct, self._protocol = duct, protocol
        self._spdy = spdy.Connection()
        self._streams: dict[int, int] = {}  # Channel → stream.
        self._told: list[Told] = []
        self._size = b""

    async def begin(self, wishes: Wishes) -> None:
        """Wait until the client has opened its streams. Raises: ChannelError, TimeoutError."""
        wanted = [ERROR]
        wanted += [1] * wishes.wants(1) + [2] * wishes.wants(2) + [0] * wishes.stdin
        wanted += [4] * (wishes.tty and self._protocol.number >= 3)
        async with asyncio.timeout(CREATION_S):
            while any(channel not in self._streams for channel in wanted):
                if not await self._more():
                    raise ConnectionResetError("the client has gone")

    async def receive(self) -> Told | None:
        while not self._told:
            if not await self._more():
                return None
        return self._told.pop(0)

    async def send(self, channel: int, data: bytes) -> None:
        if channel in self._streams:
            self._spdy.send(self._streams[channel], data)
            await self._duct.write(self._spdy.take())

    async def finish(self, status: dict[str, Any]) -> None:
        text = channels.told_status(self._protocol.number, status)
        if text and ERROR in self._streams:
            self._spdy.send(self._streams[ERROR], text)
        for stream in self._streams.values():
            self._spdy.send(stream, b"", fin=True)
        await self._duct.write(self._spdy.take())
        await self._duct.close()

    async def _more(self) -> bool:
        """Take in what the client sends next; return False if it has gone."""
        data = await self._duct.read()
        if not data:
            return False
        try:
            for event in self._spdy.receive(data):
                self._handle(event)
        except SpdyError as error:
            raise ChannelError(str(error)) from error
        finally:
            await self._duct.write(self._spdy.take())
        return True

    def _handle(self, event: spdy.Event) -> None:
        stdin, resize = self._streams.get(0), self._streams.get(4)
        match event:
            case spdy.Opened(stream, headers):
                name = headers.get("streamtype", "")
                channel = self.NAMES.get(name)
                if channel is None or channel in self._streams:
                    raise ChannelError(f"unexpected stream type: {name!r}")
                self._streams[channel] = stream
                self._spdy.reply(stream)
            case spdy.Received(stream, data, ended) if stream == stdin:
                if data:
                    self._told.append(Input(data))
                if ended:
                    self._told.append(InputEnded())
            case spdy.Received(stream, data, _) if stream == resize:
                self._resize(data)
            case _:
                return

    def _resize(self, data: bytes) -> None:
        """Take sizes, one JSON object after the other, in pieces of any length."""
        *whole, self._size = (self._size + data).split(b"}")
        self._told += [channels.read_size(text + b"}") for text in whole]
        if len(self._size) > _CHUNK:
            raise ChannelError("the size of a terminal does not end")


Open = Callable[[], Awaitable[Session]]


async def run(wire: Wire, begin: Open, wishes: Wishes) -> None:
    """Join a client to a session until one of them ends.

    begin: starts the session; its ApiError is told to the client.
    """
    try:
        session = await begin()
    except ApiError as error:
        await _finish(wire, error.status())
        return
    outward = asyncio.create_task(_outward(wire, session, wishes))
    inward = asyncio.create_task(_inward(wire, session))
    status: dict[str, Any] | None = None
    try:
        await asyncio.wait((outward, inward), return_when=asyncio.FIRST_COMPLETED)
        if outward.done():
            status = outward.result()
        else:
            inward.result()
    except ApiError as error:
        status = error.status()
    except ConnectionError:
        return
    finally:
        outward.cancel()
        inward.cancel()
        session.close()
        await asyncio.gather(outward, inward, return_exceptions=True)
    if status is not None:
        await _finish(wire, status)


async def _finish(wire: Wire, status: dict[str, Any]) -> None:
    try:
        await wire.finish(status)
    except ConnectionError:
        return


async def _outward(wire: Wire, session: Session, wishes: Wishes) -> dict[str, Any]:
    """Carry output until there is no more; return how it ended."""
    while (found := await session.read()) is not None:
        stream, data = found
        if not wishes.wants(stream):
            continue
        for at in range(0, len(data), _CHUNK):
            await wire.send(stream, data[at : at + _CHUNK])
    if not wishes.command:  # Who attaches is told that it is over, not how.
        return channels.exit_status(0, ())
    return channels.exit_status(session.code, wishes.command)


async def _inward(wire: Wire, session: Session) -> None:
    """Carry input until the client has gone. Raises: BadRequest for what means nothing."""
    try:
        while (told := await wire.receive()) is not None:
            match told:
                case Input(data):
                    await session.write(data)
                case InputEnded():
                    session.end_input()
                case Resize(width, height):
                    session.resize(width, height)
    except ChannelError as error:
        raise BadRequest(str(error)) from error
