"""The API server's core: one request in, one outcome out, and the store changed or not."""

from collections.abc import Callable
from typing import Final

import msgpack

from kubeloop.actors.requests import (
    accounts,
    authority,
    components,
    deletion,
    reading,
    reviews,
    subresources,
    tokens,
    writing,
)
from kubeloop.actors.requests.hooks import Attempt
from kubeloop.actors.requests.state import Settings, State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import ApiError, MethodNotAllowed, PathNotFound
from kubeloop.api.identity import AUTHORITY, KEY_SET
from kubeloop.api.resources import RESOURCES
from kubeloop.store.store import Store

READS: Final = ("get", "list")


class Core:
    """Handles requests against a store; pure but for the store.

    wall: seconds since 1970;  bits: n → n random bits, as random.Random.getrandbits.
    """

    def __init__(
        self,
        store: Store,
        *,
        wall: Callable[[], float],
        bits: Callable[[int], int],
        settings: Settings,
    ) -> None:
        self.state = State(store, wall=wall, bits=bits, settings=settings)

    def handle(self, request: Request, attempt: Attempt | None = None) -> Outcome:
        """Return the outcome of a request; a refusal is an outcome with a v1.Status.

        attempt: what is known of a request that was suspended before.
        Raises:  Suspended if webhooks have to be asked; nothing was written.
        """
        state = self.state
        if attempt is None and request.verb not in READS and self._may_wait(request):
            attempt = Attempt()
        state.attempt, state.warnings = attempt, []
        if attempt is not None:
            attempt.begin()
        try:
            outcome = self._dispatch(request)
        except ApiError as error:
            revision = state.store.revision
            outcome = Outcome(request.tag, error.code, revision, msgpack.packb(error.status()))
        finally:
            state.attempt = None
        if attempt is not None:
            outcome.warnings.extend(attempt.warnings)
        outcome.warnings.extend(state.warnings)
        return outcome

    def _may_wait(self, request: Request) -> bool:
        """Tell whether a write may have to be handled twice: then it must be the same twice."""
        if self.state.hooks.all():
            return True
        found = RESOURCES.get(request.resource)
        if found is None:
            found = self.state.catalogue().find(request.resource, request.version)
        return found is not None and found.custom is not None and found.custom.webhook is not None

    def close(self) -> None:
        """Watch no more what it watched."""
        self.state.hooks.close()
        self.state.policies.close()

    def _dispatch(self, request: Request) -> Outcome:
        state = self.state
        if request.resource == KEY_SET:  # No client can name it: it is in no catalogue.
            found = msgpack.packb(tokens.key_set(state))
            return Outcome(request.tag, 200, state.store.revision, found)
        if request.resource == AUTHORITY:
            return authority.share(state, request)
        resource = state.resource_of(request)
        if request.subresource:
            found = resource.subresource(request.subresource)
            if found is None:
                raise PathNotFound
            if request.verb not in found.verbs:
                raise MethodNotAllowed
        elif request.verb not in resource.verbs:
            raise MethodNotAllowed
        if resource.computed:
            return components.answer(state, request)
        if resource.id == "bindings":
            return subresources.bind_named(state, request)
        if not resource.stored:
            return reviews.review(state, request)
        match request.subresource, request.verb:
            case ("" | "status" | "approval" | "ephemeralcontainers" | "resize", "get"):
                return reading.get(state, request)
            case "", "list":
                return reading.list_(state, request)
            case "", "create":
                return writing.create(state, request)
            case ("" | "status" | "approval" | "ephemeralcontainers" | "resize", "update"):
                return writing.update(state, request)
            case ("" | "status" | "approval" | "ephemeralcontainers" | "resize", "patch"):
                return writing.patch(state, request)
            case "", "delete":
                return deletion.delete(state, request)
            case "", "deletecollection":
                return deletion.delete_collection(state, request)
            case "scale", "get":
                return subresources.get_scale(state, request)
            case "scale", _:
                return subresources.put_scale(state, request)
            case "binding", "create":
                return subresources.bind(state, request)
            case "eviction", "create":
                return subresources.evict(state, request)
            case "token", "create":
                return accounts.request_token(state, request)
            case "finalize", "update":
                return subresources.finalize(state, request)
        raise MethodNotAllowed
