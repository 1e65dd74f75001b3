"""A cluster as its own parts ask it: past the gate that stands before its clients."""

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.catalogue import Catalogue
from kubeloop.net.gate import Feed, Wake, Wanted


@dataclass(frozen=True, slots=True)
class Inside:
    """What `Client` needs of a cluster. Implements its `Backend`."""

    asked: Callable[[Request], Coroutine[Any, Any, Outcome]]
    watched: Callable[[Wanted, Wake], Feed]
    catalogue: Callable[[], Catalogue]

    async def ask(self, request: Request) -> Outcome:
        """Have the API server handle a request."""
        return await self.asked(request)

    async def open(self, wanted: Wanted, wake: Wake) -> Feed:
        """Return what a watch reads."""
        return self.watched(wanted, wake)
