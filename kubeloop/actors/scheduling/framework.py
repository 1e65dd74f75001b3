"""Placing a pod: filter the nodes, score those that will do, take the best.

Nothing is computed twice. For each distinct demand a `Ranking` keeps what every node is worth to
it, and looks again only at nodes that changed. What one node is worth depends on others in a few
ways only (scores relative to the greatest, pods of one owner per zone), so nodes that are alike in
these ways share a `Bucket`: inside it the order is fixed, and only the few buckets are compared
when a pod is placed. The result is exactly that of scoring every node anew; a test compares them.
"""

import heapq
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from kubeloop.actors.scheduling import scores, topology
from kubeloop.actors.scheduling.demand import Demand
from kubeloop.actors.scheduling.filters import Failure, first_failure
from kubeloop.actors.scheduling.nodeinfo import NodeInfo, State
from kubeloop.actors.scheduling.topology import Domains, Outlook

RANKINGS_MAX: Final = 64  # Distinct demands whose rankings are kept, the latest used.
MESSAGE_MAX: Final = 1024  # Bytes of an event's message.
HOSTNAME_SKEW_MAX, ZONE_SKEW_MAX = 3, 5  # The default constraints of spreading an owner's pods.
NO_NODES: Final = "no nodes available to schedule pods"

Tie = Callable[[], float]
Offer = tuple[int, float, str, int]  # -score, tie, node, stamp.


@dataclass(frozen=True, slots=True)
class Placement:
    """The node a pod goes to, and its weighted score."""

    node: str
    score: int


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node will do. message: why, as Kubernetes tells it."""

    message: str


class Likeness(NamedTuple):
    """What nodes of one bucket have in common.

    taints:     taints the pod would rather avoid;  preference: weight of matching preferences.
    siblings:   pods of the same owner on the node;  zone: the node's zone.
    domains:    the node's values of the topology keys that matter to the pod.
    """

    taints: int
    preference: int
    siblings: int
    zone: str | None
    domains: Domains = ()


@dataclass(slots=True)
class Bucket:
    """Nodes that are alike, the best first; stale offers are skipped."""

    heap: list[Offer] = field(default_factory=list)
    live: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """What one node is worth: a place in a bucket, or a failure."""

    stamp: int
    place: Likeness | Failure


class Ranking:
    """What all nodes are worth to one demand."""

    def __init__(self, demand: Demand, state: State, tie: Tie) -> None:
        self.demand, self.state, self.tie = demand, state, tie
        self.failures: Counter[Failure] = Counter()  # Of nodes, whatever is elsewhere.
        self.keys: tuple[str, ...] = ()
        self._eligible: dict[str, Domains] = {}
        self._terms_version = -1
        self._entries: dict[str, Entry] = {}
        self._buckets: dict[Likeness, Bucket] = {}
        self._images: dict[str, float] = {}
        self._image_version = -1
        self._position = 0
        self._stamp = 0

    def refresh(self) -> None:
        """Take over what changed since the last call."""
        state = self.state
        changed: Iterable[str] | None = state.changed_since(self._position)
        if self._terms_version != state.terms_version:
            self._terms_version = state.terms_version
            keys = topology.keys_of(self.demand, state)
            if keys != self.keys:
                self.keys, changed = keys, None
        images = self._images
        if self._image_version != state.image_version:
            self._image_version = state.image_version
            images = scores.image_worth(self.demand, state)
        if changed is None or images != self._images:
            self._entries.clear()
            self._buckets.clear()
            self.failures.clear()
            self._eligible.clear()
            self._images = images
            changed = state.nodes
        self._position = state.position
        for name in dict.fromkeys(changed):
            self._look_at(name)

    def best(self) -> Placement | Counter[Failure]:
        """Return the best node, or why none will do: failure → number of nodes."""
        places = {place: bucket.live for place, bucket in self._buckets.items()}
        outlook: Outlook | None = None
        failures = self.failures
        if self.keys and places:
            outlook = self._outlook(places)
            verdicts = {place: outlook.failure(place.domains) for place in places}
            failures = failures.copy()
            for place, verdict in verdicts.items():
                if verdict is not None:
                    failures[verdict] += places.pop(place)
            outlook.fitting = _by_domains(places)
        if not places:
            return failures
        bonuses = bonus_of(self.demand, self.state, places, outlook)
        offers = []
        for place in places:
            negative, tie, name, _ = self._top(self._buckets[place])
            offers.append((negative - bonuses[place], tie, name))
        negative, _, name = min(offers)
        return Placement(name, -negative)

    def _outlook(self, places: Mapping[Likeness, int]) -> Outlook:
        fitting = _by_domains(places)
        return Outlook(self.demand, self.state, self.keys, self._eligible, fitting)

    def _look_at(self, name: str) -> None:
        """Give a node its new place, or take it out if it is gone."""
        self._leave(name)
        node = self.state.nodes.get(name)
        if node is None:
            return
        if self.keys and topology.is_eligible(self.demand, node):
            self._eligible[name] = topology.domains_of(node, self.keys)
        self._stamp += 1
        failure = first_failure(self.demand, node)
        if failure is not None:
            self.failures[failure] += 1
            self._entries[name] = Entry(self._stamp, failure)
            return
        place = likeness_of(self.demand, node, self.keys)
        bucket = self._buckets.setdefault(place, Bucket())
        worth = scores.of_node(self.demand, node, self._images)
        heapq.heappush(bucket.heap, (-worth, self.tie(), name, self._stamp))
        bucket.live += 1
        self._entries[name] = Entry(self._stamp, place)
        if len(bucket.heap) > 2 * bucket.live + 64:  # Amortised: O(1) per change.
            bucket.heap = [item for item in bucket.heap if self._valid(item)]
            heapq.heapify(bucket.heap)

    def _leave(self, name: str) -> None:
        self._eligible.pop(name, None)
        entry = self._entries.pop(name, None)
        if entry is None:
            return
        if isinstance(entry.place, Failure):
            self.failures[entry.place] -= 1
            if not self.failures[entry.place]:
                del self.failures[entry.place]
            return
        bucket = self._buckets[entry.place]
        bucket.live -= 1
        if not bucket.live:
            del self._buckets[entry.place]

    def _valid(self, item: Offer) -> bool:
        entry = self._entries.get(item[2])
        return entry is not None and entry.stamp == item[3]

    def _top(self, bucket: Bucket) -> Offer:
        while not self._valid(bucket.heap[0]):
            heapq.heappop(bucket.heap)
        return bucket.heap[0]


class Placer:
    """Places pods on the nodes of `state`.

    tie: gives a number for each comparison of equal nodes; the smaller wins.
    """

    def __init__(self, state: State, tie: Tie) -> None:
        self.state, self.tie = state, tie
        self._rankings: OrderedDict[bytes, Ranking] = OrderedDict()

    def schedule(self, demand: Demand) -> Placement | Unschedulable:
        """Return where a pod with this demand goes now; placing it is the caller's."""
        best = self._ranking(demand).best()
        if isinstance(best, Placement):
            return best
        return Unschedulable(message_of(len(self.state.nodes), best.items()))

    def opened_by(self, demand: Demand, changes: dict[str, int]) -> int | None:
        """Return the newest change after which a node will do; None if none will.

        changes: since none would: node → revision of its last change, the newest last.
        If pods elsewhere matter, a change may make any node do.
        """
        if demand.terms or demand.spreads or topology.concerning(demand, self.state):
            best = self._ranking(demand).best()
            newest = next(reversed(changes.values()), 0)
            return changes.get(best.node, newest) if isinstance(best, Placement) else None
        known = self.state.nodes
        for name in reversed(changes):
            if name in known and first_failure(demand, known[name]) is None:
                return changes[name]
        return None

    def _ranking(self, demand: Demand) -> Ranking:
        ranking = self._rankings.get(demand.signature)
        if ranking is None:
            ranking = self._rankings[demand.signature] = Ranking(demand, self.state, self.tie)
            if len(self._rankings) > RANKINGS_MAX:
                self._rankings.popitem(last=False)
        self._rankings.move_to_end(demand.signature)
        ranking.refresh()
        return ranking


def schedule(demand: Demand, state: State, tie: Tie) -> Placement | Unschedulable:
    """Return where a pod with this demand goes, looking at every node once."""
    return Placer(state, tie).schedule(demand)


def likeness_of(demand: Demand, node: NodeInfo, keys: tuple[str, ...] = ()) -> Likeness:
    """Return the bucket of a node that will do."""
    spread = demand.owner and not demand.spreads
    return Likeness(
        scores.untolerated(demand, node) if node.taints else 0,
        scores.preference(demand, node) if demand.preferred else 0,
        node.owners.get(demand.owner, 0) if spread else 0,
        node.zone if spread else None,
        topology.domains_of(node, keys) if keys else (),
    )


def bonus_of(
    demand: Demand, state: State, places: Mapping[Likeness, int], outlook: Outlook | None = None
) -> dict[Likeness, int]:
    """Return bucket → the weighted scores that compare nodes; places: bucket → its nodes."""
    taints = max(place.taints for place in places)
    preference = max(place.preference for place in places)
    bonuses = {
        place: scores.WEIGHT_TAINTS * scores.normalised(place.taints, taints, reverse=True)
        + scores.WEIGHT_AFFINITY * scores.normalised(place.preference, preference)
        for place in places
    }
    crowded: Mapping[Likeness, int | None] = {}
    if outlook is not None and outlook.has_soft_spreads:
        crowded = {place: outlook.crowdedness(place.domains) for place in places}
    elif demand.owner and not demand.spreads:
        crowded = _crowdedness(demand, state, places)
    values = [value for value in crowded.values() if value is not None]
    for place, value in crowded.items():
        if value is not None:
            bonuses[place] += scores.WEIGHT_SPREADING * scores.least_crowded(value, values)
    if outlook is not None:
        liking = {place: outlook.liking(place.domains) for place in places}
        for place, share in scores.between(liking).items():
            bonuses[place] += scores.WEIGHT_INTERPOD * share
    return bonuses


def _by_domains(places: Mapping[Likeness, int]) -> Counter[Domains]:
    counts: Counter[Domains] = Counter()
    for place, nodes in places.items():
        counts[place.domains] += nodes
    return counts


def _crowdedness(
    demand: Demand, state: State, buckets: Mapping[Likeness, int]
) -> dict[Likeness, int]:
    """Return how crowded nodes and zones are with the owner's pods."""
    nodes = sum(buckets.values())
    zones = len({place.zone for place in buckets} - {None})
    counts = state.zones.get(demand.owner) or Counter[str]()
    crowded = {}
    for place in buckets:
        raw = scores.spread(place.siblings, HOSTNAME_SKEW_MAX, nodes)
        if place.zone is not None:
            raw += scores.spread(counts[place.zone], ZONE_SKEW_MAX, zones)
        crowded[place] = round(raw)
    return crowded


def message_of(nodes: int, failures: Iterable[tuple[Failure, int]]) -> str:
    """Return why `nodes` nodes will not do: how many for which reason, sorted as text."""
    if not nodes:
        return NO_NODES
    reasons: Counter[str] = Counter()
    preemption: Counter[str] = Counter()
    whole = ""
    for failure, count in failures:
        for reason in failure.reasons:
            reasons[reason] += count
        if failure.no_node:
            whole = ", ".join(failure.reasons)
        preemption[
            "Preemption is not helpful for scheduling"
            if failure.helpless
            else "No preemption victims found for incoming pod"
        ] += count
    available = f"0/{nodes} nodes are available:"
    why = whole or _histogram(reasons)
    return f"{available} {why}. preemption: {available} {_histogram(preemption)}."


def _histogram(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
