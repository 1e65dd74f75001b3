"""What a real API server answered when asked what it has: discovery."""

from typing import Any

import aiohttp
import pytest
from recording import needed, rows

from kubeloop.api.resources import ROWS

pytestmark = needed


async def play(http: aiohttp.ClientSession, row: dict[str, Any]) -> tuple[int, Any, Any]:
    """Return status, headers and body of our answer to a recorded request."""
    headers = {"Accept": row["accept"]} if row["accept"] else {}
    async with http.request(row["method"], row["path"], headers=headers) as answer:
        return answer.status, answer.headers, await answer.json(content_type=None)


@pytest.mark.parametrize("number", [2, 11])
async def test_resource_lists(http: aiohttp.ClientSession, number: int) -> None:
    row = rows()[number]
    _, _, ours = await play(http, row)
    theirs = {resource["name"]: resource for resource in row["response"]["resources"]}
    assert len(ours["resources"]) >= 4
    for resource in ours["resources"]:
        assert resource == theirs[resource["name"]]
    assert {**ours, "resources": []} == {**row["response"], "resources": []}


async def test_groups(http: aiohttp.ClientSession) -> None:
    _, _, ours = await play(http, rows()[1])
    theirs = {group["name"]: group for group in rows()[1]["response"]["groups"]}
    assert all(group == theirs[group["name"]] for group in ours["groups"])
    served = {resource.group for resource in ROWS}
    assert {group["name"] for group in ours["groups"]} == served - {""}
    assert (await play(http, rows()[10]))[2] == rows()[10]["response"]


async def test_aggregated_discovery(http: aiohttp.ClientSession) -> None:
    row = rows()[19]
    _, headers, ours = await play(http, row)
    assert headers["Content-Type"] == row["headers"]["Content-Type"]
    theirs = {group["metadata"]["name"]: group for group in row["response"]["items"]}
    for group in ours["items"]:
        their_group = theirs[group["metadata"]["name"]]
        for version, their_version in zip(group["versions"], their_group["versions"], strict=True):
            known = {r["resource"]: r for r in their_version["resources"]}
            for resource in version["resources"]:
                assert resource == known[resource["resource"]]
            assert {**version, "resources": []} == {**their_version, "resources": []}
