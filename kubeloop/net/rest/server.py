"""The REST endpoint: what kubectl and every other client talk to.

One handler takes every request: its path is looked up in the table of resources, its body turned
into a Request, the Request put to the cluster, and the Outcome told in the client's language.
aiohttp is used for HTTP itself and for nothing else.

    path → Target ┐
    query, body   ├→ Request → backend.ask → Outcome → JSON, YAML, Table, …
    Accept → Media┘
"""

import asyncio
import logging
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, Final

import msgpack
import orjson
from aiohttp import web
from aiohttp.helpers import rfc822_formatted_time
from multidict import CIMultiDict

from kubeloop.api.calls import Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.errors import (
    ApiError,
    BadRequest,
    InternalError,
    MethodNotAllowed,
    TooLarge,
    Unauthorized,
    error_of,
)
from kubeloop.api.identity import KEY_SET
from kubeloop.api.uids import new_uid
from kubeloop.net.gate import Overloaded, Severed
from kubeloop.net.rest import paths, quick
from kubeloop.net.rest.auth import OPEN, Authenticator, is_signed, shown_by, token_in
from kubeloop.net.rest.backend import Backend, Version
from kubeloop.net.rest.bodies import BODY_MAX
from kubeloop.net.rest.documents import Document, Documents, health, key_set
from kubeloop.net.rest.handlers import Call, Handlers, Known, Reply, Stream
from kubeloop.net.rest.health import HEALTH
from kubeloop.net.rest.metering import CONTENT_TYPE, Meter, Visit, What, what_of
from kubeloop.net.rest.negotiation import JSON
from kubeloop.net.rest.options import parse_query
from kubeloop.net.rest.remote import Remote
from kubeloop.net.rest.rendering import warning

_log = logging.getLogger(__name__)
_HEADS_MAX: Final = 4096  # Remembered; when there are more, all are forgotten.
_CACHE_CONTROL: Final = "no-cache, private"
_TOGETHER_MAX: Final = 128 << 10  # What is sent as a whole, with its length [bytes].
_HEADER_MAX: Final = 64 << 10
AUDIT_ID: Final = "Audit-Id"  # A client may choose it; if not, each request gets a UUID.
AUDIT_ID_MAX: Final = 64  # What is kept of one, as kube-apiserver keeps it; all of it is echoed.
_TOKEN_REVIEWS: Final = "tokenreviews.authentication.k8s.io"
_KEYS: Final = ("openid", "v1", "jwks")
_METRICS: Final = ("metrics",)
_SELF: Final = "system:apiserver"  # As whom the endpoint asks by itself.
_STOP_S: Final = 0.2  # How long a request in flight has to end when the server stops.


class RestServer:
    """Serves one cluster at one address.

    token: of the administrator.
    tls:   None serves plain HTTP, which is for tests and for behind a proxy.
    wall:  seconds since 1970, for ages in tables.
    bits:  n → n random bits, for the ids of requests.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        name: str = "kubeloop",
        host: str = "127.0.0.1",
        port: int = 0,
        token: str,
        tls: ssl.SSLContext | None = None,
        version: Version | None = None,
        wall: Callable[[], float],
        bits: Callable[[int], int],
    ) -> None:
        self.backend, self.name, self.tls = backend, name, tls
        self.host, self.port = host, port
        self.version = version or Version()
        self._authenticator = Authenticator(token)
        self._remote = Remote(backend)
        self._handlers = Handlers(backend, wall=wall, knows=self._authenticator.knows)
        self._documents = Documents(self.version, "")
        self._runner: web.ServerRunner | None = None
        self._bits, self._wall = bits, wall
        self._meter = Meter()
        self._heads: dict[bytes, tuple[Known, What]] = {}  # Of GETs: what each asks for,
        self._heads_mean: Catalogue | None = None  # where these kinds are served.

    @property
    def url(self) -> str:
        """Where it answers: "https://127.0.0.1:6443"."""
        return f"{'https' if self.tls else 'http'}://{self._address()}"

    async def start(self) -> None:
        """Listen; return when clients can connect. Raises: OSError if the port is taken."""
        server = quick.Server(
            self._handle,
            quick=self._quick,
            access_log=None,
            handler_cancellation=True,
            max_line_size=_HEADER_MAX,
            max_field_size=_HEADER_MAX,
        )
        runner = web.ServerRunner(server, shutdown_timeout=_STOP_S)
        await runner.setup()
        try:
            site = web.TCPSite(
                runner, self.host, self.port, ssl_context=self.tls, reuse_address=True
            )
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        self.port = runner.addresses[0][1]
        self._documents = Documents(self.version, self._address())

    async def stop(self) -> None:
        """End every watch and close every connection; return when all are gone."""
        runner, self._runner = self._runner, None
        if runner is not None:
            self._handlers.end_streams()
            await asyncio.sleep(0)  # One turn, in which idle watches say goodbye.
            await runner.cleanup()

    def _address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and take note of it."""
        id_ = request.headers.get(AUDIT_ID, "")
        if not (id_ and id_.isascii() and id_.isprintable()):
            id_ = new_uid(self._bits)
        headers: CIMultiDict[str] = CIMultiDict()
        headers[AUDIT_ID] = id_
        headers["Cache-Control"] = _CACHE_CONTROL
        headers["Server"] = self.name
        visit = Visit(self._meter)
        try:
            response = await self._told(request, headers, id_[:AUDIT_ID_MAX], visit)
            visit.code = response.status
            return response
        finally:
            visit.end(asyncio.get_running_loop().time())

    async def _told(
        self, request: web.BaseRequest, headers: CIMultiDict[str], id_: str, visit: Visit
    ) -> web.StreamResponse:
        """Answer, by a Status if need be."""
        try:
            return await self._answer(request, headers, id_, visit)
        except Overloaded as error:
            return _overloaded(error, headers)
        except Severed:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()  # Which goes nowhere.
        except ApiError as error:
            return _refusal(error, headers)
        except (asyncio.CancelledError, ConnectionError):
            raise
        except web.HTTPException as error:  # Of a handshake that is none.
            return _refusal(BadRequest(error.text or error.reason), headers)
        except Exception as error:  # noqa: BLE001 - the boundary: a client gets a Status, always
            _log.exception("%s %s failed", request.method, request.raw_path)
            return _refusal(InternalError(f"{type(error).__name__}: {error}"), headers)

    async def _who(self, request: web.BaseRequest) -> tuple[str, list[str]]:
        """Return who asks, and his groups if these do not follow from his name.

        Raises: Unauthorized; as `Backend.ask`.
        """
        if self.tls is not None and request.transport is not None:
            shown = request.transport.get_extra_info("peercert")
            if (found := shown_by(shown, self._wall())) is not None:
                return found
        return await self._user(request.headers.get("Authorization")), []

    async def _user(self, authorization: str | None) -> str:
        """Return whose token it is. Raises: Unauthorized; as `Backend.ask`."""
        token = token_in(authorization)
        if not is_signed(token):
            return self._authenticator.user(authorization)
        question = {"spec": {"token": token}}
        asked = Request("create", _TOKEN_REVIEWS, body=msgpack.packb(question), user=_SELF)
        outcome = await self.backend.ask(asked)
        status = msgpack.unpackb(outcome.body).get("status")
        if outcome.code >= 400 or not status.get("authenticated"):
            raise Unauthorized
        return str(status["user"]["username"])

    def _quick(self, head: bytes) -> bytes | None:
        """Answer a GET of an object at once; None if it has to go the long way."""
        catalogue = self.backend.catalogue()
        if catalogue is not self._heads_mean or len(self._heads) > _HEADS_MAX:
            self._heads_mean = catalogue
            self._heads.clear()
        now = asyncio.get_running_loop().time
        began, found = now(), self._heads.get(head)
        if found is None:
            found = self._understand(head, catalogue)
            if found is None:
                return None
            self._heads[head] = found
        known, what = found
        body = self._handlers.get(known)
        if body is None:
            return None
        self._meter.count(what, 200, now() - began)
        lines = (
            "HTTP/1.1 200 OK",
            f"{AUDIT_ID}: {new_uid(self._bits)}",
            f"Cache-Control: {_CACHE_CONTROL}",
            f"Server: {self.name}",
            f"Content-Type: {known.media.type}",
            f"Content-Length: {len(body)}",
            f"Date: {rfc822_formatted_time()}\r\n\r\n",
        )
        return "\r\n".join(lines).encode() + body

    def _understand(self, data: bytes, catalogue: Catalogue) -> tuple[Known, What] | None:
        """Return what the head of a GET asks for, None if that is nothing simple."""
        head = quick.read_head(data)
        if head is None:
            return None
        (raw_path, _, query), headers = head[0].partition("?"), head[1]
        authorization = headers.get("authorization")
        try:
            target = paths.find(paths.split(raw_path), catalogue)
            if target is None or is_signed(token_in(authorization)):
                return None
            call = Call(
                method="GET",
                target=target,
                parameters=parse_query(query),
                accept=headers.get("accept", ""),
                content_type="",
                upgrades=False,
                body=b"",
                user=self._authenticator.user(authorization),
                agent=headers.get("user-agent", ""),
            )
            known = self._handlers.known_get(call)
            return None if known is None else (known, what_of(call, connects=False))
        except ApiError:
            return None

    async def _document(
        self,
        segments: tuple[str, ...],
        parameters: list[tuple[str, str]],
        accept: str,
        catalogue: Catalogue,
    ) -> Document:
        """Return what is no resource. Raises: ApiError; as `Backend.ask`."""
        if segments == _KEYS:
            return key_set(await self._keys())
        if segments and segments[0] in HEALTH:
            return health(segments, parameters, self.backend.failing())
        if segments == _METRICS:
            text = self._meter.text(self.backend.counts(), self.version.document())
            return Document(text, CONTENT_TYPE)
        return self._documents.find(segments, dict(parameters), accept, catalogue)

    async def _keys(self) -> dict[str, Any]:
        """Return the public keys of who signs tokens. Raises: ApiError; as `Backend.ask`."""
        outcome = await self.backend.ask(Request("get", KEY_SET, user=_SELF))
        told: dict[str, Any] = msgpack.unpackb(outcome.body)
        if outcome.code >= 400:
            raise error_of(told)
        return told

    async def _answer(
        self, request: web.BaseRequest, headers: CIMultiDict[str], id_: str, visit: Visit
    ) -> web.StreamResponse:
        raw_path, _, query = request.raw_path.partition("?")
        segments = paths.split(paths.split_proxy(raw_path)[0])
        user, groups = "", list[str]()
        if not (segments and segments[0] in OPEN):
            user, groups = await self._who(request)
        catalogue = self.backend.catalogue()
        target = paths.find(segments, catalogue)
        parameters = parse_query(query)
        accept = request.headers.get("Accept", "")
        now = asyncio.get_running_loop().time()
        if target is None:
            document = await self._document(segments, parameters, accept, catalogue)
            if document.status == 200:
                visit.begin(What(request.method, subresource=raw_path), now)
            return _document(document, request, headers)
        call = Call(
            method=request.method,
            target=target,
            parameters=parameters,
            accept=accept,
            content_type=request.headers.get("Content-Type", ""),
            upgrades="Upgrade" in request.headers,
            body=await _read_body(request),
            user=user,
            groups=groups,
            agent=request.headers.get("User-Agent", ""),
            id=id_,
        )
        sub = target.resource.subresource(target.subresource)
        connects = sub is not None and sub.connects
        visit.begin(what_of(call, connects=connects), now)
        if connects:
            return await self._remote.handle(call, request, headers)
        reply = await self._handlers.handle(call)
        if isinstance(reply, Stream):
            return await _stream(reply, request, headers)
        return await _reply(reply, request, headers)


async def _read_body(request: web.BaseRequest) -> bytes:
    """Return the body. Raises: TooLarge."""
    if not request.body_exists:
        return b""
    told = request.content_length
    if told is not None and told > BODY_MAX:
        raise TooLarge(f"Request entity too large: limit is {BODY_MAX}")
    parts, size = [], 0
    async for part in request.content.iter_any():
        size += len(part)
        if size > BODY_MAX:
            raise TooLarge(f"Request entity too large: limit is {BODY_MAX}")
        parts.append(part)
    return b"".join(parts)


async def _reply(
    reply: Reply, request: web.BaseRequest, headers: CIMultiDict[str]
) -> web.StreamResponse:
    headers["Content-Type"] = reply.content_type
    for text in reply.warnings:
        headers.add("Warning", warning(text))
    if reply.retry_after_s:
        headers["Retry-After"] = str(reply.retry_after_s)
    lead: list[bytes] = []
    size = 0
    for part in reply.parts:
        lead.append(part)
        size += len(part)
        if size > _TOGETHER_MAX:
            break
    else:
        return web.Response(body=b"".join(lead), status=reply.status, headers=headers)
    parts: Iterator[bytes] = chain(lead, reply.parts)
    if _takes_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"], headers["Vary"] = "gzip", "Accept-Encoding"
        parts = _compressed(parts)
    response = web.StreamResponse(status=reply.status, headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(request)
    for part in parts:
        await response.write(part)
        await asyncio.sleep(0)  # Others are not to wait until all is sent.
    await response.write_eof()
    return response


def _takes_gzip(header: str) -> bool:
    """Tell whether an Accept-Encoding header names gzip, and does not say q=0."""
    for clause in header.lower().split(","):
        coding, _, quality = clause.partition(";")
        if coding.strip() == "gzip":
            return quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what is not small in gzip, as fast as it goes, like kube-apiserver."""
    pack = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for part in parts:
        if packed := pack.compress(part):
            yield packed
    yield pack.flush()


async def _stream(
    stream: Stream, request: web.BaseRequest, headers: CIMultiDict[str]
) -> web.StreamResponse:
    headers["Content-Type"] = stream.content_type
    for text in stream.warnings:
        headers.add("Warning", warning(text))
    response = web.StreamResponse(status=200, headers=headers)
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        await stream.run(response, request.transport)
    finally:
        stream.close()
    return response


def _document(
    document: Document, request: web.BaseRequest, headers: CIMultiDict[str]
) -> web.Response:
    if document.status == 200 and request.method not in ("GET", "HEAD"):
        raise MethodNotAllowed
    headers["Content-Type"] = document.content_type
    headers.update(document.headers)
    tag = document.headers.get("Etag")
    if tag is not None and tag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    body = document.body
    if len(body) > _TOGETHER_MAX and _takes_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"], headers["Vary"] = "gzip", "Accept-Encoding"
        body = b"".join(_compressed([body]))
    return web.Response(body=body, status=document.status, headers=headers)


def _overloaded(error: Overloaded, headers: CIMultiDict[str]) -> web.Response:
    headers["Content-Type"] = "text/plain; charset=utf-8"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Retry-After"] = str(error.retry_after_s)
    return web.Response(body=f"{error.text}\n".encode(), status=error.code, headers=headers)


def _refusal(error: ApiError, headers: CIMultiDict[str]) -> web.Response:
    status: dict[str, Any] = error.status()
    headers["Content-Type"] = JSON
    retry_after_s = (status.get("details") or {}).get("retryAfterSeconds")
    if retry_after_s:
        headers["Retry-After"] = str(retry_after_s)
    body = orjson.dumps(status, option=orjson.OPT_APPEND_NEWLINE)
    return web.Response(body=body, status=error.code, headers=headers)
