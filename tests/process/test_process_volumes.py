"""Claims on real processes: what a pod leaves on its volume, the next one finds; nothing leaks."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeloop.actors.runtimes import process_volumes
from kubeloop.cluster import Cluster
from kubeloop.net.registry import ImageStore

pytestmark = pytest.mark.process

WAIT_S = 60.0
PROGRAM = """
import os, signal, sys
with open("/data/log", "a") as file:
    print(os.environ["HOSTNAME"], file=file)
print(open("/data/log").read(), flush=True)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.pause()
"""
SET = """
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: c, image: "test/writer:1", volumeMounts: [{name: data, mountPath: /data}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Mi}}}
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("images")
    program = tmp_path_factory.mktemp("writer")
    (program / "main.py").write_text(PROGRAM)
    (program / "Containerfile").write_text(
        'FROM host\nCOPY main.py /main.py\nCMD ["python3", "/main.py"]\n'
    )
    ImageStore(directory).build(program, "test/writer:1")
    return directory


def a_cluster(images: Path, data: Path, **options: Any) -> Cluster:
    name = f"v{os.getpid()}"
    return Cluster(
        nodes=2, runtime="process", image_dir=images, name=name, data_dir=data,
        storage_class="standard", **options,
    )  # fmt: skip


async def log(cluster: Cluster, pod: str, wanted: Callable[[list[str]], bool]) -> list[str]:
    """Return the lines a pod has found in its file and added, once they are as wanted."""
    async with asyncio.timeout(WAIT_S):
        while True:
            try:
                lines = [
                    line async for _, line in cluster.logs(
                        "default", pod, "c", previous=False, follow=False
                    )
                ]  # fmt: skip
            except Exception as error:
                if getattr(error, "reason", "") not in ("NotFound", "BadRequest"):
                    raise
                lines = []
            told = [line.decode().strip() for line in lines if line.strip()]
            if wanted(told):
                return told
            await asyncio.sleep(0.05)


def directories(data: Path) -> list[Path]:
    return sorted(data.glob("nodes/*/host/var/lib/kubeloop/volumes/*"))


async def test_a_pod_finds_what_the_one_before_it_wrote(images: Path, tmp_path: Path) -> None:
    async with a_cluster(images, tmp_path) as cluster:
        await cluster.api.apply(SET)
        await cluster.api.wait("statefulset/db", _ready, timeout_s=WAIT_S)
        for name in ("db-0", "db-1"):
            assert await log(cluster, name, lambda told: len(told) == 1) == [name]
        before = await cluster.api.get("pods", "db-0")
        await cluster.api.delete("pods", "db-0")
        assert await log(cluster, "db-0", lambda told: len(told) == 2) == ["db-0", "db-0"]
        after = await cluster.api.get("pods", "db-0")
        assert after.uid != before.uid and after.spec["nodeName"] == before.spec["nodeName"]
        kept = directories(tmp_path)
        assert len(kept) == 2
    async with a_cluster(images, tmp_path) as cluster:
        # The cluster has been away, and so have all processes: their files are there.
        told = await log(cluster, "db-0", lambda told: len(told) == 3)
        assert told == 3 * ["db-0"] and directories(tmp_path) == kept
        await cluster.api.delete("statefulsets", "db")
        for name in ("data-db-0", "data-db-1"):
            await cluster.api.delete("persistentvolumeclaims", name)
        async with asyncio.timeout(WAIT_S):
            while await cluster.api.list("persistentvolumes"):
                await asyncio.sleep(0.05)
        assert directories(tmp_path) == [], "what was on them is gone with them"


def _ready(found: Any) -> bool:
    return found.status.get("readyReplicas", 0) == 2


POD = """
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  nodeName: node-1
  volumes:
  - {{name: h, hostPath: {{path: {path}, type: {kind}}}}}
  - {{name: e, emptyDir: {{}}}}
  containers:
  - name: c
    image: "test/writer:1"
    command: [sh, -c, {script!r}]
    volumeMounts:
    - {{name: h, mountPath: /h}}
    - {{name: h, mountPath: /part, subPath: a/b, readOnly: true}}
    - {{name: e, mountPath: /e, subPath: x}}
"""


async def run(cluster: Cluster, name: str, script: str, **more: str) -> str:
    """Run a script in a pod of node-1 to its end; return what it has printed."""
    told = {"path": "/mine", "kind": "DirectoryOrCreate", **more}
    await cluster.api.apply(POD.format(name=name, script=script, **told))
    await cluster.api.wait(
        f"pod/{name}", lambda pod: pod.status.get("phase") == "Succeeded", timeout_s=WAIT_S
    )
    lines = cluster.logs("default", name, "c", previous=False, follow=False)
    return b"".join([line async for _, line in lines]).decode()


async def _failures(cluster: Cluster, pod: str) -> list[str]:
    events = await cluster.api.list("events")
    found = [e for e in events if (e["involvedObject"]["name"], e["reason"]) == (pod, "Failed")]
    return [event["message"] for event in found]


async def test_a_host_path_is_the_nodes_own_and_no_link_leads_out_of_it(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with a_cluster(images, tmp_path) as cluster:
        script = "echo 1 > /h/a/b/f; cat /part/f; ls /e;"
        script += " (echo no > /part/f) 2> /dev/null || echo refused"
        assert await run(cluster, "one", script) == "1\nrefused\n"
        assert (tmp_path / "nodes/node-1/host/mine/a/b/f").read_text() == "1\n"
        assert await run(cluster, "two", "cat /h/a/b/f") == "1\n"
        assert await run(cluster, "root", "ls /h", path="/", kind='""') == "a\nmine\n"
        # A container puts links where another is about to look.
        await run(cluster, "evil", "rm -r /h/a; mkdir /h/a; ln -s /etc /h/a/b; ln -s / /h/up")
        wants = [("sub", "/mine", "DirectoryOrCreate"), ("up", "/mine/up", "DirectoryOrCreate"),
                 ("file", "/mine/a", "File"), ("gone", "/gone", "Directory")]  # fmt: skip
        for name, path, kind in wants:
            await cluster.api.apply(POD.format(name=name, path=path, kind=kind, script="true"))
        told: dict[str, str] = {}
        async with asyncio.timeout(WAIT_S):
            while len(told) < len(wants):
                for event in await cluster.api.list("events"):
                    if event["reason"] == "FailedMount":
                        told[event["involvedObject"]["name"]] = event["message"]
                await asyncio.sleep(0.05)
        setup = 'MountVolume.SetUp failed for volume "h" : '
        assert told["sub"].startswith(setup) and "symbolic links" in told["sub"]
        assert told["up"].startswith(setup) and "symbolic links" in told["up"]
        assert told["file"] == f"{setup}hostPath type check failed: /mine/a is not a file"
        assert told["gone"] == f"{setup}hostPath type check failed: /gone is not a directory"
        for name in told:
            pod = await cluster.api.get("pods", name)
            waiting = pod.status["containerStatuses"][0]["state"]["waiting"]
            assert waiting["reason"] == "ContainerCreating"
        # And if it does so after the check, whoever mounts sees it still.
        monkeypatch.setattr(process_volumes, "_see_to", lambda root, parts, mount: None)
        monkeypatch.setattr(process_volumes, "walk", lambda *_, **__: os.open("/", os.O_PATH))
        later = POD.format(name="race", path="/mine/up", kind="Directory", script="ls /h")
        await cluster.api.apply(later)
        async with asyncio.timeout(WAIT_S):
            while not (why := await _failures(cluster, "race")):
                await asyncio.sleep(0.05)
        assert "cannot mount a volume at /h" in why[0]
