"""Defaults of what steers the API server: signing requests, API services, flows, policies."""

from typing import Final

from kubeloop.api.defaulting.tools import Json, child, fill, items, maybe

_PRECEDENCE: Final = 1000
_SHARES: Final = 30
_QUEUING: Final = {"handSize": 8, "queues": 64, "queueLengthLimit": 50}


def signing_request(obj: Json) -> None:
    """Fill in a CertificateSigningRequest."""
    spec = child(obj, "spec")
    spec.setdefault("request", None)
    spec.setdefault("signerName", "")
    child(obj, "status")


def api_service(obj: Json) -> None:
    """Fill in an APIService."""
    spec = child(obj, "spec")
    service = maybe(spec, "service")
    if service is not None:
        fill(service, {"port": 443})
    for key in ("groupPriorityMinimum", "versionPriority"):
        spec.setdefault(key, 0)
    child(obj, "status")


def flow_schema(obj: Json) -> None:
    """Fill in a FlowSchema."""
    spec = child(obj, "spec")
    child(spec, "priorityLevelConfiguration").setdefault("name", "")
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = _PRECEDENCE
    child(obj, "status")


def priority_level(obj: Json) -> None:
    """Fill in a PriorityLevelConfiguration."""
    spec = child(obj, "spec")
    spec.setdefault("type", "")
    limited, exempt = maybe(spec, "limited"), maybe(spec, "exempt")
    if spec["type"] == "Exempt":
        exempt = child(spec, "exempt")
    if exempt is not None:
        fill(exempt, {"nominalConcurrencyShares": 0, "lendablePercent": 0})
    if limited is not None:
        fill(limited, {"nominalConcurrencyShares": _SHARES, "lendablePercent": 0})
        response = child(limited, "limitResponse")
        response.setdefault("type", "")
        queuing = maybe(response, "queuing")
        for key, value in _QUEUING.items() if queuing is not None else ():
            if not (queuing or {}).get(key):
                child(response, "queuing")[key] = value
    child(obj, "status")


def policy(obj: Json) -> None:
    """Fill in a ValidatingAdmissionPolicy or MutatingAdmissionPolicy."""
    spec = child(obj, "spec")
    fill(spec, {"failurePolicy": "Fail"})
    _matches(maybe(spec, "matchConstraints"))
    if obj.get("kind") == "ValidatingAdmissionPolicy":
        child(obj, "status")


def policy_binding(obj: Json) -> None:
    """Fill in a ValidatingAdmissionPolicyBinding or MutatingAdmissionPolicyBinding."""
    _matches(maybe(child(obj, "spec"), "matchResources"))


def _matches(told: Json | None) -> None:
    if told is None:
        return
    fill(told, {"matchPolicy": "Equivalent"})
    child(told, "namespaceSelector")
    child(told, "objectSelector")
    for key in ("resourceRules", "excludeResourceRules"):
        for rule in items(told, key):
            fill(rule, {"scope": "*"})
