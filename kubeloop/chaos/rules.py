"""What the rules at the gate do: how an API server fails its clients, in Kubernetes' own words.

Sources: apiserver's endpoints/handlers/finisher (504), util/notfoundhandler (503 after a restart),
filters/priority-and-fairness (429 in plain text), storage/cacher ("storage is (re)initializing"),
storage/etcd3 (500 without a reason).
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Literal

import msgpack

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import (
    ApiError,
    Conflict,
    NotFound,
    RequestTimeout,
    RevisionTooLarge,
    ServiceUnavailable,
    TooManyRequests,
    Unexplained,
)
from kubeloop.chaos.gatekeeper import End, GateFeed, Gatekeeper, Match, OpenNext, Rule
from kubeloop.net.gate import Feed, Overloaded, Pass, Severed, Wake, Wanted

FRESH_S: Final = 3.0  # So long kube-apiserver's watch cache waits for a revision: blockTimeout.
_TRIES: Final = 3

Answer = Literal["500", "503", "504", "reset"]
"""What a client hears instead of an answer; "reset": nothing, its connection ends."""


def failure(answer: str) -> Exception:
    """Return what a client hears."""
    match answer:
        case "500":
            return Unexplained("etcdserver: request timed out")
        case "503":
            return ServiceUnavailable(
                "the request has been made before all known HTTP paths have been installed, "
                "please try again",
                details={"retryAfterSeconds": 5},
            )
        case "504":
            return RequestTimeout()
    return Severed("the connection is reset by the API server")


def told(error: Exception, request: Request, revision: int) -> Outcome:
    """Return the outcome that is a Status. Raises: what has none."""
    if isinstance(error, ApiError) and not isinstance(error, Overloaded):
        return Outcome(request.tag, error.code, revision, msgpack.packb(error.status()))
    raise error


class Fails(Rule):
    """Nothing is done, and the client is told so, or of nothing."""

    def __init__(self, match: Match, error: Callable[[], Exception], *, nth: int = 0) -> None:
        super().__init__(match, nth=nth)
        self.error = error

    async def ask(self, request: Request, go: Pass) -> Outcome:
        return told(self.error(), request, 0)

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        raise self.error()


class Forgets(Fails):
    """What is asked is done, and the client is not told."""

    async def ask(self, request: Request, go: Pass) -> Outcome:
        outcome = await go(request)
        return told(self.error(), request, outcome.revision)

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        (await go(wanted, wake)).close()
        raise self.error()


class Slow(Rule):
    """It takes longer, before anything is done, or after it."""

    def __init__(self, match: Match, *, delay_s: float, done: bool, nth: int = 0) -> None:
        super().__init__(match, nth=nth)
        self.delay_s, self.done = delay_s, done

    async def ask(self, request: Request, go: Pass) -> Outcome:
        if not self.done:
            await asyncio.sleep(self.delay_s)
            return await go(request)
        outcome = await go(request)
        await asyncio.sleep(self.delay_s)
        return outcome

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        await asyncio.sleep(self.delay_s)
        return await go(wanted, wake)


class Conflicts(Rule):
    """Who updates or patches what there is hears that somebody else was faster."""

    async def ask(self, request: Request, go: Pass) -> Outcome:
        if request.verb not in ("update", "patch"):
            return await go(request)
        read = replace(request, verb="get", subresource="", body=b"", options={})
        found = await go(read)
        if found.code != 200:
            return await go(request)  # There is nothing that somebody could have changed.
        return told(Conflict.modified(request.resource, request.name), request, found.revision)


class EndsWatches(Rule):
    """Watches end: those there are now, and later ones when they have told something.

    after: how many facts each still tells.
    """

    def __init__(self, match: Match, keeper: Gatekeeper, *, how: End, after: int) -> None:
        super().__init__(match)
        self.how, self.after = how, after
        self._feeds = keeper.feeds(match)
        for feed in self._feeds:
            feed.end(how, after=after)

    def opened(self, feed: GateFeed) -> None:
        self._feeds.append(feed)
        feed.end(self.how, after=max(1, self.after))

    def end(self) -> None:
        """Let those live on that have not ended."""
        for feed in self._feeds:
            feed.endure()


class HidesProgress(Rule):
    """Watches are not told of bookmarks."""

    hides_progress = True


class Holds(Rule):
    """Watches are shown nothing that comes after a revision."""

    def __init__(self, match: Match, revision: int) -> None:
        super().__init__(match)
        self._revision = revision

    def horizon(self) -> int:
        return self._revision


class Stale(Rule):
    """A client is served by a replica that is some revisions behind.

    behind: how many, at any time; or if it `stands` still: when it stopped.
    cached: whether reads for which a client asks for the newest are served from the store, as
            Kubernetes promises it.
    """

    def __init__(
        self, match: Match, keeper: Gatekeeper, *, behind: int, stands: bool, cached: bool
    ) -> None:
        super().__init__(match)
        self._keeper, self.behind, self.cached = keeper, behind, cached
        self._stood = keeper.durable - behind if stands else None
        self._healed = False

    @property
    def revision(self) -> int:
        """Which revision the replica is at."""
        if self._healed:
            return self._keeper.durable
        at = self._keeper.durable - self.behind if self._stood is None else self._stood
        return max(1, self._keeper.floor, at)

    def horizon(self) -> int:
        return self.revision

    def end(self) -> None:
        """Hear that the replica has caught up."""
        self._healed = True

    async def ask(self, request: Request, go: Pass) -> Outcome:
        version = str(request.options.get("resourceVersion") or "")
        exact = request.options.get("resourceVersionMatch") == "Exact"
        paged = request.options.get("continue") or (exact and version)
        if request.verb not in ("get", "list") or paged or request.subresource:
            return await go(request)
        if (self.cached and not version) or not (version or "0").isdecimal():
            return await go(request)
        self._keeper.calls.lagged += 1
        asked = int(version or 0)
        if not await self._keeper.until(lambda: self.revision >= asked, within_s=FRESH_S):
            late = RevisionTooLarge(asked=asked, current=self.revision)
            return told(late, request, self.revision)
        for _ in range(_TRIES):
            outcome = await go(self._at(request, self.revision))
            if outcome.code != 410:  # Else the past was forgotten while it was on its way.
                break
        return outcome if request.verb == "list" else _one(outcome, request)

    @staticmethod
    def _at(request: Request, revision: int) -> Request:
        """Return a request for the list of what was there at a revision."""
        exact = {"resourceVersion": str(revision), "resourceVersionMatch": "Exact"}
        if request.verb == "list":
            return replace(request, options={**request.options, **exact})
        named: dict[str, Any] = {"fieldSelector": f"metadata.name={request.name}", **exact}
        return replace(request, verb="list", name="", options=named)


def _one(outcome: Outcome, request: Request) -> Outcome:
    """Return the outcome of a get from that of a list of one."""
    if outcome.code != 200:
        return outcome
    if not outcome.items:
        return told(NotFound(request.resource, request.name), request, outcome.revision)
    (item,) = outcome.items
    revision = int(msgpack.unpackb(item)["metadata"]["resourceVersion"])
    return Outcome(request.tag, 200, revision, item)


class CrashesAfter(Rule):
    """When what a client asks is done its program dies."""

    def __init__(self, match: Match, crash: Callable[[], None], *, nth: int) -> None:
        super().__init__(match, nth=nth)
        self._crash = crash

    async def ask(self, request: Request, go: Pass) -> Outcome:
        await go(request)
        self._crash()
        raise Severed("the client has died")

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        self._crash()
        raise Severed("the client has died")


def busy(*, retry_after_s: int, plain: bool) -> Exception:
    """Return the refusal of an API server with too much to do; plain: in front of everything."""
    if plain:
        return Overloaded(retry_after_s=retry_after_s)
    return TooManyRequests("storage is (re)initializing", retry_after_s=retry_after_s)
