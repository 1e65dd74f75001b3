"""ValidatingAdmissionPolicies: which requests they refuse, in which words, and which they leave."""

from typing import Any

import pytest
from policy_server import Heeding, Json, bound, checks, policy, rule
from request_server import config, deployment

pytest.importorskip("cel_expr_python", reason="rules in CEL need kubeloop[cel]")

BY = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: "
MAPS = "configmaps"


def refusal(server: Heeding, obj: Json | None = None, resource: str = MAPS) -> Json:
    return server.refused("create", resource, body=obj or config(k="v"))


def test_a_denial() -> None:
    server = Heeding()
    server.policy(validations=checks("object.data.k == 'w'"))
    told = refusal(server)
    why = f"{BY}failed expression: object.data.k == 'w'"
    assert told["message"] == f'configmaps "c" is forbidden: {why}'
    assert (told["code"], told["reason"]) == (422, "Invalid")
    assert told["details"] == {"name": "c", "kind": "configmaps", "causes": [{"message": why}]}
    server.create(config(k="w"))
    assert server.refused("patch", MAPS, "c", {"data": {"k": "x"}}, patchType="merge")
    server.drop()
    server.ok("patch", MAPS, "c", {"data": {"k": "x"}}, patchType="merge")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("Invalid", 422), ("Forbidden", 403), ("Unauthorized", 401), ("RequestEntityTooLarge", 413)],
)
def test_reasons(reason: str, code: int) -> None:
    server = Heeding()
    server.policy(validations=checks("false", message=" no ", reason=reason))
    told = refusal(server)
    assert (told["code"], told["reason"]) == (code, reason)
    assert told["message"].endswith(f"{BY}no")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"message": "m"}, "m"),
        ({"message": "m", "messageExpression": "'found ' + object.data.k"}, "found v"),
        ({"message": "m", "messageExpression": "string(object.data.gone)"}, "m"),
        ({"message": "m", "messageExpression": "'  '"}, "m"),
        ({"message": "m", "messageExpression": "'a\\nb'"}, "m"),
        ({"messageExpression": "string(object.data.gone)"}, "failed expression: false"),
        ({"messageExpression": "object.data.k.replace('v', 'x')"}, "x"),
    ],
)
def test_messages(more: Json, message: str) -> None:
    server = Heeding()
    server.policy(validations=checks("false", **more))
    assert refusal(server)["message"].endswith(BY + message)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("oldObject == null", True),
        ("request.operation == 'CREATE' && request.name == 'c'", True),
        ("request.namespace == 'default' && request.resource.resource == 'configmaps'", True),
        ("request.kind.kind == 'ConfigMap' && request.requestKind == request.kind", True),
        ("request.userInfo.username == 'system:admin'", True),
        ("'system:masters' in request.userInfo.groups", True),
        ("has(request.object)", False),
        ("namespaceObject.metadata.name == 'default'", True),
        ("namespaceObject.status.phase == 'Active'", True),
        ("authorizer.group('apps').resource('deployments').check('create').allowed()", True),
        ("authorizer.requestResource.check('custom').allowed()", True),
        ("authorizer.serviceAccount('default', 'default').path('/x').check('get').allowed()", True),
        ("authorizer.group('').resource('pods').check('get').reason() == ''", True),
        ("object.data.all(key, key.startsWith('k'))", True),
        ("object.data.?gone.orValue('') == ''", True),
        ("object.data.size() == 2", False),
    ],
)
def test_what_an_expression_knows(expression: str, holds: bool) -> None:
    server = Heeding()
    server.policy(validations=checks(expression))
    assert (server.ask("create", MAPS, body=config(k="v")).code == 201) is holds


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("object.data.gone == 'x'", "no such key: gone"),
        ("object.data.k + 1 == 2", "no such overload"),
        ("1 / 0 == 1", "division by zero"),
        ("[1][2] == 1", "index out of bounds: 2"),
        ("object.data.k.x == 'y'", "no such overload"),
        ("variables.bad == 1", 'composited variable "bad" fails to evaluate: no such key: gone'),
        ("variables.worse == 1", 'composited variable "worse" fails to evaluate: composited '
         'variable "bad" fails to evaluate: no such key: gone'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
def test_what_cannot_be_evaluated(expression: str, why: str, failure: str) -> None:
    server = Heeding()
    variables = [
        {"name": "bad", "expression": "object.data.gone"},
        {"name": "worse", "expression": "variables.bad"},
    ]
    server.policy(validations=checks(expression), variables=variables, failurePolicy=failure)
    if failure == "Ignore":
        server.create(config(k="v"))
    else:
        told = refusal(server)
        assert told["message"].endswith(f"{BY}expression '{expression}' resulted in error: {why}")
        assert (told["code"], told["reason"]) == (422, "Invalid")


def test_variables_are_evaluated_only_if_somebody_comes_to_them() -> None:
    server = Heeding()
    variables = [
        {"name": "bad", "expression": "object.data.gone == ''"},
        {"name": "safe", "expression": "true || variables.bad"},
        {"name": "maybe", "expression": "object.data.?gone"},
        {"name": "n", "expression": "size(object.data)"},
    ]
    holds = "variables.safe && variables.maybe.orValue('d') == 'd' && variables.n == 1"
    server.policy(validations=checks(holds), variables=variables)
    server.create(config(k="v"))


@pytest.mark.parametrize(
    ("conditions", "asked"),
    [
        (["true"], True),
        (["object.data.k == 'v'", "request.userInfo.username != 'system:admin'"], False),
        (["object.data.gone == ''", "false"], False),
        (["namespaceObject == null"], True),
    ],
)
def test_conditions(conditions: list[str], asked: bool) -> None:
    server = Heeding()
    told = [{"name": f"c{n}", "expression": one} for n, one in enumerate(conditions)]
    server.policy(validations=checks("false"), matchConditions=told)
    assert (server.ask("create", MAPS, body=config(k="v")).code == 422) is asked


@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
def test_conditions_that_cannot_be_evaluated(failure: str) -> None:
    server = Heeding()
    told = [{"name": n, "expression": f"object.data.{n} == ''"} for n in ("a", "b")]
    server.policy(validations=checks("false"), matchConditions=told, failurePolicy=failure)
    if failure == "Ignore":
        server.create(config(k="v"))
    else:
        error = "expression 'object.data.{0} == ''' resulted in error: no such key: {0}"
        why = f"[{error.format('a')}, {error.format('b')}]"
        assert refusal(server)["message"].endswith(BY + why)


NOT = {"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}


@pytest.mark.parametrize(
    ("constraints", "binding", "asked"),
    [
        ({"resourceRules": [rule("secrets")]}, {}, False),
        ({"resourceRules": [rule("*")]}, {}, True),
        ({"resourceRules": [rule("configmaps", resourceNames=["c"])]}, {}, True),
        ({"resourceRules": [rule("configmaps", resourceNames=["d"])]}, {}, False),
        ({"resourceRules": [rule("configmaps", scope="Cluster")]}, {}, False),
        ({"resourceRules": [rule("*")], "excludeResourceRules": [rule()]}, {}, False),
        ({"resourceRules": [rule("*")],
          "excludeResourceRules": [rule("configmaps", resourceNames=["d"])]}, {}, True),
        ({"resourceRules": [rule()], "objectSelector": NOT}, {}, True),
        ({"resourceRules": [rule()], "objectSelector": {"matchLabels": {"a": "b"}}}, {}, False),
        ({"resourceRules": [rule()],
          "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "x"}}}, {}, False),
        ({"resourceRules": [rule()]}, {"resourceRules": [rule("secrets")]}, False),
        ({"resourceRules": [rule()]},
         {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "default"}}}, True),
        ({"resourceRules": [rule()]}, {"objectSelector": {"matchLabels": {"a": "b"}}}, False),
    ],
)  # fmt: skip
def test_which_requests_are_meant(constraints: Json, binding: Json, asked: bool) -> None:
    server = Heeding()
    more = {"matchResources": binding} if binding else {}
    server.policy(validations=checks("false"), matchConstraints=constraints, binding=more)
    assert (server.ask("create", MAPS, body=config(k="v")).code == 422) is asked


def test_the_same_kind_in_another_version_is_meant_too() -> None:
    server = Heeding()
    meant = rule("horizontalpodautoscalers", group="autoscaling", version="v1")
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"},
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 7},
                    },
                }
            ],
        },
    }
    holds = (
        "object.apiVersion == 'autoscaling/v1' && object.spec.targetCPUUtilizationPercentage == 7"
        " && request.kind.version == 'v1' && request.requestKind.version == 'v2'"
    )
    resource = "horizontalpodautoscalers.autoscaling"
    server.policy(
        matchConstraints={"resourceRules": [meant]}, validations=checks(f"!({holds})", message="m")
    )
    told = server.refused("create", resource, body=scaler)
    assert told["message"] == f'{resource} "h" is forbidden: {BY}m'
    server.drop()
    exactly = {"resourceRules": [meant], "matchPolicy": "Exact"}
    server.policy(matchConstraints=exactly, validations=checks("false"))
    server.create(scaler)


def test_deletion_and_subresources() -> None:
    server = Heeding()
    server.create(config(k="v"))
    server.create(deployment())
    rules = [
        rule(operations=["DELETE"]),
        rule("deployments/scale", group="apps", operations=["UPDATE"]),
    ]
    server.policy(
        matchConstraints={"resourceRules": rules},
        validations=checks("object == null ? oldObject.data.k != 'v' : object.spec.replicas < 4"),
    )
    assert server.refused("delete", MAPS, "c")["code"] == 422
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}}
    for replicas, code in ((3, 200), (4, 422)):
        body = {**scale, "spec": {"replicas": replicas}}
        assert server.ask("update", "deployments.apps", "d", body, subresource="scale").code == code
    server.ok("patch", MAPS, "c", {"data": {"k": "w"}}, patchType="merge")
    server.ok("delete", MAPS, "c")


KIND = {"apiVersion": "v1", "kind": "ConfigMap"}


def params(server: Heeding, *names: str, **data: str) -> None:
    for name in names:
        obj = config(name, **data)
        obj["metadata"]["labels"] = {"for": "p"}
        server.create(obj)


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        ({"name": "one"}, "failed expression: object.data.k == params.data.wanted"),
        ({"name": "one", "namespace": "default"}, "failed expression: "),
        ({"name": "two"}, None),
        ({"selector": {"matchLabels": {"for": "p"}}}, "failed expression: "),
        ({"selector": {}}, "failed expression: "),
        ({"name": "gone", "parameterNotFoundAction": "Allow"}, None),
        ({"name": "gone"}, "failed to configure binding: no params found for policy binding with "
         "`Deny` parameterNotFoundAction"),
        ({"selector": {"matchLabels": {"for": "q"}}}, "failed to configure binding: no params"),
        (None, "resulted in error: no such overload"),
    ],
)  # fmt: skip
def test_parameters(reference: Json | None, why: str | None) -> None:
    server = Heeding()
    params(server, "one", wanted="w")
    params(server, "two", wanted="v")
    server.create(config("stray"))
    more: Json = {}
    if reference is not None:
        more = {"paramRef": {"parameterNotFoundAction": "Deny", **reference}}
    server.policy(
        paramKind=KIND, validations=checks("object.data.k == params.data.wanted"), binding=more
    )
    if why is None:
        server.create(config(k="v"))
    else:
        told = refusal(server)
        assert BY in told["message"] and why in told["message"]


@pytest.mark.parametrize(
    ("kind", "reference", "why"),
    [
        ({"apiVersion": "x.example/v1", "kind": "Gone"}, {"name": "x"},
         "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy: failed to find "
         "resource referenced by paramKind: 'x.example/v1, Kind=Gone'"),
        ({"apiVersion": "v1", "kind": "Namespace"}, {"name": "x", "namespace": "y"},
         f"{BY}failed to configure binding: paramRef.namespace must not be provided for a "
         "cluster-scoped `paramKind`"),
        (KIND, {"name": "x"}, f"{BY}failed to configure binding: cannot use namespaced paramRef "
         "in policy binding that matches cluster-scoped resources"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
def test_policies_that_cannot_be_used(kind: Json, reference: Json, why: str, failure: str) -> None:
    server = Heeding()
    server.policy(
        paramKind=kind,
        failurePolicy=failure,
        matchConstraints={"resourceRules": [rule("namespaces")]},
        validations=checks("false"),
        binding={"paramRef": {"parameterNotFoundAction": "Deny", **reference}},
    )
    obj = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    outcome = server.ask("create", "namespaces", body=obj, namespace="")
    assert outcome.code == (422 if failure == "Fail" else 201)
    if failure == "Fail":
        server.drop()
        server.policy(
            paramKind=kind,
            matchConstraints={"resourceRules": [rule("namespaces")]},
            validations=checks("false"),
            binding={"paramRef": {"parameterNotFoundAction": "Deny", **reference}},
        )
        told = server.refused("create", "namespaces", body=obj, namespace="")
        assert told["message"] == f'namespaces "n" is forbidden: {why}'


@pytest.mark.parametrize(
    ("actions", "denied", "warned"),
    [(["Deny"], True, False), (["Warn"], False, True), (["Audit"], False, False),
     (["Warn", "Audit"], False, True), (["Deny", "Audit"], True, False)],
)  # fmt: skip
def test_actions(actions: list[str], denied: bool, warned: bool) -> None:
    server = Heeding()
    server.policy(validations=checks("false", message="m"), binding={"validationActions": actions})
    outcome = server.ask("create", MAPS, body=config(k="v"))
    assert (outcome.code == 422) is denied
    told = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': m"
    assert outcome.warnings == ([told] if warned else [])


def test_a_policy_without_a_binding_does_nothing_and_none_can_refuse_its_own_removal() -> None:
    server = Heeding()
    group = "admissionregistration.k8s.io"
    own = rule("*", group="*", version="*", operations=["*"])
    server.create(policy(validations=checks("false"), matchConstraints={"resourceRules": [own]}))
    server.create(config(k="v"))
    server.create(bound())
    assert refusal(server, config("d"))
    server.ok("delete", f"validatingadmissionpolicies.{group}", "p", namespace="")
    server.create(config("d"))


def test_annotations_for_an_audit_log_can_fail() -> None:
    server = Heeding()
    note = {"key": "k", "valueExpression": "string(object.data.gone)"}
    server.policy(auditAnnotations=[note])
    told = refusal(server)["message"]
    assert told.endswith("'string(object.data.gone)' resulted in error: no such key: gone")
    server.create(config("d", gone="x"))


def test_a_dry_run_is_judged_too() -> None:
    server = Heeding()
    server.policy(validations=checks("!request.dryRun"))
    server.create(config("d"))
    assert server.ask("create", MAPS, body=config(), dryRun="All").code == 422


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"validations": checks("object.x +")},
         'spec.validations[0].expression: Invalid value: "object.x +": compilation failed: ERROR: '
         "<input>:1:11: Syntax error: mismatched input '<EOF>'"),
        ({"validations": checks("object.x")}, "must evaluate to bool but got dyn"),
        ({"validations": checks("{'a': 1}")}, "must evaluate to bool but got map(string, int)"),
        ({"validations": checks("params == null")}, "undeclared reference to 'params'"),
        ({"validations": checks("variables.y")}, "<input>:1:10: undefined field 'y'"),
        ({"validations": checks(" ")},
         "spec.validations[0].expression: Required value: expression is not specified"),
        ({"validations": checks("true\n&& true")},
         "spec.validations[0].message: Required value: message must be specified if expression "
         "contains line breaks"),
        ({"validations": checks("true", message="a\nb")}, "message must not contain line breaks"),
        ({"validations": checks("true", message=" ")}, "message must be non-empty if specified"),
        ({"validations": checks("true", messageExpression="1")},
         "spec.validations[0].messageExpression: Invalid value: \"1\": must evaluate to string but "
         "got int"),
        ({"validations": checks("true", messageExpression="authorizer.path('x').reason()")},
         "undeclared reference to 'authorizer"),
        ({"validations": checks("true", reason="Gone")},
         'spec.validations[0].reason: Unsupported value: "Gone": supported values: "Forbidden", '
         '"Invalid", "RequestEntityTooLarge", "Unauthorized"'),
        ({"validations": checks("true"), "variables": [{"name": "1", "expression": "1"}]},
         'spec.variables[0].name: Invalid value: "1": name is not a valid CEL identifier'),
        ({"validations": checks("true"),
          "variables": [{"name": "a", "expression": "variables.b"},
                        {"name": "b", "expression": "1"}]},
         "spec.variables[0].expression: Invalid value: \"variables.b\": compilation failed"),
        ({"validations": checks("true"),
          "matchConditions": [{"name": "a", "expression": "'x'"}]},
         "spec.matchConditions[0].expression: Invalid value: \"'x'\": must evaluate to bool but "
         "got string"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]},
         "must evaluate to one of [string null_type] but got int"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "''"}] * 2},
         'spec.auditAnnotations[1].key: Duplicate value: "k"'),
        ({"auditAnnotations": [{"key": f"k{n}", "valueExpression": "''"} for n in range(21)]},
         "must not have more than 20 auditAnnotations"),
        ({}, "validations or auditAnnotations must contain at least one item"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_policy(spec: Json, says: str) -> None:
    plural = "validatingadmissionpolicies.admissionregistration.k8s.io"
    told = Heeding().refused("create", plural, body=policy(**spec), namespace="")
    assert told["code"] == 422 and says in told["message"]


def test_fine_policies_are_accepted() -> None:
    server = Heeding()
    variables: list[Any] = [
        {"name": "a", "expression": "object.?spec.?x"},
        {"name": "b", "expression": "variables.a.hasValue()"},
        {"name": "c", "expression": "[1, 2].map(x, x + 1)"},
    ]
    holds = "variables.b || variables.c[0] == 2"
    notes = [{"key": "k", "valueExpression": "variables.b ? 'x' : ''"}]
    server.policy(validations=checks(holds), variables=variables, auditAnnotations=notes)
    server.create(config(k="v"))
