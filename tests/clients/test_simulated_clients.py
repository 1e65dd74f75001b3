"""Other people's asyncio clients, unmodified, in virtual time: through resets, partitions, silence.

Each does the same work (see `simulated`); what differs is the library, and so the connections, the
retries and the errors. Two runs of a seed are the same to the byte.
"""

import asyncio
import base64
import json
import ssl
from typing import Any

import aiohttp
import pytest
from simulated import CONFIG_MAPS, ORDER, PATIENCE_S, PODS, WATCH_S, Program, access, pod, run

httpx = pytest.importorskip("httpx", reason="no httpx: pip install httpx")
kr8s = pytest.importorskip("kr8s", reason="no kr8s: pip install kr8s")
lightkube = pytest.importorskip("lightkube", reason="no lightkube: pip install lightkube")
kubernetes_asyncio = pytest.importorskip(
    "kubernetes_asyncio", reason="no asyncio client: pip install kubernetes_asyncio"
)


def context(authority: str | None) -> ssl.SSLContext | None:
    if authority is None:
        return None
    return ssl.create_default_context(cadata=base64.b64decode(authority).decode())


async def with_aiohttp(kubeconfig: dict[str, Any]) -> None:
    url, token, authority = access(kubeconfig)
    async with aiohttp.ClientSession(
        url,
        headers={"Authorization": f"Bearer {token}"},
        connector=aiohttp.TCPConnector(ssl=context(authority) or False),
        timeout=aiohttp.ClientTimeout(sock_connect=10, sock_read=PATIENCE_S),
        raise_for_status=True,
    ) as session:

        async def serve(name: str) -> None:
            async with session.post(PODS, json=pod(name), raise_for_status=False) as made:
                assert made.status in (201, 409)
            query = {"watch": "1", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": "60"}
            async with session.get(PODS, params=query) as watch:
                async for line in watch.content:
                    if json.loads(line)["object"]["status"]["phase"] == "Running":
                        break
            async with session.delete(f"{CONFIG_MAPS}/{name}", raise_for_status=False) as gone:
                assert gone.status in (200, 404)

        while True:
            try:
                async with session.get(CONFIG_MAPS, params={"labelSelector": ORDER}) as answer:
                    listed = await answer.json()
                for item in listed["items"]:
                    await serve(item["metadata"]["name"])
                since = listed["metadata"]["resourceVersion"]
                query = {
                    "watch": "1",
                    "labelSelector": ORDER,
                    "resourceVersion": since,
                    "timeoutSeconds": str(WATCH_S),
                }
                async with session.get(CONFIG_MAPS, params=query) as watch:
                    async for line in watch.content:
                        event = json.loads(line)
                        if event["type"] == "ADDED":
                            await serve(event["object"]["metadata"]["name"])
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(1)


async def with_httpx(kubeconfig: dict[str, Any]) -> None:
    url, token, authority = access(kubeconfig)
    async with httpx.AsyncClient(
        base_url=url,
        headers={"Authorization": f"Bearer {token}"},
        verify=context(authority) or True,
        timeout=httpx.Timeout(PATIENCE_S, connect=10),
    ) as client:

        async def serve(name: str) -> None:
            made = await client.post(PODS, json=pod(name))
            assert made.status_code in (201, 409)
            while (await client.get(f"{PODS}/{name}")).json()["status"]["phase"] != "Running":
                await asyncio.sleep(0.5)
            await client.delete(f"{CONFIG_MAPS}/{name}")

        while True:
            try:
                listed = (await client.get(CONFIG_MAPS, params={"labelSelector": ORDER})).json()
                for item in listed["items"]:
                    await serve(item["metadata"]["name"])
                query = {
                    "watch": "1",
                    "labelSelector": ORDER,
                    "resourceVersion": listed["metadata"]["resourceVersion"],
                    "timeoutSeconds": str(WATCH_S),
                }
                async with client.stream("GET", CONFIG_MAPS, params=query) as watch:
                    async for line in watch.aiter_lines():
                        event = json.loads(line)
                        if event["type"] == "ADDED":
                            await serve(event["object"]["metadata"]["name"])
            except httpx.HTTPError:
                await asyncio.sleep(1)


async def with_kr8s(kubeconfig: dict[str, Any]) -> None:
    import kr8s.asyncio
    from kr8s.asyncio.objects import Pod

    async def serve(api: Any, wanted: Any) -> None:
        made = await Pod(pod(wanted.name), api=api)
        if not await made.exists():
            await made.create()
        await made.wait("condition=Ready", timeout=60)
        await wanted.delete()

    async def work(api: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):  # It waits for a watch for ever.
            async for event, wanted in api.watch("configmaps", label_selector=ORDER):
                if event == "ADDED":
                    await serve(api, wanted)

    api: Any = None
    while True:
        try:
            api = api or await kr8s.asyncio.api(kubeconfig=kubeconfig)
            await work(api)
        except (httpx.HTTPError, TimeoutError, kr8s.NotFoundError):
            await asyncio.sleep(1)


async def with_kubernetes_asyncio(kubeconfig: dict[str, Any]) -> None:
    from kubernetes_asyncio import client, config, watch

    configuration = client.Configuration()
    await config.load_kube_config_from_dict(kubeconfig, client_configuration=configuration)
    async with client.ApiClient(configuration) as api:
        core = client.CoreV1Api(api)
        times = {"_request_timeout": PATIENCE_S}
        orders, running = watch.Watch(), watch.Watch()  # Making one loads all authorities.

        async def serve(name: str) -> None:
            try:
                await core.create_namespaced_pod("default", pod(name), **times)
            except client.ApiException as error:
                assert error.status == 409, error
            selector = {"field_selector": f"metadata.name={name}"}
            async with running:
                stream = running.stream(
                    core.list_namespaced_pod, "default", timeout_seconds=60, **selector, **times
                )
                async for event in stream:
                    if event["object"].status.phase == "Running":
                        break
            await core.delete_namespaced_config_map(name, "default", **times)

        while True:
            try:
                listed = await core.list_namespaced_config_map(
                    "default", label_selector=ORDER, **times
                )
                for item in listed.items:
                    await serve(item.metadata.name)
                async with orders:
                    stream = orders.stream(
                        core.list_namespaced_config_map,
                        "default",
                        label_selector=ORDER,
                        resource_version=listed.metadata.resource_version,
                        timeout_seconds=WATCH_S,
                        **times,
                    )
                    async for event in stream:
                        if event["type"] == "ADDED":
                            await serve(event["object"].metadata.name)
            except (aiohttp.ClientError, TimeoutError, client.ApiException):
                await asyncio.sleep(1)


async def with_lightkube(kubeconfig: dict[str, Any]) -> None:
    import httpx2
    from lightkube.core.exceptions import ApiError
    from lightkube.resources.core_v1 import ConfigMap, Pod

    client = lightkube.AsyncClient(config=lightkube.KubeConfig.from_dict(kubeconfig))

    async def serve(name: str) -> None:
        try:
            await client.create(Pod.from_dict(pod(name)))
        except ApiError as error:
            assert error.status.code == 409, error
        await client.wait(Pod, name, for_conditions=["Ready"])
        await client.delete(ConfigMap, name)

    async def work() -> None:
        async with asyncio.timeout(PATIENCE_S):  # It waits for a watch for ever.
            labels = {ORDER: "yes"}
            async for event, wanted in client.watch(
                ConfigMap, labels=labels, server_timeout=WATCH_S
            ):
                if event == "ADDED":
                    await serve(wanted.metadata.name)

    while True:
        try:
            await work()
        except (httpx2.HTTPError, TimeoutError):
            await asyncio.sleep(1)


PROGRAMS: dict[str, Program] = {
    "aiohttp": with_aiohttp,
    "httpx": with_httpx,
    "kr8s": with_kr8s,
    "kubernetes_asyncio": with_kubernetes_asyncio,
    "lightkube": with_lightkube,
}


@pytest.mark.filterwarnings("ignore:Kubernetes version:UserWarning")
@pytest.mark.parametrize("library", PROGRAMS)
def test_work_gets_done_and_a_seed_is_a_history(library: str) -> None:
    plain = run(PROGRAMS[library], tls=False)
    runs = [plain, *(run(PROGRAMS[library], tls=True, policy="random") for _ in range(2))]
    for done in runs:
        assert done.seconds >= 1800
        assert sorted(done.pods) == sorted(f"web-{n}" for n in range(12))
        assert done.orders == []
        assert done.network["reset"] > 1
    assert (runs[1].log, runs[1].trace) == (runs[2].log, runs[2].trace)
