"""Both halves of the distribution protocol, against each other and against hostile ones."""

import hashlib
import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from kubeloop.net.registry import ImageStore, PullError, RegistryClient, RegistryServer
from kubeloop.net.registry.build import architecture
from kubeloop.net.registry.store import OCI_INDEX, OCI_MANIFEST

EXAMPLE = Path(__file__).parents[3] / "examples" / "mc-user"
NAME = "rainbow/mc-user:1.0.RELEASE"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[RegistryServer]:
    server = RegistryServer(ImageStore(tmp_path / "store"), writable=True)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def client(registry: RegistryServer) -> AsyncIterator[RegistryClient]:
    client = RegistryClient(registry.url, upstream=False)
    yield client
    await client.close()


async def download(client: RegistryClient, image: Any, number: int = 0) -> bytes:
    to = io.BytesIO()
    await client.download(image.name, image.layers[number], to)
    return to.getvalue()


async def test_what_is_built_can_be_pulled_at_once(
    registry: RegistryServer, client: RegistryClient
) -> None:
    with pytest.raises(PullError, match=r"docker.io/rainbow/mc-user:1.0.RELEASE: not found"):
        await client.fetch(NAME)
    built = ImageStore(registry.store.path).build(EXAMPLE, NAME)
    image = await client.fetch(NAME)
    assert (image.name, image.digest) == (built.name, built.digest)
    assert image.config["config"]["WorkingDir"] == "/app"
    path = registry.store.blob(image.layers[0].digest)
    assert path is not None and await download(client, image) == path.read_bytes()
    by_digest = await client.fetch(f"rainbow/mc-user@{built.digest}")
    assert by_digest.digest == built.digest


async def test_names_of_other_domains_are_told_apart(
    registry: RegistryServer, client: RegistryClient
) -> None:
    registry.store.build(EXAMPLE, "quay.io/rainbow/mc-user:1")
    assert (await client.fetch("quay.io/rainbow/mc-user:1")).name == "quay.io/rainbow/mc-user:1"
    with pytest.raises(PullError):
        await client.fetch("rainbow/mc-user:1")


async def test_the_protocol_as_tools_use_it(registry: RegistryServer) -> None:
    registry.store.build(EXAMPLE, NAME)
    async with aiohttp.ClientSession(registry.url) as session:
        async with session.get("/v2/") as answer:
            assert answer.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        async with session.get("/v2/rainbow/mc-user/tags/list") as answer:
            assert await answer.json() == {"name": "rainbow/mc-user", "tags": ["1.0.RELEASE"]}
        async with session.get("/v2/_catalog") as answer:
            assert await answer.json() == {"repositories": ["rainbow/mc-user"]}
        async with session.head("/v2/rainbow/mc-user/manifests/1.0.RELEASE") as answer:
            digest = answer.headers["Docker-Content-Digest"]
            assert answer.headers["Content-Type"] == OCI_MANIFEST
        async with session.get(f"/v2/rainbow/mc-user/manifests/{digest}") as answer:
            layer = (await answer.json())["layers"][0]
        part = {"Range": "bytes=0-9"}
        async with session.get(f"/v2/x/blobs/{layer['digest']}", headers=part) as answer:
            assert (answer.status, len(await answer.read())) == (206, 10)


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/rainbow/nope/manifests/latest", 404, "MANIFEST_UNKNOWN"),
        ("/v2/rainbow/nope/tags/list", 404, "NAME_UNKNOWN"),
        ("/v2/a/manifests/a@b", 400, "NAME_INVALID"),
        ("/v2/A/manifests/latest", 400, "NAME_INVALID"),
        ("/v2/a/blobs/sha256:" + "0" * 64, 404, "BLOB_UNKNOWN"),
        ("/v2/a/blobs/..%2f..%2findex.json", 404, "BLOB_UNKNOWN"),
    ],
)
async def test_refusals_are_those_of_the_specification(
    registry: RegistryServer, path: str, status: int, code: str
) -> None:
    async with aiohttp.ClientSession() as session:
        url = registry.url + path
        async with session.get(URL(url, encoded=True)) as answer:
            assert answer.status == status
            assert (await answer.json())["errors"][0]["code"] == code


async def test_what_is_pushed_can_be_pulled(
    registry: RegistryServer, client: RegistryClient, tmp_path: Path
) -> None:
    source = ImageStore(tmp_path / "source")
    built = source.build(EXAMPLE, NAME)
    document = source.read_json(built.digest)
    async with aiohttp.ClientSession(registry.url) as session:
        raw = source.read(built.digest)
        async with session.put("/v2/pushed/manifests/1", data=raw) as answer:
            assert (answer.status, await _code(answer)) == (404, "MANIFEST_BLOB_UNKNOWN")
        for part in (document["config"], *document["layers"]):
            path = source.blob(part["digest"])
            assert path is not None
            content = path.read_bytes()
            async with session.post("/v2/pushed/blobs/uploads/") as answer:
                place = answer.headers["Location"]
            async with session.patch(place, data=content[:100]) as answer:
                assert (answer.status, answer.headers["Range"]) == (202, "0-99")
            query = {"digest": part["digest"]}
            async with session.put(place, params=query, data=content[100:]) as answer:
                assert answer.status == 201
        async with session.put("/v2/pushed/manifests/1", data=raw) as answer:
            assert answer.status == 201
        async with session.post("/v2/pushed/blobs/uploads/") as answer:
            place = answer.headers["Location"]
        wrong = {"digest": "sha256:" + "0" * 64}
        async with session.put(place, params=wrong, data=b"x") as answer:
            assert (answer.status, await _code(answer)) == (400, "DIGEST_INVALID")
    assert (await client.fetch("pushed:1")).digest == built.digest


async def test_a_registry_is_read_only_unless_told_otherwise(tmp_path: Path) -> None:
    server = RegistryServer(ImageStore(tmp_path))
    await server.start()
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post("/v2/a/blobs/uploads/") as answer,
    ):
        assert (answer.status, await _code(answer)) == (405, "UNSUPPORTED")
    await server.stop()


async def _code(answer: aiohttp.ClientResponse) -> str:
    code: str = (await answer.json())["errors"][0]["code"]
    return code


# Against registries of others.


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Fake:
    """A registry that answers what a test wants, and may ask for a token."""

    def __init__(self) -> None:
        self.paths: dict[str, tuple[bytes, str]] = {}
        self.asked: list[tuple[str, str]] = []
        self.challenge = ""
        self.url = ""

    def put(self, path: str, content: bytes, kind: str = "application/octet-stream") -> str:
        self.paths[f"/v2/{path}"] = (content, kind)
        return digest_of(content)

    def image(self, **changes: Any) -> str:
        layer = self.put("a/blobs/layer", b"layer")
        self.put(f"a/blobs/{layer}", b"layer")
        config = json.dumps({"rootfs": {"diff_ids": [layer]}}).encode()
        self.put(f"a/blobs/{digest_of(config)}", config)
        parts = [{"mediaType": "x.tar", "digest": layer, "size": 5, **changes.pop("layer", {})}]
        document = {
            "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": parts,
            "config": {"digest": digest_of(config)}, **changes,
        }  # fmt: skip
        raw = json.dumps(document).encode()
        self.put(f"a/manifests/{digest_of(raw)}", raw, OCI_MANIFEST)
        return self.put("a/manifests/1", raw, OCI_MANIFEST)

    async def answer(self, request: web.Request) -> web.Response:
        authorization = request.headers.get("Authorization", "")
        self.asked.append((request.path, authorization))
        if request.path == "/token":
            assert request.query["scope"] == "repository:a:pull"
            return web.json_response({"token": "secret"})
        if self.challenge and authorization not in ("Bearer secret", "Basic dXNlcjpwYXNz"):
            headers = {"WWW-Authenticate": self.challenge.format(url=self.url)}
            return web.Response(status=401, headers=headers)
        content, kind = self.paths.get(request.path, (b"", ""))
        if not kind:
            return web.Response(status=404)
        return web.Response(body=content, headers={"Content-Type": kind})


@asynccontextmanager
async def serving(fake: Fake) -> AsyncIterator[tuple[RegistryClient, str]]:
    """Serve `fake`; give a client without a mirror, and what the image is called."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", fake.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    fake.url = f"http://127.0.0.1:{port}"
    domain = f"127.0.0.1:{port}"
    client = RegistryClient(credentials={domain: ("user", "pass")})
    try:
        yield client, f"{domain}/a:1"
    finally:
        await client.close()
        await runner.cleanup()


async def test_a_token_is_fetched_once_when_it_is_asked_for() -> None:
    fake = Fake()
    fake.image()
    fake.challenge = 'Bearer realm="{url}/token",service="x",scope="repository:a:pull"'
    async with serving(fake) as (client, name):
        image = await client.fetch(name)
        assert await download(client, image) == b"layer"
    assert [path for path, _ in fake.asked].count("/token") == 1
    assert dict(fake.asked)["/token"].startswith("Basic ")


async def test_a_login_is_used_when_it_is_asked_for() -> None:
    fake = Fake()
    fake.image()
    fake.challenge = "Basic"
    async with serving(fake) as (client, name):
        await client.fetch(name)
        client.credentials.clear()
        client._tokens.clear()
        with pytest.raises(PullError, match="wants a login"):
            await client.fetch(name)


async def test_the_part_of_an_index_for_this_machine_is_taken() -> None:
    fake = Fake()
    inner = fake.image()

    def index(*machines: str) -> str:
        entries = [
            {"digest": inner, "platform": {"os": "linux", "architecture": m}} for m in machines
        ]
        raw = json.dumps({"mediaType": OCI_INDEX, "manifests": entries}).encode()
        return fake.put("a/manifests/1", raw, OCI_INDEX)

    async with serving(fake) as (client, name):
        outer = index("vax", architecture())
        assert (await client.fetch(name)).digest == outer
        index("vax")
        with pytest.raises(PullError, match="no match for platform linux/"):
            await client.fetch(name)


Damage = Callable[[Fake], object]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: f.put("a/manifests/1", b"{", OCI_MANIFEST), "is no JSON"),
        (lambda f: f.put("a/manifests/1", b"[]", OCI_MANIFEST), "is no JSON object"),
        (lambda f: f.put("a/manifests/1", b"x" * (5 << 20), OCI_MANIFEST), "answers more than"),
        (lambda f: f.image(schemaVersion=1), "schema 1"),
        (lambda f: f.image(config={"digest": digest_of(b"layer")}), "is no JSON"),
        (lambda f: f.image(config={}), "a part without digest"),
        (lambda f: f.image(layers=[]), "0 layers, but digests for 1"),
        (lambda f: f.image(layer={"mediaType": "x.tar+zstd"}), "zstd"),
        (lambda f: f.image(layer={"mediaType": "x.zip"}), "x.zip is not supported"),
        (lambda f: f.image(layer={"size": 4}), "bytes came where 4 were announced"),
        (lambda f: f.image(layer={"size": 6}), "5 bytes came where 6"),
        (lambda f: f.put(f"a/blobs/{digest_of(b'layer')}", b"LAYER"), "is damaged: it is sha256:"),
    ],
)
async def test_what_is_damaged_is_refused(damage: Damage, message: str) -> None:
    fake = Fake()
    fake.image()
    damage(fake)
    async with serving(fake) as (client, name):
        with pytest.raises(PullError, match=message):
            await download(client, await client.fetch(name))


async def test_a_registry_that_is_away_is_named() -> None:
    client = RegistryClient("http://127.0.0.1:1", upstream=False)
    with pytest.raises(PullError, match=r"cannot reach http://127.0.0.1:1: .*"):
        await client.fetch("a:1")
    await client.close()
    with pytest.raises(PullError, match="--registry"):
        await RegistryClient(upstream=False).fetch("a:1")
