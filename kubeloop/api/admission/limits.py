"""Admission by LimitRanges: what pods ask for if they do not say, and what they may.

Source: Kubernetes, "Limit Ranges"; plugin/pkg/admission/limitranger in behaviour.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from kubeloop.api.defaulting.tools import Json, child, items, maybe
from kubeloop.api.errors import Forbidden
from kubeloop.api.pod_resources import Amounts, of_pod, read
from kubeloop.api.quantities import Quantity

LIMITED: Final = ("pods", "persistentvolumeclaims")
NOTE: Final = "kubernetes.io/limit-ranger"

Amount = Mapping[str, Quantity]
Constraint = Callable[[str, str, Quantity, Amount, Amount], str]
"""(type, resource, bound, requests, limits) → what is wrong, "" if nothing is."""


def default(pod: Json, ranges: Sequence[Json]) -> None:
    """Give the containers of a new pod, in place, what they did not ask for."""
    for one in ranges:
        wanted: dict[str, dict[str, Any]] = {"requests": {}, "limits": {}}
        for limit in _limits(one, "Container"):
            wanted["requests"] |= maybe(limit, "defaultRequest") or {}
            wanted["limits"] |= maybe(limit, "default") or {}
        told = [
            text
            for field, what in (("containers", "container"), ("initContainers", "init container"))
            for container in items(pod.get("spec"), field)
            for text in _merge(container, what, wanted)
        ]
        if told:
            notes = child(pod["metadata"], "annotations")
            notes[NOTE] = f"LimitRanger plugin set: {'; '.join(told)}"


def check(resource_id: str, obj: Json, ranges: Sequence[Json]) -> None:
    """Refuse what is beyond a limit. Raises: Forbidden."""
    problems = _pod if resource_id == "pods" else _claim
    for one in ranges:
        wrong = list(problems(obj, one))
        if wrong:
            text = wrong[0] if len(wrong) == 1 else f"[{', '.join(dict.fromkeys(wrong))}]"
            raise Forbidden(resource_id, obj["metadata"].get("name") or "", text)


def _limits(one: Json, type_: str) -> list[Json]:
    return [limit for limit in items(one.get("spec"), "limits") if limit.get("type") == type_]


def _merge(container: Json, what: str, wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    resources = child(container, "resources")
    for kind, singular in (("requests", "request"), ("limits", "limit")):
        had = maybe(resources, kind) or {}
        missing = {name: text for name, text in wanted[kind].items() if name not in had}
        if missing:
            resources[kind] = {**had, **missing}
            yield f"{', '.join(sorted(missing))} {singular} for {what} {container.get('name')}"


def _pod(pod: Json, one: Json) -> Iterator[str]:
    spec = pod.get("spec") or {}
    for limit in items(one.get("spec"), "limits"):
        if limit.get("type") == "Container":
            for container in (*items(spec, "containers"), *items(spec, "initContainers")):
                resources = maybe(container, "resources")
                yield from _wrong(limit, read(maybe(resources, "requests")),
                                  read(maybe(resources, "limits")))  # fmt: skip
        elif limit.get("type") == "Pod":
            yield from _wrong(limit, of_pod(spec, "requests"), of_pod(spec, "limits"))


def _claim(claim: Json, one: Json) -> Iterator[str]:
    asked = read(maybe(maybe(claim.get("spec"), "resources"), "requests"))
    for limit in _limits(one, "PersistentVolumeClaim"):
        for field, constraint in (("min", _least), ("max", _most_asked)):
            for name, bound in sorted(read(maybe(limit, field)).items()):
                if wrong := constraint("PersistentVolumeClaim", name, bound, asked, {}):
                    yield wrong


def _wrong(limit: Json, requests: Amounts, limits: Amounts) -> Iterator[str]:
    for field, constraint in _CONSTRAINTS:
        for name, bound in sorted(read(maybe(limit, field)).items()):
            if wrong := constraint(str(limit["type"]), name, bound, requests, limits):
                yield wrong


def _least(type_: str, name: str, bound: Quantity, requests: Amount, limits: Amount) -> str:
    says = f"minimum {name} usage per {type_} is {bound}"
    if name not in requests:
        return f"{says}.  No request is specified"
    if requests[name].number < bound.number:
        return f"{says}, but request is {requests[name]}"
    if name in limits and limits[name].number < bound.number:
        return f"{says}, but limit is {limits[name]}"
    return ""


def _most(type_: str, name: str, bound: Quantity, requests: Amount, limits: Amount) -> str:
    says = f"maximum {name} usage per {type_} is {bound}"
    if name not in limits:
        return f"{says}.  No limit is specified"
    if limits[name].number > bound.number:
        return f"{says}, but limit is {limits[name]}"
    if name in requests and requests[name].number > bound.number:
        return f"{says}, but request is {requests[name]}"
    return ""


def _most_asked(type_: str, name: str, bound: Quantity, requests: Amount, limits: Amount) -> str:
    says = f"maximum {name} usage per {type_} is {bound}"
    if name not in requests:
        return f"{says}.  No request is specified"
    if requests[name].number > bound.number:
        return f"{says}, but request is {requests[name]}"
    return ""


def _ratio(type_: str, name: str, bound: Quantity, requests: Amount, limits: Amount) -> str:
    says = f"{name} max limit to request ratio per {type_} is {bound}, but"
    if name not in requests or not requests[name].number:
        return f"{says} no request is specified or request is 0"
    if name not in limits or not limits[name].number:
        return f"{says} no limit is specified or limit is 0"
    ratio = limits[name].number / requests[name].number
    return f"{says} provided ratio is {float(ratio):f}" if ratio > bound.number else ""


_CONSTRAINTS: Final[tuple[tuple[str, Constraint], ...]] = (
    ("min", _least),
    ("max", _most),
    ("maxLimitRequestRatio", _ratio),
)
