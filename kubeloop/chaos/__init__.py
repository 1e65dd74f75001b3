"""Chaos: simulated runs in which things break, found by chance and shrunk to what matters.

    from kubeloop import chaos

    chaos.play(chaos.Plan(seed=7, happenings=(chaos.Deploy(replicas=3), chaos.Cordon(at_s=5))))

Importing this package loads nothing: what it offers is loaded when first named (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kubeloop.chaos.compare import Difference, counterfactual
    from kubeloop.chaos.exploring import Explored, Ordering, Scenario, count_orders, explore, follow
    from kubeloop.chaos.faults.actors import (
        ActorCrashes,
        ActorDown,
        ActorFreezes,
        ActorSlow,
        ActorWatchBreaks,
    )
    from kubeloop.chaos.faults.api import (
        AnswerLost,
        ApiBusy,
        ApiFails,
        ApiRestarts,
        ApiSlow,
        BookmarksLost,
        Compaction,
        ConflictStorm,
        CrashAtWrite,
        OperatorCrashes,
        StaleReads,
        StatesMissed,
        WatchEnds,
        WatchHangs,
    )
    from kubeloop.chaos.faults.base import Fault
    from kubeloop.chaos.faults.containers import (
        ContainerExits,
        ContainerHangs,
        ContainerOom,
        ProbesFail,
        SlowStarts,
    )
    from kubeloop.chaos.faults.disk import BitRot, ClusterDies, DiskFails, DiskFull, DiskSlow
    from kubeloop.chaos.faults.images import PullsFail, PullsSlow
    from kubeloop.chaos.faults.network import (
        NetCut,
        NetHalfOpen,
        NetLossy,
        NetNarrow,
        NetRefuses,
        NetReset,
        NetSlow,
    )
    from kubeloop.chaos.faults.nodes import NodeClock, NodeCut, NodeOff, NodePressure, RuntimeStalls
    from kubeloop.chaos.finding import Found, as_test, find
    from kubeloop.chaos.generate import Profile, plan_of, plans
    from kubeloop.chaos.invariants import Invariant, Sight, invariant, standard
    from kubeloop.chaos.machine import ClusterMachine
    from kubeloop.chaos.manifests import manifests
    from kubeloop.chaos.orders import Bounds
    from kubeloop.chaos.plan import Plan
    from kubeloop.chaos.playing import Violation, play
    from kubeloop.chaos.shrinking import shrink
    from kubeloop.chaos.stage import Stage
    from kubeloop.chaos.steps import (
        BarePod,
        Configure,
        Cordon,
        DeleteApp,
        DeletePod,
        Deploy,
        Expose,
        Populate,
        Replicate,
        Scale,
        ScaleStateful,
        Stateful,
        Step,
        Unexpose,
    )
    from kubeloop.chaos.switchboard import Ways
    from kubeloop.chaos.upkeep import Budget, DropNamespace, Evict, FoundNamespace, TaintNode
    from kubeloop.chaos.values import Happening
    from kubeloop.chaos.watching import Broken, Monitor, Outcome

__all__ = [
    "ActorCrashes",
    "ActorDown",
    "ActorFreezes",
    "ActorSlow",
    "ActorWatchBreaks",
    "AnswerLost",
    "ApiBusy",
    "ApiFails",
    "ApiRestarts",
    "ApiSlow",
    "BarePod",
    "BitRot",
    "BookmarksLost",
    "Bounds",
    "Broken",
    "Budget",
    "ClusterDies",
    "ClusterMachine",
    "Compaction",
    "Configure",
    "ConflictStorm",
    "ContainerExits",
    "ContainerHangs",
    "ContainerOom",
    "Cordon",
    "CrashAtWrite",
    "DeleteApp",
    "DeletePod",
    "Deploy",
    "Difference",
    "DiskFails",
    "DiskFull",
    "DiskSlow",
    "DropNamespace",
    "Evict",
    "Explored",
    "Expose",
    "Fault",
    "Found",
    "FoundNamespace",
    "Happening",
    "Invariant",
    "Monitor",
    "NetCut",
    "NetHalfOpen",
    "NetLossy",
    "NetNarrow",
    "NetRefuses",
    "NetReset",
    "NetSlow",
    "NodeClock",
    "NodeCut",
    "NodeOff",
    "NodePressure",
    "OperatorCrashes",
    "Ordering",
    "Outcome",
    "Plan",
    "Populate",
    "ProbesFail",
    "Profile",
    "PullsFail",
    "PullsSlow",
    "Replicate",
    "RuntimeStalls",
    "Scale",
    "ScaleStateful",
    "Scenario",
    "Sight",
    "SlowStarts",
    "Stage",
    "StaleReads",
    "Stateful",
    "StatesMissed",
    "Step",
    "TaintNode",
    "Unexpose",
    "Violation",
    "WatchEnds",
    "WatchHangs",
    "Ways",
    "as_test",
    "count_orders",
    "counterfactual",
    "explore",
    "find",
    "follow",
    "invariant",
    "manifests",
    "plan_of",
    "plans",
    "play",
    "shrink",
    "standard",
]

_HOMES = {
    "compare": ["Difference", "counterfactual"],
    "exploring": ["Explored", "Ordering", "Scenario", "count_orders", "explore", "follow"],
    "faults.api": [
        "AnswerLost",
        "ApiBusy",
        "ApiFails",
        "ApiRestarts",
        "ApiSlow",
        "BookmarksLost",
        "Compaction",
        "ConflictStorm",
        "CrashAtWrite",
        "OperatorCrashes",
        "StaleReads",
        "StatesMissed",
        "WatchEnds",
        "WatchHangs",
    ],
    "faults.base": ["Fault"],
    "invariants": ["Invariant", "Sight", "invariant", "standard"],
    "faults.actors": ["ActorCrashes", "ActorDown", "ActorFreezes", "ActorSlow", "ActorWatchBreaks"],
    "faults.nodes": ["NodeClock", "NodeCut", "NodeOff", "NodePressure", "RuntimeStalls"],
    "faults.containers": [
        "ContainerExits",
        "ContainerHangs",
        "ContainerOom",
        "ProbesFail",
        "SlowStarts",
    ],
    "faults.images": ["PullsFail", "PullsSlow"],
    "faults.disk": ["BitRot", "ClusterDies", "DiskFails", "DiskFull", "DiskSlow"],
    "faults.network": [
        "NetCut",
        "NetHalfOpen",
        "NetLossy",
        "NetNarrow",
        "NetRefuses",
        "NetReset",
        "NetSlow",
    ],
    "finding": ["Found", "as_test", "find"],
    "generate": ["Profile", "plan_of", "plans"],
    "machine": ["ClusterMachine"],
    "manifests": ["manifests"],
    "orders": ["Bounds"],
    "plan": ["Plan"],
    "playing": ["Violation", "play"],
    "shrinking": ["shrink"],
    "stage": ["Stage"],
    "steps": [
        *("BarePod", "ScaleStateful", "Stateful"),
        *("Configure", "Cordon", "DeleteApp", "DeletePod", "Deploy", "Expose", "Populate"),
        *("Replicate", "Scale", "Step", "Unexpose"),
    ],
    "switchboard": ["Ways"],
    "upkeep": ["Budget", "DropNamespace", "Evict", "FoundNamespace", "TaintNode"],
    "values": ["Happening"],
    "watching": ["Broken", "Monitor", "Outcome"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load the module that defines `name` on first use."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'kubeloop.chaos' has no attribute {name!r}")
    value: object = getattr(import_module(f"kubeloop.chaos.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
