"""What clients asked of single objects, and were told: remembered, to be looked at later."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import msgpack

from kubeloop.api.calls import Outcome, Request

TRACED: Final = "configmaps"  # What users alone write.
_VERBS: Final = ("get", "create", "update", "patch", "delete", "deletecollection")


@dataclass(slots=True)
class Call:
    """What a client asked, and was told. begin, end: numbers that order all of both.

    outcome: None if it was told of nothing.
    stale:   whether meanwhile somebody was served by a replica that lags, as a fault wants it.
    """

    request: Request
    begin: int
    end: int = 0
    outcome: Outcome | None = None
    stale: bool = False


class Calls:
    """Those of one run. lagged: how many answers came from a replica that lags."""

    def __init__(self) -> None:
        self.all: list[Call] = []
        self.lagged = 0
        self._now = 0

    @contextmanager
    def told(self, request: Request) -> Iterator[Call | None]:
        """Remember a call as long as it lasts; None if it is none to be remembered."""
        if request.resource != TRACED or request.verb not in _VERBS or request.subresource:
            yield None
            return
        lagged, self._now = self.lagged, self._now + 1
        call = Call(request, self._now)
        self.all.append(call)
        try:
            yield call
        finally:
            self._now += 1
            call.end, call.stale = self._now, self.lagged != lagged


def name_of(call: Call) -> str:
    """Return the name of the object a call is about, "" if the API server chose it and was lost."""
    request, outcome = call.request, call.outcome
    if request.name or request.verb != "create":
        return request.name
    metadata = msgpack.unpackb(request.body).get("metadata") or {}
    if not metadata.get("name") and outcome is not None and outcome.code == 201:
        metadata = msgpack.unpackb(outcome.body)["metadata"]
    return str(metadata.get("name") or "")
