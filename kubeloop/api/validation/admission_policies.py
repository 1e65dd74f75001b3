"""Rules of admission policies in CEL and their bindings.

Source: pkg/apis/admissionregistration/validation in behaviour.
"""

import re
from typing import Final

from kubeloop.api import names
from kubeloop.api.admission.language import Language
from kubeloop.api.admission.literals import whole
from kubeloop.api.admission.policies import MUTATING, VALIDATING, language_of
from kubeloop.api.cel import BadRule
from kubeloop.api.defaulting.tools import Json, items, maybe
from kubeloop.api.problems import Problems
from kubeloop.api.validation import selectors, webhooks

_FAILURES: Final = ("Fail", "Ignore")
_MATCHES: Final = ("Equivalent", "Exact")
_ACTIONS: Final = ("Audit", "Deny", "Warn")
_REASONS: Final = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
_NOTES_MAX: Final = 20
_TEXT_MAX: Final = 5 * 1024  # Bytes of a valueExpression.
_IDENTIFIER: Final = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_RESERVED: Final = frozenset(
    (
        *("as", "break", "const", "continue", "else", "false", "for", "function", "if", "import"),
        *("in", "let", "loop", "null", "package", "namespace", "return", "true", "var", "void"),
        "while",
    )
)
_SOMETHING: Final = "validations or auditAnnotations must contain at least one item"


def validating(problems: Problems, obj: Json) -> None:
    """Check a ValidatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    language = _policy(problems, spec, language_of(VALIDATING, spec))
    validations, notes = items(spec, "validations"), items(spec, "auditAnnotations")
    if not validations and not notes:
        problems.required("spec.validations", _SOMETHING)
        problems.required("spec.auditAnnotations", _SOMETHING)
    for number, told in enumerate(validations):
        _validation(problems, f"spec.validations[{number}]", told, language)
    if len(notes) > _NOTES_MAX:
        detail = f"must not have more than {_NOTES_MAX} auditAnnotations"
        problems.invalid("spec.auditAnnotations", notes, detail)
    seen: set[str] = set()
    for number, told in enumerate(notes):
        at, key = f"spec.auditAnnotations[{number}]", told.get("key") or ""
        _note(problems, at, told, (obj.get("metadata") or {}).get("name") or "", language)
        if key in seen:
            problems.duplicate(f"{at}.key", key)
        seen.add(key)


def _validation(problems: Problems, at: str, told: Json, language: Language) -> None:
    text, message = told.get("expression") or "", told.get("message") or ""
    if not text.strip():
        problems.required(f"{at}.expression", "expression is not specified")
    else:
        _compiles(problems, f"{at}.expression", text, language, "bool")
    if made := told.get("messageExpression") or "":
        field = f"{at}.messageExpression"
        if not made.strip():
            problems.invalid(field, made, "must be non-empty if specified")
        else:
            _compiles(problems, field, made, language, "string", authorizer=False)
    if message and not message.strip():
        problems.invalid(f"{at}.message", message, "message must be non-empty if specified")
    elif "\n" in message.strip():
        problems.invalid(f"{at}.message", message, "message must not contain line breaks")
    elif not message and "\n" in text.strip():
        detail = "message must be specified if expression contains line breaks"
        problems.required(f"{at}.message", detail)
    if reason := told.get("reason"):
        problems.one_of(f"{at}.reason", reason, _REASONS)


def _note(problems: Problems, at: str, told: Json, name: str, language: Language) -> None:
    key, text = told.get("key") or "", told.get("valueExpression") or ""
    if not key:
        problems.required(f"{at}.key")
    elif name:
        full = f"{name}/{key}"
        problems.invalid_each(f"{at}.key", full, names.qualified_name(full))
    if not text.strip():
        problems.required(f"{at}.valueExpression", "valueExpression is not specified")
    elif len(text.encode()) > _TEXT_MAX:
        detail = f"must not exceed {_TEXT_MAX} bytes in length"
        problems.required(f"{at}.valueExpression", detail)
    else:
        _compiles(problems, f"{at}.valueExpression", text, language, "string", "null_type")


def mutating(problems: Problems, obj: Json) -> None:
    """Check a MutatingAdmissionPolicy."""
    spec = obj.get("spec") or {}
    language = _policy(problems, spec, language_of(MUTATING, spec))
    mutations = items(spec, "mutations")
    if not mutations:
        problems.required("spec.mutations", "mutations must contain at least one item")
    for number, told in enumerate(mutations):
        _mutation(problems, f"spec.mutations[{number}]", told, language)
    policy = spec.get("reinvocationPolicy") or ""
    if not policy:
        problems.required("spec.reinvocationPolicy")
    else:
        problems.one_of("spec.reinvocationPolicy", policy, ("IfNeeded", "Never"))


def _mutation(problems: Problems, at: str, told: Json, language: Language) -> None:
    type_ = told.get("patchType") or ""
    problems.one_of(f"{at}.patchType", type_, ("ApplyConfiguration", "JSONPatch"))
    for known, key in (("ApplyConfiguration", "applyConfiguration"), ("JSONPatch", "jsonPatch")):
        made, field = maybe(told, key), f"{at}.{key}"
        if type_ != known:
            if type_ and made is not None:
                detail = f"must not be specified when patchType is {type_}"
                problems.invalid(field, made, detail)
        elif made is None:
            problems.required(field, f"must be specified when patchType is {known}")
        elif not (made.get("expression") or "").strip():
            problems.required(f"{field}.expression", "expression is not specified")
        else:
            _makes(problems, f"{field}.expression", made["expression"], language, known)


def _makes(problems: Problems, at: str, text: str, language: Language, type_: str) -> None:
    """Check what makes an object or a patch: of the library's maps, as far as these tell."""
    try:
        made = language.program(text).type
    except BadRule as error:
        problems.invalid(at, text, str(error))
        return
    if type_ == "ApplyConfiguration":
        fits, wanted = made == "dyn" or made.startswith("map(string, "), "Object"
        literal = whole(text)
        if literal and literal != wanted:
            fits, made = False, literal
    else:
        fits, wanted = made == "dyn" or made.startswith("list("), "list(JSONPatch)"
    if not fits:
        problems.invalid(at, text, f"must evaluate to {wanted} but got {made}")


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


def _policy(problems: Problems, spec: Json, language: Language) -> Language:
    """Check what all policies have; return the language with the variables that compile."""
    failure = spec.get("failurePolicy") or ""
    problems.one_of("spec.failurePolicy", failure, _FAILURES)
    kind = maybe(spec, "paramKind")
    for key in ("apiVersion", "kind") if kind is not None else ():
        if not (kind or {}).get(key):
            problems.required(f"spec.paramKind.{key}")
    matched = maybe(spec, "matchConstraints")
    if matched is None:
        problems.required("spec.matchConstraints")
    else:
        _matched(problems, "spec.matchConstraints", matched)
        if not items(matched, "resourceRules"):
            problems.required("spec.matchConstraints.resourceRules")

    def check(problems: Problems, path: str, text: str) -> None:
        _compiles(problems, path, text, language, "bool", variables=False)

    webhooks.conditions(problems, "spec.matchConditions", items(spec, "matchConditions"), check)
    for number, told in enumerate(items(spec, "variables")):
        _variable(problems, f"spec.variables[{number}]", told, language)
    return language


def _variable(problems: Problems, at: str, told: Json, language: Language) -> None:
    name, text = told.get("name") or "", told.get("expression") or ""
    if not name.strip():
        problems.required(f"{at}.name", "name is not specified")
    elif not _IDENTIFIER.fullmatch(name) or name in _RESERVED:
        problems.invalid(f"{at}.name", name, "name is not a valid CEL identifier")
    if not text.strip():
        problems.required(f"{at}.expression", "expression is not specified")
        return
    try:
        language.declare(name, text)
    except BadRule as error:
        problems.invalid(f"{at}.expression", text, str(error))


def _compiles(
    problems: Problems,
    at: str,
    text: str,
    language: Language,
    *types: str,
    authorizer: bool = True,
    variables: bool = True,
) -> None:
    """Check that an expression compiles, and what its result is."""
    try:
        made = language.program(text, authorizer=authorizer, variables=variables).type
    except BadRule as error:
        problems.invalid(at, text, str(error))
        return
    if made not in types:
        wanted = types[0] if len(types) == 1 else f"one of [{' '.join(types)}]"
        problems.invalid(at, text, f"must evaluate to {wanted} but got {made}")


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
