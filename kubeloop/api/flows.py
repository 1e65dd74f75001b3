"""The flow schemas and priority levels that every cluster has, and what becomes of changed ones.

Pure. `exempt` and `catch-all` are mandatory: they are put back. The others are suggested: they are
put back unless their annotation says that somebody looks after them.

Source: Kubernetes, "API Priority and Fairness: Defaults"; k8s.io/apiserver's bootstrap
configuration in behaviour.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

Json = dict[str, Any]

SCHEMAS: Final = "flowschemas.flowcontrol.apiserver.k8s.io"
LEVELS: Final = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io"
AUTO_UPDATE: Final = "apf.kubernetes.io/autoupdate-spec"
MANDATORY: Final = ("exempt", "catch-all")
_VERSION: Final = "flowcontrol.apiserver.k8s.io/v1"
_ALL: Final = ("*",)
_CONTROLLER_MANAGER: Final = "system:kube-controller-manager"
_SCHEDULER: Final = "system:kube-scheduler"
_EVERYBODY: Final = ("system:unauthenticated", "system:authenticated")
_LEASE_VERBS: Final = ("get", "create", "update")
_LEASES: Final = "coordination.k8s.io"


def _level(name: str, shares: int, lendable: int, queuing: Sequence[int] = ()) -> Json:
    """Return a limited level. queuing: queues, hand size, length of a queue; () rejects."""
    response: Json = {"type": "Reject"}
    if queuing:
        names = ("queues", "handSize", "queueLengthLimit")
        response = {"type": "Queue", "queuing": dict(zip(names, queuing, strict=True))}
    limited = {
        "nominalConcurrencyShares": shares,
        "limitResponse": response,
        "lendablePercent": lendable,
    }
    return _object("PriorityLevelConfiguration", name, {"type": "Limited", "limited": limited})


def _schema(
    name: str,
    level: str,
    precedence: int,
    by: str,
    subjects: Sequence[Json],
    *,
    resources: Sequence[Json] = (),
    urls: Sequence[Json] = (),
) -> Json:
    rule: Json = {"subjects": list(subjects)}
    if resources:
        rule["resourceRules"] = list(resources)
    if urls:
        rule["nonResourceRules"] = list(urls)
    spec: Json = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
    }
    if by:
        spec["distinguisherMethod"] = {"type": by}
    return _object("FlowSchema", name, {**spec, "rules": [rule]})


def _object(kind: str, name: str, spec: Json) -> Json:
    metadata = {"name": name, "annotations": {AUTO_UPDATE: "true"}}
    return {"apiVersion": _VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _groups(*names: str) -> list[Json]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Json]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def _accounts(*names: str) -> list[Json]:
    where = "kube-system"
    return [
        {"kind": "ServiceAccount", "serviceAccount": {"namespace": where, "name": name}}
        for name in names
    ]


def _resources(
    verbs: Sequence[str],
    group: str,
    resources: Sequence[str],
    *,
    namespaces: Sequence[str] = _ALL,
    cluster: bool = False,
) -> Json:
    rule: Json = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}
    if cluster:
        rule["clusterScope"] = True
    return {**rule, "namespaces": list(namespaces)}


def _urls(verbs: Sequence[str], *urls: str) -> Json:
    return {"verbs": list(verbs), "nonResourceURLs": list(urls)}


_ANY: Final[Mapping[str, Sequence[Json]]] = {
    "resources": (_resources(_ALL, "*", _ALL, cluster=True),),
    "urls": (_urls(_ALL, "*"),),
}


def levels() -> list[Json]:
    """Return the priority levels of a fresh cluster."""
    return [
        _object("PriorityLevelConfiguration", "exempt", {"type": "Exempt", "exempt": {}}),
        _level("catch-all", 5, 0),
        _level("system", 30, 33, (64, 6, 50)),
        _level("node-high", 40, 25, (64, 6, 50)),
        _level("leader-election", 10, 0, (16, 4, 50)),
        _level("workload-high", 40, 50, (128, 6, 50)),
        _level("workload-low", 100, 90, (128, 6, 50)),
        _level("global-default", 20, 50, (128, 6, 50)),
    ]


def schemas() -> list[Json]:
    """Return the flow schemas of a fresh cluster."""
    manager, nodes = _users(_CONTROLLER_MANAGER), _groups("system:nodes")
    endpoints = _accounts("endpoint-controller", "endpointslicemirroring-controller")
    leases = _resources(_LEASE_VERBS, _LEASES, ("leases",))
    own_leases = _resources(_LEASE_VERBS, _LEASES, ("leases",), namespaces=("kube-system",))
    health = _urls(("get",), "/healthz", "/readyz", "/livez")
    high, user = "workload-high", "ByUser"
    return [
        _schema("exempt", "exempt", 1, "", _groups("system:masters"), **_ANY),
        _schema("probes", "exempt", 2, "", _groups(*_EVERYBODY), urls=(health,)),
        _schema("system-leader-election", "leader-election", 100, user,
                [*manager, *_users(_SCHEDULER), *_accounts("*")], resources=(own_leases,)),
        _schema("endpoint-controller", high, 150, user, [*manager, *endpoints],
                resources=(_resources(_LEASE_VERBS, "", ("endpoints",)),)),
        _schema("workload-leader-election", "leader-election", 200, user, _accounts("*"),
                resources=(_resources(_LEASE_VERBS, "", ("endpoints", "configmaps")), leases)),
        _schema("system-node-high", "node-high", 400, user, nodes,
                resources=(_resources(_ALL, "", ("nodes", "nodes/status"), cluster=True),
                           _resources(_ALL, _LEASES, ("leases",)))),
        _schema("system-nodes", "system", 500, user, nodes, **_ANY),
        _schema("kube-controller-manager", high, 800, "ByNamespace", manager, **_ANY),
        _schema("kube-scheduler", high, 800, "ByNamespace", _users(_SCHEDULER), **_ANY),
        _schema("kube-system-service-accounts", high, 900, "ByNamespace", _accounts("*"), **_ANY),
        _schema("service-accounts", "workload-low", 9000, user,
                _groups("system:serviceaccounts"), **_ANY),
        _schema("global-default", "global-default", 9900, user, _groups(*_EVERYBODY), **_ANY),
        _schema("catch-all", "catch-all", 10000, user, _groups(*_EVERYBODY), **_ANY),
    ]  # fmt: skip


def repaired(found: Json, wanted: Json) -> Json | None:
    """Return one of ours as it has to be, None if it may stay as it is.

    wanted: as it was made, with its defaults.
    """
    metadata = found["metadata"]
    annotations = metadata.get("annotations") or {}
    told = annotations.get(AUTO_UPDATE)
    ours = metadata["name"] in MANDATORY or told == "true"
    if told not in ("true", "false"):  # Nobody has said: then it is ours if nobody touched it.
        ours = ours or metadata.get("generation", 1) == 1
    spec = wanted["spec"] if ours else found.get("spec")
    noted = {**annotations, AUTO_UPDATE: "true" if ours else "false"}
    if spec == found.get("spec") and noted == annotations:
        return None
    return {**found, "metadata": {**metadata, "annotations": noted}, "spec": spec}


def dangling(level: str, known: bool) -> Json:
    """Return the condition that tells whether the level of a flow schema is there."""
    told = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    return {
        "type": "Dangling",
        "status": "False" if known else "True",
        "reason": "Found" if known else "NotFound",
        "message": f"{told} and it exists" if known else f"{told} but there is no such object",
    }
