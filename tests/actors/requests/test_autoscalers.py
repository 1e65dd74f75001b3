"""Autoscalers in two versions: what one says the other says, and nothing is lost on the way."""

import copy
import json
from typing import Any

import msgpack
from hypothesis import HealthCheck, given, settings
from request_server import Server

from kubeloop import chaos
from kubeloop.api import autoscalers
from kubeloop.api.autoscalers import BEHAVIOR, CONDITIONS, METRICS, to_v1, to_v2
from kubeloop.api.calls import Request

HPAS = "horizontalpodautoscalers.autoscaling"
Json = dict[str, Any]


def plain(**spec: Any) -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "h", "annotations": {"mine": "yes"}},
        "spec": {"scaleTargetRef": target, "maxReplicas": 3, **spec},
    }


def ask(server: Server, verb: str, version: str, body: Any = None) -> Json:
    packed = b"" if body is None else msgpack.packb(body)
    name = "" if verb in ("create", "list") else "h"
    request = Request(verb, HPAS, "default", name, body=packed, version=version)
    outcome = server.core.handle(request)
    told: Json = msgpack.unpackb(outcome.items[0] if verb == "list" else outcome.body)
    assert outcome.code < 300, told
    return told


@settings(max_examples=50, suppress_health_check=list(HealthCheck))
@given(chaos.manifests(HPAS))
def test_v1_holds_all_that_v2_says(manifest: Json) -> None:
    made = ask_create(manifest)
    old = to_v1(copy.deepcopy(made))
    assert old["apiVersion"] == "autoscaling/v1" and "metrics" not in old["spec"]
    again = to_v2(json.loads(json.dumps(old)))
    again["spec"]["metrics"].sort(key=lambda one: json.dumps(one, sort_keys=True))
    made["spec"]["metrics"].sort(key=lambda one: json.dumps(one, sort_keys=True))
    percents = [one for one in made["spec"]["metrics"] if autoscalers._cpu_percent(one, "target")]
    if len(percents) <= 1:  # v1 has room for one.
        assert again == made


def ask_create(manifest: Json) -> Json:
    server = Server()
    made: Json = server.ok("create", HPAS, "", copy.deepcopy(manifest))
    return made


def test_a_plain_one_is_served_in_both_versions() -> None:
    server = Server()
    made = ask(server, "create", "v1", plain(targetCPUUtilizationPercentage=70))
    assert made["apiVersion"] == "autoscaling/v1"
    assert made["spec"]["targetCPUUtilizationPercentage"] == 70
    assert made["status"] == {"currentReplicas": 0, "desiredReplicas": 0}
    new = ask(server, "get", "v2")
    assert new["apiVersion"] == "autoscaling/v2"
    assert new["spec"]["metrics"] == [autoscalers.cpu(70)]
    assert new["status"] == {"desiredReplicas": 0, "currentMetrics": None}
    assert new["metadata"]["annotations"] == {"mine": "yes"}
    assert ask(server, "get", "v1") == made == ask(server, "list", "v1")
    assert ask(server, "list", "v2") == new == ask(server, "get", "")
    new["spec"]["behavior"] = {"scaleDown": {"selectPolicy": "Disabled"}}
    new["spec"]["metrics"].append(
        {"type": "Pods", "pods": {"metric": {"name": "rate"},
                                  "target": {"type": "AverageValue", "averageValue": "9"}}}
    )  # fmt: skip
    ask(server, "update", "v2", new)
    old = ask(server, "get", "v1")
    notes = old["metadata"]["annotations"]
    assert json.loads(notes[METRICS]) == [
        {"type": "Pods", "pods": {"metricName": "rate", "targetAverageValue": "9"}}
    ]
    assert json.loads(notes[BEHAVIOR])["ScaleDown"]["SelectPolicy"] == "Disabled"
    ask(server, "update", "v1", old)
    same = ask(server, "get", "v2")
    assert same["spec"]["behavior"] == ask(server, "get", "")["spec"]["behavior"]
    assert {one["type"] for one in same["spec"]["metrics"]} == {"Pods", "Resource"}


def test_without_a_metric_the_processor_is_looked_at() -> None:
    server = Server()
    made = ask(server, "create", "v1", plain())
    assert made["spec"]["targetCPUUtilizationPercentage"] == 80
    assert to_v2(plain())["spec"]["metrics"] == [autoscalers.cpu(80)]


def test_what_is_no_json_says_nothing() -> None:
    obj = plain()
    obj["metadata"]["annotations"] = {METRICS: "[", BEHAVIOR: "7", CONDITIONS: "{}"}
    new = to_v2(obj)
    assert new["spec"]["metrics"] == [autoscalers.cpu(80)]
    assert "behavior" not in new["spec"] and "annotations" not in new["metadata"]
