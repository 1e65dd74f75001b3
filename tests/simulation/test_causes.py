"""Whatever follows from a request leads back to it, and to it alone, while others write, too.

Each scenario does one thing to a cluster in virtual time, as `system:admin`. At the same moment
somebody else, mallory, does what has nothing to do with it. In the end every single fact must lead
back to the one or to the other, as its name tells, or be a heartbeat of a node.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest

from kubeloop.actors.requests.state import Settings
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.cluster import Cluster
from kubeloop.net.client import Client, KubeObject
from kubeloop.store.causality import effects, told, why
from kubeloop.store.facts import Fact
from kubeloop.store.history import History

ME, MALLORY = "system:admin", "mallory"
IMAGES: Final = {"crash:1": Script(run_s=3, exit_code=1), "deaf:1": Script(ready_after_s=1e9)}
SETS: Final = frozenset({"deployments.apps", "replicasets.apps"})
SLICES: Final = frozenset({"endpoints", "endpointslices.discovery.k8s.io"})
ALL: Final = SETS | SLICES | {"pods", "events"}
LEASES: Final = "leases.coordination.k8s.io"
HEARTBEATS: Final = (LEASES, "nodes")

Act = Callable[[Client], Awaitable[Any]]


def deployment(
    name: str, replicas: int = 2, *, namespace: str = "default", pod: Any = None, **spec: Any
) -> Any:
    """Return a Deployment. pod: what its container has more;  spec: what its spec has more."""
    labels = {"app": name}
    container = {"name": "c", "image": "web:1", **(pod or {})}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def plain(kind: str, name: str, **more: Any) -> Any:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **more}


SERVICE: Final = plain("Service", "web", spec={"selector": {"app": "web"}, "ports": [{"port": 80}]})
PROBE: Final = {"readinessProbe": {"exec": {"command": ["ok"]}, "periodSeconds": 1}}
HUGE: Final = {"resources": {"requests": {"cpu": "500"}}}
NEEDY: Final = {"envFrom": [{"configMapRef": {"name": "web-map"}}]}
NEW_IMAGE: Final = {"template": {"spec": {"containers": [{"name": "c", "image": "web:2"}]}}}
TAINT: Final = {"key": "web", "value": "gone", "effect": "NoExecute"}


def creates(*objects: Any) -> Act:
    async def act(api: Client) -> None:
        for obj in objects:
            await api.create(obj)

    return act


def patches(kind: str, name: str, spec: Any) -> Act:
    return lambda api: api.patch(kind, name, {"spec": spec})


def deletes(kind: str, name: str, propagation: Any = "Background") -> Act:
    return lambda api: api.delete(kind, name, propagation=propagation)


async def first_pod(api: Client) -> KubeObject:
    return (await api.list("pods", labels="app=web"))[0]


async def delete_a_pod(api: Client) -> None:
    await api.delete("pod", (await first_pod(api)).name)


async def take_a_pod_away(api: Client) -> None:
    name = (await first_pod(api)).name
    await api.patch("pod", name, {"metadata": {"labels": {"app": "web-lost"}}})


async def other_work(api: Client) -> None:
    await api.create(plain("ConfigMap", "other-map"))
    await api.scale("deployment", "other", 3)
    await api.create(deployment("other-too"))


@dataclass(frozen=True, slots=True)
class Scenario:
    """What I do to what there is, and what kinds of objects it changes at least.

    nodes: pods of all on a node are concerned, so mallory only makes a map.
    """

    act: Act
    kinds: frozenset[str]
    before: Sequence[Any] = (SERVICE, deployment("web"))
    lasts_s: float = 60.0
    nodes: bool = False


SCENARIOS: Final = {
    "create": Scenario(creates(SERVICE, deployment("web")), ALL | {"services"}, ()),
    "scale up": Scenario(lambda api: api.scale("deployment", "web", 4), ALL),
    "scale to nothing": Scenario(lambda api: api.scale("deployment", "web", 0), ALL),
    "roll": Scenario(patches("deployment", "web", NEW_IMAGE), ALL),
    "delete": Scenario(deletes("deployment", "web"), ALL),
    "delete, dependents first": Scenario(deletes("deployment", "web", "Foreground"), ALL),
    "delete, not dependents": Scenario(deletes("deployment", "web", "Orphan"), SETS),
    "delete a pod": Scenario(delete_a_pod, ALL),
    "take a pod away": Scenario(take_a_pod_away, ALL),
    "delete the service": Scenario(deletes("service", "web"), SLICES | {"services"}),
    "delete the namespace": Scenario(
        deletes("namespace", "web-space"),
        SETS | {"pods", "namespaces", "serviceaccounts"},
        (plain("Namespace", "web-space"), deployment("web", namespace="web-space")),
    ),
    "available only later": Scenario(
        creates(deployment("web", minReadySeconds=20)), SETS | {"pods", "events"}, ()
    ),
    "never ready": Scenario(
        creates(deployment("web", pod={"image": "deaf:1", **PROBE}, progressDeadlineSeconds=30)),
        SETS | {"pods", "events"},
        (),
    ),
    "crashing": Scenario(creates(deployment("web", pod={"image": "crash:1"})), ALL - SLICES, ()),
    "too large": Scenario(creates(deployment("web", pod=HUGE)), ALL - SLICES, (), 400.0),
    "what was missing": Scenario(
        creates(plain("ConfigMap", "web-map")), ALL, (SERVICE, deployment("web", pod=NEEDY))
    ),
    "taint a node": Scenario(
        patches("node", "node-1", {"taints": [TAINT]}), ALL | {"nodes"}, nodes=True
    ),
    "cordon a node": Scenario(
        patches("node", "node-1", {"unschedulable": True}), frozenset({"nodes"}), nodes=True
    ),
    "delete a node": Scenario(
        deletes("node", "node-1"), frozenset({"nodes", "events", LEASES}), nodes=True
    ),
}


@pytest.mark.parametrize(("policy", "seed"), [("fifo", 0), ("random", 1), ("random", 2)])
@pytest.mark.parametrize("name", SCENARIOS)
def test_all_that_follows_leads_back(simulate: Any, name: str, policy: str, seed: int) -> None:
    scenario = SCENARIOS[name]

    async def main() -> None:
        async with Cluster(nodes=2, images=IMAGES) as cluster:
            mallory, theirs = Client(cluster, user=MALLORY), "other"
            await creates(deployment("other"))(mallory)
            await creates(*scenario.before)(cluster.api)
            await asyncio.sleep(30.7)
            begun = cluster.store.durable
            aside = other_work
            if scenario.nodes:
                aside, theirs = creates(plain("ConfigMap", "other-map")), "other-map"
            await asyncio.gather(scenario.act(cluster.api), aside(mallory))
            await asyncio.sleep(scenario.lasts_s)
            mine = judged(cluster.store.history, begun, theirs)
            assert {fact.resource for fact in mine} >= scenario.kinds
            assert_signed(cluster.store.history)

    simulate(main, seed=seed, policy=policy)


def judged(history: History, begun: int, theirs: str) -> list[Fact]:
    """Return the facts that lead back to me, having seen that no other is to.

    theirs: what the names of all that mallory's work leads to have in common.
    """
    families: dict[str, list[Fact]] = {ME: [], MALLORY: []}
    asked: set[int] = set()
    for fact in history.since(begun):
        root = root_of(history, fact)
        if root.cause.actor:
            clock = fact.cause.actor.startswith("kubelet/") and fact.resource in HEARTBEATS
            assert clock, f"{told(fact)}: it leads to {told(root)}"
            assert root.revision == fact.revision
            continue
        assert root.revision > begun, f"{told(fact)}: it leads to {told(root)}, which is over"
        assert (theirs in fact.key) == (root.cause.user == MALLORY), told(fact)
        families[root.cause.user].append(fact)
        asked.add(root.revision)
    for user, family in families.items():
        roots = {root_of(history, fact).revision for fact in family}
        followed = {effect for root in roots for effect in effects(history, root)}
        assert followed == {fact for fact in family if fact.revision not in asked}, user
    return families[ME]


def root_of(history: History, fact: Fact) -> Fact:
    chain = why(history, fact.revision)
    assert chain.complete
    return chain.facts[-1][0]


def assert_signed(history: History) -> None:
    """Everything tells who wrote it, and in a request that wrote nothing else."""
    signed: dict[str, int] = {}
    for fact in history.since(0):
        actor, message, _, user = fact.cause
        if actor == "controller-manager":
            assert user.startswith("system:serviceaccount:kube-system:"), told(fact)
        elif actor == "scheduler":
            assert user == "system:kube-scheduler"
        elif actor == "apiserver":
            assert user == "system:apiserver"
        elif actor:
            assert (actor, user) == (f"kubelet/{user[12:]}", f"system:node:{user[12:]}")
        else:
            assert user in (ME, MALLORY, "system:apiserver")
        assert message
        assert signed.setdefault(message, fact.revision) == fact.revision


def of(history: History, begun: int, resource: str, name: str = "web") -> list[Fact]:
    """Return the facts since then about the objects of a resource with a name like this."""
    prefix = f"/registry/{resource}/"
    return [f for f in history.since(begun) if f.key.startswith(prefix) and name in f.key]


def test_a_node_that_fell_silent_is_the_reason_for_all_that_follows(simulate: Any) -> None:
    """The last sign of life set the clock going; then taint, eviction, and pods elsewhere."""

    async def main() -> None:
        async with Cluster(nodes=2) as cluster:
            await creates(SERVICE, deployment("web"))(cluster.api)
            await asyncio.sleep(30)
            begun, history = cluster.store.durable, cluster.store.history
            await cluster.stop_node("node-2")
            await creates(deployment("other"))(Client(cluster, user=MALLORY))
            await asyncio.sleep(100)
            taint = of(history, begun, "nodes", "node-2")[-1]
            pods = await cluster.api.list("pods", fields="spec.nodeName=node-2")
            label = {"metadata": {"labels": {"seen": "by-mallory"}}}
            for pod in pods:  # The clock of the taint goes on: this is not what ends the pods.
                await Client(cluster, user=MALLORY).patch("pod", pod.name, label)
            await asyncio.sleep(400)
            last = [f for f in of(history, 0, LEASES, "node-2") if f.value is not None][-1]
            assert last.cause == ("kubelet/node-2", last.cause.message, 0, "system:node:node-2")
            assert ALL | {"nodes"} <= {fact.resource for fact in effects(history, last.revision)}
            evicted = of(history, begun, "events", pods[0].name)[-1]
            assert evicted.object()["reason"] == "TaintManagerEviction"  # type: ignore[index]
            assert evicted.cause.revision == taint.revision
            for fact in history.since(begun):
                root = root_of(history, fact)
                if root.cause.user == MALLORY:
                    assert "other" in fact.key or fact is root, told(fact)
                elif fact.resource not in HEARTBEATS or fact.cause.revision:
                    assert root == last, told(fact)

    simulate(main)


def test_what_makes_room_is_why_a_pod_is_placed(simulate: Any) -> None:
    most = {"resources": {"requests": {"cpu": "5"}}}  # Of 8.

    async def main() -> None:
        async with Cluster(nodes=1) as cluster:
            mallory = Client(cluster, user=MALLORY)
            await creates(deployment("other", 1, pod=most), deployment("other-too", 1))(mallory)
            await asyncio.sleep(5)
            await creates(deployment("web", 1, pod=most))(cluster.api)
            await asyncio.sleep(5)
            begun, history = cluster.store.durable, cluster.store.history
            assert not (await first_pod(cluster.api)).spec.get("nodeName")
            await mallory.delete("deployment", "other-too")
            await asyncio.sleep(5)
            assert not of(history, begun, "pods", "web"), "that did not make room enough"
            await mallory.delete("deployment", "other")
            await asyncio.sleep(5)
            assert (await first_pod(cluster.api)).spec.get("nodeName")
            bound = of(history, begun, "pods", "web")[0]
            (freed,) = history.facts_at(bound.cause.revision)
            assert "/pods/default/other-" in freed.key and "other-too" not in freed.key
            assert freed.object()["status"]["phase"] in ("Failed", "Succeeded")  # type: ignore[index]
            assert "/deployments.apps/default/other" in root_of(history, bound).key
            assert root_of(history, bound).cause.user == MALLORY

    simulate(main)


def test_a_kubelet_names_what_it_acted_on(simulate: Any) -> None:
    """A label that somebody puts on a pod is not why the pod's container is started again."""

    async def main() -> None:
        async with Cluster(nodes=1, images={"crash:1": Script(run_s=10, exit_code=1)}) as cluster:
            await creates(deployment("web", 1, pod={"image": "crash:1"}))(cluster.api)
            await asyncio.sleep(5)
            pod, history = await first_pod(cluster.api), cluster.store.history
            bound = next(
                fact for fact in of(history, 0, "pods", pod.name)
                if fact.cause.actor == "scheduler"
            )  # fmt: skip
            label = {"metadata": {"labels": {"seen": "by-mallory"}}}
            await Client(cluster, user=MALLORY).patch("pod", pod.name, label)
            begun = cluster.store.durable
            await asyncio.sleep(30)
            after = of(history, begun, "pods", pod.name) + of(history, begun, "events", pod.name)
            assert len(after) > 4
            assert {fact.cause.revision for fact in after} == {bound.revision}
            ready = {"type": "Ready", "status": "Unknown"}
            wrong = await Client(cluster, user=MALLORY).patch(
                "pod", pod.name, {"status": {"conditions": [ready]}}, subresource="status"
            )
            await asyncio.sleep(1)
            (righted,) = of(history, wrong.resource_version, "pods", pod.name)
            assert righted.cause.revision == wrong.resource_version, "that it did act on"

    simulate(main)


def test_what_expires_does_so_because_of_what_gave_its_lease(simulate: Any) -> None:
    async def main() -> None:
        settings = Settings(event_ttl_s=20, pod_cidr="127.244.0.0/16")
        async with Cluster(nodes=1, settings=settings) as cluster:
            await creates(deployment("web", 1))(cluster.api)
            await asyncio.sleep(60)
            history = cluster.store.history
            events = of(history, 0, "events", "web")
            last = {fact.key: fact.revision for fact in events if fact.value is not None}
            gone = [fact for fact in events if fact.value is None]
            assert {fact.key for fact in gone} == last.keys()
            for fact in gone:
                assert (fact.cause.actor, fact.cause.user) == ("apiserver", "system:apiserver")
                assert fact.cause.revision == last[fact.key]
                assert root_of(history, fact).key.endswith("deployments.apps/default/web")

    simulate(main)


@pytest.mark.parametrize("actor", ["controller-manager", "scheduler", "kubelet/node-1"])
def test_a_chain_goes_on_after_a_crash(simulate: Any, actor: str) -> None:
    """What an actor learns from a list has the revision of its last change, not of the list."""

    async def main() -> None:
        async with Cluster(nodes=1) as cluster:
            await asyncio.sleep(10)
            begun, history = cluster.store.durable, cluster.store.history
            cluster.supervisor.crash(actor, RuntimeError("on purpose"))
            await creates(SERVICE, deployment("web"))(cluster.api)
            await creates(deployment("other"))(Client(cluster, user=MALLORY))
            await cluster.api.wait("deployment/web", "condition=Available")
            await asyncio.sleep(10)
            families = {True: MALLORY, False: ME}
            told_of = [f for f in history.since(begun) if f.resource not in HEARTBEATS]
            for fact in told_of:
                if "node-1." not in fact.key:
                    assert root_of(history, fact).cause.user == families["other" in fact.key]
            assert len(told_of) > 20
            assert_signed(history)

    simulate(main)
