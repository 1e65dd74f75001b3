"""Endpoints and EndpointSlices: equal to a naive model, and with few writes."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mini_cluster import DISTURBANCES, EPOCH, Mini, Obj, Op, pod, pod_status, ready, reference

SLICES = "endpointslices.discovery.k8s.io"
SERVICE_NAME = "kubernetes.io/service-name"
LABELS = st.sampled_from([{"app": "a"}, {"app": "a", "tier": "x"}, {"app": "b"}, {}])
PORTS = {
    "number": [{"port": 80, "targetPort": 8080}],
    "named": [{"name": "web", "port": 80, "targetPort": "web"}],
    "two": [
        {"name": "web", "port": 80, "targetPort": "web", "appProtocol": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ],
}


def service(name: str = "s", **spec: Any) -> Obj:
    spec = {"selector": {"app": "a"}, "ports": PORTS["number"], **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def backend(mini: Mini, number: int, labels: dict[str, str], **told: Any) -> Obj:
    """Make a pod with an address."""
    metadata = {"finalizers": ["test/held"]} if told.get("held") else {}
    obj = pod(f"p{number}", labels, **metadata)
    if told.get("port"):
        obj["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": told["port"]}]
    made = mini.create(obj)
    assert made is not None
    if told.get("bound", True):
        mini.bind(made)
    address = f"10.244.{number // 200}.{number % 200 + 1}" if told.get("address", True) else ""
    phase, is_ready = told.get("phase", "Running"), told.get("ready", True)
    status = pod_status(phase, is_ready, EPOCH, address)
    if not address:
        del status["podIP"], status["podIPs"]
    mini.patch(made, {"status": status}, subresource="status")
    if told.get("deleted"):
        mini.delete(made)
    return made


# The naive model: read everything, say what there should be.


def standing(mini: Mini, svc: Obj) -> Iterator[tuple[Obj, tuple[Any, ...]]]:
    """Yield the pods behind a Service with their ports."""
    for obj in mini.pods():
        status, labels = obj.get("status", {}), obj["metadata"].get("labels", {})
        chosen = svc["spec"]["selector"].items() <= labels.items()
        if not chosen or not status.get("podIP") or status["phase"] in ("Succeeded", "Failed"):
            continue
        ports = []
        for port in svc["spec"]["ports"]:
            number = port.get("targetPort", port["port"])
            if isinstance(number, str):
                known = obj["spec"]["containers"][0].get("ports", [])
                number = next((p["containerPort"] for p in known if p["name"] == number), None)
            if number is not None:
                told = (port.get("name", ""), number, port["protocol"], port.get("appProtocol"))
                ports.append(told)
        if ports:
            yield obj, tuple(ports)


def model(mini: Mini, svc: Obj) -> tuple[Counter[Any], Counter[Any]]:
    """Return what the slices and what the Endpoints should tell, as multisets."""
    slices, endpoints = Counter[Any](), Counter[Any]()
    always = svc["spec"].get("publishNotReadyAddresses", False)
    for obj, ports in standing(mini, svc):
        ending = "deletionTimestamp" in obj["metadata"]
        is_ready = always or (ready(obj) and not ending)
        where = (obj["status"]["podIP"], obj["metadata"]["uid"], obj["spec"].get("nodeName"))
        slices[where, ports, is_ready, ready(obj), ending] += 1
        if not ending or is_ready:
            endpoints[where, ports, is_ready] += 1
    return slices, endpoints


def told_by_slices(mini: Mini, name: str) -> Counter[Any]:
    told = Counter[Any]()
    for slice_ in mini.all(SLICES):
        if slice_["metadata"]["labels"].get(SERVICE_NAME) != name:
            continue
        ports = _ports(slice_)
        assert len(slice_["endpoints"]) <= 100
        for e in slice_["endpoints"]:
            where = (e["addresses"][0], e["targetRef"]["uid"], e.get("nodeName"))
            c = e["conditions"]
            told[where, ports, c["ready"], c["serving"], c["terminating"]] += 1
    return told


def told_by_endpoints(mini: Mini, name: str) -> Counter[Any]:
    told = Counter[Any]()
    found = mini.get("endpoints", name)
    assert found is not None
    for subset in found.get("subsets", ()):
        for field, is_ready in (("addresses", True), ("notReadyAddresses", False)):
            for a in subset.get(field, ()):
                where = (a["ip"], a["targetRef"]["uid"], a.get("nodeName"))
                told[where, _ports(subset), is_ready] += 1
    return told


def _ports(obj: Obj) -> tuple[Any, ...]:
    return tuple(
        (p.get("name", ""), p["port"], p["protocol"], p.get("appProtocol"))
        for p in obj.get("ports") or ()
    )


def see_that_all_is_well(mini: Mini) -> None:
    services = {s["metadata"]["name"]: s for s in mini.all("services", "default")}
    for name, svc in services.items():
        if name == "kubernetes" or not svc["spec"].get("selector"):
            continue
        slices, endpoints = model(mini, svc)
        assert told_by_slices(mini, name) == slices
        assert told_by_endpoints(mini, name) == endpoints
    for resource in (SLICES, "endpoints"):
        for obj in mini.all(resource, "default"):
            owner = obj["metadata"].get("labels", {}).get(SERVICE_NAME, obj["metadata"]["name"])
            assert owner in services, "what has no Service is gone"


POD = st.fixed_dictionaries(
    {
        "labels": LABELS,
        "phase": st.sampled_from(["Pending", "Running", "Running", "Succeeded", "Failed"]),
        "ready": st.booleans(),
        "bound": st.booleans(),
        "address": st.sampled_from([True, True, False]),
        "deleted": st.booleans(),
        "held": st.booleans(),
        "port": st.sampled_from([0, 8080, 9090]),
    }
)
EDITS = st.one_of(
    st.tuples(st.just("pod"), POD),
    st.tuples(st.just("flip"), st.integers(0, 9)),
    st.tuples(st.just("fail"), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("label"), st.integers(0, 9), LABELS),
    st.tuples(st.just("select"), st.sampled_from([{"app": "a"}, {"app": "b"}, {"tier": "x"}])),
    st.tuples(st.just("ports"), st.sampled_from(sorted(PORTS))),
    st.tuples(st.just("publish"), st.booleans()),
    st.tuples(st.just("label service"), st.sampled_from(["1", "2"])),
    st.tuples(st.just("make again"), st.booleans()),
    st.tuples(st.just("spoil"), st.integers(0, 3)),
)


def edit(mini: Mini, op: Op, number: int) -> None:
    what, value = op[0], op[1]
    pods, svc = mini.pods(), mini.get("services", "s")
    assert svc is not None
    if what == "pod":
        told = dict(value)
        backend(mini, number + 10, told.pop("labels"), **told)
    elif what in ("flip", "fail", "delete", "label"):
        if not pods:
            return
        obj = pods[value % len(pods)]
        if what == "delete":
            mini.delete(obj)
        elif what == "label":
            mini.patch(obj, {"metadata": {"labels": {"app": None, "tier": None, **op[2]}}})
        else:
            phase = "Failed" if what == "fail" else "Running"
            mini.set_pod(obj, phase=phase, ready=what == "flip" and not ready(obj))
    elif what == "select":
        selector = {"app": None, "tier": None, **value}
        mini.patch(svc, {"spec": {"selector": selector}})
    elif what == "ports":
        mini.patch(svc, {"spec": {"ports": PORTS[value]}})
    elif what == "publish":
        mini.patch(svc, {"spec": {"publishNotReadyAddresses": value}})
    elif what == "label service":
        mini.patch(svc, {"metadata": {"labels": {"x": value}}})
    elif what == "make again":
        mini.delete(svc)
        mini.create(service(clusterIP="None") if value else service())
    else:
        slices = [s for s in mini.all(SLICES) if "generateName" in s["metadata"]]
        for slice_ in slices[: value % 2 + 1]:
            mini.patch(slice_, {"endpoints": [], "metadata": {"labels": {"y": "z"}}})
        found = mini.get("endpoints", "s")
        if found is not None:
            mini.patch(found, {"subsets": None})


@given(
    seed=st.integers(0, 1000),
    pods=st.lists(POD, max_size=5),
    ports=st.sampled_from(sorted(PORTS)),
    ops=st.lists(st.one_of(DISTURBANCES, EDITS), max_size=30),
)
@settings(max_examples=120)
def test_they_equal_the_naive_model(seed: int, pods: Any, ports: str, ops: list[Op]) -> None:
    mini = Mini(seed=seed)
    for number, told in enumerate(pods):
        told = dict(told)
        backend(mini, number, told.pop("labels"), **told)
    mini.create(service(ports=PORTS[ports]))
    mini.start()
    for number, op in enumerate(ops):
        if not mini.disturb(op):
            edit(mini, op, number)
    mini.settle(kubelets=False)
    see_that_all_is_well(mini)
    mini.see_that_it_rests(kubelets=False)


# Few writes.


def started(pods: int, **spec: Any) -> Mini:
    mini = Mini()
    for number in range(pods):
        backend(mini, number, {"app": "a"}, port=8080)
    mini.create(service(**spec))
    mini.start()
    mini.settle(kubelets=False)
    return mini


def written(mini: Mini, since: int) -> list[str]:
    resources = (SLICES, "endpoints")
    return sorted(f.resource for f in mini.changes(since) if f.resource in resources)


@pytest.mark.parametrize("ports", sorted(PORTS))
def test_one_change_is_one_write_each(ports: str) -> None:
    mini = started(5, ports=PORTS[ports])
    since = mini.store.revision
    mini.set_pod(mini.pods()[2], phase="Running", ready=False)
    mini.settle(kubelets=False)
    assert written(mini, since) == ["endpoints", SLICES]


def test_what_endpoints_do_not_show_is_no_write() -> None:
    mini = started(3)
    since = mini.store.revision
    first = mini.pods()[0]
    mini.patch(first, {"metadata": {"annotations": {"a": "b"}}})
    mini.patch(first, {"status": {"message": "hello"}}, subresource="status")
    mini.settle(kubelets=False)
    assert written(mini, since) == []


def test_the_first_pod_and_the_last_take_one_write_each() -> None:
    mini = started(0)
    for step in (
        lambda: backend(mini, 1, {"app": "a"}),
        lambda: mini.delete(mini.pods()[0], gracePeriodSeconds=0),
    ):
        since = mini.store.revision
        step()
        mini.settle(kubelets=False)
        assert written(mini, since) == ["endpoints", SLICES]
    [slice_] = [s for s in mini.all(SLICES) if s["metadata"]["labels"][SERVICE_NAME] == "s"]
    assert slice_["endpoints"] == []


def test_many_pods_are_cut_into_slices_that_stay() -> None:
    mini = started(230)
    sizes = sorted(len(s["endpoints"]) for s in mini.all(SLICES))
    assert sizes == [30, 100, 100]
    before = {e["addresses"][0]: s["metadata"]["name"] for s, e in endpoints_of(mini)}
    since = mini.store.revision
    mini.delete(mini.pods()[7], gracePeriodSeconds=0)
    mini.settle(kubelets=False)
    assert written(mini, since) == ["endpoints", SLICES]
    after = {e["addresses"][0]: s["metadata"]["name"] for s, e in endpoints_of(mini)}
    assert len(after) == 229
    assert after.items() <= before.items(), "nobody moved"


def endpoints_of(mini: Mini) -> Iterator[tuple[Obj, Obj]]:
    return ((s, e) for s in mini.all(SLICES) for e in s["endpoints"])


def test_a_slice_that_is_too_long_is_cut() -> None:
    mini = started(101)
    by_size = sorted(mini.all(SLICES), key=lambda s: len(s["endpoints"]))
    everything = [e for _, e in endpoints_of(mini)]
    mini.patch(by_size[1], {"endpoints": everything})
    mini.settle(kubelets=False)
    see_that_all_is_well(mini)
    mini.see_that_it_rests(kubelets=False)


# What users see.


def test_a_slice_reads_as_in_kubernetes() -> None:
    mini = started(1, ports=PORTS["two"])
    svc, obj = mini.get("services", "s"), mini.pods()[0]
    mini.patch(svc or {}, {"metadata": {"labels": {"team": "red"}}})
    mini.settle(kubelets=False)
    [slice_] = mini.all(SLICES)
    metadata = slice_["metadata"]
    assert metadata["generateName"] == "s-"
    assert metadata["labels"] == {
        "team": "red",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        SERVICE_NAME: "s",
    }
    assert metadata["ownerReferences"] == [reference(svc or {})]
    assert "endpoints.kubernetes.io/last-change-trigger-time" in metadata["annotations"]
    assert slice_["addressType"] == "IPv4"
    assert slice_["ports"] == [
        {"name": "web", "port": 8080, "protocol": "TCP", "appProtocol": "http"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    assert slice_["endpoints"] == [
        {
            "addresses": ["10.244.0.1"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {
                "kind": "Pod",
                "namespace": "default",
                "name": "p0",
                "uid": obj["metadata"]["uid"],
            },
            "nodeName": obj["spec"]["nodeName"],
        }
    ]
    found = mini.get("endpoints", "s") or {}
    assert found["metadata"]["labels"] == {
        "team": "red",
        "endpoints.kubernetes.io/managed-by": "endpoint-controller",
    }
    assert found["subsets"][0]["ports"] == slice_["ports"]


def test_headless_services_are_marked() -> None:
    mini = started(1, clusterIP="None")
    [slice_] = mini.all(SLICES)
    assert slice_["metadata"]["labels"]["service.kubernetes.io/headless"] == ""
    found = mini.get("endpoints", "s") or {}
    assert found["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_a_headless_service_without_ports_names_its_pods() -> None:
    mini = started(2, clusterIP="None", ports=[])
    [slice_] = mini.all(SLICES)
    assert [e["addresses"] for e in slice_["endpoints"]] == [["10.244.0.1"], ["10.244.0.2"]]
    [subset] = (mini.get("endpoints", "s") or {})["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.244.0.1", "10.244.0.2"]
    assert "ports" not in subset


def test_what_has_no_selector_is_left_to_its_user() -> None:
    mini = Mini()
    mini.create(service("free", selector=None))
    manual = {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": "free"},
        "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
    }
    mini.create(manual)
    mini.start()
    mini.settle()
    found = mini.get("endpoints", "free") or {}
    assert found["subsets"][0]["addresses"] == [{"ip": "192.0.2.1"}]
    assert not mini.all(SLICES)


def test_external_names_have_none() -> None:
    mini = Mini()
    mini.start()
    outside = service("out", type="ExternalName", externalName="example.org")
    mini.create(outside)
    mini.settle()
    assert mini.get("endpoints", "out") is None
    assert not mini.all(SLICES)


def test_endpoints_end_with_their_service() -> None:
    mini = started(2)
    mini.delete(mini.get("services", "s") or {})
    mini.settle(kubelets=False)
    assert mini.get("endpoints", "s") is None
    assert not mini.all(SLICES)


def test_more_than_a_thousand_addresses_are_cut_and_marked() -> None:
    mini = started(1001)
    found = mini.get("endpoints", "s") or {}
    mark = "endpoints.kubernetes.io/over-capacity"
    assert found["metadata"]["annotations"][mark] == "truncated"
    assert sum(len(s["addresses"]) for s in found["subsets"]) == 1000
    assert sum(len(s["endpoints"]) for s in mini.all(SLICES)) == 1001
    mini.delete(mini.pods()[0], gracePeriodSeconds=0)
    mini.settle(kubelets=False)
    found = mini.get("endpoints", "s") or {}
    assert mark not in found["metadata"]["annotations"]


@pytest.mark.parametrize("publish", [False, True])
def test_a_pod_that_is_ending_is_told_only_where_not_ready_ones_are(publish: bool) -> None:
    mini = started(1, publishNotReadyAddresses=publish)
    mini.delete(mini.pods()[0])
    mini.settle(kubelets=False)
    [slice_] = mini.all(SLICES)
    [told] = slice_["endpoints"]
    assert told["conditions"] == {"ready": publish, "serving": True, "terminating": True}
    subsets = (mini.get("endpoints", "s") or {}).get("subsets", [])
    assert [len(s["addresses"]) for s in subsets] == ([1] if publish else [])


@pytest.mark.parametrize(
    ("wish", "fields"),
    [
        (None, set()),
        ("PreferClose", {"forZones"}),
        ("PreferSameZone", {"forZones"}),
        ("PreferSameNode", {"forZones", "forNodes"}),
    ],
)
def test_endpoints_say_for_whom_they_are_best(wish: str | None, fields: set[str]) -> None:
    mini = started(0, **({"trafficDistribution": wish} if wish else {}))
    for number in range(6):
        backend(mini, number, {"app": "a"}, ready=number != 5)
    mini.settle()
    assert all(not e.get("hints", {}).get("forZones") for _, e in endpoints_of(mini))
    for node in ("n1", "n2"):
        found = mini.get("nodes", node, "")
        assert found is not None
        labels = {"topology.kubernetes.io/zone": f"zone-of-{node}"}
        mini.patch(found, {"metadata": {"labels": labels}})
    mini.settle()
    told = [endpoint for _, endpoint in endpoints_of(mini)]
    assert len(told) == 6
    for endpoint in told:
        node = endpoint["nodeName"]
        assert endpoint["zone"] == f"zone-of-{node}"
        hints = endpoint.get("hints", {})
        assert set(hints) == (fields if endpoint["conditions"]["ready"] else set())
        assert hints.get("forZones", [{"name": f"zone-of-{node}"}]) == [{"name": f"zone-of-{node}"}]
        assert hints.get("forNodes", [{"name": node}]) == [{"name": node}]
    mini.see_that_it_rests()
