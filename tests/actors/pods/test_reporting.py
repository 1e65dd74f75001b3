"""When a kubelet writes about a pod."""

from typing import Any

import msgpack

from kubeloop.actors.pods.reporting import INSIST_S, RETRY_S, Report, Reporter, written
from kubeloop.actors.pods.state import NEVER, Pod, new_pod
from kubeloop.api.calls import Outcome, Request

REPORTER = Reporter(host_ip="127.1.0.1", runtime="x", settle_s=0.1)


def new(**metadata: Any) -> Pod:
    obj = {
        "metadata": {"uid": "u", "namespace": "default", "name": "p", **metadata},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    return new_pod(obj, wall_s=1000.0, now=0.0)


def write(report: Report, pod: Pod, *, revision: int = 1, now: float = 0.0) -> Request | None:
    return REPORTER.next_write(report, pod, revision=revision, now=now, wall_s=1000.0)


def answer(code: int, revision: int = 0) -> Outcome:
    return Outcome("pod/u", code, revision, b"")


def test_a_write_names_the_object_it_was_made_from() -> None:
    request = write(Report(), new(resourceVersion="7"))
    assert request and (request.subresource, request.tag) == ("status", "pod/u")
    assert msgpack.unpackb(request.body)["metadata"] == {"uid": "u", "resourceVersion": "7"}


def test_a_pod_that_is_being_started_is_written_about_a_moment_later() -> None:
    report, pod = Report(), new()
    pod.sandbox = "starting"
    assert write(report, pod) is None and report.wake_at == 0.1
    assert write(report, pod, now=0.05) is None and report.wake_at == 0.1
    assert write(report, pod, now=0.1) is not None


def test_the_next_write_waits_until_the_last_one_is_seen() -> None:
    report, pod = Report(), new()
    assert write(report, pod) is not None
    assert write(report, pod) is None, "one at a time"
    written(report, answer(200, revision=5), 0.0)
    assert write(report, pod, revision=4) is None and report.wake_at == NEVER
    pod.ip = "10.0.0.2"
    assert write(report, pod, revision=5) is not None


def test_what_failed_is_tried_again() -> None:
    report, pod = Report(), new()
    write(report, pod)
    written(report, answer(503), 0.0)
    assert write(report, pod) is None and report.wake_at == RETRY_S
    assert write(report, pod, now=RETRY_S) is not None


def test_a_status_the_server_does_not_keep_is_not_written_over_and_over() -> None:
    report, pod = Report(), new()
    write(report, pod)
    written(report, answer(200, revision=5), 0.0)
    assert write(report, pod, revision=5) is None and report.wake_at == INSIST_S
    assert write(report, pod, revision=5, now=INSIST_S) is not None


def test_a_pod_is_deleted_when_its_last_status_is_written() -> None:
    report, pod = Report(), new(deletionTimestamp="2026-01-01T00:00:00Z")
    pod.deleting = pod.ending = True
    pod.sandbox = "removed"
    first = write(report, pod)
    assert first and first.verb == "patch"
    pod.spec = {**pod.spec, "status": msgpack.unpackb(first.body)["status"]}
    written(report, answer(200, revision=5), 0.0)
    second = write(report, pod, revision=5)
    assert second and second.verb == "delete"
    assert second.options == {"gracePeriodSeconds": 0, "preconditions": {"uid": "u"}}
    written(report, answer(200, revision=6), 0.0)
    assert write(report, pod, revision=6) is None, "a finalizer may still hold it"
