"""Those who watch a run: monitors hear of every fact, and the first who objects is remembered."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from kubeloop.actors.requests.definitions import Definitions
from kubeloop.api.catalogue import DEFINITIONS
from kubeloop.api.errors import Expired
from kubeloop.chaos.stage import Mark, Stage
from kubeloop.store.facts import Fact

_TAKE: Final = 100_000


class Broken(AssertionError):
    """What must hold does not; the message says what was seen."""


class Monitor(Protocol):
    """Watches a run. What it raises as `Broken` ends the run."""

    name: str

    def begin(self, stage: Stage) -> None:
        """Hear that a cluster is ready."""

    def heard(self, facts: Sequence[Fact]) -> None:
        """Hear of the facts of a flush, oldest first, before anything else happens."""

    def end(self) -> None:
        """Look at a cluster that has settled, after everything was healed."""


@dataclass
class Outcome:
    """How a run went.

    hash:     of every fact in the store's log: equal for equal runs.
    revision: the last one;  facts: how many there were.
    now_s:    the virtual time of its end.
    marks:    what happened, for a timeline.
    history:  every fact, oldest first, if it was asked for.
    """

    hash: str = ""
    revision: int = 0
    facts: int = 0
    now_s: float = 0.0
    marks: list[Mark] = field(default_factory=list)
    history: list[Fact] = field(default_factory=list)


class Watching:
    """Has monitors hear of everything that becomes true on a stage.

    outcome: how it goes;  keep: whether it tells every fact.
    broken:  fails with the first `Broken`;  culprit: the name of the monitor who raised it.
    """

    def __init__(self, stage: Stage, monitors: Sequence[Monitor], *, keep: bool = False) -> None:
        self.stage, self.monitors, self.keep = stage, monitors, keep
        self.outcome = Outcome(marks=stage.marks)
        self.broken: asyncio.Future[None] = stage.loop.create_future()
        self.culprit = ""
        self._hash = hashlib.sha256()

    def begin(self) -> None:
        """Begin with all that is true by now. Raises: Broken."""
        for monitor in self.monitors:
            self.culprit = monitor.name
            monitor.begin(self.stage)
        self.culprit = ""
        self._open()
        self.stage.followers.append(self._follow)

    def end(self) -> None:
        """Look at the cluster at rest. Raises: Broken."""
        self.check()
        for monitor in self.monitors:
            self.culprit = monitor.name
            monitor.end()

    def check(self) -> None:
        """Raise what a monitor has raised, if one has. Raises: Broken."""
        if self.broken.done():
            self.broken.result()

    def close(self) -> Outcome:
        """Hear no more; return how it went."""
        self._cursor.close()
        if self.broken.done():
            self.broken.exception()  # Whoever wanted to know has asked.
        return self.told()

    def told(self) -> Outcome:
        """Return how it has gone so far."""
        self.outcome.hash = self._hash.hexdigest()
        self.outcome.now_s = self.stage.loop.time()
        return self.outcome

    def _follow(self) -> None:
        """Go on with the cluster that has taken the place of another."""
        self._cursor.close()
        self._open()

    def _open(self) -> None:
        """Hear of every kind there is, each by its own way: what one of them tells wrong shows."""
        cluster, revision = self.stage.cluster, self.outcome.revision
        try:
            kinds = list(Definitions(cluster.store).catalogue(revision).by_id)
        except Expired:
            kinds = list(cluster.catalogue().by_id)
        self._cursor = cluster.hub.open(resources=kinds, revision=revision, wake=self._hear)
        self._hear()

    def _hear(self) -> None:
        facts = self._cursor.take(_TAKE)
        defines = next((f.revision for f in facts if f.resource == DEFINITIONS), None)
        if defines is None:
            self._tell(facts)
            return
        self._tell([fact for fact in facts if fact.revision <= defines])
        self._cursor.close()
        self._open()  # There may be another kind from then on.

    def _tell(self, facts: Sequence[Fact]) -> None:
        if not facts:
            return
        outcome = self.outcome
        outcome.facts += len(facts)
        outcome.revision = facts[-1].revision
        if self.keep:
            outcome.history += facts
        for fact in facts:
            self._hash.update(fact.encoded)
        for monitor in self.monitors:
            try:
                monitor.heard(facts)
            except Broken as error:
                if not self.broken.done():
                    self.culprit = monitor.name
                    self.broken.set_exception(error)
                return
