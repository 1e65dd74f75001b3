"""Which resource a path means: `/apis/apps/v1/namespaces/x/deployments/web/scale` → Target.

One function splits the path and looks the pieces up in the table of resources; there are no
routes to try one after another, so its cost does not grow with the number of kinds.

    /api/v1/pods                                   every namespace
    /api/v1/namespaces/NS/pods[/NAME[/SUBRESOURCE]]
    /api/v1/namespaces[/NAME[/SUBRESOURCE]]        NAME is a resource of its own
    /api/v1/watch/…                                the old form of ?watch=true
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote_to_bytes

from kubeloop.api.catalogue import BUILT_IN, Catalogue
from kubeloop.api.errors import BadRequest, PathNotFound
from kubeloop.api.resources import Resource

_NAMESPACES: Final = "namespaces"
_PROXY: Final = re.compile("(/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy)(.*)")
_ESCAPE: Final = re.compile("%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Target:
    """What a resource path means.

    namespace: "" for all, or for a cluster-scoped resource.
    watch:     the path says so (the old /watch/ prefix).
    """

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    watch: bool = False


def split(raw_path: str) -> tuple[str, ...]:
    """Return the decoded segments of a raw (percent-encoded) path; "/api/v1/" is ("api", "v1").

    Raises: BadRequest for a segment that hides a slash, a NUL or bytes that are no text.
    """
    segments = raw_path.removeprefix("/").removesuffix("/").split("/")
    if "%" not in raw_path:
        return () if segments == [""] else tuple(segments)
    return tuple(_decode(segment) for segment in segments)


def split_proxy(raw_path: str) -> tuple[str, str | None]:
    """Return the path of a proxy subresource and what is asked through it, both raw.

    The latter is not ours to read: "" or begins with a slash; None if the path is no proxy's.
    """
    found = _PROXY.fullmatch(raw_path)
    if found is None or found[2][:1] not in ("", "/"):
        return raw_path, None
    return found[1], found[2]


def find(segments: tuple[str, ...], catalogue: Catalogue = BUILT_IN) -> Target | None:
    """Return the target of a path's segments; None if it is not below a version of ours.

    catalogue: what there is.

    Raises: PathNotFound for a version or resource that is not there, BadRequest for a bad name.
    """
    if segments[:1] == ("api",) and segments[1:2] == ("v1",):
        group, version, rest = "", "v1", segments[2:]
    elif segments[:1] == ("apis",) and len(segments) >= 3 and segments[1] in catalogue.groups:
        group, version, rest = segments[1], segments[2], segments[3:]
    else:
        return None
    watch = rest[:1] == ("watch",)
    if watch:
        rest = rest[1:]
    if not rest:
        if watch or (group, version) not in catalogue.group_versions:
            raise PathNotFound
        return None
    return _target(catalogue, group, version, rest, watch=watch)


def _target(
    catalogue: Catalogue, group: str, version: str, rest: tuple[str, ...], *, watch: bool
) -> Target:
    namespace = ""
    if rest[0] == _NAMESPACES and len(rest) >= 3:
        inner = catalogue.by_plural.get((group, version, rest[2]))
        if inner is not None and inner.namespaced:
            namespace, rest = _checked(rest[1]), rest[2:]
    resource = catalogue.by_plural.get((group, version, rest[0]))
    if resource is None or len(rest) > 3:
        raise PathNotFound
    name = _checked(rest[1]) if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""
    if resource.namespaced and name and not namespace:
        raise PathNotFound
    if subresource and not resource.subresource(subresource):
        raise PathNotFound
    return Target(resource, namespace, name, subresource, watch)


def _decode(segment: str) -> str:
    if _ESCAPE.search(segment):
        raise BadRequest(f'invalid URL escape in "{segment}"')
    raw = unquote_to_bytes(segment)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadRequest(f'the path segment "{segment}" is not UTF-8') from None
    if "/" in text or "\0" in text:
        why = "may not contain '/'" if "/" in text else "may not contain NUL"
        raise BadRequest(f'Name parameter invalid: "{segment}": {why}')
    return text


def _checked(name: str) -> str:
    """Return a name that may stand in a path. Raises: BadRequest, PathNotFound."""
    if not name:
        raise PathNotFound
    if name in (".", ".."):
        raise BadRequest(f"Name parameter invalid: \"{name}\": may not be '{name}'")
    if "%" in name:
        raise BadRequest(f"Name parameter invalid: \"{name}\": may not contain '%'")
    return name
