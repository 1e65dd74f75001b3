"""Whatever pods do, and whenever kubelet or API server crash: what must hold of the pods.

Crashes are placed at any turn of either, before it has handled its messages or after, and the seed
picks the order of everything else.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from kubelet_ground import Ground, Object, pod
from pykka._envelope import Envelope

from kubeloop.actors.actor import ActorFailed, AsyncActor
from kubeloop.actors.api_server import ApiServer
from kubeloop.actors.kubelet import Kubelet
from kubeloop.actors.messages import API_SERVER
from kubeloop.actors.runtimes.scripts import Script

TERMINAL = ("Succeeded", "Failed")
GRACE_S = 5
SLACK_S = 25.0  # For back-off of restarts, and for runtimes that are told to stop again.


class Crash(Exception):
    """Planned by the test."""


@dataclass
class Plan:
    """At which turns an actor crashes: {turn: whether it has handled its messages before}."""

    crashes: dict[int, bool]
    turns: int = 0


class Mortal(AsyncActor):
    """An actor that crashes according to plan."""

    plan: Plan

    def on_batch(self, envelopes: Sequence[Envelope[Any]]) -> None:
        self.plan.turns += 1
        after = self.plan.crashes.get(self.plan.turns)
        if after is not False:
            super().on_batch(envelopes)
        if after is not None:
            raise Crash(f"at turn {self.plan.turns}")


class MortalKubelet(Mortal, Kubelet):
    """A kubelet that crashes according to plan."""


class MortalApiServer(Mortal, ApiServer):
    """An API server that crashes according to plan."""


async def insist(work: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do it until no crash comes between."""
    while True:
        try:
            await work()
        except (Crash, ActorFailed):
            await asyncio.sleep(0.1)
        except AssertionError as error:
            assert "AlreadyExists" in str(error)
            return
        else:
            return


scripts = st.builds(
    Script,
    start_s=st.sampled_from([0.0, 0.05, 2.0]),
    run_s=st.sampled_from([None, None, 0.0, 1.0, 30.0]),
    exit_code=st.sampled_from([0, 0, 1]),
    fails=st.lists(st.integers(0, 2), max_size=3).map(tuple),
    ready_after_s=st.sampled_from([0.0, 3.0]),
    fails_after_s=st.sampled_from([None, None, 20.0]),
    term_s=st.sampled_from([0.0, 1.0, None]),
    pull_s=st.sampled_from([0.0, 1.0]),
    pull_error=st.sampled_from(["", "", "", "manifest unknown"]),
)
probes = st.sampled_from([{}, {}, {"readinessProbe"}, {"livenessProbe"}, {"startupProbe"}])
PROBE = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1}


@st.composite
def pods(draw: st.DrawFn) -> tuple[Object, dict[str, Script]]:
    """A pod, and the script of each of its images."""
    images: dict[str, Script] = {}

    def containers(role: str, most: int) -> list[Object]:
        found = []
        for n in range(draw(st.integers(0 if role == "init" else 1, most))):
            images[f"{role}{n}:1"] = draw(scripts)
            found.append({"name": f"{role}{n}", "image": f"{role}{n}:1"})
        return found

    inits, mains = containers("init", 2), containers("main", 2)
    for container in inits:
        if draw(st.booleans()):
            container["restartPolicy"] = "Always"
    for container in mains:
        container |= dict.fromkeys(draw(probes), PROBE)
    policy = draw(st.sampled_from(["Always", "OnFailure", "Never"]))
    spec = {"initContainers": inits, "restartPolicy": policy}
    return pod("p", *mains, terminationGracePeriodSeconds=GRACE_S, **spec), images


PLAIN = pod(initContainers=[], restartPolicy="Always")
crashes = st.dictionaries(st.integers(1, 60), st.booleans(), max_size=4)


@given(pods(), crashes, crashes, st.integers(0, 2**16), st.sampled_from([0.01, 1.5, 40.0, 900.0]))
@example((PLAIN, {}), {1: False, 2: True, 3: False}, {}, 0, 900.0)
@example((PLAIN, {}), {}, {n: n % 2 == 0 for n in range(1, 60, 3)}, 0, 900.0)
def test_a_pod_lives_and_dies_as_it_must(
    simulate: Any,
    found: tuple[Object, dict[str, Script]],
    crashes: dict[int, bool],
    api_crashes: dict[int, bool],
    seed: int,
    life_s: float,
) -> None:
    obj, images = found

    async def scenario() -> None:
        ground = await Ground(images).start(kubelet=False)
        cursor = ground.store.hub.open(
            resources=["pods"], revision=ground.store.durable, wake=lambda: None
        )
        ground.supervisor.stop(API_SERVER)
        ground.start_api_server(MortalApiServer, plan=Plan(api_crashes))
        ground.start_kubelet(MortalKubelet, plan=Plan(crashes))
        await insist(lambda: ground.create(obj))
        await asyncio.sleep(life_s)
        restarts = check_history([fact.object() for fact in cursor.take(100_000)])
        if obj["spec"]["restartPolicy"] == "Never":
            mains = {c["name"] for c in obj["spec"]["containers"]}
            assert not any(count for name, count in restarts.items() if name in mains)
        if life_s == 900.0 and settles(obj, images):
            await check_settled(ground, obj, images)
        await insist(lambda: ground.delete("p"))
        await asyncio.sleep(GRACE_S + SLACK_S)
        assert ground.gone()
        assert not ground.runtime.sandboxes(), "nothing is left on the node"
        assert not ground.ledger.running
        await ground.until(lambda: ground.supervisor.actor("kubelet/node-1") is not None)
        assert not ground.kubelet.pods
        check_history([fact.object() for fact in cursor.take(100_000)])
        assert not [event for event in ground.events() if "runs already" in event[2]]
        ground.stop()

    simulate(scenario, seed=seed, policy="random")


def check_history(objects: list[Object | None]) -> dict[str, int]:
    """Check every status that was written; return the last restart counts."""
    phase, restarts = "Pending", dict[str, int]()
    for obj in objects:
        status = (obj or {}).get("status") or {}
        if phase in TERMINAL and obj is not None:
            assert status["phase"] == phase, "what is over stays over"
        phase = status.get("phase", phase)
        told = (status.get("initContainerStatuses") or []) + (status.get("containerStatuses") or [])
        for container in told:
            name, count = container["name"], container["restartCount"]
            assert count >= restarts.get(name, 0), "restarts are only ever counted up"
            restarts[name] = count
            assert len(container["state"]) == 1, "a container is in one state"
        ready = [c for c in status.get("conditions") or () if c["type"] == "Ready"]
        if ready and ready[0]["status"] == "True":
            mains = status["containerStatuses"]
            assert all(container["ready"] for container in mains)
    return restarts


def settles(obj: Object, images: dict[str, Script]) -> bool:
    """Tell whether the pod must come to rest: no image is missing, nothing ends again and again."""
    policy = obj["spec"]["restartPolicy"]
    for container in [*obj["spec"]["initContainers"], *obj["spec"]["containers"]]:
        script = images.get(container["image"], Script())
        main = container in obj["spec"]["containers"]
        restarted = container.get("restartPolicy") == "Always" or policy == "Always"
        if script.pull_error or script.fails_after_s is not None:
            return False
        if script.ready_after_s and ("livenessProbe" in container or "startupProbe" in container):
            return False
        if not main and container.get("restartPolicy") != "Always":
            if script.run_s is None or script.exit_code:
                return False
        elif script.run_s is not None and (restarted or (policy != "Never" and script.exit_code)):
            return False
    return True


async def check_settled(ground: Ground, obj: Object, images: dict[str, Script]) -> None:
    before = ground.writes()
    await asyncio.sleep(120)
    assert ground.writes() == before, "a pod at rest is not written about"
    scripts = [images.get(c["image"], Script()) for c in obj["spec"]["containers"]]
    if ground.phase() not in TERMINAL:
        assert ground.phase() == "Running", "it has had time enough to start"
        assert any(script.run_s is None for script in scripts)
    else:
        assert obj["spec"]["restartPolicy"] != "Always"


def test_many_pods_come_and_go_on_a_kubelet_that_keeps_crashing(simulate: Any) -> None:
    async def scenario() -> None:
        script = Script(start_s=0.1, term_s=0.5)
        ground = await Ground({f"i:{n}": script for n in range(3)}).start(kubelet=False)
        ground.start_kubelet(MortalKubelet, plan=Plan({n: n % 2 == 0 for n in range(5, 400, 7)}))
        names = [f"p{n}" for n in range(40)]
        for n, name in enumerate(names):
            await ground.create(pod(name, {"name": "c", "image": f"i:{n % 3}"}))
            await asyncio.sleep(0.05)
        await ground.until(lambda: all(ground.ready(name) for name in names), timeout_s=600)
        addresses = {ground.pod(name)["status"]["podIP"] for name in names}
        assert len(addresses) == len(names), "no two pods share an address"
        assert not any(ground.container(name)["restartCount"] for name in names)
        for name in names:
            await ground.delete(name)
        await ground.until(lambda: not ground.pods(), timeout_s=600)
        assert not ground.runtime.sandboxes()
        ground.stop()

    for seed in range(5):
        simulate(scenario, seed=seed, policy="random")
