"""The watch hub: every fact goes to those who asked for it, once, in order. Pure.

A route is what one may ask for: a resource, a namespace of it, a name in it, the objects with a
label, or the pods of a node. All cursors on a route share one trail, the list of its facts; a
cursor is no more than a position in the trail of each of its routes. So a fact costs the trails it
belongs to and the watchers that are idle, however many others there are; and a watcher that does
not take what it is given keeps nothing alive, delays nobody, and is told `Expired` once the history
has forgotten its position.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final

import msgpack

from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact, prefix_of
from kubeloop.store.history import History

_PODS: Final = "pods"
_NODES: Final = "nodes"
_BY_NODE: Final = "by node"
_BY_LABEL: Final = "by label"
_LABELS: Final = b"\xa6labels"  # In msgpack: the key under which metadata has an object's labels.
_ANY: Final = "\0"  # Stands for every value of a label; no label has it.
_SWEEP_MIN: Final = 256  # So far the floor rises before all trails are looked at.
_NODE_KEY: Final = b"\xa8nodeName"  # In msgpack: the key under which a pod names its node.
_UNPACKER_BYTES: Final = 1024  # To begin with; the default of a mebibyte takes time to get.
_revision: Final = attrgetter("revision")

Route = tuple[str, ...]
Labels = tuple[str, Sequence[str]]
"""A label that what one asks for has, and its possible values; none: any value."""


class Trail:
    """The published facts of one route, and the cursors on it.

    since:   the revision after which it is complete.
    numbers: of the facts: of the publication, which orders the facts of all trails.
    """

    __slots__ = ("cursors", "facts", "idle", "numbers", "since", "start")

    def __init__(self, since: int) -> None:
        self.since = since
        self.facts: list[Fact] = []
        self.numbers: list[int] = []
        self.start = 0  # The position of the first fact.
        self.cursors = 0
        self.idle: dict[Cursor, None] = {}  # Those to be woken by the next fact.

    @property
    def end(self) -> int:
        """The position after the last fact."""
        return self.start + len(self.facts)

    def position(self, revision: int) -> int:
        """Return the position of the first fact after `revision`."""
        return self.start + bisect_right(self.facts, revision, key=_revision)

    def prepend(self, since: int, facts: Sequence[Fact], numbers: Sequence[int]) -> None:
        """Add what came before the first fact; the positions of the others stay."""
        self.facts[:0], self.numbers[:0] = facts, numbers
        self.start -= len(facts)
        self.since = since

    def forget(self, floor: int) -> None:
        """Drop the facts up to `floor`."""
        self.since = max(self.since, floor)
        count = bisect_right(self.facts, floor, key=_revision)
        self.start += count
        del self.facts[:count], self.numbers[:count]

    def lose(self, revision: int) -> None:
        """Hear that facts until `revision` will never be told: every position is too old."""
        self.start += len(self.facts) + 1
        self.facts.clear()
        self.numbers.clear()
        self.since = revision


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
        for trail, position in zip(self._trails, self._positions, strict=True):
            if trail.start + len(trail.facts) > position:  # Faster than any(…).
                return True
        return False

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts, oldest first; [] if there are none.

        Raises: Expired if the history has forgotten some of them: list again.
        """
        assert limit >= 1
        if len(self._trails) == 1:
            return self._next(self._trails[0], limit)
        facts = self._merged(limit)
        if facts and facts[0].revision <= self.revision:
            facts = [f for f in facts if f.revision > self.revision]  # It began in the future.
        if not self.behind:
            self.revision = max(self.revision, self._hub.revision)
        elif facts:
            self.revision = facts[-1].revision - 1
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
        if len(self._trails) > 1:  # Else the trail has forgotten it already.
            for trail in self._trails:
                trail.idle.pop(self, None)

    def _next(self, trail: Trail, limit: int) -> list[Fact]:
        """Take from the only trail. A thousand watchers do this for every fact: keep it short."""
        first, size = self._positions[0] - trail.start, len(trail.facts)
        trail.idle[self] = None
        if first < 0:
            raise self._expired()
        facts = trail.facts[first : first + limit]
        if facts:
            oldest = facts[0].revision
            if oldest <= self._hub.history.floor:
                raise self._expired()
            if oldest <= self.revision:
                facts = [f for f in facts if f.revision > self.revision]  # It began in the future.
        if first + limit >= size:
            self._positions[0] = trail.start + size
            if self._hub.revision > self.revision:
                self.revision = self._hub.revision
        else:
            self._positions[0] += limit
            if facts:
                self.revision = facts[-1].revision - 1  # More of that revision may follow.
        return facts

    def _merged(self, limit: int) -> list[Fact]:
        """Merge the trails: each gives what it has, the oldest are kept; none is told twice."""
        waiting: list[tuple[int, int, Fact]] = []
        for index, (trail, position) in enumerate(zip(self._trails, self._positions, strict=True)):
            first = position - trail.start
            if first < 0:
                raise self._expired()
            part = slice(first, first + limit)
            facts, numbers = trail.facts[part], trail.numbers[part]
            waiting += [(n, index, f) for n, f in zip(numbers, facts, strict=True)]
        waiting.sort(key=_number_of)
        if waiting and waiting[0][2].revision <= self._hub.history.floor:
            raise self._expired()
        taken: list[Fact] = []
        last = 0
        for number, index, fact in waiting:
            if number != last:
                if len(taken) == limit:
                    break
                taken.append(fact)
                last = number
            self._positions[index] += 1
        return taken

    def _expired(self) -> Expired:
        return Expired.revision(asked=self.revision, oldest=self._hub.history.floor)


class Hub:
    """Publishes what has become durable to the cursors that are open.

    revision: the newest that was published.
    """

    def __init__(self, history: History) -> None:
        self.history = history
        self.revision = 0
        self._trails: dict[Route, Trail] = {}
        self._node_trails = 0
        self._label_trails: Counter[str] = Counter()  # By resource.
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
        routes = [
            route
            for resource in resources
            for route in _routes_of(resource, namespace, name, node, labels)
        ]
        return Cursor(self, routes, revision, wake)

    def publish(self, facts: Sequence[Fact]) -> None:
        """Give facts, oldest first, to those who asked for them."""
        woken: dict[Cursor, None] = {}
        trails = self._trails
        for fact in facts:
            assert fact.revision >= self.revision
            self.revision = fact.revision
            self._published += 1
            for route in self._routes(fact) if trails else ():
                trail = trails.get(route)
                if trail is not None:
                    trail.facts.append(fact)
                    trail.numbers.append(self._published)
                    woken.update(trail.idle)
                    trail.idle.clear()
        if self.history.floor >= self._floor + max(_SWEEP_MIN, len(trails)):
            self._floor = self.history.floor
            for trail in trails.values():
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
            if route[0] == _BY_LABEL:
                self._label_trails[route[1]] += 1
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
        if trail.cursors:
            return
        del self._trails[route]
        if route[0] == _BY_NODE:
            self._node_trails -= 1
            if not self._node_trails:
                self._nodes.clear()  # It is not kept up any more.
        elif route[0] == _BY_LABEL:
            self._label_trails[route[1]] -= 1

    def _between(self, route: Route, after: int, until: int) -> tuple[list[Fact], list[int]]:
        """Return the facts of a route, of those published after one revision until another.

        What was committed, but is not published yet, will come by `publish`. And their numbers.
        """
        facts = self.history.since(after)
        count = bisect_right(facts, self.revision, key=_revision)
        wanted = _wants(route)
        found = [
            (fact, self._published - count + n)
            for n, fact in enumerate(facts[:count], 1)
            if fact.revision <= until and wanted(fact)
        ]
        return [fact for fact, _ in found], [number for _, number in found]

    def _routes(self, fact: Fact) -> Iterator[Route]:
        """Yield every route a fact belongs to."""
        _, _, resource, *rest = fact.key.split("/")
        yield (resource,)
        if self._label_trails[resource]:
            yield from _label_routes(fact, resource, rest[0] if len(rest) > 1 else "")
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


def _routes_of(
    resource: str, namespace: str, name: str, node: str, labels: Labels | None
) -> list[Route]:
    """Return the routes of what somebody asks for; `_wants` and `Hub._routes` agree on them."""
    if node and resource == _PODS:
        return [(_BY_NODE, node)]
    if node and resource == _NODES:
        name = node
    if name:
        return [(resource, namespace, name)]
    if labels is not None:
        key, values = labels
        return [(_BY_LABEL, resource, namespace, key, value) for value in values or (_ANY,)]
    return [(resource, namespace) if namespace else (resource,)]


def _label_routes(fact: Fact, resource: str, namespace: str) -> Iterator[Route]:
    """Yield the routes of the labels an object has, or had until now."""
    for key, value in _labels_of(fact.value) | _labels_of(fact.prev):
        yield (_BY_LABEL, resource, "", key, value)
        if namespace:
            yield (_BY_LABEL, resource, namespace, key, value)


def _wants(route: Route) -> Callable[[Fact], bool]:
    """Return whether a fact belongs to a route: the same as being among `Hub._routes` of it."""
    if route[0] == _BY_NODE:
        node = route[1]
        return lambda fact: (
            fact.resource == _PODS and node in (_node_of(fact.value), _node_of(fact.prev))
        )
    if route[0] == _BY_LABEL:
        _, resource, namespace, *label = route
        start, pair = prefix_of(resource, namespace), tuple(label)
        return lambda fact: (
            fact.key.startswith(start) and pair in _labels_of(fact.value) | _labels_of(fact.prev)
        )
    resource, namespace, name = (*route, "", "")[:3]
    prefix, suffix = prefix_of(resource, namespace), f"/{name}" if name else ""
    return lambda fact: fact.key.startswith(prefix) and fact.key.endswith(suffix)


def _labels_of(value: bytes | None) -> set[tuple[str, ...]]:
    """Return (key, value) and (key, _ANY) of each label of a packed object."""
    if value is None or _LABELS not in value:
        return set()
    labels = (_part(value, "metadata") or {}).get("labels") or {}
    pairs: Iterable[tuple[str, ...]] = labels.items()
    return {*pairs, *((key, _ANY) for key in labels)}


def _node_of(value: bytes | None) -> str:
    """Return the node of a packed pod, "" if it has none. Unpacks nothing else."""
    if value is None or _NODE_KEY not in value:
        return ""
    return str((_part(value, "spec") or {}).get("nodeName") or "")


def _part(value: bytes, wanted: str) -> Any:
    """Return one field of a packed object, None if it does not have it."""
    unpacker = msgpack.Unpacker(
        read_size=_UNPACKER_BYTES, max_buffer_size=max(len(value), _UNPACKER_BYTES)
    )
    unpacker.feed(value)
    for _ in range(unpacker.read_map_header()):
        if unpacker.unpack() == wanted:
            return unpacker.unpack()
        unpacker.skip()
    return None


def _number_of(entry: tuple[int, int, Fact]) -> int:
    return entry[0]
