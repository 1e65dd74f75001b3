"""What a pod asks for in all: the sum of its containers, as Kubernetes counts it. Pure.

Containers run together, with the sidecars among the init containers; other init containers run one
after the other before them. What is told of the pod as a whole goes before what is told of its
containers.

Source: k8s.io/component-helpers/resource, PodRequests and PodLimits.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from kubeloop.api import quantities
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.quantities import Quantity

Amounts = dict[str, Quantity]


def read(given: Mapping[str, Any] | None) -> Amounts:
    """Return the amounts of a resource list; what is no quantity is left out."""
    found: Amounts = {}
    for name, text in (given or {}).items():
        try:
            found[name] = quantities.read(text)
        except (TypeError, ValueError):
            continue  # Validation says so.
    return found


def add(one: Mapping[str, Quantity], other: Mapping[str, Quantity]) -> Amounts:
    """Return the sum of two lists of amounts."""
    total = dict(one)
    for name, amount in other.items():
        total[name] = plus(total[name], amount) if name in total else amount
    return total


def plus(one: Quantity, other: Quantity) -> Quantity:
    """Return a sum, written as the first amount is, unless that is nothing."""
    family = one.family if one.number else other.family
    return Quantity(one.number + other.number, family)


def of_containers(spec: Json, kind: str) -> Amounts:
    """Return what the containers of a pod need at once. kind: "requests" or "limits"."""
    total, sidecars, peak = Amounts(), Amounts(), Amounts()
    for container in items(spec, "containers"):
        total = add(total, _of(container, kind))
    for container in items(spec, "initContainers"):
        own = _of(container, kind)
        if container.get("restartPolicy") == "Always":
            total, sidecars = add(total, own), add(sidecars, own)
            own = sidecars
        else:
            own = add(own, sidecars)
        peak = _most((peak, own))
    return _most((total, peak))


def of_pod(spec: Json, kind: str) -> Amounts:
    """Return what a pod needs, with the overhead of its runtime. kind: "requests", "limits"."""
    found = of_containers(spec, kind)
    found |= read(maybe(maybe(spec, "resources"), kind))
    overhead = read(maybe(spec, "overhead"))
    if kind == "limits":
        overhead = {name: amount for name, amount in overhead.items() if name in found}
    return add(found, overhead)


def _of(container: Json, kind: str) -> Amounts:
    return read(maybe(maybe(container, "resources"), kind))


def _most(lists: Iterable[Mapping[str, Quantity]]) -> Amounts:
    most: Amounts = {}
    for given in lists:
        for name, amount in given.items():
            if name not in most or amount.number > most[name].number:
                most[name] = amount
    return most
