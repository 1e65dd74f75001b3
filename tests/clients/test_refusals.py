"""The table of bad manifests, put to a whole server over HTTP: the same words, the same codes."""

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeloop import SyncCluster
from kubeloop.api.resources import BY_KIND

TABLE = Path(__file__).parent.parent / "api" / "bad_manifests"
CASES = [case for path in sorted(TABLE.glob("*.yaml")) for case in yaml.safe_load(path.read_text())]


@pytest.fixture(scope="module")
def cluster() -> Iterator[SyncCluster]:
    with SyncCluster(nodes=0, rest=True) as cluster:
        yield cluster


def send(cluster: SyncCluster, method: str, path: str, body: Any) -> tuple[int, dict[str, Any]]:
    token = cluster.kubeconfig["users"][0]["user"]["token"]
    request = urllib.request.Request(
        f"{cluster.url}{path}?fieldValidation=Strict", json.dumps(body).encode(), method=method
    )
    request.add_header("Authorization", f"Bearer {token}")
    request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def collection(manifest: dict[str, Any]) -> str:
    """Return the path of the collection a manifest belongs to."""
    resource = BY_KIND[manifest["apiVersion"], manifest["kind"]]
    root = f"/apis/{manifest['apiVersion']}" if resource.group else f"/api/{resource.version}"
    metadata = manifest.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, dict) else None
    middle = f"/namespaces/{namespace or 'default'}" if resource.namespaced else ""
    return f"{root}{middle}/{resource.plural}"


def test_there_are_at_least_forty() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize("case", CASES, ids=lambda case: re.sub(r"\W+", "-", case["name"]))
def test_it_is_refused_in_kubernetes_words(cluster: SyncCluster, case: dict[str, Any]) -> None:
    manifest, old = case["manifest"], case.get("update_of")
    path = collection(old or manifest)
    if old is not None:
        send(cluster, "DELETE", f"{path}/{old['metadata']['name']}", {"gracePeriodSeconds": 0})
        code, made = send(cluster, "POST", path, old)
        assert code == 201, made
        code, status = send(cluster, "PUT", f"{path}/{old['metadata']['name']}", manifest)
    else:
        code, status = send(cluster, "POST", path, manifest)
    assert (code, status["code"], status["kind"]) == (case["code"], case["code"], "Status")
    assert status["message"].strip() == case["message"].strip()
