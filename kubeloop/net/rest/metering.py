"""What the endpoint has done, for /metrics: counted in passing, told in Prometheus' words.

A request costs a look-up and a few additions; names, labels and texts are made for who asks.

Source: Kubernetes Metrics Reference; k8s.io/apiserver, pkg/endpoints/metrics.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kubeloop.net.rest.handlers import Call

if TYPE_CHECKING:
    from prometheus_client import Metric

BUCKETS_S: Final = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0),
    *(8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0),
)
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_WHAT: Final = ("verb", "dry_run", "group", "version", "resource", "subresource", "scope")
_LONG_RUNNING: Final = frozenset({"WATCH", "CONNECT"})
_TRUE: Final = ("1", "true", "True")
_APPLY: Final = "application/apply-patch"
_READS: Final = frozenset({"GET", "LIST", "HEAD"})


class What(NamedTuple):
    """What was asked for, as labels tell it.

    verb:  GET, LIST, WATCH, POST, PUT, PATCH, APPLY, DELETE, DELETECOLLECTION, CONNECT.
    scope: cluster, namespace, resource (one object); "" of what is no resource.
    """

    verb: str
    dry_run: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    scope: str = ""

    @property
    def long_running(self) -> bool:
        """Whether it goes on for as long as the client likes."""
        return self.verb in _LONG_RUNNING or (self.subresource == "log" and self.verb == "GET")


def what_of(call: Call, *, connects: bool) -> What:
    """Return what a call on a resource path asks for. connects: it leads into a pod."""
    target = call.target
    names = {name for name, _ in call.parameters}
    match call.method:
        case _ if connects:
            verb = "CONNECT"
        case "GET" if target.watch or (not target.name and call.first("watch") in _TRUE):
            verb = "WATCH"
        case "GET":
            verb = "GET" if target.name else "LIST"
        case "PATCH" if call.content_type.startswith(_APPLY):
            verb = "APPLY"
        case "DELETE" if not target.name:
            verb = "DELETECOLLECTION"
        case method:
            verb = method
    scope = "namespace" if target.namespace else "cluster"
    return What(
        verb,
        "All" if "dryRun" in names else "",
        target.resource.group,
        target.resource.version,
        target.resource.plural,
        target.subresource,
        "resource" if target.name or verb == "POST" else scope,
    )


class _Durations:
    """How long requests took [s]."""

    __slots__ = ("counts", "total_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_S) + 1)
        self.total_s = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS_S, seconds)] += 1
        self.total_s += seconds

    def buckets(self) -> Iterator[tuple[str, float]]:
        """Yield (upper bound, how many took at most so long)."""
        sum_ = 0
        for bound, count in zip((*map(str, BUCKETS_S), "+Inf"), self.counts, strict=True):
            sum_ += count
            yield bound, sum_


class Meter:
    """Counts."""

    def __init__(self) -> None:
        self._ended: Counter[tuple[What, int]] = Counter()
        self._durations: dict[What, _Durations] = {}
        self._running: Counter[What] = Counter()

    def begin(self, what: What) -> None:
        """Take note that a request is being handled."""
        self._running[what] += 1

    def end(self, what: What, code: int, seconds: float) -> None:
        """Take note that it was answered, after so long."""
        self._running[what] -= 1
        self.count(what, code, seconds)

    def count(self, what: What, code: int, seconds: float) -> None:
        """Take note of a request that was answered at once."""
        self._ended[what, code] += 1
        durations = self._durations.get(what)
        if durations is None:
            durations = self._durations[what] = _Durations()
        durations.add(seconds)

    def text(self, objects: Mapping[str, int], version: Mapping[str, str]) -> bytes:
        """Return all metrics in Prometheus' text format.

        objects: resource ("deployments.apps") → how many there are.
        version: as of /version.
        """
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector

        registry = CollectorRegistry()
        registry.register(_Found([*self._requests(), *_stored(objects), _build(version)]))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        text: bytes = generate_latest(registry)
        return text

    def _requests(self) -> "Iterator[Metric]":
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        total = CounterMetricFamily(
            "apiserver_request",
            "Requests the API server has answered, by what they asked for and how it went.",
            labels=[*_WHAT, "component", "code"],
        )
        for (what, code), count in self._ended.items():
            total.add_metric([*what, "apiserver", str(code)], count)
        yield total
        took = HistogramMetricFamily(
            "apiserver_request_duration_seconds",
            "How long requests took.",
            labels=[*_WHAT, "component"],
        )
        for what, durations in self._durations.items():
            if not what.long_running:
                labels = [*what, "apiserver"]
                took.add_metric(labels, list(durations.buckets()), durations.total_s)
        yield took
        inflight = GaugeMetricFamily(
            "apiserver_current_inflight_requests",
            "Requests that are being handled, and will soon be answered.",
            labels=["request_kind"],
        )
        running = GaugeMetricFamily(
            "apiserver_longrunning_requests",
            "Requests that go on: watches, logs that are followed, streams into containers.",
            labels=[*_WHAT[:1], *_WHAT[2:], "component"],
        )
        now: Counter[str] = Counter(mutating=0, readOnly=0)
        for what, count in self._running.items():
            if what.long_running:
                running.add_metric([what.verb, *what[2:], "apiserver"], count)
            else:
                now["readOnly" if what.verb in _READS else "mutating"] += count
        for kind, count in now.items():
            inflight.add_metric([kind], count)
        yield inflight
        yield running


class Visit:
    """One request, from the moment that it is known what it asks for. code: of the answer, 0 if
    there was none."""

    def __init__(self, meter: Meter) -> None:
        self._meter, self._began_s = meter, 0.0
        self._what: What | None = None
        self.code = 0

    def begin(self, what: What, now_s: float) -> None:
        """Take note of what is asked for."""
        self._what, self._began_s = what, now_s
        self._meter.begin(what)

    def end(self, now_s: float) -> None:
        """Take note that it is over."""
        if self._what is not None:
            self._meter.end(self._what, self.code, now_s - self._began_s)


class _Found:
    """Metrics that are made already, as a collector."""

    def __init__(self, metrics: "Iterable[Metric]") -> None:
        self._metrics = list(metrics)

    def collect(self) -> "Iterable[Metric]":
        return self._metrics


def _stored(objects: Mapping[str, int]) -> "Iterator[Metric]":
    from prometheus_client.core import GaugeMetricFamily

    by_group = GaugeMetricFamily(
        "apiserver_resource_objects",
        "Objects that are stored.",
        labels=["group", "resource"],
    )
    before = GaugeMetricFamily(
        "apiserver_storage_objects",
        "Objects that are stored; deprecated: apiserver_resource_objects.",
        labels=["resource"],
    )
    for resource, count in objects.items():
        plural, _, group = resource.partition(".")
        by_group.add_metric([group, plural], count)
        before.add_metric([resource], count)
    yield by_group
    yield before


def _build(version: Mapping[str, Any]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    names = {
        "major": "major",
        "minor": "minor",
        "git_version": "gitVersion",
        "git_commit": "gitCommit",
        "git_tree_state": "gitTreeState",
        "build_date": "buildDate",
        "go_version": "goVersion",
        "compiler": "compiler",
        "platform": "platform",
    }
    told = GaugeMetricFamily("kubernetes_build_info", "Which build this is.", labels=list(names))
    told.add_metric([str(version.get(name, "")) for name in names.values()], 1)
    return told
