"""The rows of quotas, of classes of pods and of pod templates."""

from typing import Any

from kubeloop.api import humanize
from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.printing.text import containers, created, labels, name_of


def resource_quota(obj: Json) -> list[Any]:
    """Return the cells of a ResourceQuota: what is used of what there is."""
    status = obj.get("status") or {}
    hard, used = maybe(status, "hard") or {}, maybe(status, "used") or {}
    told: dict[bool, list[str]] = {False: [], True: []}
    for name in sorted(hard):
        told[name.startswith("limits.")].append(f"{name}: {used.get(name, '0')}/{hard[name]}")
    age = humanize.since(created(obj))
    return [name_of(obj), ", ".join(told[False]), ", ".join(told[True]), age]


def priority_class(obj: Json) -> list[Any]:
    """Return the cells of a PriorityClass."""
    return [
        name_of(obj),
        obj.get("value") or 0,
        bool(obj.get("globalDefault")),
        humanize.since(created(obj)),
        obj.get("preemptionPolicy") or "",
    ]


def runtime_class(obj: Json) -> list[Any]:
    """Return the cells of a RuntimeClass."""
    return [name_of(obj), obj.get("handler") or "", humanize.since(created(obj))]


def pod_template(obj: Json) -> list[Any]:
    """Return the cells of a PodTemplate."""
    template = maybe(obj, "template") or {}
    told = (maybe(template, "metadata") or {}).get("labels")
    return [name_of(obj), *containers(template), labels(told)]
