"""The endpoint over real sockets: an aiohttp client, an API server over a store."""

import asyncio
import gzip
import json
import ssl
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import getrandbits
from typing import Any

import aiohttp
import msgpack
import pytest
import yaml
from fake_cluster import TOKEN, FakeCluster

from kubeloop.api.calls import Outcome, Request
from kubeloop.api.errors import Expired, TooManyRequests
from kubeloop.net.certificates import make_certificates, server_context
from kubeloop.net.rest import protobuf, streams
from kubeloop.net.rest.server import RestServer

Http = aiohttp.ClientSession
MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
PROTOBUF = "application/vnd.kubernetes.protobuf"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the seconds a watch is to last be tenths of them."""
    in_earnest = streams.Bell.set_timers

    def hurried(bell: streams.Bell, timeout_s: float, *, bookmarks: bool) -> None:
        in_earnest(bell, timeout_s / 10, bookmarks=bookmarks)

    monkeypatch.setattr(streams.Bell, "set_timers", hurried)


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **more}


def pod(name: str) -> dict[str, Any]:
    spec = {"containers": [{"name": "c", "image": "busybox"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def call(http: Http, method: str, path: str, **how: Any) -> tuple[int, Any]:
    async with http.request(method, path, **how) as response:
        return response.status, await response.json(content_type=None)


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    async for line in response.content:
        yield json.loads(line)


async def told(http: Http, query: str, path: str = MAPS, **how: Any) -> list[dict[str, Any]]:
    """Return every event of a watch that ends by itself."""
    async with http.get(f"{path}?watch=1&{query}", **how) as response:
        assert response.status == 200
        return [event async for event in events(response)]


def short(told_events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["type"], e["object"]["metadata"].get("name", "")) for e in told_events]


# Objects.


async def test_an_objects_life(http: Http) -> None:
    status, made = await call(http, "POST", MAPS, json=config_map("a", data={"k": "v"}))
    assert status == 201
    assert list(made)[:3] == ["kind", "apiVersion", "metadata"]
    assert await call(http, "GET", f"{MAPS}/a") == (200, made)
    made["data"]["k"] = "w"
    status, changed = await call(http, "PUT", f"{MAPS}/a", json=made)
    assert (status, changed["data"]) == (200, {"k": "w"})
    headers = {"Content-Type": "application/merge-patch+json"}
    status, changed = await call(
        http, "PATCH", f"{MAPS}/a", data='{"data":{"k":null,"l":"x"}}', headers=headers
    )
    assert (status, changed["data"]) == (200, {"l": "x"})
    status, listed = await call(http, "GET", MAPS)
    assert (listed["kind"], [i["metadata"]["name"] for i in listed["items"]]) == (
        "ConfigMapList",
        ["a"],
    )
    assert "kind" not in listed["items"][0], "the list says what they are"
    assert (await call(http, "DELETE", f"{MAPS}/a"))[1]["status"] == "Success"
    status, gone = await call(http, "GET", f"{MAPS}/a")
    assert (status, gone["reason"]) == (404, "NotFound")


async def test_protobuf_and_yaml_bodies(http: Http) -> None:
    body = protobuf.encode(config_map("p", data={"k": "v"}))
    headers = {"Content-Type": PROTOBUF, "Accept": f"{PROTOBUF},application/json"}
    status, made = await call(http, "POST", MAPS, data=body, headers=headers)
    assert (status, made["data"]) == (201, {"k": "v"})
    text = yaml.safe_dump(config_map("y", data={"k": "yes"}))
    headers = {"Content-Type": "application/yaml"}
    assert (await call(http, "POST", MAPS, data=text, headers=headers))[0] == 201


async def test_answers_in_every_language(http: Http) -> None:
    await call(http, "POST", MAPS, json=config_map("a", data={"t": "2026-11-23", "l": "a\nb\n"}))
    for path in (MAPS, f"{MAPS}/a"):
        plain = (await call(http, "GET", path))[1]
        async with http.get(path, headers={"Accept": "application/yaml"}) as response:
            assert response.headers["Content-Type"] == "application/yaml"
            assert yaml.safe_load(await response.text()) == plain
        async with http.get(path, headers={"Accept": PROTOBUF}) as response:
            assert response.headers["Content-Type"] == PROTOBUF
            decoded = protobuf.decode(await response.read())
            assert decoded["metadata"]["resourceVersion"] == plain["metadata"]["resourceVersion"]
    async with http.get(MAPS, headers={"Accept": "text/css"}) as response:
        assert response.status == 406
        assert (await response.json())["reason"] == "NotAcceptable"


async def test_tables_and_partial_objects(http: Http) -> None:
    await call(http, "POST", PODS, json=pod("p"))
    headers = {"Accept": TABLE}
    for path in (PODS, f"{PODS}/p"):
        _, table = await call(http, "GET", path, headers=headers)
        assert (table["kind"], table["apiVersion"]) == ("Table", "meta.k8s.io/v1")
        assert table["rows"][0]["cells"][:3] == ["p", "0/1", "Pending"]
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    _, table = await call(http, "GET", f"{PODS}?includeObject=Object", headers=headers)
    assert table["rows"][0]["object"]["spec"]["containers"]
    status, refused = await call(http, "GET", f"{PODS}?includeObject=x", headers=headers)
    assert (status, refused["reason"]) == (400, "BadRequest")
    headers = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
    _, partial = await call(http, "GET", PODS, headers=headers)
    assert partial["kind"] == "PartialObjectMetadataList"
    assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
    status, missing = await call(http, "GET", f"{PODS}/no", headers={"Accept": TABLE})
    assert (status, missing["kind"]) == (404, "Status")


async def test_long_lists_are_streamed_whole(http: Http, backend: FakeCluster) -> None:
    for number in range(200):
        body = msgpack.packb(config_map(f"m{number:03}"))
        backend.do(Request("create", "configmaps", "default", body=body))
    _, listed = await call(http, "GET", MAPS)
    names = [item["metadata"]["name"] for item in listed["items"]]
    assert names == [f"m{number:03}" for number in range(200)]
    _, page = await call(http, "GET", f"{MAPS}?limit=50")
    assert len(page["items"]) == 50
    assert page["metadata"]["remainingItemCount"] == 150
    _, rest = await call(http, "GET", f"{MAPS}?continue={page['metadata']['continue']}")
    assert len(rest["items"]) == 150
    _, gone = await call(http, "DELETE", MAPS)
    assert (gone["kind"], len(gone["items"])) == ("ConfigMapList", 200)


async def test_unknown_fields_warn_or_are_refused(http: Http) -> None:
    body = {**config_map("w"), "foo": 1}
    async with http.post(f"{MAPS}?fieldValidation=Warn", json=body) as response:
        assert response.status == 201
        assert response.headers["Warning"] == '299 - "unknown field \\"foo\\""'
    twice = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x","name":"y"}}'
    headers = {"Content-Type": "application/json"}
    path = f"{MAPS}?fieldValidation=Strict"
    status, refused = await call(http, "POST", path, data=twice, headers=headers)
    assert (status, refused["message"]) == (
        400,
        'ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: '
        'duplicate field "metadata.name"',
    )


async def test_delete_options_in_the_body(http: Http) -> None:
    await call(http, "POST", MAPS, json=config_map("a"))
    body = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "other"}}
    assert (await call(http, "DELETE", f"{MAPS}/a", json=body))[0] == 409
    body = {"propagationPolicy": "Background", "dryRun": ["All"]}
    assert (await call(http, "DELETE", f"{MAPS}/a", json=body))[0] == 200
    assert (await call(http, "GET", f"{MAPS}/a"))[0] == 200, "it was a rehearsal"


# Refusals.


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", TOKEN])
async def test_strangers_are_refused(server: RestServer, authorization: str) -> None:
    async with aiohttp.ClientSession(server.url) as http:
        headers = {"Authorization": authorization} if authorization else {}
        status, refused = await call(http, "GET", "/api/v1/nodes", headers=headers)
        assert (status, refused["reason"]) == (401, "Unauthorized")
        for path in ("/healthz", "/livez?verbose", "/readyz/ping", "/version"):
            async with http.get(path, headers=headers) as response:
                assert response.status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nope", 404),
        ("GET", "/debug/pprof", 404),
        ("GET", "/apis/nope", 404),
        ("POST", "/apis/nope/v1/things", 404),
        ("GET", "/apis/apps/v9", 404),
        ("PUT", PODS, 405),
        ("POST", f"{PODS}/p", 405),
        ("HEAD", PODS, 405),
        ("DELETE", "/api/v1/namespaces", 405),
        ("PUT", f"{PODS}/p/binding", 405),
        ("POST", "/version", 405),
        ("POST", f"{PODS}/p/log", 405),
        ("GET", f"{PODS}/a%2Fb", 400),
        ("GET", f"{PODS}?limit=x", 400),
        ("POST", f"{PODS}/p/exec?command=ls", 400),
        ("PATCH", f"{PODS}/p", 415),
    ],
)
async def test_refusals(http: Http, method: str, path: str, status: int) -> None:
    async with http.request(method, aiohttp.client.URL(path, encoded=True)) as response:
        assert response.status == status
        if response.headers["Content-Type"] == "application/json" and method != "HEAD":
            refused = await response.json()
            assert (refused["kind"], refused["code"]) == ("Status", status)


async def test_there_is_no_stream_into_a_pod_that_is_not_there(http: Http) -> None:
    headers = {"Upgrade": "websocket", "Connection": "Upgrade"}
    status, refused = await call(http, "GET", f"{PODS}/p/exec?command=ls", headers=headers)
    assert (status, refused["message"]) == (404, 'pods "p" not found')


async def test_bodies_are_limited(http: Http) -> None:
    limit = 3 << 20
    for size, status in ((limit, 422), (limit + 1, 413)):
        frame = json.dumps(config_map("a", data={"k": ""}))
        text = json.dumps(config_map("a", data={"k": "x" * (size - len(frame))}))
        assert len(text) == size
        headers = {"Content-Type": "application/json"}
        got, refused = await call(http, "POST", MAPS, data=text.encode(), headers=headers)
        assert got in (status, 201), refused
        if status == 413:
            assert refused["message"] == f"Request entity too large: limit is {limit}"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100_000

    async with http.post(MAPS, data=endless()) as response:
        assert response.status == 413


@pytest.mark.parametrize("accept", ["gzip, deflate", "br;q=1, GZIP", "gzip;q=0", "identity"])
@pytest.mark.parametrize("path", [f"{MAPS}", f"{MAPS}?limit=1", "/openapi/v3/apis/apps/v1"])
async def test_what_is_large_comes_in_gzip(
    http: Http, backend: FakeCluster, accept: str, path: str
) -> None:
    for n in range(70):
        obj = config_map(f"m-{n}", data={"text": f"{n}" * 2000})
        backend.do(Request("create", "configmaps", "default", body=msgpack.packb(obj)))
    async with aiohttp.ClientSession(
        http._base_url, headers=http.headers, auto_decompress=False
    ) as raw:
        async with raw.get(path, headers={"Accept-Encoding": "identity"}) as response:
            plain = await response.read()
        async with raw.get(path, headers={"Accept-Encoding": accept}) as response:
            body, told = await response.read(), response.headers
    packed = "gzip" in accept.lower() and "q=0" not in accept and len(plain) > 128 << 10
    assert (told.get("Content-Encoding"), told.get("Vary")) == (
        ("gzip", "Accept-Encoding") if packed else (None, None)
    )
    assert (gzip.decompress(body) if packed else body) == plain
    assert len(body) < 128 << 10 or not packed


async def test_overload_is_told_with_a_time(http: Http, backend: FakeCluster) -> None:
    async def refuse(request: Request) -> Outcome:
        raise TooManyRequests("too many requests, please try again later", retry_after_s=3)

    backend.read = lambda request: None  # type: ignore[method-assign]
    backend.ask = refuse  # type: ignore[method-assign]
    async with http.get(MAPS) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "3")


async def test_a_fault_of_ours_is_a_status(
    http: Http, backend: FakeCluster, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(request: Request) -> Outcome:
        raise ZeroDivisionError("oops")

    backend.read = lambda request: None  # type: ignore[method-assign]
    backend.ask = fail  # type: ignore[method-assign]
    status, refused = await call(http, "GET", MAPS)
    assert (status, refused["reason"]) == (500, "InternalError")
    assert "ZeroDivisionError" in caplog.text


# Documents.


async def test_discovery_is_kept_by_its_tag(http: Http) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    async with http.get("/apis", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == accept
        tag, found = response.headers["Etag"], await response.json(content_type=None)
    assert found["apiVersion"] == "apidiscovery.k8s.io/v2"
    headers = {"Accept": accept, "If-None-Match": tag}
    async with http.get("/apis", headers=headers) as response:
        assert (response.status, await response.read()) == (304, b"")
    _, core = await call(http, "GET", "/api", headers={"Accept": accept.replace("v2", "v2beta1")})
    assert core["apiVersion"] == "apidiscovery.k8s.io/v2beta1"
    names = {r["resource"] for r in core["items"][0]["versions"][0]["resources"]}
    assert {"pods", "services", "nodes"} <= names


async def test_openapi(http: Http) -> None:
    _, index = await call(http, "GET", "/openapi/v3")
    where = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
    async with http.get(where) as response:
        assert response.headers["Cache-Control"] == "public, immutable"
        document = await response.json()
    assert "/apis/apps/v1/namespaces/{namespace}/deployments" in document["paths"]
    async with http.get("/openapi/v3/apis/nope/v1") as response:
        assert response.status == 404
    assert (await call(http, "GET", "/openapi/v2"))[1]["swagger"] == "2.0"
    accept = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
    async with http.get("/openapi/v2", headers={"Accept": accept}) as response:
        assert response.headers["Content-Type"] == accept.replace("@", ".")
        assert (await response.read()).startswith(b"\x0a\x032.0\x12")


async def test_the_root_lists_paths_that_exist(http: Http) -> None:
    _, root = await call(http, "GET", "/")
    assert {"/api/v1", "/apis/apps/v1", "/version"} <= set(root["paths"])
    for path in root["paths"]:
        async with http.get(path) as response:
            assert response.status == 200, path


# Watches.


async def change(http: Http) -> int:
    """Let map "w" appear, change, lose its label and go; return the revision before."""
    _, listed = await call(http, "GET", MAPS)
    body = config_map("w")
    body["metadata"]["labels"] = {"l": "1"}
    await call(http, "POST", MAPS, json=body)
    headers = {"Content-Type": "application/merge-patch+json"}
    for patch in ('{"data":{"a":"2"}}', '{"metadata":{"labels":null}}'):
        await call(http, "PATCH", f"{MAPS}/w", data=patch, headers=headers)
    await call(http, "DELETE", f"{MAPS}/w")
    return int(listed["metadata"]["resourceVersion"])


async def test_a_watch_from_a_revision(http: Http) -> None:
    start = await change(http)
    found = await told(http, f"timeoutSeconds=1&resourceVersion={start}")
    assert short(found) == [("ADDED", "w"), ("MODIFIED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in found]
    assert versions == [start + 1, start + 2, start + 3, start + 4]
    chosen = await told(http, f"timeoutSeconds=1&resourceVersion={start}&labelSelector=l%3D1")
    assert short(chosen) == [("ADDED", "w"), ("MODIFIED", "w"), ("DELETED", "w")]
    assert chosen[-1]["object"]["metadata"]["labels"] == {"l": "1"}, "as it was last seen"
    assert int(chosen[-1]["object"]["metadata"]["resourceVersion"]) == start + 3


async def test_a_watch_from_now_hears_what_comes(http: Http) -> None:
    await call(http, "POST", MAPS, json=config_map("x"))
    async with http.get(f"{MAPS}?watch=true&resourceVersion=0") as response:
        stream = events(response)
        assert (await anext(stream))["object"]["metadata"]["name"] == "x"
        await change(http)
        types = [(await anext(stream))["type"] for _ in range(4)]
    assert types == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]


async def test_initial_events_end_with_a_bookmark(http: Http) -> None:
    await call(http, "POST", MAPS, json=config_map("x"))
    query = "sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    async with http.get(f"{MAPS}?watch=1&{query}") as response:
        stream = events(response)
        first, end = await anext(stream), await anext(stream)
    assert (first["type"], end["type"]) == ("ADDED", "BOOKMARK")
    assert end["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


async def test_bookmarks_tell_how_far_the_watch_is(http: Http) -> None:
    start = await change(http)
    query = f"timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion={start}"
    *_, last = await told(http, query)
    assert last["type"] == "BOOKMARK"
    assert int(last["object"]["metadata"]["resourceVersion"]) == start + 4


def test_bookmarks_come_every_minute(simulate: Callable[..., Any]) -> None:
    """Ten minutes, as virtual time passes."""

    async def watch() -> list[tuple[str, float]]:
        loop = asyncio.get_running_loop()
        server = RestServer(FakeCluster(), token=TOKEN, wall=loop.time, bits=getrandbits)
        await server.start()
        headers = {"Authorization": f"Bearer {TOKEN}"}
        forever = aiohttp.ClientTimeout(total=None)
        async with aiohttp.ClientSession(server.url, headers=headers, timeout=forever) as http:
            query = "watch=1&allowWatchBookmarks=true&resourceVersion=1&timeoutSeconds=5950"
            async with http.get(f"{MAPS}?{query}") as response:
                begun = loop.time()
                told = [(event["type"], loop.time() - begun) async for event in events(response)]
        await server.stop()
        return told

    told = simulate(watch)
    assert [type_ for type_, _ in told] == ["BOOKMARK"] * 10
    expected = [60.0 * n for n in range(1, 10)] + [593.0]
    assert [at for _, at in told] == pytest.approx(expected, abs=1.0)


async def test_watches_of_one_name_one_namespace_and_the_old_path(http: Http) -> None:
    start = await change(http)
    for path in (
        f"{MAPS}?watch=1&fieldSelector=metadata.name%3Dw",
        "/api/v1/watch/namespaces/default/configmaps/w?x",
        "/api/v1/watch/configmaps?x",
        "/api/v1/configmaps?watch=1",
    ):
        async with http.get(f"{path}&timeoutSeconds=1&resourceVersion={start}") as response:
            found = [event async for event in events(response)]
        assert len(found) == 4
    assert await told(http, f"timeoutSeconds=1&resourceVersion={start}", PODS) == []
    other = "/api/v1/namespaces/kube-system/configmaps"
    assert await told(http, f"timeoutSeconds=1&resourceVersion={start}", other) == []


async def test_a_table_watch(http: Http) -> None:
    start = await change(http)
    found = await told(http, f"timeoutSeconds=1&resourceVersion={start}", headers={"Accept": TABLE})
    assert {event["object"]["kind"] for event in found} == {"Table"}
    assert found[0]["object"]["columnDefinitions"]
    assert found[1]["object"]["columnDefinitions"] is None


async def test_wrong_watches(http: Http) -> None:
    status, refused = await call(http, "GET", f"{MAPS}?watch=1&resourceVersion=abc")
    assert (status, "reason" in refused) == (500, False)
    assert refused["message"] == (
        'resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": invalid syntax'
    )
    assert await told(http, "timeoutSeconds=1&resourceVersion=99999999") == []
    headers = {"Accept": "application/yaml"}
    assert (await call(http, "GET", f"{MAPS}?watch=1", headers=headers))[0] == 406
    assert (await call(http, "GET", f"{MAPS}?watch=1&labelSelector=a%3D%3D%3Db"))[0] == 400


async def test_a_client_that_does_not_read_is_cut_off(
    http: Http, server: RestServer, backend: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "STALL_S", 0.3)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    head = f"GET {MAPS}?watch=1&resourceVersion=0 HTTP/1.1\r\nHost: x\r\n"
    writer.write(f"{head}Authorization: Bearer {TOKEN}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    async with http.get(f"{MAPS}?watch=1&resourceVersion=0") as healthy:
        stream = events(healthy)
        for number in range(40):
            body = msgpack.packb(config_map(f"big{number}", data={"k": "x" * 500_000}))
            backend.do(Request("create", "configmaps", "default", body=body))
            assert (await asyncio.wait_for(anext(stream), 5))["type"] == "ADDED"
    deadline = time.monotonic() + 10
    while len(server._handlers._bells) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    assert not server._handlers._bells, "its watch is gone"
    writer.close()


async def test_a_client_that_leaves_is_forgotten(http: Http, server: RestServer) -> None:
    response = await http.get(f"{MAPS}?watch=1&resourceVersion=0")
    assert len(server._handlers._bells) == 1
    response.close()
    deadline = time.monotonic() + 5
    while len(server._handlers._bells) and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    assert not server._handlers._bells


async def test_stopping_ends_watches_at_once(http: Http, server: RestServer) -> None:
    response = await http.get(f"{MAPS}?watch=1&resourceVersion=1")
    begun = time.monotonic()
    await server.stop()
    assert time.monotonic() - begun < 0.5
    assert await response.content.read() == b"", "it ended in good order"
    with pytest.raises(aiohttp.ClientConnectionError):
        await http.get("/healthz")


# Logs.


async def test_logs(http: Http, backend: FakeCluster) -> None:
    await call(http, "POST", PODS, json=pod("p"))
    backend.written = [(float(n), f"line {n}\n".encode()) for n in range(5)]

    async def log(query: str) -> str:
        async with http.get(f"{PODS}/p/log?{query}") as response:
            assert response.status == 200, await response.text()
            return await response.text()

    assert await log("") == "line 0\nline 1\nline 2\nline 3\nline 4\n"
    assert await log("tailLines=1&container=c") == "line 4\n"
    assert await log("limitBytes=3") == "lin"
    assert await log("tailLines=1&follow=true") == "line 4\nand then\n"
    assert await log("follow=1&tailLines=0&limitBytes=3") == "and"
    status, refused = await call(http, "GET", f"{PODS}/p/log?container=x")
    assert (status, refused["message"]) == (400, "container x is not valid for pod p")
    assert (await call(http, "GET", f"{PODS}/no/log"))[0] == 404


# TLS.


async def test_tls(backend: FakeCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_certificates([], ["127.0.0.1"], now=time.time(), bits=getrandbits)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tls = server_context(made)
    assert list(tmp_path.iterdir()) == [], "the key is left nowhere"
    server = RestServer(backend, token=TOKEN, tls=tls, wall=time.time, bits=getrandbits)
    await server.start()
    try:
        context = ssl.create_default_context(cadata=made.authority.decode())
        connector = aiohttp.TCPConnector(ssl=context)
        async with aiohttp.ClientSession(server.url, connector=connector) as http:
            assert server.url.startswith("https://127.0.0.1:")
            async with http.get("/healthz") as response:
                assert await response.text() == "ok"
    finally:
        await server.stop()


async def test_a_watch_of_what_is_compacted_is_told_to_list_again(
    http: Http, backend: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**_: Any) -> None:
        raise Expired.revision(asked=1, oldest=9)

    monkeypatch.setattr(backend.hub, "open", gone)
    assert await told(http, "resourceVersion=1") == [
        {
            "type": "ERROR",
            "object": {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Failure",
                "message": "too old resource version: 1 (9)",
                "reason": "Expired",
                "code": 410,
            },
        }
    ]
