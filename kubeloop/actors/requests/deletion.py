"""delete and deletecollection: grace, finalizers, propagation, preconditions.

Source: Kubernetes, "Garbage Collection", "Finalizers", "Pod Lifecycle: Termination of Pods".
"""

from typing import Any, Final

import msgpack

from kubeloop.actors.requests.admitting import deletable
from kubeloop.actors.requests.jobs import PRESERVED
from kubeloop.actors.requests.metadata import ordered_metadata
from kubeloop.actors.requests.reading import selected
from kubeloop.actors.requests.state import Object, State
from kubeloop.actors.requests.strategies import strategy
from kubeloop.api.admission import classes, namespaces
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.errors import BadRequest, Conflict, Forbidden, NotFound
from kubeloop.api.priorities import is_system_class
from kubeloop.api.resources import Resource
from kubeloop.api.times import parse, rfc3339
from kubeloop.store.facts import prefix_of

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
CLEANUP: Final = "customresourcecleanup.apiextensions.k8s.io"  # Of a definition that has objects.
_DONE_PHASES: Final = ("Succeeded", "Failed")
_POLICIES: Final = ("Background", "Foreground", "Orphan")


def delete(state: State, request: Request) -> Outcome:
    """Delete an object, or begin to. Raises: NotFound, Conflict, BadRequest, Forbidden."""
    resource = state.resource_of(request)
    old = state.found(resource, request.namespace, request.name)
    if old is None:
        raise NotFound(resource.id, request.name)
    check_deletion(resource, old, request)
    deletable(state, resource, request, old)
    new, gone = _delete_one(state, resource, old, request)
    told = _success(resource, old) if gone and not strategy(resource).returned else new
    revision = state.store.revision if gone else int(new["metadata"]["resourceVersion"])
    return Outcome(request.tag, 200, revision, msgpack.packb(told), warnings=_warnings(request))


def delete_collection(state: State, request: Request) -> Outcome:
    """Delete every object the selectors choose; return them as a list."""
    resource = state.resource_of(request)
    page = state.store.list(prefix_of(resource.stored_id, request.namespace))
    objects = state.served_all(resource, page.items)
    chosen = [obj for obj in objects if selected(obj, resource, request)]
    items = []
    for obj in chosen:  # All are asked about before anything is done.
        deletable(state, resource, request, obj)
    for obj in chosen:
        after, _ = _delete_one(state, resource, obj, request)
        items.append(msgpack.packb(after))
    revision = state.store.revision
    return Outcome(request.tag, 200, revision, b"", items, warnings=_warnings(request))


def finish_if_due(
    state: State, resource: Resource, old: Object, new: Object, request: Request
) -> bool:
    """Remove an object that was only waiting for its last finalizer; tell whether it went."""
    metadata = new["metadata"]
    if not metadata.get("deletionTimestamp") or metadata.get("finalizers"):
        return False
    if metadata.get("deletionGracePeriodSeconds") or not old["metadata"].get("finalizers"):
        return False
    if resource.id == "namespaces" and new.get("spec", {}).get("finalizers"):
        return False
    state.remove(resource, new, request)
    return True


def _delete_one(
    state: State, resource: Resource, old: Object, request: Request
) -> tuple[Object, bool]:
    """Delete `old` or begin to; return what it is now, and whether it is gone."""
    check_deletion(resource, old, request)
    finalizers = _finalizers(resource, old, request)
    grace_s = _grace_s(resource, old, request)
    waits = bool(finalizers) or grace_s > 0
    if resource.id == "namespaces":
        waits = waits or bool(old.get("spec", {}).get("finalizers"))
    if not waits:
        last = _marked(state, resource, old, finalizers, 0) if resource.id == "pods" else old
        state.remove(resource, old, request)
        return last, True
    new = _marked(state, resource, old, finalizers, grace_s)
    if new != old:
        state.put(resource, new, request, create=False)
    return new, False


def check_deletion(resource: Resource, old: Object, request: Request) -> None:
    """Raises: Conflict if a precondition does not hold; Forbidden for what may not be deleted."""
    name = old["metadata"]["name"]
    if resource.id == "namespaces":
        namespaces.admit_delete(name)
    elif resource.id == classes.PRIORITIES and is_system_class(name):
        why = "this is a system priority class and cannot be deleted"
        raise Forbidden(resource.id, name, why)
    preconditions: dict[str, Any] = request.options.get("preconditions") or {}
    for field, title in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        wanted, actual = preconditions.get(field), old["metadata"].get(field)
        if wanted and wanted != actual:
            raise Conflict(
                resource.id,
                name,
                f"Precondition failed: {title} in precondition: {wanted}, "
                f"{title} in object meta: {actual}",
            )


def _finalizers(resource: Resource, old: Object, request: Request) -> list[str]:
    """Return the finalizers after the propagation policy had its say."""
    options = request.options
    policy = options.get("propagationPolicy")
    orphans = options.get("orphanDependents")
    if policy is not None and orphans is not None:
        raise BadRequest(
            "DeleteOptions: only one of orphanDependents, propagationPolicy may be set"
        )
    if policy is not None and policy not in _POLICIES:
        raise BadRequest(
            f'DeleteOptions: propagationPolicy: Invalid value: "{policy}": '
            "must be one of Background, Foreground, Orphan"
        )
    present = list(old["metadata"].get("finalizers") or ())
    if policy is None and orphans is None:
        if ORPHAN in present or FOREGROUND in present:
            return present
        policy = "Orphan" if strategy(resource).orphans else "Background"
    elif policy is None:
        policy = "Orphan" if orphans else "Background"
    kept = [f for f in present if f not in (ORPHAN, FOREGROUND)]
    if resource.id == DEFINITIONS and not old["metadata"].get("deletionTimestamp"):
        kept = [*(f for f in kept if f != CLEANUP), CLEANUP]  # Its objects go first.
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    return kept


def _warnings(request: Request) -> list[str]:
    """Return what to warn of: the Pods of Jobs stay, if nothing else is asked for."""
    asked = request.options.get("propagationPolicy"), request.options.get("orphanDependents")
    return [PRESERVED] if request.resource == "jobs.batch" and asked == (None, None) else []


def _grace_s(resource: Resource, old: Object, request: Request) -> int:
    """Return how long the object may still live [s]: only pods on a node have any time."""
    if resource.id != "pods":
        return 0
    asked = request.options.get("gracePeriodSeconds")
    if asked is not None and int(asked) < 0:
        asked = 1
    spec, metadata = old.get("spec", {}), old["metadata"]
    if not spec.get("nodeName") or old.get("status", {}).get("phase") in _DONE_PHASES:
        return 0
    allowed = spec.get("terminationGracePeriodSeconds", 30) if asked is None else int(asked)
    if metadata.get("deletionTimestamp"):
        return min(int(allowed), int(metadata.get("deletionGracePeriodSeconds") or 0))
    return int(allowed)


def _marked(
    state: State, resource: Resource, old: Object, finalizers: list[str], grace_s: int
) -> Object:
    """Return `old` with its deletion written into it; unchanged if it is so already."""
    was = old["metadata"]
    metadata = dict(was)
    metadata["finalizers"] = finalizers
    first = not was.get("deletionTimestamp")
    if first or (was.get("deletionGracePeriodSeconds") or 0) > grace_s:
        begun_s = state.wall()
        if not first:
            begun_s = parse(was["deletionTimestamp"]) - (was.get("deletionGracePeriodSeconds") or 0)
        metadata["deletionTimestamp"] = rfc3339(begun_s + grace_s)
    # Zero is told too: it says that nothing but finalizers holds the object.
    if resource.id != "namespaces" and (first or "deletionGracePeriodSeconds" in was):
        metadata["deletionGracePeriodSeconds"] = grace_s
    new = dict(old)
    new["metadata"] = ordered_metadata(metadata)
    if first and strategy(resource).generation:
        new["metadata"]["generation"] = was.get("generation", 0) + 1
    if resource.id == "namespaces":
        new["status"] = {**old.get("status", {}), "phase": "Terminating"}
    return new


def _success(resource: Resource, old: Object) -> Object:
    details: Object = {"name": old["metadata"]["name"]}
    if resource.group:
        details["group"] = resource.group
    details |= {"kind": resource.plural, "uid": old["metadata"]["uid"]}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": details,
    }
