"""Tables: the cells kubectl shows, as a real server computed them, and case by case."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubeloop.api import humanize, times
from kubeloop.api.resources import RESOURCES, Resource
from kubeloop.api.tables import columns, table

RECORDED = Path(__file__).parents[2].parent / "shared/facts/apiserver-1.36.2.jsonl"
NOW = times.parse("2026-01-02T00:00:00Z")

Json = dict[str, Any]


def recorded() -> Iterator[tuple[str, Resource, Json]]:
    """Yield the tables a real server answered."""
    if not RECORDED.is_file():
        return
    for line in RECORDED.read_text().splitlines():
        row = json.loads(line)
        answer, plural = row.get("response"), row["path"].partition("?")[0].rpartition("/")[2]
        resource = next((r for r in RESOURCES.values() if r.plural == plural), None)
        if resource and isinstance(answer, dict) and answer.get("kind") == "Table":
            yield f"{row['n']} {row['name']}", resource, answer


TABLES = list(recorded())
real = pytest.mark.skipif(not TABLES, reason="no recorded answers beside this checkout")


@real
@pytest.mark.parametrize(
    ("resource", "answer"), [t[1:] for t in TABLES], ids=[t[0] for t in TABLES]
)
def test_columns_are_those_of_a_real_server(resource: Resource, answer: Json) -> None:
    assert columns(resource) == answer["columnDefinitions"]


@real
def test_cells_are_those_of_a_real_server() -> None:
    resource, answer = next(t[1:] for t in TABLES if t[0].startswith("41 "))
    pods = [row["object"] for row in answer["rows"]]
    now = max(times.parse(pod["metadata"]["creationTimestamp"]) for pod in pods)
    revision = answer["metadata"]["resourceVersion"]
    ours = table(resource, pods, now_unix=now, revision=revision, include_object="Object")
    assert ours == answer


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES.keys())
def test_every_kind_has_a_cell_for_every_column_even_when_empty(resource: Resource) -> None:
    shown = table(resource, [{"metadata": {"name": "x"}}], now_unix=NOW, revision="7")
    assert len(shown["rows"][0]["cells"]) == len(shown["columnDefinitions"])
    assert shown["metadata"] == {"resourceVersion": "7"}
    types = {
        "string": str,
        "integer": int,
        "boolean": (bool, str),
        "date": (str, type(None)),
    }  # CronJobs tell "True" or "False".
    # Declared as text; so Kubernetes.
    numbers = {
        "MaxPods",
        "Replicas",
        "Up-to-date",
        "Available",
        "Data",
        "Count",
        "Revision",
        "AllowVolumeExpansion",
    }
    numbers.add("MatchingPrecedence")
    if resource.plural == "apiservices":  # They are available or not.
        numbers.remove("Available")
    for cell, column in zip(shown["rows"][0]["cells"], shown["columnDefinitions"], strict=True):
        assert isinstance(cell, types[column["type"]] if column["name"] not in numbers else int)


def test_what_rides_along() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {}}
    resource = RESOURCES["pods"]

    def passenger(include: str) -> Any:
        made = table(resource, [pod], now_unix=NOW, revision="1", include_object=include)
        return made["rows"][0]["object"]

    assert passenger("None") is None
    assert passenger("Object") == {"kind": "Pod", "apiVersion": "v1", **pod}
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    assert passenger("Metadata") == {**partial, "metadata": {"name": "p"}}


def test_a_page_tells_how_to_go_on() -> None:
    more = {"continue": "token", "remainingItemCount": 3}
    page = table(RESOURCES["pods"], [], now_unix=NOW, revision="9", list_meta=more)
    assert page["metadata"] == {"resourceVersion": "9", **more}
    assert page["rows"] == []


def cells(resource: str, obj: Json) -> Json:
    """Return the cells of one object by the names of their columns."""
    obj.setdefault("metadata", {}).setdefault("name", "x")
    made = table(RESOURCES[resource], [obj], now_unix=NOW, revision="1")
    names = [column["name"] for column in made["columnDefinitions"]]
    return dict(zip(names, made["rows"][0]["cells"], strict=True))


def pod(*states: Json, phase: str = "Running", **status: Any) -> Json:
    """Return a pod whose containers are in `states`."""
    statuses = [{"name": f"c{n}", **state} for n, state in enumerate(states)]
    spec = {"containers": [{"name": f"c{n}"} for n in range(len(states))]}
    return {"spec": spec, "status": {"phase": phase, "containerStatuses": statuses, **status}}


RUNNING: Json = {"state": {"running": {}}, "ready": True}
UNREADY: Json = {"state": {"running": {}}, "ready": False}


def waiting(reason: str) -> Json:
    return {"state": {"waiting": {"reason": reason}}}


def ended(**terminated: Any) -> Json:
    return {"state": {"terminated": terminated}}


READY = [{"type": "Ready", "status": "True"}]


@pytest.mark.parametrize(
    ("obj", "ready", "status"),
    [
        (pod(RUNNING, RUNNING), "2/2", "Running"),
        (pod(RUNNING, UNREADY), "1/2", "Running"),
        (pod(phase="Pending"), "0/0", "Pending"),
        (pod(waiting("ContainerCreating"), phase="Pending"), "0/1", "ContainerCreating"),
        (pod(RUNNING, waiting("CrashLoopBackOff")), "1/2", "CrashLoopBackOff"),
        (pod(waiting("ImagePullBackOff"), waiting("Other")), "0/2", "ImagePullBackOff"),
        (pod(ended(reason="Completed", exitCode=0), phase="Succeeded"), "0/1", "Completed"),
        (pod(ended(reason="Error", exitCode=1), phase="Failed"), "0/1", "Error"),
        (pod(ended(exitCode=3)), "0/1", "ExitCode:3"),
        (pod(ended(signal=9, exitCode=137)), "0/1", "Signal:9"),
        (pod(ended(reason="Completed"), RUNNING), "1/2", "NotReady"),
        (pod(ended(reason="Completed"), RUNNING, conditions=READY), "1/2", "Running"),
        (pod(phase="Failed", reason="Evicted"), "0/0", "Evicted"),
        (
            pod(
                phase="Pending",
                conditions=[{"type": "PodScheduled", "reason": "SchedulingGated"}],
            ),
            "0/0",
            "SchedulingGated",
        ),
    ],
)
def test_the_word_for_a_pod(obj: Json, ready: str, status: str) -> None:
    shown = cells("pods", obj)
    assert (shown["Ready"], shown["Status"]) == (ready, status)


@pytest.mark.parametrize(
    ("phase", "reason", "status"),
    [
        ("Running", "", "Terminating"),
        ("Failed", "", "Failed"),
        ("Running", "NodeLost", "Unknown"),
    ],
)
def test_the_word_for_a_pod_that_is_being_deleted(phase: str, reason: str, status: str) -> None:
    obj = {
        "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"},
        **pod(phase=phase, reason=reason),
    }
    assert cells("pods", obj)["Status"] == status


@pytest.mark.parametrize(
    ("states", "status"),
    [
        ([], "Pending"),
        ([{"state": {"running": {}}}], "Init:0/2"),
        ([ended(exitCode=0), waiting("PodInitializing")], "Init:1/2"),
        ([ended(exitCode=0), waiting("CrashLoopBackOff")], "Init:CrashLoopBackOff"),
        ([ended(exitCode=1, reason="Error")], "Init:Error"),
        ([ended(exitCode=2)], "Init:ExitCode:2"),
        ([ended(exitCode=2, signal=9)], "Init:Signal:9"),
    ],
)
def test_the_word_for_a_pod_that_initializes(states: list[Json], status: str) -> None:
    obj = pod(waiting("PodInitializing"), phase="Pending")
    obj["spec"]["initContainers"] = [{"name": "i0"}, {"name": "i1"}]
    found = [{"name": f"i{n}", **state} for n, state in enumerate(states)]
    obj["status"]["initContainerStatuses"] = found
    assert cells("pods", obj)["Status"] == (status if states else "PodInitializing")


def test_a_sidecar_counts_as_a_container() -> None:
    obj = pod(RUNNING)
    obj["spec"]["initContainers"] = [{"name": "s", "restartPolicy": "Always"}]
    obj["status"]["initContainerStatuses"] = [{"name": "s", "started": True, **RUNNING}]
    assert cells("pods", obj)["Ready"] == "2/2"
    obj["status"]["initContainerStatuses"] = [{"name": "s", "started": False, **UNREADY}]
    shown = cells("pods", obj)
    assert (shown["Ready"], shown["Status"]) == ("0/2", "Init:0/1")


def test_restarts_tell_when_the_last_one_was() -> None:
    last = {"terminated": {"finishedAt": "2026-01-01T23:59:50Z"}}
    assert cells("pods", pod({**RUNNING, "restartCount": 3, "lastState": last}))["Restarts"] == (
        "3 (10s ago)"
    )
    assert cells("pods", pod({**RUNNING, "restartCount": 3}))["Restarts"] == "3"
    assert cells("pods", pod(RUNNING))["Restarts"] == "0"


def test_the_wide_columns_of_a_pod() -> None:
    obj = pod(RUNNING, podIPs=[{"ip": "10.244.1.2"}], nominatedNodeName="n2", conditions=READY)
    gates = [{"conditionType": "Ready"}, {"conditionType": "x.y/z"}]
    obj["spec"] |= {"nodeName": "n1", "readinessGates": gates}
    shown = cells("pods", obj)
    wide = [shown[key] for key in ("IP", "Node", "Nominated Node", "Readiness Gates")]
    assert wide == ["10.244.1.2", "n1", "n2", "1/2"]


def test_a_finished_pod_has_a_condition_on_its_row() -> None:
    made = table(RESOURCES["pods"], [pod(phase="Succeeded")], now_unix=NOW, revision="1")
    (condition,) = made["rows"][0]["conditions"]
    assert (condition["type"], condition["reason"]) == ("Completed", "Succeeded")


@pytest.mark.parametrize(
    ("spec", "external", "ports"),
    [
        ({"type": "ClusterIP", "ports": [{"port": 80, "protocol": "UDP"}]}, "<none>", "80/UDP"),
        (
            {"type": "NodePort", "ports": [{"port": 1, "nodePort": 31001}, {"port": 2}]},
            "<none>",
            "1:31001/TCP,2/TCP",
        ),
        ({"type": "LoadBalancer"}, "<pending>", "<none>"),
        ({"type": "LoadBalancer", "externalIPs": ["1.2.3.4"]}, "1.2.3.4", "<none>"),
        ({"type": "ExternalName", "externalName": "a.b"}, "a.b", "<none>"),
        ({"type": "ClusterIP", "externalIPs": ["1.2.3.4", "5.6.7.8"]}, "1.2.3.4,5.6.7.8", "<none>"),
    ],
)
def test_where_a_service_is_reached(spec: Json, external: str, ports: str) -> None:
    shown = cells("services", {"spec": spec})
    assert (shown["External-IP"], shown["Port(s)"]) == (external, ports)


def test_the_rest_of_a_service() -> None:
    balancer = {"ingress": [{"ip": "9.9.9.9"}, {"hostname": "a.b"}]}
    spec = {"type": "LoadBalancer", "clusterIP": "10.96.0.9", "selector": {"b": "2", "a": "1"}}
    shown = cells("services", {"spec": spec, "status": {"loadBalancer": balancer}})
    assert shown["Cluster-IP"] == "10.96.0.9"
    assert shown["External-IP"] == "9.9.9.9,a.b"
    assert shown["Selector"] == "a=1,b=2"


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "<none>"), (3, "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80")]
    + [(n, f"10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + {n - 3} more...") for n in (4, 9)],
)
def test_three_endpoints_stand_for_many(count: int, shown: str) -> None:
    addresses = [{"ip": f"10.0.0.{n}"} for n in range(count)]
    obj = {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]}
    assert cells("endpoints", obj)["Endpoints"] == shown


def test_endpoints_without_ports_are_addresses() -> None:
    obj = {"subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]}
    assert cells("endpoints", obj)["Endpoints"] == "10.0.0.1"
    six = {"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]}
    assert cells("endpoints", six)["Endpoints"] == "[fd00::1]:80"


def test_a_slice() -> None:
    ports = [{"port": 80}, {"name": "web"}, {}]
    obj = {"addressType": "IPv4", "ports": ports, "endpoints": [{"addresses": ["10.0.0.1"]}]}
    shown = cells("endpointslices.discovery.k8s.io", obj)
    assert (shown["Ports"], shown["Endpoints"]) == ("80,web,*", "10.0.0.1")
    empty = cells("endpointslices.discovery.k8s.io", {"addressType": "IPv4"})
    assert (empty["Ports"], empty["Endpoints"]) == ("<unset>", "<unset>")


def test_workloads() -> None:
    template = {"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}}
    expression = {"key": "tier", "operator": "In", "values": ["q", "p"]}
    selector = {"matchLabels": {"app": "d"}, "matchExpressions": [expression]}
    spec = {"replicas": 3, "selector": selector, "template": template}
    status = {"replicas": 3, "readyReplicas": 2, "updatedReplicas": 1, "availableReplicas": 2}
    shown = cells("deployments.apps", {"spec": spec, "status": status})
    assert [shown["Ready"], shown["Up-to-date"], shown["Available"]] == ["2/3", 1, 2]
    assert shown["Containers"] == "a,b"
    assert shown["Images"] == "x,y"
    assert shown["Selector"] == "app=d,tier in (p,q)"
    shown = cells("replicasets.apps", {"spec": spec, "status": status})
    assert [shown["Desired"], shown["Current"], shown["Ready"]] == [3, 3, 2]
    shown = cells("replicationcontrollers", {"spec": {**spec, "selector": {"b": "1", "a": "2"}}})
    assert shown["Selector"] == "a=2,b=1"


@pytest.mark.parametrize(
    ("ready", "unschedulable", "status"),
    [
        (None, False, "Unknown"),
        ("True", False, "Ready"),
        ("Unknown", False, "NotReady"),
        ("True", True, "Ready,SchedulingDisabled"),
    ],
)
def test_the_word_for_a_node(ready: str | None, unschedulable: bool, status: str) -> None:
    found = [{"type": "Ready", "status": ready}] if ready else []
    obj = {"spec": {"unschedulable": unschedulable}, "status": {"conditions": found}}
    assert cells("nodes", obj)["Status"] == status


def test_the_rest_of_a_node() -> None:
    roles = {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "b"}
    info = {"kubeletVersion": "v1.37.0", "osImage": "Linux"}
    addresses = [{"type": "InternalIP", "address": "127.0.0.1"}]
    status = {"nodeInfo": info, "addresses": addresses}
    shown = cells("nodes", {"metadata": {"name": "n", "labels": roles}, "status": status})
    assert shown["Roles"] == "b,control-plane"
    assert shown["Version"] == "v1.37.0"
    assert (shown["Internal-IP"], shown["External-IP"]) == ("127.0.0.1", "<none>")
    assert (shown["OS-Image"], shown["Kernel-Version"]) == ("Linux", "<unknown>")


def test_events_old_and_new() -> None:
    about = {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"}
    old = {
        "involvedObject": about,
        "type": "Normal",
        "reason": "Started",
        "message": "Started \n",
        "firstTimestamp": "2026-01-01T23:00:00Z",
        "lastTimestamp": "2026-01-01T23:59:00Z",
        "count": 4,
        "source": {"component": "kubelet", "host": "n1"},
    }
    shown = cells("events", old)
    assert [shown["Last Seen"], shown["First Seen"], shown["Count"]] == ["60s", "60m", 4]
    assert [shown["Object"], shown["Message"], shown["Source"]] == [
        "pod/p",
        "Started",
        "kubelet, n1",
    ]
    new = {
        "involvedObject": {"kind": "Node"},
        "eventTime": "2026-01-01T23:59:00.000000Z",
        "reportingComponent": "default-scheduler",
        "series": {"count": 7, "lastObservedTime": "2026-01-01T23:59:58.5Z"},
    }
    shown = cells("events", new)
    assert [shown["Last Seen"], shown["First Seen"], shown["Count"]] == ["1s", "60s", 7]
    assert [shown["Object"], shown["Source"]] == ["node", "default-scheduler"]
    assert cells("events", {})["Last Seen"] == "<unknown>"


def test_the_small_kinds() -> None:
    born = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}
    data = {"metadata": born, "data": {"a": ""}, "binaryData": {"b": ""}, "type": "Opaque"}
    assert cells("configmaps", data) == {"Name": "x", "Data": 2, "Age": "24h"}
    assert cells("secrets", data) == {"Name": "x", "Type": "Opaque", "Data": 1, "Age": "24h"}
    assert cells("serviceaccounts", {"metadata": born}) == {"Name": "x", "Age": "24h"}
    held = {"metadata": born, "spec": {"holderIdentity": "n1"}}
    assert cells("leases.coordination.k8s.io", held)["Holder"] == "n1"
    assert cells("namespaces", {"status": {"phase": "Active"}})["Status"] == "Active"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.9, "0s"),
        (0, "0s"),
        (119.9, "119s"),
        (120, "2m"),
        (130, "2m10s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (8 * 3600 + 60, "8h"),
        (47 * 3600, "47h"),
        (49 * 3600, "2d1h"),
        (45 * 86400, "45d"),
        (365 * 86400 * 3, "3y"),
        (365 * 86400 * 3 + 86400, "3y1d"),
        (365 * 86400 * 9, "9y"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert humanize.duration(seconds) == text


@given(st.integers(0, 10**9), st.integers(0, 10**9))
def test_what_is_older_never_looks_younger(one: int, other: int) -> None:
    units = {"y": 31_536_000, "d": 86_400, "h": 3_600, "m": 60, "s": 1}

    def seconds(text: str) -> int:
        total, digits = 0, ""
        for char in text:
            if char.isdigit():
                digits += char
            else:
                total, digits = total + int(digits) * units[char], ""
        return total

    younger, older = sorted((one, other))
    assert seconds(humanize.duration(younger)) <= seconds(humanize.duration(older))
    assert 0 <= older - seconds(humanize.duration(older)) <= older / 8 + 1
