"""Messages with open files in them, over a Unix stream socket. Used by both ends.

A frame is a header (length, number of files), then JSON. The files travel beside the first byte
of their frame (SCM_RIGHTS), and the kernel keeps both in order: so the receiver hands out the
files that arrived, first come, first served.
"""

import array
import json
import os
import socket
import struct
from collections import deque

HEADER = struct.Struct("!IB")
CHUNK = 65_536
FRAME_MAX = 64 * 1024 * 1024  # More than any message can be: a longer one is not ours.
FILES_MAX = 16

Message = dict[str, object]


def encode(message: Message, files: int = 0) -> bytes:
    """Return the frame of `message`, which takes `files` open files along."""
    assert files <= FILES_MAX
    body = json.dumps(message, separators=(",", ":")).encode()
    return HEADER.pack(len(body), files) + body


class Decoder:
    """Puts messages together from what arrives, in pieces of any size."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.files: deque[int] = deque()

    def feed(self, data: bytes, files: list[int]) -> list[tuple[Message, list[int]]]:
        """Take bytes and files; return the messages that are complete now, with their files."""
        self.buffer += data
        self.files.extend(files)
        complete = []
        while len(self.buffer) >= HEADER.size:
            length, count = HEADER.unpack_from(self.buffer)
            if length > FRAME_MAX:
                raise ValueError(f"a frame of {length} bytes: the peer does not speak our language")
            end = HEADER.size + length
            if len(self.buffer) < end:
                break
            message = json.loads(self.buffer[HEADER.size : end])
            del self.buffer[:end]
            complete.append((message, [self.files.popleft() for _ in range(count)]))
        return complete

    def close(self) -> None:
        """Close the files nobody came to fetch."""
        while self.files:
            os.close(self.files.popleft())


def receive(sock: socket.socket) -> tuple[bytes, list[int]]:
    """Return what there is: bytes (none: the peer is gone) and open files. Raises: OSError."""
    space = socket.CMSG_SPACE(FILES_MAX * array.array("i").itemsize)
    data, ancillary, _, _ = sock.recvmsg(CHUNK, space, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    files = array.array("i")
    for level, kind, body in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(body[: len(body) - len(body) % files.itemsize])
    return data, files.tolist()


def rights(files: list[int]) -> list[tuple[int, int, "array.array[int]"]]:
    """Return the ancillary data that takes `files` along."""
    if not files:
        return []
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", files))]


def send(sock: socket.socket, message: Message, files: list[int] | None = None) -> None:
    """Send one message on a blocking socket. Raises: OSError if the peer is gone."""
    frame = encode(message, len(files or ()))
    sent = sock.sendmsg([frame], rights(files or []), getattr(socket, "MSG_NOSIGNAL", 0))
    if sent < len(frame):
        sock.sendall(frame[sent:])
