"""The short way of a GET: the same answers as the long one, whatever comes before and after."""

import asyncio
import re
import time
from random import getrandbits

import msgpack
import pytest
from fake_cluster import TOKEN, FakeCluster
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeloop.api.calls import Request
from kubeloop.net.rest.quick import read_head
from kubeloop.net.rest.server import RestServer

MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}}
MAPS = "/api/v1/namespaces/default/configmaps"
ACCEPTS = (
    "application/json",
    "application/json;pretty=1",
    "application/yaml",
    "application/msgpack",
    "application/vnd.kubernetes.protobuf",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
)
LONG = "X-Nobody-Knows: it\r\n"


def get(path: str, more: str = "") -> bytes:
    head = f"GET {path} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKEN}\r\n{more}\r\n"
    return head.encode()


def post(name: str, *, chunked: bool = False) -> bytes:
    body = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"%b"}}' % name.encode()
    size = b"Content-Length: %d" % len(body)
    if chunked:
        size, body = b"Transfer-Encoding: chunked", b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    lead = f"POST {MAPS} HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer {TOKEN}\r\n".encode()
    return lead + size + b"\r\n\r\n" + body


class Line:
    """A connection, and how many of its requests went the short way."""

    def __init__(self, server: RestServer) -> None:
        self.server, self.short = server, 0
        in_earnest = server._quick

        def counted(head: bytes) -> bytes | None:
            answer = in_earnest(head)
            self.short += answer is not None
            return answer

        server._quick = counted  # type: ignore[method-assign]

    async def __aenter__(self) -> "Line":
        await self.server.start()
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        await self.server.stop()

    async def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            for _ in range(4):  # Let the server read it before the next comes.
                await asyncio.sleep(0)

    async def hear(self) -> tuple[bytes, bytes]:
        """Return the head and the body of the next answer."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
            assert found, head
            return head, await self.reader.readexactly(int(found[1]))


def serve() -> Line:
    backend = FakeCluster()
    backend.do(Request("create", "configmaps", "default", body=msgpack.packb(MAP)))
    return Line(RestServer(backend, token=TOKEN, wall=time.time, bits=getrandbits))


def plain(head: bytes) -> list[bytes]:
    """Return the lines of a head without what no two have in common."""
    return [line for line in head.split(b"\r\n") if not line.startswith((b"Date:", b"Audit-Id:"))]


@pytest.mark.parametrize("accept", ACCEPTS)
@pytest.mark.parametrize("query", ["", "?pretty=true", "?resourceVersion=0", "?includeObject=None"])
async def test_both_ways_lead_to_the_same(accept: str, query: str) -> None:
    async with serve() as line:
        wanted = get(f"{MAPS}/m{query}", f"Accept: {accept}\r\n")
        await line.say(get(f"{MAPS}/m", LONG))
        await line.hear()  # A new connection goes the long way once.
        for _ in range(2):
            await line.say(wanted)
            short = await line.hear()
        assert line.short == 2
        await line.say(wanted.removesuffix(b"\r\n") + LONG.encode() + b"\r\n")
        long = await line.hear()
        assert line.short == 2
        assert (plain(short[0]), short[1]) == (plain(long[0]), long[1])
        assert short[0].startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(f"{MAPS}/none"), 404),
        (get(MAPS), 200),
        (get(f"{MAPS}/m?resourceVersion=x"), 400),
        (get(f"{MAPS}/m?resourceVersion=99999"), 504),
        (get("/api/v1/nothing/m"), 404),
        (get("/version"), 200),
        (get(f"{MAPS}/m", "Accept: text/css\r\n"), 406),
        (get(f"{MAPS}/m").replace(TOKEN.encode(), b"other"), 401),
        (get(f"{MAPS}/m", "Accept: a\r\nAccept: b\r\n"), 406),
        (get("/api/v1/namespaces/default/pods/p/log"), 404),
        (get(f"{MAPS}/%zz"), 400),
    ],
)
async def test_what_is_not_simple_goes_the_long_way(request_: bytes, status: int) -> None:
    async with serve() as line:
        for _ in range(2):
            await line.say(request_)
            head, _ = await line.hear()
            assert head.startswith(b"HTTP/1.1 %d " % status)
        assert line.short == 0


async def test_a_change_is_seen_at_once() -> None:
    async with serve() as line:
        seen = set()
        for number in range(4):
            await line.say(post(f"m-{number}"))
            assert (await line.hear())[0].startswith(b"HTTP/1.1 201 ")
            await line.say(get(f"{MAPS}/m-{number}"))
            head, body = await line.hear()
            assert head.startswith(b"HTTP/1.1 200 ")
            seen.add(body)
        assert len(seen) == 4 == line.short


REQUESTS = st.sampled_from(
    [
        get(f"{MAPS}/m"),
        get(f"{MAPS}/m", LONG),
        get(f"{MAPS}/none"),
        get(MAPS + "?limit=1"),
        post("m"),
        post("m", chunked=True),
    ]
)


@given(st.lists(REQUESTS, min_size=1, max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_requests_in_pieces(requests: list[bytes], data: st.DataObject) -> None:
    """However requests are cut and joined on their way, each has its answer, in order."""
    wire = b"".join(requests)
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8).map(sorted))
    ends = [sum(map(len, requests[: n + 1])) for n in range(len(requests))]
    cuts = sorted({*cuts, *data.draw(st.lists(st.sampled_from(ends), max_size=6))})
    pieces = [wire[a:b] for a, b in zip([0, *cuts], [*cuts, len(wire)], strict=True) if a < b]

    async def main() -> None:
        async with serve() as line:
            await line.say(*pieces)
            for request in requests:
                head, _ = await line.hear()
                status = {b"POST": 409, b"GET ": 200}[request[:4]]
                status = 404 if b"/none" in request else status
                assert head.startswith(b"HTTP/1.1 %d " % status)

    asyncio.run(main())


NAMES = st.sampled_from(["Host", "Accept", "Connection", "Content-Length", "Upgrade", "Expect"])
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from(["1", "close", "keep-alive", "a: b", ""])))


@given(st.sampled_from(["GET /a", "GET  /a", "POST /a", "GET a"]), HEADERS)
def test_heads_with_more_to_them_are_not_read(start: str, headers: list[tuple[str, str]]) -> None:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = read_head(f"{start} HTTP/1.1\r\n{lines}\r\n".encode())
    names = [name.lower() for name, value in headers if (name, value) != HARMLESS]
    simple = len({*names}) == len(names) and {*names} <= {"host", "accept"}
    hosts = [value for name, value in headers if name == "Host"]
    assert (head is not None) == (start == "GET /a" and simple and hosts not in ([], [""]))


HARMLESS = ("Connection", "keep-alive")
