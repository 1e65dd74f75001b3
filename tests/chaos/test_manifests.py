"""Drawn manifests are what the API server takes as they are, whatever kind they are of."""

import copy
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from kubeloop import chaos
from kubeloop.api.resources import RESOURCES
from tests.actors.requests.request_server import Server

KINDS = sorted(RESOURCES)
Json = dict[str, Any]


def kept(given_: Any, stored: Any, path: str = "") -> list[str]:
    """Return where something that was given is not stored. Quantities have many spellings."""
    if isinstance(given_, dict) and isinstance(stored, dict):
        return [
            lost
            for key, value in given_.items()
            if value not in ({}, [], "", None)
            for lost in kept(value, stored.get(key), f"{path}.{key}")
        ]
    if isinstance(given_, list) and isinstance(stored, list) and len(given_) <= len(stored):
        return [lost for n, v in enumerate(given_) for lost in kept(v, stored[n], f"{path}[{n}]")]
    return [] if given_ == stored else [f"{path}: {given_!r} became {stored!r}"]


@pytest.mark.parametrize("id_", KINDS)
def test_the_api_server_takes_them_keeps_them_and_changes_nothing_again(id_: str) -> None:
    resource = RESOURCES[id_]

    @settings(max_examples=15, suppress_health_check=list(HealthCheck))
    @given(chaos.manifests(id_))
    def check(manifest: Json) -> None:
        server, sent = Server(), copy.deepcopy(manifest)
        where = {"namespace": "default" if resource.namespaced else ""}
        outcome = server.ask("create", id_, "", sent, fieldValidation="Strict", **where)
        made = msgpack.unpackb(outcome.body)
        assert outcome.code == 201, made
        known = {k: v for k, v in manifest.items() if k not in ("stringData", "status")}
        assert kept(known, made) == []
        revision = server.store.revision
        again = server.ok("update", id_, made["metadata"]["name"], copy.deepcopy(made), **where)
        assert again == made and server.store.revision == revision
        assert made["kind"] == resource.kind

    check()


@pytest.mark.parametrize("id_", KINDS)
def test_they_shrink_to_little(id_: str) -> None:
    least = find(
        chaos.manifests(id_),
        lambda _: True,
        settings=settings(phases=[Phase.generate, Phase.shrink]),
    )
    bytes_max = 560 if "request" in least.get("spec", {}) else 420  # A key takes its room.
    assert len(msgpack.packb(least)) < bytes_max, least
    assert list(least)[:3] == ["apiVersion", "kind", "metadata"]


def test_what_may_be_there_is_there_at_times() -> None:
    seen: set[str] = set()

    @settings(max_examples=100, suppress_health_check=list(HealthCheck))
    @given(chaos.manifests("Deployment"))
    def look(manifest: Json) -> None:
        pod = manifest["spec"]["template"]["spec"]
        seen.update(manifest["spec"], pod, *pod["containers"], *(pod.get("volumes") or ()))

    look()
    wanted = {"replicas", "strategy", "minReadySeconds", "paused", "affinity", "tolerations"}
    wanted |= {"readinessProbe", "env", "ports", "resources", "volumeMounts", "lifecycle"}
    wanted |= {"initContainers", "configMap", "emptyDir", "secret", "nodeSelector"}
    assert wanted <= seen


def test_a_name_and_a_namespace_may_be_told() -> None:
    @settings(max_examples=5)
    @given(chaos.manifests("po", name="p", namespace="n"))
    def check(manifest: Json) -> None:
        assert (manifest["metadata"]["name"], manifest["metadata"]["namespace"]) == ("p", "n")

    check()
    with pytest.raises(LookupError, match="doesn't have a resource type"):
        chaos.manifests("nonsense")


PROPERTIES: Json = {
    "text": {"type": "string", "maxLength": 5, "minLength": 1},
    "colour": {"type": "string", "enum": ["red", "blue"]},
    "pattern": {"type": "string", "pattern": "^[a-c]{1,3}$"},
    "count": {"type": "integer", "minimum": 2, "maximum": 9, "default": 4, "multipleOf": 2},
    "ratio": {"type": "number", "minimum": 0, "maximum": 1},
    "when": {"type": "string", "format": "date-time"},
    "either": {"x-kubernetes-int-or-string": True},
    "map": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32"}},
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "pod": {"type": "object", "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True},
    "set": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    "list": {"type": "array", "minItems": 1, "x-kubernetes-list-type": "map",
             "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "required": ["k"],
             "properties": {"k": {"type": "string"}, "v": {"type": "boolean"}}}},
}  # fmt: skip


def definition(spec: Json) -> Json:
    told = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": told}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.a.example"},
        "spec": {"group": "a.example", "scope": "Namespaced", "versions": [version],
                 "names": {"plural": "foos", "kind": "Foo"}},
    }  # fmt: skip


schemas = st.builds(
    lambda names, required: {
        "type": "object",
        "properties": {name: PROPERTIES[name] for name in names},
        "required": [name for name in names if name in required],
    },
    st.lists(st.sampled_from(sorted(PROPERTIES)), unique=True),
    st.sets(st.sampled_from(sorted(PROPERTIES))),
)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(schemas, st.data())
def test_of_a_custom_kind_they_are_what_its_schema_says(spec: Json, data: st.DataObject) -> None:
    told = definition(spec)
    drawn = data.draw(chaos.manifests(told))
    server = Server()
    made = server.create(told)
    made["status"] |= {
        "acceptedNames": made["spec"]["names"],
        "conditions": [{"type": "Established", "status": "True"}],
    }
    id_ = "customresourcedefinitions.apiextensions.k8s.io"
    server.ok("update", id_, "foos.a.example", made, namespace="", subresource="status")
    outcome = server.ask("create", "foos.a.example", "", drawn, fieldValidation="Strict")
    stored = msgpack.unpackb(outcome.body)
    assert outcome.code == 201, stored
    assert kept(drawn, stored) == []


def test_rules_are_kept() -> None:
    rule = {"rule": "self.count > 3"}
    spec = {
        "type": "object",
        "required": ["count"],
        "properties": {"count": PROPERTIES["count"]},
        "x-kubernetes-validations": [rule],
    }

    @settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(chaos.manifests(definition(spec)))
    def check(manifest: Json) -> None:
        assert manifest["spec"]["count"] in (4, 6, 8)

    check()
    with pytest.raises(ValueError, match="a definition needs a version that is stored"):
        chaos.manifests({"metadata": {"name": "x"}, "spec": {"versions": []}})
