"""Signing requests: kubelets' own are approved, what is approved is signed, what is old goes.

Source: Kubernetes, "Certificates and Certificate Signing Requests"; kube-controller-manager's
csrapproving, csrsigning and csrcleaner in behaviour.
"""

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from kubeloop.actors.controllers.base import (
    NOTHING,
    Action,
    Result,
    Writer,
    revision_of,
    split,
    unix_s,
)
from kubeloop.actors.view import Index, Object, View
from kubeloop.api.identity import MASTERS, may_do_anything
from kubeloop.api.signers import (
    KUBELET_CLIENT,
    SIGNERS,
    Unsigned,
    Wish,
    kubelet_client,
    seconds_of,
    why_not,
)

SIGNING_REQUESTS: Final = "certificatesigningrequests.certificates.k8s.io"
DECIDED_S: Final = 3600.0  # How long what was issued, denied or refused is kept.
PENDING_S: Final = 24 * 3600.0
RETRY_S: Final = 600.0
_SELF: Final = "Auto approving self kubelet client certificate after SubjectAccessReview."
_OTHER: Final = "Auto approving kubelet client certificate after SubjectAccessReview."


class Notary(Protocol):
    """Reads and signs what is X.509: see `actors.notary`."""

    @property
    def signs(self) -> bool:
        """Whether there is a key to sign with."""

    def read(self, pem: bytes) -> Wish:
        """Return what a signing request asks for. Raises: Unsigned if it cannot be read."""

    def expires_s(self, pem: bytes) -> float | None:
        """Return when a certificate expires [s since 1970]; None if it cannot be read."""

    def sign(self, pem: bytes, usages: Sequence[str], *, seconds: int, now_s: float) -> bytes:
        """Return a certificate as a request wants it, in PEM. Raises: Unsigned."""


class CertificateController:
    """Work items are CertificateSigningRequests."""

    name = "certificate-controller"
    resources = (SIGNING_REQUESTS,)
    indexes: Mapping[tuple[str, str], Index] = {}

    def __init__(self, notary: Notary) -> None:
        self._notary = notary
        self._write = Writer(self.name)

    def keys(
        self, key: str, before: Object | None, after: Object | None, view: View
    ) -> Iterable[str]:
        yield key

    def reconcile(self, key: str, view: View, now_s: float, trouble: str) -> Result:
        csr = view.get(*split(key))
        if csr is None or csr["metadata"].get("deletionTimestamp"):
            return NOTHING
        left_s = deadline_s(csr, self._notary.expires_s) - now_s
        if left_s < 0:
            return Result([Action(self._write.delete(csr), gone_is_fine=True)])
        again_s = None if left_s == _NEVER else left_s + 1.0  # It is kept for all of that time.
        try:
            actions = self._decide(csr) or self._sign(csr, now_s)
        except Unsigned:  # As it is it cannot be done: it may be once the authority is another.
            actions, again_s = [], RETRY_S if again_s is None else min(again_s, RETRY_S)
        return Result(actions, again_s=again_s, since=revision_of(csr))

    def _decide(self, csr: Object) -> list[Action]:
        """Approve what is the client certificate of a kubelet. Raises: Unsigned."""
        spec, types = csr["spec"], _types(csr)
        if spec["signerName"] != KUBELET_CLIENT or _certificate(csr) or types & _DECISIONS:
            return []
        wish = self._notary.read(_bytes(spec["request"]))
        user, groups = spec.get("username") or "", spec.get("groups") or []
        if kubelet_client(wish, spec.get("usages") or ()):
            return []
        if MASTERS not in groups and not may_do_anything(user, groups):
            return []
        approved = {
            "type": "Approved",
            "status": "True",
            "reason": "AutoApproved",
            "message": _SELF if user == wish.common_name else _OTHER,
        }
        request = self._write.update(_with(csr, approved), subresource="approval")
        return [Action(request, gone_is_fine=True)]

    def _sign(self, csr: Object, now_s: float) -> list[Action]:
        """Sign what was approved, or say why not. Raises: Unsigned."""
        spec, types = csr["spec"], _types(csr)
        signer, usages = spec["signerName"], spec.get("usages") or ()
        if signer not in SIGNERS or not self._notary.signs or _certificate(csr):
            return []
        if "Approved" not in types or types & {"Denied", "Failed"}:
            return []
        pem = _bytes(spec["request"])
        if why := why_not(signer, self._notary.read(pem), usages):
            failed = {
                "type": "Failed",
                "status": "True",
                "reason": "SignerValidationFailure",
                "message": why,
            }
            changed = _with(csr, failed)
        else:
            seconds = seconds_of(spec.get("expirationSeconds"))
            made = self._notary.sign(pem, usages, seconds=seconds, now_s=now_s)
            status = {**csr["status"], "certificate": base64.b64encode(made).decode()}
            changed = {**csr, "status": status}
        return [Action(self._write.update(changed, subresource="status"), gone_is_fine=True)]


def deadline_s(csr: Object, expires_s: Any) -> float:
    """Return until when a signing request is kept [s since 1970]; infinity if for ever.

    expires_s: PEM of a certificate → when it expires, None if nobody knows.
    """
    conditions = (csr.get("status") or {}).get("conditions") or ()
    if not conditions:
        return unix_s(csr["metadata"].get("creationTimestamp")) + PENDING_S
    certificate, times = _certificate(csr), [_NEVER]
    for condition in conditions:
        told = condition["type"]
        since = unix_s(condition.get("lastUpdateTime"))
        if since and (told in ("Denied", "Failed") or (told == "Approved" and certificate)):
            times.append(since + DECIDED_S)
    if certificate and "Approved" in _types(csr):
        times.append(expires_s(certificate) or _NEVER)
    return min(times)


_NEVER: Final = float("inf")
_DECISIONS: Final = {"Approved", "Denied"}


def _types(csr: Object) -> set[str]:
    """Return the conditions that hold."""
    conditions = (csr.get("status") or {}).get("conditions") or ()
    return {one["type"] for one in conditions if one.get("status", "True") == "True"}


def _certificate(csr: Object) -> bytes:
    return _bytes((csr.get("status") or {}).get("certificate") or b"")


def _bytes(told: Any) -> bytes:
    return told if isinstance(told, bytes) else base64.b64decode(told)


def _with(csr: Object, condition: dict[str, str]) -> dict[str, Any]:
    """Return a signing request with one condition more."""
    status = csr.get("status") or {}
    conditions = [*(status.get("conditions") or ()), condition]
    return {**csr, "status": {**status, "conditions": conditions}}
