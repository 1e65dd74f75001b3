"""Server-side apply, and who manages what: case by case, and properties of any sequence."""

from typing import Any

import msgpack
import pytest
from apply_cases import CASES, Case, Step
from request_server import Server

from kubeloop.actors.requests.state import Object
from kubeloop.api.managed.sets import paths

DEFINITION = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "things.x.io"},
    "spec": {
        "group": "x.io",
        "scope": "Namespaced",
        "names": {"kind": "Thing", "plural": "things"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {}},
            }
        ],
    },
}
_TEXT = {"type": "string"}
_PAIR = {"k": _TEXT, "v": _TEXT}
SPEC: dict[str, Any] = {
    "a": _TEXT,
    "size": {"type": "integer", "default": 3},
    "keyed": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "required": ["k"], "properties": _PAIR},
    },
    "defaulted": {
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"],
        "items": {
            "type": "object",
            "properties": {"k": {"type": "string", "default": "d"}, "v": _TEXT},
        },
    },
    "set": {"type": "array", "x-kubernetes-list-type": "set", "items": _TEXT},
    "plain": {"type": "array", "items": _TEXT},
    "atomic": {
        "type": "object",
        "x-kubernetes-map-type": "atomic",
        "additionalProperties": _TEXT,
    },
    "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    "either": {"x-kubernetes-int-or-string": True},
}
KINDS = {
    "ConfigMap": ("v1", "configmaps"),
    "Secret": ("v1", "secrets"),
    "Service": ("v1", "services"),
    "Deployment": ("apps/v1", "deployments.apps"),
    "Thing": ("x.io/v1", "things.x.io"),
}


def server_for(kind: str) -> Server:
    server = Server()
    if kind == "Thing":
        _define(server)
    return server


def _define(server: Server) -> None:
    """Define Thing, and accept its names, as the controller does."""
    definition = msgpack.unpackb(msgpack.packb(DEFINITION))
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = {
        "type": "object",
        "properties": {
            "spec": {"type": "object", "properties": SPEC},
            "status": {"type": "object", "properties": {"ready": {"type": "boolean"}}},
        },
    }
    server.create(definition)
    status = {
        "acceptedNames": {"kind": "Thing", "plural": "things"},
        "storedVersions": ["v1"],
        "conditions": [
            {"type": kind, "status": "True", "reason": "x", "message": "x"}
            for kind in ("NamesAccepted", "Established")
        ],
    }
    server.ok(
        "patch",
        "customresourcedefinitions.apiextensions.k8s.io",
        "things.x.io",
        {"status": status},
        namespace="",
        subresource="status",
        patchType="merge",
    )


def do(server: Server, kind: str, step: Step) -> tuple[int, Any]:
    """Do a step; return code and body of its outcome."""
    server.now += 1
    version, resource = KINDS[kind]
    metadata = {"name": "x", **step.body.get("metadata", {})}
    body = {"apiVersion": version, "kind": kind, **step.body, "metadata": metadata}
    options: dict[str, Any] = {"fieldManager": step.manager}
    verb, name = "patch", "x"
    match step.how:
        case "apply" | "force":
            options["patchType"] = "apply"
            if step.how == "force":
                options["force"] = True
        case "merge":
            options["patchType"], body = "merge", step.body
        case "create":
            verb, name = "create", ""
    outcome = server.ask(verb, resource, name, body, subresource=step.subresource, **options)
    return outcome.code, msgpack.unpackb(outcome.body)


def managers_of(obj: Object) -> dict[str, str]:
    """Return who manages what, as the cases tell it."""
    found = {}
    for entry in obj["metadata"].get("managedFields", ()):
        words = [entry["manager"], entry["operation"], entry.get("subresource", "")]
        called = "/".join(word for word in words if word).removesuffix("/Apply")
        found[called] = " ".join(sorted(paths(entry["fieldsV1"])))
    return found


def value_at(obj: Object, path: str) -> Any:
    """Return what is at a dotted path; and some looks at containers."""
    if path in _LOOKS:
        return _LOOKS[path](obj["spec"]["template"]["spec"])
    found: Any = obj
    for step in path.split("."):
        found = found.get(step) if isinstance(found, dict) else None
    return found


_LOOKS: dict[str, Any] = {
    "names": lambda spec: [one["name"] for one in spec["containers"]],
    "ttys": lambda spec: [one.get("tty") for one in spec["containers"]],
    "sources": lambda spec: [sorted(one) for one in spec["volumes"]],
}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    server = server_for(case.kind)
    for step in case.steps:
        code, body = do(server, case.kind, step)
        assert code == step.code or (step.code == 0 and code < 300), body
    if case.told:
        assert body["message"] == case.told
    if case.managers or case.has or not case.told:
        obj = server.ok("get", KINDS[case.kind][1], "x")
        wanted = {name: " ".join(sorted(told.split())) for name, told in case.managers.items()}
        if case.managers or not case.has:
            assert managers_of(obj) == wanted
        assert {path: value_at(obj, path) for path in case.has} == case.has


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 60
    assert len({case.name for case in CASES}) == len(CASES)
