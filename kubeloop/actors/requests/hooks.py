"""Requests that wait for admission webhooks: handled as far as the webhooks, and then anew.

A request is handled in one turn, and a webhook takes its time. So a request that comes to one is
`Suspended`, with nothing written; whoever handles it asks the webhooks, notes what they say in its
`Attempt`, and has it handled again. The second time all is as it was the first time (chance and the
clock are noted, too), so it comes to the same question, and has the answer. If something was
written meanwhile that makes the question another, that is asked, as by Kubernetes when an update
is tried again.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import msgpack

from kubeloop.api.admission.matching import Attributes
from kubeloop.api.admission.webhooks import (
    MUTATING,
    VALIDATING,
    Hook,
    concerns,
    hooks_of,
)
from kubeloop.api.errors import ApiError, InternalError, error_of
from kubeloop.store.facts import prefix_of
from kubeloop.store.store import Store
from kubeloop.store.watch import Cursor

if TYPE_CHECKING:
    from kubeloop.actors.requests.converting import Conversion

ATTEMPTS_MAX: Final = 20  # So often the webhooks are asked about one request.
_VOLATILE: Final = ("resourceVersion", "managedFields")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Question:
    """What webhooks are asked about a request; they are asked one after the other.

    uids: of the reviews, as many as there may be.
    """

    hooks: tuple[Hook, ...]
    about: Attributes
    uids: tuple[str, ...]


class Suspended(Exception):
    """A request waits for webhooks. question: for those of admission, or of a conversion."""

    def __init__(self, question: "Question | Conversion", attempt: "Attempt") -> None:
        super().__init__("webhooks have to be asked")
        self.question, self.attempt = question, attempt


@dataclass(frozen=True, slots=True)
class Verdict:
    """What webhooks say together: the object as they want it, or why the request is refused.

    refusal: a v1.Status.
    """

    obj: Object | None
    warnings: list[str] = field(default_factory=list)
    refusal: Mapping[str, Any] | None = None

    def pack(self) -> bytes:
        """Return it in msgpack."""
        return bytes(msgpack.packb([self.obj, self.warnings, self.refusal]))

    @classmethod
    def unpack(cls, packed: bytes) -> "Verdict":
        """Return the verdict that was packed."""
        return cls(*msgpack.unpackb(packed))


class Attempt:
    """One request, however often it is handled: what was asked and drawn, and the clock."""

    def __init__(self) -> None:
        self.at: float | None = None
        self.warnings: list[str] = []
        self._draws: list[int] = []
        self._next = 0
        self.said: list[tuple[Any, Verdict]] = []
        self.converted: dict[tuple[Any, ...], bytes] = {}  # Objects in other versions.
        self.conversions = 0  # How often a webhook was asked to convert some.
        self.failure = ""  # Why it could not.

    def begin(self) -> None:
        """Hear that the request is handled from the beginning."""
        self._next = 0
        self.warnings = []

    def draw(self, bits: Callable[[], int]) -> int:
        """Return what was drawn at this place the first time."""
        if self._next == len(self._draws):
            self._draws.append(bits())
        self._next += 1
        return self._draws[self._next - 1]

    def note(self, question: Question, verdict: Verdict) -> None:
        """Note what the webhooks said."""
        self.said.append((_key(question.about, question.hooks), verdict))

    def answer(self, about: Attributes, hooks: tuple[Hook, ...]) -> Verdict | None:
        """Return what the webhooks said to this, None if they were not asked."""
        key = _key(about, hooks)
        return next((verdict for asked, verdict in self.said if asked == key), None)


def _key(about: Attributes, hooks: tuple[Hook, ...]) -> Any:
    """Return what makes a question this one; who manages fields since when does not."""
    names = [hook.key for hook in hooks]
    return names, about.operation, _lasting(about.obj), about.old


def _lasting(obj: Object | None) -> Object | None:
    if obj is None:
        return None
    metadata = {k: v for k, v in obj.get("metadata", {}).items() if k not in _VOLATILE}
    return {**obj, "metadata": metadata}


class Hooks:
    """The webhooks there are, read from the store when their configurations have changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: list[Hook] = []
        self._cursor: Cursor | None = None

    def _woken(self) -> None:
        self.close()  # What there is now is listed when somebody asks.

    def close(self) -> None:
        """Watch no more."""
        if self._cursor is not None:
            self._cursor.close()
            self._cursor = None

    def all(self) -> list[Hook]:
        """Return the webhooks, in the order in which they are asked."""
        if self._cursor is None:
            store = self._store
            self._cursor = store.hub.open(
                resources=[MUTATING, VALIDATING], revision=store.durable, wake=self._woken
            )
            self._cursor.take()
            self._known = hooks_of(
                (kind, msgpack.unpackb(value))
                for kind in (MUTATING, VALIDATING)
                for value in store.list(prefix_of(kind)).values
            )
        return self._known


def consult(
    attempt: Attempt,
    hooks: tuple[Hook, ...],
    about: Attributes,
    namespace: Mapping[str, Any] | None,
    uid: Callable[[], str],
) -> Object | None:
    """Return the object as the webhooks that are concerned want it.

    Raises: Suspended if they have to be asked; ApiError if one refuses.
    """
    asked = tuple(hook for hook in hooks if concerns(hook, about, namespace))
    if not asked:
        return about.obj
    uids = tuple(uid() for _ in range(2 * len(asked)))
    verdict = attempt.answer(about, asked)
    if verdict is None:
        if len(attempt.said) >= ATTEMPTS_MAX:
            raise InternalError("others change the object faster than webhooks can look at it")
        raise Suspended(Question(asked, copy.deepcopy(about), uids), attempt)
    attempt.warnings += verdict.warnings
    if verdict.refusal is not None:
        raise _Refused(verdict.refusal)
    return copy.deepcopy(verdict.obj)


class _Refused(ApiError):
    """What a webhook answered, or what became of asking it."""

    def __init__(self, status: Mapping[str, Any]) -> None:
        known = error_of(dict(status))
        super().__init__(str(status.get("message", "")), details=status.get("details"))
        self.code, self.reason = int(status.get("code") or known.code), status.get("reason") or ""

    def status(self) -> dict[str, Any]:
        """Return the v1.Status."""
        return {k: v for k, v in super().status().items() if k != "reason" or v}
