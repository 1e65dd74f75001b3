"""Admission policies: rules in CEL that the cluster itself heeds, without a webhook. Pure.

    policy = policy_of(VALIDATING, obj, bindings)   # compiled once
    about = chosen(policy.constraints, about, namespace, others)
    judged(policy, scope_of(about, params, namespace))   # what it has against a request

Which policies there are, and with which parameters, is known to `actors.requests.policing`.

Source: Kubernetes, "Validating Admission Policy", "Mutating Admission Policy"; k8s.io/apiserver's
policy plugins in behaviour.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from kubeloop.api.admission.language import Language, Program, Run, authorizer_of
from kubeloop.api.admission.matching import Attributes, fits, request_of, selected
from kubeloop.api.cel import BadRule, Failure
from kubeloop.api.errors import ApiError
from kubeloop.api.resources import Resource

GROUP: Final = "admissionregistration.k8s.io"
VALIDATING: Final = f"validatingadmissionpolicies.{GROUP}"
VALIDATING_BINDINGS: Final = f"validatingadmissionpolicybindings.{GROUP}"
MUTATING: Final = f"mutatingadmissionpolicies.{GROUP}"
MUTATING_BINDINGS: Final = f"mutatingadmissionpolicybindings.{GROUP}"
MESSAGE_MAX: Final = 5 * 1024  # Bytes of a message that an expression makes.
_CODES: Final = {"Forbidden": 403, "Unauthorized": 401, "RequestEntityTooLarge": 413}
_INVALID: Final = "Invalid"

Json = Mapping[str, Any]
Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Validation:
    """One validation. told: a message it makes itself, if it does."""

    holds: Program
    message: str
    told: Program | None
    reason: str


@dataclass(frozen=True, slots=True)
class Mutation:
    """One mutation. type: ApplyConfiguration or JSONPatch."""

    type: str
    made: Program


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, compiled, with its bindings.

    fails:  a request is refused if the policy cannot be evaluated.
    broken: why it cannot be evaluated at all, "" if it can.
    """

    kind: str
    name: str
    spec: Json
    bindings: Sequence[Json]
    fails: bool
    conditions: Sequence[Program] = ()
    variables: Mapping[str, Program] | None = None
    validations: Sequence[Validation] = ()
    notes: Sequence[tuple[str, Program]] = ()
    mutations: Sequence[Mutation] = ()
    broken: str = ""

    @property
    def constraints(self) -> Json:
        """Which requests it is about."""
        return self.spec.get("matchConstraints") or {}

    @property
    def asks_again(self) -> bool:
        """Whether it wants to see what others change after it."""
        return self.spec.get("reinvocationPolicy") == "IfNeeded"


@dataclass(frozen=True, slots=True)
class Objection:
    """What a policy has against a request."""

    message: str
    reason: str = ""


class Denied(ApiError):
    """A policy does not allow a request."""

    def __init__(self, policy: Policy, binding: Json | None, objection: Objection, at: str) -> None:
        """at: what is refused, as `resource "name"`."""
        what = "ValidatingAdmissionPolicy" if policy.kind == VALIDATING else "policy"
        told = f"{what} '{policy.name}'"
        if binding is not None:
            told += f" with binding '{binding['metadata']['name']}'"
        why = f"{told} denied request: {objection.message}"
        resource, _, name = at.partition(" ")
        plural, _, group = resource.partition(".")
        details: Object = {"name": name.strip('"')}
        if group:
            details["group"] = group
        details |= {"kind": plural, "causes": [{"message": why}]}
        super().__init__(f"{at} is forbidden: {why}", details=details)
        self.reason = objection.reason or _INVALID
        # Who changes objects refuses as any other plugin, with the reason of who looks at them.
        self.code = _CODES.get(self.reason, 422) if policy.kind == VALIDATING else 403


def policies_of(kind: str, objects: Iterable[Object], bindings: Iterable[Object]) -> list[Policy]:
    """Return the policies that are bound, by name."""
    bound: dict[str, list[Object]] = {}
    for one in sorted(bindings, key=lambda one: one["metadata"]["name"]):
        bound.setdefault(one["spec"]["policyName"], []).append(one)
    ordered = sorted(objects, key=lambda one: one["metadata"]["name"])
    return [
        policy_of(kind, one, bound[one["metadata"]["name"]])
        for one in ordered
        if one["metadata"]["name"] in bound
    ]


def policy_of(kind: str, obj: Object, bindings: Sequence[Json]) -> Policy:
    """Return a policy, compiled."""
    spec, name = obj["spec"], obj["metadata"]["name"]
    fails = (spec.get("failurePolicy") or "Fail") == "Fail"
    language = language_of(kind, spec)
    try:
        for told in spec.get("variables") or ():
            language.declare(told["name"], told["expression"])
        conditions = [
            language.program(one["expression"], variables=False)
            for one in spec.get("matchConditions") or ()
        ]
        return Policy(
            kind,
            name,
            spec,
            bindings,
            fails,
            conditions,
            language.variables,
            [_validation(language, told) for told in spec.get("validations") or ()],
            [
                (told["key"], language.program(told["valueExpression"]))
                for told in spec.get("auditAnnotations") or ()
            ],
            [_mutation(language, told) for told in spec.get("mutations") or ()],
        )
    except BadRule as error:  # It was accepted: the library must have gone since.
        return Policy(kind, name, spec, bindings, fails, broken=str(error))


def language_of(kind: str, spec: Json) -> Language:
    """Return what a policy is written in."""
    return Language(params=bool(spec.get("paramKind")), patches=kind == MUTATING)


def _validation(language: Language, told: Json) -> Validation:
    text = str(told.get("messageExpression") or "").strip()
    message = str(told.get("message") or "").strip()
    return Validation(
        language.program(told["expression"]),
        message or f"failed expression: {told['expression'].strip()}",
        language.program(text, authorizer=False) if text else None,
        told.get("reason") or _INVALID,
    )


def _mutation(language: Language, told: Json) -> Mutation:
    type_ = told["patchType"]
    field = "applyConfiguration" if type_ == "ApplyConfiguration" else "jsonPatch"
    return Mutation(type_, language.program(told[field]["expression"]))


# Which ones.

Convert = Callable[[Object, Resource], Object]
"""An object, in another version of its kind."""


def chosen(
    told: Json,
    about: Attributes,
    namespace: Json | None,
    others: Callable[[], Iterable[Resource]],
    convert: Convert,
) -> Attributes | None:
    """Return what a request is about as the rules that choose it speak of it; None if none does.

    told:   a policy's matchConstraints, or a binding's matchResources.
    others: the same kind in other versions, which may be meant, too.
    """
    if about.resource.group == GROUP:
        return None  # They could make themselves impossible to remove.
    if not selected(told, about, namespace):
        return None
    meant = [about]
    if told.get("matchPolicy") != "Exact" and about.subresource in ("", "status"):
        meant += [replace(about, resource=one, asked=about.resource) for one in others()]
    if any(_named(rule, one) for rule in told.get("excludeResourceRules") or () for one in meant):
        return None
    rules = told.get("resourceRules")
    if not rules:
        return about
    for one in meant:
        if any(_named(rule, one) for rule in rules):
            break
    else:
        return None
    if one is about:
        return about
    obj, old = (
        None if each is None else convert(each, one.resource) for each in (about.obj, about.old)
    )
    return replace(one, obj=obj, old=old)


def _named(rule: Json, about: Attributes) -> bool:
    names = rule.get("resourceNames")
    return fits(rule, about) and (not names or about.name in names)


# What they say.


def scope_of(about: Attributes, params: Any, namespace: Json | None) -> Object:
    """Return the variables of expressions."""
    request = request_of(about, "")
    for name in ("uid", "object", "oldObject"):
        request.pop(name)
    asking = authorizer_of(about.user, about.groups)
    of_namespace = about.resource.id == "namespaces"
    return {
        "object": about.obj,
        "oldObject": about.old,
        "request": request,
        "params": params,
        "namespaceObject": None if of_namespace else _told_of(namespace),
        "authorizer": asking,
        "authorizer.requestResource": asking,
    }


def _told_of(namespace: Json | None) -> Object | None:
    if namespace is None:
        return None
    hidden = ("managedFields", "ownerReferences", "selfLink")
    metadata = {k: v for k, v in namespace["metadata"].items() if k not in hidden}
    return {**namespace, "metadata": metadata}


def met(policy: Policy, scope: Json) -> bool:
    """Tell whether the conditions of a policy hold.

    Raises: Failure if they cannot be evaluated, and the policy must not be passed over.
    """
    if policy.broken:
        if policy.fails:
            raise Failure(f"compilation error: {policy.broken}")
        return False
    run, failures = Run({}, {**scope, "namespaceObject": None}), []
    for condition in policy.conditions:
        result = run.value(condition)
        if isinstance(result, Failure):
            failures.append(failed(condition, result))
        elif result is not True:
            return False
    if failures and policy.fails:
        raise Failure(failures[0] if len(failures) == 1 else f"[{', '.join(failures)}]")
    return not failures


def judged(policy: Policy, scope: Json) -> list[Objection]:
    """Return what a policy has against a request."""
    try:
        if not met(policy, scope):
            return []
    except Failure as failure:
        return [Objection(str(failure))]
    run, found = Run(policy.variables or {}, scope), []
    for one in policy.validations:
        result = run.value(one.holds)
        if isinstance(result, Failure):
            if policy.fails:
                found.append(Objection(failed(one.holds, result)))
        elif result is not True:
            found.append(Objection(_message(one, run), one.reason))
    for _, program in policy.notes:  # Nobody keeps them, but they can fail.
        result = run.value(program)
        if isinstance(result, Failure) and policy.fails:
            found.append(Objection(failed(program, result)))
    return found


def failed(program: Program, failure: Failure) -> str:
    """Say that an expression could not be evaluated."""
    return f"expression '{program.text}' resulted in error: {failure}"


def _message(one: Validation, run: Run) -> str:
    told = None if one.told is None else run.value(one.told)
    if not isinstance(told, str):
        return one.message
    told = told.strip()
    fits_ = told and "\n" not in told and len(told.encode()) <= MESSAGE_MAX
    return told if fits_ else one.message
