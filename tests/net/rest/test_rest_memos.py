"""What the endpoint remembers is forgotten as soon as it is no longer so."""

from typing import Any

import aiohttp
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.cluster import Cluster
from kubeloop.net.rest.quick import Connection

GET = b"GET /api/v1/pods HTTP/1.1\r\nHost: x\r\n\r\n"


def post(body: bytes) -> bytes:
    return b"POST /api/v1/pods HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


bodies = st.lists(st.sampled_from([GET, b"x"]), max_size=3).map(b"".join)
requests = st.lists(st.one_of(st.just(GET), bodies.map(post)), min_size=1, max_size=5)


@given(requests, st.lists(st.integers(1, 200), max_size=8))
def test_a_request_is_looked_for_only_where_one_begins(sent: list[bytes], cuts: list[int]) -> None:
    """What looks like a request within a body is none, however the bytes are cut."""
    stream, ends = b"".join(sent), {0}
    for request in sent:
        ends.add(max(ends) + len(request))
    connection = object.__new__(Connection)
    connection._owed = 0
    at = 0
    for size in [*cuts, len(stream)]:
        piece = stream[at : at + size]
        at += len(piece)
        connection._count(piece)
        if connection._owed == 0:
            assert at in ends


def definition(path: str, *, served: bool = True) -> dict[str, Any]:
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {
        "name": "v1", "served": served, "storage": True, "schema": {"openAPIV3Schema": schema},
        "additionalPrinterColumns": [{"name": "Said", "type": "string", "jsonPath": path}],
    }  # fmt: skip
    other = {**version, "name": "v2", "served": True, "storage": False}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.rec.io"},
        "spec": {
            "group": "rec.io",
            "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo"},
            "versions": [version, other],
        },
    }


FOO = {
    "apiVersion": "rec.io/v1", "kind": "Foo", "metadata": {"name": "f"}, "one": "1", "two": "2",
}  # fmt: skip
FOOS = "/apis/rec.io/v1/namespaces/default/foos"
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


def credentials(cluster: Cluster) -> dict[str, str]:
    token = cluster.kubeconfig["users"][0]["user"]["token"]
    return {"Authorization": f"Bearer {token}"}


async def test_columns_that_change_are_seen_at_once() -> None:
    async with Cluster(nodes=0, rest=True) as cluster:
        await cluster.api.create(definition(".one"))
        await cluster.api.wait("crd/foos.rec.io", "condition=Established")
        await cluster.api.create(FOO)
        async with aiohttp.ClientSession(cluster.url, headers=credentials(cluster)) as session:

            async def said() -> set[str]:
                """Return what a list tells, and a get, that goes the short way."""
                told = []
                for path in (FOOS, f"{FOOS}/f", f"{FOOS}/f"):
                    async with session.get(path, headers=TABLE) as answer:
                        (row,) = (await answer.json())["rows"]
                        told.append(str(row["cells"][1]))
                return set(told)

            assert await said() == {"1"}
            patch = {"spec": {"versions": definition(".two")["spec"]["versions"]}}
            await cluster.api.patch("customresourcedefinitions", "foos.rec.io", patch)
            assert await said() == {"2"}


async def test_a_version_that_is_no_longer_served_is_not_found() -> None:
    async with Cluster(nodes=0, rest=True) as cluster:
        await cluster.api.create(definition(".one"))
        await cluster.api.wait("crd/foos.rec.io", "condition=Established")
        await cluster.api.create(FOO)
        async with aiohttp.ClientSession(cluster.url, headers=credentials(cluster)) as session:
            for _ in range(3):  # The first of a connection goes the long way.
                async with session.get(f"{FOOS}/f") as answer:
                    assert answer.status == 200
                    await answer.read()
            versions = definition(".one", served=False)["spec"]["versions"]
            patch = {"spec": {"versions": versions}}
            await cluster.api.patch("customresourcedefinitions", "foos.rec.io", patch)
            async with session.get(f"{FOOS}/f") as answer:
                assert answer.status == 404
            async with session.get(f"{FOOS.replace('v1', 'v2')}/f") as answer:
                assert answer.status == 200
