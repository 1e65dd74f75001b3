"""`port-forward`: streams of a client joined to connections to a pod's ports.

Over SPDY, plain or inside a WebSocket, a client opens two streams for every connection: one for
errors, one for data, with headers `streamType`, `port` and `requestID`. Over WebSocket channels
there is one connection for every port asked for: channel 2n its data, 2n + 1 its errors; the first
message on each is the port, little-endian.

What a pod does not read waits here, up to WAITING_MAX for all connections of a client together;
then the client has to wait.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from aiohttp import WSMsgType, web

from kubeloop.api.streams import Connection
from kubeloop.net.streaming import spdy
from kubeloop.net.streaming.ducts import Duct
from kubeloop.net.streaming.spdy_headers import SpdyError

PROTOCOL: Final = "portforward.k8s.io"
TUNNEL: Final = "SPDY/3.1+portforward.k8s.io"
CHANNELS: Final = "v4.channel.k8s.io"
WAITING_MAX: Final = 4 << 20  # [bytes]

Connect = Callable[[int], Awaitable[Connection]]
"""(port) → a connection to it. Raises: OSError, ApiError."""
Send = Callable[[bytes], Awaitable[None]]


class Inflow:
    """What a client sends for one connection, until it is taken."""

    def __init__(self, pool: "Pool") -> None:
        self._pool, self._pieces = pool, deque[bytes]()
        self._ended = False
        self._changed = asyncio.Event()

    def put(self, data: bytes) -> None:
        """Add what came."""
        if data and not self._ended:
            self._pieces.append(data)
            self._pool.add(len(data))
            self._changed.set()

    def end(self) -> None:
        """No more will come."""
        self._ended = True
        self._changed.set()

    async def take(self) -> bytes:
        """Return the next piece, b"" at the end."""
        while not self._pieces:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._pieces.popleft()
        self._pool.add(-len(data))
        return data

    def drop(self) -> None:
        """Nobody takes it any more."""
        self._ended = True
        self._pool.add(-sum(map(len, self._pieces)))
        self._pieces.clear()
        self._changed.set()


class Pool:
    """How much waits in all inflows of a client."""

    def __init__(self) -> None:
        self.waiting = 0
        self._changed = asyncio.Event()

    def add(self, size: int) -> None:
        """Count bytes that came, or less than 0 that went."""
        self.waiting += size
        self._changed.set()

    async def room(self) -> None:
        """Return when more may come."""
        while self.waiting > WAITING_MAX:
            self._changed.clear()
            await self._changed.wait()


async def join(connection: Connection, inflow: Inflow, send: Send) -> None:
    """Carry bytes both ways until both ends have said all, or one of them is gone."""

    async def inward() -> None:
        while data := await inflow.take():
            await connection.write(data)
        connection.write_eof()

    async def outward() -> None:
        while data := await connection.read():
            await send(data)
        await send(b"")

    tasks = [asyncio.create_task(work) for work in (outward(), inward())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except OSError:
        return
    finally:
        for task in tasks:
            task.cancel()
        connection.close()
        inflow.drop()
        await asyncio.gather(*tasks, return_exceptions=True)


class SpdyForwarding:
    """All connections of one client over SPDY."""

    def __init__(self, duct: Duct, connect: Connect) -> None:
        self._duct, self._connect = duct, connect
        self._spdy = spdy.Connection()
        self._pool = Pool()
        self._inflows: dict[int, Inflow] = {}  # Of data streams.
        self._halves: dict[str, tuple[str, int]] = {}  # Request → type and number of its stream.
        self._errors: dict[int, asyncio.Task[None]] = {}  # Data stream → what serves it.

    async def run(self) -> None:
        """Serve until the client goes; then end all its connections."""
        try:
            while data := await self._duct.read():
                try:
                    for event in self._spdy.receive(data):
                        self._handle(event)
                finally:
                    await self._flush()
                await self._pool.room()
        except (ConnectionError, SpdyError):
            return
        finally:
            tasks = tuple(self._errors.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._duct.close()

    async def _flush(self) -> None:
        await self._duct.write(self._spdy.take())

    def _handle(self, event: spdy.Event) -> None:
        match event:
            case spdy.Opened(stream, headers):
                self._opened(stream, headers)
            case spdy.Received(stream, data, ended) if stream in self._inflows:
                self._inflows[stream].put(data)
                if ended:
                    self._inflows[stream].end()
            case spdy.Reset(stream, _) if stream in self._inflows:
                self._inflows[stream].drop()
                self._errors[stream].cancel()
            case _:
                return

    def _opened(self, stream: int, headers: Mapping[str, str]) -> None:
        """Take a stream; with the second of a pair the connection begins."""
        kind, text = headers.get("streamtype", ""), headers.get("port", "")
        port = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
        if kind not in ("data", "error") or not 1 <= port <= 0xFFFF:
            self._spdy.reset(stream, spdy.PROTOCOL_ERROR)
            return
        # Old clients tell no id: their data stream follows the one for errors.
        request = headers.get("requestid") or str(stream if kind == "error" else stream - 2)
        if kind == "data":
            self._inflows[stream] = Inflow(self._pool)
        self._spdy.reply(stream)
        other = self._halves.pop(request, None)
        if other is None or other[0] == kind:
            self._halves[request] = kind, stream
            return
        data, error = (stream, other[1]) if kind == "data" else (other[1], stream)
        task = asyncio.create_task(self._serve(data, error, port))
        self._errors[data] = task
        task.add_done_callback(lambda _: self._forget(data))

    def _forget(self, data: int) -> None:
        self._errors.pop(data, None)
        self._inflows.pop(data, None)

    async def _serve(self, data: int, error: int, port: int) -> None:
        """Serve one connection."""

        async def send(piece: bytes) -> None:
            self._spdy.send(data, piece, fin=not piece)
            await self._flush()

        try:
            try:
                connection = await self._connect(port)
            except OSError as failure:
                self._spdy.send(error, str(failure).encode())
            else:
                await join(connection, self._inflows[data], send)
            for stream in (data, error):
                self._spdy.send(stream, b"", fin=True)
            await self._flush()
        except ConnectionError:
            return


class ChannelForwarding:
    """The connections of one client over the channels of a WebSocket, one for every port."""

    def __init__(
        self, socket: web.WebSocketResponse, connect: Connect, ports: Sequence[int]
    ) -> None:
        self._socket, self._connect, self._ports = socket, connect, ports
        self._pool = Pool()
        self._inflows = [Inflow(self._pool) for _ in ports]

    async def run(self) -> None:
        """Serve until the client goes, or every connection has ended."""
        tasks = [asyncio.create_task(self._serve(n)) for n in range(len(self._ports))]
        reading = asyncio.create_task(self._read())
        try:
            ended = asyncio.gather(*tasks)
            await asyncio.wait((ended, reading), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, reading):
                task.cancel()
            await asyncio.gather(*tasks, reading, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        while True:
            message = await self._socket.receive()
            if message.type != WSMsgType.BINARY:
                return
            channel, data = message.data[:1], message.data[1:]
            if not channel or channel[0] >= 2 * len(self._ports):
                return  # As Kubernetes has it: a client that is lost in its channels is let go.
            if not channel[0] % 2:
                self._inflows[channel[0] // 2].put(data)
            await self._pool.room()

    async def _serve(self, number: int) -> None:
        port, data, error = self._ports[number], 2 * number, 2 * number + 1

        async def send(piece: bytes) -> None:
            if piece:
                await self._socket.send_bytes(bytes((data,)) + piece)
            else:  # A client cannot say that it has ended: a pod that has is the end of both.
                self._inflows[number].end()

        try:
            for channel in (data, error):
                await self._socket.send_bytes(struct.pack("<BH", channel, port))
            try:
                connection = await self._connect(port)
            except OSError as failure:
                await self._socket.send_bytes(bytes((error,)) + str(failure).encode())
            else:
                inflow = self._inflows[number]
                await join(connection, inflow, send)
        except ConnectionError:
            return
