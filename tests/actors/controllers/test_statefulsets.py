"""StatefulSets in whole clusters: names that stay, order, rollouts, never two of one ordinal."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop import sim
from kubeloop.actors.runtimes.scripts import Script
from kubeloop.cluster import Cluster

IMAGES = {
    "one": Script(),
    "two": Script(),
    "ends": Script(run_s=5.0, exit_code=1),
    "slow": Script(),
}


def stateful(replicas: int = 3, image: str = "one", **spec: Any) -> dict[str, Any]:
    template = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "c", "image": image}],
        },
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            **spec,
        },
    }


def played(play: Callable[[Cluster], Awaitable[Any]], seed: int = 1, nodes: int = 3) -> Any:
    async def main() -> Any:
        async with Cluster(nodes=nodes, seed=seed, images=IMAGES) as cluster:
            return await play(cluster)

    return sim.run(main, seed=seed)


def image(name: str) -> dict[str, Any]:
    return {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": name}]}}}}


async def change(cluster: Cluster, patch: dict[str, Any]) -> None:
    await cluster.api.patch("statefulsets", "web", patch, type_="strategic")


async def images(cluster: Cluster) -> dict[str, str]:
    pods = await cluster.api.list("pods")
    return {pod.name: pod.spec["containers"][0]["image"] for pod in pods}


async def status(cluster: Cluster) -> Any:
    return (await cluster.api.get("statefulsets", "web")).status


class Story:
    """What happened to the pods: "+web-0", "-web-0" (asked to go), "!web-0" (gone)."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.told = cluster, list[str]()
        self.uids: dict[str, str] = {}
        self.ending: set[str] = set()
        self.ready: set[str] = set()
        self.before_ready = ""  # What had happened when the first was ready.
        self.least = 10**6  # The fewest that were ready, since it was set.
        self.task = asyncio.create_task(self.watch())

    async def watch(self) -> None:
        async for event in self.cluster.api.watch("pods"):
            if event.type not in ("ADDED", "MODIFIED", "DELETED"):
                continue
            pod = event.object
            name, uid = pod.name, pod.metadata["uid"]
            if event.type == "ADDED":
                assert name not in self.uids, f"two of {name}"
                self.uids[name] = uid
                self.told.append(f"+{name}")
            if pod.metadata.get("deletionTimestamp") and uid not in self.ending:
                self.ending.add(uid)
                self.told.append(f"-{name}")
            conditions = pod.status.get("conditions", ())
            ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
            here = ready and uid not in self.ending and event.type != "DELETED"
            if here and not self.before_ready:
                self.before_ready = " ".join(self.told)
            (self.ready.add if here else self.ready.discard)(name)
            self.least = min(self.least, len(self.ready))
            if event.type == "DELETED":
                assert self.uids.pop(name) == uid
                self.told.append(f"!{name}")

    def take(self) -> str:
        assert not self.task.done(), self.task.exception()
        told, self.told = self.told, []
        return " ".join(told)


def test_they_come_one_after_the_other_and_go_in_reverse() -> None:
    async def play(cluster: Cluster) -> None:
        story = Story(cluster)
        await cluster.api.create(stateful())
        await cluster.settled()
        assert story.take() == "+web-0 +web-1 +web-2"
        assert story.before_ready == "+web-0", "the others wait for it"
        pods = {pod.name: pod for pod in await cluster.api.list("pods")}
        ready = [
            next(c for c in pods[n].status["conditions"] if c["type"] == "Ready")
            for n in sorted(pods)
        ]
        born = [pods[n].metadata["creationTimestamp"] for n in sorted(pods)]
        assert born[1] >= ready[0]["lastTransitionTime"]
        assert born[2] >= ready[1]["lastTransitionTime"]
        found = await status(cluster)
        for number, name in enumerate(sorted(pods)):
            labels, spec = pods[name].metadata["labels"], pods[name].spec
            assert labels["statefulset.kubernetes.io/pod-name"] == name
            assert labels["apps.kubernetes.io/pod-index"] == str(number)
            assert labels["controller-revision-hash"] == found["currentRevision"]
            assert (spec["hostname"], spec["subdomain"]) == (name, "web")
        counts = {k: v for k, v in found.items() if k.endswith("eplicas")}
        assert counts == {
            "replicas": 3,
            "readyReplicas": 3,
            "currentReplicas": 3,
            "updatedReplicas": 3,
            "availableReplicas": 3,
        }
        assert (found["collisionCount"], found["observedGeneration"]) == (0, 1)
        await change(cluster, {"spec": {"replicas": 1}})
        await cluster.settled()
        assert story.take() == "-web-2 !web-2 -web-1 !web-1"
        events = await cluster.api.list("events")
        told = [e["message"] for e in events if e["reason"] in TOLD]
        assert told == [
            *(f"create Pod web-{n} in StatefulSet web successful" for n in range(3)),
            *(f"delete Pod web-{n} in StatefulSet web successful" for n in (2, 1)),
        ]

    played(play)


TOLD = ("SuccessfulCreate", "SuccessfulDelete")


def test_in_parallel_nobody_waits_and_ordinals_begin_where_they_are_told() -> None:
    async def play(cluster: Cluster) -> None:
        story = Story(cluster)
        ordinals = {"ordinals": {"start": 5}}
        await cluster.api.create(stateful(podManagementPolicy="Parallel", **ordinals))
        await cluster.settled()
        assert story.before_ready == "+web-5 +web-6 +web-7", "nobody waits for another"
        assert sorted(await images(cluster)) == ["web-5", "web-6", "web-7"]
        await change(cluster, {"spec": {"ordinals": {"start": 6}}})
        await cluster.settled()
        assert sorted(await images(cluster)) == ["web-6", "web-7", "web-8"]

    played(play)


def test_a_rollout_goes_down_to_its_partition_and_back() -> None:
    async def play(cluster: Cluster) -> None:
        partition = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        await cluster.api.create(stateful(updateStrategy=partition))
        await cluster.settled()
        story = Story(cluster)
        await asyncio.sleep(1)
        story.take()
        story.least = 3
        first = (await status(cluster))["currentRevision"]
        await change(cluster, image("two"))
        await cluster.settled()
        assert story.take() == "-web-2 !web-2 +web-2 -web-1 !web-1 +web-1"
        assert story.least == 2
        assert await images(cluster) == {"web-0": "one", "web-1": "two", "web-2": "two"}
        found = await status(cluster)
        assert found["currentRevision"] == first != found["updateRevision"]
        assert (found["currentReplicas"], found["updatedReplicas"]) == (1, 2)
        await cluster.api.delete("pods", "web-0")
        await cluster.settled()
        assert (await images(cluster))["web-0"] == "one", "what is below it stays as it was"
        await change(cluster, {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}})
        await cluster.settled()
        found = await status(cluster)
        assert found["currentRevision"] == found["updateRevision"] != first
        await change(cluster, image("one"))
        await cluster.settled()
        assert set((await images(cluster)).values()) == {"one"}
        revisions = await cluster.api.list("controllerrevisions")
        numbers = {r.name: r["revision"] for r in revisions}
        assert len(numbers) == 2 and numbers[first] == 3, "the old one is the newest now"
        assert (await status(cluster))["currentRevision"] == first

    played(play)


def test_on_delete_pods_are_replaced_when_users_delete_them() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(stateful(updateStrategy={"type": "OnDelete"}))
        await cluster.settled()
        await change(cluster, image("two"))
        await cluster.settled()
        assert set((await images(cluster)).values()) == {"one"}
        await cluster.api.delete("pods", "web-1")
        await cluster.settled()
        assert await images(cluster) == {"web-0": "one", "web-1": "two", "web-2": "one"}

    played(play)


def test_the_history_is_as_long_as_it_may_be() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(stateful(1, revisionHistoryLimit=1))
        for name in ("two", "slow", "one", "two"):
            await cluster.settled()
            await change(cluster, image(name))
        await cluster.settled()
        revisions = await cluster.api.list("controllerrevisions")
        assert sorted(r["revision"] for r in revisions) == [4, 5]
        await cluster.api.delete("statefulsets", "web")
        await cluster.settled()
        assert not await cluster.api.list("controllerrevisions")
        assert not await cluster.api.list("pods")

    played(play)


def test_left_alone_they_are_found_again() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(stateful(2))
        await cluster.settled()
        uids = {p.metadata["uid"] for p in await cluster.api.list("pods")}
        await cluster.api.delete("statefulsets", "web", propagation="Orphan")
        await cluster.settled()
        await cluster.api.create(stateful(2))
        await cluster.settled()
        assert {p.metadata["uid"] for p in await cluster.api.list("pods")} == uids
        assert len(await cluster.api.list("controllerrevisions")) == 1

    played(play)


def test_what_claims_volumes_waits_and_says_why() -> None:
    async def play(cluster: Cluster) -> None:
        claim = {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        await cluster.api.create(stateful(2, volumeClaimTemplates=[claim]))
        await asyncio.sleep(60)
        (pod,) = await cluster.api.list("pods")
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": "data-web-0"}}
        assert volume in pod.spec["volumes"]
        assert pod.status["phase"] == "Pending" and "nodeName" not in pod.spec
        (made,) = await cluster.api.list("persistentvolumeclaims")
        assert made.name == "data-web-0" and made.status["phase"] == "Pending"
        told = {e["reason"]: e["message"] for e in await cluster.api.list("events")}
        assert told["FailedScheduling"] == (
            "0/3 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption:"
            " 0/3 nodes are available: 3 Preemption is not helpful for scheduling."
        )

    played(play)


def test_no_more_are_missing_than_may_be_and_each_stays_up_for_a_while_first() -> None:
    async def play(cluster: Cluster) -> None:
        rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 2}}
        policy = {"podManagementPolicy": "Parallel", "updateStrategy": rolling}
        await cluster.api.create(stateful(5, minReadySeconds=30, **policy))
        await cluster.settled(within_s=300)
        story = Story(cluster)
        await asyncio.sleep(1)
        story.take()
        story.least = 5
        begun = asyncio.get_running_loop().time()
        await change(cluster, image("two"))
        await cluster.settled(within_s=300)
        took_s = asyncio.get_running_loop().time() - begun
        assert story.least == 3
        assert 90 <= took_s < 120, "three rounds, each as long as a pod must be ready"
        assert set((await images(cluster)).values()) == {"two"}
        assert (await status(cluster))["availableReplicas"] == 5

    played(play)


def test_what_has_ended_is_made_again_under_its_name() -> None:
    async def play(cluster: Cluster) -> None:
        await cluster.api.create(stateful(1))
        await cluster.settled()
        uid = (await cluster.api.get("pods", "web-0")).metadata["uid"]
        failed = {"status": {"phase": "Failed"}}
        await cluster.api.patch("pods", "web-0", failed, type_="merge", subresource="status")
        await cluster.settled()
        pod = await cluster.api.get("pods", "web-0")
        assert pod.metadata["uid"] != uid and pod.status["phase"] == "Running"
        told = [e["message"] for e in await cluster.api.list("events")]
        assert "StatefulSet default/web is recreating failed Pod web-0" in told

    played(play)


ACTS = st.one_of(
    st.tuples(st.just("scale"), st.integers(0, 4)),
    st.tuples(st.just("image"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("delete"), st.integers(0, 3)),
    st.tuples(st.just("crash"), st.just(0)),
    st.tuples(st.just("partition"), st.integers(0, 3)),
    st.tuples(st.just("lose"), st.integers(1, 2)),
)


@settings(max_examples=25)
@given(
    st.lists(st.tuples(ACTS, st.floats(0.0, 20.0)), max_size=6),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.integers(0, 1000),
)
def test_whatever_happens_there_is_one_of_each(
    acts: list[tuple[tuple[str, Any], float]], policy: str, seed: int
) -> None:
    async def play(cluster: Cluster) -> None:
        story = Story(cluster)
        await cluster.api.create(stateful(podManagementPolicy=policy))
        lost = set[str]()
        for (act, value), pause_s in acts:
            await asyncio.sleep(pause_s)
            await do(cluster, act, value, lost)
        for node in lost:
            cluster.start_node(node)
        await cluster.settled(within_s=3600)
        set_ = await cluster.api.get("statefulsets", "web")
        spec, wanted = set_.spec, set_.spec["replicas"]
        partition = spec["updateStrategy"]["rollingUpdate"]["partition"]
        assert sorted(await images(cluster)) == [f"web-{n}" for n in range(wanted)]
        new = spec["template"]["spec"]["containers"][0]["image"]
        for name, is_ in (await images(cluster)).items():
            assert is_ == new or int(name[4:]) < partition
        assert set_.status.get("readyReplicas", 0) == wanted
        story.take()

    played(play, seed)


async def do(cluster: Cluster, act: str, value: Any, lost: set[str]) -> None:
    if act == "scale":
        await change(cluster, {"spec": {"replicas": value}})
    elif act == "image":
        await change(cluster, image(value))
    elif act == "partition":
        await change(cluster, {"spec": {"updateStrategy": {"rollingUpdate": {"partition": value}}}})
    elif act == "delete" and f"web-{value}" in await images(cluster):
        await cluster.api.delete("pods", f"web-{value}")
    elif act == "crash":
        cluster.supervisor.crash("controller-manager", RuntimeError("on purpose"))
    elif act == "lose" and f"node-{value}" not in lost:
        lost.add(f"node-{value}")
        await cluster.stop_node(f"node-{value}")


@settings(max_examples=20)
@given(
    st.integers(1, 5),
    st.integers(1, 3),
    st.integers(0, 5),
    st.sampled_from(["OrderedReady", "Parallel"]),
    st.lists(st.floats(0.0, 10.0), max_size=3),
    st.integers(0, 1000),
)
def test_no_rollout_takes_more_than_it_may_whoever_crashes(
    replicas: int, most: int, partition: int, policy: str, crashes: list[float], seed: int
) -> None:
    async def play(cluster: Cluster) -> None:
        limits = {"maxUnavailable": most, "partition": partition}
        rolling = {"type": "RollingUpdate", "rollingUpdate": limits}
        spec: dict[str, Any] = {"podManagementPolicy": policy, "updateStrategy": rolling}
        await cluster.api.create(stateful(replicas, **spec))
        await cluster.settled()
        story = Story(cluster)
        await asyncio.sleep(1)
        story.take()
        story.least = replicas
        loop, error = asyncio.get_running_loop(), RuntimeError("on purpose")
        for at in crashes:
            loop.call_later(at, cluster.supervisor.crash, "controller-manager", error)
        await change(cluster, image("two"))
        await asyncio.sleep(60)
        await cluster.settled(within_s=3600)
        assert story.least >= replicas - most
        asked = {word[1:] for word in story.take().split() if word[0] == "-"}
        assert asked == {f"web-{n}" for n in range(partition, replicas)}
        old = {f"web-{n}": "one" for n in range(min(partition, replicas))}
        assert await images(cluster) == {**dict.fromkeys(asked, "two"), **old}

    played(play, seed)
