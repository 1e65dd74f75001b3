"""The values that make sense in the fields of what steers the API server."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from kubeloop.chaos.manifests.rows import Row, made_of, one_of, whole

Json = dict[str, Any]

_PEM: Final = (
    b"-----BEGIN CERTIFICATE REQUEST-----\n"
    b"MIGLMD8CAQAwDDEKMAgGA1UEAwwBYTAqMAUGAytlcAMhAMGSgWQk7fL9Vnmy19ju\n"
    b"9vURbjbf7ewX77t2m105jj3poAAwBQYDK2VwA0EAhSPR+29lMXvevhEttOts7YYB\n"
    b"W8rhELT1j24n7kSVFXmkk0/RtoVQM6uVJgt49VJ1nAvAVx/PZ7oXy1IjCfzuAQ==\n"
    b"-----END CERTIFICATE REQUEST-----\n"
)  # Of CN=a.
_rules: Final = one_of(
    [{"apiGroups": ["*"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["nobody"]}],
    [{"apiGroups": [""], "apiVersions": ["*"], "operations": ["*"], "resources": ["nothing/*"],
      "scope": "Namespaced"}],
)  # fmt: skip
_constraints: Final = made_of(
    "resourceRules",
    resourceRules=_rules,
    matchPolicy=one_of("Equivalent", "Exact"),
    namespaceSelector=one_of({}, {"matchLabels": {"a": "b"}}),
)
_parameters: Final = one_of({"apiVersion": "v1", "kind": "ConfigMap"})
_reference: Final = one_of(
    {"name": "p", "namespace": "default", "parameterNotFoundAction": "Deny"},
    {"selector": {"matchLabels": {"a": "b"}}, "parameterNotFoundAction": "Allow"},
)
_policy: Final[Mapping[str, Row]] = {
    "paramKind": _parameters,
    "matchConstraints": _constraints,
    "failurePolicy": one_of("Fail", "Ignore"),
    "variables": one_of([], [{"name": "v", "expression": "1 + 1"}]),
}
_subjects: Final = one_of(
    [{"kind": "User", "user": {"name": "me"}}, {"kind": "Group", "group": {"name": "us"}}],
    [{"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "default"}}],
)
_flows: Final = one_of(
    {"resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                        "namespaces": ["*"], "clusterScope": True}]},
    {"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]},
)  # fmt: skip
_queuing: Final = made_of(queues=whole(8, 64), handSize=whole(1, 8), queueLengthLimit=whole(1, 50))


def _flow_rules() -> Any:
    from hypothesis import strategies as st

    made = st.builds(lambda subjects, told: {"subjects": subjects, **told}, _subjects(), _flows())
    return st.lists(made, max_size=2)


def _limits() -> Any:
    from hypothesis import strategies as st

    shares = whole(0, 100)()
    queued = _queuing().map(lambda told: {"type": "Queue", "queuing": told})
    response = st.one_of(st.just({"type": "Reject"}), queued)
    return st.fixed_dictionaries(
        {"limitResponse": response}, optional={"nominalConcurrencyShares": shares}
    )


FIELDS: Final[Mapping[str, Mapping[str, Row]]] = {
    "APIService": {},
    "APIServiceSpec": {
        "group": one_of("a.example"),
        "version": one_of("v1"),
        "groupPriorityMinimum": whole(1, 20000),
        "versionPriority": whole(1, 1000),
        "service": one_of({"namespace": "default", "name": "web", "port": 8443}),
        "caBundle": one_of("Yg=="),
    },
    "CertificateSigningRequest": {},
    "CertificateSigningRequestSpec": {
        "request": one_of(base64.b64encode(_PEM).decode()),
        "signerName": one_of("kubernetes.io/kube-apiserver-client", "a.example/b.c"),
        "usages": one_of(["client auth"], ["digital signature", "server auth"]),
        "expirationSeconds": whole(600, 9999),
    },
    "FlowSchema": {},
    "FlowSchemaSpec": {
        "priorityLevelConfiguration": one_of({"name": "global-default"}),
        "matchingPrecedence": whole(2, 10000),
        "distinguisherMethod": one_of({"type": "ByUser"}, {"type": "ByNamespace"}),
        "rules": _flow_rules,
    },
    "PriorityLevelConfiguration": {},
    "PriorityLevelConfigurationSpec": {
        "type": one_of("Limited", "Exempt"),
        "limited": _limits,
        "exempt": made_of(nominalConcurrencyShares=whole(0, 9), lendablePercent=whole(0, 100)),
    },
    "MutatingAdmissionPolicy": {},
    "MutatingAdmissionPolicySpec": {
        **_policy,
        "mutations": one_of(
            [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}],
            [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}],
        ),
        "reinvocationPolicy": one_of("Never", "IfNeeded"),
    },
    "MutatingAdmissionPolicyBinding": {},
    "MutatingAdmissionPolicyBindingSpec": {
        "policyName": one_of("nobody"),
        "paramRef": _reference,
        "matchResources": _constraints,
    },
    "ValidatingAdmissionPolicy": {},
    "ValidatingAdmissionPolicySpec": {
        **_policy,
        "validations": one_of(
            [{"expression": "true"}],
            [{"expression": "object.metadata.name != 'x'", "message": "no", "reason": "Invalid"}],
        ),
        "auditAnnotations": one_of([{"key": "k", "valueExpression": "'v'"}]),
    },
    "ValidatingAdmissionPolicyBinding": {},
    "ValidatingAdmissionPolicyBindingSpec": {
        "policyName": one_of("nobody"),
        "paramRef": _reference,
        "matchResources": _constraints,
        "validationActions": one_of(["Deny"], ["Warn", "Audit"]),
    },
}
"""As of `tables.FIELDS`."""

_KINDS: Final = (
    "APIService",
    "CertificateSigningRequest",
    "FlowSchema",
    "PriorityLevelConfiguration",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
)
NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(_KINDS, ("spec",)),
    "APIServiceSpec": ("group", "version", "groupPriorityMinimum", "versionPriority"),
    "CertificateSigningRequestSpec": ("request", "signerName", "usages"),
    "FlowSchemaSpec": ("priorityLevelConfiguration",),
    "MutatingAdmissionPolicySpec": ("matchConstraints", "mutations", "reinvocationPolicy"),
    "MutatingAdmissionPolicyBindingSpec": ("policyName",),
    "PriorityLevelConfigurationSpec": ("type", "limited"),
    "ValidatingAdmissionPolicySpec": ("matchConstraints", "validations"),
    "ValidatingAdmissionPolicyBindingSpec": ("policyName", "validationActions"),
}


def _service(spec: Json) -> Json:
    """Have only services elsewhere be checked, or not."""
    if "service" not in spec or "caBundle" in spec:
        spec.pop("insecureSkipTLSVerify", None)
    if "service" not in spec:
        spec.pop("caBundle", None)
    return spec


def _level(spec: Json) -> Json:
    spec.pop("exempt" if spec["type"] == "Limited" else "limited", None)
    return spec


FITTED: Final[Mapping[str, Callable[[Json], Json]]] = {
    "APIServiceSpec": _service,
    "PriorityLevelConfigurationSpec": _level,
}
