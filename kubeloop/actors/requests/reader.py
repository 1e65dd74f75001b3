"""Reads that need no turn of the API server: of what is durable, and nothing else is under way.

It answers as the API server would, since it asks the same functions of the same store; there is no
order among reads to keep. What it does not answer is for the API server.
"""

from collections.abc import Sequence
from typing import Any

import msgpack

from kubeloop.actors.requests import reading
from kubeloop.actors.requests.definitions import Definitions
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import ApiError, PathNotFound
from kubeloop.api.resources import RESOURCES, Resource
from kubeloop.store.history import Stored
from kubeloop.store.store import Store


class Reader:
    """Answers get and list from a store. definitions: those in it."""

    def __init__(self, store: Store, definitions: Definitions) -> None:
        self.store, self._definitions = store, definitions

    def resource_of(self, request: Request) -> Resource:
        """Return the resource a request is about. Raises: PathNotFound."""
        resource = RESOURCES.get(request.resource)
        if resource is None or request.version not in ("", resource.version):
            catalogue = self._definitions.catalogue(self.store.durable)
            resource = catalogue.find(request.resource, request.version)
        if resource is None:
            raise PathNotFound
        return resource

    def converted(
        self, resource: Resource, items: Sequence[Stored]
    ) -> Sequence[dict[str, Any] | None]:
        """Return that no webhook is needed: what needs one is not read here."""
        return [None] * len(items)

    def read(self, request: Request) -> Outcome | None:
        """Answer a request; a refusal is an outcome with a v1.Status. None: ask the API server."""
        store = self.store
        if request.subresource or store.durable != store.revision or store.failure is not None:
            return None
        try:
            resource = self.resource_of(request)
            if not resource.stored or request.verb not in resource.verbs:
                return None
            if resource.custom is not None and resource.custom.webhook is not None:
                return None  # It may have to be asked.
            if request.verb == "get":
                return reading.get(self, request)
            return reading.list_(self, request) if request.verb == "list" else None
        except ApiError as error:
            body = msgpack.packb(error.status())
            return Outcome(request.tag, error.code, store.revision, body)
