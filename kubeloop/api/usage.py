"""What an object takes of a quota, and which quotas it is of. Pure.

    taken = usage("pods", pod)                 # {"pods": 1, "count/pods": 1, "requests.cpu": …}
    of_quota(quota, "pods", pod)               # whether the quota's scopes choose it

Source: Kubernetes, "Resource Quotas"; k8s.io/kubernetes/pkg/quota/v1/evaluator in behaviour.
"""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, Final

from kubeloop.api.admission.volumes import class_of
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.pod_resources import Amounts, add, of_pod, read
from kubeloop.api.qos import qos_class
from kubeloop.api.quantities import Family, Quantity
from kubeloop.api.quotas import POD_COMPUTE

QUOTAS: Final = "resourcequotas"
NOTHING: Final = Quantity(Fraction(0), Family.DECIMAL)
_ONE: Final = Quantity(Fraction(1), Family.DECIMAL)
_PLAIN: Final = ("configmaps", QUOTAS, "replicationcontrollers", "secrets")
"""Kinds that are counted by their own names, too."""

_OF_PODS: Final = frozenset(
    {*POD_COMPUTE, "pods", "ephemeral-storage", "requests.ephemeral-storage"}
    | {"limits.ephemeral-storage"}
)
_OF_SERVICES: Final = frozenset({"services", "services.nodeports", "services.loadbalancers"})
_OF_CLAIMS: Final = frozenset({"persistentvolumeclaims", "requests.storage"})
_CLASS: Final = ".storageclass.storage.k8s.io/"
_HUGE: Final = "hugepages-"
_NATIVE: Final = "kubernetes.io/"
_DONE: Final = ("Failed", "Succeeded")
_DEMANDED: Final = ("cpu", "memory")


def counted_by(name: str) -> str:
    """Return the id of the resource whose objects take of what a quota calls `name`.

    "" if nothing is known to take of it.
    """
    if name.startswith("count/"):
        return name.removeprefix("count/")
    if name in _PLAIN:
        return name
    if name in _OF_SERVICES:
        return "services"
    if name in _OF_CLAIMS or _CLASS in name:
        return "persistentvolumeclaims"
    if name in _OF_PODS or name.removeprefix("requests.").startswith(_HUGE):
        return "pods"
    extended = name.startswith("requests.") and "/" in name and _NATIVE not in name
    return "pods" if extended else ""


def usage(resource_id: str, obj: Json) -> Amounts:
    """Return what an object takes, by all names a quota may have for it."""
    taken: Amounts = {f"count/{resource_id}": _ONE}
    if resource_id in _PLAIN:
        taken[resource_id] = _ONE
    elif resource_id == "pods":
        taken |= _of_pod(obj)
    elif resource_id == "services":
        taken |= _of_service(obj.get("spec") or {})
    elif resource_id == "persistentvolumeclaims":
        taken |= _of_claim(obj)
    return taken


def of_quota(quota: Json, resource_id: str, obj: Json) -> bool:
    """Tell whether the scopes of a quota choose an object."""
    return all(_in_scope(one, resource_id, obj) for one in _scopes(quota))


def used(quota: Json, hard: Mapping[str, Any], objects: Iterable[tuple[str, Json]]) -> Amounts:
    """Return how much of what a quota limits is taken. objects: (resource id, object)."""
    total = {name: NOTHING for name in hard if counted_by(name)}
    for resource_id, obj in objects:
        if of_quota(quota, resource_id, obj):
            taken = usage(resource_id, obj)
            total = add(total, {name: taken[name] for name in taken if name in total})
    return total


def missing(names: Iterable[str], pod: Json) -> str:
    """Return what containers must say because quotas limit it, "" if nothing."""
    wanted = sorted({name for name in names if name in POD_COMPUTE})
    spec, lacking = pod.get("spec") or {}, dict[str, set[str]]()
    whole = _compute(maybe(spec, "resources"))
    for container in (*items(spec, "containers"), *items(spec, "initContainers")):
        told = {*_compute(maybe(container, "resources")), *whole}
        for name in wanted:
            if name not in told:
                lacking.setdefault(name, set()).add(str(container.get("name")))
    return "; ".join(f"{name} for: {','.join(sorted(who))}" for name, who in lacking.items())


def _compute(resources: Json | None) -> Amounts:
    return _compute_usage(read(maybe(resources, "requests")), read(maybe(resources, "limits")))


def _compute_usage(requests: Amounts, limits: Amounts) -> Amounts:
    taken: Amounts = {}
    for name, amount in requests.items():
        if name in (*_DEMANDED, "ephemeral-storage") or name.startswith(_HUGE):
            taken[name] = taken[f"requests.{name}"] = amount
        elif "/" in name and _NATIVE not in name:
            taken[f"requests.{name}"] = amount
    for name, amount in limits.items():
        if name in (*_DEMANDED, "ephemeral-storage"):
            taken[f"limits.{name}"] = amount
    return taken


def _of_pod(pod: Json) -> Amounts:
    if (pod.get("status") or {}).get("phase") in _DONE:
        return {}
    spec = pod.get("spec") or {}
    return {"pods": _ONE, **_compute_usage(of_pod(spec, "requests"), of_pod(spec, "limits"))}


def _of_service(spec: Json) -> Amounts:
    ports, type_ = items(spec, "ports"), spec.get("type")
    numbers = 0
    if type_ == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
        numbers = sum(bool(port.get("nodePort")) for port in ports)
    elif type_ in ("NodePort", "LoadBalancer"):
        numbers = len(ports)
    return {
        "services": _ONE,
        "services.nodeports": Quantity(Fraction(numbers), Family.DECIMAL),
        "services.loadbalancers": _ONE if type_ == "LoadBalancer" else NOTHING,
    }


def _of_claim(claim: Json) -> Amounts:
    asked = read(maybe(maybe(claim.get("spec"), "resources"), "requests"))
    taken: Amounts = {"persistentvolumeclaims": _ONE}
    if "storage" in asked:
        taken["requests.storage"] = asked["storage"]
    if name := class_of(claim):
        taken |= {f"{name}{_CLASS}{what}": amount for what, amount in taken.items()}
    return taken


def _scopes(quota: Json) -> list[Json]:
    """Return what a quota chooses by, as selectors."""
    spec = quota.get("spec") or {}
    plain = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*plain, *items(maybe(spec, "scopeSelector"), "matchExpressions")]


def _in_scope(selector: Json, resource_id: str, obj: Json) -> bool:
    scope, spec = selector.get("scopeName"), obj.get("spec") or {}
    if resource_id == "persistentvolumeclaims":
        told = spec.get("volumeAttributesClassName") or ""
        return scope == "VolumeAttributesClass" and _chosen(selector, told)
    if resource_id != "pods":
        return False
    match scope:
        case "Terminating":
            return (spec.get("activeDeadlineSeconds") or -1) >= 0
        case "NotTerminating":
            return not (spec.get("activeDeadlineSeconds") or -1) >= 0
        case "BestEffort":
            return qos_class(obj) == "BestEffort"
        case "NotBestEffort":
            return qos_class(obj) != "BestEffort"
        case "PriorityClass":
            return _chosen(selector, spec.get("priorityClassName") or "")
        case "CrossNamespacePodAffinity":
            return _looks_elsewhere(maybe(spec, "affinity"))
    return False


def _chosen(selector: Json, value: str) -> bool:
    values = selector.get("values") or ()
    match selector.get("operator"):
        case "In":
            return bool(value) and value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return bool(value)
    return not value


def _looks_elsewhere(affinity: Json | None) -> bool:
    """Tell whether a pod's affinity is about pods of other namespaces."""
    terms: list[Json] = []
    for kind in ("podAffinity", "podAntiAffinity"):
        rules = maybe(affinity, kind)
        terms += items(rules, "requiredDuringSchedulingIgnoredDuringExecution")
        weighted = items(rules, "preferredDuringSchedulingIgnoredDuringExecution")
        terms += [term for one in weighted if (term := maybe(one, "podAffinityTerm"))]
    return any(term.get("namespaces") or term.get("namespaceSelector") is not None
               for term in terms)  # fmt: skip
