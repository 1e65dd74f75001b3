"""The documents that are no resources: discovery, OpenAPI, version, health, the list of paths.

All but health are made once and kept as bytes.
"""

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.api import discovery
from kubeloop.api.errors import PathNotFound
from kubeloop.net.rest.backend import Version
from kubeloop.net.rest.negotiation import JSON, discovery_version
from kubeloop.net.rest.rendering import dumps

_TEXT: Final = "text/plain; charset=utf-8"
HEALTH: Final = ("healthz", "livez", "readyz")
_CHECKS: Final = ("ping", "log", "store", "api-server")
OPENAPI_V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Its Accept header says @v1.0 where the answer must say .v1.0."""
_IMMUTABLE: Final = "public, immutable"


@dataclass(frozen=True, slots=True)
class Document:
    """A finished answer."""

    body: bytes
    content_type: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


NOT_FOUND: Final = Document(b"404 page not found\n", _TEXT, 404)
"""What Kubernetes answers outside of its API groups."""


_NO_DEFINITIONS: Final = Document(
    dumps(
        {
            "kind": "CustomResourceDefinitionList",
            "apiVersion": "apiextensions.k8s.io/v1",
            "metadata": {"resourceVersion": "1"},
            "items": [],
        }
    ),
    JSON,
)
"""There are no custom resources. kubectl asks before it says `no matches for kind "Foo"`; without
an answer it would blame the server."""


class Documents:
    """Finds the document of a path.

    address: "127.0.0.1:6443", where the server answers.
    """

    def __init__(self, version: Version, address: str) -> None:
        self.version, self.address = version, address

    def find(self, segments: tuple[str, ...], parameters: dict[str, str], accept: str) -> Document:
        """Return the document of a path. Raises: PathNotFound, NotAcceptable."""
        match segments:
            case ():
                return Document(dumps({"paths": self._paths()}), JSON)
            case ("version",):
                return Document(dumps(self.version.document()), JSON)
            case ("api",) | ("apis",):
                return self._root(segments[0], accept)
            case ("api", "v1"):
                return _resource_list("", "v1")
            case ("apis", group):
                found = discovery.api_group(group)
                return NOT_FOUND if found is None else Document(dumps(found), JSON)
            case ("apis", group, version):
                if discovery.api_group(group) is None:
                    return NOT_FOUND
                return _resource_list(group, version)
            case ("openapi", "v3", *rest):
                return _openapi_v3("/".join(rest), parameters)
            case ("openapi", "v2"):
                return _openapi_v2(accept)
            case ("apis", "apiextensions.k8s.io", "v1", "customresourcedefinitions"):
                return NOT_FOUND if "watch" in parameters else _NO_DEFINITIONS
            case (check, *names) if check in HEALTH:
                return health(check, names, verbose="verbose" in parameters)
        return NOT_FOUND

    def _root(self, which: str, accept: str) -> Document:
        version = discovery_version(accept)
        if version:
            return _aggregated(core=which == "api", version=version)
        content = discovery.api_groups() if which == "apis" else self._api_versions()
        return Document(dumps(content), JSON)

    def _api_versions(self) -> dict[str, Any]:
        return discovery.api_versions(self.address)

    def _paths(self) -> list[str]:
        checks = [f"/{check}" for check in HEALTH]
        checks += [f"/{check}/{name}" for check in HEALTH for name in _CHECKS]
        openapi = ["/openapi/v2", "/openapi/v3"]
        return sorted([*discovery.paths(), *checks, *openapi, "/version"])


def health(check: str, names: list[str], *, verbose: bool) -> Document:
    """Return the answer of /healthz, /livez or /readyz: whoever can answer is well."""
    if names:
        return Document(b"ok", _TEXT) if names[0] in _CHECKS else NOT_FOUND
    if not verbose:
        return Document(b"ok", _TEXT)
    lines = [f"[+]{name} ok\n" for name in _CHECKS]
    return Document(f"{''.join(lines)}{check} check passed\n".encode(), _TEXT)


def etag(body: bytes) -> str:
    """Return the ETag of a document."""
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'


@functools.cache
def _aggregated(*, core: bool, version: str) -> Document:
    body = dumps(discovery.aggregated(core=core, version=version))
    parameters = f"g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    headers = {"Cache-Control": "public", "Etag": etag(body), "Vary": "Accept"}
    return Document(body, f"{JSON};{parameters}", headers=headers)


@functools.cache
def _resource_list(group: str, version: str) -> Document:
    found = discovery.resource_list(group, version)
    if found is None:
        raise PathNotFound
    return Document(dumps(found), JSON)


def _openapi_v3(path: str, parameters: dict[str, str]) -> Document:
    if not path:
        return _openapi_index()
    found = _openapi_document(path)
    if found is None or parameters.get("hash") != found.headers["Etag"].strip('"'):
        return found or NOT_FOUND
    headers = {**found.headers, "Cache-Control": _IMMUTABLE}
    return Document(found.body, found.content_type, headers=headers)


@functools.cache
def _openapi_index() -> Document:
    from kubeloop.api import openapi

    return Document(dumps(openapi.v3_index()), _TEXT)


@functools.cache
def _openapi_document(path: str) -> Document | None:
    from kubeloop.api import openapi

    entry = openapi.v3_index()["paths"].get(path)
    if entry is None:
        return None
    tag = entry["serverRelativeURL"].partition("?hash=")[2]
    return Document(dumps(openapi.v3_document(path)), JSON, headers={"Etag": f'"{tag}"'})


def _openapi_v2(accept: str) -> Document:
    """Return the one document of everything: in protobuf for kubectl, which reads no other."""
    if OPENAPI_V2_PROTOBUF.partition(".v1.0")[0] in accept:
        return _openapi_v2_protobuf()
    return _openapi_v2_json()


@functools.cache
def _openapi_v2_protobuf() -> Document:
    from kubeloop.api import openapi
    from kubeloop.net.rest.gnostic import encode

    body = encode(openapi.v2_document())
    headers = {"Etag": etag(body), "Vary": "Accept"}
    return Document(body, OPENAPI_V2_PROTOBUF, headers=headers)


@functools.cache
def _openapi_v2_json() -> Document:
    from kubeloop.api import openapi

    body = dumps(openapi.v2_document())
    return Document(body, JSON, headers={"Etag": etag(body), "Vary": "Accept"})
