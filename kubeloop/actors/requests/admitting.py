"""What admission policies and webhooks have to say about a write, at the two places where they are
asked: `mutated` before the system completes an object, `validated` when it is known to be valid.

Policies are asked before webhooks: they take no time.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from kubeloop.actors.requests import policing
from kubeloop.actors.requests.guarding import guard
from kubeloop.actors.requests.hooks import consult
from kubeloop.actors.requests.patching import decoded
from kubeloop.actors.requests.policing import Ground
from kubeloop.actors.requests.state import Object, State, is_dry_run
from kubeloop.api.admission import policies
from kubeloop.api.admission.matching import Attributes
from kubeloop.api.admission.webhooks import MUTATING, VALIDATING, Hook
from kubeloop.api.calls import Request
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.errors import BadRequest
from kubeloop.api.resources import Resource
from kubeloop.store.facts import prefix_of

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
    """Return an object as mutating policies and webhooks want it; old: None if it is new.

    Raises: Suspended; ApiError if one refuses.
    """
    hooks, known = _hooks(state, MUTATING), state.policies.of(policies.MUTATING)
    if not hooks and not known:
        return obj
    about = _about(resource, request, obj, old)
    namespace = _namespace(state, resource, request)
    seen: dict[str, Object | None] = {}

    def heed(about: Attributes) -> Attributes:
        strictly = replace(request, options={**request.options, "fieldValidation": "Strict"})
        read = _reader(obj, strictly, "a policy")
        return policing.mutate(known, _ground(state), about, namespace, read, seen)

    def ask(about: Attributes, hooks: tuple[Hook, ...]) -> Attributes:
        if state.attempt is None or not hooks:
            return about
        wanted = consult(state.attempt, hooks, about, namespace, state.new_uid)
        if wanted is about.obj or wanted is None:
            return about
        return replace(about, obj=_reader(obj, request, "a webhook")(resource, wanted))

    first = heed(about) if known else about
    asked = ask(first, hooks)
    again = heed(asked) if known else asked
    if again.obj != asked.obj:
        again = ask(again, tuple(hook for hook in hooks if hook.asks_again))
    assert again.obj is not None
    return again.obj


def _reader(was: Object, request: Request, who: str) -> Callable[[Resource, Object], Object]:
    """Return what reads an object that somebody changed. Raises: BadRequest."""

    def read(resource: Resource, wanted: Object) -> Object:
        changed, _ = decoded(resource, wanted, request)
        metadata = changed.setdefault("metadata", {})
        for name in ("name", "namespace"):
            if metadata.get(name) != was["metadata"].get(name):
                raise BadRequest(f"{who} changed metadata.{name}: that is what the request names")
        apply_defaults(resource, changed)
        return changed

    return read


def validated(
    state: State,
    resource: Resource,
    request: Request,
    obj: Object | None,
    old: Object | None,
) -> None:
    """Ask the security of pods, validating policies and webhooks.

    obj: None if it is to be deleted.
    Raises: Suspended; ApiError if one refuses.
    """
    if obj is not None:
        guard(state, resource, request, obj, old)
    hooks, known = _hooks(state, VALIDATING), state.policies.of(policies.VALIDATING)
    if not hooks and not known:
        return
    about = _about(resource, request, obj, old)
    namespace = _namespace(state, resource, request)
    if known:
        policing.validate(known, _ground(state), about, namespace)
    if state.attempt is not None and hooks:
        consult(state.attempt, hooks, about, namespace, state.new_uid)


def deletable(state: State, resource: Resource, request: Request, old: Object) -> None:
    """Ask all whether an object may be deleted. Raises: Suspended, ApiError."""
    hooks = _hooks(state, MUTATING)
    if state.attempt is not None and hooks:
        about = _about(resource, request, None, old)
        namespace = _namespace(state, resource, request)
        consult(state.attempt, hooks, about, namespace, state.new_uid)
    validated(state, resource, request, None, old)


def _hooks(state: State, kind: str) -> tuple[Hook, ...]:
    if state.attempt is None:
        return ()
    return tuple(hook for hook in state.hooks.all() if hook.kind == kind)


def _ground(state: State) -> Ground:
    def all_(resource: Resource, namespace: str) -> list[Object]:
        page = state.store.list(prefix_of(resource.stored_id, namespace))
        return state.served_all(resource, page.items)

    return Ground(state.catalogue, state.found, all_, state.as_version, state.warnings.append)


def _namespace(state: State, resource: Resource, request: Request) -> Object | None:
    return state.get("namespaces", "", request.namespace) if resource.namespaced else None


def _about(
    resource: Resource, request: Request, obj: Object | None, old: Object | None
) -> Attributes:
    operation = "DELETE" if obj is None else "CREATE" if old is None else "UPDATE"
    options: dict[str, Any] = {
        name: request.options[name] for name in _TOLD if name in request.options
    }
    kind = "PatchOptions" if request.verb == "patch" else _OPTIONS[operation]
    name = (obj or old or {}).get("metadata", {}).get("name") or request.name
    return Attributes(
        operation,
        resource,
        request.subresource,
        request.namespace if resource.namespaced else "",
        name,
        obj,
        old,
        request.user,
        {"kind": kind, "apiVersion": "meta.k8s.io/v1", **options},
        is_dry_run(request),
        groups=request.groups,
    )
