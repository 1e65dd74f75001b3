"""What must hold in every cluster, whatever breaks; see docs/invariants.md.

`standard()` makes those who see to it, for one run; `invariant` makes one of a function. Whatever
else must hold gets a module of its own here, a line in `_ALL`, and a paragraph on that page.
"""

from collections.abc import Sequence

from kubeloop.chaos.invariants.acknowledged import AcknowledgedWrites
from kubeloop.chaos.invariants.addresses import Addresses
from kubeloop.chaos.invariants.budgets import Budgets
from kubeloop.chaos.invariants.capacity import Capacity
from kubeloop.chaos.invariants.custom import Invariant, Sight, invariant
from kubeloop.chaos.invariants.endpoints import Endpoints
from kubeloop.chaos.invariants.history import Identities, Revisions
from kubeloop.chaos.invariants.linearizability import Linearizability
from kubeloop.chaos.invariants.ownership import Ownership
from kubeloop.chaos.invariants.replicas import Replicas
from kubeloop.chaos.invariants.rollouts import Rollouts
from kubeloop.chaos.invariants.running import Running
from kubeloop.chaos.invariants.stateful import StatefulSets
from kubeloop.chaos.invariants.tale import Tale, Watcher
from kubeloop.chaos.invariants.tolerations import Tolerations
from kubeloop.chaos.invariants.traffic import Traffic
from kubeloop.chaos.invariants.views import Views
from kubeloop.chaos.invariants.volumes import Volumes
from kubeloop.chaos.invariants.watches import Watches
from kubeloop.chaos.watching import Monitor

__all__ = ["Invariant", "Sight", "invariant", "standard"]

_ALL: Sequence[type[Watcher]] = (
    Revisions,
    Watches,
    AcknowledgedWrites,
    Linearizability,
    Identities,
    Running,
    Capacity,
    Tolerations,
    Replicas,
    Rollouts,
    StatefulSets,
    Budgets,
    Ownership,
    Volumes,
    Addresses,
    Endpoints,
    Traffic,
    Views,
)


def standard() -> list[Monitor]:
    """Return fresh monitors of all that must always hold, for one run."""
    tale = Tale()
    return [watcher(tale) for watcher in _ALL]
