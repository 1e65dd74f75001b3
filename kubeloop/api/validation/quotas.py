"""Rules of LimitRanges and ResourceQuotas, of priority and runtime classes, of PodTemplates."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.priorities import HIGHEST_USER, SYSTEM_PREFIX, why_no_system_class
from kubeloop.api.problems import Problems
from kubeloop.api.quotas import CONFLICTING, PLAIN_SCOPES, SCOPES, scope_fits
from kubeloop.api.validation import metadata, pods, resources, selectors
from kubeloop.api.validation.resources import number

LIMITED: Final = ("Pod", "Container", "PersistentVolumeClaim")
_PREEMPTION: Final = ("Never", "PreemptLowerPriority")
_ONLY_EXISTS: Final = (
    "must be 'Exist' when scope is any of ResourceQuotaScopeTerminating,"
    " ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort,"
    " ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
)
_NEEDS_VALUES: Final = (
    "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
)
_NO_VALUES: Final = (
    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
)
_NO_BOUNDS: Final = "either minimum or maximum storage value is required, but neither was provided"


def limit_range(problems: Problems, obj: Json) -> None:
    """Check a LimitRange: what it says of one type does not contradict itself."""
    seen: set[str] = set()
    for place, limit in enumerate(items(obj.get("spec"), "limits")):
        at, type_ = f"spec.limits[{place}]", limit.get("type") or ""
        wrong = names.qualified_name(type_)
        problems.invalid_each(f"{at}.type", type_, wrong)
        if not wrong and "/" not in type_ and type_ not in LIMITED:
            detail = "must be a standard limit type or fully qualified"
            problems.invalid(f"{at}.type", type_, detail)
        if type_ in seen:
            problems.duplicate(f"{at}.type", type_)
        seen.add(type_)
        _limit(problems, at, type_, limit)


def _limit(problems: Problems, at: str, type_: str, limit: Json) -> None:
    of_containers = type_ in ("Pod", "Container")
    check: Callable[[Problems, str, str], object] = (
        resources.container_name if of_containers else resources.known_name
    )
    for field in ("max", "min", "default", "defaultRequest"):
        given = maybe(limit, field) or {}
        if type_ == "Pod" and field.startswith("default"):
            if given:
                detail = "may not be specified when `type` is 'Pod'"
                problems.forbidden(f"{at}.{field}", detail)
            continue
        for name in sorted(given):
            check(problems, f"{at}.{field}[{name}]", name)
    least, most = maybe(limit, "min") or {}, maybe(limit, "max") or {}
    if type_ == "PersistentVolumeClaim" and "storage" not in {*least, *most}:
        problems.required(f"{at}.limits", _NO_BOUNDS)
    ratios = maybe(limit, "maxLimitRequestRatio") or {}
    for name in sorted(ratios):
        check(problems, f"{at}.maxLimitRequestRatio[{name}]", name)
    fields = ("min", "max", "default", "defaultRequest", "maxLimitRequestRatio")
    told = {f: maybe(limit, f) or {} for f in fields}
    if type_ == "Pod":
        told["default"] = told["defaultRequest"] = {}
    for name in sorted({key for given in told.values() for key in given}):
        _bounds(problems, at, name, {f: given.get(name) for f, given in told.items()})


def _bounds(problems: Problems, at: str, name: str, told: Mapping[str, Any]) -> None:
    """Check that what is told of one resource is in order."""
    for low, high, field, shown, text in _ORDERED:
        one, other = number(told[low]), number(told[high])
        if one is not None and other is not None and one > other:
            detail = text.format(told[low], told[high])
            problems.invalid(f"{at}.{field}[{name}]", str(told[shown]), detail)
    ratio, field = number(told["maxLimitRequestRatio"]), f"{at}.maxLimitRequestRatio[{name}]"
    if ratio is not None:
        text, bound = str(told["maxLimitRequestRatio"]), _widest(told["min"], told["max"])
        if ratio < 1:
            problems.invalid(field, text, f"ratio {text} is less than 1")
        if bound is not None and float(ratio) > bound:
            problems.invalid(field, text, f"ratio {text} is greater than max/min = {bound:f}")
    default, request = number(told["default"]), number(told["defaultRequest"])
    both = default is not None and request is not None
    if both and default != request and not resources.may_overcommit(name):
        detail = (
            f"default value {told['default']} must equal to defaultRequest value"
            f" {told['defaultRequest']} in {name}"
        )
        problems.invalid(f"{at}.defaultRequest[{name}]", str(told["defaultRequest"]), detail)


# What may not be more than what; the field and the amount that are shown; the words.
_ORDERED: Final = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _widest(least: Any, most: Any) -> float | None:
    """Return the greatest ratio two bounds allow, None if one is not told."""
    low, high = number(least), number(most)
    if low is None or high is None:
        return None
    return float(high / low) if low else float("inf")


def resource_quota(problems: Problems, obj: Json) -> None:
    """Check the spec of a ResourceQuota."""
    spec = obj.get("spec") or {}
    hard = maybe(spec, "hard") or {}
    _amounts(problems, "spec.hard", hard)
    scopes = spec.get("scopes") or []
    for scope in scopes:
        if scope not in SCOPES:
            problems.invalid("spec.scopes", scopes, "unsupported scope")
        _fitting(problems, "spec.scopes", scopes, scope, hard)
    _no_conflict(problems, "spec.scopes", scopes, scopes)
    _scope_selector(problems, spec, hard)


def resource_quota_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a ResourceQuota keeps its scopes."""
    scopes = (obj.get("spec") or {}).get("scopes") or []
    if {*scopes} != {*((old.get("spec") or {}).get("scopes") or ())}:
        problems.invalid("spec.scopes", scopes, "field is immutable")


def resource_quota_status(problems: Problems, obj: Json) -> None:
    """Check what a ResourceQuota says is used."""
    status = obj.get("status") or {}
    for field in ("hard", "used"):
        _amounts(problems, f"status.{field}", maybe(status, field) or {})


def _amounts(problems: Problems, field: str, given: Mapping[str, Any]) -> None:
    for name, text in sorted(given.items()):
        resources.quota_name(problems, f"{field}[{name}]", name)
        resources.amount(problems, f"{field}[{name}]", name, text)


def _scope_selector(problems: Problems, spec: Json, hard: Mapping[str, Any]) -> None:
    selector = maybe(spec, "scopeSelector")
    if selector is None:
        return
    field, found = "spec.scopeSelector.matchExpressions", list[str]()
    for one in items(selector, "matchExpressions"):
        scope, operator = one.get("scopeName") or "", one.get("operator") or ""
        values = one.get("values") or []
        if scope not in SCOPES:
            problems.invalid(f"{field}.scopeName", scope, "unsupported scope")
        _fitting(problems, field, selector, scope, hard)
        if scope in PLAIN_SCOPES and operator != "Exists":
            problems.invalid(f"{field}.operator", operator, _ONLY_EXISTS)
        if operator in ("In", "NotIn"):
            if not values:
                problems.required(f"{field}.values", _NEEDS_VALUES)
        elif operator in ("Exists", "DoesNotExist"):
            if values:
                problems.invalid(f"{field}.values", values, _NO_VALUES)
        else:
            problems.invalid(f"{field}.operator", operator, "not a valid selector operator")
        found.append(scope)
    _no_conflict(problems, field, found, spec.get("scopes"))


def _fitting(
    problems: Problems, field: str, shown: Any, scope: str, hard: Mapping[str, Any]
) -> None:
    for name in sorted(hard):
        if resources.is_of_quotas(name) and not scope_fits(scope, name):
            problems.invalid(field, shown, "unsupported scope applied to resource")


def _no_conflict(problems: Problems, field: str, scopes: Sequence[str], shown: Any) -> None:
    for pair in CONFLICTING:
        if {*pair} <= {*scopes}:
            problems.invalid(field, shown, "conflicting scopes")


def priority_class(problems: Problems, obj: Json) -> None:
    """Check a PriorityClass: the highest ones are the system's."""
    name, value = (obj.get("metadata") or {}).get("name") or "", obj.get("value") or 0
    if name.startswith(SYSTEM_PREFIX):
        why = why_no_system_class(name, value, default=bool(obj.get("globalDefault")))
        if why:
            detail = (
                f"priority class names with '{SYSTEM_PREFIX}' prefix are reserved for system use"
                f" only. error: {why}"
            )
            problems.forbidden("metadata.name", detail)
    elif value > HIGHEST_USER:
        detail = f"maximum allowed value of a user defined priority is {HIGHEST_USER}"
        problems.forbidden("value", detail)
    if policy := obj.get("preemptionPolicy"):
        problems.one_of("preemptionPolicy", policy, _PREEMPTION)


def priority_class_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a PriorityClass keeps its value."""
    if obj.get("value") != old.get("value"):
        problems.forbidden("value", "may not be changed in an update.")
    key = "preemptionPolicy"
    problems.immutable(key, obj.get(key), old.get(key))


def runtime_class(problems: Problems, obj: Json) -> None:
    """Check a RuntimeClass."""
    handler = obj.get("handler") or ""
    problems.invalid_each("handler", handler, names.dns1123_label(handler))
    if (overhead := maybe(obj, "overhead")) is not None:
        limits = {"limits": maybe(overhead, "podFixed") or {}}
        resources.requirements(problems, "overhead", limits)
    if (scheduling := maybe(obj, "scheduling")) is not None:
        metadata.labels(problems, "scheduling.nodeSelector", scheduling.get("nodeSelector"))
        tolerated = items(scheduling, "tolerations")
        selectors.tolerations(problems, "scheduling.tolerations", tolerated)
        for place, one in enumerate(tolerated):
            if one in tolerated[:place]:
                problems.duplicate(f"scheduling.tolerations[{place}]", one)


def runtime_class_update(problems: Problems, obj: Json, old: Json) -> None:
    """Check that a RuntimeClass keeps its handler."""
    problems.immutable("handler", obj.get("handler"), old.get("handler"))


def pod_template(problems: Problems, obj: Json) -> None:
    """Check a PodTemplate."""
    pods.template(problems, "template", maybe(obj, "template") or {})
