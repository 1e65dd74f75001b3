"""Our end of the socket to a sandbox process: requests, answers and events with open files.

Requests are pipelined: any number may be under way, answers come in any order.
"""

import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeloop.actors.runtimes.sandbox import wire

Answer = tuple[Mapping[str, Any], list[int]]

_GONE = "the sandbox is gone"
HELLO = 0  # The number of the answer a pod gives unasked, when it is set up.


class Channel:
    """Speaks `sandbox.wire` on the running loop.

    on_event: called with each event. on_close: called once, when the other end is gone.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_event: Callable[[Mapping[str, Any]], None],
        on_close: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self.sock, self.on_event, self.on_close = sock, on_event, on_close
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._decoder = wire.Decoder()
        self._numbers = itertools.count(HELLO + 1)
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._queue: deque[tuple[bytes, list[int]]] = deque()
        self._loop.add_reader(sock, self._readable)

    async def ask(self, message: Mapping[str, Any], files: Sequence[int] = ()) -> Answer:
        """Send a request; return the answer and its files. Raises: OSError, as the answer says."""
        number = next(self._numbers)
        expected = self.expect(number)
        self._send({**message, "id": number}, list(files))
        return await self.answer(number, expected)

    def expect(self, number: int) -> "asyncio.Future[Answer]":
        """Prepare for the answer to request `number`. Raises: ConnectionResetError."""
        if self.closed:
            raise ConnectionResetError(_GONE)
        future = self._asked[number] = self._loop.create_future()
        return future

    async def answer(self, number: int, expected: "asyncio.Future[Answer]") -> Answer:
        """Wait for the answer to request `number`. Raises: OSError."""
        try:
            answer, files = await expected
        except asyncio.CancelledError:
            if expected.done() and not expected.cancelled() and not expected.exception():
                _close_all(expected.result()[1])  # It came, and nobody will see it.
            raise
        finally:
            self._asked.pop(number, None)
        if "error" in answer:
            raise OSError(answer["errno"], answer["error"])
        return answer, files

    def tell(self, message: Mapping[str, Any]) -> None:
        """Send a request whose answer does not matter; harmless if the other end is gone."""
        if not self.closed:
            self._send({**message, "id": next(self._numbers)}, [])

    def close(self) -> None:
        """Close our end: a pod ends when its is closed. Whoever waits gets ConnectionResetError."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self.sock)
        self._loop.remove_writer(self.sock)
        self.sock.close()
        self._decoder.close()
        for _, files in self._queue:
            _close_all(files)
        self._queue.clear()
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError(_GONE))
                future.exception()  # An asker that went away is no error of ours.
        self.on_close()

    def _send(self, message: Mapping[str, Any], files: list[int]) -> None:
        if self.closed:
            raise ConnectionResetError(_GONE)
        # Our own copies of the files: the asker may be cancelled and close his before they go.
        copies = [os.dup(fd) for fd in files]
        self._queue.append((wire.encode(dict(message), len(copies)), copies))
        if len(self._queue) == 1:
            self._writable()

    def _writable(self) -> None:
        """Send what the socket takes; the rest when it takes more."""
        while self._queue:
            frame, files = self._queue[0]
            try:
                sent = self.sock.sendmsg([frame], wire.rights(files), socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._loop.add_writer(self.sock, self._writable)
                return
            except OSError:
                self._loop.call_soon(self.close)
                return
            _close_all(files)
            if sent < len(frame):
                self._queue[0] = (frame[sent:], [])
            else:
                self._queue.popleft()
        self._loop.remove_writer(self.sock)

    def _readable(self) -> None:
        try:
            data, files = wire.receive(self.sock)
        except BlockingIOError:
            return
        except OSError:
            data, files = b"", []
        if not data:
            self.close()
            return
        for message, passed in self._decoder.feed(data, files):
            self._dispatch(message, passed)

    def _dispatch(self, message: Mapping[str, Any], files: list[int]) -> None:
        number = message.get("id")
        if number is None:
            self.on_event(message)
            return
        future = self._asked.get(number)
        if future is None or future.done():
            _close_all(files)  # Whoever asked was cancelled.
            return
        future.set_result((message, files))


def _close_all(files: list[int]) -> None:
    for fd in files:
        os.close(fd)
