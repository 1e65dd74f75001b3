"""Pulling from registries by the OCI distribution protocol.

A mirror, by default the cluster's own registry, is asked first; then the registry that the name
itself names. Whatever arrives is checked against the digest it was asked by.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

import aiohttp

from kubeloop.net.registry.build import architecture
from kubeloop.net.registry.reference import Reference
from kubeloop.net.registry.store import (
    INDEX_TYPES,
    MANIFEST_BYTES_MAX,
    MANIFEST_TYPES,
)

CHUNK: Final = 1 << 18
CONFIG_BYTES_MAX: Final = 8 * 1024 * 1024
TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_CHALLENGE: Final = re.compile(r'([a-zA-Z]+)="([^"]*)"')
_SHORT: Final = {"docker.io": "registry-1.docker.io"}


class PullError(OSError):
    """An image cannot be had; the text says why."""


class ImageNotFound(PullError):
    """A registry answered that there is no such image."""


class Wanted(Protocol):
    """What `download` must know of a layer."""

    @property
    def digest(self) -> str:
        """Of the archive as it is stored."""

    @property
    def size_bytes(self) -> int:
        """Of the archive as it is stored."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image. diff_id: the digest of the uncompressed archive."""

    digest: str
    diff_id: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class FetchedImage:
    """What a registry says about an image. digest: of what the name means: manifest or index."""

    name: str
    digest: str
    config: Mapping[str, Any]
    layers: Sequence[Layer]


class RegistryClient:
    """Pulls images; used on one event loop.

    mirror:      the URL of a registry that is asked first, whatever the name.
    upstream:    whether to ask the registry of the name if the mirror does not have it.
    credentials: domain → (user, password), for registries that want them.
    """

    def __init__(
        self,
        mirror: str = "",
        *,
        upstream: bool = True,
        credentials: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        self.mirror, self.upstream = mirror.rstrip("/"), upstream
        self.credentials = dict(credentials or {})
        self._session: aiohttp.ClientSession | None = None
        self._homes: dict[str, str] = {}  # The whole name → the registry that had it.
        self._tokens: dict[tuple[str, str], str] = {}  # (Registry, repository) → authorization.

    async def close(self) -> None:
        """Close the connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def fetch(self, reference: str) -> FetchedImage:
        """Return what a name means now, without its layers' content. Raises: PullError."""
        try:
            wanted = Reference.parse(reference)
        except ValueError as error:
            raise PullError(str(error)) from error
        missing: ImageNotFound | None = None
        for base in self._registries(wanted):
            try:
                found = await self._fetch(base, wanted)
            except ImageNotFound as error:
                missing = error
            else:
                self._homes[str(wanted)] = base
                return found
        if missing is None:
            raise PullError(f"no registry is asked for {wanted}: give one with --registry")
        raise missing

    async def download(self, name: str, layer: Wanted, to: IO[bytes]) -> None:
        """Write a layer to a file, verified. Raises: PullError."""
        reference = Reference.parse(name)
        base = self._homes.get(name) or self._registries(reference)[-1]
        sha, size = hashlib.sha256(), 0
        path = f"blobs/{layer.digest}"
        try:
            async with await self._get(base, reference, path) as response:
                async for chunk in response.content.iter_chunked(CHUNK):
                    size += len(chunk)
                    if size > layer.size_bytes:
                        break
                    sha.update(chunk)
                    to.write(chunk)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(base, error) from error
        if size != layer.size_bytes:
            why = f"{size} bytes came where {layer.size_bytes} were announced"
            raise PullError(f"layer {layer.digest} of {name} is damaged: {why}")
        if f"sha256:{sha.hexdigest()}" != layer.digest:
            raise PullError(
                f"layer {layer.digest} of {name} is damaged: it is sha256:{sha.hexdigest()}"
            )

    def _registries(self, reference: Reference) -> list[str]:
        """Return the URLs of the registries to ask, in order."""
        found = [self.mirror] if self.mirror else []
        if self.upstream:
            host = _SHORT.get(reference.domain, reference.domain)
            local = re.fullmatch(r"(localhost|127\.[0-9.]+|\[::1\])(:[0-9]+)?", host)
            found.append(f"{'http' if local else 'https'}://{host}")
        return found

    async def _fetch(self, base: str, reference: Reference) -> FetchedImage:
        """Return what one registry says. Raises: PullError."""
        body, kind = await self._manifest(base, reference, reference.version)
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        document = _document(body, reference)
        if (document.get("mediaType") or kind) in INDEX_TYPES or "manifests" in document:
            inner = _for_this_machine(document, reference)
            body, kind = await self._manifest(base, reference, inner)
            document = _document(body, reference)
        if document.get("schemaVersion") != 2 or "config" not in document:
            raise PullError(f"{reference}: the manifest is of an old kind (schema 1), or no image")
        config_digest = _text(document["config"], "digest", reference)
        raw = await self._small(base, reference, f"blobs/{config_digest}", CONFIG_BYTES_MAX)
        _verify(raw, config_digest, reference)
        config = _document(raw, reference)
        return FetchedImage(str(reference), digest, config, _layers(document, config, reference))

    async def _manifest(self, base: str, reference: Reference, version: str) -> tuple[bytes, str]:
        """Return a manifest, checked against its digest if that was asked for, and its type."""
        try:
            async with await self._get(base, reference, f"manifests/{version}") as response:
                body = await _limited(response, MANIFEST_BYTES_MAX)
                kind = response.content_type
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(base, error) from error
        if version.startswith("sha256:"):
            _verify(body, version, reference)
        return body, kind

    async def _small(self, base: str, reference: Reference, path: str, limit: int) -> bytes:
        try:
            async with await self._get(base, reference, path) as response:
                return await _limited(response, limit)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unreachable(base, error) from error

    async def _get(self, base: str, reference: Reference, path: str) -> aiohttp.ClientResponse:
        """Return the answer to a GET, with a token if the registry wants one. Raises: PullError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=TIMEOUT, auto_decompress=False, trust_env=True,
                headers={"User-Agent": "kubeloop", "Accept-Encoding": "identity"},
            )  # fmt: skip
        url = f"{base}/v2/{reference.path}/{path}"
        if base == self.mirror:
            url += f"?ns={reference.domain}"
        where = (base, reference.path)
        for attempt in range(2):
            headers = {"Accept": ", ".join((*INDEX_TYPES, *MANIFEST_TYPES, "*/*"))}
            if where in self._tokens:
                headers["Authorization"] = self._tokens[where]
            response = await self._session.get(url, headers=headers)
            if response.status == 200:
                return response
            challenge = response.headers.get("WWW-Authenticate", "")
            response.release()
            if response.status == 404:
                name = str(reference)
                raise ImageNotFound(f'failed to resolve reference "{name}": {name}: not found')
            if response.status != 401 or attempt:
                break
            self._tokens[where] = await self._authorize(challenge, reference)
        raise PullError(f"{base} answered {response.status} {response.reason} to {path}")

    async def _authorize(self, challenge: str, reference: Reference) -> str:
        """Return the Authorization header that a registry asks for. Raises: PullError."""
        known = self.credentials.get(reference.domain)
        basic = aiohttp.encode_basic_auth(*known) if known else ""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic" and basic:
            return basic
        wanted = dict(_CHALLENGE.findall(rest))
        if kind.lower() != "bearer" or not wanted.get("realm"):
            raise PullError(f"{reference.domain} wants a login for {reference}")
        assert self._session is not None
        query = {key: wanted[key] for key in ("service", "scope") if key in wanted}
        query.setdefault("scope", f"repository:{reference.path}:pull")
        headers = {"Authorization": basic} if basic else {}
        async with self._session.get(wanted["realm"], params=query, headers=headers) as response:
            if response.status != 200:
                raise PullError(f"{reference.domain} refuses a token for {reference}")
            answer = _document(await _limited(response, CONFIG_BYTES_MAX), reference)
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str):
            raise PullError(f"{reference.domain} gave no token for {reference}")
        return f"Bearer {token}"


async def _limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK):
        body += chunk
        if len(body) > limit:
            raise PullError(f"{response.url} answers more than {limit} bytes")
    return bytes(body)


def _unreachable(base: str, error: Exception) -> PullError:
    return PullError(f"cannot reach {base}: {error or type(error).__name__}")


def _verify(body: bytes, digest: str, reference: Reference) -> None:
    found = f"sha256:{hashlib.sha256(body).hexdigest()}"
    if found != digest:
        raise PullError(f"{reference} is damaged: {digest} was asked for, {found} came")


def _document(body: bytes, reference: Reference) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PullError(f"{reference}: the registry's answer is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise PullError(f"{reference}: the registry's answer is no JSON object")
    return document


def _text(part: Any, key: str, reference: Reference) -> str:
    value = part.get(key) if isinstance(part, dict) else None
    if not isinstance(value, str):
        raise PullError(f"{reference}: the manifest has a part without {key}")
    return value


def _for_this_machine(index: Mapping[str, Any], reference: Reference) -> str:
    """Return the digest of the manifest for this operating system and architecture."""
    for entry in index.get("manifests") or ():
        wanted = entry.get("platform") if isinstance(entry, dict) else None
        if wanted and (wanted.get("os"), wanted.get("architecture")) == ("linux", architecture()):
            return _text(entry, "digest", reference)
    raise PullError(f"{reference}: no match for platform linux/{architecture()} in the index")


def _layers(
    manifest: Mapping[str, Any], config: Mapping[str, Any], reference: Reference
) -> list[Layer]:
    """Return the layers, lowest first. Raises: PullError."""
    parts = manifest.get("layers") or []
    rootfs = config.get("rootfs")
    diff_ids = (rootfs.get("diff_ids") if isinstance(rootfs, dict) else None) or []
    if len(parts) != len(diff_ids):
        raise PullError(f"{reference}: {len(parts)} layers, but digests for {len(diff_ids)}")
    found = []
    for part, diff_id in zip(parts, diff_ids, strict=True):
        kind, size = _text(part, "mediaType", reference), part.get("size")
        if "zstd" in kind:
            raise PullError(f"{reference}: its layers are compressed with zstd; push it with gzip")
        if not kind.endswith((".tar", ".tar+gzip", ".tar.gzip")) or not isinstance(size, int):
            raise PullError(f"{reference}: a layer of type {kind} is not supported")
        found.append(Layer(_text(part, "digest", reference), str(diff_id), size))
    return found
