"""OpenAPI: complete, consistent, cheap the second time, and what the real kubectl needs."""

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from kubeloop.api.errors import PathNotFound
from kubeloop.api.openapi import v2_document, v3_document, v3_index
from kubeloop.api.openapi_schemas import schemas
from kubeloop.api.resources import GROUP_VERSIONS, RESOURCES, Resource

KUBECTL = Path(__file__).parents[2] / ".venv" / "bin" / "kubectl"
V3_PLACES = sorted(v3_index()["paths"])


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for member in value:
            yield from references(member)


@pytest.mark.parametrize("place", V3_PLACES)
def test_a_v3_document_refers_only_to_what_it_has(place: str) -> None:
    document = v3_document(place)
    have = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= have


def test_the_v2_document_refers_only_to_what_it_has() -> None:
    document = v2_document()
    have = {f"#/definitions/{name}" for name in document["definitions"]}
    assert set(references(document)) <= have


def test_the_index_names_every_group_and_version_by_its_hash() -> None:
    assert len(V3_PLACES) == len(GROUP_VERSIONS)
    for place, told in v3_index()["paths"].items():
        url = urlsplit(told["serverRelativeURL"])
        assert url.path == f"/openapi/v3/{place}"
        assert url.query.startswith("hash=") and len(url.query) == len("hash=") + 128


def test_an_unknown_document_is_not_found() -> None:
    with pytest.raises(PathNotFound):
        v3_document("apis/nope/v1")


def test_documents_are_made_once() -> None:
    assert v3_index() is v3_index()
    assert v3_document("api/v1") is v3_document("api/v1")
    assert v2_document() is v2_document()


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=str)
def test_kubectl_finds_that_the_server_validates(resource: Resource) -> None:
    """It looks for a PATCH of the kind with `fieldValidation`, in all paths of the document."""
    place = f"apis/{resource.group}/{resource.version}" if resource.group else "api/v1"
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    patches = [
        item["patch"]
        for item in v3_document(place)["paths"].values()
        if "patch" in item and item["patch"]["x-kubernetes-group-version-kind"] == kind
    ]
    assert patches
    for patch in patches:
        assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
        assert "application/strategic-merge-patch+json" in patch["requestBody"]["content"]


def test_operation_ids_are_unique() -> None:
    ids = [
        operation["operationId"]
        for item in v2_document()["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))


def test_schemas_carry_the_facts_of_patches() -> None:
    name = "io.k8s.api.core.v1.PodSpec"
    made = schemas([name], v3=True)[name]["properties"]
    assert made["containers"]["x-kubernetes-patch-merge-key"] == "name"
    assert made["containers"]["x-kubernetes-list-map-keys"] == ["name"]
    assert made["volumes"]["x-kubernetes-patch-strategy"] == "merge,retainKeys"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Serve discovery and OpenAPI, as static documents, to the real kubectl."""
    documents = {"/api": {"kind": "APIVersions", "versions": ["v1"]}, "/apis": _groups()}
    documents["/openapi/v3"] = dict(v3_index())
    for group, version in GROUP_VERSIONS:
        place = f"apis/{group}/{version}" if group else f"api/{version}"
        documents[f"/{place}"] = _resources(group, version)
        documents[f"/openapi/v3/{place}"] = dict(v3_document(place))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = documents.get(urlsplit(self.path).path)
            body = json.dumps(document).encode()
            self.send_response(404 if document is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def _groups() -> dict[str, Any]:
    groups = []
    for group, version in GROUP_VERSIONS:
        told = {"groupVersion": f"{group}/{version}", "version": version}
        if group:
            groups.append({"name": group, "versions": [told], "preferredVersion": told})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def _resources(group: str, version: str) -> dict[str, Any]:
    return {
        "kind": "APIResourceList",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [
            {
                "name": r.plural,
                "singularName": r.singular,
                "namespaced": r.namespaced,
                "kind": r.kind,
                "verbs": list(r.verbs),
                "shortNames": list(r.short_names),
            }
            for r in RESOURCES.values()
            if (r.group, r.version) == (group, version)
        ],
    }


def explain(server: str, home: Path, *arguments: str) -> str:
    command = [KUBECTL, "explain", f"--server={server}", f"--cache-dir={home}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


@pytest.mark.kubectl
@pytest.mark.skipif(not KUBECTL.exists(), reason="the kubectl wheel is not installed")
def test_kubectl_explains(server: str, tmp_path: Path) -> None:
    told = explain(server, tmp_path, "pod.spec.containers")
    assert "KIND:       Pod" in told
    assert "FIELD: containers <[]Container>" in told
    assert "List of containers belonging to the pod" in told
    assert "imagePullPolicy\t<string>" in told
    assert "-required-" in told

    told = explain(server, tmp_path, "deployment", "--recursive")
    assert "GROUP:      apps" in told
    assert "maxSurge\t<IntOrString>" in told
    assert "limits\t<map[string]Quantity>" in told


@pytest.mark.kubectl
@pytest.mark.skipif(not KUBECTL.exists(), reason="the kubectl wheel is not installed")
@pytest.mark.parametrize("name", sorted(RESOURCES))
def test_kubectl_explains_every_kind(server: str, tmp_path: Path, name: str) -> None:
    row = RESOURCES[name]
    if row.kept_as:  # kubectl takes its name for a field of the kind it shares it with.
        name = f"{row.plural} --api-version={row.api_version}"
    assert f"KIND:       {row.kind}" in explain(server, tmp_path, *name.split())
