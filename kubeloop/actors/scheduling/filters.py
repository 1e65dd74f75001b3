"""Filters: why a pod may not go to a node, in the order and the words of Kubernetes 1.37.

The first filter that fails decides. A filter here looks at one node alone; what depends on pods
elsewhere is `topology`'s.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from kubeloop.actors.scheduling.demand import Demand, Needs, Port, Taint, Term, Toleration
from kubeloop.actors.scheduling.nodeinfo import NodeInfo

PODS_MAX_UNSTATED: Final = 0  # A node that does not say how many pods it takes takes none.

_UNSCHEDULABLE: Final = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a node will not do.

    helpless: taking pods off the node would not help.
    no_node:  no node whatever would do, so it is told without a count.
    """

    reasons: tuple[str, ...]
    helpless: bool = True
    no_node: bool = False


Filter = Callable[[Demand, NodeInfo], Failure | None]

NOT_NAMED: Final = Failure(("node(s) didn't satisfy plugin(s) [NodeAffinity]",))
CORDONED: Final = Failure(("node(s) were unschedulable",))
OTHER_NAME: Final = Failure(("node(s) didn't match the requested node name",))
TAINTED: Final = Failure(("node(s) had untolerated taint(s)",))
NO_AFFINITY: Final = Failure(("node(s) didn't match Pod's node affinity/selector",))
PORTS_TAKEN: Final = Failure(
    ("node(s) didn't have free ports for the requested pod ports",), helpless=False
)
CROWDED: Final = Failure(
    (
        "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access"
        " mode",
    ),
    helpless=False,
)
LOST_VOLUME: Final = Failure(
    ("node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",)
)
ELSEWHERE: Final = Failure(("node(s) had volume node affinity conflict",))
NO_VOLUME: Final = Failure(("node(s) didn't find available persistent volumes to bind",))


def claims_in_trouble(demand: Demand, node: NodeInfo) -> Failure | None:
    """A claim that is missing, lost, or should be bound and is not keeps a pod from every node."""
    if demand.needs is not None and demand.needs.trouble:
        return Failure((demand.needs.trouble,), no_node=True)
    return None


def named(demand: Demand, node: NodeInfo) -> Failure | None:
    """A pod whose required affinity names its nodes (as a DaemonSet's) may go to no other."""
    return NOT_NAMED if demand.names is not None and node.name not in demand.names else None


def node_unschedulable(demand: Demand, node: NodeInfo) -> Failure | None:
    """A cordoned node takes only pods that tolerate it."""
    if node.unschedulable and not tolerated(_UNSCHEDULABLE, demand.tolerations):
        return CORDONED
    return None


def node_name(demand: Demand, node: NodeInfo) -> Failure | None:
    """A pod that names its node goes there."""
    return OTHER_NAME if demand.node_name not in ("", node.name) else None


def taint_toleration(demand: Demand, node: NodeInfo) -> Failure | None:
    """Taints NoSchedule and NoExecute keep away pods that do not tolerate them."""
    for taint in node.taints:
        if taint.effect != "PreferNoSchedule" and not tolerated(taint, demand.tolerations):
            return TAINTED
    return None


def node_affinity(demand: Demand, node: NodeInfo) -> Failure | None:
    """spec.nodeSelector, and one term of the required node affinity, must match."""
    if not all(r.matches(node.labels) for r in demand.selector):
        return NO_AFFINITY
    if demand.required is None or any(t.matches(node.name, node.labels) for t in demand.required):
        return None
    return NO_AFFINITY


def node_ports(demand: Demand, node: NodeInfo) -> Failure | None:
    """No two pods of a node take the same host port of an address they share."""
    if demand.ports and any(
        _conflict(port, taken) for port in demand.ports for taken in node.ports
    ):
        return PORTS_TAKEN
    return None


def node_resources_fit(demand: Demand, node: NodeInfo) -> Failure | None:
    """What all pods of a node ask for is never more than it has; all shortages are told."""
    reasons: list[str] = []
    helpless = False
    if len(node.pods) + 1 > node.allocatable.get("pods", PODS_MAX_UNSTATED):
        reasons.append("Too many pods")
    for name, amount in demand.requests.items():
        capacity = node.allocatable.get(name, 0)
        if amount > capacity - node.requested[name]:
            reasons.append(f"Insufficient {name}")
            helpless |= amount > capacity
    return Failure(tuple(reasons), helpless) if reasons else None


def volume_restrictions(demand: Demand, node: NodeInfo) -> Failure | None:
    """What only one pod may have, another has."""
    return CROWDED if demand.needs is not None and demand.needs.crowded else None


def volume_binding(demand: Demand, node: NodeInfo) -> Failure | None:
    """Volumes must be usable on the node, and those yet to be found or made, possible there."""
    needs = demand.needs
    if needs is None:
        return None
    if needs.lost:
        return LOST_VOLUME
    if not all(is_on(terms, node) for terms in needs.places):
        return ELSEWHERE
    return NO_VOLUME if chosen_volumes(needs, node) is None else None


def chosen_volumes(needs: Needs, node: NodeInfo) -> dict[str, str | None] | None:
    """Return claim → the volume it gets on a node, None if one is made; None if that fails."""
    chosen: dict[str, str | None] = {}
    for one in needs.unbound:
        free = (
            name
            for name, terms in one.volumes
            if name not in chosen.values() and is_on(terms, node)
        )
        chosen[one.claim] = found = next(free, None)
        provisioned = one.provisioned is not None and is_on(one.provisioned or None, node)
        if one.node not in ("", node.name) or (found is None and not provisioned):
            return None
    return chosen


def is_on(terms: tuple[Term, ...] | None, node: NodeInfo) -> bool:
    """Tell whether one of the terms means a node; None means all."""
    return terms is None or any(term.matches(node.name, node.labels) for term in terms)


FILTERS: Final[tuple[Filter, ...]] = (
    claims_in_trouble,
    named,
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
    volume_restrictions,
    volume_binding,
)


def first_failure(demand: Demand, node: NodeInfo) -> Failure | None:
    """Return why the pod may not go to `node`, None if it may."""
    for check in FILTERS:
        failure = check(demand, node)
        if failure is not None:
            return failure
    return None


def tolerated(taint: Taint, tolerations: Iterable[Toleration]) -> bool:
    """Tell whether one of `tolerations` covers `taint`."""
    return any(toleration.tolerates(taint) for toleration in tolerations)


def _conflict(one: Port, other: Port) -> bool:
    return one[1:] == other[1:] and (one[0] == other[0] or "" in (one[0], other[0]))
