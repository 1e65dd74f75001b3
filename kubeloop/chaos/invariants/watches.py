"""A watch skips nothing, repeats nothing and never goes back, whatever it asks for.

Source: Kubernetes API Concepts, "Efficient detection of changes".
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from kubeloop.api.errors import Expired
from kubeloop.chaos.gatekeeper import ANY, Match, OpenNext, Rule
from kubeloop.chaos.invariants.tale import DEPLOYMENTS, PODS, SLICES, Tale, Watcher, called
from kubeloop.chaos.watching import Broken
from kubeloop.net.gate import Feed, Wake, Wanted
from kubeloop.store.facts import Fact
from kubeloop.store.routes import routes_of, wants
from kubeloop.store.watch import Cursor, Hub

if TYPE_CHECKING:
    from kubeloop.chaos.stage import Stage

_WATCHES: Final[Sequence[Mapping[str, Any]]] = (
    {"resource": PODS, "node": "node-1"},
    {"resource": PODS, "labels": ("app", ("web",))},
    {"resource": SLICES, "namespace": "default"},
    {"resource": DEPLOYMENTS, "namespace": "default", "name": "web"},
    {"resource": "leases.coordination.k8s.io"},
)
"""What is watched in every run, so that each way to ask is; see `Hub.open`."""


Concerns = Callable[[Fact], bool]


class Watches(Watcher):
    """Every watch is told all that concerns it, once, in order.

    Those of clients are looked at as clients see them, from where they began to where they ended,
    whatever happened to them; and some of its own, one for each way in which one can ask.
    """

    name = "watches"

    def __init__(self, tale: Tale) -> None:
        super().__init__(tale)
        self.trouble: Broken | None = None  # What was seen while a client read.
        self._upto = 0
        self._hub: Hub | None = None
        self._own: list[tuple[Cursor, Wanted, Concerns]] = []

    def begin(self, stage: "Stage") -> None:
        super().begin(stage)
        stage.gate.put_up(_Witness(self))

    def heard(self, facts: Sequence[Fact]) -> None:
        before, self._upto = self._upto, facts[-1].revision
        super().heard(facts)
        hub = self.tale.cluster.hub
        if hub is not self._hub:  # Also if another cluster has taken the place of the first.
            self._hub, self._own = hub, _open(hub, before)
        resources = {change.resource for change in self.tale.follow(facts)}
        for cursor, wanted, concerns in self._own:
            if cursor.behind or wanted.resource in resources:
                shown = cursor.take(len(facts) + 1)
                _compare(shown, facts, wanted, concerns, before, "a watch")

    def look(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class _Witness(Rule):
    """Sees what clients are shown."""

    def __init__(self, watches: Watches) -> None:
        super().__init__(Match(ANY, "watch"))
        self._watches = watches

    async def open(self, wanted: Wanted, wake: Wake, go: OpenNext) -> Feed:
        return _Seen(self._watches, wanted, await go(wanted, wake))


class _Seen:
    """A client's feed, looked at."""

    def __init__(self, watches: Watches, wanted: Wanted, feed: Feed) -> None:
        self._watches, self._wanted, self._feed = watches, wanted, feed
        self._upto, self._concerns = wanted.revision, _concerns_of(wanted)

    @property
    def revision(self) -> int:
        return self._feed.revision

    @property
    def behind(self) -> bool:
        return self._feed.behind

    def take(self, limit: int = 1000) -> list[Fact]:
        facts = self._feed.take(limit)
        upto = max(self._feed.revision, facts[-1].revision if facts else 0)
        if upto > self._upto:
            kept = self._watches.tale.since(self._upto)
            if kept is not None:
                told = [fact for fact in kept if fact.revision <= upto]
                who = f"a watch of {self._wanted.agent or self._wanted.user}"
                try:
                    _compare(facts, told, self._wanted, self._concerns, self._upto, who)
                except Broken as error:  # Told where it ends the run, not the client.
                    self._watches.trouble = self._watches.trouble or error
            self._upto = upto
        return facts

    def close(self) -> None:
        self._feed.close()


def _open(hub: Hub, revision: int) -> list[tuple[Cursor, Wanted, Concerns]]:
    """Open the watches of our own, from a revision on; none if it has been forgotten."""
    own = []
    for wanted in (Wanted(revision=revision, **how) for how in _WATCHES):
        with suppress(Expired):
            cursor = hub.open(
                resources=[wanted.resource],
                revision=revision,
                namespace=wanted.namespace,
                name=wanted.name,
                node=wanted.node,
                labels=wanted.labels,
                wake=_nobody,
            )
            own.append((cursor, wanted, _concerns_of(wanted)))
    return own


def _concerns_of(wanted: Wanted) -> Concerns:
    """Return whether a fact is one that a watch asks for."""
    routes = routes_of(wanted.resource, wanted.namespace, wanted.name, wanted.node, wanted.labels)
    if len(routes) == 1:
        return wants(routes[0])
    concerns = [wants(route) for route in routes]
    return lambda fact: any(concern(fact) for concern in concerns)


def _compare(
    shown: Sequence[Fact],
    told: Sequence[Fact],
    wanted: Wanted,
    concerns: Concerns,
    since: int,
    who: str,
) -> None:
    """See that a watch was shown just what it asked for of what was told. Raises: Broken."""
    expected = list(filter(concerns, told))
    if [(f.revision, f.key) for f in shown] == [(f.revision, f.key) for f in expected]:
        return
    where = {
        name: value
        for name in ("namespace", "name", "node", "labels")
        if (value := getattr(wanted, name))
    }
    raise Broken(
        f"{who} of {wanted.resource} {where or ''} was shown {_listed(shown)} after revision "
        f"{since}, and should have been shown {_listed(expected)}"
    )


def _listed(facts: Sequence[Fact]) -> str:
    return ", ".join(f"{fact.revision} ({called(fact.key)})" for fact in facts) or "nothing"


def _nobody() -> None:
    """Wake nobody: it is looked at with every flush."""
