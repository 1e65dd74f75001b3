"""An etcd client that costs next to nothing: gRPC as far as the benchmark needs it, by hand.

A stock Python client takes longer for a request than etcd does, and would be what is measured.
Here a request is two HTTP/2 frames whose headers never change (RFC 9113; HPACK without its table,
RFC 7541), around a protobuf message that is joined from bytes; of an answer only the lengths are
read, and its trailers not at all: an answer without a message was a refusal.

What is under way on a connection must be less than its window (`ROOM`), so it never waits for room;
what it receives it acknowledges in large pieces.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_HEADER_SIZE: Final = 9
_PREFIX_SIZE: Final = 5  # Of a gRPC message.
_FRAME_MAX: Final = 16_384
_WINDOW_MAX: Final = 2**31 - 1
ROOM: Final = 48 * 1024  # etcd lets 64 KiB come, and tells of new room 16 KiB late.
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
    """A connection to etcd: for calls, as many at a time as one likes, or for a stream."""

    def __init__(self) -> None:
        self._stream = -1  # The newest.
        self._on_message: Callable[[bytes], None] | None = None
        self._answers: dict[int, asyncio.Future[bytes]] = {}
        self._bodies: dict[int, bytearray] = {}
        self._tail = b""  # Of what was received: a frame that is not whole.
        self._owed = 0
        self._heads = {method: _head(method) for method in (PUT, RANGE, WATCH)}

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
        self._stream += 2
        answer = asyncio.get_running_loop().create_future()
        self._answers[self._stream] = answer
        head = _frame(_HEADERS, _END_HEADERS, self._stream, self._heads[method])
        self.transport.write(head + self._data([message], _END_STREAM))
        return answer

    def open(self, method: str, on_message: Callable[[bytes], None]) -> None:
        """Begin the only stream of this connection; `on_message` is given every message."""
        self._stream += 2
        self._on_message = on_message
        self.transport.write(_frame(_HEADERS, _END_HEADERS, self._stream, self._heads[method]))

    def send(self, messages: Sequence[bytes]) -> None:
        """Send on the stream."""
        if messages:
            self.transport.write(self._data(messages, 0))

    def data_received(self, data: bytes) -> None:
        data, at = self._tail + data, 0
        while len(data) - at >= _HEADER_SIZE:
            begin = at + _HEADER_SIZE
            end = begin + int.from_bytes(data[at : at + 3])
            if end > len(data):
                break
            if data[at + 3] == _DATA:
                self._received(int.from_bytes(data[at + 5 : begin]), data[begin:end])
            else:
                self._handle(data[at:begin], data[begin:end])
            at = end
        self._tail = data[at:]

    def _received(self, stream: int, payload: bytes) -> None:
        body = self._bodies.setdefault(stream, bytearray())
        body += payload
        self._owed += len(payload)
        if self._owed >= _ACKNOWLEDGE:
            room, self._owed = self._owed.to_bytes(4), 0
            self.transport.write(b"".join(_frame(_WINDOW, 0, n, room) for n in (0, stream)))
        if self._on_message is not None:
            self._split(body, self._on_message)

    def _handle(self, head: bytes, payload: bytes) -> None:
        kind, flags = head[3], head[4]
        if kind == _HEADERS and flags & _END_STREAM:
            self._ended(int.from_bytes(head[5:]))
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            answer = payload if kind == _PING else b""
            self.transport.write(_frame(kind, _ACK, 0, answer))
        elif kind in (_RST, _GOAWAY):
            self._fail(f"etcd ended it: {payload!r}")

    def _split(self, body: bytearray, on_message: Callable[[bytes], None]) -> None:
        whole, at = bytes(body), 0
        while len(whole) - at >= _PREFIX_SIZE:
            begin = at + _PREFIX_SIZE
            end = begin + int.from_bytes(whole[at + 1 : begin])
            if end > len(whole):
                break
            on_message(whole[begin:end])
            at = end
        del body[:at]

    def _ended(self, stream: int) -> None:
        body = self._bodies.pop(stream, None)
        answer = self._answers.pop(stream)
        if body is None:
            answer.set_exception(Refused("etcd refused"))
        else:
            answer.set_result(bytes(body[_PREFIX_SIZE:]))

    def _fail(self, reason: str) -> None:
        answers, self._answers = self._answers, {}
        for answer in answers.values():
            if not answer.done():
                answer.set_exception(Refused(reason))

    def _data(self, messages: Sequence[bytes], flags: int) -> bytes:
        body = b"".join(b"\0" + len(message).to_bytes(4) + message for message in messages)
        assert len(body) < ROOM
        places = range(0, len(body), _FRAME_MAX)
        return b"".join(
            _frame(
                _DATA,
                flags if at == places[-1] else 0,
                self._stream,
                body[at : at + _FRAME_MAX],
            )
            for at in places
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
