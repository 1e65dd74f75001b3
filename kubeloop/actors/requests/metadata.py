"""What the system writes into metadata, and what it keeps users from writing there.

Source: k8s.io/apiserver's registry/rest (BeforeCreate, BeforeUpdate) in behaviour.
"""

from collections.abc import Mapping
from typing import Any, Final

from kubeloop.actors.requests import certificates, daemons, jobs, phases, stored_versions
from kubeloop.actors.requests.state import Object, State
from kubeloop.actors.requests.strategies import Strategy, strategy
from kubeloop.api.admission.volumes import VOLUMES
from kubeloop.api.calls import Request
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.errors import ApiError, BadRequest, Cause, Conflict, Invalid
from kubeloop.api.resources import Resource

_API_SERVICES: Final = "apiservices.apiregistration.k8s.io"
_LOCAL: Final = {
    "type": "Available",
    "status": "True",
    "reason": "Local",
    "message": "Local APIServices are always available",
}
_KEPT: Final = (
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "generateName",
    "selfLink",
    "resourceVersion",
)


def check_kind(resource: Resource, body: Object, kind: str = "") -> None:
    """Fill in apiVersion and kind if they are missing. Raises: BadRequest if they are others'."""
    wanted = kind or resource.kind
    told_kind, told_version = body.get("kind"), body.get("apiVersion")
    if told_kind not in (None, "", wanted):
        group, _, version = str(told_version or resource.api_version).rpartition("/")
        raise BadRequest(
            f'{told_kind} in version "{version}" cannot be handled as a {wanted}: converting '
            f"({version}.{told_kind}) to ({resource.group or 'core'}.{wanted}): unknown conversion"
            if group == resource.group
            else f"the API version in the data ({told_version}) does not match the expected API "
            f"version ({resource.api_version})"
        )
    if not kind and told_version not in (None, "", resource.api_version):
        raise BadRequest(
            f"the API version in the data ({told_version}) does not match the expected API "
            f"version ({resource.api_version})"
        )
    if not kind:
        body["kind"], body["apiVersion"] = resource.kind, resource.api_version


def check_namespace(resource: Resource, obj: Object, request: Request) -> None:
    """Put the request's namespace into the object. Raises: BadRequest if it names another."""
    metadata = obj["metadata"]
    if not resource.namespaced:
        metadata.pop("namespace", None)
        return
    if metadata.get("namespace") not in (None, "", request.namespace):
        raise BadRequest(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
    metadata["namespace"] = request.namespace


def check_new(resource: Resource, obj: Object, request: Request) -> None:
    """Refuse to make what was meant to be there. Raises: BadRequest, Conflict."""
    metadata = obj["metadata"]
    name = metadata.setdefault("name", request.name)
    if name != request.name:
        raise BadRequest(
            f"the name of the object ({name}) does not match the name on the URL ({request.name})"
        )
    if uid := metadata.get("uid"):
        why = (
            f"uid mismatch: the provided object specified uid {uid}, "
            "and no existing object was found"
        )
        raise Conflict(resource.id, name, why)


def prepare_create(state: State, resource: Resource, obj: Object, request: Request) -> None:
    """Set what the system owns of a new object. Raises: BadRequest, Invalid, ApiError."""
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise ApiError("resourceVersion should not be set on objects to be created")
    if not metadata.get("name"):
        base = metadata.get("generateName")
        if not base:
            message = "Required value: name or generateName is required"
            cause = Cause("FieldValueRequired", message, "metadata.name")
            raise Invalid(resource.kind, "", [cause], group=resource.group)
        metadata["name"] = state.generate_name(base)
    for field in (
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ):
        metadata.pop(field, None)
    metadata["resourceVersion"] = "0"  # Holds the place until it is written.
    metadata["uid"] = state.new_uid()
    metadata["creationTimestamp"] = state.now()
    row = strategy(resource)
    if row.generation and row.generation_first:
        metadata["generation"] = row.generation_first
    if row.status_dropped:
        obj.pop("status", None)
    elif row.status is not None and not row.status_given:
        obj["status"] = {k: dict(v) if isinstance(v, dict) else v for k, v in row.status.items()}
    if resource.id == "jobs.batch":
        jobs.choose(obj)
    elif resource.id == "daemonsets.apps":
        daemons.count(obj, None)
    elif resource.id == DEFINITIONS:
        stored_versions.remember(obj)
    elif resource.id == certificates.SIGNING_REQUESTS:
        certificates.sign_with(obj, request.user, request.groups)
    elif resource.id == _API_SERVICES and not obj["spec"].get("service"):
        obj["status"] = {"conditions": [{**_LOCAL, "lastTransitionTime": state.now()}]}
    elif resource.id == VOLUMES:
        phases.count(obj, None, metadata["creationTimestamp"])
    obj["metadata"] = ordered_metadata(obj["metadata"])


def check_preconditions(resource: Resource, old: Object, new: Object) -> None:
    """Refuse a write that was meant for another object. Raises: BadRequest, Conflict, Invalid."""
    metadata, was = new["metadata"], old["metadata"]
    if metadata.get("name") != was["name"]:
        raise BadRequest(
            f"the name of the object ({metadata.get('name', '')}) does not match the name on the "
            f"URL ({was['name']})"
        )
    if metadata.get("uid") not in (None, "", was["uid"]):
        raise Conflict(
            resource.id,
            was["name"],
            f"Precondition failed: UID in precondition: {metadata['uid']}, "
            f"UID in object meta: {was['uid']}",
        )
    version = metadata.get("resourceVersion")
    if not version and strategy(resource).versioned:
        message = "Invalid value: 0: must be specified for an update"
        cause = Cause("FieldValueInvalid", message, "metadata.resourceVersion")
        raise Invalid(resource.plural, was["name"], [cause], group=resource.group)
    if version not in (None, "", was["resourceVersion"]):
        raise Conflict.modified(resource.id, was["name"])


def prepare_update(resource: Resource, old: Object, new: Object) -> None:
    """Carry over what users may not change; count the generation up if what they want changed."""
    _carry_over(old["metadata"], new["metadata"], _KEPT)
    row = strategy(resource)
    if row.status is not None or row.status_dropped:
        if "status" in old:
            new["status"] = old["status"]
        else:
            new.pop("status", None)
    if resource.id == "namespaces":  # Finalizers are set through `finalize` alone.
        _carry_over(old.get("spec", {}), new.setdefault("spec", {}), ("finalizers",))
    elif resource.id == "daemonsets.apps":
        daemons.count(new, old)
    elif resource.id == certificates.SIGNING_REQUESTS:  # What is asked for cannot be changed.
        new["spec"] = old["spec"]
    elif resource.id == DEFINITIONS:
        new["status"] = dict(new.get("status") or {})
        stored_versions.remember(new)
    metadata = new["metadata"] = ordered_metadata(new["metadata"])
    if row.generation and not row.uncounted and _counted(new, row) != _counted(old, row):
        metadata["generation"] = old["metadata"].get("generation", 0) + 1
        new["metadata"] = ordered_metadata(metadata)


def prepare_status_update(resource: Resource, old: Object, new: Object) -> Object:
    """Return `old` with the status of `new`, and what metadata may come with a status."""
    changed = dict(old)
    if "status" in new:
        changed["status"] = new["status"]
    else:
        changed.pop("status", None)
    if resource.custom is not None:
        return changed
    metadata = dict(new["metadata"])
    _carry_over(old["metadata"], metadata, (*_KEPT, *strategy(resource).status_locks))
    changed["metadata"] = ordered_metadata(metadata)
    return changed


def _carry_over(old: Mapping[str, Any], new: Object, fields: tuple[str, ...]) -> None:
    for field in fields:
        if field in old:
            new[field] = old[field]
        else:
            new.pop(field, None)


def _counted(obj: Mapping[str, Any], row: Strategy) -> tuple[Any, ...]:
    """Return what a generation counts."""
    metadata = obj["metadata"]
    status = obj.get("status") if row.status_counted else None
    return wishes(obj), status, *(metadata.get(field) or {} for field in row.counted)


def wishes(obj: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a generation counts: everything but metadata and status."""
    return {k: v for k, v in obj.items() if k not in ("metadata", "status")}


def ordered_metadata(metadata: Object) -> Object:
    """Return metadata with the fields in the order Kubernetes writes them, empty ones dropped."""
    return {k: metadata[k] for k in _ORDER if metadata.get(k) not in (None, "", {}, [])}


_ORDER: Final = (
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
