"""Health in kube-apiserver's words: single checks, exclusions, and what fails."""

import aiohttp
import pytest
from fake_cluster import FakeCluster
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.net.rest.health import CHECKS, HEALTH, all_of, one, paths
from kubeloop.net.rest.server import RestServer

names = st.sampled_from([*CHECKS["readyz"], "nope", 'a"b'])


@given(
    st.sampled_from(HEALTH),
    st.lists(names, max_size=5),
    st.dictionaries(names, st.just("broken"), max_size=3),
    st.booleans(),
)
def test_every_check_has_its_say(
    endpoint: str, excluded: list[str], failing: dict[str, str], verbose: bool
) -> None:
    status, text = all_of(endpoint, excluded, failing, verbose=verbose)
    bad = [check for check in CHECKS[endpoint] if check in failing and check not in excluded]
    assert status == (500 if bad else 200)
    if not verbose and not bad:
        assert text == "ok"
        return
    lines = text.splitlines()
    assert len(lines) == len(CHECKS[endpoint]) + 1 + any(
        name not in CHECKS[endpoint] for name in excluded
    )
    for check, line in zip(CHECKS[endpoint], lines, strict=False):
        if check in excluded:
            assert line == f"[+]{check} excluded: ok"
        elif check in bad:
            assert line == f"[-]{check} failed: reason withheld"
        else:
            assert line == f"[+]{check} ok"
    assert lines[-1] == f"{endpoint} check {'failed' if bad else 'passed'}"
    for check in (*CHECKS[endpoint], "nope"):
        single = one(endpoint, check, failing)
        if check == "nope":
            assert single is None
        else:
            assert single == (
                (500, "internal server error: broken\n") if check in failing else (200, "ok")
            )


@pytest.mark.parametrize(
    ("path", "status", "text"),
    [
        ("/healthz", 200, "ok"),
        ("/livez/ping", 200, "ok"),
        ("/readyz/etcd", 500, "internal server error: full\n"),
        ("/readyz/etcd/", 500, "internal server error: full\n"),
        ("/livez/poststarthook/rbac/bootstrap-roles", 200, "ok"),
        ("/livez/informer-sync", 404, "404 page not found\n"),
        ("/readyz/nope", 404, "404 page not found\n"),
        ("/readyz?exclude=etcd&exclude=ping", 200, "ok"),
    ],
)
async def test_single_checks(
    server: RestServer, backend: FakeCluster, path: str, status: int, text: str
) -> None:
    backend.failures = {"etcd": "full"} if "readyz" in path else {}
    async with aiohttp.ClientSession(server.url) as http, http.get(path) as response:
        assert (response.status, await response.text()) == (status, text)
        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"


async def test_what_fails_is_always_told(server: RestServer, backend: FakeCluster) -> None:
    backend.failures = {"etcd": "full"}
    async with aiohttp.ClientSession(server.url) as http:
        async with http.get("/readyz?exclude=b&exclude=a") as response:
            assert response.status == 500
            lines = (await response.text()).splitlines()
        assert "[-]etcd failed: reason withheld" in lines
        assert lines[-2:] == [
            'warn: some health checks cannot be excluded: no matches for "a","b"',
            "readyz check failed",
        ]


async def test_every_path_is_told_of(server: RestServer, backend: FakeCluster) -> None:
    headers = {"Authorization": "Bearer t"}
    async with aiohttp.ClientSession(server.url, headers=headers) as http:
        for path in paths():
            async with http.get(path) as response:
                assert response.status == 200, path
