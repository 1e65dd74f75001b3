"""What the userspace data path costs, beside no proxy, beside HAProxy and nginx in the same run.

Sketch: a kept-alive request through a proxy is four system calls, of which `send` is nearly all:
it is the receiver's TCP. Python adds half a microsecond to each. A new connection is twenty calls
and a thousand or so bytecodes. A long stream never enters the process.

Rates on a busy machine mean little. So each figure is CPU time of the carrying process, in rounds
that alternate between all of them: their medians' ratios are what counts.
"""

import re
import socket
import statistics
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from proxy_peers import Target, raise_limit, targets, tool
from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 5
SECONDS = 1
IDLE = 3_000

Load = Callable[[Target], int]

needs = pytest.mark.skipif(
    not all(tool(name) for name in ("nginx", "haproxy", "wrk")),
    reason="needs nginx, haproxy and wrk: apt-get install nginx-light haproxy wrk",
)
ALL = ["workers", "nested", "haproxy", "nginx"]


def wrk(connections: int, *options: str, path: str = "/") -> Load:
    """Return a load: it runs for a second, and returns how many requests were answered."""

    def load(target: Target) -> int:
        out = subprocess.run(
            [tool("wrk"), "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", *options,
             f"http://127.0.0.1:{target.port}{path}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        assert "Non-2xx" not in out
        found = re.search(r"(\d+) requests in", out)
        assert found is not None
        return int(found[1])

    return load


def side_by_side(
    benchmark: BenchmarkFixture, found: dict[str, Target], load: Load, first: str, group: str
) -> None:
    """Measure all in turn, round by round; print CPU and rates, and what `first` needs of them."""
    cpu: dict[str, list[float]] = {name: [] for name in found}
    rates: dict[str, list[float]] = {name: [] for name in found}

    def all_in_turn() -> None:
        for name, target in found.items():
            before = target.cpu_us()
            done = max(1, load(target))
            cpu[name].append((target.cpu_us() - before) / done)
            rates[name].append(done / SECONDS)

    benchmark.pedantic(all_in_turn, rounds=ROUNDS, warmup_rounds=1)
    if benchmark.stats is None:
        return
    yardstick = statistics.median(cpu[first])
    print(f"\n{group}: CPU of the process for each, {first}'s beside it, answered per second")
    for name in found:
        mine, rate = statistics.median(cpu[name]), statistics.median(rates[name])
        ratio = f"{yardstick / mine:>8.2f} x" if mine else " " * 10
        print(f"  {name:<22}{mine:>12.1f} us{ratio}{rate:>12,.0f} /s")
        benchmark.extra_info[name] = {"cpu_us": round(mine, 2), "per_s": round(rate)}


@needs
@pytest.mark.parametrize("connections", [1, 64, 512])
def test_keep_alive(benchmark: BenchmarkFixture, tmp_path: Path, connections: int) -> None:
    with targets(["direct", *ALL], tmp_path) as found:
        group = f"requests on {connections} connections"
        side_by_side(benchmark, found, wrk(connections), "haproxy", group)


@needs
def test_new_connections(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    with targets(["direct", *ALL], tmp_path) as found:
        load = wrk(64, "-H", "Connection: close")
        side_by_side(benchmark, found, load, "haproxy", "a connection each")


@needs
def test_bulk(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    names = ["workers", "nested", "haproxy", "haproxy at its best", "nginx"]
    with targets(names, tmp_path) as found:
        side_by_side(benchmark, found, wrk(2, path="/big"), "haproxy", "64 MiB each")


@needs
@pytest.mark.skipif(not tool("strace"), reason="needs strace: apt-get install strace")
def test_system_calls(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """How often the kernel is asked for a request on a connection that is there already."""
    counted: dict[str, float] = {}

    def count() -> None:
        for name, target in found.items():
            log = tmp_path / "calls"
            strace = subprocess.Popen(
                [tool("strace"), "-c", "-f", "-p", str(target.pid), "-o", str(log)],
                stderr=subprocess.PIPE,
            )
            assert strace.stderr is not None
            strace.stderr.readline()  # "Process … attached"
            done = wrk(64)(target)
            strace.send_signal(2)
            strace.communicate()
            total = next(line for line in log.read_text().splitlines() if line.endswith("total"))
            counted[name] = int(total.split()[3]) / done

    with targets(["workers", "haproxy", "nginx"], tmp_path) as found:
        benchmark.pedantic(count, rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info.update(counted)
        print("\nsystem calls for a kept-alive request")
        for name, calls in counted.items():
            print(f"  {name:<22}{calls:>12.2f}")
    assert counted["workers"] <= 4.5, "four are the least; beginning and end are in it, too"


@needs
def test_memory_of_idle_connections(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """Private memory of the process, for each connection that waits."""
    per_connection: dict[str, float] = {}
    idle = min(IDLE, raise_limit() // 4)

    def hold() -> None:
        for name, target in found.items():
            with ExitStack() as stack:
                for _ in range(100):  # What is made once is made.
                    stack.enter_context(socket.create_connection(("127.0.0.1", target.port)))
                before = target.memory_bytes()
                clients = [
                    stack.enter_context(socket.create_connection(("127.0.0.1", target.port)))
                    for _ in range(idle)
                ]
                for client in clients:
                    client.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
                for client in clients:
                    assert client.recv(4096)
                per_connection[name] = (target.memory_bytes() - before) / idle

    with targets(["workers", "haproxy", "nginx"], tmp_path) as found:
        benchmark.pedantic(hold, rounds=1)
    if benchmark.stats is not None:
        benchmark.extra_info.update(per_connection)
        print(f"\nmemory for each of {idle:,} idle connections")
        for name, each in per_connection.items():
            print(f"  {name:<22}{each:>12,.0f} B")
