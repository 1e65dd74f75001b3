"""Limits, quotas and classes: what they make of new objects, and in which words they refuse."""

from typing import Any

import pytest
from request_server import Server, config, pod, service

LIMITS, QUOTAS = "limitranges", "resourcequotas"
Json = dict[str, Any]


def limits(*given: Json, name: str = "l") -> Json:
    spec = {"limits": list(given)}
    return {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": name}, "spec": spec}


def quota(server: Server, name: str = "q", **spec: Any) -> Json:
    """Make a quota whose controller has counted nothing yet."""
    told = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": spec}
    made = server.create(told)
    hard = spec["hard"]
    made["status"] = {"hard": hard, "used": dict.fromkeys(hard, "0")}
    return server.ok("update", QUOTAS, name, made, subresource="status")  # type: ignore[no-any-return]


def used(server: Server, name: str = "q") -> Json:
    found = server.ok("get", QUOTAS, name)
    assert found["metadata"]["resourceVersion"] != "0"
    return found["status"]["used"]  # type: ignore[no-any-return]


def asking(name: str = "web", **resources: Json) -> Json:
    return pod(name, containers=[{"name": "c", "image": "b", "resources": resources}])


def claim(name: str = "c", size: str = "1Gi", **spec: Any) -> Json:
    told = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, **spec}
    kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
    return {**kind, "metadata": {"name": name}, "spec": told}


def test_a_limit_range_fills_in_what_containers_do_not_say() -> None:
    server = Server()
    server.create(limits({"type": "Container", "default": {"cpu": "200m", "memory": "1Gi"},
                          "defaultRequest": {"cpu": "100m"}}))  # fmt: skip
    made = server.create(asking(limits={"memory": "64Mi"}))
    container = made["spec"]["containers"][0]
    assert container["resources"] == {
        "limits": {"memory": "64Mi", "cpu": "200m"},
        "requests": {"memory": "64Mi", "cpu": "100m"},
    }
    note = made["metadata"]["annotations"]["kubernetes.io/limit-ranger"]
    assert note == "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    assert made["status"]["qosClass"] == "Burstable"


@pytest.mark.parametrize(
    ("limit", "resources", "why"),
    [
        ({"max": {"cpu": "1"}}, {"limits": {"cpu": "2"}},
         "maximum cpu usage per Container is 1, but limit is 2"),
        ({"min": {"cpu": "100m"}}, {"requests": {"cpu": "50m"}},
         "minimum cpu usage per Container is 100m, but request is 50m"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}},
         "cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000"),
        ({"maxLimitRequestRatio": {"cpu": "2"}}, {},
         "cpu max limit to request ratio per Container is 2, but no request is specified or"
         " request is 0"),
        ({"type": "Pod", "max": {"memory": "1Gi"}}, {},
         "maximum memory usage per Pod is 1Gi.  No limit is specified"),
        ({"type": "Pod", "min": {"memory": "1Gi"}}, {"requests": {"memory": "1Mi"}},
         "minimum memory usage per Pod is 1Gi, but request is 1Mi"),
        ({"max": {"cpu": "1", "memory": "1Gi"}}, {"limits": {"cpu": "2", "memory": "2Gi"}},
         "[maximum cpu usage per Container is 1, but limit is 2,"
         " maximum memory usage per Container is 1Gi, but limit is 2Gi]"),
    ],
)  # fmt: skip
def test_a_limit_range_refuses_what_is_beyond(limit: Json, resources: Json, why: str) -> None:
    server = Server()
    server.create(limits({"type": "Container", **limit}))
    status = server.refused("create", "pods", "", asking(**resources))
    assert (status["code"], status["message"]) == (403, f'pods "web" is forbidden: {why}')


def test_a_limit_range_knows_claims_and_lets_fit_what_fits() -> None:
    server = Server()
    server.create(limits({"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"},
                          "max": {"storage": "4Gi"}}))  # fmt: skip
    for size, why in (
        ("1Gi", "minimum storage usage per PersistentVolumeClaim is 2Gi, but request is 1Gi"),
        ("5Gi", "maximum storage usage per PersistentVolumeClaim is 4Gi, but request is 5Gi"),
    ):
        status = server.refused("create", "persistentvolumeclaims", "", claim(size=size))
        assert status["message"] == f'persistentvolumeclaims "c" is forbidden: {why}'
    server.create(claim(size="4Gi"))


def test_a_quota_is_charged_with_the_object_and_holds() -> None:
    server = Server()
    quota(server, hard={"pods": "2", "requests.cpu": "250m", "count/pods": "9"})
    server.create(asking("a", requests={"cpu": "100m"}))
    assert used(server) == {"pods": "1", "requests.cpu": "100m", "count/pods": "1"}
    revision = server.store.revision
    assert server.ok("get", QUOTAS, "q")["metadata"]["resourceVersion"] == str(revision)
    assert server.ok("get", "pods", "a")["metadata"]["resourceVersion"] == str(revision)
    status = server.refused("create", "pods", "", asking("b", requests={"cpu": "200m"}))
    assert status["message"] == (
        'pods "b" is forbidden: exceeded quota: q, requested: requests.cpu=200m,'
        " used: requests.cpu=100m, limited: requests.cpu=250m"
    )
    assert (status["code"], status["reason"]) == (403, "Forbidden")
    server.create(asking("b", requests={"cpu": "150m"}))
    status = server.refused("create", "pods", "", asking("c", requests={"cpu": "1"}))
    assert status["message"] == (
        'pods "c" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=1,'
        " used: pods=2,requests.cpu=250m, limited: pods=2,requests.cpu=250m"
    )
    assert used(server) == {"pods": "2", "requests.cpu": "250m", "count/pods": "2"}


def test_a_quota_of_what_containers_ask_for_makes_them_ask() -> None:
    server = Server()
    quota(server, hard={"limits.memory": "1Gi", "requests.cpu": "1"})
    status = server.refused("create", "pods", "", asking(limits={"memory": "1Mi"}))
    assert status["message"] == (
        'pods "web" is forbidden: failed quota: q: must specify requests.cpu for: c'
    )


def test_a_dry_run_and_a_refused_object_take_nothing() -> None:
    server = Server()
    quota(server, hard={"configmaps": "1", "count/secrets": "0"})
    server.ok("create", "configmaps", "", config("a"), dryRun=["All"])
    assert used(server)["configmaps"] == "0"
    server.create(config("a"))
    status = server.refused("create", "configmaps", "", config("a"))
    assert status["reason"] == "AlreadyExists"
    status = server.refused("create", "configmaps", "", config("b"), dryRun=["All"])
    assert "exceeded quota: q, requested: configmaps=1, used: configmaps=1" in status["message"]
    assert used(server) == {"configmaps": "1", "count/secrets": "0"}


def test_a_service_takes_and_gives_back_as_its_type_changes() -> None:
    server = Server()
    quota(server, hard={"services": "5", "services.nodeports": "2", "services.loadbalancers": "1"})
    made = server.create(service("s", type="ClusterIP"))
    assert used(server)["services.nodeports"] == "0"
    made["spec"]["type"] = "LoadBalancer"
    made = server.ok("update", "services", "s", made)
    assert used(server) == {
        "services": "1",
        "services.nodeports": "1",
        "services.loadbalancers": "1",
    }
    status = server.refused("create", "services", "", service("t", type="LoadBalancer"))
    assert "requested: services.loadbalancers=1, used: services.loadbalancers=1" in str(status)
    made["spec"]["type"] = "ClusterIP"
    server.ok("update", "services", "s", made)
    assert used(server)["services.nodeports"] == used(server)["services.loadbalancers"] == "0"


def test_who_gives_back_is_let_even_where_there_is_too_much() -> None:
    server = Server()
    quota(server, hard={"services.nodeports": "2"})
    made = [server.create(service(name)) for name in "ab"]
    found = server.ok("get", QUOTAS, "q")
    found["status"]["hard"]["services.nodeports"] = "0"
    server.ok("update", QUOTAS, "q", found, subresource="status")
    made[0]["spec"]["type"] = "ClusterIP"
    server.ok("update", "services", "a", made[0])
    assert used(server) == {"services.nodeports": "1"}


def test_scopes_choose_pods() -> None:
    server = Server()
    quota(server, "best", hard={"pods": "1"}, scopes=["BestEffort"])
    quota(server, "urgent", hard={"pods": "0"}, scopeSelector={"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In",
         "values": ["system-node-critical"]}]})  # fmt: skip
    server.create(asking("a", requests={"cpu": "1"}))
    assert used(server, "best") == {"pods": "0"}
    server.create(pod("b"))
    assert used(server, "best") == {"pods": "1"}
    status = server.refused("create", "pods", "", pod("c"))
    assert "exceeded quota: best, requested: pods=1, used: pods=1, limited: pods=1" in str(status)
    hurry = asking("d", requests={"cpu": "1"})
    hurry["spec"]["priorityClassName"] = "system-node-critical"
    assert "exceeded quota: urgent" in server.refused("create", "pods", "", hurry)["message"]


def test_claims_take_storage_by_class() -> None:
    server = Server()
    fast = "fast.storageclass.storage.k8s.io/requests.storage"
    quota(server, hard={"requests.storage": "10Gi", fast: "2Gi", "persistentvolumeclaims": "3"})
    server.create(claim("a", "1Gi", storageClassName="fast"))
    server.create(claim("b", "3Gi", storageClassName="slow"))
    assert used(server) == {"requests.storage": "4Gi", fast: "1Gi", "persistentvolumeclaims": "2"}
    wanted = claim("c", "2Gi", storageClassName="fast")
    assert f"requested: {fast}=2Gi, used: {fast}=1Gi, limited: {fast}=2Gi" in str(
        server.refused("create", "persistentvolumeclaims", "", wanted)
    )


def priority(name: str, value: int, **more: Any) -> Json:
    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    return {**kind, "metadata": {"name": name}, "value": value, **more}


def test_a_priority_comes_from_its_class() -> None:
    server = Server()
    server.create(priority("high", 7, preemptionPolicy="Never"))
    made = server.create(pod("a", priorityClassName="high"))
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (7, "Never")
    made = server.create(pod("b"))
    assert (made["spec"]["priority"], made["spec"]["preemptionPolicy"]) == (
        0,
        "PreemptLowerPriority",
    )
    server.create(priority("usual", 3, globalDefault=True))
    made = server.create(pod("c"))
    assert (made["spec"]["priority"], made["spec"]["priorityClassName"]) == (3, "usual")
    made = server.create(pod("d", priorityClassName="system-cluster-critical"))
    assert made["spec"]["priority"] == 2_000_000_000
    for spec, why in (
        ({"priorityClassName": "none"}, "no PriorityClass with name none was found"),
        ({"priority": 5}, "the integer value of priority (5) must not be provided in pod spec;"
         " priority admission controller computed 3 from the given PriorityClass name"),
        ({"preemptionPolicy": "Never"}, "the string value of PreemptionPolicy (Never) must not be"
         " provided in pod spec; priority admission controller computed PreemptLowerPriority from"
         " the given PriorityClass name"),
    ):  # fmt: skip
        status = server.refused("create", "pods", "", pod("e", **spec))
        assert status["message"] == f'pods "e" is forbidden: {why}'


def test_there_is_one_default_class_and_those_of_the_system_stay() -> None:
    server, id_ = Server(), "priorityclasses.scheduling.k8s.io"
    server.create(priority("usual", 3, globalDefault=True))
    status = server.refused("create", id_, "", priority("other", 4, globalDefault=True),
                            namespace="")  # fmt: skip
    assert status["message"] == (
        f'{id_} "other" is forbidden: PriorityClass usual is already marked as default.'
        " Only one default can exist"
    )
    status = server.refused("delete", id_, "system-node-critical", namespace="")
    assert status["message"] == (
        f'{id_} "system-node-critical" is forbidden: this is a system priority class and cannot be'
        " deleted"
    )
    told = server.ok("get", id_, "system-node-critical", namespace="")
    assert (told["value"], told["metadata"]["generation"]) == (2_000_001_000, 1)
    told["description"] = "another"
    assert server.ok("update", id_, "system-node-critical", told, namespace="")["metadata"][
        "generation"
    ] == 1  # fmt: skip


def test_a_runtime_class_brings_its_overhead_and_its_place() -> None:
    server = Server()
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "box"}}
    scheduling = {"nodeSelector": {"box": "yes"}, "tolerations": [{"key": "box",
                  "operator": "Exists"}]}  # fmt: skip
    server.create({**kind, "handler": "box", "overhead": {"podFixed": {"cpu": "100m"}},
                   "scheduling": scheduling})  # fmt: skip
    made = server.create(pod("a", runtimeClassName="box", nodeSelector={"disk": "ssd"}))
    assert made["spec"]["overhead"] == {"cpu": "100m"}
    assert made["spec"]["nodeSelector"] == {"disk": "ssd", "box": "yes"}
    assert {"key": "box", "operator": "Exists"} in made["spec"]["tolerations"]
    for spec, why in (
        ({"runtimeClassName": "none"}, 'pod rejected: RuntimeClass "none" not found'),
        ({"overhead": {"cpu": "1"}},
         "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"),
        ({"runtimeClassName": "box", "overhead": {"cpu": "1"}},
         "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
        ({"runtimeClassName": "box", "nodeSelector": {"box": "no"}},
         "conflict: runtimeClass.scheduling.nodeSelector[box] = yes;"
         " pod.spec.nodeSelector[box] = no"),
    ):  # fmt: skip
        status = server.refused("create", "pods", "", pod("b", **spec))
        assert status["message"] == f'pods "b" is forbidden: {why}'


def storage_class(name: str, *, default: bool = False, **more: Any) -> Json:
    notes = {"storageclass.kubernetes.io/is-default-class": "true"} if default else {}
    kind = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "a.example/b"}
    return {**kind, "metadata": {"name": name, "annotations": notes}, **more}


def test_a_claim_gets_the_newest_default_class_and_its_protection() -> None:
    server = Server()
    assert "storageClassName" not in server.create(claim("a"))["spec"]
    server.create(storage_class("one", default=True))
    server.now += 10
    server.create(storage_class("other", default=True))
    server.create(storage_class("zero"))
    made = server.create(claim("b"))
    assert made["spec"]["storageClassName"] == "other"
    assert made["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]
    assert server.create(claim("c", storageClassName=""))["spec"]["storageClassName"] == ""


def test_only_bound_claims_of_a_class_that_allows_it_grow() -> None:
    server = Server()
    server.create(storage_class("fixed"))
    server.create(storage_class("growing", allowVolumeExpansion=True))
    for name, grows in (("fixed", False), ("growing", True)):
        made = server.create(claim(name, storageClassName=name, volumeName="v"))
        made["spec"]["resources"]["requests"]["storage"] = "2Gi"
        told = server.refused("update", "persistentvolumeclaims", name, made)
        assert "spec is immutable after creation" in told["message"]
        bound = server.ok("get", "persistentvolumeclaims", name)
        bound["status"] |= {"phase": "Bound", "capacity": {"storage": "1Gi"}}
        bound = server.ok("update", "persistentvolumeclaims", name, bound, subresource="status")
        bound["spec"]["resources"]["requests"]["storage"] = "2Gi"
        outcome = server.ask("update", "persistentvolumeclaims", name, bound)
        assert (outcome.code == 200) == grows
    bound = server.ok("get", "persistentvolumeclaims", "growing")
    bound["spec"]["resources"]["requests"]["storage"] = "1Gi"
    assert server.refused("update", "persistentvolumeclaims", "growing", bound)["message"] == (
        'PersistentVolumeClaim "growing" is invalid: spec.resources.requests.storage: Forbidden:'
        " field can not be less than status.capacity"
    )


def test_a_runtime_class_keeps_its_handler() -> None:
    server, id_ = Server(), "runtimeclasses.node.k8s.io"
    kind = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "box"}}
    made = server.create({**kind, "handler": "box"})
    told = {**made, "handler": "other"}
    assert server.refused("update", id_, "box", told, namespace="")["message"] == (
        'RuntimeClass.node.k8s.io "box" is invalid: handler: Invalid value: "other": field is'
        " immutable"
    )
