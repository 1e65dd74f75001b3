"""The parts of a pod that have a subresource of their own: what a write through it may touch."""

from typing import Any, Final

from kubeloop.actors.requests.state import Object

PARTS: Final = ("ephemeralcontainers", "resize")
_RESIZED: Final = ("containers", "initContainers")


def only(subresource: str, old: Object, new: Object) -> Object:
    """Return `old` with what a write through `subresource` may touch taken from `new`.

    Of another subresource it is `new`, all of it.
    """
    if subresource not in PARTS:
        return new
    metadata, wanted = dict(old["metadata"]), new.get("spec")
    for field in ("resourceVersion", "uid", "name", "managedFields"):  # Preconditions.
        if field in new["metadata"] or field == "resourceVersion":
            metadata[field] = new["metadata"].get(field)
    spec = dict(old["spec"])
    wanted = wanted if isinstance(wanted, dict) else {}
    if subresource == "ephemeralcontainers":
        spec.pop("ephemeralContainers", None)
        if wanted.get("ephemeralContainers"):
            spec["ephemeralContainers"] = wanted["ephemeralContainers"]
    else:
        for field in _RESIZED:
            if field in spec:
                spec[field] = _resized(spec[field], wanted.get(field) or [])
    return {**old, "metadata": metadata, "spec": spec}


def _resized(old: list[Any], new: list[Any]) -> list[Any]:
    """Return the containers, each with the resources and the policy that it is to have."""
    wishes = {one.get("name"): one for one in new if isinstance(one, dict)}
    return [_one(container, wishes.get(container["name"])) for container in old]


def _one(container: Object, wish: Object | None) -> Object:
    if wish is None:
        return container
    return {**container, "resources": wish.get("resources") or {}}
