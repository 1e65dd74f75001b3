"""The carrier: moves the bytes of all connections on one epoll, without asyncio. The hot path.

What makes it fast, each measured:

- a descriptor is told to epoll once, edge-triggered, for everything, and never again;
- one buffer for all: what was read is written before anything else is read;
- `entries[fd]` has the two bound methods that a byte needs. Whatever is out of the ordinary (a
  side that must not be read now, a stream that goes through a pipe) has others there, so that the
  ordinary way asks no questions;
- a short read means that there is no more: the kernel is never asked in vain;
- nothing is closed within a turn, so a descriptor's number means one thing until it is over.
"""

import socket
from _socket import socket as Socket
from collections.abc import Callable
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, epoll
from typing import Any, Final

from kubeloop.net.userspace.gauges import ServicePort
from kubeloop.net.userspace.pipes import Pipes
from kubeloop.net.userspace.sides import RESET, Side

BUFFER_BYTES: Final = 256 * 1024
ROUNDS_MAX: Final = 8  # Buffers moved for one connection before the others have their turn.
EVENTS_MAX: Final = 512
ALL: Final = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET

_ORDINARY: Final = EPOLLIN | EPOLLOUT
_INCOMING: Final = EPOLLIN | EPOLLRDHUP | EPOLLHUP

Handler = Callable[[int], None]
Entry = tuple[Callable[[Any], int], Callable[[Any], int], Side | Handler]


def _not_now(_: Any) -> int:
    """Stand where recv_into stands, for what must not be read that way."""
    return -1


def _over(_: int) -> None:
    """Hear of a descriptor that is closed when the turn ends."""


_GONE: Final[Entry] = (_not_now, _not_now, _over)


class Carrier:
    """Carries connections that are joined; tells others' descriptors' events to their handlers."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now, self.now_s = now, now()  # When the turn began to act.
        self.connections = 0
        self.pipes = Pipes()
        self.epoll = epoll()
        self.buffer = bytearray(BUFFER_BYTES)  # Whoever reads into it has done with it at once.
        self.view = memoryview(self.buffer)
        self._entries: list[Entry] = [_GONE] * 256
        self._again: list[Side] = []  # Those that had their turn and have more.
        self._doomed: list[Socket] = []

    @property
    def hurried(self) -> bool:
        """Whether a turn should not wait."""
        return bool(self._again)

    def watch(self, fd: int, handler: Handler, events: int) -> None:
        """Call `handler` with what happens to a descriptor. Raises: OSError."""
        self._enter(fd, (_not_now, _not_now, handler))
        self.epoll.register(fd, events)

    def doom(self, sock: Socket) -> None:
        """Close a socket when the turn is over; no events come any more."""
        self._entries[sock.fileno()] = _GONE
        self._doomed.append(sock)

    def join(
        self,
        client: Socket,
        endpoint: Socket,
        service: ServicePort,
        first: bytes | None,
        event: int,
    ) -> None:
        """Carry a connection.

        endpoint: is watched already, and `event` has happened to it.
        first:    what was read of the client already; None: nothing;  b"": its end.
        """
        one, other = Side(client, service), Side(endpoint, None)
        one.peer, other.peer = other, one
        self.connections += 1
        self._entries[other.fd] = (endpoint.recv_into, client.send, other)
        self._enter(one.fd, (client.recv_into, endpoint.send, one))
        self.epoll.register(one.fd, ALL)  # Tells at once if there is something to read.
        if first is not None:
            self._begin(one, other, first)
        if event & _INCOMING and not self._blocked(other):
            self._pump(other, None, event)

    def _begin(self, client: Side, endpoint: Side, first: bytes) -> None:
        """Send what was read of a client before there was an endpoint."""
        try:
            sent = endpoint.sock.send(first)
        except OSError as error:
            self._stumble(client, first, error)
            return
        if sent < len(first):
            self._hold(client, first[sent:])
        elif not first:
            self._end(client)

    def close(self) -> None:
        """Reset every connection, and forget all that was watched."""
        for _, _, what in self._entries:
            if isinstance(what, Side):
                what.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self.cut(what)
        self.bury()
        self.pipes.close()
        self.epoll.close()

    def turn(self, wait_s: float) -> None:
        """Move what there is; wait up to `wait_s` for something, -1: for ever."""
        entries, buffer, view = self._entries, self.buffer, self.view
        ordinary, size = _ORDINARY, BUFFER_BYTES
        events = self.epoll.poll(wait_s, EVENTS_MAX)
        self.now_s = self.now()
        for fd, event in events:
            recv_into, send, what = entries[fd]
            if event == ordinary:
                read = -1
                try:
                    read = recv_into(buffer)
                    if 0 < read < size:
                        sent = send(view[:read])
                        if sent == read:
                            continue
                        assert isinstance(what, Side)
                        self._hold(what, bytes(view[sent:read]))
                        continue
                except OSError as error:
                    assert isinstance(what, Side)
                    self._stumble(what, view[:read] if read > 0 else None, error)
                    continue
                if read >= 0:
                    assert isinstance(what, Side)
                    self._end(what) if read == 0 else self._pump(what, view[:read])
                    continue
            if isinstance(what, Side):
                if event != EPOLLOUT or recv_into is _not_now:
                    self._serve(what, event)
            else:
                what(event)
        if self._again:
            again, self._again = self._again, []
            for side in again:
                if not self._blocked(side):
                    self._pump(side, None, _INCOMING)
        if self._doomed:
            self.bury()

    def bury(self) -> None:
        """Close what was doomed."""
        doomed, self._doomed = self._doomed, []
        for sock in doomed:
            sock.close()

    # Out of the ordinary.

    def _enter(self, fd: int, entry: Entry) -> None:
        if fd >= len(self._entries):
            self._entries += [_GONE] * max(fd + 1 - len(self._entries), len(self._entries))
        self._entries[fd] = entry

    def _tune(self, side: Side) -> None:
        """Let a side be read the ordinary way, or not."""
        peer = side.peer
        if peer is None:
            return
        special = side.ended or side.pipe is not None or side.full or peer.full
        self._entries[side.fd] = (
            (_not_now, _not_now, side) if special else (side.sock.recv_into, peer.sock.send, side)
        )

    @staticmethod
    def _blocked(side: Side) -> bool:
        peer = side.peer
        return peer is None or peer.full or side.ended

    def _serve(self, side: Side, event: int) -> None:
        """Do what a side can do now that is not simply being read."""
        if event & EPOLLERR:
            self.cut(side)
            return
        if side.full and event & EPOLLOUT:
            self._flush(side)
        if event & _INCOMING and not self._blocked(side):
            self._pump(side, None, event)

    def _pump(self, side: Side, data: memoryview | None = None, event: int = EPOLLIN) -> None:
        """Move what a side has, bounded.

        data:  what was read already.
        event: what is known of it. If it has ended, it is read until then, as no more events will
               come; and the last bytes wait for the end, which then travels with them.
        """
        peer = side.peer
        assert peer is not None
        through = event != EPOLLIN
        flags = socket.MSG_MORE if event & EPOLLRDHUP and event != _INCOMING else 0
        for _ in range(ROUNDS_MAX):
            if side.pipe is not None:
                if not self._stream(side, peer):
                    return
                continue
            try:
                if data is None:
                    data = self.view[: side.sock.recv_into(self.buffer)]
                sent = peer.sock.send(data, flags) if data else 0
            except OSError as error:
                self._stumble(side, data, error)
                return
            size = len(data)
            if size == 0:
                self._end(side)
                return
            if sent < size:
                self._hold(side, bytes(data[sent:]))
                return
            if size == BUFFER_BYTES:
                side.pipe = self.pipes.take()
                self._tune(side)
            elif not through:
                return
            data = None
        self._again.append(side)

    def _stream(self, side: Side, peer: Side) -> bool:
        """Move a pipeful; tell whether there may be more."""
        pipe = side.pipe
        assert pipe is not None
        broken = side
        try:
            if not pipe.held and not pipe.fill(side.fd):
                self._dry(side)
                self._end(side)
                return False
            broken = peer
            while pipe.held:
                pipe.drain(peer.fd)
        except BlockingIOError:
            if broken is side:
                self._dry(side)
            else:
                peer.full = True
                self._tune(peer)
            return False
        except OSError:
            self.cut(broken)
            return False
        return True

    def _dry(self, side: Side) -> None:
        """A stream has paused, or ended: its pipe is free."""
        if side.pipe is not None:
            self.pipes.give(side.pipe)
            side.pipe = None
            self._tune(side)

    def _stumble(self, side: Side, data: memoryview | bytes | None, error: OSError) -> None:
        """Reading a side failed (data: None), or writing what was read of it."""
        if isinstance(error, BlockingIOError):
            if data is not None:
                self._hold(side, bytes(data))
            return
        broken = side if data is None else side.peer
        if broken is not None:
            self.cut(broken)

    def _hold(self, side: Side, rest: bytes) -> None:
        """Keep what a side's peer does not take now; the side is not read until it has."""
        peer = side.peer
        assert peer is not None
        assert peer.rest is None
        peer.rest, peer.full = rest, True
        self._tune(side)
        self._tune(peer)

    def _flush(self, side: Side) -> None:
        """Write what waits for a side; when all is written, its peer is read again."""
        peer = side.peer
        assert peer is not None
        if side.rest is not None:
            try:
                sent = side.sock.send(side.rest)
            except BlockingIOError:
                return
            except OSError:
                self.cut(side)
                return
            side.rest = side.rest[sent:] or None
            if side.rest is not None:
                return
        side.full = False
        if peer.pipe is not None and peer.pipe.held and not self._stream(peer, side):
            return
        self._tune(side)
        self._tune(peer)
        self._pump(peer, None, _INCOMING)

    def _end(self, side: Side) -> None:
        """A side has said all, and its peer has it: that is told, unless both have."""
        side.ended = True
        peer = side.peer
        assert peer is not None
        assert not peer.full  # Or the side would not have been read.
        if peer.ended:
            self._part(side, peer)
            return
        self._tune(side)
        try:
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.cut(peer)

    def cut(self, side: Side) -> None:
        """The connection to a side is broken: the peer has what came before, and is told."""
        peer = side.peer
        if peer is None:
            return
        try:
            while not peer.full and (read := side.sock.recv_into(self.buffer)) > 0:
                peer.sock.sendall(self.view[:read])
        except OSError:
            pass  # It is broken: the rest is lost, as it is without us.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._part(side, peer)

    def _part(self, one: Side, other: Side) -> None:
        """The connection is over."""
        one.peer = other.peer = None
        self.connections -= 1
        for side in (one, other):
            if side.pipe is not None:
                self.pipes.give(side.pipe)
                side.pipe = None
            if side.service is not None:
                side.service.closed(side.sock)
            self._entries[side.fd] = _GONE
            self._doomed.append(side.sock)
