"""Who wrote which field: metadata.managedFields of all that is written.

Source: Kubernetes, "Server-Side Apply: Field management"; k8s.io/apiserver's create, update and
patch handlers, in behaviour.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

import msgpack

from kubeloop.actors.requests.metadata import ordered_metadata
from kubeloop.actors.requests.state import Object, State
from kubeloop.actors.requests.strategies import strategy
from kubeloop.api.calls import Request
from kubeloop.api.custom import in_order
from kubeloop.api.errors import ApplyConflict, BadRequest, Cause
from kubeloop.api.managed.applying import Apply
from kubeloop.api.managed.comparing import problems
from kubeloop.api.managed.managers import (
    Clashes,
    Manager,
    Managers,
    Unreadable,
    read,
    updated,
    write,
)
from kubeloop.api.managed.sets import EMPTY, FieldSet, union
from kubeloop.api.managed.shapes import shape_of, zero
from kubeloop.api.resources import Resource

_NAME_MAX: Final = 128
_SCALE: Final = "scale"  # Who writes through it is known without the time, as in Kubernetes.
_COMPONENTS: Final = {
    "system:apiserver": "kube-apiserver",
    "system:kube-controller-manager": "kube-controller-manager",
    "system:kube-proxy": "kube-proxy",
    "system:kube-scheduler": "kube-scheduler",
    "system:node:": "kubelet",
    "system:serviceaccount:kube-system:customresourcedefinition-controller": "kube-apiserver",
    "system:serviceaccount:kube-system:": "kube-controller-manager",
}
"""What the users of actors begin with, and what these call themselves."""

_ALLOTTED: Final = {
    "namespaces": ("finalizers",),
    "services": ("clusterIPs", "ipFamilies", "ipFamilyPolicy"),
}
_STATUS: Final[FieldSet] = {"f:status": EMPTY}
_ALL_BUT_STATUS: Final[FieldSet] = {"f:metadata": EMPTY, "f:spec": EMPTY}


def manager_of(request: Request, resource: Resource, operation: str = "Update") -> Manager:
    """Return as whom a request writes: its fieldManager, or the program that sent it."""
    name = request.options.get("fieldManager") or _program(request.agent) or _actor(request.user)
    return Manager(name, operation, resource.api_version, request.subresource)


@lru_cache(1024)
def _program(agent: str) -> str:
    """Return what a User-Agent begins with."""
    name = "".join(char for char in agent.partition("/")[0] if char.isprintable())
    while len(name.encode(errors="replace")) > _NAME_MAX:
        name = name[:-1]
    return name


def _actor(user: str) -> str:
    known = (name for prefix, name in _COMPONENTS.items() if user.startswith(prefix))
    return next(known, "unknown")


def ignored(resource: Resource, subresource: str) -> FieldSet:
    """Return what cannot be changed through a resource, or its status: it is kept as it was."""
    row = strategy(resource)
    if subresource == "status":
        if resource.custom is not None:
            return _ALL_BUT_STATUS
        locks = {f"f:{name}": EMPTY for name in row.status_locks}
        return {"f:spec": EMPTY, **({"f:metadata": locks} if locks else {})}
    return _STATUS if row.status is not None or row.status_dropped else EMPTY


def managers_of(obj: Mapping[str, Any]) -> Managers:
    """Return the managers of a stored object; none if nobody can read them."""
    try:
        return read(obj["metadata"].get("managedFields"), trusted=True)
    except Unreadable:
        return {}


def allotted(resource: Resource, obj: Mapping[str, Any]) -> FieldSet:
    """Return what a new object lacks and the system allots: it is not its creator's."""
    spec = obj.get("spec") or {}
    gone = [name for name in _ALLOTTED.get(resource.id, ()) if not spec.get(name)]
    return {"f:spec": {f"f:{name}": EMPTY for name in gone}} if gone else EMPTY


def created(
    state: State, resource: Resource, obj: Object, request: Request, allotted: FieldSet
) -> None:
    """Give all fields of a new object to who creates it, in place, but for what is allotted."""
    shape, manager = shape_of(resource), manager_of(request, resource)
    others = union(ignored(resource, ""), allotted)
    managers = updated(_told(obj, {}), shape, zero(shape), obj, manager, state.now(), others)
    _put(resource, obj, managers)


def changed(state: State, resource: Resource, old: Object, new: Object, request: Request) -> None:
    """Give what `new` has otherwise than `old` to who changes it, in place."""
    before = managers_of(old)
    new["metadata"] = ordered_metadata(new["metadata"])
    was, tells = old["metadata"].get("managedFields"), new["metadata"].get("managedFields")
    told = before if request.subresource or was == tells else _told(new, before)
    if not told:  # Nobody was written down from the beginning, or somebody said to forget all.
        new["metadata"].pop("managedFields", None)
        return
    now = "" if request.subresource == _SCALE else state.now()
    managers = updated(
        told,
        shape_of(resource),
        old,
        new,
        manager_of(request, resource),
        now,
        ignored(resource, request.subresource),
    )
    if managers is before:
        new["metadata"]["managedFields"] = old["metadata"]["managedFields"]
    else:
        _put(resource, new, managers)


def configuration(resource: Resource, request: Request) -> Object:
    """Return what a request applies. Raises: BadRequest, ApplyImpossible."""
    config = msgpack.unpackb(request.body) if request.body else None
    if not isinstance(config, dict):
        raise BadRequest("error decoding YAML: a configuration is an object")
    version, kind = config.get("apiVersion") or "", config.get("kind") or ""
    if (version, kind) != (resource.api_version, resource.kind):
        shown = version if "/" in str(version) else f"/{version}"
        raise BadRequest(f"invalid object type: {shown}, Kind={kind}")
    metadata = config.get("metadata")
    if isinstance(metadata, dict) and metadata.get("managedFields") is not None:
        raise BadRequest("metadata.managedFields must be nil")
    found = list(problems(shape_of(resource), config))
    if found:
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        what = f"{request.namespace}/{name}" if request.namespace else f"/{name}"
        told = found[0] if len(found) == 1 else "errors:\n" + "".join(f"  {p}\n" for p in found)
        raise BadRequest(
            f"failed to create typed patch object ({what}; {version}, Kind={kind}): {told}"
        )
    return config


def applied(
    state: State, resource: Resource, live: Object, config: Object, request: Request
) -> Object:
    """Return what an apply makes of an object, with its managers. live: {} if there is none.

    Raises: ApplyConflict.
    """
    apply = Apply(
        shape_of(resource),
        manager_of(request, resource, "Apply"),
        config,
        state.now(),
        ignored(resource, request.subresource),
        force=bool(request.options.get("force")),
    )
    try:
        outcome = apply.on(live, managers_of(live) if live else {})
    except Clashes as error:
        causes = [
            Cause("FieldManagerConflict", f"conflict with {clash.manager}", clash.path)
            for clash in error.clashes
        ]
        raise ApplyConflict(error.message(), causes) from None
    obj = {**outcome.obj, "metadata": {**(outcome.obj.get("metadata") or {})}}
    _put(resource, obj, outcome.managers)
    return obj


def _told(obj: Object, before: Managers) -> Managers:
    """Return the managers an author tells of: those from before if he tells nothing readable."""
    told = obj["metadata"].get("managedFields")
    if told is None:
        return before
    if told == [{}]:
        return {}  # So one says to forget them all.
    try:
        return read(told) or before
    except Unreadable:
        return before


def _put(resource: Resource, obj: Object, managers: Managers) -> None:
    entries = write(managers)
    if resource.custom is not None:
        entries = [in_order({**entry}) for entry in entries]
    if entries:
        obj["metadata"]["managedFields"] = entries
    else:
        obj["metadata"].pop("managedFields", None)
