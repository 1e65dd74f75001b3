"""The REST endpoint, over real sockets, in its own process: what a request costs it.

What counts is the CPU of the server for a request, `cpu_us` in extra_info; the rates are those of
one client that waits for each answer. Beside it stands an aiohttp server that does nothing but send
as many bytes: what HTTP alone costs in Python.

Sketch. A GET the short way: a read and a write, 15 µs; the loop's turn, 10; the look-up, the head
and the id, 15: 40 µs; over TLS 40 more. The long way has aiohttp's parser, task and writer before
and after: 150 µs. A LIST of 10,000 pods is 10,000 look-ups of what is encoded, and the sending of
17 MB: 20 ms; a Table writes the ages anew: 5 µs a row. What was never asked for is encoded first:
30 µs an object in JSON, 100 in a Table. A POST is admitted, validated, written and encoded, 500 µs;
a patch applies, too; server-side apply merges with what its manager had.
A change told to a watcher is a line that is shared by all, and a write of its own: 10 µs each one
by one, 2 if many are told together.

Goals: GET over TLS 140 µs, a fifth of what kube-apiserver takes; LIST of 10,000 pods 80 ms, an
eighth; a delivery 10 µs, 2 if there are many together.
"""

import http.client
import json
import os
import selectors
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import Beside
from pytest_benchmark.fixture import BenchmarkFixture

SERVER = Path(__file__).with_name("rest_server.py")
PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"
METADATA = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
ONE_BY_ONE = 100
LISTED = 10_000
CHANGES = 50
TICK_US = 1e6 / os.sysconf("SC_CLK_TCK")


class Server:
    """A running server, and connections to it."""

    def __init__(self, process: "subprocess.Popen[str]", told: dict[str, str]) -> None:
        self.pid, self.token = process.pid, told["token"]
        self.place = urlsplit(told["url"])

    def cpu_us(self) -> float:
        """Return the CPU time it has taken so far, in the kernel as well."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * TICK_US

    def connect(self) -> socket.socket:
        """Return a connection."""
        assert self.place.hostname and self.place.port
        plain = socket.create_connection((self.place.hostname, self.place.port))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.place.scheme == "http":
            return plain
        return ssl._create_unverified_context().wrap_socket(plain)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        """Return a request as it is sent."""
        content = b"" if body is None else json.dumps(body).encode()
        told = {"Host": self.place.netloc, "Authorization": f"Bearer {self.token}"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        if content:
            told["Content-Length"] = str(len(content))
        lines = [f"{method} {path} HTTP/1.1", *(f"{n}: {v}" for n, v in told.items()), "", ""]
        return "\r\n".join(lines).encode() + content


class Client:
    """One connection that waits for each answer."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Return the status and the body of the answer."""
        self.socket.sendall(request)
        answer = http.client.HTTPResponse(self.socket)
        answer.begin()
        return answer.status, answer.read()


@contextmanager
def serve(*arguments: str) -> Iterator[Server]:
    """Run a server."""
    with subprocess.Popen(
        [sys.executable, str(SERVER), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stdin is not None
        try:
            yield Server(process, json.loads(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(20)


@pytest.fixture(scope="module")
def few() -> Iterator[Server]:
    with serve("kubeloop", "http", "100") as server:
        yield server


@pytest.fixture(scope="module")
def many() -> Iterator[Server]:
    with serve("kubeloop", "http", str(LISTED)) as server:
        yield server


def measure(
    benchmark: BenchmarkFixture, server: Server, requests: Iterator[list[bytes]], status: int
) -> None:
    """Time rounds of requests, each round another list of them."""
    client, spent, asked = Client(server), 0.0, 0

    def once(round_: list[bytes]) -> None:
        nonlocal spent, asked
        before = server.cpu_us()
        for request in round_:
            found, body = client.ask(request)
            assert found == status, body
        spent += server.cpu_us() - before
        asked += len(round_)

    benchmark.pedantic(once, setup=lambda: ((next(requests),), {}), rounds=20, warmup_rounds=2)
    benchmark.extra_info["cpu_us"] = round(spent / asked, 1)
    client.socket.close()


def always(*requests: bytes) -> Iterator[list[bytes]]:
    while True:
        yield list(requests)


@pytest.mark.parametrize("way", ["aiohttp alone", "http", "https", "http, the long way"])
def test_get(benchmark: BenchmarkFixture, beside: Beside, few: Server, way: str) -> None:
    with ExitStack() as stack:
        server = few
        if way == "https":
            server = stack.enter_context(serve("kubeloop", "https", "100"))
        elif way == "aiohttp alone":
            size = len(Client(few).ask(few.request("GET", f"{PODS}/p-7"))[1])
            server = stack.enter_context(serve("aiohttp", str(size)))
        more = {"X_Other": "1"} if way == "http, the long way" else {}
        requests = [server.request("GET", f"{PODS}/p-{n}", **more) for n in range(ONE_BY_ONE)]
        with beside("GET a pod", way, ONE_BY_ONE):
            measure(benchmark, server, always(*requests), 200)


@pytest.mark.parametrize(
    ("form", "accept", "query"),
    [
        ("JSON", "application/json", ""),
        ("Table", TABLE, ""),
        ("metadata only", METADATA, ""),
        ("msgpack", "application/msgpack", ""),
        ("JSON, 500 a page", "application/json", "?limit=500"),
        ("Table, 500 a page", TABLE, "?limit=500"),
        ("JSON, a label", "application/json", "?labelSelector=n%3D3"),
    ],
)
def test_list(
    benchmark: BenchmarkFixture, beside: Beside, many: Server, form: str, accept: str, query: str
) -> None:
    with beside(f"LIST {LISTED} pods", form, 1):
        requests = always(many.request("GET", PODS + query, Accept=accept))
        measure(benchmark, many, requests, 200)


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_post(benchmark: BenchmarkFixture, beside: Beside, few: Server) -> None:
    from rest_server import pod

    def requests() -> Iterator[list[bytes]]:
        number = 1000
        while True:
            numbers = range(number, number := number + ONE_BY_ONE)
            how = {"Content_Type": "application/json"}
            yield [few.request("POST", PODS, pod(n), **how) for n in numbers]

    with beside("write a pod", "POST", ONE_BY_ONE):
        measure(benchmark, few, requests(), 201)


PATCHES = {
    "merge patch": "application/merge-patch+json",
    "strategic patch": "application/strategic-merge-patch+json",
    "JSON patch": "application/json-patch+json",
    "apply": "application/apply-patch+yaml",
}


@pytest.mark.parametrize("way", PATCHES)
def test_patch(benchmark: BenchmarkFixture, beside: Beside, few: Server, way: str) -> None:
    def change(number: int) -> Any:
        if way == "JSON patch":
            return [{"op": "add", "path": "/metadata/labels/turn", "value": str(number)}]
        body: dict[str, Any] = {"metadata": {"labels": {"turn": str(number)}}}
        return body if way != "apply" else {"apiVersion": "v1", "kind": "Pod", **body}

    def requests() -> Iterator[list[bytes]]:
        number, query = 0, "?fieldManager=bench" + ("&force=true" if way == "apply" else "")
        how = {"Content_Type": PATCHES[way]}
        while True:
            number += 1
            yield [
                few.request("PATCH", f"{PODS}/p-{n}{query}", change(number), **how)
                for n in range(ONE_BY_ONE)
            ]

    with beside("write a pod", way, ONE_BY_ONE):
        measure(benchmark, few, requests(), 200)


class Watchers:
    """Many watches of config maps, read as fast as they can be."""

    def __init__(self, server: Server, count: int) -> None:
        self.selector, self.heard = selectors.DefaultSelector(), 0
        request = server.request("GET", f"{MAPS}?watch=1&resourceVersion=0")
        for _ in range(count):
            one = server.connect()
            one.sendall(request)
            self.selector.register(one, selectors.EVENT_READ)
        self.count, left = count, {key.fd for key in self.selector.get_map().values()}
        while left:  # Each is told of what there is already.
            for key, _ in self.selector.select():
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.recv(1 << 16)
                left.discard(key.fd)

    def hear(self, events: int) -> None:
        """Return when each has heard of so many events."""
        wanted, heard = events * self.count, 0
        while heard < wanted:
            for key, _ in self.selector.select():
                assert isinstance(key.fileobj, socket.socket)
                heard += key.fileobj.recv(1 << 20).count(b'{"type":"MODIFIED"')

    def close(self) -> None:
        for key in tuple(self.selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self.selector.close()


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("count", [1, 100, 1000])
def test_fan_out(
    benchmark: BenchmarkFixture, beside: Beside, few: Server, count: int, together: bool
) -> None:
    """A change is told to all who watch. together: 50 writers at once, else one after another."""
    writers = [Client(few) for _ in range(CHANGES if together else 1)]
    how = "together" if together else "one by one"
    name = f"watched-{count}-{len(writers)}"
    for n in range(len(writers)):
        request = few.request("POST", MAPS, config_map(f"{name}-{n}"), Content_Type=JSON)
        assert writers[0].ask(request)[0] == 201
    watchers, number, spent, told = Watchers(few, count), 0, 0.0, 0

    def once() -> None:
        nonlocal number, spent, told
        number += 1
        before = few.cpu_us()
        for n in range(CHANGES):
            body = config_map(f"{name}-{n % len(writers)}", turn=f"{number}-{n}")
            path = f"{MAPS}/{body['metadata']['name']}"
            writer = writers[n % len(writers)]
            if together:
                writer.socket.sendall(few.request("PUT", path, body, Content_Type=JSON))
            else:
                assert writer.ask(few.request("PUT", path, body, Content_Type=JSON))[0] == 200
                watchers.hear(1)
        if together:
            for writer in writers:
                answer = http.client.HTTPResponse(writer.socket)
                answer.begin()
                assert answer.status == 200, answer.read()
                answer.read()
            watchers.hear(CHANGES)
        spent += few.cpu_us() - before
        told += CHANGES * count

    with beside(f"tell watchers of {CHANGES} changes", f"{count}, {how}", CHANGES * count):
        benchmark.pedantic(once, rounds=5, warmup_rounds=1)
    benchmark.extra_info["cpu_us"] = round(spent / told, 1)
    watchers.close()
    for writer in writers:
        writer.socket.close()


JSON = "application/json"
