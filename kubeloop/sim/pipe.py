"""One direction of a connection: what was sent and has not been read, in order.

A write is sent in segments. Each of them arrives after its link's latency, never before what was
sent earlier; what has arrived is read together, as from a socket's buffer. Lengths are exact but
for one thing: the flights of a TLS handshake hold signatures, whose length is up to OpenSSL's
chance, so that each of them weighs the same to whatever counts bytes.
"""

import errno
from collections import deque
from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING, Final

from kubeloop.sim.links import Route

if TYPE_CHECKING:
    from kubeloop.sim.transport import Transport

SEGMENT: Final = 64 * 1024  # Bytes that travel together; fewer if they take long.
SEGMENT_S: Final = 0.05
SEGMENT_MIN: Final = 536  # TCP's least segment.
READ_MAX: Final = 256 * 1024  # Bytes read at once; asyncio's, too.
FLIGHT: Final = 1024  # What a flight of a TLS handshake weighs.
_PIECES_MAX: Final = 8
_DOOM_BITS: Final = 20  # A doomed connection is reset within its first MiB.
_HANDSHAKE: Final = (20, 22)  # RFC 8446, 5.1: change_cipher_spec, handshake.

Chunk = bytes | OSError | Callable[[], None] | None
"""Data; a reset; what the arrival of a connection means; the end."""


class Fate:
    """What chance has in store for one connection; both directions share it."""

    __slots__ = ("broken", "chance", "doom", "luck")

    def __init__(self, chance: Random) -> None:
        self.chance = chance
        self.luck = chance.random()  # A link resets it if its chance of that is more.
        self.doom = int(2 ** (_DOOM_BITS * chance.random()))
        self.broken = False  # Reset on its way: nothing passes any more.


class Pipe:
    """What goes from `source` to its peer.

    size: bytes on their way or waiting to be read;  sent: bytes in all.
    dead: nothing arrives any more, and nobody is told.
    """

    __slots__ = ("_chunks", "_read_at", "_reset", "_scheduled", "dead", "fate", "route", "sent",
                 "size", "source")  # fmt: skip

    def __init__(self, source: "Transport", route: Route, fate: Fate) -> None:
        self.source, self.route, self.fate = source, route, fate
        self.size = self.sent = 0
        self.dead = False
        self._chunks: deque[tuple[float, int, Chunk]] = deque()  # Arrival [s], weight, chunk.
        self._scheduled = False
        self._read_at = 0.0  # When a slow reader reads again.
        self._reset: float | None = None  # When one arrives.

    @property
    def passes(self) -> bool:
        """Whether what is sent arrives."""
        return self.route.link.up and not self.dead

    def put(self, chunk: Chunk) -> None:
        """Send. Whoever gets no answer to it begins to doubt."""
        if self.fate.broken:
            return
        if isinstance(chunk, bytes):
            self._put_data(chunk)
        else:
            self._append(chunk, 0)
        if not self.passes or not self.source.incoming.passes:
            self.source.unheard()
        self.resume()

    def _put_data(self, data: bytes) -> None:
        flight = is_handshake(data)
        for segment in [data] if flight else self._segments(data):
            weight = FLIGHT if flight else len(segment)
            left = self._left()
            if weight > left:
                if not flight and left:
                    self._append(segment[:left], left)
                self._break()
                return
            self._append(segment, weight)

    def _segments(self, data: bytes) -> list[bytes]:
        link, chance = self.route.link, self.fate.chance
        size = SEGMENT
        if link.bytes_per_s is not None:
            size = min(size, max(SEGMENT_MIN, int(link.bytes_per_s * SEGMENT_S)))
        cuts: set[int] = set(range(size, len(data), size)) if len(data) > size else set()
        if link.cut > 0:
            for _ in range(_PIECES_MAX - 1):
                if chance.random() < link.cut:
                    cuts.add(int(chance.random() * len(data)))
        if not cuts:
            return [data]
        places = sorted(cuts | {0, len(data)})
        return [data[a:b] for a, b in pairwise(places)]

    def _left(self) -> int:
        """Return how many bytes may still be sent before the connection is reset."""
        link = self.route.link
        if link.reset_after is None and link.reset == 0:
            return READ_MAX
        after = READ_MAX if link.reset_after is None else link.reset_after - self.sent
        doom = self.fate.doom - self.sent if self.fate.luck < link.reset else READ_MAX
        return max(0, min(after, doom))

    def _append(self, chunk: Chunk, weight: int) -> None:
        loop = self.source.network.loop
        self.size += weight
        self.sent += weight
        self.source.network.told("sent", self.source, weight)
        if self.dead:
            return
        leaves = self.route.sent(loop.time(), weight)
        arrival = leaves + self.route.stream_delay(self.fate.chance)
        if self._chunks:
            arrival = max(arrival, self._chunks[-1][0])
        self._chunks.append((arrival, weight, chunk))
        if isinstance(chunk, OSError):
            self._reset = arrival
            loop.call_at(arrival, self._reset_arrives, context=self.source.peer.context)

    def _break(self) -> None:
        """Reset the connection from between its sides; what was sent before arrives."""
        self.fate.broken = True
        self.source.network.told("reset", self.source, 0)
        for pipe in (self, self.source.incoming):
            pipe._append(reset_error(), 0)
            pipe.resume()

    def clear(self) -> None:
        """Forget what has not arrived, as the source is gone."""
        if self.fate.broken:
            return  # What was sent before the reset is beyond its reach.
        now = self.source.network.loop.time()
        kept = [
            entry for entry in self._chunks
            if self.passes and (entry[0] <= now or isinstance(entry[2], OSError))
        ]  # fmt: skip
        self._chunks = deque(kept)
        self.size = sum(weight for _, weight, _ in kept)

    def kill(self) -> None:
        """Let nothing arrive any more: the connection is half-open."""
        self.dead = True
        self._chunks.clear()

    # Arriving.

    def has_arrived(self) -> bool:
        """Tell whether something can be read now."""
        now = self.source.network.loop.time()
        return bool(self._chunks) and self.passes and self._chunks[0][0] <= now

    def was_reset(self) -> bool:
        """Tell whether a reset has arrived, read or not."""
        now = self.source.network.loop.time()
        return self._reset is not None and self._reset <= now and self.passes

    def resume(self) -> None:
        """See to it that the next chunk arrives in its time."""
        if self._scheduled or not self._chunks:
            return
        target, (arrival, _, chunk) = self.source.peer, self._chunks[0]
        # Without a protocol nobody reads yet; a paused reader leaves everything in the pipe.
        if target.attached or callable(chunk):
            self._scheduled = True
            target.network.loop.call_at(
                max(arrival, self._read_at), self._arrive, context=target.context
            )

    def _arrive(self) -> None:
        self._scheduled = False
        target, now = self.source.peer, self.source.network.loop.time()
        if not self._chunks or not self.passes:
            return
        arrival, _, chunk = self._chunks[0]
        if now < max(arrival, self._read_at):  # The pipe was cleared and filled again.
            self.resume()
        elif callable(chunk):
            self._chunks.popleft()
            chunk()
            self.resume()
        elif target.reading or target.is_closing():
            self._deliver(target, now)
            self.resume()

    def _deliver(self, target: "Transport", now: float) -> None:
        chunk = self._chunks[0][2]
        if isinstance(chunk, bytes):
            data, weight = self._take(now)
            self.size -= weight
            self.source.network.told("read", self.source, weight)
            self.source.taken()
            target.receive(data)
            return
        self._chunks.popleft()
        if isinstance(chunk, OSError):
            target.lose(chunk)
        else:
            target.receive(None)

    def _take(self, now: float) -> tuple[bytes, int]:
        """Take what a reader reads at once: (data, its weight)."""
        rate = self.route.link.read_bytes_per_s
        room = READ_MAX if rate is None else max(1, int(rate))
        taken: list[bytes] = []
        total = 0
        while self._chunks and total < room:
            arrival, weight, chunk = self._chunks[0]
            if arrival > now or not isinstance(chunk, bytes):
                break
            self._chunks.popleft()
            more = room - total
            if weight > more and not is_handshake(chunk):
                self._chunks.appendleft((arrival, weight - more, chunk[more:]))
                weight, chunk = more, chunk[:more]
            taken.append(chunk)
            total += weight
        if rate is not None:
            self._read_at = now + total / rate
        return taken[0] if len(taken) == 1 else b"".join(taken), total

    def _reset_arrives(self) -> None:
        """Let the target notice a reset that it does not read, if it has something to send."""
        target = self.source.peer
        if self.was_reset() and not target.reading and target.outgoing.size:
            target.lose(reset_error())


def is_handshake(data: bytes) -> bool:
    """Tell whether these are whole TLS records that begin with one of a handshake."""
    if data[0] not in _HANDSHAKE or data[1:2] != b"\x03":
        return False
    at = 0
    while at + 5 <= len(data):
        at += 5 + int.from_bytes(data[at + 3 : at + 5], "big")
    return at == len(data)


def reset_error() -> OSError:
    """Return what a side of a reset connection is told."""
    return ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
