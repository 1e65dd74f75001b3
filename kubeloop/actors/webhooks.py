"""Asking admission webhooks: one after the other, and some again.

Source: Kubernetes, "Dynamic Admission Control": ordering, reinvocation, failure policy, timeouts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from kubeloop.actors.requests.hooks import Question, Verdict
from kubeloop.api.admission.webhooks import (
    MUTATING,
    BadAnswer,
    CallFailed,
    Hook,
    Key,
    failed,
    judged,
    review,
)
from kubeloop.api.errors import ApiError


class Caller(Protocol):
    """The way to a webhook."""

    async def call(
        self, config: Mapping[str, Any], review: Mapping[str, Any], timeout_s: int
    ) -> Any:
        """Send a review to where a clientConfig says; return the answer, decoded.

        Raises: CallFailed.
        """


class Nobody:
    """A caller where nobody can be called: of a copy of a cluster, or of a tape."""

    async def call(
        self, config: Mapping[str, Any], review: Mapping[str, Any], timeout_s: int
    ) -> Any:
        """Fail."""
        raise CallFailed("webhooks cannot be called from here")


async def ask(caller: Caller, question: Question) -> Verdict:
    """Return what the webhooks of a question say."""
    asking = _Asking(caller, question)
    try:
        await asking.round(question.hooks)
        again = [hook for hook in question.hooks if hook.asks_again and asking.saw_less(hook)]
        await asking.round(again)
    except ApiError as refusal:
        return Verdict(None, asking.warnings, refusal.status())
    return Verdict(asking.obj, asking.warnings)


class _Asking:
    """One question being asked."""

    def __init__(self, caller: Caller, question: Question) -> None:
        self._caller, self._question = caller, question
        self._uids = iter(question.uids)
        self._seen: dict[Key, Any] = {}  # What each made of it: others may have changed it since.
        self.obj = question.about.obj
        self.warnings: list[str] = []

    def saw_less(self, hook: Hook) -> bool:
        """Tell whether somebody changed the object after this webhook had it."""
        return hook.kind == MUTATING and self._seen.get(hook.key, self.obj) != self.obj

    async def round(self, hooks: Sequence[Hook]) -> None:
        """Ask some webhooks. Raises: ApiError if one refuses."""
        for hook in hooks:
            await self._one(hook)
            self._seen[hook.key] = self.obj

    async def _one(self, hook: Hook) -> None:
        uid = next(self._uids)
        about = replace(self._question.about, obj=self.obj)
        asked = review(hook, about, uid)
        try:
            answer = await self._caller.call(hook.told["clientConfig"], asked, hook.timeout_s)
            self.obj, told = judged(hook, self.obj, uid, answer)
        except (CallFailed, BadAnswer) as error:
            if hook.must_answer:
                raise failed(hook, str(error)) from None
        else:
            self.warnings += told
