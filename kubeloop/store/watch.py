"""The watch hub: every fact goes to those who asked for it, once, in order. Pure.

A route is what one may ask for: a resource, a namespace of it, a name in it, or the pods of a node.
All cursors on a route share one trail, the list of its facts; a cursor is no more than a position
in the trail of each of its routes. So a fact costs the trails it belongs to and the watchers that
are idle, however many others there are; and a watcher that does not take what it is given keeps
nothing alive, delays nobody, and is told `Expired` once the history has forgotten its position.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Final

import msgpack

from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact
from kubeloop.store.history import History

_PODS: Final = "pods"
_NODES: Final = "nodes"
_BY_NODE: Final = "by node"
_NODE_KEY: Final = b"\xa8nodeName"  # In msgpack: the key under which a pod names its node.
_UNPACKER_BYTES: Final = 1024  # To begin with; the default of a mebibyte takes time to get.
_revision: Final = attrgetter("revision")

Route = tuple[str, ...]
Entry = tuple[int, Fact]  # The number of the publication, which orders the facts of all trails.


class Trail:
    """The published facts of one route, and the cursors on it.

    since: the revision after which it is complete.
    """

    __slots__ = ("cursors", "entries", "idle", "since", "start")

    def __init__(self, since: int) -> None:
        self.since = since
        self.entries: list[Entry] = []
        self.start = 0  # The position of the first entry.
        self.cursors = 0
        self.idle: dict[Cursor, None] = {}  # Those to be woken by the next fact.

    @property
    def end(self) -> int:
        """The position after the last entry."""
        return self.start + len(self.entries)

    def position(self, revision: int) -> int:
        """Return the position of the first fact after `revision`."""
        return self.start + bisect_right(self.entries, revision, key=_revision_of)

    def prepend(self, since: int, entries: list[Entry]) -> None:
        """Add what came before the first entry; the positions of the others stay."""
        self.entries[:0] = entries
        self.start -= len(entries)
        self.since = since

    def forget(self, floor: int) -> None:
        """Drop the facts up to `floor`."""
        self.since = max(self.since, floor)
        count = bisect_right(self.entries, floor, key=_revision_of)
        self.start += count
        del self.entries[:count]


class Cursor:
    """A watcher's place in the stream of facts.

    revision: every fact for it up to here has been taken; advances also without facts.
    """

    def __init__(
        self, hub: "Hub", routes: Sequence[Route], revision: int, wake: Callable[[], None]
    ) -> None:
        self.revision = revision
        self.wake = wake
        self.routes = tuple(dict.fromkeys(routes))
        self._hub = hub
        self._trails = [hub.enter(route, self, revision) for route in self.routes]
        self._positions = [trail.position(revision) for trail in self._trails]

    @property
    def behind(self) -> bool:
        """Whether there is something to take."""
        return any(t.end > p for t, p in zip(self._trails, self._positions, strict=True))

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts, oldest first; [] if there are none.

        Raises: Expired if the history has forgotten some of them: list again.
        """
        assert limit >= 1
        for trail, position in zip(self._trails, self._positions, strict=True):
            if position < trail.start:
                raise Expired.revision(asked=self.revision, oldest=self._hub.history.floor)
        facts = self._next(limit) if len(self._trails) == 1 else self._merged(limit)
        if facts and facts[0].revision <= self.revision:
            facts = [f for f in facts if f.revision > self.revision]  # It began in the future.
        if not self.behind:
            self.revision = max(self.revision, self._hub.revision)
        elif facts:
            self.revision = facts[-1].revision - 1  # More of that revision may follow.
        for trail in self._trails:
            trail.idle[self] = None
        return facts

    def close(self) -> None:
        """Ask for no more; harmless if it is closed."""
        for route in self.routes:
            self._hub.leave(route, self)
        self.routes, self._trails, self._positions = (), [], []

    def rest(self) -> None:
        """Hear that it is being woken: one call is enough until it takes."""
        for trail in self._trails:
            trail.idle.pop(self, None)

    def _next(self, limit: int) -> list[Fact]:
        trail, position = self._trails[0], self._positions[0]
        first = position - trail.start
        entries = trail.entries[first : first + limit]
        self._positions[0] = position + len(entries)
        return [fact for _, fact in entries]

    def _merged(self, limit: int) -> list[Fact]:
        """Merge the trails: each gives what it has, the oldest are kept."""
        waiting: list[tuple[int, int, Fact]] = []
        for index, (trail, position) in enumerate(zip(self._trails, self._positions, strict=True)):
            first = position - trail.start
            waiting += [(n, index, f) for n, f in trail.entries[first : first + limit]]
        waiting.sort(key=_number_of)
        facts: list[Fact] = []
        for _, index, fact in waiting[:limit]:
            self._positions[index] += 1
            facts.append(fact)
        return facts


class Hub:
    """Publishes what has become durable to the cursors that are open.

    revision: the newest that was published.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.revision = 0
        self._trails: dict[Route, Trail] = {}
        self._node_trails = 0
        self._nodes: dict[str, str] = {}  # Of the pods published while somebody watched by node.
        self._floor = 0
        self._published = 0

    def open(
        self,
        *,
        resources: Sequence[str],
        revision: int,
        namespace: str = "",
        name: str = "",
        node: str = "",
        wake: Callable[[], None],
    ) -> Cursor:
        """Return a cursor over the facts after `revision` about some resources.

        namespace, name: only of this namespace, or this object ("" for all).
        node:            of pods, only those of this node; of nodes, only this one; other resources
                         are not narrowed by it.
                         A pod that leaves it is told, too.
        wake:            called when a fact was published, once until the next take.
        Raises: Expired.
        """
        if revision < self.history.floor:
            raise Expired.revision(asked=revision, oldest=self.history.floor)
        routes = [_route(resource, namespace, name, node) for resource in resources]
        return Cursor(self, routes, revision, wake)

    def publish(self, facts: Sequence[Fact]) -> None:
        """Give facts, oldest first, to those who asked for them."""
        woken: dict[Cursor, None] = {}
        for fact in facts:
            assert fact.revision >= self.revision
            self.revision = fact.revision
            self._published += 1
            for route in self._routes(fact):
                trail = self._trails.get(route)
                if trail is not None:
                    trail.entries.append((self._published, fact))
                    woken.update(trail.idle)
                    trail.idle.clear()
        if self.history.floor > self._floor:
            self._floor = self.history.floor
            for trail in self._trails.values():
                trail.forget(self._floor)
        for cursor in woken:
            cursor.rest()
        for cursor in woken:
            if cursor.routes:  # Else another, when woken, has closed it.
                cursor.wake()

    def enter(self, route: Route, cursor: Cursor, revision: int) -> Trail:
        """Return the trail of a route, which `cursor` will follow from `revision` on.

        Cost: O(facts after `revision`) if nobody follows it from there yet.
        """
        trail = self._trails.get(route)
        if trail is None:
            trail = self._trails[route] = Trail(self.revision)
            self._node_trails += route[0] == _BY_NODE
        if revision < trail.since:
            trail.prepend(revision, self._between(route, revision, trail.since))
        trail.cursors += 1
        trail.idle[cursor] = None
        return trail

    def leave(self, route: Route, cursor: Cursor) -> None:
        """Hear that `cursor` follows a route no more; a trail nobody follows is dropped."""
        trail = self._trails[route]
        trail.idle.pop(cursor, None)
        trail.cursors -= 1
        if trail.cursors:
            return
        del self._trails[route]
        if route[0] == _BY_NODE:
            self._node_trails -= 1
            if not self._node_trails:
                self._nodes.clear()  # It is not kept up any more.

    def _between(self, route: Route, after: int, until: int) -> list[Entry]:
        """Return the entries of a route: of the published facts after one revision until another.

        What was committed, but is not published yet, will come by `publish`.
        """
        facts = self.history.since(after)
        count = bisect_right(facts, self.revision, key=_revision)
        wanted = _wants(route)
        return [
            (self._published - count + n, fact)
            for n, fact in enumerate(facts[:count], 1)
            if fact.revision <= until and wanted(fact)
        ]

    def _routes(self, fact: Fact) -> Iterator[Route]:
        """Yield every route a fact belongs to."""
        _, _, resource, *rest = fact.key.split("/")
        yield (resource,)
        if len(rest) == 1:
            yield (resource, "", rest[0])
            return
        namespace, name = rest
        yield (resource, namespace)
        yield (resource, namespace, name)
        yield (resource, "", name)  # A name may also be watched in all namespaces.
        if self._node_trails and resource == _PODS:
            before = self._nodes.pop(fact.key, None)
            if before is None:
                before = _node_of(fact.prev)
            node = _node_of(fact.value)
            if fact.value is not None:
                self._nodes[fact.key] = node
            for one in {before, node} - {""}:
                yield (_BY_NODE, one)


def _route(resource: str, namespace: str, name: str, node: str) -> Route:
    if node and resource == _PODS:
        return (_BY_NODE, node)
    if node and resource == _NODES:
        name = node
    if name:
        return (resource, namespace, name)
    return (resource, namespace) if namespace else (resource,)


def _wants(route: Route) -> Callable[[Fact], bool]:
    """Return whether a fact belongs to a route: the same as being among its `Hub._routes`."""
    resource, namespace, name = (*route, "", "")[:3]
    if resource == _BY_NODE:
        node = namespace
        return lambda fact: (
            fact.resource == _PODS and node in (_node_of(fact.value), _node_of(fact.prev))
        )
    prefix = f"/registry/{resource}/{namespace}/" if namespace else f"/registry/{resource}/"
    suffix = f"/{name}" if name else ""
    return lambda fact: fact.key.startswith(prefix) and fact.key.endswith(suffix)


def _node_of(value: bytes | None) -> str:
    """Return the node of a packed pod, "" if it has none. Unpacks nothing else."""
    if value is None or _NODE_KEY not in value:
        return ""
    unpacker = msgpack.Unpacker(
        read_size=_UNPACKER_BYTES, max_buffer_size=max(len(value), _UNPACKER_BYTES)
    )
    unpacker.feed(value)
    for _ in range(unpacker.read_map_header()):
        if unpacker.unpack() == "spec":
            return str((unpacker.unpack() or {}).get("nodeName") or "")
        unpacker.skip()
    return ""


def _revision_of(entry: Entry) -> int:
    return entry[1].revision


def _number_of(entry: tuple[int, int, Fact]) -> int:
    return entry[0]
