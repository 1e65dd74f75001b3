"""OpenAPI: the machine-readable description of this API, at `/openapi/v2` and `/openapi/v3`.

v3 comes as an index and one document per group and version; the index names each document with the
hash of its content, so that clients fetch it once and keep it. v2 is one document of everything.
All of them are made on first use and kept: they must not be changed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import sha512
from typing import Any, Final

from kubeloop.api.catalogue import BUILT_IN, Catalogue
from kubeloop.api.errors import PathNotFound
from kubeloop.api.openapi_custom import custom_schemas
from kubeloop.api.openapi_paths import paths
from kubeloop.api.openapi_schemas import META, PATCH, schemas
from kubeloop.api.resources import Resource
from kubeloop.api.typetable import schema

_remembered: Final = lru_cache(maxsize=64)  # Catalogues come and go with definitions.
_TOKEN: Final = {
    "BearerToken": {
        "type": "apiKey",
        "description": "Bearer Token authentication",
        "name": "authorization",
        "in": "header",
    }
}


@_remembered
def v3_index(catalogue: Catalogue = BUILT_IN) -> Mapping[str, Any]:
    """Return `/openapi/v3`: where the document of each group and version is."""
    told = dict(_index_of(BUILT_IN)) | dict(_index_of(catalogue))
    return {"paths": dict(sorted(told.items()))}


@_remembered
def _index_of(catalogue: Catalogue) -> Mapping[str, Any]:
    """Return where the documents of a catalogue are; of the built-in kinds only for their own."""
    told = {}
    for place in _places(catalogue):
        if catalogue is not BUILT_IN and place in _places(BUILT_IN):
            continue
        content = json.dumps(v3_document(place, catalogue), sort_keys=True).encode()
        digest = sha512(content).hexdigest().upper()
        told[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={digest}"}
    return told


@_remembered
def v3_document(place: str, catalogue: Catalogue = BUILT_IN) -> Mapping[str, Any]:
    """Return one document. place: "api/v1", "apis/apps/v1". Raises: PathNotFound."""
    group_version = _places(catalogue).get(place)
    if group_version is None:
        raise PathNotFound()
    resources = [r for r in catalogue.resources if (r.group, r.version) == group_version]
    return {
        "openapi": "3.0.0",
        "info": _info(),
        "paths": _paths(resources, v3=True),
        "components": {
            "schemas": schemas(_roots(resources), v3=True) | custom_schemas(resources, v3=True),
            "securitySchemes": _TOKEN,
        },
        "security": [{"BearerToken": []}],
    }


@_remembered
def v2_document(catalogue: Catalogue = BUILT_IN) -> Mapping[str, Any]:
    """Return `/openapi/v2` as a dict; clients take it in protobuf, too."""
    resources = list(catalogue.resources)
    return {
        "swagger": "2.0",
        "info": _info(),
        "paths": _paths(resources, v3=False),
        "definitions": schemas(_roots(resources), v3=False) | custom_schemas(resources, v3=False),
        "securityDefinitions": _TOKEN,
        "security": [{"BearerToken": []}],
    }


def _info() -> dict[str, str]:
    return {"title": "Kubernetes", "version": f"v{schema().version}"}


@_remembered
def _places(catalogue: Catalogue) -> Mapping[str, tuple[str, str]]:
    """Return the group and version each document is about."""
    return {f"apis/{g}/{v}" if g else f"api/{v}": (g, v) for g, v in catalogue.group_versions}


def _paths(resources: Iterable[Resource], *, v3: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for resource in resources:
        found |= paths(resource, v3=v3)
    return dict(sorted(found.items()))


def _roots(resources: Sequence[Resource]) -> set[str]:
    """Return the types that the operations of `resources` speak of."""
    kinds = schema().kinds
    spoken = {("v1", "Status"), ("v1", "DeleteOptions")}
    for resource in resources:
        spoken |= {(resource.api_version, resource.kind + suffix) for suffix in ("", "List")}
        for sub in resource.subresources:
            version = sub.version or resource.version
            spoken.add((f"{sub.group}/{version}" if sub.group else version, sub.kind))
    named = {kinds[kind] for kind in spoken if kind in kinds}
    custom = {f"{META}ObjectMeta", f"{META}ListMeta"}
    return named | {PATCH} | (custom if any(r.custom for r in resources) else set())
