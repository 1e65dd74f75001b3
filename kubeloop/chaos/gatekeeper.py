"""The gate of a simulated cluster: rules that faults put up, and what the watches are shown.

Each rule is for some client, verbs and resources. Those that a request matches stand one behind
another, the first one put up outermost: each may answer, or let the next one do it. What a watch
is shown comes from a `GateFeed` over the hub's cursor, which may be held back, hang and end.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import Expired
from kubeloop.chaos.calls import Calls
from kubeloop.net.gate import Feed, Hung, Open, Pass, Severed, Torn, Wake, Wanted, WatchEnded
from kubeloop.sim.transport import HOST
from kubeloop.store.facts import Fact
from kubeloop.store.routes import EVERYTHING

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage
    from kubeloop.store.watch import Cursor

ANY: Final = "*"
TESTER: Final = "test"  # Whoever sets the stage: no fault is meant for him unless it names him.
READS: Final = ("get", "list", "watch")
_TAKE: Final = 100_000

OpenNext = Callable[[Wanted, Wake], Coroutine[Any, Any, Feed]]
"""Has the next rule open a watch, or nobody but the hub."""

End = Literal["clean", "torn", "reset", "expired"]
"""How a watch ends: as if its time were up; in the middle of an event; with its connection; with
the event that the history has gone on without it."""


@dataclass(frozen=True, slots=True)
class Match:
    """Whom and what a rule is for.

    client:   the user or the agent of a client, "*" in it stands for anything.
    verb:     "create", "list", "watch", …; "read" and "write" for all such; "*" for all.
    resource: a resource id, or "*".
    """

    client: str = ANY
    verb: str = ANY
    resource: str = ANY

    def is_for(self, user: str, agent: str, verb: str, resource: str) -> bool:
        """Tell whether a request is one of those."""
        if agent == TESTER != self.client:
            return False
        if self.resource not in (ANY, resource):
            return False
        if self.verb not in (ANY, verb, "read" if verb in READS else "write"):
            return False
        return fnmatchcase(agent, self.client) or fnmatchcase(user, self.client)


class Rule:
    """What happens to some requests and watches; override what shall be otherwise.

    nth: of the requests it is for, the only one it concerns, counted from 1; 0: each of them.
    """

    def __init__(self, match: Match, *, nth: int = 0) -> None:
        self.match, self.nth = match, nth
        self.met = 0

    def meets(self, user: str, agent: str, verb: str, resource: str) -> bool:
        """Tell whether a request is concerned; it is counted."""
        if not self.match.is_for(user, agent, verb, resource):
            return False
        self.met += 1
        return self.nth in (0, self.met)

    def end(self) -> None:
        """Hear that it has been taken down."""

    async def ask(self, request: Request, go: Pass) -> Outcome:
        """Answer a request."""
        return await go(request)

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        """Open a watch."""
        return await go(wanted, wake)

    # Of watches that are open.

    def opened(self, feed: "GateFeed") -> None:
        """Hear that a watch it is for has been opened."""

    def horizon(self) -> int | None:
        """Return the newest revision its watches are shown; None for all."""
        return None

    hides_progress = False  # Whether its watches are not told of bookmarks.


class GateFeed:
    """What one watch is shown.

    wanted: what it asked for;  wake: has it take.
    """

    def __init__(self, keeper: "Gatekeeper", wanted: Wanted, wake: Wake, cursor: Feed) -> None:
        self.wanted, self.wake = wanted, wake
        self._keeper, self._cursor = keeper, cursor
        self._held: deque[Fact] = deque()  # Taken from the cursor, and not yet shown.
        self._end: End | None = None
        self._left = 0  # How many facts are shown before the end.
        self._shown = wanted.revision  # The newest.
        self._hung: asyncio.Future[None] | None = None

    # What a watch needs.

    @property
    def revision(self) -> int:
        """Up to where everything has been shown."""
        if self._keeper.hides_progress(self):
            return -1
        last = self._held[0].revision - 1 if self._held else self._cursor.revision
        horizon = self._keeper.horizon(self)
        return last if horizon is None else min(last, horizon)

    @property
    def behind(self) -> bool:
        """Whether there is something to take."""
        if self._hung is not None:
            return True
        shown = self._cursor.behind or self._may_show()
        return shown or (self._end not in (None, "torn") and not self._left)

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts. Raises: Expired, WatchEnded, Hung, Severed."""
        if self._hung is not None:
            raise Hung(self._hung)
        while self._cursor.behind and len(self._held) < limit:
            self._held += self._cursor.take(limit)
        self._held += self._cursor.take(limit)  # Also if there is nothing: to be woken again.
        facts: list[Fact] = []
        most = limit if self._end is None else min(limit, self._left)
        while len(facts) < most and self._may_show():
            facts.append(self._held.popleft())
        if facts:
            self._shown = facts[-1].revision
        if self._end is not None:
            self._left -= len(facts)
            if not facts and not self._left:
                self._finish(self._end)
        return facts

    def close(self) -> None:
        """Ask for no more."""
        self._keeper.closed(self)
        self._cursor.close()

    # What rules do to it.

    def end(self, how: End, *, after: int = 0) -> None:
        """End it, when it has been shown so many more facts; a torn one in the next."""
        self._end, self._left = how, after
        self.wake()

    def endure(self) -> None:
        """Do not end it after all, unless it is due."""
        if self._left or self._end == "torn":
            self._end = None

    def hang(self) -> None:
        """Show nothing more, and do not say so."""
        if self._hung is None:
            self._hung = asyncio.get_running_loop().create_future()

    def hang_up(self) -> None:
        """End a hanging one with its connection."""
        if self._hung is not None:
            self._hung.set_result(None)
            self._hung, self._end, self._left = None, "reset", 0
            self.wake()

    def _may_show(self) -> bool:
        if not self._held:
            return False
        horizon = self._keeper.horizon(self)
        return horizon is None or self._held[0].revision <= horizon

    def _finish(self, how: End) -> None:
        if how == "clean":
            raise WatchEnded
        if how == "expired":
            newest = max(self._keeper.durable, self._shown + 1)
            raise Expired.revision(asked=self._shown, oldest=newest)
        if how == "reset":
            raise Severed("the watch's connection is reset")
        if self._may_show():
            raise Torn(self._held[0])


class Gatekeeper:
    """Stands between the clients and the API server of a stage's cluster. Implements `net.Gate`.

    down:  hosts whose programs are dead: whatever they still try does not reach the cluster.
    calls: what clients were told of single objects.
    """

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self.down: set[str] = set()
        self.calls = Calls()
        self._rules: list[Rule] = []
        self._feeds: dict[GateFeed, None] = {}
        self._floors: list[tuple[Match, int]] = []  # Below which some clients may not watch.
        self._pulse: Cursor | None = None
        self._moved = asyncio.Event()

    # What `Cluster` calls.

    async def ask(self, request: Request, pass_on: Pass) -> Outcome:
        """Answer a request."""
        self._refuse_the_dead()
        verb = "watch" if request.options.get("watch") else request.verb
        handle = pass_on
        for rule in reversed(self._met(request.user, request.agent, verb, request.resource)):
            handle = partial(rule.ask, go=handle)
        with self.calls.told(request) as call:
            outcome = await handle(request)
            if call is not None:
                call.outcome = outcome
        return outcome

    async def open(self, wanted: Wanted, wake: Wake, pass_on: Open) -> Feed:
        """Open a watch."""
        self._refuse_the_dead()
        handle: OpenNext = partial(self._open, pass_on=pass_on)
        if not wanted.listed:
            for rule in reversed(self._met(wanted.user, wanted.agent, "watch", wanted.resource)):
                handle = partial(rule.open, go=handle)
        return await handle(wanted, wake)

    async def _open(self, wanted: Wanted, wake: Wake, pass_on: Open) -> Feed:
        for match, floor in self._floors:
            if wanted.revision < floor and _watches(match, wanted):
                raise Expired.revision(asked=wanted.revision, oldest=floor)
        feed = GateFeed(self, wanted, wake, pass_on(wanted, wake))
        self._feeds[feed] = None
        for rule in self._rules:
            if _watches(rule.match, wanted):
                rule.opened(feed)
        return feed

    def renew(self) -> None:
        """Hear that the stage has another cluster: nobody watches it yet."""
        self._feeds.clear()
        self._pulse = None
        if self._rules:
            self._follow()

    def sever(self) -> None:
        """Hear that the cluster has died: every watch is reset."""
        for feed in tuple(self._feeds):
            feed.hang_up()
            feed.end("reset")

    # What faults call.

    @property
    def durable(self) -> int:
        """The newest durable revision."""
        return self._stage.cluster.store.durable

    @property
    def floor(self) -> int:
        """The oldest revision one can read."""
        return self._stage.cluster.store.history.floor

    def put_up(self, rule: Rule) -> Callable[[], None]:
        """Have a rule be obeyed from now on; return what takes it down."""
        self._rules.append(rule)
        self._follow()

        def take_down() -> None:
            if rule in self._rules:
                self._rules.remove(rule)
                rule.end()
                self.beat()

        return take_down

    def feeds(self, match: Match) -> list[GateFeed]:
        """Return the open watches of some clients, the oldest first."""
        return [feed for feed in self._feeds if _watches(match, feed.wanted)]

    def forget(self, match: Match) -> None:
        """Let some clients never again watch from what is the past by now."""
        self._floors.append((match, self.durable))

    async def until(self, done: Callable[[], bool], *, within_s: float) -> bool:
        """Wait until something has come true by which the store goes on; tell whether it has."""
        try:
            async with asyncio.timeout(within_s):
                while not done():
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            return False
        return True

    def beat(self) -> None:
        """Hear that watches may be shown more than before."""
        if self._pulse is not None:
            self._pulse.take(_TAKE)
        self._moved.set()
        for feed in tuple(self._feeds):
            if feed.behind:
                feed.wake()

    # What feeds call.

    def horizon(self, feed: GateFeed) -> int | None:
        """Return the newest revision a watch is shown; None for all."""
        found = [rule.horizon() for rule in self._rules if _watches(rule.match, feed.wanted)]
        return min((one for one in found if one is not None), default=None)

    def hides_progress(self, feed: GateFeed) -> bool:
        """Tell whether a watch is not told how far it has come."""
        return any(r.hides_progress and _watches(r.match, feed.wanted) for r in self._rules)

    def closed(self, feed: GateFeed) -> None:
        """Hear that a watch reads no more."""
        self._feeds.pop(feed, None)

    # Parts.

    def _refuse_the_dead(self) -> None:
        if HOST.get() in self.down:
            raise ConnectionRefusedError(f"{HOST.get()} is dead")

    def _met(self, user: str, agent: str, verb: str, resource: str) -> list[Rule]:
        return [rule for rule in self._rules if rule.meets(user, agent, verb, resource)]

    def _follow(self) -> None:
        """Hear of everything that is published: then what watches may be shown is more."""
        if self._pulse is None:
            hub = self._stage.cluster.hub
            self._pulse = hub.open(resources=[EVERYTHING], revision=self.durable, wake=self.beat)


def _watches(match: Match, wanted: Wanted) -> bool:
    return match.is_for(wanted.user, wanted.agent, "watch", wanted.resource)
