"""An etcd client that costs next to nothing: gRPC as far as the benchmark needs it, by hand.

A stock Python client takes longer for a request than etcd does, and would be what is measured.
Here a request is two HTTP/2 frames whose headers never change (RFC 9113; HPACK without its table,
RFC 7541), around a protobuf message that is joined from bytes; of an answer only the lengths are
read, and its trailers not at all: an answer without a message was a refusal.

A connection makes one call at a time, less than its 64 KiB window at once, so it never has to wait
for room; what it receives it acknowledges in large pieces.
"""

import asyncio
from collections.abc import Callable
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEADER_SIZE: Final = 9
_FRAME_MAX: Final = 16_384
_WINDOW_MAX: Final = 2**31 - 1
_ACKNOWLEDGE: Final = 2**26  # Bytes received before the peer is given room for as many again.

PUT, RANGE, WATCH = "KV/Put", "KV/Range", "Watch/Watch"


def field(number: int, value: bytes) -> bytes:
    """Return a protobuf field of bytes, a string or a message."""
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def put(key: str, value: bytes) -> bytes:
    """Return a PutRequest."""
    return field(1, key.encode()) + field(2, value)


def span(prefix: str) -> bytes:
    """Return the fields key and range_end of all keys with a prefix: also a linearizable Range."""
    first = prefix.encode()
    return field(1, first) + field(2, first[:-1] + bytes([first[-1] + 1]))


def watch(prefix: str) -> bytes:
    """Return a WatchRequest that creates a watcher of a prefix, from now on."""
    return field(1, span(prefix))


class Refused(Exception):
    """etcd gave no answer."""


class Connection(asyncio.Protocol):
    """A connection to etcd that makes one call at a time, or holds one stream of watchers."""

    def __init__(self) -> None:
        self.stream = -1
        self.on_message: Callable[[bytes], None] | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._tail = b""  # Of what was received: a frame that is not whole.
        self._body = bytearray()
        self._owed = 0
        self._heads: dict[str, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        windows = (4).to_bytes(2) + _WINDOW_MAX.to_bytes(4)
        room = _frame(_WINDOW, 0, 0, (_WINDOW_MAX - 65_535).to_bytes(4))
        transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, windows) + room)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"the connection is lost: {error}")

    def call(self, method: str, message: bytes) -> asyncio.Future[bytes]:
        """Ask; return what will be the answer, a protobuf message. Raises there: Refused."""
        self._answer = asyncio.get_running_loop().create_future()
        self._begin(method, message, _END_STREAM)
        return self._answer

    def open(self, method: str, on_message: Callable[[bytes], None]) -> None:
        """Begin a stream; `on_message` is given every message that comes."""
        self.on_message = on_message
        self._begin(method, b"", 0)

    def send(self, messages: list[bytes]) -> None:
        """Send on the stream."""
        body = b"".join(b"\0" + len(message).to_bytes(4) + message for message in messages)
        self.transport.write(self._data(body, 0))

    def data_received(self, data: bytes) -> None:
        data, at = self._tail + data, 0
        while len(data) - at >= _HEADER_SIZE:
            begin = at + _HEADER_SIZE
            end = begin + int.from_bytes(data[at : at + 3])
            if end > len(data):
                break
            self._handle(data[at + 3], data[at + 4], data[begin:end])
            at = end
        self._tail = data[at:]

    def _handle(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self._body += payload
            self._owed += len(payload)
            if self._owed >= _ACKNOWLEDGE:
                room, self._owed = self._owed.to_bytes(4), 0
                frames = (_frame(_WINDOW, 0, stream, room) for stream in (0, self.stream))
                self.transport.write(b"".join(frames))
            if self.on_message is not None:
                self._split(self.on_message)
        elif kind == _HEADERS and flags & _END_STREAM:
            self._ended()
        elif kind == _SETTINGS and not flags & _ACK:
            self.transport.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self.transport.write(_frame(_PING, _ACK, 0, payload))
        elif kind in (_RST, _GOAWAY):
            self._fail(f"etcd ended it: {payload!r}")

    def _split(self, on_message: Callable[[bytes], None]) -> None:
        body, at = bytes(self._body), 0
        while len(body) - at >= 5:
            end = at + 5 + int.from_bytes(body[at + 1 : at + 5])
            if end > len(body):
                break
            on_message(body[at + 5 : end])
            at = end
        del self._body[:at]

    def _ended(self) -> None:
        if self._answer is None or not self._body:
            self._fail("etcd refused")
            return
        answer, self._answer = self._answer, None
        body = bytes(self._body[5:])
        self._body.clear()
        if not answer.done():
            answer.set_result(body)

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Refused(reason))

    def _begin(self, method: str, message: bytes, flags: int) -> None:
        self.stream += 2
        self._body.clear()
        head = self._heads.setdefault(method, _head(method))
        body = b"\0" + len(message).to_bytes(4) + message if message else b""
        frames = _frame(_HEADERS, _END_HEADERS, self.stream, head)
        self.transport.write(frames + (self._data(body, flags) if body else b""))

    def _data(self, body: bytes, flags: int) -> bytes:
        assert len(body) < 48 * 1024, "the window might be too small"
        pieces = [body[at : at + _FRAME_MAX] for at in range(0, len(body), _FRAME_MAX)]
        last = len(pieces) - 1
        return b"".join(
            _frame(_DATA, flags if n == last else 0, self.stream, piece)
            for n, piece in enumerate(pieces)
        )


async def connect(port: int) -> Connection:
    """Return a connection to the etcd on a port of this machine. Raises: OSError."""
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _head(method: str) -> bytes:
    """Return the request's header block; names by their index in HPACK's static table."""
    path = f"/etcdserverpb.{method}".encode()
    return b"".join(
        [
            b"\x83\x86",  # :method POST, :scheme http
            b"\x04" + bytes([len(path)]) + path,
            b"\x01\x09localhost",
            b"\x0f\x10\x10application/grpc",  # content-type
            b"\x00\x02te\x08trailers",
        ]
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
