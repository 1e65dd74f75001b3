"""Signing requests: who asks is written down, what is asked for stays, and somebody decides."""

import base64
from collections.abc import Sequence
from typing import Any, Final

from kubeloop.actors.notary import read_request
from kubeloop.actors.requests.state import Object
from kubeloop.api.errors import Cause, Forbidden
from kubeloop.api.identity import MASTERS, groups_of
from kubeloop.api.problems import Problems
from kubeloop.api.signers import CLIENT, Unsigned
from kubeloop.api.validation.control import signing_undecided

SIGNING_REQUESTS: Final = "certificatesigningrequests.certificates.k8s.io"
APPROVAL: Final = "approval"
_ASKER: Final = ("username", "uid", "groups", "extra")


def sign_with(obj: Object, user: str, groups: Sequence[str]) -> None:
    """Write down who asks, in place."""
    spec = {k: v for k, v in (obj.get("spec") or {}).items() if k not in _ASKER}
    obj["spec"] = {**spec, "username": user, "groups": groups_of(user, groups)}


def readable(obj: Object) -> list[Cause]:
    """Return what is wrong with what a valid object wants signed. Raises: Forbidden.

    Source: Kubernetes, "Admission Control: CertificateSubjectRestriction".
    """
    problems, spec = Problems(), obj["spec"]
    try:
        wish = read_request(base64.b64decode(spec["request"]))
    except Unsigned as error:
        problems.invalid("spec.request", spec["request"], str(error))
        return problems
    if spec["signerName"] == CLIENT and MASTERS in wish.organizations:
        why = f"use of {CLIENT} signer with {MASTERS} group is not allowed"
        raise Forbidden(SIGNING_REQUESTS, obj["metadata"]["name"], why)
    return problems


def undecided(old: Object, new: Object) -> list[Cause]:
    """Return what is wrong with a status that comes otherwise than by an approval."""
    problems = Problems()
    signing_undecided(problems, new, old)
    return problems


def decide(old: Object, new: Object, now: str) -> None:
    """Let an approval change the conditions of the status, and nothing else of it; in place."""
    status = dict(old.get("status") or {})
    told = (new.get("status") or {}).get("conditions") or []
    if told:
        status["conditions"] = told
    else:
        status.pop("conditions", None)
    new["status"] = status
    date(old, new, now)


def date(old: Object, new: Object, now: str) -> None:
    """Say of each condition since when it is so, in place."""
    had = {one["type"]: one for one in (old.get("status") or {}).get("conditions") or ()}
    for one in (new.get("status") or {}).get("conditions") or ():
        before: dict[str, Any] = had.get(one.get("type"), {})
        if not one.get("lastUpdateTime"):
            one["lastUpdateTime"] = now
        if not one.get("lastTransitionTime"):
            same = before.get("status") == one.get("status")
            one["lastTransitionTime"] = before.get("lastTransitionTime", now) if same else now
