"""scale, binding, eviction, finalize: the ways to touch one aspect of an object."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import msgpack

from kubeloop.actors.requests import eviction
from kubeloop.actors.requests.admitting import validated
from kubeloop.actors.requests.metadata import check_kind, check_preconditions, ordered_metadata
from kubeloop.actors.requests.patching import apply_patch
from kubeloop.actors.requests.state import Object, State
from kubeloop.actors.requests.writing import change
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import BadRequest, Cause, Conflict, Invalid, NotFound
from kubeloop.api.resources import Resource
from kubeloop.api.selectors import label_selector, set_selector

_SUCCESS: Final = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def get_scale(state: State, request: Request) -> Outcome:
    """Return the Scale of a workload. Raises: NotFound."""
    obj = _found(state, request)
    scale = scale_of(state.resource_of(request), obj)
    return Outcome(request.tag, 200, state.store.revision, msgpack.packb(scale))


def put_scale(state: State, request: Request) -> Outcome:
    """Set spec.replicas through a Scale, whole or patched. Raises: NotFound, Invalid, Conflict."""
    resource = state.resource_of(request)
    old = _found(state, request)
    scale: Any
    if request.verb == "patch":
        scale = apply_patch(request, scale_of(resource, old), resource, "Scale")
    else:
        scale = msgpack.unpackb(request.body) if request.body else None
    if not isinstance(scale, dict):
        raise BadRequest("the request needs a Scale as its body")
    check_kind(resource, scale, "Scale")
    scale.setdefault("metadata", {}).setdefault("name", old["metadata"]["name"])
    check_preconditions(resource, old, scale)
    replicas = (scale.get("spec") or {}).get("replicas", 0)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        message = f"Invalid value: {replicas}: must be greater than or equal to 0"
        cause = Cause("FieldValueInvalid", message, "spec.replicas")
        raise Invalid("Scale", old["metadata"]["name"], [cause], group="autoscaling")

    validated(state, resource, request, scale, scale_of(resource, old))
    path: Sequence[str] = ("spec", "replicas")
    if resource.custom is not None and resource.custom.scale is not None:
        path = resource.custom.scale.spec_replicas

    def scaled(obj: Object) -> Object:
        changed: Object = _with(obj, path, replicas)
        return changed

    outcome = change(state, request, scaled)
    after = scale_of(resource, msgpack.unpackb(outcome.body))
    return Outcome(request.tag, 200, outcome.revision, msgpack.packb(after))


def scale_of(resource: Resource, obj: Object) -> Object:
    """Return the autoscaling/v1 Scale of a workload."""
    metadata = obj["metadata"]
    if resource.custom is not None and resource.custom.scale is not None:
        paths = resource.custom.scale
        wanted, count = _at(obj, paths.spec_replicas), _at(obj, paths.status_replicas)
        text = str(_at(obj, paths.selector) or "") if paths.selector else ""
    else:
        spec, status = obj.get("spec", {}), obj.get("status", {})
        wanted, count, selector = spec.get("replicas"), status.get("replicas"), spec.get("selector")
        by_set = resource.id == "replicationcontrollers"
        text = str(set_selector(selector or {}) if by_set else label_selector(selector))
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {k: metadata[k] for k in kept if k in metadata},
        "spec": {"replicas": wanted} if wanted else {},
        "status": {
            "replicas": count or 0,
            **({"selector": text} if text else {}),
        },
    }


def _at(obj: Object, path: Sequence[str]) -> Any:
    """Return what a path leads to, None if it is not there."""
    found: Any = obj
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _with(obj: Any, path: Sequence[str], value: Any) -> Any:
    """Return an object that has a value at a path."""
    if not path:
        return value
    inner = obj if isinstance(obj, dict) else {}
    return {**inner, path[0]: _with(inner.get(path[0]), path[1:], value)}


def bind(state: State, request: Request) -> Outcome:
    """Assign a pod to a node. Raises: NotFound, Conflict, Invalid."""
    pod = _found(state, request)
    body = msgpack.unpackb(request.body) if request.body else {}
    check_kind(state.resource_of(request), body, "Binding")
    name, metadata = request.name, pod["metadata"]
    told = body.get("metadata") or {}
    if told.get("uid") not in (None, "", metadata["uid"]):
        raise Conflict(
            "pods/binding",
            name,
            f"Precondition failed: UID in precondition: {told['uid']}, "
            f"UID in object meta: {metadata['uid']}",
        )
    target = body.get("target") or {}
    node = target.get("name")
    if not node or target.get("kind") not in (None, "", "Node"):
        raise Invalid("Binding", name, [_target_problem(target)])
    if metadata.get("deletionTimestamp"):
        raise Conflict(
            "pods/binding", name, f"pod {name} is being deleted, cannot be assigned to a host"
        )
    if pod["spec"].get("nodeName"):
        assigned = pod["spec"]["nodeName"]
        raise Conflict("pods/binding", name, f'pod {name} is already assigned to node "{assigned}"')
    if pod["spec"].get("schedulingGates"):
        raise Conflict("pods/binding", name, f"pod {name} has non-empty .spec.schedulingGates")
    validated(state, state.resource_of(request), request, body, None)
    bound = _bound(state, pod, node, told.get("annotations") or {})
    state.put(state.resource_of(request), bound, request, create=False)
    return _created(state, request)


def bind_named(state: State, request: Request) -> Outcome:
    """Assign the pod that a Binding names to a node. Raises: BadRequest; as `bind`."""
    body = msgpack.unpackb(request.body) if request.body else None
    metadata = body.get("metadata") if isinstance(body, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise BadRequest("name must be provided")
    told = metadata.get("namespace") if isinstance(metadata, dict) else None
    if told not in (None, "", request.namespace):
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    return bind(state, replace(request, resource="pods", name=name, subresource="binding"))


def evict(state: State, request: Request) -> Outcome:
    """Delete a pod if its disruption budget allows it. Raises: as `eviction.evict`."""
    if request.body:
        validated(state, state.resource_of(request), request, msgpack.unpackb(request.body), None)
    eviction.evict(state, request)
    return _created(state, request)


def finalize(state: State, request: Request) -> Outcome:
    """Set spec.finalizers of a namespace: a terminating one without any is gone.

    Raises: NotFound, Conflict.
    """
    resource = state.resource_of(request)
    old = _found(state, request)
    body = msgpack.unpackb(request.body) if request.body else {}
    body.setdefault("metadata", {}).setdefault("name", request.name)
    check_preconditions(resource, old, body)
    finalizers = (body.get("spec") or {}).get("finalizers") or []
    new = {**old, "spec": {**old.get("spec", {}), "finalizers": finalizers}}
    if not finalizers:
        new["spec"].pop("finalizers")
    metadata = new["metadata"]
    if metadata.get("deletionTimestamp") and not finalizers and not metadata.get("finalizers"):
        state.remove(resource, old, request)
    elif new != old:
        state.put(resource, new, request, create=False)
    return Outcome(request.tag, 200, state.store.revision, msgpack.packb(new))


def _bound(state: State, pod: Object, node: str, annotations: dict[str, str]) -> Object:
    metadata = dict(pod["metadata"])
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    status = dict(pod.get("status") or {})
    others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    scheduled = {
        "type": "PodScheduled",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": state.now(),
    }
    status["conditions"] = [*others, scheduled]
    return {
        **pod,
        "metadata": ordered_metadata(metadata),
        "spec": {**pod["spec"], "nodeName": node},
        "status": status,
    }


def _target_problem(target: dict[str, Any]) -> Cause:
    if not target.get("name"):
        return Cause("FieldValueRequired", "Required value", "target.name")
    message = f'Unsupported value: "{target.get("kind")}": supported values: "Node", "<empty>"'
    return Cause("FieldValueNotSupported", message, "target.kind")


def _found(state: State, request: Request) -> Object:
    obj = state.found(state.resource_of(request), request.namespace, request.name)
    if obj is None:
        raise NotFound(request.resource, request.name)
    return obj


def _created(state: State, request: Request) -> Outcome:
    status = {**_SUCCESS, "code": 201}
    return Outcome(request.tag, 201, state.store.revision, msgpack.packb(status))
