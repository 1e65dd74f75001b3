"""Admission webhooks: which ones have a say in a request, what they are asked, what they answer.

Pure: who calls them is `actors.requests.hooks`. A hook is one entry of `webhooks` in a
MutatingWebhookConfiguration or a ValidatingWebhookConfiguration.

Source: Kubernetes, "Dynamic Admission Control"; k8s.io/apiserver's admission webhooks in behaviour.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from kubeloop.api.admission.language import authorizer_of, with_authorizer
from kubeloop.api.admission.matching import GROUP, Attributes, fits, request_of, selected
from kubeloop.api.cel import BadRule, Expression, Failure
from kubeloop.api.errors import ApiError, BadRequest, InternalError
from kubeloop.api.patch import json_patch

MUTATING: Final = f"mutatingwebhookconfigurations.{GROUP}"
VALIDATING: Final = f"validatingwebhookconfigurations.{GROUP}"
TIMEOUT_S: Final = 10
_REVIEW: Final = "admission.k8s.io/v1"
_HARMLESS: Final = ("None", "NoneOnDryRun")
VARIABLES: Final = ("object", "oldObject", "request")

Object = dict[str, Any]
Key = tuple[str, str, int]


@dataclass(frozen=True)
class Hook:
    """One webhook. kind: MUTATING or VALIDATING;  place: which one of its configuration."""

    kind: str
    configuration: str
    place: int
    told: Mapping[str, Any]

    @property
    def key(self) -> Key:
        """What tells it from others."""
        return self.kind, self.configuration, self.place

    @property
    def name(self) -> str:
        """Its name, which errors tell."""
        return str(self.told["name"])

    @property
    def timeout_s(self) -> int:
        """How long it may take."""
        return int(self.told.get("timeoutSeconds") or TIMEOUT_S)

    @property
    def must_answer(self) -> bool:
        """Whether the request fails if it cannot be asked."""
        return str(self.told.get("failurePolicy") or "Fail") == "Fail"

    @property
    def asks_again(self) -> bool:
        """Whether it wants to see what others change after it."""
        return str(self.told.get("reinvocationPolicy")) == "IfNeeded"


class Denied(ApiError):
    """A webhook does not allow the request; code and reason are its own."""

    def __init__(self, hook: str, result: Mapping[str, Any]) -> None:
        by = f'admission webhook "{hook}" denied the request'
        why = result.get("message") or result.get("reason")
        super().__init__(
            f"{by}: {why}" if why else f"{by} without explanation", details=result.get("details")
        )
        told = result.get("code")
        self.code = told if isinstance(told, int) and told >= 400 else 400
        self.reason = str(result.get("reason") or "")

    def status(self) -> dict[str, Any]:
        """Return the v1.Status, without a reason if the webhook gave none."""
        return {k: v for k, v in super().status().items() if k != "reason" or v}


def hooks_of(configurations: Iterable[tuple[str, Mapping[str, Any]]]) -> list[Hook]:
    """Return the webhooks of configurations, in the order in which they are asked: by name."""
    ordered = sorted(configurations, key=lambda one: one[1]["metadata"]["name"])
    return [
        Hook(kind, told["metadata"]["name"], place, hook)
        for kind, told in ordered
        for place, hook in enumerate(told.get("webhooks") or ())
    ]


# Which ones.


def concerns(hook: Hook, about: Attributes, namespace: Mapping[str, Any] | None) -> bool:
    """Tell whether a webhook is to be asked. namespace: the one of the request, None if none is.

    Raises: InternalError if its conditions cannot be evaluated, and it must answer.
    """
    if about.resource.group == GROUP:
        return False  # They could make themselves impossible to remove.
    if not any(fits(rule, about) for rule in hook.told.get("rules") or ()):
        return False
    return selected(hook.told, about, namespace) and _meets_conditions(hook, about)


def _meets_conditions(hook: Hook, about: Attributes) -> bool:
    """Tell whether all matchConditions hold. Raises: InternalError."""
    conditions = hook.told.get("matchConditions") or ()
    if not conditions:
        return True
    asking = authorizer_of(about.user, about.groups)
    scope = {
        "object": about.obj,
        "oldObject": about.old,
        "request": request_of(about, ""),
        "authorizer": asking,
        "authorizer.requestResource": asking,
    }
    failures = []
    for condition in conditions:
        result = _met(condition["expression"], scope)
        if isinstance(result, Failure):
            failures.append(str(result))
        elif result is not True:
            return False
    if failures and hook.must_answer:
        why = f"failed to evaluate match conditions: {', '.join(failures)}"
        raise InternalError(f'failed calling webhook "{hook.name}": {why}')
    return not failures


def _met(text: str, scope: Mapping[str, Any]) -> Any:
    """Evaluate a condition; what was checked once may not compile where the library is not."""
    try:
        return _condition(text)(scope)
    except BadRule as error:
        return Failure(str(error))


@lru_cache(256)
def _condition(text: str) -> Expression:
    return with_authorizer(*VARIABLES).compile(text, "expression")


# What they are asked.


def review(hook: Hook, about: Attributes, uid: str) -> dict[str, Any]:
    """Return the AdmissionReview that is sent. Raises: BadRequest if it cannot be asked dryly."""
    if about.dry_run and hook.told.get("sideEffects") not in _HARMLESS:
        raise BadRequest(f'admission webhook "{hook.name}" does not support dry run')
    return {"kind": "AdmissionReview", "apiVersion": _REVIEW, "request": request_of(about, uid)}


# What they answer.


class CallFailed(Exception):
    """A webhook could not be asked; the message says why, in Kubernetes' words."""


class BadAnswer(ValueError):
    """An answer that is none; the message is Kubernetes'."""


def judged(
    hook: Hook, obj: Object | None, uid: str, answer: Any
) -> tuple[Object | None, list[str]]:
    """Return the object as the webhook wants it, and its warnings.

    Raises: Denied; BadAnswer.
    """
    response = answer.get("response") if isinstance(answer, dict) else None
    if not isinstance(response, dict):
        raise BadAnswer("invalid response: webhook response was absent")
    expected = {"apiVersion": _REVIEW, "kind": "AdmissionReview"}
    told = {"apiVersion": answer.get("apiVersion"), "kind": answer.get("kind")}
    if told != expected:
        raise BadAnswer(
            f"expected webhook response of {_REVIEW}, Kind=AdmissionReview, got "
            f"{told['apiVersion'] or ''}, Kind={told['kind'] or ''}"
        )
    if response.get("uid") != uid:
        raise BadAnswer(f'expected response.uid="{uid}", got "{response.get("uid") or ""}"')
    warnings = [str(one) for one in response.get("warnings") or ()]
    if not response.get("allowed"):
        raise Denied(hook.name, response.get("status") or {})
    patch = response.get("patch")
    if not patch:
        return obj, warnings
    if hook.kind != MUTATING:
        raise BadAnswer("webhook response had a patch, and may not change anything")
    if response.get("patchType") != "JSONPatch":
        raise BadAnswer(
            f'invalid response: unexpected patch type "{response.get("patchType") or ""}"'
        )
    return _patched(obj or {}, patch), warnings


def _patched(obj: Object, patch: Any) -> Object:
    """Return an object with a webhook's patch. Raises: BadAnswer."""
    try:
        operations = orjson.loads(base64.b64decode(patch, validate=True))
    except (TypeError, binascii.Error, orjson.JSONDecodeError) as error:
        raise BadAnswer(f"the patch cannot be read: {error}") from None
    try:
        return json_patch(obj, operations)
    except ApiError as error:
        raise BadAnswer(str(error)) from None


def failed(hook: Hook, why: str) -> ApiError:
    """Return what a request fails with whose webhook could not be asked, or answered nonsense."""
    return InternalError(f'failed calling webhook "{hook.name}": {why}')
