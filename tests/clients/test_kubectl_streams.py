"""kubectl exec, cp, attach and port-forward: over WebSockets, and over SPDY as older ones do."""

import os
import re
import select
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubectl_tool import Kubectl, eventually

from kubeloop.net.registry import ImageStore
from kubeloop.sync import SyncCluster

pytestmark = [pytest.mark.process, pytest.mark.kubectl]

SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
WAYS = pytest.mark.parametrize("way", [{}, SPDY], ids=["websocket", "spdy"])
SERVER = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", 8080), Handler).serve_forever()
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: web, image: "app:1", env: [{name: COLOUR, value: red}]}
  - name: repeats
    image: app:1
    stdin: true
    command: [python3, -uc, "while line := input(): print('heard ' + line)"]
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncCluster]:
    images, app = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("app")
    (app / "server.py").write_text(SERVER)
    lines = ["FROM host", "COPY server.py /server.py", "WORKDIR /srv"]
    (app / "Containerfile").write_text("\n".join([*lines, 'CMD ["python3", "/server.py"]', ""]))
    ImageStore(images).build(app, "app:1")
    with SyncCluster(nodes=1, rest=True, tls=True, runtime="process", image_dir=images) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kubectl(cluster: SyncCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    directory = tmp_path_factory.mktemp("kubectl")
    (directory / "config").write_text(cluster.config_yaml())
    made = Kubectl(directory)
    made("apply -f -", stdin=POD)
    made("wait --for=condition=Ready pod/p --timeout=60s")
    return made


def processes(kubectl: Kubectl) -> str:
    """Return the command lines of all that runs in the container."""
    return kubectl("exec p -c web -- sh -c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")


@WAYS
def test_commands(kubectl: Kubectl, way: dict[str, str]) -> None:
    script = "echo $COLOUR; pwd; hostname; echo wrong >&2; exit 7"
    done = kubectl.run("exec p -c web -- sh -c", script, **way)
    assert (done.returncode, done.stdout) == (7, "red\n/srv\np\n")
    assert done.stderr == "wrong\ncommand terminated with exit code 7\n"
    refused = kubectl.run("exec p -c web -- nope", **way)
    assert refused.returncode == 1
    assert 'exec: "nope": executable file not found in $PATH' in refused.stderr
    assert "not valid for pod p" in kubectl.fails("exec p -c other -- ls")


@WAYS
def test_what_goes_in_comes_out(kubectl: Kubectl, way: dict[str, str]) -> None:
    text = "".join(f"line {n} of many\n" for n in range(100_000))
    assert kubectl("exec -i p -c web -- cat", stdin=text, **way) == text
    # Who ends before all of its input has come loses nothing of what it has said.
    assert kubectl("exec -i p -c web -- head -n 1", stdin=text, **way) == "line 0 of many\n"


@WAYS
def test_a_terminal(kubectl: Kubectl, way: dict[str, str]) -> None:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    process = subprocess.Popen(
        [kubectl.binary, "exec", "-it", "p", "-c", "web", "--", "sh"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**kubectl.environment, **way},
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        until(ours, "# ")
        os.write(ours, b"test -t 0 && echo terminal of $TERM\r")
        until(ours, "\nterminal of xterm")
        os.write(ours, b"stty size; echo measured\r")
        assert "33 77" in until(ours, "\nmeasured")
        fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 44, 88, 0, 0))
        process.send_signal(28)  # WINCH
        os.write(ours, b"until stty size | grep '44 88'; do :; done; echo grown\r")
        until(ours, "\ngrown")
        os.write(ours, b"exit 5\r")
        assert process.wait(20) == 5
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def until(fd: int, wanted: str) -> str:
    """Read a terminal until it shows what is wanted; return all that it showed."""
    shown = ""
    while wanted not in shown.replace("\r", ""):
        assert select.select([fd], [], [], 20)[0], f"{wanted!r} did not come: {shown!r}"
        shown += os.read(fd, 4096).decode()
    return shown


def test_copies(kubectl: Kubectl, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (there / "below").mkdir(parents=True)
    (there / "below" / "data").write_bytes(os.urandom(3_000_000))
    kubectl(f"cp {there} p:/srv/copied -c web")
    kubectl(f"cp p:/srv/copied {back} -c web", **SPDY)
    assert (back / "below" / "data").read_bytes() == (there / "below" / "data").read_bytes()


@WAYS
def test_attach(kubectl: Kubectl, way: dict[str, str]) -> None:
    word = f"hello {len(way)}"
    process = subprocess.Popen(
        [kubectl.binary, "attach", "-i", "p", "-c", "repeats"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**kubectl.environment, **way},
    )  # fmt: skip
    try:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{word}\n")
        process.stdin.flush()
        assert process.stdout.readline() == f"heard {word}\n"
    finally:
        process.kill()
        process.communicate()
    assert f"heard {word}\n" in kubectl("logs p -c repeats")


@WAYS
def test_ports(kubectl: Kubectl, way: dict[str, str]) -> None:
    process = subprocess.Popen(
        [kubectl.binary, "port-forward", "p", ":8080", ":9"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**kubectl.environment, **way},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = {}
        while len(found) < 2:
            line = process.stdout.readline()
            assert line
            if told := re.search(r"127\.0\.0\.1:(\d+) -> (\d+)", line):
                found[told[2]] = told[1]
        body = os.urandom(2_000_000)
        for _ in range(3):
            url = f"http://127.0.0.1:{found['8080']}/"
            with urllib.request.urlopen(url, data=body, timeout=20) as answer:
                assert answer.read() == body
        with pytest.raises(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{found['9']}/", timeout=20)
        told_why = ""
        while "connection refused" not in told_why:
            line = process.stdout.readline()
            assert line, told_why
            told_why += line
    finally:
        process.kill()
        process.communicate()


@WAYS
def test_nothing_is_left_when_the_client_goes(
    kubectl: Kubectl, cluster: SyncCluster, way: dict[str, str]
) -> None:
    marker = f"98765{len(way)}"
    process = subprocess.Popen(
        [kubectl.binary, "exec", "p", "-c", "web", "--", "sh", "-c",
         f"sleep {marker} & echo begun; wait"],
        stdout=subprocess.PIPE, text=True, env={**kubectl.environment, **way},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    assert marker in processes(kubectl)
    process.kill()
    process.communicate()
    eventually(lambda: marker not in processes(kubectl))
