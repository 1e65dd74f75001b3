"""Calls: what a client asks of the API server, and what it answers, on any wire.

Both are msgpack arrays. Objects ride inside as `bytes`, already packed: whoever only passes a call
on never decodes what it carries.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, ClassVar, Final

import msgpack


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `encode` and `decode` invert each other."""

    TYPE: ClassVar[int]

    def encode(self) -> bytes:
        """Return the msgpack array [type, field, field, …]."""
        content = _CONTENTS.get(self.TYPE)
        if content is None:
            names = tuple(f.name for f in fields(self))
            content = _CONTENTS[self.TYPE] = attrgetter("TYPE", *names)
        frame: bytes = msgpack.packb(content(self))
        return frame


_CONTENTS: Final[dict[int, Callable[[Message], Any]]] = {}  # Of each type: asked for often.


@dataclass(frozen=True, slots=True)
class Request(Message):
    """Ask the API server for something, as a REST call would.

    verb:        get, list, create, update, patch, delete, deletecollection.
    resource:    the resource id: "pods", "deployments.apps".
    namespace:   "" for cluster-scoped resources, or for all namespaces in a list.
    name:        "" for list, create and deletecollection.
    subresource: "", "status", "scale", "binding", …
    body:        the object or patch in msgpack; b"" for none.
    options:     query parameters under their Kubernetes names (labelSelector, fieldSelector,
                 limit, continue, resourceVersion, resourceVersionMatch, dryRun, fieldManager,
                 fieldValidation, force, gracePeriodSeconds, propagationPolicy, preconditions),
                 and patchType (merge, json, strategic, apply) for a patch; of a list `watch` if
                 it is what a watch begins with.
    user:        the authenticated user.
    groups:      his groups, if they do not follow from his name.
    sender, tag: where the Outcome goes, and what it is called there; "" when this is an ask. An
                 actor that gives no tag is not told.
    because:     the revision of the fact that made the sender ask: the cause of what follows; 0 if
                 it was a user's wish, or the sender's clock.
    agent:       how the client calls itself, over REST its User-Agent; "" for an actor.
    version:     of a resource that has several, the one to speak: "v1beta1"; "" for the preferred.
    id:          names this request in the cause of what it writes: over REST its Audit-ID. No other
                 of a run has it.
    """

    TYPE: ClassVar[int] = 1
    verb: str
    resource: str
    namespace: str = ""
    name: str = ""
    subresource: str = ""
    body: bytes = b""
    options: dict[str, Any] = field(default_factory=dict)
    user: str = "system:admin"
    sender: str = ""
    tag: str = ""
    because: int = 0
    agent: str = ""
    id: str = ""
    version: str = ""
    groups: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Outcome(Message):
    """The API server's answer to a Request.

    code:      HTTP status.
    revision:  after a write that of the object's last change, so that a watcher of the resource
               surely hears of it; after a list that of the list.
    body:      the object in msgpack; a v1.Status if `code` >= 400; for a list b"".
    items:     a list's objects in msgpack, in the order of their keys.
    cont:      the token of the next page, "" at the end;  remaining: objects after this page.
    warnings:  texts for Warning headers.
    """

    TYPE: ClassVar[int] = 2
    tag: str
    code: int
    revision: int
    body: bytes
    items: list[bytes] = field(default_factory=list)
    cont: str = ""
    remaining: int = 0
    warnings: list[str] = field(default_factory=list)
