"""Admission: which plugins have a say in a write, and what they get to see.

A write passes here three times: before its defaults are filled in (`complete`), after that
(`fill_up`), and when it is known to be valid (`allow`). The plugins are in `api/admission`.
"""

from collections.abc import Mapping
from typing import Final

from kubeloop.actors.requests.state import Object, State
from kubeloop.api.admission import (
    classes,
    ingresses,
    limits,
    namespaces,
    nodes,
    pods,
    quotas,
    volumes,
)
from kubeloop.api.calls import Request
from kubeloop.api.resources import Resource
from kubeloop.api.usage import QUOTAS

_PODS: Final = "pods"
_LIMITS: Final = "limitranges"
_INGRESSES: Final = "ingresses.networking.k8s.io"
_INGRESS_CLASSES: Final = "ingressclasses.networking.k8s.io"
_CHANGING: Final = ("services", volumes.CLAIMS)
"""Kinds that may take more of a quota when they change."""


def complete(state: State, resource: Resource, obj: Object, request: Request) -> None:
    """Complete a new object in place, before its defaults. Raises: NotFound, Forbidden."""
    metadata = obj["metadata"]
    name = metadata.get("name") or metadata.get("generateName", "")
    if resource.namespaced:
        found = state.get("namespaces", "", request.namespace)
        namespaces.admit_create(resource.id, name, request.namespace, found)
    if resource.id == _PODS:
        _complete_pod(state, obj, name, request)
    elif resource.id == "nodes":
        nodes.admit(obj)
    elif resource.id == _INGRESSES and ingresses.names_no_class(obj):
        ingresses.admit(obj, state.all(_INGRESS_CLASSES))
    elif resource.id in volumes.PROTECTION:
        volumes.protect(resource.id, obj)
        if resource.id == volumes.CLAIMS:
            volumes.choose_class(obj, state.all(volumes.CLASSES))


def complete_change(state: State, resource: Resource, obj: Object, old: Object) -> None:
    """Complete a changed object in place."""
    if resource.id == _PODS:
        pods.admit_update(obj, old, tolerance_s=state.settings.eviction_tolerance_s)


def fill_up(state: State, resource: Resource, obj: Object, request: Request) -> None:
    """Complete a new object in place, after its defaults."""
    if resource.id == _PODS:
        limits.default(obj, state.all(_LIMITS, request.namespace))


def allow(
    state: State, resource: Resource, obj: Object, old: Object | None, request: Request
) -> list[Object]:
    """Return what changes with a valid object; old: what it was, None if it is new.

    Raises: Forbidden.
    """
    if resource.id in limits.LIMITED and (old is None or resource.id != _PODS):
        limits.check(resource.id, obj, state.all(_LIMITS, request.namespace))
    if resource.id == classes.PRIORITIES:
        classes.only_one_default(obj, state.all(classes.PRIORITIES))
    if resource.id == volumes.CLAIMS and old is not None:
        told = state.get(volumes.CLASSES, "", volumes.class_of(obj))
        volumes.may_grow(obj, old, told)
    if not resource.namespaced or (old is not None and resource.id not in _CHANGING):
        return []
    return quotas.charge(resource.id, obj, old, state.all(QUOTAS, request.namespace))


def _complete_pod(state: State, pod: Object, name: str, request: Request) -> None:
    tolerance_s = state.settings.eviction_tolerance_s
    generate_name = state.generate_name if state.settings.mounts_tokens else None
    pods.admit(
        pod, request.namespace, state.get, tolerance_s=tolerance_s, generate_name=generate_name
    )
    spec = pod["spec"]
    priority, runtime = spec.get("priorityClassName"), spec.get("runtimeClassName")
    told: Mapping[str, object] | None
    if priority:
        told = state.get(classes.PRIORITIES, "", priority)
    else:
        told = classes.default_class(state.all(classes.PRIORITIES))
    classes.prioritize(pod, name, told)
    classes.run(pod, name, state.get(classes.RUNTIMES, "", runtime) if runtime else None)
