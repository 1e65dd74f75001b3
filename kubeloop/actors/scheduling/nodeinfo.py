"""What the scheduler knows of the cluster: nodes and what runs on them, updated fact by fact.

Every change is noted in a log of node names, so whoever keeps something computed per node (see
`framework.Ranking`) need look only at the nodes that changed since: the cost of placing a pod does
not grow with the number of pods.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from kubeloop.actors.scheduling.constraints import Crowd, PodTerm, Spread
from kubeloop.actors.scheduling.demand import Demand, Port, Taint, amounts, normal_image

TALLIES_MAX: Final = 256  # Distinct crowds counted, the latest used.
ZONE: Final = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class PodInfo:
    """A pod on a node, or on its way to one.

    key: "namespace/name";  labels: all of them;  ending: it is being deleted.
    """

    key: str
    uid: str
    demand: Demand
    labels: Mapping[str, str] = field(default_factory=dict)
    ending: bool = False

    def same(self, other: "PodInfo") -> bool:
        """Tell whether it counts the same everywhere."""
        return (self.demand.signature, self.labels, self.ending) == (
            other.demand.signature,
            other.labels,
            other.ending,
        )


@dataclass(slots=True)
class Tally:
    """How many pods on each node are in all of some crowds; `living`: those being deleted not."""

    crowds: tuple[Crowd, ...]
    living: bool
    by_node: Counter[str] = field(default_factory=Counter)

    def has(self, pod: PodInfo) -> bool:
        """Tell whether `pod` is counted."""
        if self.living and pod.ending:
            return False
        return all(crowd.has(pod.demand.namespace, pod.labels) for crowd in self.crowds)


@dataclass(slots=True)
class NodeInfo:
    """A node, and the sum of what is on it.

    known:      the node exists; a pod may name one that does not (yet).
    ports:      taken host ports → how many pods take them;  owners: controller uid → its pods here.
    requested:  what the pods asked for;  scored: (cpu, memory) as scores count them.
    """

    name: str
    known: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    allocatable: Mapping[str, int] = field(default_factory=dict)
    images: Mapping[str, int] = field(default_factory=dict)
    pods: dict[str, PodInfo] = field(default_factory=dict)
    requested: Counter[str] = field(default_factory=Counter)
    scored_cpu: int = 0
    scored_memory: int = 0
    ports: Counter[Port] = field(default_factory=Counter)
    owners: Counter[str] = field(default_factory=Counter)

    @property
    def zone(self) -> str | None:
        """The node's zone, None if it has none."""
        return self.labels.get(ZONE)

    def spec(self) -> tuple[Any, ...]:
        """Return what the node object said that matters here."""
        return self.labels, self.taints, self.unschedulable, self.allocatable, self.images

    def add(self, pod: PodInfo, sign: int = 1) -> None:
        """Count `pod` in, or out if `sign` is -1."""
        demand = pod.demand
        for name, amount in demand.requests.items():
            self.requested[name] += sign * amount
        self.scored_cpu += sign * demand.scored[0]
        self.scored_memory += sign * demand.scored[1]
        for port in demand.ports:
            _count(self.ports, port, sign)
        if demand.owner:
            _count(self.owners, demand.owner, sign)
        if sign > 0:
            self.pods[pod.key] = pod
        else:
            del self.pods[pod.key]


class State:
    """All nodes, all placed pods, and which nodes changed lately."""

    def __init__(self) -> None:
        self._infos: dict[str, NodeInfo] = {}
        self.nodes: dict[str, NodeInfo] = {}  # Those that are known.
        self.placed: dict[str, tuple[PodInfo, str]] = {}  # Pod key → pod, node name.
        self.zones: dict[str, Counter[str]] = defaultdict(Counter)  # Owner → zone → its pods there.
        self.having: dict[str, set[str]] = defaultdict(set)  # Image → nodes that have it.
        self.claims: dict[str, set[str]] = defaultdict(set)  # Claim → placed pods that name it.
        self.terms: dict[PodTerm, Counter[str]] = {}  # Of placed pods → node → pods that have it.
        self.terms_version = 0  # Grows when a term comes or goes.
        self._tallies: OrderedDict[tuple[tuple[Crowd, ...], bool], Tally] = OrderedDict()
        self.image_version = 0  # Grows when nodes' images or the number of nodes change.
        self.log: list[str] = []  # Names of changed nodes, oldest first.
        self.log_base = 0  # How many older entries were dropped.
        self.because = 0  # The revision of the fact that what follows is about; its owner's to set.
        self._changes: dict[str, int] = {}  # Node → what changed it last; the newest comes last.

    @property
    def position(self) -> int:
        """The position in the log after its newest entry."""
        return self.log_base + len(self.log)

    def changed_since(self, position: int) -> Sequence[str] | None:
        """Return the nodes changed after `position`; None if all may have."""
        if position < self.log_base or self.position - position > len(self.nodes):
            return None
        return self.log[position - self.log_base :]

    def take_changes(self) -> dict[str, int]:
        """Return what changed since the last call: node → the revision that did, newest last."""
        changes, self._changes = self._changes, {}
        return changes

    def set_node(self, node: Mapping[str, Any]) -> bool:
        """Take over a node object; tell whether anything that matters changed."""
        name = node["metadata"]["name"]
        info = self._info(name)
        before = (info.known, *info.spec())
        spec, status = node.get("spec") or {}, node.get("status") or {}
        labels = node["metadata"].get("labels") or {}
        images = _images(status)
        if labels.get(ZONE) != info.zone:
            self._move_zone(info, labels.get(ZONE))
        if not info.known or images != info.images:
            self._set_images(info, images)
        info.known = True
        info.labels = labels
        info.taints = tuple(
            Taint(t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ()
        )
        info.unschedulable = bool(spec.get("unschedulable"))
        info.allocatable = amounts(status.get("allocatable"))
        self.nodes[name] = info
        changed = before != (info.known, *info.spec())
        if changed:
            self._note(name)
        return changed

    def remove_node(self, name: str) -> None:
        """Forget a node; pods that are bound to it stay counted under its name."""
        info = self.nodes.pop(name, None)
        if info is None:
            return
        self._set_images(info, {})
        self._move_zone(info, None)
        info.known = False
        info.labels, info.taints, info.unschedulable, info.allocatable = {}, (), False, {}
        self._drop_if_empty(info)
        self._note(name)

    def place(self, pod: PodInfo, node: str) -> bool:
        """Count `pod` on `node` (and nowhere else); tell whether anything changed."""
        current = self.placed.get(pod.key)
        if current is not None:
            if current[1] == node and current[0].same(pod):
                self.placed[pod.key] = (pod, node)
                self._infos[node].pods[pod.key] = pod
                return False
            self.remove(pod.key)
        self.placed[pod.key] = (pod, node)
        self._count_pod(pod, node, 1)
        return True

    def remove(self, key: str) -> bool:
        """Take a pod off its node; tell whether it was on one."""
        current = self.placed.pop(key, None)
        if current is None:
            return False
        pod, node = current
        self._count_pod(pod, node, -1)
        self._drop_if_empty(self._infos[node])
        return True

    def tally(self, rules: Sequence[PodTerm | Spread]) -> Counter[str]:
        """Return node → how many of its pods are in the crowds of all `rules`.

        Counted once, then kept up to date. Pods that are being deleted count for affinity only.
        """
        key = tuple(rule.crowd for rule in rules), any(isinstance(r, Spread) for r in rules)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = Tally(*key)
            for pod, node in self.placed.values():
                if tally.has(pod):
                    tally.by_node[node] += 1
            if len(self._tallies) > TALLIES_MAX:
                self._tallies.popitem(last=False)
        self._tallies.move_to_end(key)
        return tally.by_node

    def _count_pod(self, pod: PodInfo, node: str, sign: int) -> None:
        info = self._info(node)
        info.add(pod, sign)
        for tally in self._tallies.values():
            if tally.has(pod):
                _count(tally.by_node, node, sign)
        for term in pod.demand.terms:
            self._count_term(term, node, sign)
        for claim in pod.demand.claims:
            self._count_claim(claim, pod.key, sign)
        owner, zone = pod.demand.owner, info.zone
        if owner and zone is not None:
            _count(self.zones[owner], zone, sign)
            if not self.zones[owner]:
                del self.zones[owner]
        if info.known:
            self._note(node)

    def _count_claim(self, claim: str, key: str, sign: int) -> None:
        if sign > 0:
            self.claims[claim].add(key)
            return
        self.claims[claim].discard(key)
        if not self.claims[claim]:
            del self.claims[claim]

    def in_use(self, claim: str, pod: str) -> bool:
        """Tell whether another pod that names a claim is on a node."""
        return bool(self.claims.get(claim, set()) - {pod})

    def _count_term(self, term: PodTerm, node: str, sign: int) -> None:
        if term not in self.terms:
            self.terms[term] = Counter()
            self.terms_version += 1
        _count(self.terms[term], node, sign)
        if not self.terms[term]:
            del self.terms[term]
            self.terms_version += 1

    def _move_zone(self, info: NodeInfo, zone: str | None) -> None:
        for owner, count in info.owners.items():
            if info.zone is not None:
                _count(self.zones[owner], info.zone, -count)
            if zone is not None:
                _count(self.zones[owner], zone, count)

    def _set_images(self, info: NodeInfo, images: Mapping[str, int]) -> None:
        for image in info.images:
            self.having[image].discard(info.name)
            if not self.having[image]:
                del self.having[image]
        for image in images:
            self.having[image].add(info.name)
        info.images = images
        self.image_version += 1

    def _info(self, name: str) -> NodeInfo:
        info = self._infos.get(name)
        if info is None:
            info = self._infos[name] = NodeInfo(name)
        return info

    def _drop_if_empty(self, info: NodeInfo) -> None:
        if not info.known and not info.pods:
            del self._infos[info.name]

    def _note(self, name: str) -> None:
        self._changes.pop(name, None)
        self._changes[name] = self.because
        self.log.append(name)
        if len(self.log) > 4 * len(self.nodes) + 1024:  # Amortised: O(1) per change.
            dropped = len(self.log) // 2
            del self.log[:dropped]
            self.log_base += dropped


def _images(status: Mapping[str, Any]) -> dict[str, int]:
    """Return image name → size of what a node says it has."""
    return {
        normal_image(name): int(image.get("sizeBytes") or 0)
        for image in status.get("images") or ()
        for name in image.get("names") or ()
    }


def _count(counter: Counter[Any], key: Any, change: int) -> None:
    counter[key] += change
    if not counter[key]:
        del counter[key]
