"""The textbook example on real processes and sockets: what it promises, what it repairs."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubeloop.actors.controllers.settings import Settings as Controllers
from kubeloop.actors.requests.state import Settings
from kubeloop.cluster import Cluster
from kubeloop.net.client import KubeObject
from kubeloop.net.registry import ImageStore

pytestmark = pytest.mark.process

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "mc-user"
IMAGE = "rainbow/mc-user:1.0.RELEASE"
WAIT_S = 60.0

CLIENT = """
import os, sys, urllib.request
host = os.environ["MC_USER_SERVICE_HOST"]
port = os.environ["MC_USER_SERVICE_PORT"]
for _ in range(12):
    print(urllib.request.urlopen(f"http://{host}:{port}/", timeout=5).read().decode().strip())
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images")
    store = ImageStore(directory)
    store.build(EXAMPLE, IMAGE)
    client = tmp_path_factory.mktemp("client")
    (client / "client.py").write_text(CLIENT)
    (client / "Containerfile").write_text(
        'FROM host\nCOPY client.py /client.py\nCMD ["python3", "/client.py"]\n'
    )
    store.build(client, "test/client:1")
    return directory


@asynccontextmanager
async def example(images: Path, **options: Any) -> AsyncIterator[tuple[Cluster, int]]:
    """Yield a cluster with the three manifests, all pods ready, and the Service's node port.

    The node port is drawn by the cluster, so that tests may run side by side.
    """
    async with Cluster(
        nodes=2, runtime="process", image_dir=images, name=f"t{os.getpid()}", **options
    ) as cluster:
        service = re.sub(r",? *nodePort: 31001", "", (EXAMPLE / "service.yaml").read_text())
        (made,) = await cluster.api.apply(service)
        for name in ("pod", "replicationcontroller"):
            await cluster.api.apply(EXAMPLE / f"{name}.yaml")
        await ready(cluster, 3)
        yield cluster, made.spec["ports"][0]["nodePort"]


async def ready(cluster: Cluster, replicas: int) -> None:
    def settled(rc: KubeObject) -> bool:
        status = rc.status
        return status.get("readyReplicas", 0) == status.get("replicas", 0) == replicas

    await cluster.api.wait("rc/mc-user", settled, timeout_s=WAIT_S)


async def answers(cluster: Cluster, host: str, port: int, wanted: set[str]) -> None:
    """Return when all of `wanted`, and nobody else, answer; each connection is a new one."""
    async with asyncio.timeout(WAIT_S):
        while True:
            seen = set()
            for _ in range(20 * len(wanted)):
                connector = aiohttp.TCPConnector(force_close=True)
                async with aiohttp.ClientSession(connector=connector) as session:
                    try:
                        async with session.get(f"http://{host}:{port}/") as response:
                            seen.add((await response.text()).strip())
                    except aiohttp.ClientError:
                        seen.add("refused")
            if seen == wanted:
                return


async def pod_names(cluster: Cluster) -> set[str]:
    pods = await cluster.api.list("pods", labels="app=mc-user")
    return {p.name for p in pods if "deletionTimestamp" not in p["metadata"]}


def processes() -> Iterator[tuple[int, str]]:
    """Yield (pid, command line) of what we started and left, as the host sees it."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes().decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue


@pytest.mark.parametrize("workers", [0, 2])
async def test_every_node_port_answers_and_pods_find_the_service(
    images: Path, workers: int
) -> None:
    before = Path("/proc/net/route").read_text()
    async with example(images, proxy_workers=workers) as (cluster, port):
        names = await pod_names(cluster)
        assert len(names) == 3, "the controller has adopted the pod and made two"
        nodes = await cluster.api.list("nodes")
        hosts = [n.status["addresses"][0]["address"] for n in nodes]
        for host in [*hosts, "127.0.0.1"]:
            await answers(cluster, host, port, names)
        # A pod's address is nobody's outside: no route leads there, and no interface has it.
        assert Path("/proc/net/route").read_text() == before
        assert "10.244." not in Path("/proc/net/fib_trie").read_text()
        client = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "client"},
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "c", "image": "test/client:1"}],
            },
        }
        await cluster.api.create(client)
        done = await cluster.api.wait(
            "pod/client", lambda p: p.status.get("phase") in ("Succeeded", "Failed")
        )
        lines = [
            line.decode().strip()
            async for _, line in cluster.logs(
                "default", "client", "c", previous=False, follow=False
            )
        ]
        assert done is not None
        assert done.status["phase"] == "Succeeded", lines
        assert set(lines) <= names
        assert len(set(lines)) >= 2, "twelve connections to a ClusterIP reach several pods"


async def test_a_killed_process_a_deleted_pod_and_scaling_are_repaired(images: Path) -> None:
    async with example(images) as (cluster, port):
        pod = (await cluster.api.list("pods"))[0]
        victims = [pid for pid, line in processes() if "main.py" in line and is_mine(pid)]
        assert len(victims) == 3
        os.kill(victims[0], signal.SIGKILL)

        async with asyncio.timeout(WAIT_S):
            async for change in cluster.api.watch("pods"):
                told = change.object.status.get("containerStatuses") or [{}]
                if told[0].get("restartCount") == 1 and told[0].get("ready"):
                    assert told[0]["lastState"]["terminated"]["exitCode"] == 137
                    break
        await answers(cluster, "127.0.0.1", port, await pod_names(cluster))

        await cluster.api.delete("pod", pod.name)
        await cluster.api.wait(f"pod/{pod.name}", "delete")
        await ready(cluster, 3)
        names = await pod_names(cluster)
        assert pod.name not in names
        await answers(cluster, "127.0.0.1", port, names)

        for replicas in (10, 1):
            await cluster.api.scale("rc", "mc-user", replicas)
            await ready(cluster, replicas)
            await answers(cluster, "127.0.0.1", port, await pod_names(cluster))


async def test_without_the_label_the_service_routes_nothing(images: Path) -> None:
    async with Cluster(
        nodes=1, runtime="process", image_dir=images, name=f"u{os.getpid()}"
    ) as cluster:
        service = re.sub(r",? *nodePort: 31001", "", (EXAMPLE / "service.yaml").read_text())
        (made,) = await cluster.api.apply(service)
        port = made.spec["ports"][0]["nodePort"]
        pod = (EXAMPLE / "pod.yaml").read_text()
        unlabelled = re.sub(r", labels: \{app: mc-user\}|\n  labels:\n    app: mc-user", "", pod)
        assert unlabelled != pod
        await cluster.api.apply(unlabelled)
        await cluster.api.wait("pod/mc-user", "condition=Ready", timeout_s=WAIT_S)
        await answers(cluster, "127.0.0.1", port, {"refused"})
        await cluster.api.patch("pod", "mc-user", {"metadata": {"labels": {"app": "mc-user"}}})
        await answers(cluster, "127.0.0.1", port, {"mc-user"})


async def test_the_pods_of_a_stopped_node_move(images: Path) -> None:
    options = {
        "settings": Settings(eviction_tolerance_s=1),
        "controllers": Controllers(node_grace_s=12),
    }
    async with example(images, **options) as (cluster, port):
        await cluster.stop_node("node-2")
        async with asyncio.timeout(WAIT_S):
            async for _ in cluster.api.watch("pods"):
                pods = await cluster.api.list("pods", labels="app=mc-user")
                alive = [p for p in pods if "deletionTimestamp" not in p["metadata"]]
                where = [p.spec.get("nodeName") for p in alive if p.condition("Ready") == "True"]
                if where == ["node-1"] * 3:
                    break
        await answers(cluster, "127.0.0.1", port, {p.name for p in alive})


@pytest.mark.parametrize("workers", [0, 2])
async def test_nothing_is_left(images: Path, workers: int) -> None:
    before = {pid for pid, _ in processes()}
    sockets = listening()
    async with example(images, proxy_workers=workers) as (cluster, port):
        await answers(cluster, "127.0.0.1", port, await pod_names(cluster))
    left = [(pid, line) for pid, line in processes() if pid not in before and is_mine(pid)]
    assert left == []
    assert listening() <= sockets


def listening() -> set[str]:
    """Return the local addresses this process listens on."""
    own = {os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own}


def is_mine(pid: int) -> bool:
    """Tell whether a process descends from this one."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return False
        pid = int(stat.rpartition(")")[2].split()[1])
    return False
