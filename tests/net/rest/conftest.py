"""An endpoint in front of a cluster that is an API server and nothing else."""

import time
from collections.abc import AsyncIterator
from random import getrandbits

import aiohttp
import pytest
from fake_cluster import TOKEN, FakeCluster

from kubeloop.net.rest.server import RestServer


@pytest.fixture
def backend() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
async def server(backend: FakeCluster) -> AsyncIterator[RestServer]:
    server = RestServer(backend, token=TOKEN, wall=time.time, bits=getrandbits)
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def http(server: RestServer) -> AsyncIterator[aiohttp.ClientSession]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        yield session
