"""Errors a client can see. Each one knows its HTTP status, its reason and its details.

Texts and reasons are those of k8s.io/apimachinery's api/errors; a client that parses them (and
kubectl does) must not notice a difference.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Cause:
    """One thing that is wrong: a StatusCause.

    reason:  "FieldValueInvalid", "FieldValueRequired", "FieldValueDuplicate", …
    message: "Invalid value: 80: provided port is not in the valid range…"; without the field.
    field:   "spec.ports[0].nodePort".
    """

    reason: str
    message: str
    field: str


class ApiError(Exception):
    """A request that was understood and refused; `status()` is its `v1.Status`."""

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, *, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """Return the v1.Status object."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status


class BadRequest(ApiError):
    """The request itself makes no sense."""

    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    """Nobody knows who asks."""

    code, reason = 401, "Unauthorized"

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class Forbidden(ApiError):
    """The request is understood and not allowed."""

    code, reason = 403, "Forbidden"

    def __init__(self, resource: str, name: str, why: str, *, causes: Sequence[Cause] = ()) -> None:
        details = _details(resource, name)
        if causes:
            details["causes"] = _causes(causes)
        super().__init__(f'{resource} "{name}" is forbidden: {why}', details=details)


class NotFound(ApiError):
    """There is no such object. resource: "pods", "deployments.apps"."""

    code, reason = 404, "NotFound"

    def __init__(self, resource: str, name: str) -> None:
        details = _details(resource, name)
        super().__init__(f'{resource} "{name}" not found', details=details)


class PathNotFound(ApiError):
    """There is no such resource at all."""

    code, reason = 404, "NotFound"

    def __init__(self) -> None:
        super().__init__("the server could not find the requested resource", details={})


class MethodNotAllowed(ApiError):
    """The resource exists and does not support this verb."""

    code, reason = 405, "MethodNotAllowed"

    def __init__(
        self, message: str = "the server does not allow this method on the requested resource"
    ) -> None:
        super().__init__(message, details={})


class NotAcceptable(ApiError):
    """None of the media types the client accepts can be had."""

    code, reason = 406, "NotAcceptable"

    def __init__(self, offered: Sequence[str]) -> None:
        super().__init__(f"only the following media types are accepted: {', '.join(offered)}")


class AlreadyExists(ApiError):
    """An object of that name exists."""

    code, reason = 409, "AlreadyExists"

    def __init__(self, resource: str, name: str) -> None:
        details = _details(resource, name)
        super().__init__(f'{resource} "{name}" already exists', details=details)


class Conflict(ApiError):
    """The object is not what the writer thought it was. resource: also "pods/binding"."""

    code, reason = 409, "Conflict"

    def __init__(self, resource: str, name: str, why: str) -> None:
        message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
        super().__init__(message, details=_details(resource, name))

    @classmethod
    def modified(cls, resource: str, name: str) -> "Conflict":
        """Return the error for a stale resourceVersion."""
        return cls(
            resource,
            name,
            "the object has been modified; please apply your changes to the latest version"
            " and try again",
        )


class ApplyConflict(Conflict):
    """Others manage fields that an applier wants to set otherwise, and he does not force it."""

    def __init__(self, message: str, causes: Sequence[Cause]) -> None:
        ApiError.__init__(self, message, details={"causes": _causes(causes)})


class Expired(ApiError):
    """What was asked for has been compacted away: list again."""

    code, reason = 410, "Expired"

    @classmethod
    def revision(cls, *, asked: int, oldest: int) -> "Expired":
        """Return the error for a watch or list at a revision below the floor."""
        return cls(f"too old resource version: {asked} ({oldest})")


class TooLarge(ApiError):
    """The body is larger than the server takes."""

    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    """The body is in a language the server does not read."""

    code, reason = 415, "UnsupportedMediaType"

    def __init__(self, offered: Sequence[str]) -> None:
        message = (
            "the body of the request was in an unknown format - accepted media types include: "
            + ", ".join(offered)
        )
        super().__init__(message)


class Invalid(ApiError):
    """The object breaks rules of its kind. group: "" or "apps"."""

    code, reason = 422, "Invalid"

    def __init__(self, kind: str, name: str, causes: Sequence[Cause], *, group: str = "") -> None:
        assert causes, "an object is invalid for a reason"
        texts = [f"{c.field}: {c.message}" if c.field else c.message for c in causes]
        texts = list(dict.fromkeys(texts))  # What two rules say is said once.
        told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        qualified = f"{kind}.{group}" if group else kind
        details: dict[str, Any] = {"name": name} if name else {}
        if group:
            details["group"] = group
        if kind:
            details["kind"] = kind
        details["causes"] = _causes(causes)
        super().__init__(f'{qualified} "{name}" is invalid: {told}', details=details)
        self.causes = tuple(causes)


class TooManyRequests(ApiError):
    """The server has more to do than it can hold: try again after `retry_after_s`."""

    code, reason = 429, "TooManyRequests"

    def __init__(
        self, message: str, *, retry_after_s: int = 1, causes: Sequence[Cause] = ()
    ) -> None:
        details: dict[str, Any] = {"retryAfterSeconds": retry_after_s} if retry_after_s else {}
        if causes:
            details["causes"] = _causes(causes)
        super().__init__(message, details=details)


class InternalError(ApiError):
    """The server failed."""

    code, reason = 500, "InternalError"

    def __init__(self, why: str) -> None:
        super().__init__(f"Internal error occurred: {why}", details={"causes": [{"message": why}]})


class Unexplained(ApiError):
    """The server failed, and has no reason to tell: what its storage said, mostly."""

    code, reason = 500, ""

    def status(self) -> dict[str, Any]:
        """Return the v1.Status, which has no reason."""
        return {k: v for k, v in super().status().items() if k != "reason"}


class NotImplemented501(ApiError):
    """Kubernetes has it; kubeloop does not have it yet, and says so."""

    code, reason = 501, "NotImplemented"


class ServiceUnavailable(ApiError):
    """The server cannot answer now."""

    code, reason = 503, "ServiceUnavailable"


class RequestTimeout(ApiError):
    """The request took too long; what it asked for may have been done, or may be still."""

    code, reason = 504, "Timeout"

    def __init__(
        self,
        why: str = "request did not complete within requested timeout - context deadline exceeded",
        *,
        details: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"Timeout: {why}", details=details or {})


class RevisionTooLarge(RequestTimeout):
    """The client asks for a revision that has not happened, or not for who answers it."""

    def __init__(self, *, asked: int, current: int) -> None:
        cause = {"reason": _TOO_LARGE, "message": "Too large resource version"}
        super().__init__(
            f"Too large resource version: {asked}, current: {current}",
            details={"causes": [cause], "retryAfterSeconds": 1},
        )


_TOO_LARGE = "ResourceVersionTooLarge"


def is_revision_too_large(error: ApiError) -> bool:
    """Tell whether an error, perhaps read from a Status, is `RevisionTooLarge`."""
    causes = (error.details or {}).get("causes") or ()
    return error.code == 504 and any(cause.get("reason") == _TOO_LARGE for cause in causes)


def error_of(status: dict[str, Any]) -> ApiError:
    """Return the error that a v1.Status with status "Failure" tells of."""
    reason, code = status.get("reason", ""), status.get("code", 500)
    known = (c for c in _subclasses(ApiError) if (c.reason, c.code) == (reason, code))
    error = ApiError.__new__(next(known, ApiError))
    ApiError.__init__(error, status.get("message", ""), details=status.get("details"))
    if type(error) is ApiError:
        error.code, error.reason = code, reason
    return error


def _subclasses(base: type[ApiError]) -> list[type[ApiError]]:
    return [c for direct in base.__subclasses__() for c in (direct, *_subclasses(direct))]


def _details(resource: str, name: str) -> dict[str, Any]:
    """Return {name, group, kind}: "deployments.apps" is kind "deployments" of group "apps"."""
    plural, _, group = resource.partition(".")
    if "/" in resource:
        return {"name": name, "kind": resource}
    return {"name": name, **({"group": group} if group else {}), "kind": plural}


def _causes(causes: Sequence[Cause]) -> list[dict[str, str]]:
    told = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return [{key: text for key, text in cause.items() if text or key != "field"} for cause in told]
