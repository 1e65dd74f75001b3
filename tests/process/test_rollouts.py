"""Connections through a Service while its pods are replaced, on real processes.

Every connection to the node port succeeds while a Deployment rolls out pods that become ready and
end gracefully.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kubeloop.cluster import Cluster
from kubeloop.net.registry import ImageStore
from kubeloop.stores import StartFailed

pytestmark = pytest.mark.process

ROLLOUTS = 2
CLIENTS = 4
WAIT_S = 60.0

# Answers with its version and ends in good order: what was accepted is served.
SERVER = """
import asyncio, os, signal
async def serve(reader, writer):
    await reader.readline()
    writer.write(os.environ["VERSION"].encode() + b"\\n")
    writer.close()
async def main():
    server = await asyncio.start_server(serve, "0.0.0.0", 8080)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    await asyncio.sleep(0.5)  # kube-proxy hears of it in the meantime, as everywhere.
asyncio.run(main())
"""

# Says over UDP who it is; and asks the Service of its own name, as any pod would.
TALKER = """
import os, socket
me = os.environ["HOSTNAME"].encode()
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 5353))
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(20)
print("ready", flush=True)
while True:
    said, client = server.recvfrom(100)
    if said == b"ask":
        asking.sendto(b"who", (os.environ["TALK_SERVICE_HOST"], 53))
    elif said == b"who":
        server.sendto(me, client)
        continue
    else:
        continue
    # What was asked may come to ourselves.
    asked, asker = server.recvfrom(100)
    server.sendto(me, asker)
    server.sendto(b"heard " + asking.recv(100), client)
"""

PROBE = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}


def deployment(version: int) -> dict[str, Any]:
    container = {
        "name": "c", "image": "test/versions:1", "readinessProbe": PROBE,
        "env": [{"name": "VERSION", "value": str(version)}],
    }  # fmt: skip
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 2,
            "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 5},
            },
        },
    }


SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": [{"port": 8080}]},
}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory, source = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("source")
    (source / "server.py").write_text(SERVER)
    (source / "Containerfile").write_text(
        'FROM host\nCOPY server.py /server.py\nCMD ["python3", "/server.py"]\n'
    )
    ImageStore(directory).build(source, "test/versions:1")
    (source / "server.py").write_text(TALKER)
    ImageStore(directory).build(source, "test/talker:1")
    return directory


@asynccontextmanager
async def serving(images: Path, workers: int, **options: Any) -> AsyncIterator[tuple[Cluster, int]]:
    """Yield a cluster whose Service answers, and its node port."""
    async with Cluster(
        runtime="process", image_dir=images, name=f"r{os.getpid()}", proxy_workers=workers,
        **options,
    ) as cluster:  # fmt: skip
        service = await cluster.api.create(SERVICE)
        await cluster.api.create(deployment(0))
        await rolled_out(cluster)
        yield cluster, int(service.spec["ports"][0]["nodePort"])


async def rolled_out(cluster: Cluster) -> None:
    await cluster.api.wait(
        "deployment/web",
        lambda d: (
            d.status.get("observedGeneration") == d.metadata["generation"]
            and d.status.get("updatedReplicas") == d.status.get("availableReplicas") == 2
            and d.status.get("replicas") == 2
        ),
        timeout_s=WAIT_S,
    )


async def version(port: int, host: str = "127.0.0.1") -> int:
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(b"which?\n")
        return int(await reader.read())
    finally:
        writer.close()


@pytest.mark.parametrize("workers", [0, 1])
async def test_no_connection_fails_while_pods_are_replaced(images: Path, workers: int) -> None:
    async with serving(images, workers) as (cluster, port):
        stop = asyncio.Event()

        async def client() -> list[int]:
            seen = []
            while not stop.is_set():
                seen.append(await version(port))
            return seen

        clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
        for number in range(1, ROLLOUTS + 1):
            patch = {"spec": deployment(number)["spec"]}
            await cluster.api.patch("deployments", "web", patch)
            await rolled_out(cluster)
        stop.set()
        seen = [answer for each in await asyncio.gather(*clients) for answer in each]
        assert set(seen) == set(range(ROLLOUTS + 1))
        assert seen.count(0) > CLIENTS
        assert {await version(port) for _ in range(20)} == {ROLLOUTS}


async def test_a_load_balancers_address_answers_on_every_node(images: Path) -> None:
    async with serving(images, 0, nodes=2, load_balancer_cidr="auto") as (cluster, _):
        spec = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
        await cluster.api.patch("services", "web", {"spec": spec})
        balanced = await cluster.api.wait(
            "service/web", lambda s: bool(s.status.get("loadBalancer", {}).get("ingress"))
        )
        assert balanced is not None
        (ingress,) = balanced.status["loadBalancer"]["ingress"]
        await cluster.settled()
        assert {await version(8080, ingress["ip"]) for _ in range(20)} == {0}
        check = balanced.spec["healthCheckNodePort"]
        local = []
        for node in await cluster.api.list("nodes"):
            host = node.status["addresses"][0]["address"]
            reader, writer = await asyncio.open_connection(host, check)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            local.append(int(head.partition("Endpoint-Weight: ")[2].split()[0]))
            writer.close()
        pods = await cluster.api.list("pods")
        assert sum(local) == len(pods) == 2
        await cluster.api.patch("services", "web", {"spec": {"type": "NodePort"}})
        await cluster.api.wait(
            "service/web", lambda s: not s.status.get("loadBalancer", {}).get("ingress")
        )
        await cluster.settled()
        with pytest.raises(ConnectionRefusedError):
            await version(8080, ingress["ip"])


@pytest.mark.parametrize("workers", [0, 1])
async def test_datagrams_reach_a_pod_from_the_host_and_from_a_pod(
    images: Path, workers: int
) -> None:
    async with Cluster(
        runtime="process", image_dir=images, name=f"u{os.getpid()}", proxy_workers=workers
    ) as cluster:
        spec = {
            "type": "NodePort",
            "selector": {"app": "talk"},
            "ports": [{"port": 53, "targetPort": 5353, "protocol": "UDP"}],
        }
        service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "talk"}}
        made = await cluster.api.create({**service, "spec": spec})
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "talk", "labels": {"app": "talk"}},
            "spec": {"containers": [{"name": "c", "image": "test/talker:1"}]},
        }
        await cluster.api.create(pod)
        async for _, line in cluster.logs("default", "talk", "c", previous=False, follow=True):
            assert line.strip() == b"ready"
            break
        await cluster.api.wait("pod/talk", "condition=Ready")
        await cluster.settled()
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.setblocking(False)
            client.connect(("127.0.0.1", made.spec["ports"][0]["nodePort"]))
            for said, heard in [(b"who", b"talk"), (b"ask", b"heard talk"), (b"who", b"talk")]:
                client.send(said)
                async with asyncio.timeout(WAIT_S):
                    assert await loop.sock_recv(client, 100) == heard


async def test_addresses_that_are_not_this_hosts_are_refused() -> None:
    with pytest.raises(StartFailed, match=r"nothing can listen on 192\.0\.2\.1 here"):
        async with Cluster(runtime="process", load_balancer_cidr="192.0.2.0/29"):
            raise AssertionError("it must not start")
