"""The gate: where somebody may stand between clients and the API server.

Whatever a client asks of a cluster, in this process or over REST, goes through `Cluster.ask`, and
whatever it watches through `Cluster.open`. If the cluster has a gate both are put to it: it passes
them on, or something else in their place, before or after some time, or not at all; it may lose
the answer, and decide what a watch is shown, and when. In production there is none, and it costs
what it costs to look. The controllers, the scheduler and the kubelets are parts of the cluster and
do not come by.

A client is known by its user, and by its agent: how it calls itself, over REST its User-Agent.
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import TooManyRequests
from kubeloop.store.facts import Fact
from kubeloop.store.watch import Labels

Wake = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a watch asks for, and who asks.

    resource:  the resource id: "pods", "deployments.apps".
    revision:  facts after this one.
    namespace, name, node, labels: as of `Hub.open`.
    listed:    whether the watch has begun by listing what is there, with a `Request` that has the
               option `watch`: then this is not another request.
    """

    resource: str
    revision: int
    namespace: str = ""
    name: str = ""
    node: str = ""
    labels: Labels | None = None
    user: str = ""
    agent: str = ""
    listed: bool = False


class Feed(Protocol):
    """What a watch reads: a hub's `Cursor`, or what a gate has put in its place."""

    @property
    def revision(self) -> int:
        """Up to here every fact for it has been taken; less than 0 if that must not be told."""

    @property
    def behind(self) -> bool:
        """Whether there is something to take, if only an error."""

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts, oldest first; [] if there are none.

        Raises: Expired; of a gate's feed also WatchEnded, Hung, ConnectionError.
        """

    def close(self) -> None:
        """Ask for no more."""


Pass = Callable[[Request], Coroutine[Any, Any, Outcome]]
Open = Callable[[Wanted, Wake], Feed]


class Gate(Protocol):
    """Stands between clients and the API server."""

    def ask(self, request: Request, pass_on: Pass) -> Coroutine[Any, Any, Outcome]:
        """Answer a request. pass_on: has the API server handle one.

        Raises: Overloaded, ConnectionError.
        """

    async def open(self, wanted: Wanted, wake: Wake, pass_on: Open) -> Feed:
        """Return what a watch is shown. pass_on: returns what there is.

        Raises: Expired, ApiError, ConnectionError.
        """


class Severed(ConnectionResetError):
    """The client's connection is reset; what it asked for may have been done."""


class Torn(Severed):
    """A watch's connection ends in the middle of the event that tells of `fact`."""

    def __init__(self, fact: Fact) -> None:
        super().__init__(f"the connection ended in the middle of revision {fact.revision}")
        self.fact = fact


class WatchEnded(Exception):
    """A watch is over, as when its time is up: it may be resumed."""


class Hung(Exception):
    """Nothing of a watch reaches the client, who is not told; take again when `over` is done."""

    def __init__(self, over: "asyncio.Future[None]") -> None:
        super().__init__("the watch hangs")
        self.over = over


class Overloaded(TooManyRequests):
    """Refused before it was looked at: REST tells it in plain text, it has no Status there.

    Source: apiserver's filters, priority-and-fairness and maxinflight.
    """

    text: ClassVar[str] = "Too many requests, please try again later."

    def __init__(self, *, retry_after_s: int = 1) -> None:
        super().__init__(self.text, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s
