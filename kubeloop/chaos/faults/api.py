"""What an API server does to its clients when it is overloaded, restarted or lagging.

`client` says to whom: a user, or how a client calls itself (over REST its User-Agent: "kopf/*"),
"*" to everybody. The cluster's own controllers and kubelets are not among them. See docs/faults.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, Final

from kubeloop.api.resources import RESOURCES
from kubeloop.chaos import rules
from kubeloop.chaos.faults.base import Fault, Heal
from kubeloop.chaos.gatekeeper import ANY, Match, Rule
from kubeloop.chaos.stage import Stage
from kubeloop.chaos.values import FLAG, Mostly, OneOf, Real, Whole, drawn, kind

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


class Who:
    """Any client by a pattern of its name; drawn it is everybody."""

    simplest = ANY
    told = "a pattern of a client's name, `'*'` for everybody"

    def draw(self, chance: Random) -> str:
        return ANY

    def simpler(self, value: str) -> Sequence[str]:
        return ()

    def check(self, value: Any) -> str:
        return "" if isinstance(value, str) and value else "must be a text, '*' for everybody"

    def strategy(self) -> "SearchStrategy[str]":
        from hypothesis import strategies as st

        return st.just(ANY)


class What(Mostly):
    """Any resource by its id, those of custom kinds, too; drawn it is a built-in one, or all."""

    told = "a resource id, as `'pods'` or `'foos.example.com'`; `'*'` for all"

    def check(self, value: Any) -> str:
        return "" if isinstance(value, str) and value else "must be a resource id, '*' for all"

    def simpler(self, value: Any) -> Sequence[Any]:
        return super().simpler(value) if value in self.values else (ANY,)


WHO: Final = Who()
VERBS: Final = Mostly(
    *(ANY, "write", "read", "create", "update", "patch", "delete", "deletecollection"),
    *("get", "list", "watch"),
)
WRITES: Final = OneOf(*("write", "create", "update", "patch", "delete"))
KINDS_OF_OBJECTS: Final = What(ANY, *RESOURCES)
NTH: Final = Mostly(*range(21))


@dataclass(frozen=True, kw_only=True)
class OfClient(Fault):
    """A fault for some clients, and some resources."""

    client: str = drawn(WHO)
    resource: str = drawn(KINDS_OF_OBJECTS)

    @property
    def watches(self) -> Match:
        """The watches it is for."""
        return Match(self.client, "watch", self.resource)


@dataclass(frozen=True, kw_only=True)
class OfRequests(OfClient):
    """A fault of requests. nth: the only one concerned, counted from its beginning; 0: each."""

    verb: str = drawn(VERBS)
    nth: int = drawn(NTH)

    @property
    def match(self) -> Match:
        """The requests it is for."""
        return Match(self.client, self.verb, self.resource)

    def begin(self, stage: Stage) -> Heal:
        return stage.gate.put_up(self.rule())

    def rule(self) -> Rule:
        """Return what happens to them; override."""
        raise NotImplementedError


@kind("api-busy")
@dataclass(frozen=True, kw_only=True)
class ApiBusy(OfRequests):
    """The API server has too much to do: 429 and Retry-After.

    plain: in plain text, as API Priority and Fairness refuses; else with a Status, as a resource
           that is not ready to be served.
    """

    retry_after_s: int = drawn(Whole(1, 10))
    plain: bool = drawn(FLAG)

    def rule(self) -> Rule:
        error = partial(rules.busy, retry_after_s=self.retry_after_s, plain=self.plain)
        return rules.Fails(self.match, error, nth=self.nth)


@kind("api-fails")
@dataclass(frozen=True, kw_only=True)
class ApiFails(OfRequests):
    """Nothing is done, and the client hears 500, 503, 504, or only that its connection is reset."""

    answer: str = drawn(OneOf("500", "503", "504", "reset"))

    def rule(self) -> Rule:
        return rules.Fails(self.match, partial(rules.failure, self.answer), nth=self.nth)


@kind("answer-lost")
@dataclass(frozen=True, kw_only=True)
class AnswerLost(OfRequests):
    """What is asked is done, and the client hears that it took too long, or nothing."""

    verb: str = drawn(Mostly("write", *(verb for verb in VERBS.values if verb != "write")))
    answer: str = drawn(OneOf("504", "500", "reset"))

    def rule(self) -> Rule:
        return rules.Forgets(self.match, partial(rules.failure, self.answer), nth=self.nth)


@kind("api-slow")
@dataclass(frozen=True, kw_only=True)
class ApiSlow(OfRequests):
    """Answers take longer. done: what is asked is done at once, and only the answer is late."""

    delay_s: float = drawn(Real(0.0, 30.0))
    done: bool = drawn(FLAG)

    def rule(self) -> Rule:
        return rules.Slow(self.match, delay_s=self.delay_s, done=self.done, nth=self.nth)


@kind("api-restarts")
@dataclass(frozen=True, kw_only=True)
class ApiRestarts(OfClient):
    """The API server of a client is down for a while: watches end, requests get no answer."""

    def begin(self, stage: Stage) -> Heal:
        match = Match(self.client, ANY, self.resource)
        heal = stage.gate.put_up(rules.Fails(match, partial(rules.failure, "reset")))
        for feed in stage.gate.feeds(self.watches):
            feed.end("reset")
        return heal


@kind("conflicts")
@dataclass(frozen=True, kw_only=True)
class ConflictStorm(OfClient):
    """Updates and patches are refused with 409, as if somebody else had always just written."""

    nth: int = drawn(NTH)

    def begin(self, stage: Stage) -> Heal:
        match = Match(self.client, "write", self.resource)
        return stage.gate.put_up(rules.Conflicts(match, nth=self.nth))


@kind("watch-ends")
@dataclass(frozen=True, kw_only=True)
class WatchEnds(OfClient):
    """Watches end: those there are, and while it lasts new ones, too, once they told something.

    how:   as if their time were up; in the middle of an event; with a reset; with an ERROR event:
           410, too old resource version.
    after: how many events each still tells before; a reset takes with it what is on its way.
    """

    how: str = drawn(OneOf("clean", "torn", "reset", "expired"))
    after: int = drawn(Whole(0, 20))

    def begin(self, stage: Stage) -> Heal:
        how: Any = self.how
        rule = rules.EndsWatches(self.watches, stage.gate, how=how, after=self.after)
        return stage.gate.put_up(rule)


@kind("watch-hangs")
@dataclass(frozen=True, kw_only=True)
class WatchHangs(OfClient):
    """The watches there are say nothing more, not even that they end; later they are reset."""

    def begin(self, stage: Stage) -> Heal:
        feeds = stage.gate.feeds(self.watches)
        for feed in feeds:
            feed.hang()

        def heal() -> None:
            for feed in feeds:
                feed.hang_up()

        return heal


@kind("bookmarks-lost")
@dataclass(frozen=True, kw_only=True)
class BookmarksLost(OfClient):
    """Watches over REST are not told how far they have come; of the end of a list they are."""

    def begin(self, stage: Stage) -> Heal:
        return stage.gate.put_up(rules.HidesProgress(self.watches))


@kind("compaction")
@dataclass(frozen=True, kw_only=True)
class Compaction(Fault):
    """The store forgets all history: whoever lists on, or watches from before, hears 410."""

    def begin(self, stage: Stage) -> None:
        if not stage.alive:
            stage.note(f"{self}: the cluster does not run")
            return
        stage.cluster.store.compact(stage.gate.durable)
        stage.gate.beat()  # A replica cannot be further behind than that.


@kind("stale-reads")
@dataclass(frozen=True, kw_only=True)
class StaleReads(OfClient):
    """A client's connections end, and from then on a replica that lags serves it: time goes back.

    behind: how many revisions it lags.
    stands: it stands still, and does not go on at that distance.
    cached: gets and lists without a resourceVersion are of the newest, as Kubernetes promises it;
            else they are stale, too, and what fails may have relied on that promise.

    Writes are done in the store at once. Whoever asks for what is newer than the replica has waits
    for 3 s and hears 504, "Too large resource version"; a watch waits until it is there.
    """

    behind: int = drawn(Whole(1, 100))
    stands: bool = drawn(FLAG)
    cached: bool = drawn(FLAG)

    def begin(self, stage: Stage) -> Heal:
        match = Match(self.client, ANY, self.resource)
        how = {"stands": self.stands, "cached": self.cached}
        heal = stage.gate.put_up(rules.Stale(match, stage.gate, behind=self.behind, **how))
        for feed in stage.gate.feeds(self.watches):
            feed.end("reset")
        return heal


@kind("states-missed")
@dataclass(frozen=True, kw_only=True)
class StatesMissed(OfClient):
    """Watches are shown nothing; then they end with 410, and nothing older can be watched.

    So the client lists again, and never sees what was in between.
    """

    def begin(self, stage: Stage) -> Heal:
        gate, watches = stage.gate, self.watches
        take_down = gate.put_up(rules.Holds(watches, gate.durable))

        def heal() -> None:
            feeds = gate.feeds(watches)
            gate.forget(watches)
            for feed in feeds:
                feed.end("expired")
            take_down()

        return heal


@kind("operator-crashes")
@dataclass(frozen=True, kw_only=True)
class OperatorCrashes(Fault):
    """The program beside the cluster is killed, and started again at the end."""

    def begin(self, stage: Stage) -> Heal | None:
        if stage.program is None:
            stage.note(f"{self}: there is no operator")
            return None
        stage.program.crash()
        return stage.program.revive


@kind("crash-at-write")
@dataclass(frozen=True, kw_only=True)
class CrashAtWrite(OfClient):
    """The program is killed when a write of its is done, before it hears so: the nth one.

    down_s: for how many seconds it is dead.
    """

    verb: str = drawn(WRITES)
    nth: int = drawn(Whole(1, 20))
    down_s: float = drawn(Real(0.0, 30.0))

    def begin(self, stage: Stage) -> Heal | None:
        program = stage.program
        if program is None:
            stage.note(f"{self}: there is no operator")
            return None

        def crash() -> None:
            stage.note("the operator is killed after a write")
            program.crash()
            stage.heal_later(self.down_s, program.revive, "the operator")

        match = Match(self.client, self.verb, self.resource)
        return stage.gate.put_up(rules.CrashesAfter(match, crash, nth=self.nth))
