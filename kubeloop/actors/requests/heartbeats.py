"""The short way of the commonest write: a Lease is renewed.

Every node renews its Lease every ten seconds, so most writes of a quiet cluster put one time in the
place of another. What is stored has been decoded, defaulted and validated before; with one
well-formed time more it still is. Whatever else is asked goes the long way (`writing.patch`), which
gives the same answer to this, too.
"""

import re
from datetime import datetime
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.ownership import manager_of
from kubeloop.actors.requests.state import State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.resources import RESOURCES
from kubeloop.store.facts import key_of

LEASES: Final = "leases.coordination.k8s.io"
_MERGE: Final = {"patchType": "merge"}
_MICRO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


def renew(state: State, request: Request) -> Outcome | None:
    """Return the outcome of a patch that only renews a Lease, None if this is another.

    Raises: Conflict, ServiceUnavailable.
    """
    if request.resource != LEASES or request.subresource or request.options != _MERGE:
        return None
    stored = state.store.get(key_of(LEASES, request.namespace, request.name))
    if stored is None:
        return None
    lease = msgpack.unpackb(stored.value)
    metadata, spec = lease["metadata"], lease.get("spec")
    told = _renewal(request.body, spec)
    if told is None or "deletionTimestamp" in metadata:
        return None
    entries = metadata.get("managedFields")
    if entries and not _keeps_managers(entries, request):
        return None
    spec["renewTime"] = told
    if entries:
        entries[0]["time"] = state.now()
    return state.rewrite(stored, lease, request)


def _keeps_managers(entries: list[dict[str, Any]], request: Request) -> bool:
    """Tell whether who asks is the only manager of the Lease, and manages its time."""
    first = entries[0]
    manager = manager_of(request, RESOURCES[LEASES])
    return (
        len(entries) == 1
        and (first["manager"], first["operation"]) == (manager.name, manager.operation)
        and "f:renewTime" in first["fieldsV1"].get("f:spec", ())
    )


def _renewal(body: bytes, spec: Any) -> str | None:
    """Return the time that is all a patch changes of `spec`, None if it is not like that."""
    patch = msgpack.unpackb(body)
    if not isinstance(patch, dict) or patch.keys() != {"spec"} or not isinstance(spec, dict):
        return None
    wanted = patch["spec"]
    if not isinstance(wanted, dict):
        return None
    told, was = wanted.get("renewTime"), spec.get("renewTime")
    if not (isinstance(told, str) and isinstance(was, str)) or told == was:
        return None
    for field, value in wanted.items():
        if field != "renewTime" and (type(value) is not str or spec.get(field) != value):
            return None
    return told if _is_time(told) else None


def _is_time(text: str) -> bool:
    """Tell whether a text is a metav1.MicroTime, as it is stored."""
    if _MICRO_TIME.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
