"""create, update and patch: decode → default → admit → validate → commit."""

import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgpack
import orjson

from kubeloop.actors.requests.allocation import Allocations, carry_over
from kubeloop.actors.requests.deletion import finish_if_due
from kubeloop.actors.requests.metadata import (
    check_kind,
    check_namespace,
    check_preconditions,
    prepare_create,
    prepare_status_update,
    prepare_update,
)
from kubeloop.actors.requests.state import Object, State, is_dry_run, resource_of
from kubeloop.actors.requests.strategies import strategy
from kubeloop.api.admission import namespaces, nodes, pods
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.errors import AlreadyExists, ApiError, BadRequest, Cause, Invalid, NotFound
from kubeloop.api.patch import json_patch, merge_patch
from kubeloop.api.qos import qos_class
from kubeloop.api.resources import Resource
from kubeloop.api.schema import decode_strict
from kubeloop.api.strategic import strategic_merge_patch
from kubeloop.api.validation import validate_create, validate_status_update, validate_update

Transform = Callable[[Object], Object]
"""Old object → wanted object; the old one is not changed."""

API_SERVER_USER: Final = "system:apiserver"
_SERVICES: Final = "services"
_LOOPBACK: Final = re.compile(r'Invalid value: "([^"]+)": may not be in the loopback range')


def create(state: State, allocations: Allocations, request: Request) -> Outcome:
    """Create an object. Raises: any ApiError a creation can meet."""
    resource = resource_of(request)
    body = _body(request)
    check_kind(resource, body)
    obj, warnings = decoded(resource, body, request)
    obj.setdefault("metadata", {})
    if request.name and not obj["metadata"].get("name"):
        obj["metadata"]["name"] = request.name
    check_namespace(resource, obj, request)
    _admit_create(state, resource, obj, request)
    prepare_create(state, resource, obj, request)
    apply_defaults(resource, obj)
    if resource.id == "pods":
        obj["status"]["qosClass"] = qos_class(obj)
    _refuse(resource, obj, _allowed_here(state, request, validate_create(resource, obj)))
    namespace, name = request.namespace, obj["metadata"]["name"]
    if state.get(resource.id, namespace, name) is not None:
        raise AlreadyExists(resource.id, name)
    if resource.id == _SERVICES:
        _refuse(resource, obj, allocations.assign(obj, state.bits))
    state.put(resource, obj, request, create=True)
    if resource.id == _SERVICES and not is_dry_run(request):
        allocations.fold(None, obj)
    return answer(request, 201, obj, warnings)


def update(state: State, allocations: Allocations, request: Request) -> Outcome:
    """Replace an object, or its status. Raises: any ApiError an update can meet."""
    resource = resource_of(request)
    body = _body(request)
    check_kind(resource, body)
    wanted, warnings = decoded(resource, body, request)
    wanted.setdefault("metadata", {})
    check_namespace(resource, wanted, request)
    if (
        strategy(resource.id).create_on_update
        and not request.subresource
        and state.get(resource.id, request.namespace, request.name) is None
    ):
        wanted["metadata"].pop("resourceVersion", None)
        return create(state, allocations, request)
    outcome = change(state, allocations, request, lambda _: wanted)
    outcome.warnings.extend(warnings)
    return outcome


def patch(state: State, allocations: Allocations, request: Request) -> Outcome:
    """Patch an object, or its status. Raises: any ApiError a patch can meet."""
    resource = resource_of(request)
    warnings: list[str] = []

    def patched(old: Object) -> Object:
        raw = apply_patch(request, old, resource.api_version, resource.kind)
        if not isinstance(raw, dict):
            raise BadRequest("a patch must leave an object")
        check_kind(resource, raw)
        try:
            obj, told = decoded(resource, raw, request)
        except StrictProblem as problem:
            text = orjson.dumps(msgpack.unpackb(request.body)).decode()
            message = f'Invalid value: "{text}": {problem.text}'
            raise Invalid("", "", [Cause("FieldValueInvalid", message, "patch")]) from None
        warnings.extend(told)
        obj.setdefault("metadata", {})
        check_namespace(resource, obj, request)
        return obj

    outcome = change(state, allocations, request, patched)
    outcome.warnings.extend(warnings)
    return outcome


def apply_patch(request: Request, old: Any, api_version: str, kind: str) -> Any:
    """Return `old` with the request's patch applied; `old` is not changed."""
    content = msgpack.unpackb(request.body)
    match request.options.get("patchType"):
        case "json":
            return json_patch(old, content)
        case "merge":
            return merge_patch(old, content)
        case "strategic":
            return strategic_merge_patch(old, content, api_version, kind)
        case other:
            raise ApplyNotBuilt(str(other))


class ApplyNotBuilt(ApiError):
    """Server-side apply: Kubernetes has it, kubeloop does not have it yet."""

    code, reason = 501, "NotImplemented"

    def __init__(self, patch_type: str) -> None:
        super().__init__(
            f"patches of type {patch_type!r} are not implemented yet: use client-side apply "
            "(kubectl apply without --server-side), or a merge, strategic or JSON patch"
        )


def change(
    state: State, allocations: Allocations, request: Request, transform: Transform
) -> Outcome:
    """Change an existing object by `transform`; write nothing if nothing changes."""
    resource = resource_of(request)
    old = state.get(resource.id, request.namespace, request.name)
    if old is None:
        raise NotFound(resource.id, request.name)
    new = transform(old)
    check_preconditions(resource, old, new)
    if request.subresource == "status":
        new = prepare_status_update(resource, old, new)
        apply_defaults(resource, new)
        _refuse(resource, new, validate_status_update(resource, new, old))
    else:
        if resource.id == _SERVICES:
            carry_over(old, new)
        prepare_update(resource, old, new)
        apply_defaults(resource, new)
        _refuse(resource, new, _allowed_here(state, request, validate_update(resource, new, old)))
        if resource.id == _SERVICES:
            _refuse(resource, new, allocations.assign(new, state.bits))
    return write(state, allocations, request, old, new)


def write(
    state: State, allocations: Allocations, request: Request, old: Object, new: Object
) -> Outcome:
    """Commit `new` in the place of `old`, unless they are equal or `new` is due to disappear."""
    resource = resource_of(request)
    if finish_if_due(state, resource, old, new, request):
        if resource.id == _SERVICES and not is_dry_run(request):
            allocations.fold(old, None)
        return Outcome(request.tag, 200, state.store.revision, msgpack.packb(new))
    if new != old:
        state.put(resource, new, request, create=False)
        if resource.id == _SERVICES and not is_dry_run(request):
            allocations.fold(old, new)
    return answer(request, 200, new, [])


class StrictProblem(BadRequest):
    """The body has fields it should not have, and the client asked for strictness."""

    def __init__(self, resource: Resource, problems: list[str]) -> None:
        self.text = f"strict decoding error: {', '.join(problems)}"
        super().__init__(
            f'{resource.kind} in version "{resource.version}" cannot be handled as a '
            f"{resource.kind}: {self.text}"
        )


def decoded(resource: Resource, body: Object, request: Request) -> tuple[Object, list[str]]:
    """Return the body as an object of its kind, and warnings. Raises: BadRequest."""
    duplicates = request.options.get("duplicates") or ()
    obj, problems = decode_strict(resource.api_version, resource.kind, body, duplicates)
    mode = request.options.get("fieldValidation") or "Warn"
    if problems and mode == "Strict":
        raise StrictProblem(resource, problems)
    return obj, problems if mode == "Warn" else []


def answer(request: Request, code: int, obj: Object, warnings: list[str]) -> Outcome:
    """Return the outcome that carries `obj`, at the revision of its last change."""
    revision = int(obj["metadata"].get("resourceVersion") or 0)
    return Outcome(request.tag, code, revision, msgpack.packb(obj), warnings=list(warnings))


def _body(request: Request) -> Object:
    body = msgpack.unpackb(request.body) if request.body else None
    if not isinstance(body, dict):
        raise BadRequest("the request needs an object as its body")
    return body


def _admit_create(state: State, resource: Resource, obj: Object, request: Request) -> None:
    metadata = obj["metadata"]
    if resource.namespaced:
        name = metadata.get("name") or metadata.get("generateName", "")
        found = state.get("namespaces", "", request.namespace)
        namespaces.admit_create(resource.id, name, request.namespace, found)
    if resource.id == "pods":
        tolerance_s = state.settings.eviction_tolerance_s
        pods.admit(obj, request.namespace, state.get, tolerance_s=tolerance_s)
    elif resource.id == "nodes":
        nodes.admit(obj)


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
