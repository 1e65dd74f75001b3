"""The processes the REST benchmark talks to: `python rest_server.py kubeloop http|https PODS` and
`… aiohttp BYTES`, which answers everything with so many bytes.

Each prints what is needed to talk to it, in JSON, and ends when its standard input does.
"""

import asyncio
import json
import sys
from typing import Any

from aiohttp import web

from kubeloop.cluster import Cluster


def pod(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"p-{number}", "labels": {"app": "web", "n": str(number % 10)}},
        "spec": {
            "schedulingGates": [{"name": "example.com/later"}],  # So that it stays as it is.
            "containers": [
                {
                    "name": "c",
                    "image": "nginx:1.25",
                    "env": [{"name": "A", "value": "b"}],
                    "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
                }
            ],
        },
    }


async def ended() -> None:
    """Return when standard input ends."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def kubeloop(scheme: str, pods: int) -> None:
    async with Cluster(nodes=0, rest=True, tls=scheme == "https") as cluster:
        for number in range(pods):
            await cluster.api.create(pod(number))
        token = cluster.kubeconfig["users"][0]["user"]["token"]
        print(json.dumps({"url": cluster.url, "token": token}), flush=True)
        await ended()


async def aiohttp(size: int) -> None:
    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(body=b"x" * size, content_type="application/json")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    print(json.dumps({"url": url, "token": ""}), flush=True)
    await ended()
    await runner.cleanup()


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "kubeloop":
        asyncio.run(kubeloop(arguments[0], int(arguments[1])))
    else:
        asyncio.run(aiohttp(int(arguments[0])))
