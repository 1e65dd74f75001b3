"""Rules of admission policies in CEL and their bindings.

Source: pkg/apis/admissionregistration/validation in behaviour.
"""

from typing import Final

from kubeloop.api import names
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import selectors, webhooks

_FAILURES: Final = ("Fail", "Ignore")
_MATCHES: Final = ("Equivalent", "Exact")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_SOMETHING: Final = "validations or auditAnnotations must contain at least one item"


def validating(problems: Problems, obj: Json) -> None:
    """Check a ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    _policy(problems, spec)
    validations, notes = items(spec, "validations"), items(spec, "auditAnnotations")
    if not validations and not notes:
        problems.required("spec.validations", _SOMETHING)
        problems.required("spec.auditAnnotations", _SOMETHING)
    for number, told in enumerate(validations):
        if not (told.get("expression") or "").strip():
            problems.required(
                f"spec.validations[{number}].expression", "expression is not specified"
            )
    for number, told in enumerate(notes):
        for key in ("key", "valueExpression"):
            if not told.get(key):
                problems.required(f"spec.auditAnnotations[{number}].{key}")


def mutating(problems: Problems, obj: Json) -> None:
    """Check a MutatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    _policy(problems, spec)
    mutations = items(spec, "mutations")
    if not mutations:
        problems.required("spec.mutations", "mutations must contain at least one item")
    for number, told in enumerate(mutations):
        at, type_ = f"spec.mutations[{number}]", told.get("patchType") or ""
        problems.one_of(f"{at}.patchType", type_, ("ApplyConfiguration", "JSONPatch"))
        for known, key in (
            ("ApplyConfiguration", "applyConfiguration"),
            ("JSONPatch", "jsonPatch"),
        ):
            if type_ == known and maybe(told, key) is None:
                problems.required(f"{at}.{key}", f"must be specified when patchType is {known}")
    policy = spec.get("reinvocationPolicy") or ""
    if not policy:
        problems.required("spec.reinvocationPolicy")
    else:
        problems.one_of("spec.reinvocationPolicy", policy, ("IfNeeded", "Never"))


def validating_binding(problems: Problems, obj: Json) -> None:
    """Check a ValidatingAdmissionPolicyBinding."""
    spec = obj.get("spec") or {}
    _binding(problems, spec)
    actions, field = spec.get("validationActions") or [], "spec.validationActions"
    if not actions:
        detail = "at least one validation action is required"
        problems.required(field, detail)
    seen: set[str] = set()
    for number, action in enumerate(actions):
        problems.one_of(f"{field}[{number}]", action, _ACTIONS)
        if action in seen:
            problems.duplicate(f"{field}[{number}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        detail = (
            "must not contain both Deny and Warn (repeating the same validation failure"
            " information in the API response and headers serves no purpose)"
        )
        problems.invalid(field, actions, detail)


def mutating_binding(problems: Problems, obj: Json) -> None:
    """Check a MutatingAdmissionPolicyBinding."""
    _binding(problems, obj.get("spec") or {})


def _policy(problems: Problems, spec: Json) -> None:
    kind = maybe(spec, "paramKind")
    for key in ("apiVersion", "kind") if kind is not None else ():
        if not (kind or {}).get(key):
            problems.required(f"spec.paramKind.{key}")
    failure = spec.get("failurePolicy") or ""
    problems.one_of("spec.failurePolicy", failure, _FAILURES)
    matched = maybe(spec, "matchConstraints")
    if matched is None:
        problems.required("spec.matchConstraints")
        return
    if not items(matched, "resourceRules"):
        problems.required("spec.matchConstraints.resourceRules")
    _matched(problems, "spec.matchConstraints", matched)


def _binding(problems: Problems, spec: Json) -> None:
    if name := spec.get("policyName"):
        problems.invalid_each("spec.policyName", name, names.dns1123_subdomain(name))
    else:
        problems.required("spec.policyName")
    if (reference := maybe(spec, "paramRef")) is not None:
        name, chosen = reference.get("name"), maybe(reference, "selector")
        at, action = "spec.paramRef", reference.get("parameterNotFoundAction")
        if not name and chosen is None:
            problems.required(at, "one of name or selector must be specified")
        elif name and chosen is not None:
            problems.forbidden(f"{at}.name", "name and selector are mutually exclusive")
        if not action:
            problems.required(f"{at}.parameterNotFoundAction")
        else:
            problems.one_of(f"{at}.parameterNotFoundAction", action, ("Allow", "Deny"))
    if (matched := maybe(spec, "matchResources")) is not None:
        _matched(problems, "spec.matchResources", matched)


def _matched(problems: Problems, field: str, told: Json) -> None:
    policy = told.get("matchPolicy") or ""
    problems.one_of(f"{field}.matchPolicy", policy, _MATCHES)
    for key in ("namespaceSelector", "objectSelector"):
        selectors.label_selector(problems, f"{field}.{key}", maybe(told, key))
    for key in ("resourceRules", "excludeResourceRules"):
        for number, rule in enumerate(items(told, key)):
            webhooks.rule(problems, f"{field}.{key}[{number}]", rule)
