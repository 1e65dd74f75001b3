"""Reviews: questions about who one is, and what one may do. They are answered, and not kept.

Who is known may do anything: the answers say so.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgpack

from kubeloop.actors.requests import accounts, ownership
from kubeloop.actors.requests.metadata import check_kind, check_namespace
from kubeloop.actors.requests.patching import decoded
from kubeloop.actors.requests.state import Object, State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import BadRequest, Cause, Invalid
from kubeloop.api.identity import MASTERS, account_of, groups_of, may_do_anything
from kubeloop.api.managed.sets import EMPTY, FieldSet
from kubeloop.api.problems import Problems

_ANYTHING: Final = {
    "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
    "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    "incomplete": False,
}
_ANSWER: Final[FieldSet] = {"f:status": EMPTY}
_BOTH: Final = "cannot be specified in combination with resourceAttributes"
_NONE: Final = "exactly one of nonResourceAttributes or resourceAttributes must be specified"


def review(state: State, request: Request) -> Outcome:
    """Answer a question. Raises: BadRequest, Invalid."""
    resource = state.resource_of(request)
    body: Any = msgpack.unpackb(request.body) if request.body else None
    if not isinstance(body, dict):
        raise BadRequest("the request needs an object as its body")
    check_kind(resource, body)
    obj, warnings = decoded(resource, body, request)
    obj["metadata"] = dict(obj.get("metadata") or {})
    check_namespace(resource, obj, request)
    obj["status"] = _ANSWERS[resource.kind](state, request, obj)
    ownership.created(state, resource, obj, request, _ANSWER)
    answered = {
        "kind": resource.kind,
        "apiVersion": resource.api_version,
        "metadata": obj["metadata"],
        **({"spec": obj.get("spec") or {}} if resource.kind != "SelfSubjectReview" else {}),
        "status": obj["status"],
    }
    if resource.kind == "SelfSubjectReview":
        answered["metadata"]["creationTimestamp"] = state.now()
    packed = msgpack.packb(answered)
    return Outcome(request.tag, 201, state.store.revision, packed, warnings=warnings)


def _who_am_i(state: State, request: Request, obj: Object) -> Object:
    user: Object = {"username": request.user, "groups": groups_of(request.user, request.groups)}
    account = account_of(request.user)
    found = None if account is None else state.get("serviceaccounts", *account)
    if found is not None:
        user = {"username": request.user, "uid": found["metadata"]["uid"], **user}
    return {"userInfo": user}


def _whose_token(state: State, request: Request, obj: Object) -> Object:
    spec = obj.get("spec") or {}
    token = spec.get("token") or ""
    if not token:
        raise BadRequest("token is required for TokenReview in authentication")
    known = request.options.get("tokenOf")  # Some tokens only the endpoint knows.
    if known:
        return {"authenticated": True, "user": {"username": known, "groups": groups_of(known)}}
    return accounts.user_of(state, token, spec.get("audiences") or [])


def _may_i(state: State, request: Request, obj: Object) -> Object:
    _refuse(obj, _attributes(obj))
    return {"allowed": may_do_anything(request.user, groups_of(request.user, request.groups))}


def _may_somebody(state: State, request: Request, obj: Object) -> Object:
    problems, spec = _attributes(obj), obj.get("spec") or {}
    user, groups = spec.get("user") or "", spec.get("groups") or []
    if not user and not groups:
        problems.invalid("spec.user", user, "at least one of user or group must be specified")
    _refuse(obj, problems)
    return {"allowed": MASTERS in groups or may_do_anything(user, groups)}


def _may_somebody_here(state: State, request: Request, obj: Object) -> Object:
    spec = obj.get("spec") or {}
    there = (spec.get("resourceAttributes") or {}).get("namespace") or ""
    if there != request.namespace:
        raise BadRequest(f"spec.resourceAttributes.namespace must match namespace: {there}")
    return _may_somebody(state, request, obj)


def _what_may_i(state: State, request: Request, obj: Object) -> Object:
    if not (obj.get("spec") or {}).get("namespace"):
        raise BadRequest("no namespace on request")
    return _ANYTHING


def _attributes(obj: Object) -> Problems:
    """Return what is wrong with what a question is about: a resource or a URL."""
    problems, spec = Problems(), obj.get("spec") or {}
    resource, url = spec.get("resourceAttributes"), spec.get("nonResourceAttributes")
    if resource is not None and url is not None:
        problems.invalid("spec.nonResourceAttributes", url, _BOTH)
    if resource is None and url is None:
        problems.invalid("spec.resourceAttributes", None, _NONE)
    return problems


def _refuse(obj: Object, causes: list[Cause]) -> None:
    if causes:
        raise Invalid(obj["kind"], "", causes, group="authorization.k8s.io")


_ANSWERS: Final[Mapping[str, Callable[[State, Request, Object], Object]]] = {
    "LocalSubjectAccessReview": _may_somebody_here,
    "SelfSubjectAccessReview": _may_i,
    "SelfSubjectReview": _who_am_i,
    "SelfSubjectRulesReview": _what_may_i,
    "SubjectAccessReview": _may_somebody,
    "TokenReview": _whose_token,
}
