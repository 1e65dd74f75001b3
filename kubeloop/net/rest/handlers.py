"""From a call on a resource path to its answer: which verb it is, what it asks, how it is told.

Knows HTTP's words (methods, Accept, Content-Type) and nothing of sockets: `server` reads and
writes, `streams` keeps what goes on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgpack
from aiohttp import web

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import (
    ApiError,
    Expired,
    MethodNotAllowed,
    Unexplained,
    error_of,
    is_revision_too_large,
)
from kubeloop.api.resources import Resource
from kubeloop.net.choice import Choice
from kubeloop.net.gate import Feed, Wanted
from kubeloop.net.rest import logs, options, streams
from kubeloop.net.rest.backend import Backend
from kubeloop.net.rest.bodies import Body, pack, read_object, read_patch
from kubeloop.net.rest.encodings import Encodings
from kubeloop.net.rest.negotiation import Media, media_of
from kubeloop.net.rest.paths import Target
from kubeloop.net.rest.rendering import PLAIN, Answers, render
from kubeloop.net.rest.watching import JsonCache, Teller

WATCH_TIMEOUT_S: Final = 1800.0  # kube-apiserver's --min-request-timeout.
_TEXT: Final = "text/plain"
_TOKEN_REVIEW: Final = "TokenReview"
DEPRECATED: Final = {
    "endpoints": "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    "componentstatuses": "v1 ComponentStatus is deprecated in v1.19+",
}
"""Resource → what every request for it is warned of."""
_CHECKED_TWICE: Final = ("Strict", "Warn")


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request on a resource path, read completely."""

    method: str
    target: Target
    parameters: list[tuple[str, str]]
    accept: str
    content_type: str
    upgrades: bool
    body: bytes
    user: str
    agent: str = ""
    id: str = ""
    groups: list[str] = field(default_factory=list)

    def first(self, name: str) -> str:
        """Return the first value of a query parameter, "" if there is none."""
        return next((v for n, v in self.parameters if n == name), "")


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer; its parts are made as they are written."""

    status: int
    content_type: str
    parts: Iterator[bytes]
    warnings: list[str] = field(default_factory=list)
    retry_after_s: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on."""

    content_type: str
    run: Callable[[web.StreamResponse, asyncio.Transport | None], Awaitable[None]]
    close: Callable[[], None] = lambda: None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Known:
    """A call that gets one object, understood: it may be answered again and again."""

    request: Request
    resource: Resource
    media: Media
    include: str


class Handlers:
    """Answers calls.

    wall:  seconds since 1970.
    knows: whose a token is, as far as the endpoint knows; "" if it does not.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        wall: Callable[[], float],
        knows: Callable[[str], str] = lambda token: "",
    ) -> None:
        self.backend, self.wall, self._knows = backend, wall, knows
        self._encodings = Encodings()
        self._cache = JsonCache(self._encodings)
        self._bells: dict[streams.Bell, None] = {}  # In order: the same in every run.

    def end_streams(self) -> None:
        """Have every watch and followed log end now."""
        for bell in tuple(self._bells):
            bell.end()

    async def handle(self, call: Call) -> Reply | Stream:
        """Answer a call. Raises: ApiError."""
        target = call.target
        if target.subresource == "log":
            if call.method != "GET":
                raise MethodNotAllowed
            return await self._log(call)
        asked = options.parse_options(call.parameters)
        verb = _verb(call, asked)
        if verb == "watch":
            return await self._watch(call, asked)
        media = media_of(call.accept)
        answers = Answers(
            target.resource,
            media,
            include=call.first("includeObject"),
            now=self.wall(),
            encodings=self._encodings,
        )
        request = _request(call, verb, asked)
        if target.resource.kind == _TOKEN_REVIEW:
            self._tell_whose(request)
        outcome = self.backend.read(request) or await self.backend.ask(request)
        warnings = [*_warnings(target), *outcome.warnings]
        if outcome.code >= 400:
            return _failure(outcome, media, warnings)
        parts: Iterator[bytes]
        if verb in ("list", "deletecollection"):
            parts = answers.many(outcome)
        else:
            parts = iter((answers.one(outcome.body),))
        return Reply(outcome.code, media.type, parts, warnings)

    def known_get(self, call: Call) -> Known | None:
        """Return how a call is answered without the API server; None if it may not be.

        Raises: ApiError.
        """
        target = call.target
        if not target.name or target.subresource or _warnings(target):
            return None
        asked = options.parse_options(call.parameters)
        if _verb(call, asked) != "get":
            return None
        include = call.first("includeObject")
        media = media_of(call.accept)
        Answers(target.resource, media, include=include, now=0)  # Refuses a wrong `include`.
        return Known(_request(call, "get", asked), target.resource, media, include)

    def get(self, known: Known) -> bytes | None:
        """Return an object, None if the API server has to be asked, or there is none."""
        outcome = self.backend.read(known.request)
        if outcome is None or outcome.code != 200:
            return None
        if known.media == PLAIN:
            return self._encodings.text(outcome.body).whole + b"\n"
        answers = Answers(
            known.resource,
            known.media,
            include=known.include,
            now=self.wall(),
            encodings=self._encodings,
        )
        return answers.one(outcome.body)

    def _tell_whose(self, request: Request) -> None:
        """Tell whose token a TokenReview is about, if that is known here."""
        spec = msgpack.unpackb(request.body).get("spec")
        token = spec.get("token") if isinstance(spec, dict) else None
        if isinstance(token, str) and (known := self._knows(token)):
            request.options["tokenOf"] = known

    # Watches.

    async def _watch(self, call: Call, asked: options.Options) -> Stream:
        """Return the stream of a watch. Raises: ApiError for what can be refused before it."""
        options.check("watch", asked)
        resource, media = call.target.resource, media_of(call.accept, watch=True)
        choice = Choice.parse(
            resource, asked.get("labelSelector", ""), asked.get("fieldSelector", "")
        )
        teller = Teller(
            resource,
            choice,
            media,
            include=call.first("includeObject"),
            cache=self._cache,
            now=self.wall,
        )
        bell, warnings = streams.Bell(), _warnings(call.target)
        try:
            items, after, end = await self._beginning(call, asked)
            feed = await self._open(call, asked, choice, after, bell)
        except ApiError as error:
            if not isinstance(error, Expired) and not is_revision_too_large(error):
                raise
            return Stream(media.type, partial(streams.refuse, error=error), warnings=warnings)
        watch = streams.Watch(
            feed=feed,
            teller=teller,
            bell=bell,
            items=items,
            after=after,
            end=end,
            timeout_s=float(asked.get("timeoutSeconds") or WATCH_TIMEOUT_S),
            bookmarks=bool(asked.get("allowWatchBookmarks")),
            convert=partial(self._convert, resource),
        )

        def close() -> None:
            self._bells.pop(bell, None)
            feed.close()

        self._bells[bell] = None
        return Stream(media.type, watch.run, close, warnings)

    async def _convert(
        self, resource: Resource, objects: Mapping[tuple[str, int], dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return custom objects in the version that is watched. Raises: ConversionFailed."""
        assert resource.custom is not None
        return await self.backend.convert(resource.custom, objects)

    async def _beginning(self, call: Call, asked: options.Options) -> tuple[list[bytes], int, bool]:
        """Return what a watch tells first, the revision it goes on after, and whether to say so."""
        if not _begins_with_list(asked):
            return [], _watch_version(asked) or self.backend.revision(), False
        outcome = await self._list(call, asked)
        end = bool(asked.get("sendInitialEvents") and asked.get("allowWatchBookmarks"))
        return outcome.items, outcome.revision, end

    async def _list(self, call: Call, asked: options.Options) -> Outcome:
        target = call.target
        names = ("labelSelector", "fieldSelector", "resourceVersion")
        options = {"watch": True, **{name: asked.get(name, "") for name in names}}
        if target.name:
            options["fieldSelector"] = f"metadata.name={target.name}"
        where = ("list", target.resource.id, target.namespace)
        request = Request(
            *where,
            options=options,
            user=call.user,
            agent=call.agent,
            id=call.id,
            version=_version(target),
        )
        outcome = self.backend.read(request) or await self.backend.ask(request)
        if outcome.code >= 400:
            raise error_of(msgpack.unpackb(outcome.body))
        return outcome

    async def _open(
        self, call: Call, asked: options.Options, choice: Choice, after: int, bell: streams.Bell
    ) -> Feed:
        target = call.target
        node = choice.requires("spec.nodeName") if target.resource.id == "pods" else ""
        wanted = Wanted(
            target.resource.stored_id,
            min(after, self.backend.revision()),
            namespace=target.namespace or choice.requires("metadata.namespace"),
            name=target.name or choice.requires("metadata.name"),
            node=node,
            labels=choice.label,
            user=call.user,
            agent=call.agent,
            listed=_begins_with_list(asked),
        )
        return await self.backend.open(wanted, bell.ring)

    # Logs.

    async def _log(self, call: Call) -> Stream:
        target = call.target
        asked = logs.parse_log_options(call.parameters, target.name, self.wall())
        where = (target.namespace, target.name)
        outcome = await self.backend.ask(
            Request("get", "pods", *where, user=call.user, agent=call.agent, id=call.id)
        )
        pod = msgpack.unpackb(outcome.body)
        if outcome.code >= 400:
            raise error_of(pod)
        container = logs.container_of(pod, asked.container)
        previous = asked.previous
        tail = await streams.collect(
            self.backend.logs(*where, container, previous=previous, follow=False), asked
        )
        limit = logs.Limit(asked.limit_bytes)

        async def run(response: web.StreamResponse, transport: asyncio.Transport | None) -> None:
            await response.write(limit.cut(tail.text))
            if not asked.follow or limit.reached:
                await response.write_eof()
                return
            lines = self.backend.logs(*where, container, previous=previous, follow=True)
            await streams.follow(response, transport, lines, asked, skip=tail.count, limit=limit)

        return Stream(_TEXT, run)


def _failure(outcome: Outcome, media: Media, warnings: list[str]) -> Reply:
    """Return the answer of a refused call: a Status, which has no other form."""
    status = msgpack.unpackb(outcome.body)
    retry_after_s = (status.get("details") or {}).get("retryAfterSeconds", 0)
    plain = Media(media.type, pretty=media.pretty)
    return Reply(outcome.code, plain.type, iter((render(status, plain),)), warnings, retry_after_s)


def _warnings(target: Target) -> list[str]:
    deprecated = DEPRECATED.get(target.resource.id)
    return [deprecated] if deprecated else []


def _verb(call: Call, asked: options.Options) -> str:
    """Return what a method means on a path. Raises: MethodNotAllowed."""
    target = call.target
    match call.method, bool(target.name):
        case "GET", _ if target.watch:
            verb = "watch"
        case "GET", True:
            verb = "get"
        case "GET", False:
            verb = "watch" if asked.get("watch") else "list"
        case "POST", named if named == bool(target.subresource):
            verb = "create"
        case "PUT", True:
            verb = "update"
        case "PATCH", True:
            verb = "patch"
        case "DELETE", named:
            verb = "delete" if named else "deletecollection"
        case _:
            raise MethodNotAllowed
    sub = target.resource.subresource(target.subresource) if target.subresource else None
    if verb not in (sub.verbs if sub is not None else target.resource.verbs):
        raise MethodNotAllowed
    return verb


def _request(call: Call, verb: str, asked: options.Options) -> Request:
    """Return the Request a call makes. Raises: BadRequest, Invalid, UnsupportedMediaType."""
    target, body = call.target, b""
    if verb in ("create", "update"):
        told = _object(call, asked)
        if told.duplicates:
            asked["duplicates"] = told.duplicates
        body = pack(told.content)
    elif verb == "patch":
        asked["patchType"], content = read_patch(call.body, call.content_type)
        body = pack(content)
    elif verb in ("delete", "deletecollection") and call.body:
        content = read_object(call.body, call.content_type, "DeleteOptions", strict=False).content
        asked = options.delete_options(content, asked)
    options.check(verb, asked)
    for name in ("watch", "allowWatchBookmarks", "timeoutSeconds"):
        asked.pop(name, None)
    return Request(
        verb,
        target.resource.id,
        target.namespace,
        target.name,
        target.subresource,
        body,
        asked,
        call.user,
        agent=call.agent,
        id=call.id,
        version=_version(target),
        groups=call.groups,
    )


def _version(target: Target) -> str:
    """Return the version to ask for: of a built-in kind there is one."""
    return target.resource.version if target.resource.versioned is not None else ""


def _object(call: Call, asked: options.Options) -> Body:
    resource, name = call.target.resource, call.target.subresource
    sub = resource.subresource(name) if name else None
    kind = sub.kind if sub is not None and sub.kind else resource.kind
    strict = asked.get("fieldValidation") in _CHECKED_TWICE
    return read_object(call.body, call.content_type, kind, strict=strict)


def _begins_with_list(asked: options.Options) -> bool:
    """Tell whether a watch is first told what there is. Raises: ApiError."""
    initial = asked.get("sendInitialEvents")
    return _watch_version(asked) == 0 if initial is None else bool(initial)


def _watch_version(asked: options.Options) -> int:
    """Return the revision to watch from, 0 if none is named.

    Raises: Unexplained: kube-apiserver's watch cache calls it its own fault if it cannot read it.
    """
    text = asked.get("resourceVersion", "")
    if text and not (text.isascii() and text.isdigit()):
        raise Unexplained(
            f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: '
            f'parsing "{text}": invalid syntax'
        )
    return int(text or 0)
