"""Rules of what a subresource of a pod may change: ephemeral containers, and resources."""

from collections.abc import Callable, Mapping
from typing import Final

from kubeloop.api.defaulting.tools import Json, items
from kubeloop.api.problems import Problems
from kubeloop.api.qos import qos_class
from kubeloop.api.validation import containers

_NOT_EPHEMERAL: Final = (
    "ports",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "resources",
    "resizePolicy",
)
_MUTABLE: Final = ("cpu", "memory")
_ONLY_THESE: Final = "only cpu and memory resources are mutable"
_FIELD: Final = "spec.ephemeralContainers"


def ephemeral_containers(problems: Problems, obj: Json, old: Json) -> None:
    """Check ephemeral containers: new ones may come, the others stay as they are."""
    spec = obj.get("spec") or {}
    given = items(spec, "ephemeralContainers")
    volumes = {str(volume.get("name") or "") for volume in items(spec, "volumes")}
    lists = [*items(spec, "containers"), *items(spec, "initContainers")]
    targets = {str(container.get("name") or "") for container in lists}
    seen = set(targets)
    for number, container in enumerate(given):
        at = f"{_FIELD}[{number}]"
        containers.common(problems, at, container, volumes)
        containers.unique(problems, at, container, seen)
        for key in _NOT_EPHEMERAL:
            if container.get(key):
                problems.forbidden(f"{at}.{key}", "cannot be set for an Ephemeral Container")
        if container.get("restartPolicy"):
            problems.forbidden(f"{at}.restartPolicy", "may not be set for ephemeral containers")
        for index, mount in enumerate(items(container, "volumeMounts")):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    detail = "cannot be set for an Ephemeral Container"
                    problems.forbidden(f"{at}.volumeMounts[{index}].{key}", detail)
        target = container.get("targetContainerName") or ""
        if target and target not in targets:
            problems.not_found(f"{at}.targetContainerName", target)
    _nothing_else(problems, given, items(old.get("spec") or {}, "ephemeralContainers"))


def _nothing_else(problems: Problems, new: list[Json], old: list[Json]) -> None:
    now = {container.get("name"): (number, container) for number, container in enumerate(new)}
    for before in old:
        name = before.get("name")
        if name not in now:
            detail = f'existing ephemeral containers "{name}" may not be removed\n'
            problems.forbidden(_FIELD, detail)
        elif now[name][1] != before:
            detail = f'existing ephemeral containers "{name}" may not be changed\n'
            problems.forbidden(f"{_FIELD}[{now[name][0]}]", detail)


def resources(problems: Problems, obj: Json, old: Json) -> None:
    """Check a resize: amounts of CPU and memory change, and the pod stays in its class."""
    before = qos_class(old)
    if qos_class(obj) != before:
        problems.invalid(
            "spec", qos_class(obj), "Pod QOS Class may not change as a result of resizing"
        )
    for field in ("containers", "initContainers"):
        pairs = zip(items(obj["spec"], field), items(old["spec"], field), strict=True)
        for number, (new, was) in enumerate(pairs):
            _resized(problems, f"spec.{field}[{number}].resources", new, was, field)


def _resized(problems: Problems, at: str, new: Json, was: Json, field: str) -> None:
    now, then = new.get("resources") or {}, was.get("resources") or {}
    if now == then:
        return
    if field == "initContainers" and was.get("restartPolicy") != "Always":
        problems.forbidden(at, "resources of non-restartable init containers are immutable")
        return
    if _others(now) != _others(then):
        problems.forbidden(at, _ONLY_THESE)
    for kind in ("requests", "limits"):
        gone = set(then.get(kind) or {}) - set(now.get(kind) or {})
        for name in sorted(gone & set(_MUTABLE)):
            problems.forbidden(f"{at}.{kind}", f"resource {kind} cannot be removed: {name}")


def _others(wishes: Json) -> Json:
    """Return what a resize may not change."""
    kept = {key: value for key, value in wishes.items() if key not in ("requests", "limits")}
    for kind in ("requests", "limits"):
        amounts = (wishes.get(kind) or {}).items()
        kept[kind] = {name: amount for name, amount in amounts if name not in _MUTABLE}
    return kept


RULES: Final[Mapping[str, Callable[[Problems, Json, Json], None]]] = {
    "ephemeralcontainers": ephemeral_containers,
    "resize": resources,
}
"""Subresource → what it may change."""
