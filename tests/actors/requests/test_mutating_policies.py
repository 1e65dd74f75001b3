"""MutatingAdmissionPolicies: what they make of objects, and in which words they fail."""

from typing import Any

import pytest
from policy_server import Heeding, Json, policy, rule
from request_server import config, deployment

pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

BY = "policy 'p' with binding 'b' denied request: "
DEPLOYMENTS = "deployments.apps"
ABOUT: Json = {"resourceRules": [rule("deployments", group="apps")]}
TEMPLATE = "Object.spec.template"
CONTAINERS = f"{TEMPLATE}.spec.containers"


def apply(expression: str) -> Json:
    """Return a mutation by a configuration."""
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}


def patch(expression: str) -> Json:
    """Return a mutation by a JSON patch."""
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def within(containers: str) -> str:
    """Return a configuration of the containers of a template."""
    return (
        f"Object{{spec: Object.spec{{template: {TEMPLATE}{{spec: {TEMPLATE}.spec{{"
        f"containers: [{containers}]}}}}}}}}"
    )


def made(*mutations: Json, **spec: Any) -> Json:
    """Return a Deployment as a policy makes it."""
    server = Heeding()
    about = {"matchConstraints": ABOUT, **spec}
    server.policy(kind="Mutating", mutations=[*mutations], **about)
    created: Json = server.create(deployment())
    return created


def names(obj: Json) -> list[tuple[str, str]]:
    return [(one["name"], one["image"]) for one in obj["spec"]["template"]["spec"]["containers"]]


def test_a_configuration_is_merged() -> None:
    obj = made(apply("Object{spec: Object.spec{replicas: object.spec.replicas + 4}}"))
    assert obj["spec"]["replicas"] == 5
    obj = made(apply(within(f"{CONTAINERS}{{name: 'side', image: 's'}}")))
    assert names(obj) == [("c", "b"), ("side", "s")]
    side = obj["spec"]["template"]["spec"]["containers"][1]
    assert side["imagePullPolicy"] == "Always", "what is added gets its defaults"
    assert names(made(apply(within(f"{CONTAINERS}{{name: 'c', image: 'x'}}")))) == [("c", "x")]
    labels = "Object{metadata: Object.metadata{labels: Object.metadata.labels{a: 'b'}}}"
    assert made(apply(labels))["metadata"]["labels"] == {"a": "b"}
    maps = "Object{metadata: Object.metadata{labels: {'a/b': 'c', ?'n': optional.none()}}}"
    assert made(apply(maps))["metadata"]["labels"] == {"a/b": "c"}


def test_a_json_patch_is_applied() -> None:
    obj = made(
        patch(
            "[JSONPatch{op: 'test', path: '/spec/replicas', value: 1}, "
            "JSONPatch{op: 'add', path: '/metadata/labels', value: {}}, "
            "JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), "
            "value: 'x'}]"
        ),
        patch(
            "[JSONPatch{op: 'add', path: '/spec/template/spec/containers/-', "
            f"value: {CONTAINERS}{{name: 'side', image: 's'}}}},]"
        ),
    )
    assert obj["metadata"]["labels"] == {"a/b": "x"}
    assert names(obj) == [("c", "b"), ("side", "s")]


def test_mutations_follow_one_another() -> None:
    obj = made(
        apply("Object{spec: Object.spec{replicas: object.spec.replicas + variables.more}}"),
        patch("[JSONPatch{op: 'replace', path: '/spec/replicas', value: object.spec.replicas*2}]"),
        variables=[{"name": "more", "expression": "10"}],
    )
    assert obj["spec"]["replicas"] == 22


@pytest.mark.parametrize(
    ("mutation", "why"),
    [
        (apply("Object{spec: Object.spec{replicasx: 1}}"),
         "error applying patch: failed to convert patch object to typed object: .spec.replicasx: "
         "field not declared in schema"),
        (apply("Object{spec: Object.specx{replicas: 1}}"),
         'type mismatch: unexpected type name "Object.specx", expected "Object.spec", which '
         "matches field name path from root Object type"),
        (apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {}}}}"),
         "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or "
         "structs: .spec.selector"),
        (apply(within(f"{CONTAINERS}{{name: 'c', args: ['x']}}")),
         "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or "
         "structs: .spec.template.spec.containers[0].args"),
        (apply("true ? Object.spec{} : Object.spec{}"),
         "must evaluate to Object but got Object.spec"),
        (apply("Object{spec: object.gone}"), "resulted in error: no such key: gone"),
        (patch("[JSONPatch{op: 'add', path: '/spec', value: Object.spec{x: Object.y{}}}]"),
         'type mismatch: unexpected type name "Object.y", expected "Object.spec.x"'),
        (patch("[JSONPatch{op: 'remove', path: '/metadata/gone'}]"), "JSON Patch: "),
        (patch("[JSONPatch{op: 'add', path: '/spec/replicasx', value: 1}]"),
         'strict decoding error: unknown field "spec.replicasx"'),
        (patch("[JSONPatch{op: 'replace', path: '/metadata/name', value: 'x'}]"),
         "a policy changed metadata.name"),
        (patch("[{'op': 'add'}]"), "type mismatch: JSONPatchType.op: expected JSONPatch"),
        (patch("[JSONPatch{op: 'add', path: '/spec/replicas', value: duration('1s')}]"),
         "cannot be put into an object"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
def test_what_fails(mutation: Json, why: str, failure: str) -> None:
    server = Heeding()
    spec = {"matchConstraints": ABOUT, "failurePolicy": failure}
    server.policy(kind="Mutating", mutations=[mutation], **spec)
    if failure == "Ignore":
        assert server.create(deployment())["spec"]["replicas"] == 1
        return
    told = server.refused("create", DEPLOYMENTS, body=deployment())
    assert told["message"].startswith(f'deployments.apps "d" is forbidden: {BY}')
    assert why in told["message"]
    assert (told["code"], told["reason"]) == (403, "Invalid")


def test_what_a_policy_makes_is_validated() -> None:
    server = Heeding()
    broken = apply("Object{spec: Object.spec{replicas: -1}}")
    server.policy(kind="Mutating", mutations=[broken], matchConstraints=ABOUT)
    told = server.refused("create", DEPLOYMENTS, body=deployment())
    assert told["code"] == 422 and "spec.replicas: Invalid value: -1" in told["message"]


def test_conditions_and_parameters_choose() -> None:
    server = Heeding()
    for name, value in (("one", "x"), ("two", "y")):
        obj = config(name, add=value)
        obj["metadata"]["labels"] = {"for": "p"}
        server.create(obj)
    text = "Object{metadata: Object.metadata{labels: {params.data.add: 'yes'}}}"
    server.policy(
        kind="Mutating",
        mutations=[apply(text)],
        matchConditions=[{"name": "c", "expression": "object.metadata.name == 'c'"}],
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        binding={
            "paramRef": {
                "selector": {"matchLabels": {"for": "p"}},
                "parameterNotFoundAction": "Deny",
            }
        },
    )
    assert server.create(config("c"))["metadata"]["labels"] == {"x": "yes", "y": "yes"}
    assert "labels" not in server.create(config("d"))["metadata"]


@pytest.mark.parametrize(("again", "seen"), [("IfNeeded", "2"), ("Never", "1")])
def test_a_policy_may_see_what_others_change_after_it(again: str, seen: str) -> None:
    server = Heeding()
    count = "has(object.data) && has(object.data.b) ? '2' : '1'"
    told = policy(
        "Mutating",
        mutations=[apply(f"Object{{data: Object.data{{a: {count}}}}}")],
        reinvocationPolicy=again,
    )
    later = policy("Mutating", mutations=[apply("Object{data: Object.data{b: 'x'}}")])
    server.create(told)
    server.create({**later, "metadata": {"name": "q"}})
    for name in ("p", "q"):
        kind = "MutatingAdmissionPolicyBinding"
        spec = {"policyName": name}
        server.create({**told, "kind": kind, "metadata": {"name": name}, "spec": spec})
    assert server.create(config())["data"] == {"a": seen, "b": "x"}


@pytest.mark.parametrize(
    ("mutation", "says"),
    [
        (apply("'teapot'"), "must evaluate to Object but got string"),
        (apply("Object.spec.metadata{}"), "must evaluate to Object but got Object.spec.metadata"),
        (apply("Object{spec: x}"), "compilation failed: ERROR: "),
        (patch("1 < 2"), "must evaluate to list(JSONPatch) but got bool"),
        (patch("[JSONPatch{opp: 'add'}]"), "compilation failed: undefined field 'opp'"),
        ({"patchType": "JSONPatch"}, "must be specified when patchType is JSONPatch"),
        ({**apply("Object{}"), **patch("[]")}, "must not be specified when patchType is JSONPatch"),
        ({"patchType": "X"}, 'supported values: "ApplyConfiguration", "JSONPatch"'),
    ],
)
def test_what_is_wrong_with_a_policy(mutation: Json, says: str) -> None:
    plural = "mutatingadmissionpolicies.admissionregistration.k8s.io"
    obj = policy("Mutating", mutations=[mutation])
    told = Heeding().refused("create", plural, body=obj, namespace="")
    assert told["code"] == 422 and says in told["message"]
