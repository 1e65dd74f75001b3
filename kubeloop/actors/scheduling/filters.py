"""Filters: why a pod may not go to a node, in the order and the words of Kubernetes 1.37.

The first filter that fails decides. A filter here looks at one node alone; what depends on pods
elsewhere is `topology`'s.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from kubeloop.actors.scheduling.demand import Demand, Port, Taint, Toleration
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


def claims_bound(demand: Demand, node: NodeInfo) -> Failure | None:
    """No kubelet here mounts what a claim is bound to: a pod that names one waits for ever."""
    if demand.claims:
        why = f'volumes of persistentvolumeclaim "{demand.claims[0]}" cannot be mounted here'
        return Failure((why,), no_node=True)
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


FILTERS: Final[tuple[Filter, ...]] = (
    claims_bound,
    named,
    node_unschedulable,
    node_name,
    taint_toleration,
    node_affinity,
    node_ports,
    node_resources_fit,
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
