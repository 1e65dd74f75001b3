"""Rules of resource requirements: known names, no negative amounts, requests within limits."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

from kubeloop.api import names, quantities
from kubeloop.api.defaulting.tools import Json, maybe
from kubeloop.api.problems import NOT_NEGATIVE, Problems

_CONTAINER: Final = ("cpu", "memory", "ephemeral-storage")
_COUNTED: Final = (
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
)
_OTHER: Final = (
    *_COUNTED,
    *(f"{kind}.{name}" for kind in ("limits", "requests") for name in _CONTAINER),
    "requests.storage",
    "storage",
)
_HUGE: Final = "hugepages-"
_NATIVE: Final = "kubernetes.io/"


def requirements(problems: Problems, field: str, resources: Json | None) -> None:
    """Check the limits and requests of a container."""
    limits, requests = maybe(resources, "limits") or {}, maybe(resources, "requests") or {}
    for name in sorted(limits):
        _named_amount(problems, f"{field}.limits[{name}]", name, limits[name])
    for name in sorted(requests):
        _named_amount(problems, f"{field}.requests[{name}]", name, requests[name])
        asked, limit = number(requests[name]), number(limits.get(name))
        if name in limits and asked is not None and limit is not None:
            shown, bound = str(requests[name]), limits[name]
            if asked != limit and not may_overcommit(name):
                detail = f"must be equal to {name} limit of {bound}"
                problems.invalid(f"{field}.requests", shown, detail)
            elif asked > limit:
                detail = f"must be less than or equal to {name} limit of {bound}"
                problems.invalid(f"{field}.requests", shown, detail)
        elif name not in limits and not may_overcommit(name):
            detail = "Limit must be set for non overcommitable resources"
            problems.required(f"{field}.limits", detail)
    used = {*limits, *requests}
    if any(name.startswith(_HUGE) for name in used) and not used & {"cpu", "memory"}:
        problems.forbidden(field, "HugePages require cpu or memory")


def amounts(problems: Problems, field: str, given: Mapping[str, Any] | None) -> None:
    """Check the amounts of a node's resource list."""
    for name, text in sorted((given or {}).items()):
        amount(problems, f"{field}.{name}", name, text)


def container_name(problems: Problems, field: str, name: str) -> None:
    """Check the name of a resource that containers ask for."""
    wrong = known_name(problems, field, name)
    if "/" not in name:
        foreign = not wrong and name not in _CONTAINER and not name.startswith(_HUGE)
        if foreign or wrong == "unknown":
            problems.invalid(field, name, "must be a standard resource for containers")
    elif not wrong and _NATIVE not in name and not _is_extended(name):
        problems.invalid(field, name, "doesn't follow extended resource name standard")


def known_name(problems: Problems, field: str, name: str) -> str:
    """Check the name of any resource; return what kind of wrong it is, "" if it is fine."""
    if wrong := names.qualified_name(name):
        problems.invalid_each(field, name, wrong)
        return "malformed"
    if "/" not in name and name not in (*_CONTAINER, *_OTHER) and not is_huge(name):
        problems.invalid(field, name, "must be a standard resource type or fully qualified")
        return "unknown"
    return ""


def quota_name(problems: Problems, field: str, name: str) -> None:
    """Check the name of what a quota limits."""
    known_name(problems, field, name)
    if "/" not in name and not is_of_quotas(name):
        problems.invalid(field, name, "must be a standard resource for quota")


def is_of_quotas(name: str) -> bool:
    """Tell whether a quota knows what it counts by a name."""
    return (name in _CONTAINER or name in _OTHER or is_huge(name)) and name != "storage"


def is_huge(name: str) -> bool:
    """Tell whether a resource is huge pages, or a quota of them."""
    return name.removeprefix("requests.").startswith(_HUGE)


def positive(problems: Problems, field: str, text: Any) -> None:
    """Check that an amount is more than nothing."""
    number_ = number(text)
    if number_ is not None and number_ <= 0:
        problems.invalid(field, str(text), "must be greater than zero")


def _named_amount(problems: Problems, field: str, name: str, text: Any) -> None:
    container_name(problems, field, name)
    amount(problems, field, name, text)


def amount(problems: Problems, field: str, name: str, text: Any) -> None:
    """Check an amount of a resource."""
    number_ = number(text)
    if number_ is None:
        problems.invalid(field, text, quantities.WRONG_FORMAT)
        return
    if number_ < 0:
        problems.invalid(field, str(text), NOT_NEGATIVE)
    if number_.denominator != 1 and (name in _COUNTED or _is_extended(name)):
        problems.invalid(field, str(text), "must be an integer")


def number(text: Any) -> Fraction | None:
    """Return what a quantity says, None if it is none."""
    if not isinstance(text, str | int | float):
        return None
    try:
        return quantities.parse(text)
    except ValueError:
        return None


def may_overcommit(name: str) -> bool:
    """Tell whether the limit of a resource may be more than the request."""
    return ("/" not in name or _NATIVE in name) and not name.startswith(_HUGE)


def _is_extended(name: str) -> bool:
    if "/" not in name or _NATIVE in name or name.startswith("requests."):
        return False
    return not names.qualified_name(f"requests.{name}")
