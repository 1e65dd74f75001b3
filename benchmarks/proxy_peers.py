"""Proxies of a TCP port, ours and others', as processes whose work can be weighed."""

import os
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

PEERS = Path(__file__).with_name("peers.py")
CONNECTIONS_MAX = 4_000  # In the others' settings: they refuse to begin above the host's limit.


@dataclass(frozen=True)
class Target:
    """Where clients connect to, and the process that carries them; none: the backend itself."""

    port: int
    pid: int | None

    def cpu_us(self) -> float:
        """Return the CPU time the process has had [us]."""
        if self.pid is None:
            return 0.0
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3

    def memory_bytes(self) -> int:
        """Return what memory the process has to itself."""
        assert self.pid is not None
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) * 1024 for line in rollup.splitlines() if "Private" in line)


def tool(name: str) -> str:
    """Return where a program is; "" if it is not installed."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*command: str, port: int) -> Iterator[int]:
    """Run a program that listens on a port; yield its pid once it does."""
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        while True:  # It tells nobody when it listens.
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, f"{command[0]} ended"
                time.sleep(0.01)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@contextmanager
def ours(*arguments: str) -> Iterator[list[int]]:
    """Run `peers.py`; yield the numbers it prints."""
    with subprocess.Popen(
        [sys.executable, str(PEERS), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield [int(word) for word in process.stdout.readline().split()]
        finally:
            process.stdin.close()
            process.wait(5)


@contextmanager
def backend(directory: Path) -> Iterator[int]:
    """Yield the port of an HTTP server that answers at once: "ok", and 64 MiB for /big."""
    port, conf = free_port(), directory / "backend.conf"
    with (directory / "big").open("wb") as file:
        file.truncate(64 << 20)
    conf.write_text(
        f"daemon off; master_process off; pid {directory}/backend.pid; error_log /dev/null;\n"
        "worker_processes 1; events { worker_connections 15000; }\n"
        "http { access_log off; keepalive_requests 100000000; server {\n"
        f"listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 ok; }}\n"
        f"location /big {{ root {directory}; }} }} }}\n"
    )
    with running(tool("nginx"), "-c", str(conf), port=port):
        yield port


@contextmanager
def haproxy(directory: Path, port: int, *, tuned: bool) -> Iterator[Target]:
    listen, conf = free_port(), directory / f"haproxy-{tuned}.cfg"
    best = "  option splice-auto\n" if tuned else ""
    conf.write_text(
        f"global\n  nbthread 1\n  maxconn {CONNECTIONS_MAX}\n"
        + ("  tune.bufsize 262144\n" if tuned else "")
        + "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
        f"  timeout server 60s\n{best}listen web\n  bind 127.0.0.1:{listen} backlog 4096\n"
        f"  server one 127.0.0.1:{port}\n"
    )
    with running(tool("haproxy"), "-db", "-f", str(conf), port=listen) as pid:
        yield Target(listen, pid)


@contextmanager
def nginx(directory: Path, port: int) -> Iterator[Target]:
    listen, conf = free_port(), directory / "stream.conf"
    module = "/usr/lib/nginx/modules/ngx_stream_module.so"
    conf.write_text(
        (f"load_module {module};\n" if Path(module).exists() else "")
        + f"daemon off; master_process off; pid {directory}/stream.pid; error_log /dev/null;\n"
        f"worker_processes 1; events {{ worker_connections 15000; }}\nstream {{ server {{\n"
        f"listen 127.0.0.1:{listen} backlog=4096; proxy_pass 127.0.0.1:{port}; }} }}\n"
    )
    with running(tool("nginx"), "-c", str(conf), port=listen) as pid:
        yield Target(listen, pid)


@contextmanager
def targets(names: Sequence[str], directory: Path) -> Iterator[dict[str, Target]]:
    """Yield all that were named, in front of one backend."""
    with ExitStack() as stack:
        port = stack.enter_context(backend(directory))
        found: dict[str, Target] = {}
        for name in names:
            if name == "direct":
                found[name] = Target(port, None)
            elif name in ("workers", "nested"):
                told = stack.enter_context(ours(name, str(free_port()), str(port)))
                found[name] = Target(told[0], told[1])
            elif name == "nginx":
                found[name] = stack.enter_context(nginx(directory, port))
            else:
                tuned = name == "haproxy at its best"
                found[name] = stack.enter_context(haproxy(directory, port, tuned=tuned))
        yield found


def raise_limit() -> int:
    """Take as many descriptors as we may have; return how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
