"""The rows of signing requests, API services, flows and admission policies."""

from typing import Any

from kubeloop.api import humanize
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.printing.text import NONE, created, name_of


def signing_request(obj: Json) -> list[Any]:
    """Return the cells of a CertificateSigningRequest."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    types = {condition.get("type") for condition in items(status, "conditions")}
    told = next((one for one in ("Denied", "Approved") if one in types), "Pending")
    told += ",Failed" if "Failed" in types else ""
    told += ",Issued" if status.get("certificate") else ""
    seconds = spec.get("expirationSeconds")
    return [
        name_of(obj),
        humanize.since(created(obj)),
        spec.get("signerName") or NONE,
        spec.get("username") or "",
        NONE if seconds is None else humanize.duration(seconds),
        told,
    ]


def api_service(obj: Json) -> list[Any]:
    """Return the cells of an APIService."""
    service, told = maybe(obj.get("spec") or {}, "service"), "Local"
    if service is not None:
        told = f"{service.get('namespace') or ''}/{service.get('name') or ''}"
    conditions = items(obj.get("status") or {}, "conditions")
    known = next((one for one in conditions if one.get("type") == "Available"), None)
    available = "Unknown"
    if known is not None:
        available = str(known.get("status"))
        if available != "True":
            available = f"{available} ({known.get('reason') or ''})"
    return [name_of(obj), told, available, humanize.since(created(obj))]


def flow_schema(obj: Json) -> list[Any]:
    """Return the cells of a FlowSchema."""
    spec = obj.get("spec") or {}
    conditions = items(obj.get("status") or {}, "conditions")
    dangling = next(
        (str(one.get("status")) for one in conditions if one["type"] == "Dangling"), "?"
    )
    return [
        name_of(obj),
        (maybe(spec, "priorityLevelConfiguration") or {}).get("name") or "",
        spec.get("matchingPrecedence", 0),
        (maybe(spec, "distinguisherMethod") or {}).get("type") or NONE,
        humanize.since(created(obj)),
        dangling,
    ]


def priority_level(obj: Json) -> list[Any]:
    """Return the cells of a PriorityLevelConfiguration."""
    spec = obj.get("spec") or {}
    limited = maybe(spec, "limited") or {}
    queuing = maybe(maybe(limited, "limitResponse"), "queuing") or {}
    told = [limited.get("nominalConcurrencyShares")]
    told += [queuing.get(key) for key in ("queues", "handSize", "queueLengthLimit")]
    cells = [NONE if one is None else str(one) for one in told]
    return [
        name_of(obj),
        spec.get("type") or "",
        *cells,
        humanize.since(created(obj)),
    ]


def validating_policy(obj: Json) -> list[Any]:
    """Return the cells of a ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        len(items(spec, "validations")),
        _kind(maybe(spec, "paramKind")),
        humanize.since(created(obj)),
    ]


def mutating_policy(obj: Json) -> list[Any]:
    """Return the cells of a MutatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    return [
        name_of(obj),
        len(items(spec, "mutations")),
        _kind(maybe(spec, "paramKind")),
        humanize.since(created(obj)),
    ]


def policy_binding(obj: Json) -> list[Any]:
    """Return the cells of a binding of a policy."""
    spec = obj.get("spec") or {}
    reference, told = maybe(spec, "paramRef"), "<unset>"
    if reference is not None:
        namespace, name = reference.get("namespace") or "*", reference.get("name") or "*"
        told = f"{namespace}/{name}"
    age = humanize.since(created(obj))
    return [name_of(obj), spec.get("policyName") or "", told, age]


def _kind(told: Json | None) -> str:
    return "<unset>" if told is None else f"{told.get('apiVersion')}/{told.get('kind')}"
