"""A watch of events.k8s.io tells of the events of both groups, in its own form."""

import json
from typing import Any

import aiohttp

from kubeloop.cluster import Cluster

EVENT: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Event",
    "metadata": {"name": "e", "namespace": "default"},
    "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
    "message": "m",
    "reason": "R",
    "type": "Normal",
}
PATH = "/apis/events.k8s.io/v1/namespaces/default/events"


async def test_a_watch_tells_of_both() -> None:
    async with Cluster(nodes=0, rest=True) as cluster:
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        headers = {"Authorization": f"Bearer {token}"}
        made = await cluster.api.create(EVENT)
        since = int(made.metadata["resourceVersion"]) - 1
        selector = "fieldSelector=regarding.name%3Dp"
        query = f"watch=1&timeoutSeconds=1&resourceVersion={since}&{selector}"
        async with (
            aiohttp.ClientSession(cluster.url, headers=headers) as http,
            http.get(f"{PATH}?{query}") as answer,
        ):
            told = [json.loads(line) for line in (await answer.text()).splitlines()]
        watch = cluster.api.watch("events.events.k8s.io", namespace="default", since=since)
        change = await anext(watch)
        await watch.aclose()
    (first,) = told
    assert first["type"] == "ADDED" == change.type
    for obj in (first["object"], change.object):
        assert obj["apiVersion"] == "events.k8s.io/v1"
        assert (obj["note"], obj["regarding"]["name"]) == ("m", "p")
