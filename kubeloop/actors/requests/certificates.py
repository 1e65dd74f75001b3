"""Signing requests: who asks is written down, what is asked for stays, and somebody decides."""

from typing import Any, Final

from kubeloop.actors.requests.state import Object
from kubeloop.api.identity import groups_of

SIGNING_REQUESTS: Final = "certificatesigningrequests.certificates.k8s.io"
APPROVAL: Final = "approval"
_ASKER: Final = ("username", "uid", "groups", "extra")


def sign_with(obj: Object, user: str) -> None:
    """Write down who asks, in place."""
    spec = {k: v for k, v in (obj.get("spec") or {}).items() if k not in _ASKER}
    obj["spec"] = {**spec, "username": user, "groups": groups_of(user)}


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
