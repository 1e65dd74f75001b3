"""An OCI registry over an image store: what nodes pull from, and, if allowed, what tools push to.

The store may change while it is served, also by other processes. A name without a domain means what
it means to Docker; whoever uses us as a mirror tells the domain in the query (`?ns=quay.io`).
Source: the OCI Distribution Specification 1.1.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from kubeloop.net.registry.reference import DEFAULT_DOMAIN, Reference
from kubeloop.net.registry.store import (
    INDEX_TYPES,
    MANIFEST_BYTES_MAX,
    MANIFEST_TYPES,
    ImageStore,
    StoreError,
)

UPLOADS_MAX: Final = 64
_VERSION: Final = {"Docker-Distribution-Api-Version": "registry/2.0"}
_STATUS: Final = {
    "NAME_INVALID": 400, "NAME_UNKNOWN": 404, "MANIFEST_UNKNOWN": 404, "MANIFEST_INVALID": 400,
    "MANIFEST_BLOB_UNKNOWN": 404, "BLOB_UNKNOWN": 404, "BLOB_UPLOAD_UNKNOWN": 404,
    "DIGEST_INVALID": 400, "SIZE_INVALID": 400, "UNSUPPORTED": 405, "TOOMANYREQUESTS": 429,
}  # fmt: skip
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RegistryError(Exception):
    """A request that was understood and refused; code: as the specification names it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def response(self) -> web.Response:
        """Return what the client gets."""
        body = {"errors": [{"code": self.code, "message": self.message}]}
        return web.json_response(body, status=_STATUS[self.code], headers=_VERSION)


class RegistryServer:
    """Serves `store`. port: 0 takes a free one. writable: allows to push."""

    def __init__(
        self,
        store: ImageStore,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        writable: bool = False,
    ) -> None:
        self.store, self.host, self.port, self.writable = store, host, port, writable
        self._uploads: dict[str, Any] = {}  # Open temporary files.
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it answers, once it was started."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises: OSError."""
        self._runner = web.AppRunner(self.application(), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        try:
            await site.start()
        except OSError:
            await self.stop()
            raise
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop, and forget what was half pushed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        for identifier in tuple(self._uploads):
            self._forget(identifier)

    def application(self) -> web.Application:
        """Return the aiohttp application."""
        application = web.Application(
            client_max_size=MANIFEST_BYTES_MAX, middlewares=[_errors_are_answers]
        )
        name = "/v2/{name:.+}"
        application.add_routes(
            [
                web.get("/v2/", self._version),
                web.get("/v2/_catalog", self._catalog),
                web.get(f"{name}/tags/list", self._tags),
                web.get(f"{name}/manifests/{{reference}}", self._manifest),
                web.get(f"{name}/blobs/{{digest}}", self._blob),
                web.post(f"{name}/blobs/uploads/", self._begin),
                web.patch(f"{name}/blobs/uploads/{{upload}}", self._append),
                web.put(f"{name}/blobs/uploads/{{upload}}", self._finish),
                web.put(f"{name}/manifests/{{reference}}", self._put_manifest),
            ]
        )
        return application

    # Pulling.

    async def _version(self, _: web.Request) -> web.StreamResponse:
        return web.json_response({}, headers=_VERSION)

    async def _catalog(self, _: web.Request) -> web.StreamResponse:
        names = [name.removeprefix("docker.io/") for name in self.store.repositories()]
        return web.json_response({"repositories": names}, headers=_VERSION)

    async def _tags(self, request: web.Request) -> web.StreamResponse:
        name = _reference(request, "latest").name
        tags = self.store.tags(name)
        if not tags:
            raise RegistryError("NAME_UNKNOWN", f"repository {name} is not known to this registry")
        body = {"name": request.match_info["name"], "tags": list(tags)}
        return web.json_response(body, headers=_VERSION)

    async def _manifest(self, request: web.Request) -> web.StreamResponse:
        reference = _reference(request, request.match_info["reference"])
        descriptor = self.store.find(reference)
        if descriptor is None:
            raise RegistryError("MANIFEST_UNKNOWN", f"{reference}: manifest unknown")
        return web.Response(
            body=self.store.read(descriptor["digest"]),
            headers={
                **_VERSION,
                "Content-Type": descriptor["mediaType"],
                "Docker-Content-Digest": descriptor["digest"],
            },
        )

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = request.match_info["digest"]
        path = self.store.blob(digest)
        if path is None:
            raise RegistryError("BLOB_UNKNOWN", f"{digest}: blob unknown to registry")
        headers = {
            **_VERSION,
            "Content-Type": "application/octet-stream",
            "Docker-Content-Digest": digest,
        }
        return web.FileResponse(path, headers=headers)

    # Pushing.

    async def _begin(self, request: web.Request) -> web.StreamResponse:
        self._writable()
        wanted = request.query.get("mount") or request.query.get("digest") or ""
        if wanted and self.store.blob(wanted) is not None:
            return _created(request, "blobs", wanted)
        if len(self._uploads) >= UPLOADS_MAX:
            raise RegistryError("TOOMANYREQUESTS", f"{UPLOADS_MAX} uploads are under way already")
        identifier = os.urandom(16).hex()
        file = tempfile.TemporaryFile(dir=_directory(self.store))  # noqa: SIM115 - kept open.
        self._uploads[identifier] = file
        if "digest" in request.query:
            return await self._complete(request, identifier)
        return self._accepted(request, identifier)

    async def _append(self, request: web.Request) -> web.StreamResponse:
        self._writable()
        identifier = request.match_info["upload"]
        await self._take(request, identifier)
        return self._accepted(request, identifier)

    async def _finish(self, request: web.Request) -> web.StreamResponse:
        self._writable()
        return await self._complete(request, request.match_info["upload"])

    async def _complete(self, request: web.Request, identifier: str) -> web.StreamResponse:
        """Take the last of an upload, and keep it if it is what its digest says."""
        await self._take(request, identifier)
        file = self._uploads[identifier]
        file.seek(0)
        digest = request.query.get("digest", "")
        found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        if found != digest:
            self._forget(identifier)
            why = f"the content is {found}, not {digest or 'named by a digest'}"
            raise RegistryError("DIGEST_INVALID", why)
        file.seek(0)
        with self.store.writing() as (out, finish):
            while chunk := file.read(1 << 20):
                out.write(chunk)
            finish("application/octet-stream")
        self._forget(identifier)
        return _created(request, "blobs", digest)

    async def _put_manifest(self, request: web.Request) -> web.StreamResponse:
        self._writable()
        version = request.match_info["reference"]
        reference = _reference(request, version)
        body = await request.read()
        document = _document(body)
        kind = document.get("mediaType") or request.content_type
        if kind not in (*MANIFEST_TYPES, *INDEX_TYPES):
            raise RegistryError("MANIFEST_INVALID", f"{kind} is no type of manifest we know")
        for digest in _needs(document):
            if self.store.blob(digest) is None:
                raise RegistryError("MANIFEST_BLOB_UNKNOWN", f"{digest} was not pushed")
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if reference.digest and reference.digest != found:
            raise RegistryError("DIGEST_INVALID", f"the manifest is {found}, not {version}")
        descriptor = self.store.put(body, kind)
        if not reference.digest:
            with self.store.changing():
                self.store.tag(reference, descriptor)
        return _created(request, "manifests", found)

    async def _take(self, request: web.Request, identifier: str) -> None:
        file = self._uploads.get(identifier)
        if file is None:
            raise RegistryError("BLOB_UPLOAD_UNKNOWN", f"{identifier}: no such upload")
        start = request.headers.get("Content-Range", "").partition("-")[0]
        if start and start != str(file.tell()):
            raise RegistryError("SIZE_INVALID", f"the upload goes on at {file.tell()}, not {start}")
        async for chunk in request.content.iter_chunked(1 << 20):
            file.write(chunk)

    def _accepted(self, request: web.Request, identifier: str) -> web.Response:
        size = self._uploads[identifier].tell()
        place = f"/v2/{request.match_info['name']}/blobs/uploads/{identifier}"
        headers = {**_VERSION, "Location": place, "Docker-Upload-Uuid": identifier}
        headers["Range"] = f"0-{max(0, size - 1)}"
        return web.Response(status=202, headers=headers)

    def _writable(self) -> None:
        if not self.writable:
            why = "this registry is read-only: build into its store with `kubeloop image build`"
            raise RegistryError("UNSUPPORTED", why)

    def _forget(self, identifier: str) -> None:
        self._uploads.pop(identifier).close()


@web.middleware
async def _errors_are_answers(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RegistryError as error:
        return error.response()
    except StoreError as error:
        return RegistryError("MANIFEST_UNKNOWN", str(error)).response()


def _reference(request: web.Request, version: str) -> Reference:
    """Return what a path means. Raises: RegistryError."""
    name = request.match_info["name"]
    domain = request.query.get("ns") or DEFAULT_DOMAIN
    text = f"{domain}/{name}{'@' if ':' in version else ':'}{version}"
    try:
        return Reference.parse(text)
    except ValueError as error:
        raise RegistryError("NAME_INVALID", str(error)) from error


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RegistryError("MANIFEST_INVALID", f"the manifest is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise RegistryError("MANIFEST_INVALID", "the manifest is no JSON object")
    return document


def _needs(document: dict[str, Any]) -> list[str]:
    """Return the digests a manifest names. Raises: RegistryError."""
    parts = [*(document.get("layers") or ()), *(document.get("manifests") or ())]
    if "manifests" not in document:
        parts.append(document.get("config"))
    digests = [part.get("digest") if isinstance(part, dict) else None for part in parts]
    if not all(isinstance(digest, str) for digest in digests):
        raise RegistryError("MANIFEST_INVALID", "the manifest names a part without its digest")
    return [str(digest) for digest in digests]


def _created(request: web.Request, kind: str, digest: str) -> web.Response:
    place = f"/v2/{request.match_info['name']}/{kind}/{digest}"
    headers = {**_VERSION, "Location": place, "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _directory(store: ImageStore) -> Path:
    store.path.mkdir(parents=True, exist_ok=True)
    return store.path
