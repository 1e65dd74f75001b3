"""Component statuses: how the parts of the control plane are, asked and not kept.

They all live in the process that answers: what can answer is healthy.
"""

from typing import Any, Final

import msgpack

from kubeloop.actors.requests.reading import selected
from kubeloop.actors.requests.state import State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import NotFound
from kubeloop.api.resources import Resource

_NAMES: Final = ("controller-manager", "etcd-0", "scheduler")


def answer(state: State, request: Request) -> Outcome:
    """Return one component, or all of them. Raises: NotFound, BadRequest."""
    resource, revision = state.resource_of(request), state.store.revision
    if request.verb == "get":
        if request.name not in _NAMES:
            raise NotFound(resource.id, request.name)
        return Outcome(request.tag, 200, revision, msgpack.packb(_status(resource, request.name)))
    every = [_status(resource, name) for name in _NAMES]
    found = [one for one in every if selected(one, resource, request)]
    return Outcome(request.tag, 200, revision, b"", [msgpack.packb(one) for one in found])


def _status(resource: Resource, name: str) -> dict[str, Any]:
    condition = {"type": "Healthy", "status": "True", "message": "ok"}
    return {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": {"name": name},
        "conditions": [condition],
    }
