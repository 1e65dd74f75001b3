"""create, update and patch: decode → default → admit → validate → commit."""

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address, ip_network
from typing import Final

import msgpack

from kubeloop.actors.requests import admission, certificates, daemons, ownership, parts, phases
from kubeloop.actors.requests.admitting import mutated, validated
from kubeloop.actors.requests.allocation import carry_over
from kubeloop.actors.requests.deletion import finish_if_due
from kubeloop.actors.requests.heartbeats import renew
from kubeloop.actors.requests.metadata import (
    check_kind,
    check_namespace,
    check_new,
    check_preconditions,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from kubeloop.actors.requests.patching import apply_patch, decoded, decoded_patch
from kubeloop.actors.requests.state import Object, State
from kubeloop.actors.requests.strategies import strategy
from kubeloop.api.admission.volumes import VOLUMES
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.custom import in_order
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.errors import (
    AlreadyExists,
    BadRequest,
    Cause,
    Invalid,
    MethodNotAllowed,
    NotFound,
)
from kubeloop.api.qos import qos_class
from kubeloop.api.resources import Resource
from kubeloop.api.validation import validate_create, validate_status_update, validate_update

Transform = Callable[[Object], Object]
"""Old object → wanted object; the old one is not changed."""

API_SERVER_USER: Final = "system:apiserver"
_WHOLE: Final = ("", "status", *parts.PARTS)  # The subresources that speak of the object itself.
_SERVICES: Final = "services"
_TERMINATING: Final = "create not allowed while custom resource definition is terminating"
_LOOPBACK: Final = re.compile(r'Invalid value: "([^"]+)": may not be in the loopback range')


def create(state: State, request: Request) -> Outcome:
    """Create an object. Raises: any ApiError a creation can meet."""
    resource = state.resource_of(request)
    if resource.custom is not None and resource.custom.terminating:
        raise MethodNotAllowed(_TERMINATING)
    body = _body(request)
    check_kind(resource, body)
    obj, warnings = decoded(resource, body, request)
    obj.setdefault("metadata", {})
    if request.name and not obj["metadata"].get("name"):
        obj["metadata"]["name"] = request.name
    check_namespace(resource, obj, request)
    return _create(state, request, resource, obj, warnings)


def _create(
    state: State, request: Request, resource: Resource, obj: Object, warnings: list[str]
) -> Outcome:
    """Create an object that was read. Raises: as `create`."""
    allotted = ownership.allotted(resource, obj)
    apply_defaults(resource, obj)
    if resource.id == "daemonsets.apps":
        daemons.count(obj, None)  # Here already: to Kubernetes it is a field, its author's.
    if not _is_apply(request):
        ownership.created(state, resource, obj, request, allotted)
    admission.complete(state, resource, obj, request)
    admission.fill_up(state, resource, obj, request)
    obj = mutated(state, resource, request, obj, None)
    prepare_create(state, resource, obj, request)
    if resource.id == "pods":
        obj["status"]["qosClass"] = qos_class(obj)
    if resource.custom is not None:
        obj = in_order(obj)
    _refuse(resource, obj, _allowed_here(state, request, validate_create(resource, obj)))
    if resource.id == certificates.SIGNING_REQUESTS:
        _refuse(resource, obj, certificates.readable(obj))
    validated(state, resource, request, obj, None)
    namespace, name = request.namespace, obj["metadata"]["name"]
    if state.get(resource.stored_id, namespace, name) is not None:
        raise AlreadyExists(resource.id, name)
    if resource.id == _SERVICES:
        _refuse(resource, obj, state.allocations.assign(obj, state.bits))
    also = admission.allow(state, resource, obj, None, request)
    state.put(resource, obj, request, create=True, also=also)
    return answer(request, 201, obj, warnings)


def update(state: State, request: Request) -> Outcome:
    """Replace an object, or its status. Raises: any ApiError an update can meet."""
    resource = state.resource_of(request)
    body = _body(request)
    check_kind(resource, body)
    wanted, warnings = decoded(resource, body, request)
    wanted.setdefault("metadata", {})
    check_namespace(resource, wanted, request)
    if (
        strategy(resource).create_on_update
        and not request.subresource
        and state.found(resource, request.namespace, request.name) is None
    ):
        wanted["metadata"].pop("resourceVersion", None)
        return create(state, request)
    outcome = change(state, request, lambda _: wanted)
    outcome.warnings.extend(warnings)
    return outcome


def patch(state: State, request: Request) -> Outcome:
    """Patch an object, or its status. Raises: any ApiError a patch can meet."""
    unasked = state.attempt is None and not state.policies.any()
    renewed = renew(state, request) if unasked else None
    if renewed is not None:
        return renewed
    resource = state.resource_of(request)
    if _is_apply(request):
        return _apply(state, request, resource)
    warnings: list[str] = []

    def patched(old: Object) -> Object:
        raw = apply_patch(request, old, resource)
        if not isinstance(raw, dict):
            raise BadRequest("a patch must leave an object")
        check_kind(resource, raw)
        obj, told = decoded_patch(resource, raw, request)
        warnings.extend(told)
        obj.setdefault("metadata", {})
        check_namespace(resource, obj, request)
        return obj

    outcome = change(state, request, patched)
    outcome.warnings.extend(warnings)
    return outcome


def _apply(state: State, request: Request, resource: Resource) -> Outcome:
    """Apply a configuration, by server-side apply. Raises: any ApiError an apply can meet."""
    config = ownership.configuration(resource, request)
    warnings: list[str] = []

    def applied(old: Object) -> Object:
        obj, told = decoded_patch(
            resource, ownership.applied(state, resource, old, config, request), request
        )
        warnings.extend(told)
        obj.setdefault("metadata", {})
        check_namespace(resource, obj, request)
        return obj

    if not request.subresource and state.found(resource, request.namespace, request.name) is None:
        new = applied({})
        check_new(resource, new, request)
        return _create(state, request, resource, new, warnings)
    outcome = change(state, request, applied)
    outcome.warnings.extend(warnings)
    return outcome


def _is_apply(request: Request) -> bool:
    return request.options.get("patchType") == "apply"


def change(state: State, request: Request, transform: Transform) -> Outcome:
    """Change an existing object by `transform`; write nothing if nothing changes."""
    resource = state.resource_of(request)
    old = state.found(resource, request.namespace, request.name)
    if old is None:
        raise NotFound(resource.id, request.name)
    new = parts.only(request.subresource, old, transform(old))
    check_preconditions(resource, old, new)
    also: list[Object] = []
    if request.subresource in ("status", certificates.APPROVAL):
        new = prepare_status_update(resource, old, new)
        if resource.id == certificates.SIGNING_REQUESTS:
            _decide(state, request, old, new)
        if resource.id == VOLUMES:
            phases.count(new, old, state.now())
        apply_defaults(resource, new)
        if not _is_apply(request):
            ownership.changed(state, resource, old, new, request)
        new = mutated(state, resource, request, new, old)
        causes = validate_status_update(resource, new, old)
        if resource.id == certificates.SIGNING_REQUESTS and request.subresource == "status":
            causes = [*causes, *certificates.undecided(old, new)]
        _refuse(resource, new, causes)
    else:
        if resource.id == _SERVICES:
            carry_over(old, new)
        apply_defaults(resource, new)
        if not _is_apply(request):
            ownership.changed(state, resource, old, new, request)
        admission.complete_change(state, resource, new, old)
        if request.subresource in _WHOLE:  # A Scale is another's object.
            new = mutated(state, resource, request, new, old)
        prepare_update(resource, old, new)
        _refuse(resource, new, _changed(state, request, resource, new, old))
        if resource.id == _SERVICES:
            _refuse(resource, new, state.allocations.assign(new, state.bits))
    if request.subresource in _WHOLE:
        validated(state, resource, request, new, old)
    if request.subresource not in ("status", certificates.APPROVAL):
        also = admission.allow(state, resource, new, old, request)
    return write(state, request, old, new, also)


def _changed(
    state: State, request: Request, resource: Resource, new: Object, old: Object
) -> list[Cause]:
    part = request.subresource if request.subresource in parts.PARTS else ""
    return _allowed_here(state, request, validate_update(resource, new, old, part))


def _decide(state: State, request: Request, old: Object, new: Object) -> None:
    if request.subresource == certificates.APPROVAL:
        certificates.decide(old, new, state.now())
    else:
        certificates.date(old, new, state.now())


def write(
    state: State, request: Request, old: Object, new: Object, also: Sequence[Object] = ()
) -> Outcome:
    """Commit `new` in the place of `old`, unless they are equal or `new` is due to disappear.

    also: quotas that change with it.
    """
    resource = state.resource_of(request)
    if resource.custom is not None:
        new = in_order(new)
    if finish_if_due(state, resource, old, new, request):
        return Outcome(request.tag, 200, state.store.revision, msgpack.packb(new))
    if new != old:
        state.put(resource, new, request, create=False, also=also)
    return answer(request, 200, new, [])


def answer(request: Request, code: int, obj: Object, warnings: list[str]) -> Outcome:
    """Return the outcome that carries `obj`, at the revision of its last change."""
    revision = int(obj["metadata"].get("resourceVersion") or 0)
    return Outcome(request.tag, code, revision, msgpack.packb(obj), warnings=list(warnings))


def _body(request: Request) -> Object:
    body = msgpack.unpackb(request.body) if request.body else None
    if not isinstance(body, dict):
        raise BadRequest("the request needs an object as its body")
    return body


def _allowed_here(state: State, request: Request, causes: list[Cause]) -> list[Cause]:
    """Return the causes without those that do not hold where this cluster lives.

    Kubernetes forbids loopback endpoints. The endpoint of the API itself is one here, and so is
    every simulated pod.
    """
    network = ip_network(state.settings.pod_cidr)

    def lives_here(cause: Cause) -> bool:
        found = _LOOPBACK.match(cause.message)
        return found is not None and (
            request.user == API_SERVER_USER or ip_address(found[1]) in network
        )

    return [cause for cause in causes if not lives_here(cause)]


def _refuse(resource: Resource, obj: Object, causes: list[Cause]) -> None:
    if causes:
        name = obj["metadata"].get("name", "")
        raise Invalid(resource.kind, name, causes, group=resource.group)
