"""What the language costs on the way in and out of the API server.

Sketch: a pod has some fifty fields. Defaulting touches each container about fifty times: a hundred
dict operations, about 20 µs. Validation looks at every field, most by one look-up and comparison;
names and quantities are remembered, so a known one costs a look-up too: a few hundred operations,
some 60 µs. A row of a table is a few dozen look-ups and an age, about 5 µs; a page of 500 pods is
then 2.5 ms, which a person typing `kubectl get` does not notice.
"""

import copy
from typing import Any

from pytest_benchmark.fixture import BenchmarkFixture

from kubeloop.api import quantities
from kubeloop.api.defaults import apply_defaults
from kubeloop.api.resources import RESOURCES
from kubeloop.api.tables import table
from kubeloop.api.validation import validate_create, validate_update

PODS = RESOURCES["pods"]


def a_pod() -> dict[str, Any]:
    """Return a pod of ordinary size."""
    container = {
        "name": "web",
        "image": "example.com/team/web:1.2.3",
        "ports": [{"name": "http", "containerPort": 8080}],
        "env": [{"name": f"KEY_{n}", "value": "x"} for n in range(5)],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "1"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}],
    }
    spec = {"containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    labels = {"app": "web", "app.kubernetes.io/part-of": "shop"}
    return {"metadata": {"name": "web-0", "namespace": "default", "labels": labels}, "spec": spec}


def filled() -> dict[str, Any]:
    """Return that pod with its defaults."""
    pod = a_pod()
    apply_defaults(PODS, pod)
    return pod


def test_defaults(benchmark: BenchmarkFixture) -> None:
    benchmark.pedantic(
        lambda pod: apply_defaults(PODS, pod), setup=lambda: ((a_pod(),), {}), rounds=2000
    )


def test_validate_create(benchmark: BenchmarkFixture) -> None:
    assert benchmark(validate_create, PODS, filled()) == []


def test_validate_update(benchmark: BenchmarkFixture) -> None:
    old = filled()
    assert benchmark(validate_update, PODS, copy.deepcopy(old), old) == []


def test_table_of_500_pods(benchmark: BenchmarkFixture) -> None:
    pods = [copy.deepcopy(filled()) for _ in range(500)]

    made = benchmark(table, PODS, pods, now_unix=0.0, revision="1")

    assert len(made["rows"]) == 500


def test_quantity_seen_before(benchmark: BenchmarkFixture) -> None:
    assert benchmark(quantities.milli, "1500m") == 1500
