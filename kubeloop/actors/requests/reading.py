"""get and list: selectors, pages, resource versions.

Source: Kubernetes API Concepts, "Retrieving large results sets in chunks", "Resource versions".
"""

import base64
import binascii
import json
from collections.abc import Sequence
from typing import Any, Protocol

import msgpack

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import (
    BadRequest,
    Cause,
    Expired,
    Invalid,
    NotFound,
    RevisionTooLarge,
)
from kubeloop.api.resources import Resource
from kubeloop.api.selectors import FieldSelector, LabelSelector, parse_fields, parse_labels
from kubeloop.store.facts import key_of, prefix_of
from kubeloop.store.history import Page, Stored
from kubeloop.store.store import Store

_PAGE_ALL = 0

Object = dict[str, Any]


class Readable(Protocol):
    """What is read: the store, as objects."""

    @property
    def store(self) -> Store:
        """Where they are kept."""

    def resource_of(self, request: Request) -> Resource:
        """Return the resource a request is about. Raises: PathNotFound."""

    def converted(self, resource: Resource, items: Sequence[Stored]) -> Sequence[Object | None]:
        """Return what a webhook makes of stored objects in a version, None where none is needed.

        Raises: as `State.converted`.
        """


def get(state: Readable, request: Request) -> Outcome:
    """Return one object. Raises: NotFound, RevisionTooLarge."""
    _check_version(state, request)
    resource = state.resource_of(request)
    stored = state.store.get(key_of(resource.stored_id, request.namespace, request.name))
    if stored is None:
        raise NotFound(request.resource, request.name)
    value = _value(state, resource, stored)
    return Outcome(request.tag, 200, stored.revision, value)


def list_(state: Readable, request: Request) -> Outcome:
    """Return the objects of a resource, one page of them if a limit is given.

    Raises: BadRequest, Invalid, Expired, RevisionTooLarge.
    """
    options = request.options
    resource = state.resource_of(request)
    labels, fields = _selectors(resource, request)
    revision, start_after = _position(state, request)
    limit = max(0, int(options.get("limit") or 0))
    prefix = prefix_of(resource.stored_id, request.namespace)
    name = fields.requires("metadata.name") if fields else None
    if labels is None and fields is None:
        page = state.store.list(prefix, revision=revision, start_after=start_after, limit=limit)
        items, remaining = _values(state, resource, page), page.remaining
        last = page.keys[-1] if page.keys else ""
        return _page(request, page.revision, items, prefix, last, remaining, told=True)
    if name is not None and request.namespace:
        stored = state.store.get(key_of(resource.stored_id, request.namespace, name), revision)
        chosen = None if stored is None else _chosen(state, resource, stored, labels, fields)
        items = [] if chosen is None else [chosen]
        at = revision or state.store.revision
        return _page(request, at, items, prefix, "", 0, told=False)
    page = state.store.list(prefix, revision=revision, start_after=start_after, limit=_PAGE_ALL)
    found = page.items
    state.converted(resource, found)  # All together, if it takes a webhook.
    items, last, more = [], "", 0
    for item in found:
        value = _chosen(state, resource, item, labels, fields)
        if value is None:
            continue
        if limit and len(items) == limit:
            more = 1
            break
        items.append(value)
        last = item.key
    return _page(request, page.revision, items, prefix, last, more, told=False)


def _values(state: Readable, resource: Resource, page: Page) -> list[bytes]:
    """Return the objects of a page, packed."""
    if resource.versioned is None:
        return page.values
    items = page.items
    state.converted(resource, items)  # All together, if it takes a webhook.
    return [_value(state, resource, item) for item in items]


def _value(state: Readable, resource: Resource, stored: Stored) -> bytes:
    """Return an object, packed, as a version of its kind has it: mostly as it is stored."""
    versioned = resource.versioned
    if versioned is None or (
        stored.revision >= versioned.revision and versioned.storage == versioned.api_version
    ):
        return stored.value
    (made,) = state.converted(resource, [stored])
    if made is None:
        made = versioned.served(msgpack.unpackb(stored.value), stored.revision)
    else:
        made = versioned.served(made)
    packed: bytes = msgpack.packb(made)
    return packed


def _chosen(
    state: Readable,
    resource: Resource,
    stored: Stored,
    labels: LabelSelector | None,
    fields: FieldSelector | None,
) -> bytes | None:
    """Return an object as `_value` does, None if it is not selected: what has another form is
    selected by how it is stored."""
    value = _value(state, resource, stored)
    seen = stored.value if resource.kept_as else value
    return value if _selected(seen, labels, fields) else None


def selected(obj: dict[str, Any], resource: Resource, request: Request) -> bool:
    """Tell whether an object matches the selectors of a request."""
    labels, fields = _selectors(resource, request)
    return _matches(resource.kept_form(obj), labels, fields)


def _selectors(
    resource: Resource, request: Request
) -> tuple[LabelSelector | None, FieldSelector | None]:
    labels, fields = request.options.get("labelSelector"), request.options.get("fieldSelector")
    return (
        parse_labels(labels) if labels else None,
        parse_fields(fields, resource) if fields else None,
    )


def _selected(value: bytes, labels: LabelSelector | None, fields: FieldSelector | None) -> bool:
    return _matches(msgpack.unpackb(value), labels, fields)


def _matches(
    obj: dict[str, Any], labels: LabelSelector | None, fields: FieldSelector | None
) -> bool:
    if labels is not None and not labels.matches(obj["metadata"].get("labels") or {}):
        return False
    return fields is None or fields.matches(obj)


def _position(state: Readable, request: Request) -> tuple[int | None, str]:
    """Return the revision to list at (None: now) and the key to start after."""
    options = request.options
    token = options.get("continue")
    if token:
        return _decode_token(state, request, str(token))
    match = options.get("resourceVersionMatch")
    asked = _check_version(state, request)
    if match == "Exact" and asked:
        if asked < state.store.history.floor:
            raise Expired.revision(asked=asked, oldest=state.store.history.floor)
        return asked, ""
    return None, ""


def _check_version(state: Readable, request: Request) -> int:
    """Return the resourceVersion asked for, 0 if none. Raises: BadRequest, RevisionTooLarge."""
    text = str(request.options.get("resourceVersion") or "")
    match = request.options.get("resourceVersionMatch")
    if match and not text:
        message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"
        cause = Cause("FieldValueForbidden", message, "resourceVersionMatch")
        raise Invalid("ListOptions", "", [cause], group="meta.k8s.io")
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise BadRequest(
            f'invalid resource version: resourceVersion: Invalid value: "{text}": '
            f'strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    asked = int(text)
    if asked > state.store.revision:
        raise RevisionTooLarge(asked=asked, current=state.store.revision)
    return asked


def _page(
    request: Request,
    revision: int,
    items: list[bytes],
    prefix: str,
    last: str,
    remaining: int,
    *,
    told: bool,
) -> Outcome:
    cont = ""
    if remaining:
        start = "/" + last.removeprefix(prefix) + "\0"
        token = {"v": "meta.k8s.io/v1", "rv": revision, "start": start}
        text = json.dumps(token, separators=(",", ":")).encode()
        cont = base64.urlsafe_b64encode(text).rstrip(b"=").decode()
    return Outcome(
        request.tag, 200, revision, b"", items, cont, remaining if remaining and told else 0
    )


def _decode_token(state: Readable, request: Request, token: str) -> tuple[int, str]:
    """Return the revision and the last key of the page before. Raises: BadRequest, Expired."""
    try:
        content = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        revision, start = int(content["rv"]), str(content["start"])
        known = content["v"] == "meta.k8s.io/v1" and start.startswith("/")
    except (ValueError, KeyError, TypeError, binascii.Error):
        known = False
    if not known:
        raise BadRequest("continue key is not valid: " + token)
    if revision < state.store.history.floor:
        raise Expired(
            "The provided continue parameter is too old to display a consistent list result. "
            "You can start a new list without the continue parameter."
        )
    prefix = prefix_of(state.resource_of(request).stored_id, request.namespace)
    return revision, prefix + start[1:].rstrip("\0")
