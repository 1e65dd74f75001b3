"""Scores: how good a node is for a pod, each 0 to 100, with Kubernetes' formulas and weights.

Some scores depend on the node alone (`of_node`). Others are compared with those of the other nodes
that would do: for them a node has a raw count here, and `framework` brings the counts to 0…100.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from kubeloop.actors.scheduling.demand import Demand
from kubeloop.actors.scheduling.filters import tolerated
from kubeloop.actors.scheduling.nodeinfo import NodeInfo, State

T = TypeVar("T")

SCORE_MAX: Final = 100
WEIGHT_TAINTS: Final = 3
WEIGHT_AFFINITY: Final = 2
WEIGHT_SPREADING: Final = 2
WEIGHT_INTERPOD: Final = 2

_MB: Final = 1024 * 1024
_IMAGE_MIN: Final = 23 * _MB  # Smaller images are not worth a preference.
_IMAGE_MAX: Final = 1000 * _MB  # Per container.


def of_node(demand: Demand, node: NodeInfo, images: dict[str, float]) -> int:
    """Return the weighted sum of the scores that depend on the node alone; all weigh 1."""
    return (
        least_allocated(demand, node)
        + balanced_allocation(demand, node)
        + image_locality(demand, node, images)
    )


def least_allocated(demand: Demand, node: NodeInfo) -> int:
    """Prefer nodes with much left: the mean of the free shares of cpu and memory."""
    total = count = 0
    for name, used in (
        ("cpu", node.scored_cpu + demand.scored[0]),
        ("memory", node.scored_memory + demand.scored[1]),
    ):
        capacity = node.allocatable.get(name, 0)
        if capacity:
            count += 1
            total += max(0, (capacity - used) * SCORE_MAX // capacity)
    return total // count if count else 0


def balanced_allocation(demand: Demand, node: NodeInfo) -> int:
    """Prefer nodes whose cpu and memory come to be used evenly, compared with before the pod."""
    if demand.best_effort:
        return 0
    half = SCORE_MAX // 2
    with_pod = _evenness(demand, node, 1)
    return half + int((half + with_pod - _evenness(demand, node, 0)) / 2)


def _evenness(demand: Demand, node: NodeInfo, pods: int) -> int:
    shares = [
        min(1.0, (node.requested[name] + pods * demand.requests.get(name, 0)) / capacity)
        for name in ("cpu", "memory")
        if (capacity := node.allocatable.get(name, 0))
    ]
    deviation = abs(shares[0] - shares[1]) / 2 if len(shares) == 2 else 0.0
    return int((1 - deviation) * SCORE_MAX)


def image_worth(demand: Demand, state: State) -> dict[str, float]:
    """Return image → the share of nodes that have it, for the images some node has.

    An image that few nodes have counts little, else its pods would crowd on them.
    """
    nodes = max(1, len(state.nodes))
    return {
        image: len(state.having[image]) / nodes for image in demand.images if image in state.having
    }


def image_locality(demand: Demand, node: NodeInfo, worth: dict[str, float]) -> int:
    """Prefer nodes that have the pod's images, the larger the better."""
    if not worth:
        return 0
    total = sum(
        int(node.images[image] * worth[image]) for image in demand.images if image in node.images
    )
    most = _IMAGE_MAX * len(demand.images)
    return SCORE_MAX * (min(max(total, _IMAGE_MIN), most) - _IMAGE_MIN) // (most - _IMAGE_MIN)


def untolerated(demand: Demand, node: NodeInfo) -> int:
    """Count the taints PreferNoSchedule that the pod does not tolerate."""
    return sum(
        taint.effect == "PreferNoSchedule" and not tolerated(taint, demand.tolerations)
        for taint in node.taints
    )


def preference(demand: Demand, node: NodeInfo) -> int:
    """Return the sum of the weights of the preferred node affinity terms that match."""
    return sum(weight for weight, t in demand.preferred if t.matches(node.name, node.labels))


def normalised(raw: int, most: int, *, reverse: bool = False) -> int:
    """Bring a count to 0…100 of the greatest one; `reverse`: few are good."""
    share = SCORE_MAX * raw // most if most else 0
    return SCORE_MAX - share if reverse else share


def spread(count: int, skew_max: int, domains: int) -> float:
    """Return how crowded a domain of a topology is, of `domains`: the more, the worse."""
    return count * math.log(domains + 2) + (skew_max - 1)


def between(values: Mapping[T, int]) -> dict[T, int]:
    """Bring values to 0…100 between the least and the greatest; all 0 if they are equal."""
    least = min(values.values(), default=0)
    span = max(values.values(), default=0) - least
    return {
        key: SCORE_MAX * (value - least) // span if span else 0 for key, value in values.items()
    }


def least_crowded(crowded: int, all_crowded: Iterable[int]) -> int:
    """Bring a crowdedness to 0…100: the least crowded domain is the best."""
    values = tuple(all_crowded)
    most, least = max(values), min(values)
    return SCORE_MAX * (most + least - crowded) // most if most else SCORE_MAX
