"""The line between kube-proxy and its workers: msgpack messages, with open files beside them.

A message is an array: how many files go with it, what it is about, and what there is to say. Files
travel beside the bytes (SCM_RIGHTS), and the kernel keeps both in order: so those that arrived
first belong to the first message that wants some.
"""

import array
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import msgpack

CHUNK: Final = 1 << 18
FILES_MAX: Final = 64  # In one message: the kernel's own limit is 253.
Message = tuple[str, list[Any], list[int]]


class Line:
    """One end of it; nothing here waits. sock: a Unix stream socket, ours from now on."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._unpacker = msgpack.Unpacker(strict_map_key=False)
        self._files: deque[int] = deque()
        self._queue: deque[tuple[bytes, list[int]]] = deque()

    @property
    def waiting(self) -> bool:
        """Whether something is still to be sent, by `flush`, once the other end takes more."""
        return bool(self._queue)

    def send(self, about: str, content: Sequence[Any], files: Sequence[int] = ()) -> None:
        """Say something; the files are ours until they went, and are closed then.

        Raises: OSError, if nobody is at the other end.
        """
        assert len(files) <= FILES_MAX
        self._queue.append((msgpack.packb([len(files), about, *content]), list(files)))
        if len(self._queue) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what the other end takes. Raises: OSError, if nobody is there."""
        while self._queue:
            data, files = self._queue[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]
            try:
                sent = self.sock.sendmsg([data], rights if files else [], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            _close(files)
            if sent < len(data):
                self._queue[0] = (data[sent:], [])
            else:
                self._queue.popleft()

    def receive(self) -> list[Message] | None:
        """Return what has arrived in whole; None when the other end is gone."""
        space = socket.CMSG_SPACE(FILES_MAX * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self.sock.recvmsg(CHUNK, space, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        for level, kind, body in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                files = array.array("i")
                files.frombytes(body[: len(body) - len(body) % files.itemsize])
                self._files.extend(files)
        self._unpacker.feed(data)
        return [
            (about, content, [self._files.popleft() for _ in range(count)])
            for count, about, *content in self._unpacker
        ]

    def close(self) -> None:
        """Close our end, and every file that was not handed on."""
        self.sock.close()
        _close(self._files)
        for _, files in self._queue:
            _close(files)
        self._files.clear()
        self._queue.clear()


def _close(files: Sequence[int] | deque[int]) -> None:
    for fd in files:
        os.close(fd)
