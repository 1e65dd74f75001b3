"""Calls to etcd and watches, at whichever member answers.

Every member has a channel of its own; one is used until it fails to answer, then the next. A call
that failed may have taken effect: callers ask again in a way that does no harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

import grpc
from aetcd import rpc

ATTEMPT_S: Final = 2.5  # How long a member may take to answer before the next is asked.
SILENCE_S: Final = 2.0  # How long a watch may be silent before it is asked for a sign of life.
PAUSE_S: Final = (0.02, 0.5)  # Between attempts: to begin with, and at most.
PAGE_KEYS: Final = 2000

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
)
_WITH_LEADER: Final = (("hasleader", "true"),)  # A member that lost the others ends the watch.
_ASK_AGAIN: Final = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
)
_COMPACTED: Final = "required revision has been compacted"
_FULL: Final = "database space exceeded"
_BUSY: Final = "too many requests"

Answer = TypeVar("Answer")


class Unavailable(Exception):
    """A member did not answer; what was asked for may have happened."""


class Refused(Exception):
    """etcd says no, and will say it again."""


class Full(Refused):
    """etcd's database is as large as its quota allows."""


class Compacted(Exception):
    """etcd does not know any more how things were then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """PEM data: of the authority (None: those of the system), and of a client's certificate."""

    ca: bytes | None = None
    cert: bytes | None = None
    key: bytes | None = None


class Item(NamedTuple):
    """A key, its value and the revision of etcd that changed it last."""

    key: bytes
    value: bytes
    mod: int


class Event(NamedTuple):
    """A change of a key; value None: it was deleted."""

    key: bytes
    value: bytes | None


Heard = Callable[[list[tuple[int, list[Event]]]], None]
"""Hears of changes: (revision, all events of it), oldest first."""


class Client:
    """A client of one cluster."""

    def __init__(self, endpoints: Sequence[str], tls: Tls | None = None) -> None:
        """endpoints: "host:port", with or without "http://" or "https://"; see `tls`."""
        if not endpoints:
            raise ValueError("etcd needs at least one endpoint, such as 127.0.0.1:2379")
        targets = [endpoint.split("://")[-1].rstrip("/") for endpoint in endpoints]
        self._channels = [_channel(target, tls) for target in targets]
        self._current = 0

    async def close(self) -> None:
        """End all calls and connections."""
        for channel in self._channels:
            await channel.close(None)

    def move_on(self) -> None:
        """Ask another member from now on."""
        self._current = (self._current + 1) % len(self._channels)

    async def txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        """Try a transaction once. Raises: Unavailable, Refused, Full."""
        return await self._call(lambda channel: rpc.KVStub(channel).Txn(request, timeout=ATTEMPT_S))

    async def list(self, first: bytes, end: bytes) -> tuple[int, list[Item]]:
        """Return a revision, and all there is in a range at it. Raises: Unavailable, Refused."""
        items: list[Item] = []
        revision, start = 0, first
        while True:
            request = rpc.RangeRequest(key=start, range_end=end, limit=PAGE_KEYS, revision=revision)
            answer = await self._range(request)
            revision = revision or answer.header.revision
            items += [Item(kv.key, kv.value, kv.mod_revision) for kv in answer.kvs]
            if not answer.more:
                return revision, items
            start = answer.kvs[-1].key + b"\0"

    async def compact(self, revision: int) -> None:
        """Forget how things were before a revision. Raises: Unavailable, Refused, Compacted."""
        request = rpc.CompactionRequest(revision=revision)
        await self._call(lambda channel: rpc.KVStub(channel).Compact(request, timeout=ATTEMPT_S))

    async def watch(self, first: bytes, end: bytes, after: int, heard: Heard) -> NoReturn:
        """Tell what changes in a range after a revision, oldest first, each revision once.

        Raises: Unavailable, Refused, Compacted, what `heard` raises; it never ends by itself.
        """
        request = rpc.WatchCreateRequest(
            key=first, range_end=end, start_revision=after + 1, fragment=True
        )
        stream = rpc.WatchStub(self._channels[self._current]).Watch(metadata=_WITH_LEADER)
        events: list[Any] = []
        try:
            await stream.write(rpc.WatchRequest(create_request=request))
            while True:
                answer = await _next(stream)
                if answer.canceled:
                    raise _canceled(answer)
                events += answer.events
                if events and not answer.fragment:
                    heard(_by_revision(events))
                    events = []
        except grpc.RpcError as error:
            raise _meant(error) from error
        except asyncio.InvalidStateError as error:  # The stream ended before the request left.
            raise Unavailable(f"the watch ended: {error}") from error
        finally:
            stream.cancel()

    async def _range(self, request: rpc.RangeRequest) -> rpc.RangeResponse:
        return await self._call(
            lambda channel: rpc.KVStub(channel).Range(request, timeout=ATTEMPT_S)
        )

    async def _call(self, call: Callable[[grpc.aio.Channel], Awaitable[Answer]]) -> Answer:
        used = self._current
        try:
            return await call(self._channels[used])
        except grpc.RpcError as error:
            meant = _meant(error)
            if isinstance(meant, Unavailable) and self._current == used:
                self.move_on()
            raise meant from error


def _channel(target: str, tls: Tls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)


async def _next(stream: Any) -> rpc.WatchResponse:
    """Return the next answer of a watch. Raises: Unavailable if there is no sign of life."""
    reading = asyncio.ensure_future(stream.read())
    try:
        await asyncio.wait((reading,), timeout=SILENCE_S)
        if not reading.done():
            progress = rpc.WatchProgressRequest()
            await stream.write(rpc.WatchRequest(progress_request=progress))
            await asyncio.wait((reading,), timeout=SILENCE_S)
        if not reading.done():
            raise Unavailable(f"the watch gave no sign of life for {SILENCE_S} s")
        answer = reading.result()
    finally:
        reading.cancel()
    if answer is grpc.aio.EOF:
        raise Unavailable("the watch ended")
    return answer


def _by_revision(events: Sequence[Any]) -> list[tuple[int, list[Event]]]:
    grouped: list[tuple[int, list[Event]]] = []
    for event in events:
        revision = event.kv.mod_revision
        if not grouped or grouped[-1][0] != revision:
            grouped.append((revision, []))
        deleted = event.type == event.DELETE
        grouped[-1][1].append(Event(event.kv.key, None if deleted else event.kv.value))
    return grouped


def _canceled(answer: rpc.WatchResponse) -> Exception:
    if answer.compact_revision:
        return Compacted(f"etcd begins at revision {answer.compact_revision}")
    return Unavailable(f"the watch was cancelled: {answer.cancel_reason}")


def _meant(error: grpc.RpcError) -> Exception:
    """Return what an error of a call means to us."""
    code, details = error.code(), error.details() or ""
    if _FULL in details:
        return Full(details)
    if _COMPACTED in details:
        return Compacted(details)
    if code in _ASK_AGAIN or _BUSY in details:
        return Unavailable(f"{code.name}: {details}")
    return Refused(f"{code.name}: {details}")
