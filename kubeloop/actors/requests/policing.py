"""Admission policies at work: read from the store, chosen, given their parameters, evaluated.

They are heeded as soon as they are durable. Kubernetes' order: mutating policies, mutating
webhooks, mutating policies again that want to see what changed; validating policies, validating
webhooks.
"""

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import msgpack

from kubeloop.api.admission import mutations
from kubeloop.api.admission.language import Run
from kubeloop.api.admission.matching import Attributes
from kubeloop.api.admission.policies import (
    MUTATING,
    MUTATING_BINDINGS,
    VALIDATING,
    VALIDATING_BINDINGS,
    Denied,
    Objection,
    Policy,
    chosen,
    judged,
    met,
    policies_of,
    scope_of,
)
from kubeloop.api.catalogue import Catalogue
from kubeloop.api.cel import Failure
from kubeloop.api.errors import ApiError
from kubeloop.api.managed.shapes import shape_of
from kubeloop.api.resources import Resource
from kubeloop.api.selectors import label_selector
from kubeloop.store.facts import prefix_of
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor

_KINDS: Final = (VALIDATING, VALIDATING_BINDINGS, MUTATING, MUTATING_BINDINGS)
_CLUSTER_SCOPED: Final = (
    "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
)
_NO_NAMESPACE: Final = "paramRef.namespace must not be provided for a cluster-scoped `paramKind`"
_NOT_FOUND: Final = "no params found for policy binding with `Deny` parameterNotFoundAction"

Object = dict[str, Any]
Decode = Callable[[Resource, Object], Object]
"""Reads what a policy made of an object, and fills in its defaults. Raises: ApiError."""


class Policies:
    """The policies there are, compiled anew when one of them or a binding has changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursor: Cursor | None = None
        self._known: dict[str, list[Policy]] = {}

    def close(self) -> None:
        """Watch no more."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def any(self) -> bool:
        """Tell whether there is a policy that is bound."""
        return any(self.of(kind) for kind in (VALIDATING, MUTATING))

    def of(self, kind: str) -> list[Policy]:
        """Return the policies of a kind that are bound, in the order in which they are heeded."""
        if self._cursor is None:
            store = self._store
            self._cursor = store.hub.open(resources=_KINDS, revision=store.durable, wake=self.close)
            self._cursor.take()
            found = {kind: [*map(_unpacked, store.list(prefix_of(kind)).values)] for kind in _KINDS}
            self._known = {
                policies: policies_of(policies, found[policies], found[bindings])
                for policies, bindings in zip(_KINDS[::2], _KINDS[1::2], strict=True)
            }
        return self._known[kind]


def _unpacked(value: bytes) -> Object:
    obj: Object = msgpack.unpackb(value)
    return obj


@dataclass(frozen=True, slots=True)
class Ground:
    """What policies are heeded against.

    get, all:  objects of a resource, as it has them: by namespace and name; in a namespace.
    convert:   from one version of a kind to another.
    warn:      tell the client.
    """

    catalogue: Callable[[], Catalogue]
    get: Callable[[Resource, str, str], Object | None]
    all: Callable[[Resource, str], Iterable[Object]]
    convert: Callable[[Object, Resource, Resource], Object]
    warn: Callable[[str], None]

    def others(self, about: Attributes) -> list[Resource]:
        """Return the kind of a request in all other versions, and groups."""
        own = about.resource
        return [
            one
            for one in self.catalogue().resources
            if one.stored_id == own.stored_id and one.api_version != own.api_version and one.stored
        ]

    def chosen(
        self, told: Mapping[str, Any], about: Attributes, namespace: Object | None
    ) -> Attributes | None:
        """Return what a request is about as the rules speak of it; None if they do not."""
        return chosen(
            told,
            about,
            namespace,
            lambda: self.others(about),
            lambda obj, resource: self.convert(obj, about.resource, resource),
        )


class _Misconfigured(Exception):
    """A policy or a binding cannot be used as it is."""


def validate(
    policies: Iterable[Policy], ground: Ground, about: Attributes, namespace: Object | None
) -> None:
    """Heed validating policies. Raises: Denied."""
    denials: list[Denied] = []
    for policy in policies:
        meant = ground.chosen(policy.constraints, about, namespace)
        if meant is None:
            continue
        for binding, params in _bound(policy, ground, about, namespace, denials):
            for objection in judged(policy, scope_of(meant, params, namespace)):
                actions = binding["spec"].get("validationActions") or ()
                if "Deny" in actions:
                    denials.append(Denied(policy, binding, objection, about.qualified))
                if "Warn" in actions:
                    ground.warn(
                        f"Validation failed for ValidatingAdmissionPolicy '{policy.name}' with "
                        f"binding '{binding['metadata']['name']}': {objection.message}"
                    )
    if denials:
        raise denials[0]


def mutate(
    policies: Iterable[Policy],
    ground: Ground,
    about: Attributes,
    namespace: Object | None,
    decode: Decode,
    seen: dict[str, Object | None],
) -> Attributes:
    """Return what a request is about as mutating policies want it.

    seen: what each policy made of it, by name, so far; filled in.
    Raises: Denied.
    """
    for policy in policies:
        if policy.name in seen and not (policy.asks_again and seen[policy.name] != about.obj):
            continue
        meant = ground.chosen(policy.constraints, about, namespace)
        if meant is None:
            continue
        denials: list[Denied] = []
        for binding, params in _bound(policy, ground, about, namespace, denials):
            try:
                meant = _mutated(policy, meant, params, namespace, decode)
            except Failure as failure:
                if policy.fails:
                    objection = Objection(str(failure))
                    raise Denied(policy, binding, objection, about.qualified) from None
        if denials:
            raise denials[0]
        obj = meant.obj
        if obj is not None and meant.asked is not None:
            obj = ground.convert(obj, meant.resource, meant.asked)
        about = replace(about, obj=obj)
        seen[policy.name] = copy.deepcopy(about.obj)
    return about


def _mutated(
    policy: Policy, about: Attributes, params: Any, namespace: Object | None, decode: Decode
) -> Attributes:
    """Raises: Failure."""
    if about.obj is None or not met(policy, scope_of(about, params, namespace)):
        return about
    for mutation in policy.mutations:
        assert about.obj is not None
        run = Run(policy.variables or {}, scope_of(about, params, namespace))
        made = mutations.mutated(mutation, about.obj, run, shape_of(about.resource))
        try:
            about = replace(about, obj=decode(about.resource, made))
        except ApiError as error:
            raise Failure(str(error)) from None
    return about


def _bound(
    policy: Policy,
    ground: Ground,
    about: Attributes,
    namespace: Object | None,
    denials: list[Denied],
) -> Iterable[tuple[Mapping[str, Any], Any]]:
    """Yield each binding that is about a request, once with each of its parameters.

    denials: what cannot be used and must not be passed over is added.
    """
    kind = policy.spec.get("paramKind")
    resource = None
    if kind:
        resource = ground.catalogue().by_kind.get((kind["apiVersion"], kind["kind"]))
        if resource is None:
            why = (
                "failed to configure policy: failed to find resource referenced by paramKind: "
                f"'{kind['apiVersion']}, Kind={kind['kind']}'"
            )
            if policy.fails:
                denials.append(Denied(policy, None, Objection(why), about.qualified))
            return
    for binding in policy.bindings:
        spec = binding["spec"]
        matched = spec.get("matchResources")
        if matched and ground.chosen(matched, about, namespace) is None:
            continue
        try:
            found = _params(resource, spec.get("paramRef"), ground, about.namespace)
        except _Misconfigured as error:
            if policy.fails:
                why = f"failed to configure binding: {error}"
                denials.append(Denied(policy, binding, Objection(why), about.qualified))
            continue
        for params in found:
            yield binding, params


def _params(
    resource: Resource | None,
    reference: Mapping[str, Any] | None,
    ground: Ground,
    namespace: str,
) -> list[Any]:
    """Return the parameters a binding refers to; [None] if it needs none.

    Raises: _Misconfigured.
    """
    if resource is None or not reference:
        return [None]
    there = reference.get("namespace") or ""
    if resource.namespaced:
        there = there or namespace
        if not there:
            raise _Misconfigured(_CLUSTER_SCOPED)
    elif there:
        raise _Misconfigured(_NO_NAMESPACE)
    if name := reference.get("name"):
        one = ground.get(resource, there, name)
        found = [] if one is None else [one]
    else:
        selector = label_selector(reference.get("selector") or {})
        found = [
            one
            for one in ground.all(resource, there)
            if selector.matches(one["metadata"].get("labels") or {})
        ]
    if not found and reference.get("parameterNotFoundAction") == "Deny":
        raise _Misconfigured(_NOT_FOUND)
    return found
