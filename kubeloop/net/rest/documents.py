"""The documents that are no resources: discovery, OpenAPI, version, health, the list of paths.

All but health are made once for each catalogue of kinds, and kept as bytes.
"""

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.api import discovery
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.errors import PathNotFound
from kubeloop.api.identity import ISSUER
from kubeloop.net.rest import health as checks
from kubeloop.net.rest.backend import Version
from kubeloop.net.rest.negotiation import JSON, discovery_version
from kubeloop.net.rest.rendering import dumps

_TEXT: Final = "text/plain; charset=utf-8"
_remembered: Final = functools.lru_cache(maxsize=32)  # Catalogues come and go with definitions.
OPENAPI_V2_PROTOBUF: Final = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
"""Its Accept header says @v1.0 where the answer must say .v1.0."""
_AN_HOUR: Final = "public, max-age=3600"
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


class Documents:
    """Finds the document of a path.

    address: "127.0.0.1:6443", where the server answers.
    """

    def __init__(self, version: Version, address: str) -> None:
        self.version, self.address = version, address

    def find(
        self,
        segments: tuple[str, ...],
        parameters: dict[str, str],
        accept: str,
        catalogue: Catalogue,
    ) -> Document:
        """Return the document of a path. Raises: PathNotFound, NotAcceptable."""
        match segments:
            case ():
                return Document(dumps({"paths": self._paths(catalogue)}), JSON)
            case ("version",):
                return Document(dumps(self.version.document()), JSON)
            case ("api",) | ("apis",):
                return self._root(catalogue, segments[0], accept)
            case ("api", "v1"):
                return _resource_list(catalogue, "", "v1")
            case ("apis", group):
                found = discovery.api_group(catalogue, group)
                return NOT_FOUND if found is None else Document(dumps(found), JSON)
            case ("apis", group, version):
                if discovery.api_group(catalogue, group) is None:
                    return NOT_FOUND
                return _resource_list(catalogue, group, version)
            case ("openapi", "v3", *rest):
                return _openapi_v3(catalogue, "/".join(rest), parameters)
            case ("openapi", "v2"):
                return _openapi_v2(catalogue, accept)
            case (".well-known", "openid-configuration"):
                return Document(dumps(self._issuer()), JSON, headers={"Cache-Control": _AN_HOUR})
        return NOT_FOUND

    def _root(self, catalogue: Catalogue, which: str, accept: str) -> Document:
        version = discovery_version(accept)
        if version:
            return _aggregated(catalogue, core=which == "api", version=version)
        if which == "apis":
            return Document(dumps(discovery.api_groups(catalogue)), JSON)
        return Document(dumps(self._api_versions()), JSON)

    def _api_versions(self) -> dict[str, Any]:
        return discovery.api_versions(self.address)

    def _issuer(self) -> dict[str, Any]:
        """Return what is said of who issues tokens. Source: OpenID Connect Discovery 1.0."""
        return {
            "issuer": ISSUER,
            "jwks_uri": f"https://{self.address}/openid/v1/jwks",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def _paths(self, catalogue: Catalogue) -> list[str]:
        others = ["/.well-known/openid-configuration", "/openid/v1/jwks", "/openapi/v2"]
        others += ["/metrics", "/openapi/v3", "/version"]
        return sorted([*discovery.paths(catalogue), *checks.paths(), *others])


def key_set(value: dict[str, Any]) -> Document:
    """Return the document of the keys by which tokens are known. Source: RFC 7517."""
    return Document(dumps(value), "application/jwk-set+json", headers={"Cache-Control": _AN_HOUR})


def health(
    segments: tuple[str, ...], parameters: list[tuple[str, str]], failing: Mapping[str, str]
) -> Document:
    """Return the answer of /healthz, /livez or /readyz, or of one check below them.

    failing: name of a check → why it fails.
    """
    endpoint, check = segments[0], "/".join(segments[1:])
    if check:
        found = checks.one(endpoint, check, failing)
        return NOT_FOUND if found is None else _plain(*found)
    excluded = [value for name, value in parameters if name == "exclude"]
    verbose = any(name == "verbose" for name, _ in parameters)
    return _plain(*checks.all_of(endpoint, excluded, failing, verbose=verbose))


def _plain(status: int, text: str) -> Document:
    return Document(text.encode(), _TEXT, status, {"X-Content-Type-Options": "nosniff"})


def etag(body: bytes) -> str:
    """Return the ETag of a document."""
    return f'"{hashlib.sha512(body).hexdigest().upper()}"'


@_remembered
def _aggregated(catalogue: Catalogue, *, core: bool, version: str) -> Document:
    body = dumps(discovery.aggregated(catalogue, core=core, version=version))
    parameters = f"g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList"
    headers = {"Cache-Control": "public", "Etag": etag(body), "Vary": "Accept"}
    return Document(body, f"{JSON};{parameters}", headers=headers)


@_remembered
def _resource_list(catalogue: Catalogue, group: str, version: str) -> Document:
    found = discovery.resource_list(catalogue, group, version)
    if found is None:
        raise PathNotFound
    return Document(dumps(found), JSON)


def _openapi_v3(catalogue: Catalogue, path: str, parameters: dict[str, str]) -> Document:
    if not path:
        return _openapi_index(catalogue)
    found = _openapi_document(catalogue, path)
    if found is None or parameters.get("hash") != found.headers["Etag"].strip('"'):
        return found or NOT_FOUND
    headers = {**found.headers, "Cache-Control": _IMMUTABLE}
    return Document(found.body, found.content_type, headers=headers)


@_remembered
def _openapi_index(catalogue: Catalogue) -> Document:
    from kubeloop.api import openapi

    return Document(dumps(openapi.v3_index(catalogue)), _TEXT)


@_remembered
def _openapi_document(catalogue: Catalogue, path: str) -> Document | None:
    from kubeloop.api import openapi

    entry = openapi.v3_index(catalogue)["paths"].get(path)
    if entry is None:
        return None
    tag = entry["serverRelativeURL"].partition("?hash=")[2]
    return Document(dumps(openapi.v3_document(path, catalogue)), JSON, headers={"Etag": f'"{tag}"'})


def _openapi_v2(catalogue: Catalogue, accept: str) -> Document:
    """Return the one document of everything: in protobuf for kubectl, which reads no other."""
    if OPENAPI_V2_PROTOBUF.partition(".v1.0")[0] in accept:
        return _openapi_v2_protobuf(catalogue)
    return _openapi_v2_json(catalogue)


@_remembered
def _openapi_v2_protobuf(catalogue: Catalogue) -> Document:
    from kubeloop.api import openapi
    from kubeloop.net.rest.gnostic import encode

    body = encode(openapi.v2_document(catalogue))
    headers = {"Etag": etag(body), "Vary": "Accept"}
    return Document(body, OPENAPI_V2_PROTOBUF, headers=headers)


@_remembered
def _openapi_v2_json(catalogue: Catalogue) -> Document:
    from kubeloop.api import openapi

    body = dumps(openapi.v2_document(catalogue))
    return Document(body, JSON, headers={"Etag": etag(body), "Vary": "Accept"})
