"""exec and port-forward of other people's Python clients, in real and in virtual time."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from simulated import access

from kubeloop import Cluster, sim
from kubeloop.sync import SyncCluster

official = pytest.importorskip("kubernetes", reason="no kubernetes client: pip install kubernetes")
asynchronous = pytest.importorskip(
    "kubernetes_asyncio", reason="no asyncio client: pip install kubernetes_asyncio"
)

POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "name": "p",
        "annotations": {
            "kubeloop.dev/sim.exec": json.dumps({"date": "today\n"}),
            "kubeloop.dev/sim.http": "hello",
        },
    },
    "spec": {"containers": [{"name": "c", "image": "b"}]},
}
GET = b"GET / HTTP/1.1\r\nHost: p\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def core() -> Iterator[Any]:
    with (
        SyncCluster(nodes=1, rest=True, tls=True) as cluster,
        official.config.new_client_from_config_dict(cluster.kubeconfig) as api,
    ):
        cluster.api.create(POD)
        cluster.api.wait("pod/p", "condition=Ready", timeout_s=30)
        yield official.client.CoreV1Api(api)


def test_commands(core: Any) -> None:
    look = core.connect_get_namespaced_pod_exec
    stream = official.stream.stream
    assert stream(look, "p", "default", command=["date"], stdout=True) == "today\n"
    echo = stream(
        look, "p", "default", command=["cat"], stdin=True, stdout=True, _preload_content=False
    )
    echo.write_stdin("there\n")
    assert echo.readline_stdout(timeout=20) == "there"
    echo.close()
    failing = stream(look, "p", "default", command=["false"], stdout=True, _preload_content=False)
    failing.run_forever(timeout=20)
    assert failing.returncode == 1


def test_a_port_that_the_pod_closes(core: Any) -> None:
    forward = official.stream.portforward(
        core.connect_get_namespaced_pod_portforward, "p", "default", ports="80"
    )
    connection = forward.socket(80)
    connection.settimeout(20)
    connection.sendall(GET)
    said = b""
    while data := connection.recv(4096):
        said += data
    assert said.startswith(b"HTTP/1.1 200") and said.endswith(b"hello")
    assert forward.error(80) is None


def test_commands_in_a_simulation() -> None:
    async def main() -> tuple[str, str]:
        loop = asyncio.get_running_loop()
        async with Cluster(nodes=1, rest=True, seed=3) as cluster:
            await cluster.api.create(POD)
            await cluster.api.wait("pod/p", "condition=Ready", timeout_s=30)
            url, token, _ = access(cluster.kubeconfig)
            configuration = asynchronous.client.Configuration(host=url)
            configuration.api_key = {"BearerToken": f"Bearer {token}"}
            began = loop.time()
            async with asynchronous.stream.WsApiClient(configuration) as client:
                core = asynchronous.client.CoreV1Api(client)
                look = core.connect_get_namespaced_pod_exec
                said = await look("p", "default", command="date", stdout=True)
                slow = await look("p", "default", command=["sleep", "500"], stdout=True)
            assert 500 <= loop.time() - began < 501
            return said, slow

    assert sim.run(main, seed=3) == ("today\n", "")
