"""Answers that go on: watches and followed logs.

A stream lives in the task of its request and is written at the pace of its client: while that one
does not read, nothing is taken from the hub for it, so it costs no memory and delays nobody. One
that does not read for STALL_S is cut off. What arrives while the loop turns once is written
together.
"""

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web

from kubeloop.api.errors import ApiError
from kubeloop.net.gate import Feed, Hung, Torn, WatchEnded
from kubeloop.net.rest.logs import Limit, LogOptions, Tail
from kubeloop.net.rest.watching import Teller, error_line
from kubeloop.store.facts import Fact

STALL_S: Final = 30.0
BOOKMARK_EVERY_S: Final = 60.0
BOOKMARK_BEFORE_END_S: Final = 2.0
_FACTS_MAX: Final = 500  # Taken together.
_AT_ONCE_MAX: Final = 16 << 10  # Less than any transport takes before it says stop [bytes].
_WRITE_MAX: Final = 256 << 10  # Written together [bytes], or the one line that is larger.


Object = dict[str, Any]
Convert = Callable[[Mapping[tuple[str, int], Object]], Awaitable[list[Object]]]


class Bell:
    """Rings a sleeping stream awake: for a fact, for a bookmark, for the end."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self.bookmark_due = False
        self.over = False

    def ring(self) -> None:
        """Wake the stream."""
        self._event.set()

    def end(self) -> None:
        """Wake the stream, to end."""
        self.over = True
        self._event.set()

    def set_timers(self, timeout_s: float, *, bookmarks: bool) -> None:
        """End after `timeout_s`; have bookmarks told every minute, and shortly before the end."""
        loop = asyncio.get_running_loop()
        self._timers["end"] = loop.call_later(timeout_s, self.end)
        if bookmarks:
            before_end_s = max(0.0, timeout_s - BOOKMARK_BEFORE_END_S)
            self._timers["last"] = loop.call_later(before_end_s, self._ring_bookmark)
            self._timers["next"] = loop.call_later(BOOKMARK_EVERY_S, self._ring_often)

    def stop_timers(self) -> None:
        """Ring no more by time."""
        for timer in self._timers.values():
            timer.cancel()

    async def wait(self) -> None:
        """Wait until somebody rings, or has rung since the last wait."""
        await self._event.wait()
        self._event.clear()

    def _ring_bookmark(self) -> None:
        self.bookmark_due = True
        self._event.set()

    def _ring_often(self) -> None:
        self._ring_bookmark()
        loop = asyncio.get_running_loop()
        self._timers["next"] = loop.call_later(BOOKMARK_EVERY_S, self._ring_often)


@dataclass(slots=True)
class Watch:
    """One watch, from its first event to its end.

    items: what is there already and is told first, in msgpack.
    after: facts up to this revision are not told; that of `items`, if there are any.
    end:   tell when all of `items` have been told.
    convert: makes objects those of the version that is watched. Raises: ConversionFailed.
    """

    feed: Feed
    teller: Teller
    bell: Bell
    items: Sequence[bytes]
    after: int
    end: bool
    timeout_s: float
    bookmarks: bool
    convert: Convert

    async def run(self, response: web.StreamResponse, transport: asyncio.Transport | None) -> None:
        """Write until the bell ends it, the client leaves, or the history has gone on without."""
        self.bell.set_timers(self.timeout_s, bookmarks=self.bookmarks)
        try:
            await self._begin(response, transport)
            while not self.bell.over:
                await self._tell(response, transport)
                if not self.feed.behind:
                    await self.bell.wait()
            await self._tell(response, transport)
            await response.write_eof()
        except ApiError as error:  # Of history that is gone, or of what cannot be converted.
            await refuse(response, transport, error=error)
        except WatchEnded:
            with suppress(ConnectionError, TimeoutError):
                await response.write_eof()
        except Torn as error:
            if transport is not None:
                self._tear(transport, error.fact)
        except (ConnectionError, TimeoutError):
            if transport is not None:
                transport.abort()
        finally:
            self.bell.stop_timers()

    async def _begin(
        self, response: web.StreamResponse, transport: asyncio.Transport | None
    ) -> None:
        items, self.items = self.items, ()
        for lines in _joined(self.teller.initial(items)):
            await _write(response, transport, lines)
        if self.end:
            await _write(response, transport, self.teller.bookmark(self.after, initial_end=True))

    async def _tell(
        self, response: web.StreamResponse, transport: asyncio.Transport | None
    ) -> None:
        facts = await self._take()
        if self.after and facts and facts[0].revision <= self.after:
            facts = [fact for fact in facts if fact.revision > self.after]
        wanted = self.teller.to_convert(facts)
        if wanted:
            made = await self.convert(wanted)
            self.teller.learn(dict(zip(wanted, made, strict=True)))
        for lines in _joined(self.teller.facts(facts)):
            await _write(response, transport, lines)
        if self.bell.bookmark_due and not self.feed.behind:
            self.bell.bookmark_due = False
            if self.feed.revision >= self.after:
                await _write(response, transport, self.teller.bookmark(self.feed.revision))

    async def _take(self) -> list[Fact]:
        while True:
            try:
                return self.feed.take(_FACTS_MAX)
            except Hung as hung:
                await hung.over

    def _tear(self, transport: asyncio.Transport, fact: Fact) -> None:
        """Send the beginning of the chunk that would tell of a fact, and then the end."""
        line = b"".join(self.teller.facts([fact]))
        transport.write(b"%x\r\n%b" % (len(line), line[: len(line) // 2]))
        transport.close()


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Join lines into pieces that are worth a write each, and no larger than need be."""
    parts: list[bytes] = []
    size = 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size >= _WRITE_MAX:
            yield b"".join(parts)
            parts, size = [], 0
    if size:
        yield b"".join(parts)


async def refuse(
    response: web.StreamResponse, transport: asyncio.Transport | None, *, error: ApiError
) -> None:
    """End a watch with the event that tells why."""
    with suppress(ConnectionError, TimeoutError):
        await _write(response, transport, error_line(error))
        await response.write_eof()


async def follow(
    response: web.StreamResponse,
    transport: asyncio.Transport | None,
    lines: AsyncIterator[tuple[float, bytes]],
    options: LogOptions,
    *,
    skip: int,
    limit: Limit,
) -> None:
    """Write the lines of a log as they come, after the first `skip`, until it ends."""
    number = 0
    with suppress(ConnectionError, TimeoutError):
        async for written, line in lines:
            number += 1
            if number <= skip or not options.wanted(written):
                continue
            await _write(response, transport, limit.cut(options.render(written, line)))
            if limit.reached:
                break
        await response.write_eof()


async def collect(lines: AsyncIterator[tuple[float, bytes]], options: LogOptions) -> Tail:
    """Return what is wanted of a log that does not go on."""
    tail = Tail(options)
    async for written, line in lines:
        tail.add(written, line)
    return tail


async def _write(
    response: web.StreamResponse, transport: asyncio.Transport | None, data: bytes
) -> None:
    """Write; wait while the client has no room. Raises: TimeoutError, ConnectionError."""
    if transport is not None:
        if transport.is_closing():
            raise ConnectionResetError("the client has gone")
        if len(data) <= _AT_ONCE_MAX and not transport.get_write_buffer_size():
            await response.write(data)  # There is room: this does not wait.
            return
    async with asyncio.timeout(STALL_S):
        await response.write(data)
