"""A watch with a label: told what comes and goes; and how far it is, if nothing does."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from random import getrandbits
from typing import Any

import aiohttp
import pytest
from fake_cluster import TOKEN, FakeCluster

from kubeloop.net.rest.server import RestServer

MAPS = "/api/v1/namespaces/default/configmaps"
PATCH = {"Content-Type": "application/merge-patch+json"}


async def write(http: aiohttp.ClientSession, name: str, labels: dict[str, str]) -> int:
    """Create a map; return the revision."""
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
    async with http.post(MAPS, json=body) as response:
        return int((await response.json())["metadata"]["resourceVersion"])


async def relabel(http: aiohttp.ClientSession, name: str, labels: dict[str, str | None]) -> int:
    """Change the labels of a map; return the revision."""
    body = json.dumps({"metadata": {"labels": labels}})
    async with http.patch(f"{MAPS}/{name}", data=body, headers=PATCH) as response:
        return int((await response.json())["metadata"]["resourceVersion"])


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str, int]]:
    """Yield the type, the name and the revision of what a watch is told."""
    async for line in response.content:
        event = json.loads(line)
        metadata = event["object"]["metadata"]
        yield event["type"], metadata.get("name", ""), int(metadata["resourceVersion"])


@pytest.fixture
def served(simulate: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs a test of a server in virtual time."""

    def run(test: Callable[[aiohttp.ClientSession], Any]) -> None:
        async def main() -> None:
            server = RestServer(
                FakeCluster(), token=TOKEN, wall=asyncio.get_running_loop().time, bits=getrandbits
            )
            await server.start()
            headers = {"Authorization": f"Bearer {TOKEN}"}
            forever = aiohttp.ClientTimeout(total=None)
            async with aiohttp.ClientSession(server.url, headers=headers, timeout=forever) as http:
                await test(http)
            await server.stop()

        simulate(main)

    return run


def test_a_bookmark_tells_of_writes_that_did_not_concern_the_watch(
    served: Callable[..., Any],
) -> None:
    async def test(http: aiohttp.ClientSession) -> None:
        begun = await write(http, "before", {"l": "2"})
        asked = f"{MAPS}?watch=1&allowWatchBookmarks=true&labelSelector=l%3D1"
        async with http.get(f"{asked}&resourceVersion={begun}") as response:
            told = events(response)
            for number in range(3):
                newest = await write(http, f"other-{number}", {"l": "2"})
                assert await anext(told) == ("BOOKMARK", "", newest)
        wanted = await write(http, "wanted", {"l": "1"})
        async with http.get(f"{asked}&resourceVersion={newest}") as response:
            assert await anext(events(response)) == ("ADDED", "wanted", wanted)

    served(test)


@pytest.mark.parametrize("selector", ["l=1", "l in (1,3)", "l in (3,1),k!=2", "l,l!=2", "l=1,k"])
def test_who_gets_or_loses_a_label_comes_and_goes(
    served: Callable[..., Any], selector: str
) -> None:
    async def test(http: aiohttp.ClientSession) -> None:
        async with http.get(MAPS, params={"watch": "1", "labelSelector": selector}) as response:
            told = events(response)
            await write(http, "a", {"l": "2", "k": "1"})
            comes = await relabel(http, "a", {"l": "1"})
            stays = await relabel(http, "a", {"m": "1"})
            goes = await relabel(http, "a", {"l": "2"})
            await relabel(http, "a", {"l": None})
            back = await relabel(http, "a", {"l": "1"})
            async with http.delete(f"{MAPS}/a") as response:
                assert response.status == 200
            seen = [await anext(told) for _ in range(5)]
        types = ["ADDED", "MODIFIED", "DELETED", "ADDED", "DELETED"]
        assert seen == [
            (type_, "a", at)
            for type_, at in zip(types, (comes, stays, goes, back, back + 1), strict=True)
        ]

    served(test)
