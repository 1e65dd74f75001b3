"""A real API server's answers, asked of a whole cluster in the same order.

Status, headers and body must be the same once what differs by nature is mapped: uids, versions,
times, generated names, addresses. Their cluster had fake nodes which ran pods; ours has no nodes
here, so what became of pods is left out. Rows whose answer was kept
back are played for what follows from them.
"""

import asyncio
import base64
import json
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from recording import needed, rows

from kubeloop.cluster import Cluster

pytestmark = needed

ALIEN = "openshift-service-ca.crt"
"""A config map that their controllers make in every namespace."""

UNLIKE = {
    81: "their node cannot be reached; our pod has none, so its log is empty",
}
"""Rows whose status is another here, and why."""

UNSEEN = {
    **dict.fromkeys((40, 41, 48, 49), "their pods run on fake nodes, ours wait for one"),
    79: "tells the node's name",
    103: "their Job had not been started",
    113: "how far the replication controller got is a matter of time",
    141: "their Service has running pods",
    221: "how far the namespace controller got is a matter of time",
    224: "the claim went with its namespace, which theirs had not done yet",
}
"""Rows whose body is not compared, and why."""

TIMELY = (84, 86, 87, 89, 107, 109, 214)
"""Rows about what controllers were at work on: how far they got is a matter of time."""

PAGE = Path(__file__).parents[2] / "docs/conformance.md"
HEADERS = ("Content-Type", "Cache-Control", "Warning", "Retry-After", "Vary")
TIME = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z")
AGE = re.compile(r"(\d+[smhdy])+|<invalid>")
UID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ADDRESS = re.compile(r"10\.\d+\.\d+\.\d+")
NODE_PORT = re.compile(r"\b3[0-2]\d{3}\b")
NEWEST = re.compile(r"\bcurrent: \d+")
GENERATED = re.compile(r"\bgen-[a-z0-9]{5}\b")
TOKEN = re.compile(r"\bkube-api-access-[a-z0-9]{5}\b")
NATURAL = {"nodeName"}


def plain(value: Any, key: str = "") -> Any:
    """Return a body without what differs by nature."""
    if isinstance(value, dict):
        if key == "status" and "qosClass" in value:
            return "of a pod"
        return {k: plain(v, k) for k, v in value.items() if k not in NATURAL}
    if key == "managedFields":
        value = [e for e in value if (e.get("subresource"), e["apiVersion"]) != ("status", "v1")]
    if isinstance(value, list):
        return [plain(item, key) for item in value if name_of(item) != ALIEN]
    if key in ("resourceVersion", "continue"):
        return f"a {key}" if value else value
    if key == "nodePort":
        return NODE_PORT.sub("a port", str(value))
    if key == "ca.crt":
        return "an authority"
    if key == "username":
        return "the administrator"
    if isinstance(value, str):
        if TIME.fullmatch(value) or AGE.fullmatch(value) or ADDRESS.fullmatch(value):
            return "another here"
        value = NODE_PORT.sub("a port", value) if value.endswith("/TCP") else value
        value = NEWEST.sub("current: the newest", value)
        value = TOKEN.sub("a token", value)
        return GENERATED.sub("gen-", UID.sub("a uid", value))
    return value


def timeless(value: Any) -> Any:
    """Return a body without what controllers wrote."""
    if isinstance(value, dict):
        told = {
            k: timeless(v) for k, v in value.items() if k != "status" or "metadata" not in value
        }
        if "managedFields" in told:
            entries = told["managedFields"]
            told["managedFields"] = [e for e in entries if e.get("subresource") != "status"]
        return told
    return [timeless(one) for one in value] if isinstance(value, list) else value


def name_of(item: Any) -> str:
    """Return the name of an object, a row of a table, a watch event or a source of a volume."""
    while isinstance(item, dict) and ("object" in item or item.get("kind") == "Table"):
        item = item["object"] if "object" in item else item["rows"][0]
    if isinstance(item, dict) and item.keys() == {"configMap"}:  # Of a projected volume.
        return str(item["configMap"]["name"])
    metadata = item.get("metadata") if isinstance(item, dict) else None
    return str(metadata.get("name", "")) if isinstance(metadata, dict) else ""


class Mapping:
    """What is called otherwise here: learned from pairs of answers, used in later requests."""

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.others: dict[str, str] = {}

    def learn(self, theirs: Any, ours: Any, key: str = "") -> None:
        """Take note of two answers to the same request."""
        if isinstance(theirs, dict) and isinstance(ours, dict):
            for name in theirs.keys() & ours.keys():
                self.learn(theirs[name], ours[name], name)
        elif isinstance(theirs, list) and isinstance(ours, list):
            for one, other in zip(theirs, ours, strict=False):
                self.learn(one, other, key)
        elif key == "resourceVersion":
            self.versions[theirs] = ours
        elif key in ("uid", "continue") or (key == "name" and TOKEN.fullmatch(str(theirs))):
            self.others.setdefault(theirs, ours)

    def path(self, path: str) -> str:
        """Return a recorded path as it is asked here."""
        path = re.sub(r"(?<=resourceVersion=)\d+", lambda m: self.versions.get(m[0], m[0]), path)
        path = re.sub(r"(?<=continue=)[^&]+", lambda m: self.others.get(m[0], m[0]), path)
        return re.sub(r"(?<=timeoutSeconds=)\d+", "1", path)

    def body(self, value: Any, key: str = "") -> Any:
        """Return a recorded body as it is sent here."""
        if isinstance(value, dict):
            return {k: self.body(v, k) for k, v in value.items() if k not in NATURAL}
        if isinstance(value, list):
            return [self.body(item, key) for item in value]
        if isinstance(value, str):
            known = self.versions if key == "resourceVersion" else self.others
            return known.get(value, value)
        return value


class Player:
    """Asks what was asked, and keeps the mapping."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http, self.mapping = http, Mapping()

    async def ask(self, row: dict[str, Any]) -> tuple[int, Any, Any]:
        """Return status, headers and body of our answer to a row."""
        headers = {"User-Agent": "Python-urllib/3.12"}
        if row.get("accept"):
            headers["Accept"] = row["accept"]
        if row.get("ct"):
            headers["Content-Type"] = row["ct"]
        if row["name"] == "401":
            headers["Authorization"] = "Bearer nobody"
        body = row.get("body")
        if body is not None and not isinstance(body, str):
            body = json.dumps(self.mapping.body(body))
        method = "GET" if row["method"] == "WATCH" else row["method"]
        path = self.mapping.path(row["path"])
        async with self.http.request(method, path, data=body, headers=headers) as answer:
            told = await answer.text()
            if row["method"] == "WATCH" and answer.status == 200:
                return answer.status, answer.headers, [json.loads(x) for x in told.splitlines()]
            is_json = answer.content_type == "application/json"
            return answer.status, answer.headers, json.loads(told) if is_json else told

    async def play(self) -> "asyncio.Queue[tuple[dict[str, Any], int, Any, Any]]":
        """Play all rows; return (row, status, headers, body) of each."""
        answers: asyncio.Queue[tuple[dict[str, Any], int, Any, Any]] = asyncio.Queue()
        watches: dict[int, asyncio.Task[tuple[int, Any, Any]]] = {}
        for row in rows():
            watch = watch_of(row)
            if watch is not None:
                watches[watch["n"]] = asyncio.create_task(self.ask(watch))
                await asyncio.sleep(0.1)  # As they had it: the watch is there before.
            if row["n"] == 220:
                await self.hold_on(row["path"])
            status, headers, body = await (watches.get(row["n"]) or self.ask(row))
            if isinstance(row.get("response"), dict):
                self.mapping.learn(row["response"], body)
            answers.put_nowait((row, status, headers, body))
        return answers

    async def hold_on(self, namespace: str) -> None:
        """Keep a namespace from going as fast as ours do: theirs was still there when asked."""
        held = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "held", "finalizers": ["example.com/held"]},
        }
        async with self.http.post(f"{namespace}/configmaps", json=held) as answer:
            assert answer.status == 201


def watch_of(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the watch that was open while this row and the next three were played."""
    later = rows()[row["n"] + 4 : row["n"] + 5]
    opens = row["name"] == "w cm create" and later and later[0]["method"] == "WATCH"
    return later[0] if opens else None


def differences(theirs: Any, ours: Any, path: str = "") -> Iterator[str]:
    """Yield where two bodies differ."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            yield from differences(theirs.get(key), ours.get(key), f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for number, pair in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(*pair, f"{path}[{number}]")
    elif theirs != ours:
        yield f"{path}: theirs {theirs!r:.300}, ours {ours!r:.300}"


def wrong(row: dict[str, Any], status: int, headers: Any, body: Any) -> Iterator[str]:
    """Yield what is wrong with our answer to a row."""
    number = row["n"]
    if row.get("status") is None:
        if status >= 500:
            yield f"it fails: {status} {body}"
        return
    if number in UNLIKE:
        if status == row["status"]:
            yield f"it is the same now, so it need not be excused: {UNLIKE[number]}"
        return
    if status != row["status"]:
        yield f"status: theirs {row['status']}, ours {status}: {body}"
        return
    for name in HEADERS if row["headers"] else ():
        if headers.get(name) != row["headers"].get(name):
            yield f"{name}: theirs {row['headers'].get(name)}, ours {headers.get(name)}"
    if number in UNSEEN:
        return
    theirs = row["response"] if "response" in row else row["events"]
    if row["headers"].get("Content-Type") == "application/yaml":
        theirs, body = (yaml.load(told, yaml.BaseLoader) for told in (theirs["__text__"], body))
    if row["method"] == "WATCH" and status != 200:
        (theirs,) = theirs
    elif row["method"] == "WATCH":  # When a bookmark comes is up to the server.
        theirs, body = ([e for e in told if e["type"] != "BOOKMARK"] for told in (theirs, body))
    if number in TIMELY:
        theirs, body = timeless(theirs), timeless(body)
    if row["path"].startswith(("/api/v1/", "/apis/")) and not row["name"].startswith("disc "):
        yield from differences(plain(theirs), plain(body))


def test_the_page_tells_of_every_difference() -> None:
    told = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", PAGE.read_text(), re.MULTILINE)
    wanted = {**UNSEEN, 81: "their node was a fake that nobody could reach"}
    assert {int(row): why for row, why in told} == wanted and UNLIKE.keys() == {81}
    rows_ = ", ".join(map(str, TIMELY[:-1]))
    assert f"Of the rows {rows_} and {TIMELY[-1]} everything" in PAGE.read_text()


async def test_the_recorded_requests() -> None:
    async with Cluster(nodes=0, rest=True, tls=True) as cluster:
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        authority = cluster.kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
        known = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
        connector = aiohttp.TCPConnector(ssl=known)
        headers = {"Authorization": f"Bearer {token}"}
        async with aiohttp.ClientSession(cluster.url, headers=headers, connector=connector) as http:
            answers = await Player(http).play()
    complaints, compared = [], 0
    while not answers.empty():
        row, *answer = answers.get_nowait()
        compared += row.get("status") is not None
        complaints += [f"row {row['n']}, {row['name']}: {why}" for why in wrong(row, *answer)]
    assert not complaints, "\n".join(complaints)
    assert compared == 150
