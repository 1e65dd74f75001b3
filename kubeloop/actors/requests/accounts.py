"""Tokens of service accounts: whom they are given, and whom they stand for.

Source: Kubernetes, "TokenRequest" and "TokenReview" in its API reference.
"""

from typing import Any, Final

import msgpack

from kubeloop.actors.requests import tokens
from kubeloop.actors.requests.metadata import check_kind
from kubeloop.actors.requests.state import Object, State
from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import BadRequest, Cause, Conflict, Invalid, NotFound
from kubeloop.api.identity import ISSUER, account_user, groups_of
from kubeloop.api.schema import decode_strict
from kubeloop.api.times import rfc3339

_VERSION: Final = "authentication.k8s.io/v1"
_ACCOUNTS: Final = "serviceaccounts"
_SECONDS: Final = 3600
_SECONDS_MIN: Final = 600
_SECONDS_MAX: Final = 1 << 32
_BOUND: Final = {"Pod": "pods", "Secret": "secrets", "Node": "nodes"}
CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"


def request_token(state: State, request: Request) -> Outcome:
    """Return a token of a service account. Raises: NotFound, Invalid, BadRequest, Conflict."""
    account = state.get(_ACCOUNTS, request.namespace, request.name)
    if account is None:
        raise NotFound(_ACCOUNTS, request.name)
    body: Any = msgpack.unpackb(request.body) if request.body else {}
    check_kind(state.resource_of(request), body, "TokenRequest")
    obj, _ = decode_strict(_VERSION, "TokenRequest", body)
    spec = obj.get("spec") or {}
    seconds = _seconds(spec)
    audiences = spec.get("audiences") or [ISSUER]
    bound = _bound(state, request, spec.get("boundObjectRef"))
    now, metadata = int(state.wall()), account["metadata"]
    about = {"name": request.name, "uid": metadata["uid"]}
    claims = {
        "aud": audiences,
        "exp": now + seconds,
        "iat": now,
        "iss": ISSUER,
        "jti": state.new_uid(),
        "kubernetes.io": {"namespace": request.namespace, "serviceaccount": about, **bound},
        "nbf": now,
        "sub": account_user(request.namespace, request.name),
    }
    token = tokens.sign(state, claims)
    answer = {
        "kind": "TokenRequest",
        "apiVersion": _VERSION,
        "metadata": {
            "name": request.name,
            "namespace": request.namespace,
            "creationTimestamp": state.now(),
        },
        "spec": {
            "audiences": audiences,
            "expirationSeconds": seconds,
            "boundObjectRef": spec.get("boundObjectRef"),
        },
        "status": {"token": token, "expirationTimestamp": rfc3339(now + seconds)},
    }
    return Outcome(request.tag, 201, state.store.revision, msgpack.packb(answer))


def user_of(state: State, token: str, audiences: list[str]) -> Object:
    """Return the status of a TokenReview: whom a token stands for, if anybody.

    audiences: of whom it must be for one; [] for the API server.
    """
    try:
        claims = tokens.read(state, token)
        user, meant = _user(state, claims), _meant(claims, audiences)
    except tokens.BadToken as error:
        return {"user": {}, "error": str(error)}
    return {"authenticated": True, "user": user, "audiences": meant}


def _user(state: State, claims: Object) -> Object:
    """Return the user claims are about, who must still be there. Raises: BadToken."""
    about = claims.get("kubernetes.io")
    now, exp = state.wall(), claims.get("exp")
    if claims.get("iss") != ISSUER or not isinstance(about, dict):
        raise tokens.BadToken("invalid bearer token")
    if not isinstance(exp, int) or now >= exp:
        raise tokens.BadToken("[invalid bearer token, service account token has expired]")
    namespace, account = about["namespace"], about["serviceaccount"]
    found = state.get(_ACCOUNTS, namespace, account["name"])
    if found is None or found["metadata"]["uid"] != account["uid"]:
        raise tokens.BadToken("[invalid bearer token, service account token has been invalidated]")
    for kind, resource in _BOUND.items():
        told = about.get(kind.lower())
        where = "" if kind == "Node" else namespace
        obj = None if told is None else state.get(resource, where, told["name"])
        if told is not None and (obj is None or obj["metadata"]["uid"] != told["uid"]):
            raise tokens.BadToken(
                "[invalid bearer token, service account token has been invalidated]"
            )
    name = account_user(namespace, account["name"])
    extra = {CREDENTIAL: [f"JTI={claims['jti']}"]}
    return {"username": name, "uid": account["uid"], "groups": groups_of(name), "extra": extra}


def _meant(claims: Object, audiences: list[str]) -> list[str]:
    """Return those a token is for, of those who ask. Raises: BadToken."""
    meant = [one for one in audiences or [ISSUER] if one in claims["aud"]]
    if not meant:
        raise tokens.BadToken("[invalid bearer token, token audiences do not match]")
    return meant


def _seconds(spec: Object) -> int:
    """Return how long a token shall be good. Raises: Invalid."""
    seconds = spec.get("expirationSeconds")
    if seconds is None:
        return _SECONDS
    detail = ""
    if seconds < _SECONDS_MIN:
        detail = "may not specify a duration less than 10 minutes"
    elif seconds > _SECONDS_MAX:
        detail = "may not specify a duration larger than 2^32 seconds"
    if detail:
        message = f"Invalid value: {seconds}: {detail}"
        cause = Cause("FieldValueInvalid", message, "spec.expirationSeconds")
        raise Invalid("TokenRequest", "", [cause], group="authentication.k8s.io")
    return int(seconds)


def _bound(state: State, request: Request, told: Object | None) -> Object:
    """Return what claims say of the object a token ends with."""
    if told is None:
        return {}
    kind, name = told.get("kind") or "", told.get("name") or ""
    resource = _BOUND.get(kind)
    if resource is None or told.get("apiVersion") != "v1":
        raise BadRequest(f"cannot bind token to object of type {told.get('apiVersion')}, {kind}")
    where = "" if kind == "Node" else request.namespace
    found = state.get(resource, where, name)
    if found is None:
        raise NotFound(resource, name)
    uid = found["metadata"]["uid"]
    if told.get("uid") not in (None, "", uid):
        raise Conflict(
            resource,
            name,
            f"the UID in the bound object reference ({told['uid']}) does not match the UID in "
            "record. The object might have been deleted and then recreated",
        )
    if kind == "Pod" and (found.get("spec") or {}).get("serviceAccountName") != request.name:
        raise BadRequest(
            f"cannot bind token for serviceaccount {_quoted(request.name)} to pod running with "
            "different serviceaccount name."
        )
    return {kind.lower(): {"name": name, "uid": uid}}


def _quoted(name: str) -> str:
    return f'"{name}"'
