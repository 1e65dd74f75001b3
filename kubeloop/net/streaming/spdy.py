"""SPDY/3.1: frames, and the streams of a connection. Pure: bytes in, events out, and back.

    0                      control            1 | version 15 | type 16
    0                      data               0 | stream 31
    4                      flags 8 | length 24
    8                      payload

Kubernetes uses it as Go's spdystream does: both sides open streams with headers, and there is no
flow control. Nobody sends WINDOW_UPDATE, so windows must not be heeded either: a peer that waited
for one would wait for ever. What is told of windows and settings is read and let be; it is the
connection below that makes a fast sender wait.

Source: the SPDY protocol, draft 3.1; github.com/moby/spdystream.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from kubeloop.net.streaming.spdy_headers import Packer, SpdyError, Unpacker

SYN_STREAM, SYN_REPLY, RST_STREAM, SETTINGS = 1, 2, 3, 4
PING, GOAWAY, HEADERS, WINDOW_UPDATE = 6, 7, 8, 9
FIN, UNIDIRECTIONAL = 1, 2
PROTOCOL_ERROR, INVALID_STREAM, REFUSED_STREAM, CANCEL = 1, 2, 3, 5
CONTROL_MAX: Final = 64 << 10  # Of a control frame's payload [bytes].
DATA_MAX: Final = (1 << 24) - 1
STREAMS_MAX: Final = 4096  # Open at once: two for each connection that is forwarded.
_VERSION: Final = 3
_HEAD: Final = struct.Struct(">II")


@dataclass(frozen=True, slots=True)
class Control:
    """A control frame. payload: as it is on the wire."""

    kind: int
    flags: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Piece:
    """A data frame, or a part of one: large ones are passed on as they come."""

    stream: int
    data: bytes
    fin: bool


class Frames:
    """Cuts bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._stream = 0  # Of the data frame whose payload comes now.
        self._left = 0
        self._fin = False

    def feed(self, data: bytes) -> list[Control | Piece]:
        """Return the frames that are complete now, and the parts of data. Raises: SpdyError."""
        self._buffer += data
        found: list[Control | Piece] = []
        while (frame := self._next()) is not None:
            found.append(frame)
        return found

    def _next(self) -> Control | Piece | None:
        buffer = self._buffer
        if self._left:
            if not buffer:
                return None
            data = bytes(buffer[: self._left])
            del buffer[: len(data)]
            self._left -= len(data)
            return Piece(self._stream, data, self._fin and not self._left)
        if len(buffer) < _HEAD.size:
            return None
        first, second = _HEAD.unpack_from(buffer)
        flags, length = second >> 24, second & DATA_MAX
        if not first >> 31:
            del buffer[: _HEAD.size]
            if not first:
                raise SpdyError("data for stream 0")
            self._stream, self._left, self._fin = first, length, bool(flags & FIN)
            return self._next() if length else Piece(first, b"", self._fin)
        version = first >> 16 & 0x7FFF
        if version != _VERSION:
            raise SpdyError(f"a control frame of SPDY version {version}: only 3 is spoken here")
        if length > CONTROL_MAX:
            raise SpdyError(f"a control frame of {length} bytes: {CONTROL_MAX} is the most")
        if len(buffer) < _HEAD.size + length:
            return None
        payload = bytes(buffer[_HEAD.size : _HEAD.size + length])
        del buffer[: _HEAD.size + length]
        return Control(first & 0xFFFF, flags, payload)


def control(kind: int, payload: bytes, flags: int = 0) -> bytes:
    """Return a control frame on the wire."""
    assert len(payload) <= DATA_MAX
    return _HEAD.pack(1 << 31 | _VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def data_frame(stream: int, data: bytes, *, fin: bool = False) -> bytes:
    """Return a data frame on the wire."""
    assert len(data) <= DATA_MAX
    return _HEAD.pack(stream, (FIN if fin else 0) << 24 | len(data)) + data


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer has opened a stream; it waits for `reply`."""

    stream: int
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Received:
    """Data came on a stream. ended: no more will."""

    stream: int
    data: bytes
    ended: bool


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer has given a stream up."""

    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Replied:
    """The peer has taken a stream that we opened."""

    stream: int


@dataclass(frozen=True, slots=True)
class Left:
    """The peer opens no more streams."""


Event = Opened | Received | Reset | Replied | Left


@dataclass(slots=True)
class _Stream:
    said_all: bool = False
    heard_all: bool = False


@dataclass(slots=True)
class Connection:
    """One side of a connection: `receive` what comes, send what `take` returns after each call.

    client: whose streams have odd numbers.
    """

    client: bool = False
    _out: bytearray = field(default_factory=bytearray)
    _frames: Frames = field(default_factory=Frames)
    _packer: Packer = field(default_factory=Packer)
    _unpacker: Unpacker = field(default_factory=Unpacker)
    _streams: dict[int, _Stream] = field(default_factory=dict)
    _theirs: int = 0  # The last stream the peer has opened, and we.
    _ours: int = 0

    def take(self) -> bytes:
        """Return what is to be sent."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def receive(self, data: bytes) -> list[Event]:
        """Return what the bytes tell, in order.

        Raises: SpdyError: then send what `take` returns, and close.
        """
        events: list[Event] = []
        try:
            for frame in self._frames.feed(data):
                if isinstance(frame, Piece):
                    self._data(frame, events)
                else:
                    self._control(frame, events)
        except SpdyError:
            self._out += control(GOAWAY, struct.pack(">II", self._theirs, 1))
            raise
        return events

    def open(self, headers: Mapping[str, str]) -> int:
        """Open a stream; return its number."""
        self._ours = self._ours + 2 if self._ours else (1 if self.client else 2)
        self._streams[self._ours] = _Stream()
        head = struct.pack(">IIH", self._ours, 0, 0)
        self._out += control(SYN_STREAM, head + self._packer.pack(headers))
        return self._ours

    def reply(self, stream: int) -> None:
        """Take a stream the peer has opened; harmless if it is gone."""
        if stream in self._streams:
            head = struct.pack(">I", stream)
            self._out += control(SYN_REPLY, head + self._packer.pack({}))

    def send(self, stream: int, data: bytes, *, fin: bool = False) -> None:
        """Send on a stream; harmless if it is gone, or we have ended it."""
        state = self._streams.get(stream)
        if state is None or state.said_all:
            return
        self._out += data_frame(stream, data, fin=fin)
        if fin:
            state.said_all = True
            self._settle(stream)

    def reset(self, stream: int, status: int = CANCEL) -> None:
        """Give a stream up; harmless if it is gone."""
        if self._streams.pop(stream, None) is not None:
            self._out += control(RST_STREAM, struct.pack(">II", stream, status))

    def ping(self, number: int) -> None:
        """Ask for a sign of life."""
        self._out += control(PING, struct.pack(">I", number))

    def leave(self) -> None:
        """Say that we are done."""
        self._out += control(GOAWAY, struct.pack(">II", self._theirs, 0))

    def _settle(self, stream: int) -> None:
        state = self._streams[stream]
        if state.said_all and state.heard_all:
            del self._streams[stream]

    def _data(self, piece: Piece, events: list[Event]) -> None:
        state = self._streams.get(piece.stream)
        if state is None or state.heard_all:
            if piece.stream > max(self._theirs, self._ours):  # Else it is late, which may be.
                raise SpdyError(f"data for stream {piece.stream}, which was never opened")
            return
        if piece.fin:
            state.heard_all = True
            self._settle(piece.stream)
        if piece.data or piece.fin:
            events.append(Received(piece.stream, piece.data, piece.fin))

    def _control(self, frame: Control, events: list[Event]) -> None:
        match frame.kind:
            case 1:
                self._opened(frame, events)
            case 2 | 8:  # SYN_REPLY, HEADERS
                (stream,) = _numbers(frame, 1)
                self._unpacker.unpack(frame.payload[4:])  # All blocks count for the compression.
                if frame.kind == SYN_REPLY and stream in self._streams:
                    events.append(Replied(stream))
                if frame.flags & FIN:
                    self._data(Piece(stream, b"", True), events)
            case 3:
                stream, status = _numbers(frame, 2)
                if self._streams.pop(stream, None) is not None:
                    events.append(Reset(stream, status))
            case 6:
                (number,) = _numbers(frame, 1)
                if number % 2 != self.client:  # Not the answer to one of ours.
                    self.ping(number)
            case 7:
                _numbers(frame, 2)
                events.append(Left())
            case _:  # SETTINGS, WINDOW_UPDATE; what is not known is to be ignored.
                return

    def _opened(self, frame: Control, events: list[Event]) -> None:
        stream, _ = _numbers(frame, 2)
        if len(frame.payload) < 10:
            raise SpdyError("a SYN_STREAM ends early")
        headers = self._unpacker.unpack(frame.payload[10:])
        if stream <= self._theirs or stream % 2 == self.client:
            raise SpdyError(f"stream {stream} may not be opened after stream {self._theirs}")
        self._theirs = stream
        if len(self._streams) >= STREAMS_MAX:
            self._out += control(RST_STREAM, struct.pack(">II", stream, REFUSED_STREAM))
            return
        one_way = bool(frame.flags & UNIDIRECTIONAL)
        state = self._streams[stream] = _Stream(one_way, bool(frame.flags & FIN))
        events.append(Opened(stream, headers))
        if state.heard_all:
            events.append(Received(stream, b"", True))
            self._settle(stream)


def _numbers(frame: Control, count: int) -> tuple[int, ...]:
    """Return the 32-bit numbers a payload begins with; the first is a stream's mostly."""
    if len(frame.payload) < 4 * count:
        raise SpdyError(f"a control frame of type {frame.kind} ends early")
    first, *rest = struct.unpack_from(f">{count}I", frame.payload)
    return (first if frame.kind == PING else first & 0x7FFFFFFF, *rest)
