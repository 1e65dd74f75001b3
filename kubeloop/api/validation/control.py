"""Rules of what steers the API server: signing requests, API services, flows and their levels.

Source: pkg/apis/certificates/validation, pkg/apis/flowcontrol/validation, and kube-aggregator's
pkg/apis/apiregistration/validation in behaviour.
"""

import base64
import binascii
import re
from typing import Any, Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.signers import LEGACY

_USAGES: Final = (
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
)
_SECONDS_MIN: Final = 600
_PEM: Final = re.compile("-----BEGIN ([^\n]+)-----\n(.*?)-----END \\1-----", re.DOTALL)
_HEAD: Final = b"-----BEGIN CERTIFICATE REQUEST-----"
_PATH_OF_SIGNER: Final = (
    "must be a fully qualified domain and path of the form 'example.com/signer-name'"
)
_PRECEDENCE_MAX: Final = 10000
_SUBJECTS: Final = {"Group": "group", "ServiceAccount": "serviceAccount", "User": "user"}


def signing_request(problems: Problems, obj: Json) -> None:
    """Check a CertificateSigningRequest."""
    spec = obj.get("spec") or {}
    request = spec.get("request") or ""
    if not _is_request(request):
        detail = "PEM block type must be CERTIFICATE REQUEST"
        problems.invalid("spec.request", request, detail)
    usages = spec.get("usages") or []
    if not usages:
        problems.required("spec.usages")
    seen: set[str] = set()
    for number, usage in enumerate(usages):
        problems.one_of(f"spec.usages[{number}]", usage, _USAGES)
        if usage in seen:
            problems.duplicate(f"spec.usages[{number}]", usage)
        seen.add(usage)
    signer = spec.get("signerName") or ""
    domain, _, path = signer.partition("/")
    if not signer:
        problems.required("spec.signerName")
    elif signer == LEGACY:
        detail = "the legacy signerName is not allowed via this API version"
        problems.invalid("spec.signerName", signer, detail)
    elif not domain or not path or "/" in path:
        problems.invalid("spec.signerName", signer, _PATH_OF_SIGNER)
    else:
        for part in (domain, path):
            problems.invalid_each("spec.signerName", part, names.dns1123_subdomain(part))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < _SECONDS_MIN:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        problems.invalid("spec.expirationSeconds", seconds, detail)


def signing_status(problems: Problems, obj: Json) -> None:
    """Check what was decided on a CertificateSigningRequest: it is approved or denied, not both."""
    conditions = items(obj.get("status") or {}, "conditions")
    known: set[str] = set()
    for number, condition in enumerate(conditions):
        at, type_ = f"status.conditions[{number}]", condition.get("type") or ""
        status = condition.get("status") or ""
        if not type_:
            problems.required(f"{at}.type")
        if not status:
            problems.required(f"{at}.status")
        elif type_ in ("Approved", "Denied", "Failed"):
            if status != "True":
                problems.unsupported(f"{at}.status", status, ("True",))
        else:
            problems.one_of(f"{at}.status", status, ("False", "True", "Unknown"))
        if {"Approved": "Denied", "Denied": "Approved"}.get(type_) in known:
            detail = "Approved and Denied conditions are mutually exclusive"
            problems.invalid(f"{at}.type", type_, detail)
        if type_ in known:
            problems.duplicate(f"{at}.type", type_)
        known.add(type_)
    if why := _why_no_certificate((obj.get("status") or {}).get("certificate") or ""):
        problems.invalid("status.certificate", "<certificate data>", why)


def signing_change(problems: Problems, obj: Json, old: Json) -> None:
    """Check that nothing that was decided on a CertificateSigningRequest is taken back."""
    for type_ in ("Approved", "Denied", "Failed"):
        if len(_conditions(obj, type_)) < len(_conditions(old, type_)):
            detail = f'updates may not remove a condition of type "{type_}"'
            problems.forbidden("status.conditions", detail)
    was, new = ((one.get("status") or {}).get("certificate") for one in (old, obj))
    if was and new != was:
        detail = "updates may not modify existing certificate content"
        problems.forbidden("status.certificate", detail)


def signing_undecided(problems: Problems, obj: Json, old: Json) -> None:
    """Check that what is decided elsewhere, through `approval`, does not come with a status."""
    for type_ in ("Approved", "Denied"):
        was, new = _conditions(old, type_), _conditions(obj, type_)
        if len(new) > len(was):
            detail = f'updates may not add a condition of type "{type_}"'
            problems.forbidden("status.conditions", detail)
        elif len(new) == len(was) and new != was:
            detail = f'updates may not modify a condition of type "{type_}"'
            problems.forbidden("status.conditions", detail)


def _conditions(obj: Json, type_: str) -> list[Json]:
    conditions = items(obj.get("status") or {}, "conditions")
    return [one for one in conditions if one.get("type") == type_]


def _why_no_certificate(told: str | bytes) -> str:
    """Return why PEM data in base64 holds no certificates, "" if it does or is empty."""
    if not told:
        return ""
    try:
        text = base64.b64decode(told).decode("latin-1")
    except binascii.Error:
        return "must contain one or more CERTIFICATE PEM blocks"
    blocks = _PEM.findall(text)
    for type_, body in blocks:
        if type_ != "CERTIFICATE":
            return f'only CERTIFICATE PEM blocks are allowed, found "{type_}"'
        if ":" in body:
            return "no PEM block headers are permitted"
    return "" if blocks else "must contain one or more CERTIFICATE PEM blocks"


def api_service(problems: Problems, obj: Json) -> None:
    """Check an APIService."""
    spec = obj.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    name, wanted = (obj.get("metadata") or {}).get("name") or "", f"{version}.{group}"
    if name != wanted:
        detail = f'must be `spec.version+"."+spec.group`: "{wanted}"'
        problems.invalid("metadata.name", name, detail)
    if not group and version != "v1":
        detail = "only v1 may have an empty group and it better be legacy kube"
        problems.required("spec.group", detail)
    if group:
        problems.invalid_each("spec.group", group, names.dns1123_subdomain(group))
    problems.invalid_each("spec.version", version, names.dns1035_label(version))
    for key, most in (("groupPriorityMinimum", 20000), ("versionPriority", 1000)):
        if not 0 < spec.get(key, 0) <= most:
            detail = f"must be positive and less than {most}"
            problems.invalid(f"spec.{key}", spec.get(key, 0), detail)
    service, bundle = maybe(spec, "service"), spec.get("caBundle")
    if service is None:
        _local(problems, spec, bundle)
        return
    for key in ("namespace", "name"):
        if not service.get(key):
            problems.required(f"spec.service.{key}")
    port = service.get("port", 0)
    problems.invalid_each("spec.service.port", port, names.port_number(port))
    if spec.get("insecureSkipTLSVerify") and bundle:
        detail = "may not be true if caBundle is present"
        problems.invalid("spec.insecureSkipTLSVerify", True, detail)


def _local(problems: Problems, spec: Json, bundle: Any) -> None:
    if bundle:
        size = f"{len(base64.b64decode(bundle))} bytes"
        problems.invalid("spec.caBundle", size, "local APIServices may not have a caBundle")
    if spec.get("insecureSkipTLSVerify"):
        detail = "local APIServices may not have insecureSkipTLSVerify"
        problems.invalid("spec.insecureSkipTLSVerify", True, detail)


def flow_schema(problems: Problems, obj: Json) -> None:
    """Check a FlowSchema."""
    spec, name = obj.get("spec") or {}, (obj.get("metadata") or {}).get("name")
    precedence, field = spec.get("matchingPrecedence", 0), "spec.matchingPrecedence"
    if precedence <= 0:
        problems.invalid(field, precedence, "must be a positive value")
    if precedence > _PRECEDENCE_MAX:
        problems.invalid(field, precedence, f"must not be greater than {_PRECEDENCE_MAX}")
    if precedence == 1 and name != "exempt":
        detail = "only the schema named 'exempt' may have matchingPrecedence 1"
        problems.invalid(field, precedence, detail)
    method = maybe(spec, "distinguisherMethod")
    if method is not None:
        at = "spec.distinguisherMethod.type"
        problems.one_of(at, method.get("type") or "", ("ByNamespace", "ByUser"))
    level = (maybe(spec, "priorityLevelConfiguration") or {}).get("name")
    if level:
        at = "spec.priorityLevelConfiguration.name"
        problems.invalid_each(at, level, names.dns1123_subdomain(level))
    else:
        detail = "must reference a priority level"
        problems.required("spec.priorityLevelConfiguration.name", detail)
    for number, rule in enumerate(items(spec, "rules")):
        _flow_rule(problems, f"spec.rules[{number}]", rule)


def _flow_rule(problems: Problems, field: str, rule: Json) -> None:
    subjects = items(rule, "subjects")
    if not subjects:
        detail = "subjects must contain at least one value"
        problems.required(f"{field}.subjects", detail)
    for number, subject in enumerate(subjects):
        _subject(problems, f"{field}.subjects[{number}]", subject)
    resources, urls = items(rule, "resourceRules"), items(rule, "nonResourceRules")
    if not resources and not urls:
        detail = "at least one of resourceRules and nonResourceRules has to be non-empty"
        problems.required(field, detail)
    for number, told in enumerate(resources):
        at = f"{field}.resourceRules[{number}]"
        wanted = {
            "verbs": "verbs must contain at least one value",
            "apiGroups": "resource rules must supply at least one api group",
            "resources": "resource rules must supply at least one resource",
        }
        for key, detail in wanted.items():
            if not told.get(key):
                problems.required(f"{at}.{key}", detail)
        if not told.get("namespaces") and not told.get("clusterScope"):
            detail = "resource rules that are not cluster scoped must supply at least one namespace"
            problems.required(f"{at}.namespaces", detail)
    for number, told in enumerate(urls):
        at = f"{field}.nonResourceRules[{number}]"
        if not told.get("verbs"):
            problems.required(f"{at}.verbs", "verbs must contain at least one value")
        if not told.get("nonResourceURLs"):
            detail = "nonResourceURLs must contain at least one value"
            problems.required(f"{at}.nonResourceURLs", detail)


def _subject(problems: Problems, field: str, subject: Json) -> None:
    kind = subject.get("kind") or ""
    problems.one_of(f"{field}.kind", kind, tuple(_SUBJECTS))
    for known, key in _SUBJECTS.items():
        told = maybe(subject, key)
        if kind == known and told is None:
            detail = f"{key} is required when subject kind is '{known}'"
            problems.required(f"{field}.{key}", detail)
        elif kind != known and told is not None:
            detail = f"{key} is forbidden when subject kind is not '{known}'"
            problems.forbidden(f"{field}.{key}", detail)
        elif told is not None and not told.get("name"):
            problems.required(f"{field}.{key}.name")


def priority_level(problems: Problems, obj: Json) -> None:
    """Check a PriorityLevelConfiguration."""
    spec = obj.get("spec") or {}
    limited = maybe(spec, "limited")
    match spec.get("type"):
        case "Exempt":
            if limited is not None:
                detail = "must be nil if the type is not Limited"
                problems.forbidden("spec.limited", detail)
        case "Limited":
            if maybe(spec, "exempt") is not None:
                problems.forbidden("spec.exempt", "must be nil if the type is Limited")
            if limited is None:
                detail = "must not be empty when type is Limited"
                problems.required("spec.limited", detail)
            else:
                _limited(problems, "spec.limited", limited)
        case other:
            problems.unsupported("spec.type", other or "", ("Exempt", "Limited"))


def _limited(problems: Problems, field: str, limited: Json) -> None:
    shares = limited.get("nominalConcurrencyShares", 0)
    if shares < 0:
        at = f"{field}.nominalConcurrencyShares"
        problems.invalid(at, shares, "must be a non-negative integer")
    at = f"{field}.limitResponse"
    response = maybe(limited, "limitResponse") or {}
    queuing = maybe(response, "queuing")
    match response.get("type"):
        case "Reject":
            if queuing is not None:
                detail = "must be nil if limited.limitResponse.type is not Limited"
                problems.forbidden(f"{at}.queuing", detail)
        case "Queue":
            if queuing is None:
                detail = "must not be empty if limited.limitResponse.type is Limited"
                problems.required(f"{at}.queuing", detail)
            else:
                _queuing(problems, f"{at}.queuing", queuing)
        case other:
            problems.unsupported(f"{at}.type", other or "", ("Queue", "Reject"))


def _queuing(problems: Problems, field: str, queuing: Json) -> None:
    for key in ("queueLengthLimit", "queues", "handSize"):
        if queuing.get(key, 0) <= 0:
            problems.invalid(f"{field}.{key}", queuing.get(key, 0), "must be positive")
    if queuing.get("handSize", 0) > queuing.get("queues", 0):
        detail = f"should not be greater than queues ({queuing.get('queues', 0)})"
        problems.invalid(f"{field}.handSize", queuing.get("handSize", 0), detail)


def _is_request(text: str) -> bool:
    try:
        return base64.b64decode(text).lstrip().startswith(_HEAD)
    except (ValueError, binascii.Error):
        return False
