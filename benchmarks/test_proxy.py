"""What the userspace data path costs, beside no proxy at all and beside HAProxy where it is there.

Sketch: a request through the proxy is two more wake-ups of an event loop and four more system
calls, about 20 µs each way in asyncio; a new connection adds an accept, a connect and two
transports, about 150 µs. HAProxy does the same in C. Ratios within one run are what counts.
"""

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

PEERS = Path(__file__).with_name("peers.py")
REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"
ANSWER_END = b"ok"
REQUESTS = 200


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def peer(*arguments: str) -> Iterator[int]:
    """Run one of the peers; yield its port."""
    with subprocess.Popen(
        [sys.executable, str(PEERS), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.stdin.close()
            process.wait(5)


@contextmanager
def haproxy(port: int, backends: list[int], directory: Path) -> Iterator[int]:
    binary = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if binary is None:
        pytest.skip("haproxy is not installed: apt-get install haproxy")
    servers = "\n".join(f"  server s{n} 127.0.0.1:{n}" for n in backends)
    config = directory / "haproxy.cfg"
    config.write_text(
        "global\n  nbthread 1\ndefaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n"
        f"  timeout server 60s\nlisten web\n  bind 127.0.0.1:{port}\n  balance random\n{servers}\n"
    )
    process = subprocess.Popen([binary, "-db", "-f", str(config)], stderr=subprocess.DEVNULL)
    try:
        while True:  # It tells nobody when it listens.
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                assert process.poll() is None, "haproxy ended"
        yield port
    finally:
        process.terminate()
        process.wait(5)


@pytest.fixture(params=["direct", "kubeloop", "haproxy"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    with ExitStack() as stack:
        backends = [stack.enter_context(peer("server")) for _ in range(3)]
        if request.param == "direct":
            yield backends[0]
        elif request.param == "kubeloop":
            arguments = [str(free_port()), *map(str, backends)]
            yield stack.enter_context(peer("proxy", *arguments))
        else:
            yield stack.enter_context(haproxy(free_port(), backends, tmp_path))


def fetch(connection: socket.socket) -> None:
    connection.sendall(REQUEST)
    received = b""
    while not received.endswith(ANSWER_END):
        received += connection.recv(4096)


def test_requests_on_one_connection(benchmark: BenchmarkFixture, target: int) -> None:
    with socket.create_connection(("127.0.0.1", target)) as connection:

        def many() -> None:
            for _ in range(REQUESTS):
                fetch(connection)

        run(benchmark, many)


def test_a_connection_per_request(benchmark: BenchmarkFixture, target: int) -> None:
    def many() -> None:
        for _ in range(REQUESTS):
            with socket.create_connection(("127.0.0.1", target)) as connection:
                fetch(connection)

    run(benchmark, many)


def run(benchmark: BenchmarkFixture, many: Callable[[], None]) -> None:
    benchmark.pedantic(many, rounds=8, warmup_rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info["requests_per_s"] = round(REQUESTS / benchmark.stats.stats.median)
