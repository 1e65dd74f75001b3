"""What a real API server answered, asked of ours: discovery, refusals, and their headers.

Played in the recorded order, with what differs by nature (uids, versions) left out.
"""

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubeloop.api.resources import RESOURCES

RECORDED = Path(__file__).parents[4] / "shared" / "facts" / "apiserver-1.36.2.jsonl"
ANOTHER = (
    "apiextensions.k8s.io",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "batch",
    "daemonset",
    "horizontalpodautoscaler",
    "limitrange",
    "networking",
    "persistentvolume",
    "podtemplate",
    "policy/v1",
    "priorityclass",
    "rbac",
    "rec.io",
    "resourcequota",
    "statefulset",
    "storage",
)
"""Parts of paths that belong to kinds which are not served here."""

NOT_YET = {
    "17": "there are no service account tokens, so nobody needs the issuer",
    "65": "the recorded uid is not ours",
    "81": "that kubelet cannot be reached, this one can",
    **{str(n): "server-side apply is not built, so deployment d1 does not exist" for n in
       (84, 85, 86, 87, 89, 90, 91, 214)},
    "207": "a fake node had finished the pod",
    "208": "a fake node had finished the pod",
}  # fmt: skip
MOVES = ("resource version: 99999999", "is already assigned to node")

pytestmark = pytest.mark.skipif(not RECORDED.is_file(), reason="the recording is not at hand")


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RECORDED.read_text().splitlines()]


def is_ours(row: dict[str, Any]) -> bool:
    if any(part in row["path"].lower() for part in ANOTHER):
        return False
    return row["method"] != "WATCH" and str(row["n"]) not in NOT_YET


async def play(http: aiohttp.ClientSession, row: dict[str, Any]) -> tuple[int, Any, Any]:
    """Return status, headers and body of our answer to a recorded request."""
    headers = {"Accept": row["accept"]} if row["accept"] else {}
    if row["ct"]:
        headers["Content-Type"] = row["ct"]
    if row["name"] == "401":
        headers["Authorization"] = "Bearer nobody"
    body = row["body"]
    text = body if body is None or isinstance(body, str) else json.dumps(body)
    async with http.request(row["method"], row["path"], data=text, headers=headers) as answer:
        if answer.content_type == "application/json":
            return answer.status, answer.headers, await answer.json(content_type=None)
        return answer.status, answer.headers, await answer.text()


async def test_the_recorded_requests(http: aiohttp.ClientSession) -> None:
    compared = 0
    for row in rows():
        if not is_ours(row):
            continue
        status, headers, ours = await play(http, row)
        assert status < 500 or row.get("status") in (500, 504), (row["name"], ours)
        if row.get("status") is None:
            continue  # Kept back; played for what follows from it.
        told = f"row {row['n']}: {row['name']}: {ours}"
        assert status == row["status"], told
        for name in ("Content-Type", "Cache-Control", "Warning", "Retry-After", "Vary"):
            assert headers.get(name) == row["headers"].get(name), f"{name} of {told}"
        theirs = row["response"]
        refused = isinstance(theirs, dict) and theirs.get("status") == "Failure"
        if refused and not any(text in theirs["message"] for text in MOVES):
            assert ours == theirs, told
        compared += 1
    assert compared > 80


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
    served = {resource.group for resource in RESOURCES.values()}
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
