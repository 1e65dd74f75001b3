"""The short way to an object: a GET that is all there is on its connection, answered at once.

Most of what an HTTP server does for a request is of no use to the commonest one: a complete head
without a body, on a connection where nothing else is under way, for an object that can be read
without waiting. Such a head is understood once and remembered; the bytes of the answer are the same
that aiohttp would send. Everything else is aiohttp's, and so is every doubt.
"""

import re
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

Quick = Callable[[bytes], bytes | None]
"""The whole head of a GET → the whole answer; None if it has to go the long way."""

WAITING_MAX: Final = 64 << 10  # What a client may leave unread before it goes the long way [bytes].
HEAD_MAX: Final = 8 << 10

_END: Final = b"\r\n\r\n"
_HEAD: Final = re.compile(
    rb"GET (/[!-~]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\t -~]*\r\n)+)\r\n",
)
_ONCE: Final = frozenset({"host", "authorization", "accept", "user-agent"})
_HARMLESS: Final = frozenset(
    {"accept-encoding", "accept-language", "cache-control", "pragma", "kubectl-command"}
    | {"kubectl-session", "content-type"}
)
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,12})[ \t]*\r\n", re.IGNORECASE)
_CODING: Final = re.compile(rb"\r\ntransfer-encoding:", re.IGNORECASE)


def read_head(data: bytes) -> tuple[str, dict[str, str]] | None:
    """Return the target of a GET and its headers, names in lower case; None for the long way.

    It may go the short way only if nothing in it asks for more than an answer.
    """
    found = _HEAD.fullmatch(data)
    if found is None or len(data) > HEAD_MAX:
        return None
    headers: dict[str, str] = {}
    for line in found[2].decode("ascii").splitlines():
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name == "connection" and value.lower() == "keep-alive":
            continue
        if (name not in _ONCE and name not in _HARMLESS) or name in headers:
            return None
        headers[name] = value
    return (found[1].decode("ascii"), headers) if headers.get("host") else None


class Connection(RequestHandler):
    """aiohttp's connection, with a short way round it."""

    __slots__ = ("_owed", "_quick")

    def __init__(self, manager: web.Server, *, quick: Quick, **options: Any) -> None:
        super().__init__(manager, **options)
        self._quick = quick
        self._owed: int | None = 0  # Bytes of a body that are to come; None: nobody knows.

    def data_received(self, data: bytes) -> None:
        """Answer, or have aiohttp do it."""
        if self._owed == 0 and self._is_idle() and data.startswith(b"GET ") and self._answer(data):
            return
        self._count(data)
        super().data_received(data)

    def _is_idle(self) -> bool:
        waiter = self._waiter
        return waiter is not None and not waiter.done() and not (self._close or self._force_close)

    def _answer(self, data: bytes) -> bool:
        transport = self.transport
        if transport is None or transport.is_closing():
            return False
        if transport.get_write_buffer_size() > WAITING_MAX:
            return False  # aiohttp waits until there is room.
        answer = self._quick(data)
        if answer is None:
            return False
        transport.write(answer)
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _count(self, data: bytes) -> None:
        """Follow where requests end, so that a later one is known to begin where it seems to."""
        if self._owed is None or not data:  # aiohttp itself calls with nothing.
            return
        if self._owed == 0:
            head, end, body = data.partition(_END)
            lead = head + _END
            if not end or _CODING.search(lead):
                self._owed = None
                return
            told = _LENGTH.search(lead)
            self._owed = (int(told[1]) if told else 0) - len(body)
        else:
            self._owed -= len(data)
        if self._owed < 0:
            self._owed = None  # It goes on before it is answered, or is no HTTP any more.


class Server(web.Server):
    """aiohttp's server, whose connections know the short way."""

    def __init__(self, handler: Any, *, quick: Quick, **options: Any) -> None:
        super().__init__(handler, **options)
        self._quick = quick

    def __call__(self) -> RequestHandler:
        """Return what speaks on one connection."""
        return Connection(self, loop=self._loop, quick=self._quick, **self._kwargs)
