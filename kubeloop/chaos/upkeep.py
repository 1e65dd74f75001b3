"""What administrators do: budgets, evictions, taints, namespaces.

As the steps of users they write what one might, and nothing that one must not.
"""

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import msgpack

from kubeloop.api.calls import Request
from kubeloop.api.errors import NotFound, error_of
from kubeloop.chaos.stage import USER, Stage
from kubeloop.chaos.steps import NODES, TAINT, Step, patiently, workload
from kubeloop.chaos.values import FLAG, OneOf, Whole, drawn, kind

NAMESPACES: Final = OneOf("north", "south")
ADMIN: Final = "system:admin"


@kind("budget")
@dataclass(frozen=True, kw_only=True)
class Budget(Step):
    """Apply a PodDisruptionBudget for the pods of an app.

    amount:  of pods, or of those there ought to be in percent.
    missing: whether so many may be missing; else so many must be there.
    """

    app: str = drawn(OneOf("web", "db", "queue", "vault"))
    amount: str = drawn(OneOf("1", "0", "2", "50%"))
    missing: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        amount = self.amount if self.amount.endswith("%") else int(self.amount)
        field, other = "minAvailable", "maxUnavailable"
        if self.missing:
            field, other = other, field
        selector = {"matchLabels": {"app": self.app}}
        await stage.api.apply(
            {
                "apiVersion": "policy/v1",
                "kind": "PodDisruptionBudget",
                "metadata": {"name": self.app},
                "spec": {"selector": selector, field: amount},
            }
        )


@kind("evict")
@dataclass(frozen=True, kw_only=True)
class Evict(Step):
    """Evict pods at once: of those there are, in the order of their names, from this number on.

    many: how many. Refused by a budget, one tries again, as `kubectl drain` does.
    """

    number: int = drawn(Whole(0, 9))
    many: int = drawn(OneOf(1, 2, 3))

    async def do(self, stage: Stage) -> None:
        pods = sorted(pod.name for pod in await stage.api.list("pods"))
        chosen = {pods[(self.number + more) % len(pods)]: None for more in range(self.many) if pods}
        evictions = (patiently(stage, partial(_evict, stage, name)) for name in chosen)
        for error in await asyncio.gather(*evictions, return_exceptions=True):
            if error is not None and not isinstance(error, NotFound):
                raise error


async def _evict(stage: Stage, name: str) -> None:
    """Ask for the eviction of a pod. Raises: ApiError."""
    named = {"name": name, "namespace": "default"}
    body = msgpack.packb({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": named})
    request = Request("create", "pods", "default", name, "eviction", body)
    outcome = await stage.ask(replace(request, user=ADMIN, agent=USER))
    if outcome.code >= 400:
        raise error_of(msgpack.unpackb(outcome.body))


@kind("taint")
@dataclass(frozen=True, kw_only=True)
class TaintNode(Step):
    """Put a taint on a node, or take it away. lift: whether it is taken away."""

    node: int = drawn(NODES)
    effect: str = drawn(OneOf("NoExecute", "NoSchedule"))
    lift: bool = drawn(FLAG)

    async def do(self, stage: Stage) -> None:
        node = await stage.api.get("nodes", f"node-{self.node}")
        had = node["spec"].get("taints") or []
        taints = [t for t in had if (t["key"], t["effect"]) != (TAINT, self.effect)]
        if not self.lift:
            if len(taints) < len(had):
                return  # It is there already.
            taints.append({"key": TAINT, "effect": self.effect})
        await stage.api.update({**node, "spec": {**node["spec"], "taints": taints}})


@kind("namespace")
@dataclass(frozen=True, kw_only=True)
class FoundNamespace(Step):
    """Apply a namespace with a ConfigMap and a Deployment in it."""

    name: str = drawn(NAMESPACES)
    replicas: int = drawn(Whole(0, 2))

    async def do(self, stage: Stage) -> None:
        within: dict[str, Any] = {"name": "inside", "namespace": self.name}
        await stage.api.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        )
        found = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": within}
        await stage.api.apply({**found, "data": {"value": "1"}})
        deployment = workload("Deployment", "inside", self.replicas, "app:1")
        await stage.api.apply({**deployment, "metadata": within})


@kind("drop-namespace")
@dataclass(frozen=True, kw_only=True)
class DropNamespace(Step):
    """Delete a namespace, and with it what is in it."""

    name: str = drawn(NAMESPACES)

    async def do(self, stage: Stage) -> None:
        await stage.api.delete("namespaces", self.name)
