"""Routes: what one may ask the hub for, and which of it a fact belongs to. Pure.

A route is a resource, a namespace of it, a name in it, the objects with a label, or the pods of a
node. An object that moves, to another node or to another label, belongs to where it comes from,
too: who watches there must hear that it leaves. Labels and nodes are read from the packed object
without unpacking the rest, and only while somebody watches by them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgpack

from kubeloop.store.facts import Fact, prefix_of

_PODS: Final = "pods"
_NODES: Final = "nodes"
_BY_NODE: Final = "by node"
_BY_LABEL: Final = "by label"
EVERYTHING: Final = "*"  # Stands for every resource.
_ANY: Final = "\0"  # Stands for every value of a label; no label has it.
_LABELS: Final = b"\xa6labels"  # In msgpack: the key under which metadata has an object's labels.
_NODE_KEY: Final = b"\xa8nodeName"  # In msgpack: the key under which a pod names its node.
_UNPACKER_BYTES: Final = 1024  # To begin with; the default of a mebibyte takes time to get.

Route = tuple[str, ...]
Labels = tuple[str, Sequence[str]]
"""A label that what one asks for has, and its possible values; none: any value."""


def routes_of(
    resource: str, namespace: str, name: str, node: str, labels: Labels | None
) -> list[Route]:
    """Return the routes of what somebody asks for; `wants` and `Routing.of` agree on them."""
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


def wants(route: Route) -> Callable[[Fact], bool]:
    """Return whether a fact belongs to a route: the same as being among `Routing.of` it."""
    if route[0] == EVERYTHING:
        return lambda fact: True
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


class Routing:
    """Tells the routes of facts, as far as they are followed."""

    def __init__(self) -> None:
        self._by_node = 0  # How many such routes are followed.
        self._everything = 0  # The same.
        self._by_label: Counter[str] = Counter()  # The same, by resource.
        # Of the pods published while somebody watched by node: as of which revision, and the node.
        self._nodes: dict[str, tuple[int, str]] = {}

    def follow(self, route: Route) -> None:
        """Hear that somebody follows a route."""
        if route[0] == EVERYTHING:
            self._everything += 1
        elif route[0] == _BY_NODE:
            self._by_node += 1
        elif route[0] == _BY_LABEL:
            self._by_label[route[1]] += 1

    def forget(self, route: Route) -> None:
        """Hear that nobody follows it any more."""
        if route[0] == EVERYTHING:
            self._everything -= 1
        elif route[0] == _BY_NODE:
            self._by_node -= 1
            if not self._by_node:
                self._nodes.clear()  # It is not kept up any more.
        elif route[0] == _BY_LABEL:
            self._by_label[route[1]] -= 1

    def of(self, fact: Fact) -> Iterator[Route]:
        """Yield every route a fact belongs to."""
        _, _, resource, *rest = fact.key.split("/")
        yield (resource,)
        if self._everything:
            yield (EVERYTHING,)
        if self._by_label[resource]:
            yield from _label_routes(fact, resource, rest[0] if len(rest) > 1 else "")
        if len(rest) == 1:
            yield (resource, "", rest[0])
            return
        namespace, name = rest
        yield (resource, namespace)
        yield (resource, namespace, name)
        yield (resource, "", name)  # A name may also be watched in all namespaces.
        if self._by_node and resource == _PODS:
            node = _node_of(fact.value)
            known = self._nodes.pop(fact.key, None)
            if fact.value is not None:
                self._nodes[fact.key] = (fact.revision, node)
            if known is not None and known[0] == fact.prev_revision:
                before = known[1]
            else:
                before = _node_of(fact.prev)
            for one in dict.fromkeys(filter(None, (before, node))):
                yield (_BY_NODE, one)


def _label_routes(fact: Fact, resource: str, namespace: str) -> Iterator[Route]:
    """Yield the routes of the labels an object has, or had until now."""
    for key, value in _labels_of(fact.value) | _labels_of(fact.prev):
        yield (_BY_LABEL, resource, "", key, value)
        if namespace:
            yield (_BY_LABEL, resource, namespace, key, value)


def _labels_of(value: bytes | None) -> dict[tuple[str, ...], None]:
    """Return (key, value) and (key, _ANY) of each label of a packed object, in its order."""
    if value is None or _LABELS not in value:
        return {}
    labels = (_part(value, "metadata") or {}).get("labels") or {}
    return dict.fromkeys((*labels.items(), *((key, _ANY) for key in labels)))


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
