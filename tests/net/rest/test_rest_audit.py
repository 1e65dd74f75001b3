"""Every request has an id: told in its answer, and kept with what it wrote."""

import random
import uuid
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from fake_cluster import TOKEN, FakeCluster

from kubeloop.cluster import Cluster
from kubeloop.net.rest.server import AUDIT_ID, AUDIT_ID_MAX, RestServer
from kubeloop.store.facts import Fact

Http = aiohttp.ClientSession
MAPS = "/api/v1/namespaces/default/configmaps"


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


async def audit_id(http: Http, method: str, path: str, **how: Any) -> str:
    async with http.request(method, path, **how) as response:
        await response.read()
        return response.headers["Audit-ID"]


def newest(backend: FakeCluster | Cluster) -> Fact:
    history = backend.store.history
    return history.facts_at(history.revision)[0]


async def test_what_is_written_keeps_the_id_that_was_told(http: Http, backend: FakeCluster) -> None:
    told = await audit_id(http, "POST", MAPS, json=config_map("a"))
    assert newest(backend).cause == ("", told, 0, "system:admin")
    gone = await audit_id(http, "DELETE", f"{MAPS}/a")
    assert newest(backend).cause.message == gone
    assert {uuid.UUID(one).version for one in (told, gone)} == {4}


async def test_every_answer_has_one_of_its_own(http: Http) -> None:
    asked = [
        ("GET", MAPS), ("GET", f"{MAPS}/none"), ("GET", "/api"), ("GET", "/nothing"),
        ("GET", f"{MAPS}?watch=1&timeoutSeconds=1"), ("PUT", MAPS),
        ("GET", f"{MAPS}?limit=many"),
    ]  # fmt: skip
    told = [await audit_id(http, *request) for request in asked]
    async with aiohttp.ClientSession(http._base_url) as stranger:
        told.append(await audit_id(stranger, "GET", MAPS))
    assert len(set(told)) == len(told)
    assert {uuid.UUID(one).version for one in told} == {4}


@pytest.mark.parametrize("chosen", ["mine", "x" * AUDIT_ID_MAX, "y" * 5000, "a b/c"])
async def test_a_client_may_choose_it(http: Http, backend: FakeCluster, chosen: str) -> None:
    """It is echoed as it is; a long one is kept in part, as kube-apiserver logs it."""
    headers = {"audit-id": chosen}
    assert await audit_id(http, "POST", MAPS, json=config_map("a"), headers=headers) == chosen
    assert newest(backend).cause.message == chosen[:64]


@pytest.mark.parametrize("chosen", ["", "größer", "a\tb"])
async def test_what_is_no_id_is_not_taken(http: Http, backend: FakeCluster, chosen: str) -> None:
    headers = {AUDIT_ID: chosen}
    told = await audit_id(http, "POST", MAPS, json=config_map("a"), headers=headers)
    assert uuid.UUID(told).version == 4
    assert newest(backend).cause.message == told


def test_the_seed_decides_them(simulate: Callable[..., Any]) -> None:
    async def ids() -> list[str]:
        chance = random.Random(7)
        server = RestServer(FakeCluster(), token=TOKEN, wall=chance.random, bits=chance.getrandbits)
        await server.start()
        async with aiohttp.ClientSession(server.url) as http:
            told = [await audit_id(http, "GET", "/version") for _ in range(3)]
        await server.stop()
        return told

    assert simulate(ids) == simulate(ids)


def test_a_whole_cluster_keeps_them(simulate: Callable[..., Any]) -> None:
    """Over REST, and in this process, where nobody tells them."""

    async def main() -> list[str]:
        async with Cluster(nodes=0, rest=True) as cluster:
            token = cluster.kubeconfig["users"][0]["user"]["token"]
            headers = {"Authorization": f"Bearer {token}"}
            async with aiohttp.ClientSession(cluster.url, headers=headers) as http:
                told = await audit_id(http, "POST", MAPS, json=config_map("a"))
            assert newest(cluster).cause.message == told
            kept = [told]
            for name in "bc":
                await cluster.api.create(config_map(name))
                kept.append(newest(cluster).cause.message)
            assert all(kept) and len(set(kept)) == 3
            return kept

    assert simulate(main, seed=3) == simulate(main, seed=3)
