"""The example, end to end on one node: built, served by the registry, pulled, run, dialled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from kubeloop.actors.runtimes.process import ProcessRuntime
from kubeloop.actors.runtimes.protocol import ContainerSpec, SandboxSpec
from kubeloop.actors.world import LoopWorld
from kubeloop.net.prober import SocketProber
from kubeloop.net.registry import ImageStore, RegistryClient, RegistryServer

pytestmark = pytest.mark.process
EXAMPLE = Path(__file__).parents[3] / "examples" / "mc-user"
POD = yaml.safe_load((EXAMPLE / "pod.yaml").read_text())
IMAGE = POD["spec"]["containers"][0]["image"]


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ProcessRuntime]:
    store = ImageStore(tmp_path / "store")
    server = RegistryServer(store)
    await server.start()
    client = RegistryClient(server.url, upstream=False)
    world = LoopWorld(asyncio.get_running_loop())
    runtime = ProcessRuntime(world, tmp_path / "node", client)
    store.build(EXAMPLE, IMAGE)  # After the registry started: it sees what comes later.
    await runtime.pull(IMAGE)
    yield runtime
    await runtime.close()
    await client.close()
    await server.stop()


async def start(runtime: ProcessRuntime, name: str, number: int) -> str:
    spec = SandboxSpec(
        pod_uid=name, namespace="default", name=name, ip=f"10.244.1.{number}", hostname=name
    )
    ip = await runtime.start_sandbox(spec)
    container = ContainerSpec(pod_uid=name, name="c", attempt=0, image=IMAGE)
    await runtime.start_container(container)
    async for _, line in runtime.logs(name, "c", attempt=0, follow=True):
        assert line == f"{name} listens on port 8080\n".encode()
        break
    return ip


async def talk(runtime: ProcessRuntime, ip: str, sent: bytes) -> bytes:
    """Send bytes to a pod; return all it says until it hangs up."""
    reader, writer = await asyncio.open_connection(sock=await runtime.network.dial(ip, 8080))
    writer.write(sent)
    found = await reader.read()
    writer.close()
    return found


async def test_each_replica_answers_its_own_name(runtime: ProcessRuntime) -> None:
    ips = await asyncio.gather(*(start(runtime, f"mc-user-{n}", n) for n in range(1, 4)))
    request = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for number, ip in enumerate(ips, start=1):
        found = await talk(runtime, ip, request)
        assert found.startswith(b"HTTP/1.1 200 OK\r\n")
        assert found.endswith(f"\r\n\r\nmc-user-{number}\n".encode())
    prober = SocketProber(runtime.network.dial)
    healthy = await prober.http(
        ips[0], 8080, scheme="HTTP", path="/healthz", headers={}, timeout_s=5
    )
    assert healthy == (True, "")
    await runtime.stop_container("mc-user-1", "c", grace_s=30)
    [record] = [r for r in runtime.sandboxes() if r.pod_uid == "mc-user-1"]
    assert record.containers[0].code == 0, "it ends on TERM by itself"
    log = [line async for _, line in runtime.logs("mc-user-1", "c", attempt=0)]
    assert b'"GET /" 200\n' in log


async def test_a_connection_is_kept_for_many_requests(runtime: ProcessRuntime) -> None:
    ip = await start(runtime, "pod", 1)
    sent = (
        b"GET /?a=b HTTP/1.1\r\nHost: x\r\n\r\n"
        b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
    )
    text = (await talk(runtime, ip, sent)).decode()
    lines = [line for line in text.splitlines() if line.startswith("HTTP/1.1")]
    assert [line.split()[1] for line in lines] == ["200", "200", "404", "405"]
    assert text.count("pod\n") == 1, "HEAD has no body"
    assert (await talk(runtime, ip, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await talk(runtime, ip, b"x" * (16 * 1024 + 1))).startswith(b"HTTP/1.1 400")
    assert b" 200 OK" in await talk(runtime, ip, b"GET / HTTP/1.0\r\n\r\n")


def test_the_manifests_belong_together() -> None:
    service = yaml.safe_load((EXAMPLE / "service.yaml").read_text())
    controller = yaml.safe_load((EXAMPLE / "replicationcontroller.yaml").read_text())
    labels = {"app": "mc-user"}
    assert POD["metadata"]["labels"] == service["spec"]["selector"] == labels
    assert controller["spec"]["selector"] == labels
    assert controller["spec"]["template"]["metadata"]["labels"] == labels
    assert controller["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert service["spec"]["ports"][0]["nodePort"] == 31001
