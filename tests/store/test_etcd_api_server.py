"""API servers over one etcd: each answers what is so, tells of what the others write."""

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import msgpack
import pytest
from pykka._envelope import Envelope

from kubeloop.actors.actor import AsyncActor, Scene
from kubeloop.actors.api_server import SUPERSEDED_MAX, ApiServer, Subscriptions
from kubeloop.actors.messages import API_SERVER, Facts, Outcome, Request, Subscribe, decode
from kubeloop.actors.requests.state import Settings
from kubeloop.actors.requests.upkeep import plant
from kubeloop.actors.supervisor import Supervisor
from kubeloop.actors.world import LoopWorld
from kubeloop.cluster import Cluster
from kubeloop.store.etcd.outcomes import Superseded
from kubeloop.store.store import Done, Store
from kubeloop.stores import EtcdAccess
from tests.servers.etcd import Etcd, NoEtcd, running_etcd
from tests.servers.etcd_stores import caught_up, stores

prefixes = count(1)


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    try:
        with running_etcd(tmp_path_factory.mktemp("etcd")) as etcd:
            yield etcd
    except NoEtcd as error:
        pytest.skip(str(error))


@pytest.fixture
def prefix() -> str:
    return f"/api-{next(prefixes)}/registry/"


class Hearer(AsyncActor):
    """Notes the revision of every fact about configmaps."""

    def __init__(self, scene: Scene, name: str, heard: list[int], bell: asyncio.Event) -> None:
        super().__init__(scene, name)
        self.heard, self.bell = heard, bell

    def on_start(self) -> None:
        self.send(API_SERVER, Subscribe(self.name, ["configmaps"]).encode())

    def on_batch(self, envelopes: list[Envelope[Any]]) -> None:  # type: ignore[override]
        for envelope in envelopes:
            message = decode(envelope.message)
            if isinstance(message, Facts):
                self.heard += [fact.revision for fact in message.facts()]
                self.bell.set()


class Server:
    """An API server and one subscriber."""

    def __init__(self, store: Store, seed: int = 1, settings: Settings | None = None) -> None:
        world = LoopWorld(asyncio.get_running_loop(), seed=seed, wall=lambda: 1e9)
        self.supervisor, self.heard, self.bell = Supervisor(world), list[int](), asyncio.Event()
        subscriptions = Subscriptions({})
        self.supervisor.start(
            API_SERVER,
            lambda scene, name: ApiServer(scene, name, store, subscriptions, settings),
        )
        self.supervisor.start(
            "hearer", lambda scene, name: Hearer(scene, name, self.heard, self.bell)
        )

    async def ask(self, verb: str, name: str, obj: Any = None, **options: Any) -> tuple[int, Any]:
        """Return the status and the answered object."""
        body = b"" if obj is None else msgpack.packb(obj)
        namespace, resource = ("", "namespaces") if name == "default" else ("default", "configmaps")
        in_path = "" if verb == "create" else name
        request = Request(verb, resource, namespace, in_path, body=body, options=options)
        outcome = decode(await self.supervisor.ask(API_SERVER, request.encode()))
        assert isinstance(outcome, Outcome)
        return outcome.code, msgpack.unpackb(outcome.body)

    async def hears(self, revisions: list[int]) -> None:
        """Wait until the subscriber has heard of these, in order, and of nothing else."""
        async with asyncio.timeout(20):
            while len(self.heard) < len(revisions):
                self.bell.clear()
                await self.bell.wait()
        assert self.heard == revisions


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "data": data,
        "metadata": {"name": name, "namespace": "default"},
    }  # fmt: skip


NAMESPACE = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}


async def test_an_api_server_over_etcd(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix) as (store,):
        server = Server(store)
        await server.ask("create", "default", NAMESPACE)
        code, made = await server.ask("create", "a", config_map("a", x="1"))
        assert (code, made["metadata"]["resourceVersion"]) == (201, "2")
        code, changed = await server.ask("update", "a", {**made, "data": {"x": "2"}})
        assert (code, changed["metadata"]["resourceVersion"]) == (200, "3")
        assert (await server.ask("update", "a", {**made, "data": {"x": "3"}}))[0] == 409
        assert (await server.ask("create", "a", config_map("a")))[0] == 409
        assert await server.ask("get", "a") == (200, changed)
        assert (await server.ask("delete", "a"))[0] == 200
        assert (await server.ask("get", "a"))[0] == 404
        await server.hears([2, 3, 4])
        server.supervisor.stop_all()


async def test_two_api_servers_write_at_once_and_nobody_notices(etcd: Etcd, prefix: str) -> None:
    async with stores(etcd.endpoints, prefix, 2) as pair:
        servers = [Server(store, seed) for seed, store in enumerate(pair)]
        await servers[0].ask("create", "default", NAMESPACE)
        await servers[0].ask("create", "n", config_map("n", n="0"))
        await caught_up(pair[1], 2)
        versions: list[int] = []

        async def count_up(server: Server, times: int) -> None:
            for _ in range(times):
                while True:
                    _, found = await server.ask("get", "n")
                    found["data"]["n"] = str(int(found["data"]["n"]) + 1)
                    code, made = await server.ask("update", "n", found)
                    if code == 200:
                        versions.append(int(made["metadata"]["resourceVersion"]))
                        break
                    assert code == 409, made

        async def create(server: Server, name: str) -> None:
            code, made = await server.ask("create", name, config_map(name))
            assert code == 201, made
            versions.append(int(made["metadata"]["resourceVersion"]))

        await asyncio.gather(
            *(count_up(servers[n % 2], 10) for n in range(4)),
            *(create(servers[n % 2], f"m{n}") for n in range(60)),
        )
        await servers[0].hears(list(range(2, 103)))
        await servers[1].hears(list(range(2, 103)))
        assert sorted(versions) == list(range(3, 103))
        for server in servers:
            assert (await server.ask("get", "n"))[1]["data"]["n"] == "40"
            server.supervisor.stop_all()


async def test_of_two_who_create_the_same_one_is_told_that_it_exists(
    etcd: Etcd, prefix: str
) -> None:
    async with stores(etcd.endpoints, prefix, 2) as pair:
        servers = [Server(store, seed) for seed, store in enumerate(pair)]
        await servers[0].ask("create", "default", NAMESPACE)
        await caught_up(pair[1], 1)
        for n in range(10):
            answers = await asyncio.gather(
                *(s.ask("create", f"m{n}", config_map(f"m{n}")) for s in servers)
            )
            assert sorted(code for code, _ in answers) == [201, 409]
        for server in servers:
            server.supervisor.stop_all()


class Unlucky(Store):
    """A store whose writes are superseded so many times."""

    times = 0

    def flush(self, done: Done) -> None:
        if self.revision == self.durable or self.times == 0:
            super().flush(done)
            return
        self.times -= 1
        self.history.rollback(self.durable)
        self._facts.clear()
        done(Superseded("somebody else wrote first"))


def test_requests_are_handled_again_in_their_order_before_others(simulate: Any) -> None:
    async def scenario() -> list[int]:
        store = Unlucky(Store.memory().history)
        server = Server(store)
        await server.ask("create", "default", NAMESPACE)
        store.times = 3
        asked = [server.ask("create", f"m{n}", config_map(f"m{n}")) for n in range(5)]
        answers = await asyncio.gather(*asked)
        await server.hears([2, 3, 4, 5, 6])
        server.supervisor.stop_all()
        return [int(made["metadata"]["resourceVersion"]) for _, made in answers]

    assert simulate(scenario) == [2, 3, 4, 5, 6]


def test_a_request_is_not_handled_again_for_ever(simulate: Any) -> None:
    async def scenario() -> None:
        store = Unlucky(Store.memory().history)
        server = Server(store)
        await server.ask("create", "default", NAMESPACE)
        store.times = SUPERSEDED_MAX + 1
        code, status = await server.ask("create", "a", config_map("a"))
        assert (code, store.times) == (503, 0)
        assert "somebody else wrote first" in status["message"]
        assert (await server.ask("create", "a", config_map("a")))[0] == 201
        server.supervisor.stop_all()

    simulate(scenario)


@pytest.mark.parametrize("both", [True, False])
async def test_what_a_cluster_has_from_its_start_is_made_by_one_of_those_who_start(
    etcd: Etcd, prefix: str, both: bool
) -> None:
    async with stores(etcd.endpoints, prefix, 2) as opened:
        servers = [Server(opened[0], 1, Settings(plants=both))]
        await servers[0].ask("create", "default", NAMESPACE)
        servers.append(Server(opened[1], 2, Settings(plants=True)))  # It has not heard of that.
        for number in range(4):  # Who was behind knows all when his write is done.
            code, _ = await servers[number % 2].ask("create", "", config_map(f"c{number}"))
            assert code == 201
        prefix_ = "/registry/apiservices.apiregistration.k8s.io/"
        first, second = (store.list(prefix_) for store in opened)
        assert first.values == second.values and len(first.keys) >= 20
        assert len(set(first.revisions)) == 1
        for server in servers:
            found = server.supervisor.actor(API_SERVER)
            assert isinstance(found, ApiServer) and not plant(found.core.state)


async def test_who_is_not_alone_answers_reads_by_its_api_server(etcd: Etcd, prefix: str) -> None:
    access = EtcdAccess(endpoints=etcd.endpoints, prefix=prefix)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
    async with Cluster(nodes=0, etcd=access) as one, Cluster(nodes=0, etcd=access) as other:
        for number in range(20):
            await one.api.apply({**body, "data": {"n": str(number)}})
            # Its own memory may be behind: only its API server may answer.
            assert other.read(Request("get", "configmaps", "default", "m")) is None


async def test_what_one_has_acknowledged_the_other_reads(etcd: Etcd, prefix: str) -> None:
    access = EtcdAccess(endpoints=etcd.endpoints, prefix=prefix)
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
    async with Cluster(nodes=0, etcd=access) as one, Cluster(nodes=0, etcd=access) as other:
        for number in range(60):
            writer, *readers = (one, other, other) if number % 2 else (other, one, one)
            await writer.api.apply({**body, "data": {"n": str(number)}})
            got, listed = await asyncio.gather(
                readers[0].api.get("configmaps", "m"), readers[1].api.list("configmaps")
            )
            assert got is not None
            assert [obj["data"]["n"] for obj in (got, *listed) if obj["metadata"]["name"] == "m"] \
                == [str(number)] * 2  # fmt: skip
