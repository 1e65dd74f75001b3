"""Admission by classes: which priority a pod has, and what its runtime needs.

Source: Kubernetes, "Pod Priority and Preemption", "Runtime Class"; the plugins Priority and
RuntimeClass in behaviour.
"""

from collections.abc import Iterable
from typing import Any, Final

from kubeloop.api.defaulting.tools import Json, child, items, maybe
from kubeloop.api.errors import Forbidden

PRIORITIES: Final = "priorityclasses.scheduling.k8s.io"
RUNTIMES: Final = "runtimeclasses.node.k8s.io"
_COMPUTED: Final = "priority admission controller computed {} from the given PriorityClass name"


def default_class(classes: Iterable[Json]) -> Json | None:
    """Return the class of pods that name none; the lowest, if there are several."""
    found = [one for one in classes if one.get("globalDefault")]
    return min(found, key=lambda one: one.get("value") or 0, default=None)


def prioritize(pod: Json, name: str, told: Json | None) -> None:
    """Write a new pod's priority into it, in place.

    name: of the pod, or what its name begins with.
    told: the class it names, or the one of those that name none. Raises: Forbidden.
    """
    spec = child(pod, "spec")
    asked = spec.get("priorityClassName")
    if asked and told is None:
        raise Forbidden("pods", name, f"no PriorityClass with name {asked} was found")
    priority: int = (told or {}).get("value") or 0
    policy: str = (told or {}).get("preemptionPolicy") or "PreemptLowerPriority"
    if told is not None:
        spec["priorityClassName"] = told["metadata"]["name"]
    _agree(name, spec, "priority", f"integer value of priority ({spec.get('priority')})", priority)
    says = f"string value of PreemptionPolicy ({spec.get('preemptionPolicy')})"
    _agree(name, spec, "preemptionPolicy", says, policy)


def only_one_default(obj: Json, classes: Iterable[Json]) -> None:
    """Refuse a second PriorityClass for pods that name none. Raises: Forbidden."""
    if not obj.get("globalDefault"):
        return
    name, found = obj["metadata"]["name"], default_class(classes)
    if found is not None and found["metadata"]["name"] != name:
        taken = found["metadata"]["name"]
        why = f"PriorityClass {taken} is already marked as default. Only one default can exist"
        raise Forbidden(PRIORITIES, name, why)


def run(pod: Json, name: str, told: Json | None) -> None:
    """Write into a new pod, in place, what its RuntimeClass needs. Raises: Forbidden.

    told: the class it names, None if it names none or there is no such class.
    """
    spec = child(pod, "spec")
    asked, overhead = spec.get("runtimeClassName"), maybe(spec, "overhead")
    if told is None:
        if asked:
            raise Forbidden("pods", name, f'pod rejected: RuntimeClass "{asked}" not found')
        if overhead:
            why = (
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
            )
            raise Forbidden("pods", name, why)
        return
    fixed = maybe(maybe(told, "overhead"), "podFixed")
    if fixed is not None:
        if overhead and overhead != fixed:
            why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            raise Forbidden("pods", name, why)
        spec["overhead"] = dict(fixed)
    scheduling = maybe(told, "scheduling")
    if scheduling is not None:
        _place(spec, name, scheduling)


def _agree(name: str, spec: Json, field: str, says: str, computed: Any) -> None:
    if spec.get(field) not in (None, computed):
        why = f"the {says} must not be provided in pod spec; {_COMPUTED.format(computed)}"
        raise Forbidden("pods", name, why)
    spec[field] = computed


def _place(spec: Json, name: str, scheduling: Json) -> None:
    chosen = spec.get("nodeSelector") or {}
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        if chosen.get(key, value) != value:
            why = (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value};"
                f" pod.spec.nodeSelector[{key}] = {chosen[key]}"
            )
            raise Forbidden("pods", name, why)
        chosen = {**chosen, key: value}
    if chosen:
        spec["nodeSelector"] = chosen
    tolerated = spec.setdefault("tolerations", [])
    tolerated += [one for one in items(scheduling, "tolerations") if one not in tolerated]
