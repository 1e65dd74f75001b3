"""/metrics: what was asked for, how often, how long it took, and what there is."""

import asyncio
from collections import Counter
from typing import Any

import aiohttp
from fake_cluster import FakeCluster
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from kubeloop.net.rest.metering import BUCKETS_S, CONTENT_TYPE, Meter, What

MAPS = "/api/v1/namespaces/default/configmaps"
Http = aiohttp.ClientSession


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of each metric: labels and value."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


async def metrics(http: Http) -> dict[str, list[tuple[dict[str, str], float]]]:
    async with http.get("/metrics") as answer:
        assert (answer.status, answer.headers["Content-Type"]) == (200, CONTENT_TYPE)
        return samples(await answer.text())


def value(found: list[tuple[dict[str, str], float]], **labels: str) -> float:
    """Return the value of the one sample with these labels, 0 if there is none."""
    chosen = [v for told, v in found if labels.items() <= told.items()]
    assert len(chosen) < 2
    return chosen[0] if chosen else 0.0


async def test_requests_are_counted(http: Http, backend: FakeCluster) -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}}
    for _ in range(2):
        async with http.post(MAPS, json=body):
            pass
    for path in (f"{MAPS}/m", f"{MAPS}/m", f"{MAPS}/m", f"{MAPS}/none", MAPS, "/api/v1/nodes"):
        async with http.get(path) as answer:
            await answer.read()
    async with http.delete(f"{MAPS}/m?dryRun=All"):
        pass
    async with http.get(f"{MAPS}?watch=1&resourceVersion=0") as watch:
        await watch.content.readline()
        found = await metrics(http)
        running = found["apiserver_longrunning_requests"]
        assert value(running, verb="WATCH", resource="configmaps", scope="namespace") == 1
    total = found["apiserver_request_total"]
    of_maps = {"resource": "configmaps", "group": "", "version": "v1", "component": "apiserver"}
    assert value(total, verb="POST", code="201", scope="resource", **of_maps) == 1
    assert value(total, verb="POST", code="409", scope="resource", **of_maps) == 1
    assert value(total, verb="GET", code="200", scope="resource", **of_maps) == 3
    assert value(total, verb="GET", code="404", scope="resource", **of_maps) == 1
    assert value(total, verb="LIST", code="200", scope="namespace", **of_maps) == 1
    assert value(total, verb="LIST", code="200", scope="cluster", resource="nodes") == 1
    assert value(total, verb="DELETE", code="200", dry_run="All", **of_maps) == 1
    took = found["apiserver_request_duration_seconds_count"]
    assert value(took, verb="GET", scope="resource", **of_maps) == 4
    assert value(found["apiserver_storage_objects"], resource="configmaps") == 1
    assert value(found["apiserver_resource_objects"], group="", resource="configmaps") == 1
    assert value(found["kubernetes_build_info"], major="1", minor="37") == 1
    assert found["process_cpu_seconds_total"][0][1] > 0
    for kind in ("mutating", "readOnly"):  # Who asks for metrics is not known yet when he is told.
        assert value(found["apiserver_current_inflight_requests"], request_kind=kind) == 0


async def test_a_watch_that_has_gone_is_not_running(http: Http) -> None:
    async with http.get(f"{MAPS}?watch=1&timeoutSeconds=1000") as watch:
        assert watch.status == 200
    while value((await metrics(http))["apiserver_longrunning_requests"], verb="WATCH"):
        await asyncio.sleep(0)


VERBS, NAMES = st.sampled_from(["GET", "LIST", "POST"]), st.sampled_from(["pods", "", 'a"b\\c\n'])
WHATS = st.tuples(VERBS, NAMES).map(lambda told: What(told[0], resource=told[1]))


@given(st.lists(st.tuples(WHATS, st.sampled_from([200, 404]), st.floats(0, 100)), max_size=30))
def test_histograms_add_up(ended: list[tuple[What, int, float]]) -> None:
    meter, took = Meter(), Counter[What]()
    for what, code, seconds in ended:
        meter.count(what, code, seconds)
        took[what] += 1
    found: Any = samples(meter.text({}, {}).decode())
    for what, count in took.items():
        labels = {"verb": what.verb, "resource": what.resource}
        buckets = [v for told, v in found["apiserver_request_duration_seconds_bucket"]
                   if labels.items() <= told.items()]  # fmt: skip
        assert buckets == sorted(buckets) and buckets[-1] == count
        assert len(buckets) == len(BUCKETS_S) + 1
        first = sum(s <= BUCKETS_S[0] for w, _, s in ended if w == what)
        assert buckets[0] == first
        codes = [
            v for told, v in found["apiserver_request_total"] if labels.items() <= told.items()
        ]
        assert sum(codes) == count
