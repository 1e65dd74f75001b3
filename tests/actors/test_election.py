"""Of several candidates one leads at a time, whatever crashes, lags or skews; and soon one does."""

import asyncio
import random
from typing import Any

import msgpack
import pytest

from kubeloop.actors.api_server import ApiServer, Subscriptions
from kubeloop.actors.election import LEASE_S, RENEW_S, RETRY_S, Election
from kubeloop.actors.elector import LEASES, Elector
from kubeloop.actors.messages import API_SERVER, Outcome, Request, decode
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld
from kubeloop.store.store import Store


class Process:
    """An API server over the common store, and a candidate, with a clock on the wall of its own."""

    def __init__(self, store: Store, number: int, leaders: list[int], *, skew_s: float) -> None:
        loop = asyncio.get_running_loop()
        self.world = LoopWorld(loop, seed=number, wall=lambda: loop.time() + skew_s)
        self.supervisor, self.number, self.leaders = Supervisor(self.world), number, leaders
        subscriptions = Subscriptions({})
        self.supervisor.start(
            API_SERVER,
            lambda scene, name: ApiServer(scene, name, store=store, subscriptions=subscriptions),
        )

    async def stand(self) -> None:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "kube-system"}}
        await self.ask(Request("create", "namespaces", body=msgpack.packb(namespace)))
        self.supervisor.start(
            "elector",
            lambda scene, name: Elector(
                scene,
                name,
                lease="kube-scheduler",
                identity=f"p{self.number}",
                begin=self._begin,
                end=lambda: self.leaders.remove(self.number),
            ),
        )

    async def ask(self, request: Request) -> Outcome:
        answer = decode(await self.supervisor.ask(API_SERVER, request.encode()))
        assert isinstance(answer, Outcome)
        return answer

    async def lease(self) -> dict[str, Any]:
        got = await self.ask(Request("get", LEASES, "kube-system", "kube-scheduler"))
        found: dict[str, Any] = msgpack.unpackb(got.body)
        return found

    def _begin(self) -> None:
        self.leaders.append(self.number)
        assert len(self.leaders) == 1, "two lead at a time"


@pytest.mark.parametrize("seed", range(10))
def test_one_leads_at_a_time_and_soon_one_does(simulate: Any, seed: int) -> None:
    async def scenario() -> None:
        chance, store, leaders = random.Random(seed), Store.memory(), list[int]()
        living: dict[int, Process] = {}
        for number in range(40):
            if len(living) < 3:
                living[number] = Process(store, number, leaders, skew_s=chance.uniform(-999, 999))
                await living[number].stand()
            event = chance.choice(("kill", "crash", "lag", "wait"))
            victim = chance.choice(sorted(living))
            process = living[victim]
            if event == "kill":
                living.pop(victim).supervisor.stop_all()
            elif event == "crash":
                name = chance.choice(("elector", API_SERVER))
                process.supervisor.crash(name, RuntimeError("crashed by the test"))
            elif event == "lag":
                process.supervisor.stop(API_SERVER)
                await asyncio.sleep(RENEW_S + 2 * RETRY_S)
                assert victim not in leaders, "who cannot renew stops"
                living.pop(victim).supervisor.stop_all()
            await asyncio.sleep(chance.choice((0.1, 5.0, LEASE_S + 2 * RETRY_S)))
            if not living:
                continue
            await asyncio.sleep(LEASE_S + 3 * RETRY_S)
            assert len(leaders) == 1, "nobody leads"
            assert leaders[0] in living
        for process in living.values():
            process.supervisor.stop_all()
        assert leaders == []

    simulate(scenario)


def test_a_leader_renews_and_the_next_one_tells_that_it_is_another(simulate: Any) -> None:
    async def scenario() -> None:
        store, leaders = Store.memory(), list[int]()
        first, second = (Process(store, n, leaders, skew_s=1000.0 * n) for n in (1, 2))
        await first.stand()
        await asyncio.sleep(0.1)
        begun = (await first.lease())["spec"]
        assert (begun["holderIdentity"], begun["leaseTransitions"], leaders) == ("p1", 0, [1])
        await second.stand()
        await asyncio.sleep(60)
        later = (await first.lease())["spec"]
        assert (later["holderIdentity"], later["acquireTime"]) == ("p1", begun["acquireTime"])
        assert later["renewTime"] > begun["renewTime"]
        assert leaders == [1]
        first.supervisor.stop_all()
        await asyncio.sleep(LEASE_S + 2 * RETRY_S)
        taken = (await second.lease())["spec"]
        assert (taken["holderIdentity"], taken["leaseTransitions"], leaders) == ("p2", 1, [2])
        second.supervisor.stop_all()

    simulate(scenario)


def test_a_lease_that_was_given_back_is_free_at_once() -> None:
    election = Election("ns", "x", "me")
    lease = {"metadata": {"resourceVersion": "7"}, "spec": {"holderIdentity": ""}}
    wanted = election.wanted(lease, 0.0, 0.0)
    assert wanted is not None
    assert wanted["metadata"]["resourceVersion"] == "7"
    assert wanted["spec"]["leaseTransitions"] == 0


def test_the_age_of_a_lease_is_measured_by_ones_own_clock() -> None:
    election = Election("ns", "x", "me")
    spec = {"holderIdentity": "you", "renewTime": "1990-01-01T00:00:00.000000Z"}
    lease: dict[str, Any] = {"metadata": {"resourceVersion": "7"}, "spec": spec}
    assert election.wanted(lease, 100.0, 0.0) is None, "just seen for the first time"
    assert election.wanted(lease, 100.0 + LEASE_S - 1, 0.0) is None
    renewed = {**lease, "spec": {**spec, "renewTime": "1990-01-01T00:00:02.000000Z"}}
    assert election.wanted(renewed, 100.0 + LEASE_S, 0.0) is None
    assert election.wanted(renewed, 100.0 + 2 * LEASE_S, 0.0) is not None
