"""DaemonSets in whole clusters: one pod on each node it may run on, and how they are replaced."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.cluster import Cluster

IMAGES = {"one": Script(), "two": Script(), "fails": Script(run_s=1.0, exit_code=1)}


def daemon(image: str = "one", pod: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "d"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image}],
            **(pod or {}),
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"app": "d"}}, "template": template, **spec},
    }


def played(play: Callable[[Cluster], Awaitable[Any]], seed: int = 1, nodes: int = 3) -> Any:
    async def main() -> Any:
        async with Cluster(nodes=nodes, seed=seed, images=IMAGES) as cluster:
            return await play(cluster)

    return sim.run(main, seed=seed)


async def image(cluster: Cluster, name: str) -> None:
    spec = {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}
    await cluster.api.patch("daemonsets", "d", {"spec": spec}, type_="strategic")


async def where(cluster: Cluster) -> dict[str, str]:
    """Return node → image of the pods that run."""
    pods = [p for p in await cluster.api.list("pods") if p.status["phase"] == "Running"]
    nodes = [pod.spec["nodeName"] for pod in pods]
    assert len(set(nodes)) == len(nodes), "one on each"
    return {pod.spec["nodeName"]: pod.spec["containers"][0]["image"] for pod in pods}


async def status(cluster: Cluster) -> Any:
    return (await cluster.api.get("daemonsets", "d")).status


class Counts:
    """How many pods were ready, and how many there were: the fewest and the most, and per node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.ready: set[str] = set()
        self.there: dict[str, str] = {}  # Name → node; those that stay.
        self.least, self.most, self.crowd = 10**6, 0, 0
        self.task = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        async for event in self.cluster.api.watch("pods"):
            if event.type not in ("ADDED", "MODIFIED", "DELETED"):
                continue
            pod = event.object
            ending = event.type == "DELETED" or pod.metadata.get("deletionTimestamp")
            conditions = pod.status.get("conditions", ())
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            (self.ready.add if ready and not ending else self.ready.discard)(pod.name)
            if ending:
                self.there.pop(pod.name, None)
            elif pod.spec.get("nodeName"):
                self.there[pod.name] = pod.spec["nodeName"]
            self.least = min(self.least, len(self.ready))
            self.most = max(self.most, len(self.there))
            self.crowd = max([self.crowd, *Counter(self.there.values()).values()])

    async def begin(self) -> None:
        await asyncio.sleep(1)
        self.least, self.most, self.crowd = len(self.ready), len(self.there), 1


def test_each_node_has_one_also_those_that_come_later() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.patch("nodes", "node-2", {"spec": {"unschedulable": True}}, type_="merge")
        await cluster.settled()
        await cluster.api.create(daemon())
        await cluster.settled()
        assert sorted(await where(cluster)) == ["node-1", "node-2", "node-3"], "cordoned or not"
        await cluster.add_node("node-4")
        await cluster.settled()
        assert sorted(await where(cluster)) == ["node-1", "node-2", "node-3", "node-4"]
        found = await status(cluster)
        assert found == {
            "currentNumberScheduled": 4,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 4,
            "numberReady": 4,
            "observedGeneration": 1,
            "updatedNumberScheduled": 4,
            "numberAvailable": 4,
        }
        pod = (await cluster.api.list("pods"))[0]
        terms = pod.spec["affinity"]["nodeAffinity"][
            "requiredDuringSchedulingIgnoredDuringExecution"
        ]["nodeSelectorTerms"]
        assert terms[0]["matchFields"][0]["values"] == [pod.spec["nodeName"]]
        keys = [t["key"].partition("/")[2] for t in pod.spec["tolerations"]]
        assert sorted(keys) == [
            "disk-pressure",
            "memory-pressure",
            "not-ready",
            "pid-pressure",
            "unreachable",
            "unschedulable",
        ]
        assert pod.metadata["labels"]["pod-template-generation"] == "1"
        events = [e["reason"] for e in await cluster.api.list("events")]
        assert events.count("SuccessfulCreate") == 4

    played(play)


def test_labels_and_taints_say_which_nodes() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(daemon(pod={"nodeSelector": {"disk": "ssd"}}))
        await cluster.settled()
        assert await where(cluster) == {}
        labels = {"metadata": {"labels": {"disk": "ssd"}}}
        for node in ("node-1", "node-2"):
            await cluster.api.patch("nodes", node, labels, type_="merge")
        await cluster.settled()
        assert sorted(await where(cluster)) == ["node-1", "node-2"]
        for effect, left in (("NoSchedule", ["node-1", "node-2"]), ("NoExecute", ["node-2"])):
            taint = {"key": "k", "effect": effect}
            await cluster.api.patch("nodes", "node-1", {"spec": {"taints": [taint]}}, type_="merge")
            await cluster.settled()
            assert sorted(await where(cluster)) == left
            found = await status(cluster)
            assert found["numberMisscheduled"] == len(left) - 1
            assert found["desiredNumberScheduled"] == 1
        gone = {"metadata": {"labels": {"disk": None}}}
        await cluster.api.patch("nodes", "node-2", gone, type_="merge")
        await cluster.settled()
        assert await where(cluster) == {}

    played(play)


def test_a_rollout_takes_no_more_at_once_than_it_may() -> None:
    async def play(cluster: Cluster) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
        await cluster.api.create(daemon(updateStrategy=rolling))
        await cluster.settled()
        counts = Counts(cluster)
        await counts.begin()
        await image(cluster, "two")
        await cluster.settled()
        assert set((await where(cluster)).values()) == {"two"}
        assert (counts.least, counts.crowd) == (3, 1)
        found = await cluster.api.get("daemonsets", "d")
        note = found.metadata["annotations"]["deprecated.daemonset.template.generation"]
        assert (note, found.status["updatedNumberScheduled"]) == ("2", 5)
        revisions = await cluster.api.list("controllerrevisions")
        assert sorted(r["revision"] for r in revisions) == [1, 2]

    played(play, nodes=5)


def test_with_surge_the_new_one_is_there_before_the_old_one_goes() -> None:
    async def play(cluster: Cluster) -> None:
        rolling = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
        }
        await cluster.api.create(daemon(updateStrategy=rolling))
        await cluster.settled()
        counts = Counts(cluster)
        await counts.begin()
        await image(cluster, "two")
        await cluster.settled()
        assert set((await where(cluster)).values()) == {"two"}
        assert (counts.least, counts.most, counts.crowd) == (3, 4, 2)

    played(play)


def test_on_delete_it_is_users_who_replace_them() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(daemon(updateStrategy={"type": "OnDelete"}))
        await cluster.settled()
        await image(cluster, "two")
        await cluster.settled()
        assert set((await where(cluster)).values()) == {"one"}
        pod = (await cluster.api.list("pods"))[0]
        await cluster.api.delete("pods", pod.name)
        await cluster.settled()
        assert (await where(cluster))[pod.spec["nodeName"]] == "two"

    played(play)


def test_what_has_failed_goes_and_what_is_deleted_takes_all_along() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(daemon())
        await cluster.settled()
        first = (await cluster.api.list("pods"))[0]
        await cluster.stop_node(first.spec["nodeName"])  # Its kubelet would know better.
        failed = {"status": {"phase": "Failed"}}
        await cluster.api.patch("pods", first.name, failed, type_="merge", subresource="status")
        await asyncio.sleep(5)
        cluster.start_node(first.spec["nodeName"])
        await cluster.settled()
        assert first.name not in [p.name for p in await cluster.api.list("pods")]
        assert len(await where(cluster)) == 3
        assert "FailedDaemonPod" in [e["reason"] for e in await cluster.api.list("events")]
        await cluster.api.delete("daemonsets", "d")
        await cluster.settled()
        assert not await cluster.api.list("pods")
        assert not await cluster.api.list("controllerrevisions")

    played(play)


ACTS = st.one_of(
    st.tuples(st.just("image"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("delete"), st.integers(0, 3)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("lose"), st.integers(1, 2)),
    st.tuples(st.just("cordon"), st.integers(1, 3)),
    st.tuples(st.just("add"), st.integers(4, 5)),
)


@settings(max_examples=20)
@given(
    st.lists(st.tuples(ACTS, st.floats(0.0, 20.0)), max_size=6),
    st.sampled_from([(1, 0), (2, 0), (0, 1)]),
    st.integers(0, 1000),
)
def test_whatever_happens_each_node_ends_up_with_one(
    acts: list[tuple[tuple[str, Any], float]], limits: tuple[int, int], seed: int
) -> None:
    async def play(cluster: Cluster) -> None:
        counts = Counts(cluster)
        rolling = dict(zip(("maxUnavailable", "maxSurge"), limits, strict=True))
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
        await cluster.api.create(daemon(updateStrategy=strategy))
        lost, nodes = set[str](), {"node-1", "node-2", "node-3"}
        for (act, value), pause_s in acts:
            await asyncio.sleep(pause_s)
            if act == "add" and f"node-{value}" not in nodes:
                nodes.add(f"node-{value}")
                await cluster.add_node(f"node-{value}")
            else:
                await do(cluster, act, value, lost)
        for node in lost:
            cluster.start_node(node)
        await cluster.settled(within_s=3600)
        spec = (await cluster.api.get("daemonsets", "d")).spec
        wanted = spec["template"]["spec"]["containers"][0]["image"]
        assert await where(cluster) == dict.fromkeys(nodes, wanted)
        assert counts.crowd <= (2 if limits[1] else 1)
        assert not counts.task.done()

    played(play, seed)


async def do(cluster: Cluster, act: str, value: Any, lost: set[str]) -> None:
    if act == "image":
        await image(cluster, value)
    elif act == "delete":
        for pod in (await cluster.api.list("pods"))[value : value + 1]:
            await cluster.api.delete("pods", pod.name)
    elif act == "crash":
        cluster.supervisor.crash("controller-manager", RuntimeError("on purpose"))
    elif act == "cordon":
        cordoned = {"spec": {"unschedulable": True}}
        await cluster.api.patch("nodes", f"node-{value}", cordoned, type_="merge")
    elif act == "lose" and f"node-{value}" not in lost:
        lost.add(f"node-{value}")
        await cluster.stop_node(f"node-{value}")
