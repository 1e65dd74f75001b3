"""One authority for all who serve the same store: kept there, and the first one offered is it.

What is kept is never told to a client: no path leads to it.
"""

from typing import Final

import msgpack

from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.requests.state import State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import ServiceUnavailable
from kubeloop.store.facts import Cause
from kubeloop.store.history import CompareFailed, Write
from kubeloop.store.store import StoreFailed, StoreFull

KEY: Final = "/registry/signingkeys/authority"


def share(state: State, request: Request) -> Outcome:
    """Keep what is offered if there is nothing yet; return what is kept: {certificate, key}.

    Raises: ServiceUnavailable.
    """
    stored = state.store.get(KEY)
    if stored is not None:
        return Outcome(request.tag, 200, stored.revision, stored.value)
    version = str(state.store.revision + 1)
    metadata = {"name": "authority", "resourceVersion": version}
    value = msgpack.packb({"metadata": metadata, **msgpack.unpackb(request.body)})
    cause = Cause(API_SERVER, request.id, 0, request.user)
    try:
        revision = state.store.commit([Write(KEY, value, 0)], cause, at=state.wall())
    except (StoreFailed, StoreFull, CompareFailed) as error:
        raise ServiceUnavailable(f"the store takes no authority: {error}") from error
    return Outcome(request.tag, 200, revision, value)
