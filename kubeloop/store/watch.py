"""The watch hub: every fact goes to those who asked for it, once, in order. Pure.

Routed by index: a fact costs only its interested watchers, however many others there are. A
watcher that does not take what it is given is cut off when it is further behind than the history
reaches; it delays nobody.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import msgpack

from kubeloop.api.errors import Expired
from kubeloop.store.facts import Fact
from kubeloop.store.history import History

_PODS: Final = "pods"
_NODE_KEY: Final = b"\xa8nodeName"  # In msgpack: the key under which a pod names its node.

Route = tuple[str, ...]


class Cursor:
    """A watcher's place in the stream of facts.

    revision: every fact for it up to here has been taken.
    """

    def __init__(
        self, hub: "Hub", routes: Sequence[Route], revision: int, wake: Callable[[], None]
    ) -> None:
        self._hub, self.routes, self.revision = hub, tuple(routes), revision
        self.wake = wake
        self._facts: deque[Fact] = deque()
        self._cut_at: int | None = None

    @property
    def behind(self) -> bool:
        """Whether there is something to take."""
        return bool(self._facts) or self._cut_at is not None

    def take(self, limit: int = 1000) -> list[Fact]:
        """Return the next facts, oldest first; [] if there are none.

        Raises: Expired if so many waited that the oldest had to be given up.
        """
        if self._cut_at is not None:
            raise Expired.revision(asked=self.revision, oldest=self._cut_at)
        count = min(limit, len(self._facts))
        facts = [self._facts.popleft() for _ in range(count)]
        self.revision = facts[-1].revision if self._facts else self._hub.revision
        return facts

    def close(self) -> None:
        """Ask for no more."""
        self._hub.forget(self)
        self._facts.clear()

    def give(self, fact: Fact, *, facts_max: int) -> bool:
        """Add a fact; tell whether the watcher was idle and must be woken."""
        if self._cut_at is not None:
            return False
        idle = not self._facts
        self._facts.append(fact)
        if len(self._facts) > facts_max:
            self._cut_at = fact.revision
            self._facts.clear()
        return idle


class Hub:
    """Publishes what has become durable to the cursors that are open."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.revision = 0  # The newest that was published.
        self._cursors: dict[Route, dict[Cursor, None]] = {}
        self._node_routes = 0

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
        node:            of pods, only those of this node; other resources are not narrowed by it.
        wake:            called when there is something to take again after there was nothing.
        Raises: Expired.
        """
        routes = [_route(resource, namespace, name, node) for resource in resources]
        cursor = Cursor(self, routes, revision, wake)
        wanted = set(routes)
        for fact in self.history.since(revision):
            if fact.revision <= self.revision and not wanted.isdisjoint(_routes(fact, nodes=True)):
                cursor.give(fact, facts_max=2 * self.history.revisions_max)
        for route in cursor.routes:
            self._cursors.setdefault(route, {})[cursor] = None
            self._node_routes += route[0] == _BY_NODE
        return cursor

    def publish(self, facts: Sequence[Fact]) -> None:
        """Give facts, oldest first, to those who asked for them. Cost: O(interested watchers)."""
        woken: dict[Cursor, None] = {}
        facts_max = self.history.revisions_max
        for fact in facts:
            self.revision = fact.revision
            told: set[Cursor] = set()
            for route in _routes(fact, nodes=self._node_routes > 0):
                for cursor in self._cursors.get(route, ()):
                    if cursor not in told:
                        told.add(cursor)
                        if cursor.give(fact, facts_max=facts_max):
                            woken[cursor] = None
        for cursor in woken:
            cursor.wake()

    def forget(self, cursor: Cursor) -> None:
        """Close a cursor; harmless if it is closed."""
        for route in cursor.routes:
            cursors = self._cursors.get(route, {})
            if cursor in cursors:
                del cursors[cursor]
                self._node_routes -= route[0] == _BY_NODE
                if not cursors:
                    del self._cursors[route]


_BY_NODE: Final = "by node"


def _route(resource: str, namespace: str, name: str, node: str) -> Route:
    if node and resource == _PODS:
        return (_BY_NODE, node)
    if name:
        return (resource, namespace, name)
    return (resource, namespace) if namespace else (resource,)


def _routes(fact: Fact, *, nodes: bool) -> list[Route]:
    """Return every route a fact belongs to."""
    _, _, resource, *rest = fact.key.split("/")
    namespace, name = (rest[0], rest[1]) if len(rest) == 2 else ("", rest[0])
    routes: list[Route] = [(resource,), (resource, namespace, name)]
    if namespace:
        # A name may also be watched in all namespaces.
        routes += [(resource, namespace), (resource, "", name)]
    if nodes and resource == _PODS:
        routes += [(_BY_NODE, node) for node in {_node_of(fact.value), _node_of(fact.prev)} if node]
    return routes


def _node_of(value: bytes | None) -> str:
    """Return the node of a packed pod, "" if it has none; decodes only what may have one."""
    if value is None or _NODE_KEY not in value:
        return ""
    spec = msgpack.unpackb(value).get("spec") or {}
    return str(spec.get("nodeName") or "")
