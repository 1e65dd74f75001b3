"""The watch hub: every fact goes to those who asked for it, once, in order. Pure.

All cursors on a route share one trail, the list of its facts; a cursor is no more than a position
in the trail of each of its routes. So a fact costs the trails it belongs to and the watchers that
are idle, however many others there are; and a watcher that does not take what it is given keeps
nothing alive, delays nobody, and is told `Expired` once its position is forgotten: by the history,
or because too much came after it.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Final

from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact
from kubeloop.store.history import History
from kubeloop.store.routes import Labels, Route, Routing, routes_of, wants

__all__ = ["BEHIND_MAX", "Cursor", "Hub", "Labels"]

BEHIND_MAX: Final = 100_000  # Facts that may wait for a watcher, at 16 bytes each.
_SWEEP_MIN: Final = 256  # So many facts are published before all trails are looked at.
_revision: Final = attrgetter("revision")


class Trail:
    """The published facts of one route, and the cursors on it.

    since:   the revision after which it is complete.
    numbers: of the facts: of the publication, which orders the facts of all trails.
    start:   the position of the first fact.
    most:    how many facts it keeps: `BEHIND_MAX`, and what the one who began the farthest back
             had before him, so that whoever reads an old history steadily may do so.
    idle:    those to be woken by the next fact.
    """

    __slots__ = ("cursors", "facts", "idle", "most", "numbers", "since", "start")

    def __init__(self, since: int, most: int) -> None:
        self.since, self.most = since, most
        self.facts: list[Fact] = []
        self.numbers: list[int] = []
        self.start = 0
        self.cursors = 0
        self.idle: dict[Cursor, None] = {}

    def position(self, revision: int) -> int:
        """Return the position of the first fact after `revision`."""
        return self.start + bisect_right(self.facts, revision, key=_revision)

    def prepend(self, since: int, facts: Sequence[Fact], numbers: Sequence[int]) -> None:
        """Add what came before the first fact; the positions of the others stay."""
        self.facts[:0], self.numbers[:0] = facts, numbers
        self.start -= len(facts)
        self.since = since
        self.most += len(facts)

    def forget(self, floor: int) -> None:
        """Drop the facts up to `floor`, and what is too much: always whole revisions."""
        surplus = len(self.facts) - self.most
        if surplus > 0:
            floor = max(floor, self.facts[surplus - 1].revision)
        count = bisect_right(self.facts, floor, key=_revision)
        if count:  # Complete after the last that goes, not only after the floor.
            self._drop(count, self.facts[count - 1].revision)

    def lose(self, revision: int) -> None:
        """Hear that facts until `revision` will never be told: every position is too old."""
        self._drop(len(self.facts), revision)
        self.start += 1

    def _drop(self, count: int, since: int) -> None:
        del self.facts[:count], self.numbers[:count]
        self.start += count
        self.since = since


class Cursor:
    """A watcher's place in the stream of facts; of those of one route, or see `_Merged`.

    revision: every fact for it up to here has been taken; advances also without facts.
    wake:     called when a fact was published, once until the next take.
    asleep:   whether it is to be called.
    """

    __slots__ = ("_hub", "_position", "_trail", "asleep", "revision", "routes", "wake")

    _trail: Trail
    _position: int

    def __init__(
        self, hub: "Hub", routes: Sequence[Route], revision: int, wake: Callable[[], None]
    ) -> None:
        self.revision, self.wake, self.routes = revision, wake, tuple(routes)
        self.asleep = True
        self._hub = hub
        trails = [hub.enter(route, self, revision) for route in routes]
        self._follow(trails, [trail.position(revision) for trail in trails])

    @property
    def behind(self) -> bool:
        """Whether there is something to take."""
        return self._position < self._trail.start + len(self._trail.facts)

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts, oldest first; [] if there are none.

        Raises: Expired if some of them are forgotten: list again.
        """
        assert limit >= 1
        trail, hub = self._trail, self._hub  # Thousands do this for every fact: keep it short.
        self.asleep = True
        trail.idle[self] = None
        facts = trail.facts
        first, size = self._position - trail.start, len(facts)
        if first < 0:
            first = self._sought(trail, first)
        elif first < size:
            oldest = facts[first].revision
            if oldest <= self.revision or oldest <= hub.history.floor:
                first = self._sought(trail, first)
        taken = facts[first : first + limit]
        if first + limit < size:
            self._position = trail.start + first + limit
            self.revision = taken[-1].revision - 1  # More of that revision may follow.
        else:
            self._position = trail.start + size
            if hub.revision > self.revision:
                self.revision = hub.revision
        return taken

    def rest(self) -> None:
        """Hear that it is being woken: one call is enough until it takes."""
        self.asleep = False

    def close(self) -> None:
        """Ask for no more; harmless if it is closed."""
        for route in self.routes:
            self._hub.leave(route, self)
        self.routes, self.asleep = (), False
        self._follow([Trail(0, 0)], [0])

    def _follow(self, trails: Sequence[Trail], positions: Sequence[int]) -> None:
        (self._trail,), (self._position,) = trails, positions

    def _sought(self, trail: Trail, first: int) -> int:
        """Return the index of the fact to go on with, which is `first` if nothing is wrong.

        Raises: Expired if it is forgotten.
        """
        if first < 0 and trail.since > self.revision:
            raise Expired.revision(asked=self.revision, oldest=trail.since)
        facts, floor = trail.facts, self._hub.history.floor
        if first < 0 or (first < len(facts) and facts[first].revision <= self.revision):
            first = bisect_right(facts, self.revision, key=_revision)  # It began in the future.
        if first < len(facts) and facts[first].revision <= floor:
            raise Expired.revision(asked=self.revision, oldest=floor)
        return first


class _Merged(Cursor):
    """A place in the facts of several routes, in the order they were published."""

    __slots__ = ("_positions", "_trails")

    @property
    def behind(self) -> bool:
        for trail, position in zip(self._trails, self._positions, strict=True):
            if position < trail.start + len(trail.facts):  # Faster than any(…).
                return True
        return False

    def take(self, limit: int = 1000) -> list[Fact]:
        self.asleep = True
        waiting: list[tuple[int, Trail, int]] = []
        for index, (trail, position) in enumerate(zip(self._trails, self._positions, strict=True)):
            trail.idle[self] = None
            first = position - trail.start
            if first != len(trail.facts):
                waiting.append((index, trail, self._sought(trail, first)))
        if not waiting:
            taken: list[Fact] = []
        elif len(waiting) == 1:
            ((index, trail, first),) = waiting
            taken = trail.facts[first : first + limit]
            self._positions[index] = trail.start + first + len(taken)
        else:
            taken = self._merged(waiting, limit)
        if self.behind:
            self.revision = max(self.revision, taken[-1].revision - 1)
        else:
            self.revision = max(self.revision, self._hub.revision)
        return taken

    def _merged(self, waiting: Sequence[tuple[int, Trail, int]], limit: int) -> list[Fact]:
        """Merge the trails: the oldest of what they have is taken; none twice."""
        found: dict[int, Fact] = {}
        for _, trail, first in waiting:
            part = slice(first, first + limit)
            found.update(zip(trail.numbers[part], trail.facts[part], strict=True))
        numbers = sorted(found)[:limit]
        last = numbers[-1] if numbers else 0
        for index, trail, first in waiting:
            self._positions[index] = trail.start + bisect_right(trail.numbers, last, first)
        return [found[number] for number in numbers]

    def _follow(self, trails: Sequence[Trail], positions: Sequence[int]) -> None:
        self._trails, self._positions = list(trails), list(positions)


class Hub:
    """Publishes what has become durable to the cursors that are open.

    revision:   the newest that was published.
    behind_max: so many facts of a route may wait for a watcher, beside those that were there when
                he began, before he is told Expired, however much the history keeps.
    """

    def __init__(self, history: History, *, behind_max: int = BEHIND_MAX) -> None:
        self.history, self.behind_max = history, behind_max
        self.revision = 0
        self._trails: dict[Route, Trail] = {}
        self._routing = Routing()
        self._published = 0
        self._swept = 0  # How many had been published when all trails were looked at.

    def open(
        self,
        *,
        resources: Sequence[str],
        revision: int,
        namespace: str = "",
        name: str = "",
        node: str = "",
        labels: Labels | None = None,
        wake: Callable[[], None],
    ) -> Cursor:
        """Return a cursor over the facts after `revision` about some resources.

        namespace, name: only of this namespace, or this object ("" for all).
        node:            of pods, only those of this node; of nodes, only this one; other resources
                         are not narrowed by it.
                         A pod that leaves it is told, too.
        labels:          only objects that have this label, or had it until now.
        Of name, node and labels one counts, in this order: what a watcher hears is what it asked
        for, and perhaps more.
        wake:            called when a fact was published, once until the next take.
        Raises: Expired.
        """
        if revision < self.history.floor:
            raise Expired.revision(asked=revision, oldest=self.history.floor)
        routes = dict.fromkeys(
            route
            for resource in resources
            for route in routes_of(resource, namespace, name, node, labels)
        )
        kind = Cursor if len(routes) == 1 else _Merged
        return kind(self, tuple(routes), revision, wake)

    def publish(self, facts: Sequence[Fact]) -> None:
        """Give facts, oldest first, whole revisions, to those who asked for them."""
        assert not facts or facts[0].revision > self.revision, "a revision is published whole"
        trails = self._trails
        woken: dict[Cursor, None] = {}
        for fact in facts:
            assert fact.revision >= self.revision
            self.revision = fact.revision
            self._published += 1
            for route in self._routing.of(fact) if trails else ():
                trail = trails.get(route)
                if trail is not None:
                    trail.facts.append(fact)
                    trail.numbers.append(self._published)
                    if trail.idle:
                        woken = _joined(woken, trail.idle)
                        trail.idle = {}
        if self._published >= self._swept + max(_SWEEP_MIN, len(trails)):
            self._swept = self._published
            for trail in trails.values():
                trail.forget(self.history.floor)
        _wake(woken)

    def enter(self, route: Route, cursor: Cursor, revision: int) -> Trail:
        """Return the trail of a route, which `cursor` will follow from `revision` on.

        Cost: O(facts after `revision`) if nobody follows it from there yet.
        """
        trail = self._trails.get(route)
        if trail is None:
            trail = self._trails[route] = Trail(self.revision, self.behind_max)
            self._routing.follow(route)
        if revision < trail.since:
            trail.prepend(revision, *self._between(route, revision, trail.since))
        trail.cursors += 1
        trail.idle[cursor] = None
        return trail

    def leave(self, route: Route, cursor: Cursor) -> None:
        """Hear that `cursor` follows a route no more; a trail nobody follows is dropped."""
        trail = self._trails[route]
        trail.idle.pop(cursor, None)
        trail.cursors -= 1
        if not trail.cursors:
            del self._trails[route]
            self._routing.forget(route)

    def _between(self, route: Route, after: int, until: int) -> tuple[list[Fact], list[int]]:
        """Return the facts of a route, of those published after one revision until another.

        What was committed, but is not published yet, will come by `publish`. And their numbers.
        """
        facts = self.history.since(after)
        count = bisect_right(facts, self.revision, key=_revision)
        wanted = wants(route)
        found = [
            (fact, self._published - count + n)
            for n, fact in enumerate(facts[:count], 1)
            if fact.revision <= until and wanted(fact)
        ]
        return [fact for fact, _ in found], [number for _, number in found]


def _joined(some: dict[Cursor, None], more: dict[Cursor, None]) -> dict[Cursor, None]:
    """Return both, in one of them: mostly one is empty, and the other has thousands."""
    if not some:
        return more
    some.update(more)
    return some


def _wake(cursors: Iterable[Cursor]) -> None:
    """Wake those who are asleep still: who is woken may close or wake others."""
    for cursor in cursors:
        if cursor.asleep:
            cursor.asleep = False
            cursor.wake()
