"""What depends on pods elsewhere: affinity between pods, and even spreading over domains.

Nodes in the same domains fare alike here, so all is decided per tuple of domains (the node's value
of every topology key that matters), never per node: see `framework.Likeness`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from kubeloop.actors.scheduling import scores
from kubeloop.actors.scheduling.constraints import PodTerm, Spread
from kubeloop.actors.scheduling.demand import Demand
from kubeloop.actors.scheduling.filters import Failure, node_affinity, taint_toleration
from kubeloop.actors.scheduling.nodeinfo import NodeInfo, State

Domains = tuple[str | None, ...]

SKEWED: Final = Failure(("node(s) didn't match pod topology spread constraints",), helpless=False)
NO_DOMAIN: Final = Failure(
    ("node(s) didn't match pod topology spread constraints (missing required label)",)
)
NOT_NEAR: Final = Failure(("node(s) didn't match pod affinity rules",))
NOT_AWAY: Final = Failure(("node(s) didn't match pod anti-affinity rules",), helpless=False)
UNWELCOME: Final = Failure(
    ("node(s) didn't satisfy existing pods anti-affinity rules",), helpless=False
)
HARD_AFFINITY_WEIGHT: Final = 1  # What a required affinity of another pod counts in scores.


def keys_of(demand: Demand, state: State) -> tuple[str, ...]:
    """Return the topology keys that matter to a demand, its own and those of pods it concerns."""
    keys = {spread.key for spread in demand.spreads} | {term.key for term in demand.terms}
    keys |= {term.key for term in concerning(demand, state)}
    return tuple(sorted(keys))


def concerning(demand: Demand, state: State) -> list[PodTerm]:
    """Return the terms of placed pods that are about pods like this one."""
    return [t for t in state.terms if t.crowd.has(demand.namespace, demand.labels)]


class Outlook:
    """How the domains look to one demand now.

    keys:     the topology keys, in the order of a `Domains` tuple.
    eligible: node → its domains, of the nodes whose pods count for spreading.
    fitting:  domains → how many nodes that otherwise will do are in them.
    """

    def __init__(
        self,
        demand: Demand,
        state: State,
        keys: tuple[str, ...],
        eligible: Mapping[str, Domains],
        fitting: Mapping[Domains, int],
    ) -> None:
        self.demand, self.state, self.fitting = demand, state, fitting
        self.at = {key: place for place, key in enumerate(keys)}
        self.eligible = eligible
        self._hard = [(s, *self._least(s)) for s in demand.spreads if s.hard]
        self._soft = [(s, self._counts(s)) for s in demand.spreads if not s.hard]
        near = [t for t in demand.terms if t.kind == "near"]
        self._near = [(t, self._in_domains(t.key, state.tally(near))) for t in near]
        self._first = not any(counts for _, counts in self._near) and all(
            t.crowd.has(demand.namespace, demand.labels) for t in near
        )
        self._away = [
            (t, self._in_domains(t.key, state.tally([t]))) for t in demand.terms if t.kind == "away"
        ]
        others = concerning(demand, state)
        self._unwelcome = [
            (t, self._in_domains(t.key, state.terms[t])) for t in others if t.kind == "away"
        ]
        self._likes = self._liking(others)

    def failure(self, domains: Domains) -> Failure | None:
        """Return why a node in `domains` will not do, None if it may."""
        for spread, counts, least in self._hard:
            value = domains[self.at[spread.key]]
            if value is None:
                return NO_DOMAIN
            own = spread.crowd.has(self.demand.namespace, self.demand.labels)
            if counts[value] + own - least > spread.skew_max:
                return SKEWED
        if not self._is_near(domains):
            return NOT_NEAR
        if self._meets(self._away, domains):
            return NOT_AWAY
        return UNWELCOME if self._meets(self._unwelcome, domains) else None

    def liking(self, domains: Domains) -> int:
        """Return the sum of the weights of preferences between pods."""
        return sum(
            weight * counts[value]
            for key, weight, counts in self._likes
            if (value := domains[self.at[key]]) is not None
        )

    def crowdedness(self, domains: Domains) -> int | None:
        """Return how crowded `domains` are by the soft constraints; None: a label is missing."""
        total = 0.0
        for spread, counts in self._soft:
            value = domains[self.at[spread.key]]
            if value is None:
                return None
            total += scores.spread(counts[value], spread.skew_max, self._size(spread))
        return round(total)

    @property
    def has_soft_spreads(self) -> bool:
        """Tell whether `crowdedness` says anything."""
        return bool(self._soft)

    def _size(self, spread: Spread) -> int:
        """Return in how many domains nodes are that will do."""
        return len({d[self.at[spread.key]] for d in self.fitting} - {None})

    def _is_near(self, domains: Domains) -> bool:
        values = [(domains[self.at[term.key]], counts) for term, counts in self._near]
        if any(value is None for value, _ in values):
            return False
        # The first of a crowd that wants to be together may go anywhere.
        return self._first or all(counts[value or ""] > 0 for value, counts in values)

    def _meets(self, rules: Iterable[tuple[PodTerm, Counter[str]]], domains: Domains) -> bool:
        return any(
            counts[value] > 0
            for term, counts in rules
            if (value := domains[self.at[term.key]]) is not None
        )

    def _in_domains(self, key: str, by_node: Mapping[str, int]) -> Counter[str]:
        """Sum a count per node over the domains of `key`."""
        counts: Counter[str] = Counter()
        for name, count in by_node.items():
            node = self.state.nodes.get(name)
            value = None if node is None else node.labels.get(key)
            if value is not None:
                counts[value] += count
        return counts

    def _counts(self, spread: Spread) -> Counter[str]:
        """Count the pods of a constraint in its domains, on nodes that count for it."""
        counts: Counter[str] = Counter()
        for name, count in self.state.tally([spread]).items():
            if name in self.eligible and self._counts_for(spread, self.state.nodes[name]):
                counts[self.state.nodes[name].labels[spread.key]] += count
        return counts

    def _least(self, spread: Spread) -> tuple[Counter[str], int]:
        """Return the counts of a hard constraint, and that of its emptiest domain."""
        counts = self._counts(spread)
        place = self.at[spread.key]
        simple = not spread.honor_taints and not (
            spread.honor_affinity and (self.demand.selector or self.demand.required is not None)
        )
        values = {
            domains[place]
            for name, domains in self.eligible.items()
            if simple or self._counts_for(spread, self.state.nodes[name])
        }
        if not values or len(values) < spread.domains_min:
            return counts, 0
        return counts, min(counts[value or ""] for value in values)

    def _counts_for(self, spread: Spread, node: NodeInfo) -> bool:
        if spread.honor_affinity and node_affinity(self.demand, node) is not None:
            return False
        return not (spread.honor_taints and taint_toleration(self.demand, node) is not None)

    def _liking(self, others: Iterable[PodTerm]) -> list[tuple[str, int, Counter[str]]]:
        """Return (key, weight of each pod, pods per domain) of all preferences that matter."""
        likes = [
            (t.key, t.weight, self._in_domains(t.key, self.state.tally([t])))
            for t in self.demand.terms
            if t.kind == "likes"
        ]
        for term in others:
            weight = HARD_AFFINITY_WEIGHT if term.kind == "near" else term.weight
            if weight:
                likes.append((term.key, weight, self._in_domains(term.key, self.state.terms[term])))
        return likes


def domains_of(node: NodeInfo, keys: tuple[str, ...]) -> Domains:
    """Return the domains a node is in, None where it lacks the label."""
    return tuple(node.labels.get(key) for key in keys)


def is_eligible(demand: Demand, node: NodeInfo) -> bool:
    """Tell whether a node has every label the spread constraints need, so that its pods count.

    Hard and soft constraints are taken together here; Kubernetes asks of each sort its own keys.
    """
    return all(spread.key in node.labels for spread in demand.spreads)
