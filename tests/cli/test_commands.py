"""The command line as a user types it: real processes, the real kubectl, a directory of its own."""

import json
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_shell import Shell

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "mc-user"
IMAGE = "rainbow/mc-user:1.0.RELEASE"
START_S = 30.0
STOP_S = 30.0  # It takes a second; a machine with other things to do takes its time.


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def descendants(root: int) -> list[int]:
    """Return the processes below `root` that are alive."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                told = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if told[0] != "Z":
                parents[int(entry.name)] = int(told[1])
    found, todo = [], [root]
    while todo:
        parent = todo.pop()
        children = [pid for pid, known in parents.items() if known == parent]
        found += children
        todo += children
    return found


def gone(pids: list[int]) -> bool:
    return not any(alive(pid) for pid in pids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_help_version_and_completion(shell: Shell) -> None:
    assert "start a cluster" in shell.run("--help")
    assert "kubeloop, version" in shell.run("--version")
    for name in ("bash", "zsh", "fish"):
        assert "_KUBELOOP_COMPLETE" in shell.run("completion", name)


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["status"], 1, "no cluster called 'kubeloop' is running; start one with: kubeloop up"),
        (["down", "--name", "x"], 1, "start one with: kubeloop up --name x"),
        (["kubectl", "get", "pods"], 1, "start one with: kubeloop up"),
        (["up", "--nodes", "-1"], 2, "-1 is not in the range"),
        (["image", "rm", "nope"], 1, "there is no image nope"),
        (["image", "build", "."], 1, "Containerfile"),
        (["nonsense"], 2, "No such command 'nonsense'"),
    ],
)
def test_mistakes_are_explained(
    shell: Shell, arguments: list[str], code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shell.home)
    assert told in shell.run(*arguments, code=code)


def test_images(shell: Shell) -> None:
    assert "no images" in shell.run("image", "ls")
    assert "sha256:" in shell.run("image", "build", str(EXAMPLE), "-t", IMAGE)
    assert IMAGE in shell.run("image", "ls")
    (row,) = json.loads(shell.run("image", "ls", "-o", "json"))
    assert row["name"].endswith(IMAGE)
    shell.run("image", "rm", IMAGE)
    assert "no images" in shell.run("image", "ls")


def test_a_taken_port_is_explained(shell: Shell) -> None:
    with shell.up("--runtime", "simulated"):
        url = json.loads(shell.run("status", "-o", "json"))["url"]
        port = url.rpartition(":")[2]
        told = shell.run("up", "--name", "second", "--runtime", "simulated", "--port", port, code=1)
        assert "choose another port" in told
        assert "runs already" in shell.run("up", code=1)


@pytest.mark.kubectl
def test_up_status_down(shell: Shell) -> None:
    with shell.up("--nodes", "2", "--runtime", "simulated", "--merge-kubeconfig") as process:
        told = shell.run("status")
        assert "node-1 Ready, node-2 Ready" in told
        assert "in memory" in told
        assert "node-2" in shell.kubectl("get", "nodes")
        made = shell.kubectl(
            *("create", "job", "j", "--image=i", "--dry-run=client", "-ojson"),
            *("--", "sh", "-c", "true"),
        )
        (container,) = json.loads(made)["spec"]["template"]["spec"]["containers"]
        assert container["command"] == ["sh", "-c", "true"], "what is behind -- is a command"
        own = yaml.safe_load((shell.home / "own-kubeconfig").read_text())
        assert own["current-context"] == "kubeloop-kubeloop"
        assert "stopped" in shell.run("down")
        assert process.wait(5) == 0
    shell.run("status", code=1)
    own = yaml.safe_load((shell.home / "own-kubeconfig").read_text())
    assert own["contexts"] == []


@pytest.mark.process
@pytest.mark.kubectl
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything(shell: Shell, number: signal.Signals) -> None:
    shell.run("image", "build", str(EXAMPLE), "-t", IMAGE)
    with shell.up("--nodes", "2") as process:
        assert not (shell.home / "own-kubeconfig").exists(), "the user's own is not touched"
        deploy(shell)
        started = descendants(process.pid)
        assert len(started) >= 3
        process.send_signal(number)
        assert process.wait(STOP_S) == 0
        assert gone(started)
    assert not (
        shell.home / "data" / "kubeloop" / "clusters" / "kubeloop" / "cluster.json"
    ).exists()


@pytest.mark.process
@pytest.mark.kubectl
def test_kill_9_under_load_loses_nothing_acknowledged(shell: Shell) -> None:
    shell.run("image", "build", str(EXAMPLE), "-t", IMAGE)
    data = str(shell.home / "cluster")
    acknowledged: list[str] = []
    with shell.up("--nodes", "2", "--data-dir", data) as process:
        deploy(shell)
        started = descendants(process.pid)
        stop = threading.Event()
        writer = threading.Thread(target=write_until, args=(shell, stop, acknowledged))
        writer.start()
        deadline = time.monotonic() + START_S
        while len(acknowledged) < 200:
            assert time.monotonic() < deadline
            stop.wait(0.01)
        process.kill()
        process.wait()
        stop.set()
        writer.join()
    assert len(acknowledged) >= 200
    with shell.up("--nodes", "2", "--data-dir", data):
        assert gone(started), "the processes of the old run are gone"
        found = json.loads(shell.kubectl("get", "configmaps", "-o", "json"))["items"]
        assert set(acknowledged) <= {item["metadata"]["name"] for item in found}
        shell.kubectl(
            "wait", "--for=jsonpath={.status.readyReplicas}=3", "rc/mc-user", "--timeout=30s"
        )
        service = json.loads(shell.kubectl("get", "service", "mc-user", "-o", "json"))
        port = service["spec"]["ports"][0]["nodePort"]
        assert fetch(port).startswith("mc-user")


def deploy(shell: Shell) -> None:
    """Apply the example with a node port the cluster draws; return when it is ready."""
    manifest = shell.home / "service.yaml"
    content = yaml.safe_load((EXAMPLE / "service.yaml").read_text())
    del content["spec"]["ports"][0]["nodePort"]
    manifest.write_text(yaml.safe_dump(content))
    controller = EXAMPLE / "replicationcontroller.yaml"
    shell.kubectl("apply", "-f", str(manifest), "-f", str(controller))
    shell.kubectl("wait", "--for=jsonpath={.status.readyReplicas}=3", "rc/mc-user", "--timeout=30s")


def write_until(shell: Shell, stop: threading.Event, acknowledged: list[str]) -> None:
    """Create ConfigMaps as fast as they are acknowledged, until told to stop or cut off."""
    for number, request in enumerate(requests(shell)):
        if stop.is_set():
            return
        name = f"w{number}"
        if request(name) != 201:
            return
        acknowledged.append(name)


def requests(shell: Shell) -> Iterator[Any]:
    """Yield a function that creates one ConfigMap and returns the status; 0 when cut off."""
    import base64
    import http.client
    import ssl

    record = json.loads(shell.run("status", "-o", "json"))
    config = yaml.safe_load(Path(record["kubeconfig"]).read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    context = ssl.create_default_context(cadata=base64.b64decode(authority).decode())
    token = config["users"][0]["user"]["token"]
    address = record["url"].removeprefix("https://")
    connection = http.client.HTTPSConnection(address, context=context, timeout=10)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def create(name: str) -> int:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
        path = "/api/v1/namespaces/default/configmaps"
        try:
            connection.request("POST", path, json.dumps(body), headers)
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException):
            return 0
        return response.status

    while True:
        yield create


def fetch(port: int) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
        text: bytes = response.read()
    return text.decode()
