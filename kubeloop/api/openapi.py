"""OpenAPI: the machine-readable description of this API, at `/openapi/v2` and `/openapi/v3`.

v3 comes as an index and one document per group and version; the index names each document with the
hash of its content, so that clients fetch it once and keep it. v2 is one document of everything.
All of them are made on first use and kept: they must not be changed.
"""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from hashlib import sha512
from typing import Any, Final

from kubeloop.api.errors import PathNotFound
from kubeloop.api.openapi_paths import paths
from kubeloop.api.openapi_schemas import PATCH, schemas
from kubeloop.api.resources import GROUP_VERSIONS, RESOURCES, Resource
from kubeloop.api.typetable import schema

_TOKEN: Final = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}


@cache
def v3_index() -> Mapping[str, Any]:
    """Return `/openapi/v3`: where the document of each group and version is."""
    told = {}
    for place in sorted(_places()):
        content = json.dumps(v3_document(place), sort_keys=True).encode()
        digest = sha512(content).hexdigest().upper()
        told[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
    return {"paths": told}


@cache
def v3_document(place: str) -> Mapping[str, Any]:
    """Return one document. place: "api/v1", "apis/apps/v1". Raises: PathNotFound."""
    group_version = _places().get(place)
    if group_version is None:
        raise PathNotFound()
    resources = [r for r in RESOURCES.values() if (r.group, r.version) == group_version]
    return {
        "openapi": "3.0.0",
        "info": _info(),
        "paths": _paths(resources, v3=True),
        "components": {
            "schemas": schemas(_roots(resources), v3=True),
            "securitySchemes": _TOKEN,
        },
        "security": [{"BearerToken": []}],
    }


@cache
def v2_document() -> Mapping[str, Any]:
    """Return `/openapi/v2` as a dict; clients take it in protobuf, too."""
    resources = list(RESOURCES.values())
    return {
        "swagger": "2.0",
        "info": _info(),
        "paths": _paths(resources, v3=False),
        "definitions": schemas(_roots(resources), v3=False),
        "securityDefinitions": _TOKEN,
        "security": [{"BearerToken": []}],
    }


def _info() -> dict[str, str]:
    return {"title": "Kubernetes", "version": f"v{schema().version}"}


@cache
def _places() -> Mapping[str, tuple[str, str]]:
    """Return the group and version each document is about."""
    return {f"apis/{g}/{v}" if g else f"api/{v}": (g, v) for g, v in GROUP_VERSIONS}


def _paths(resources: Iterable[Resource], *, v3: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for resource in resources:
        found |= paths(resource, v3=v3)
    return dict(sorted(found.items()))


def _roots(resources: Iterable[Resource]) -> set[str]:
    """Return the types that the operations of `resources` speak of."""
    kinds = schema().kinds
    spoken = {("v1", "Status"), ("v1", "DeleteOptions")}
    for resource in resources:
        spoken |= {(resource.api_version, resource.kind + suffix) for suffix in ("", "List")}
        for sub in resource.subresources:
            version = sub.version or resource.version
            spoken.add((f"{sub.group}/{version}" if sub.group else version, sub.kind))
    return {kinds[kind] for kind in spoken if kind in kinds} | {PATCH}
