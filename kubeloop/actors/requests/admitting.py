"""What admission webhooks have to say about a write, at the two places where they are asked.

`mutated` before the system completes an object, `validated` when it is known to be valid.
"""

from typing import Any, Final

from kubeloop.actors.requests.hooks import consult
from kubeloop.actors.requests.patching import decoded
from kubeloop.actors.requests.state import Object, State, is_dry_run
from kubeloop.api.admission.webhooks import MUTATING, VALIDATING, Attributes
from kubeloop.api.calls import Request
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.errors import BadRequest
from kubeloop.api.resources import Resource

_OPTIONS: Final = {"CREATE": "CreateOptions", "UPDATE": "UpdateOptions", "DELETE": "DeleteOptions"}
_TOLD: Final = (
    "dryRun",
    "fieldManager",
    "fieldValidation",
    "force",
    "gracePeriodSeconds",
    "preconditions",
    "propagationPolicy",
)


def mutated(
    state: State, resource: Resource, request: Request, obj: Object, old: Object | None
) -> Object:
    """Return an object as mutating webhooks want it; old: None if it is new.

    Raises: Suspended; ApiError if one refuses.
    """
    wanted = _consulted(state, MUTATING, resource, request, obj, old)
    if wanted is obj or wanted is None:
        return obj
    changed, _ = decoded(resource, wanted, request)
    metadata, was = changed.setdefault("metadata", {}), obj["metadata"]
    for name in ("name", "namespace"):
        if metadata.get(name) != was.get(name):
            raise BadRequest(f"a webhook changed metadata.{name}: that is what the request names")
    apply_defaults(resource, changed)
    return changed


def validated(
    state: State,
    resource: Resource,
    request: Request,
    obj: Object | None,
    old: Object | None,
) -> None:
    """Ask validating webhooks. obj: None if it is to be deleted.

    Raises: Suspended; ApiError if one refuses.
    """
    _consulted(state, VALIDATING, resource, request, obj, old)


def deletable(state: State, resource: Resource, request: Request, old: Object) -> None:
    """Ask all webhooks whether an object may be deleted. Raises: Suspended, ApiError."""
    _consulted(state, MUTATING, resource, request, None, old)
    _consulted(state, VALIDATING, resource, request, None, old)


def _consulted(
    state: State,
    kind: str,
    resource: Resource,
    request: Request,
    obj: Object | None,
    old: Object | None,
) -> Object | None:
    if state.attempt is None:
        return obj
    hooks = tuple(hook for hook in state.hooks.all() if hook.kind == kind)
    if not hooks:
        return obj
    operation = "DELETE" if obj is None else "CREATE" if old is None else "UPDATE"
    options: dict[str, Any] = {
        name: request.options[name] for name in _TOLD if name in request.options
    }
    kind_ = "PatchOptions" if request.verb == "patch" else _OPTIONS[operation]
    name = (obj or old or {}).get("metadata", {}).get("name") or request.name
    about = Attributes(
        operation,
        resource,
        request.subresource,
        request.namespace if resource.namespaced else "",
        name,
        obj,
        old,
        request.user,
        {"kind": kind_, "apiVersion": "meta.k8s.io/v1", **options},
        is_dry_run(request),
    )
    namespace = None
    if resource.namespaced:
        namespace = state.get("namespaces", "", request.namespace)
    return consult(state.attempt, hooks, about, namespace, state.new_uid)
