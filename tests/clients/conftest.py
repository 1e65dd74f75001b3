"""One cluster for the tests that only need a namespace of it."""

import re
from collections.abc import Iterator

import pytest
from kubectl_tool import Kubectl

from kubeloop.actors.runtimes.simulated import Script
from kubeloop.sync import SyncCluster

IMAGES = {"missing:1": Script(pull_error="manifest unknown")}


@pytest.fixture(scope="session")
def shared_cluster() -> Iterator[SyncCluster]:
    with SyncCluster(nodes=2, rest=True, tls=True, images=IMAGES) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def whole(shared_cluster: SyncCluster, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """kubectl in the default namespace."""
    directory = tmp_path_factory.mktemp("kubectl")
    (directory / "config").write_text(shared_cluster.config_yaml())
    return Kubectl(directory)


@pytest.fixture
def kubectl(whole: Kubectl, request: pytest.FixtureRequest) -> Iterator[Kubectl]:
    """kubectl in a namespace made for this test."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:60]
    name = name.strip("-")
    whole(f"create namespace {name}")
    yield Kubectl(whole.directory, name)
    whole(f"delete namespace {name} --wait=false")
